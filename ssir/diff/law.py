"""The law of a state: its coefficients over the values that are free, and what one law has to put in to become another.

A value is free if nothing else that the state reads is made of the same parts: a map of the input that is the state's own, a learned constant.
exp(log_f) as A and 1 − exp(log_f) as B are one free value; two maps k and v of one input are two. So B = 1 − A is a fact, and how A is made is not.

One law follows from another if its coefficients are those of the other with terms put in for free values, modulo names, the order of commuting
operands, and factors of 1 and summands of 0 that are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from math import isclose

from ssir.draw.values import delayed_by, is_filter
from ssir.draw.words import THROUGH
from ssir.ir.graph import Dependence, Graph, Node
from ssir.ir.ops import is_elementwise
from ssir.ir.ops.sums import NORM, REDUCE

COMMUTE = frozenset({"add", "mul", "maximum", "minimum", "eq", "ne"})
_ROLES = ("A", "B", "x", "C", "D")
_MAPS = frozenset({"linear", "embed", "slice", "select", "component", "context"})
_SOURCES = frozenset({"input", "param", "position", "start", "layer", "arange", "array", "eye"})
_UNITS: Mapping[str, float] = {"mul": 1.0, "op.mul": 1.0, "div": 1.0, "add": 0.0, "sub": 0.0}
_DEEPEST = 24
_PUT = "put "


@dataclass(frozen=True)
class Term:
    """``free`` with the node that it is, ``memory`` (another state), ``number`` with its value, ``root`` (a number that a size decides), or
    an operation on terms."""

    op: str
    operands: tuple[Term, ...] = ()
    node: str = ""
    value: float = 0.0
    dependence: Dependence = Dependence.CONSTANT

    @cached_property
    def size(self) -> int:
        return 1 + sum(term.size for term in self.operands)

    @cached_property
    def free(self) -> frozenset[str]:
        """The free values in it."""
        own = frozenset({self.node}) if self.op == "free" else frozenset()
        return own.union(*(term.free for term in self.operands))


ONE, ZERO = Term("number", value=1.0), Term("number", value=0.0)
Law = Mapping[str, Term]
Puts = dict[str, Term]


def law(graph: Graph, state: Node) -> Law:
    """The coefficients of a state, and what enters it; what is left out stands as the number that it means."""
    reader = _Reader(graph, state)
    found = {role: reader.term(name) for role in _ROLES if (name := state.role(role)) is not None}
    if "A" not in found:
        found["A"] = Term("op.diag", (ONE,))
    found.setdefault("B", ONE)
    found.setdefault("x", ONE)
    found.setdefault("D", ZERO)
    return found


class _Reader:
    def __init__(self, graph: Graph, state: Node) -> None:
        self.graph = graph
        self.reached: set[str] = set()
        todo = [name for role, name in zip(state.attrs["roles"], state.inputs, strict=True) if role in _ROLES]
        self.roots = frozenset(todo)
        self.reads: dict[str, set[str]] = {}
        while todo:
            name = todo.pop()
            if name not in self.reached:
                self.reached.add(name)
                for operand in self._below(graph[name]):
                    self.reads.setdefault(operand, set()).add(name)
                    todo.append(operand)

    def _below(self, node: Node) -> tuple[str, ...]:
        """What a value is made of, for the state: a map is something of its own, whatever it maps."""
        return () if node.op in _MAPS | _SOURCES or node.op == "state" else node.inputs

    def term(self, name: str, depth: int = 0) -> Term:
        node = self.graph[name]
        if node.op in THROUGH and node.op not in _MAPS:
            return self.term(node.inputs[0], depth)
        if node.op == "const":
            return Term("root" if is_root(self.graph, node) else "number", value=node.attrs["value"])
        if node.op == "state" and not self._passes(node):
            return Term("memory", node=name, dependence=node.type.dependence)
        if depth > _DEEPEST or self._is_free(node):
            return Term("free", node=name, dependence=node.type.dependence)
        operands = tuple(self.term(operand, depth + 1) for operand in self._below(node))
        return _plain(Term(node.op, operands, "", 0.0, node.type.dependence))

    def _passes(self, state: Node) -> bool:
        """Whether a memory only delays or filters: a signal like others."""
        return is_filter(self.graph, state) or delayed_by(self.graph, state) is not None

    def _is_free(self, node: Node) -> bool:
        if node.type.operator:
            return False
        inside = {node.name}
        todo = [node.name]
        while todo:
            one = self.graph[todo.pop()]
            if not self._may_be_inside(one):
                return False
            fresh = [name for name in self._below(one) if name not in inside and self.graph[name].op != "const"]
            inside.update(fresh)
            todo += fresh
        return all(
            self.reads.get(name, set()) <= inside and name not in self.roots for name in inside if name != node.name
        )

    def _may_be_inside(self, node: Node) -> bool:
        if node.op == "state":
            return self._passes(node)
        return node.op in _MAPS | _SOURCES | THROUGH | NORM | REDUCE or is_elementwise(node.op)


def is_root(graph: Graph, const: Node) -> bool:
    """Whether a number is 1/√n, n the size of an axis: another size, another number, and still the same scale."""
    sizes = {size for node in graph for size in node.type.sizes if size and size > 1}
    value = const.attrs["value"]
    return isinstance(value, float) and any(isclose(value, size**-0.5) for size in sizes)


def _plain(term: Term) -> Term:
    """One way of several to write the same: −expm1(z) is 1 − exp(z)."""
    match term.op, term.operands:
        case "expm1", (z,):
            return Term("sub", (Term("exp", (z,)), ONE))
        case "neg", (Term(op="sub", operands=(a, b)),):
            return Term("sub", (b, a))
    return term


def follow(pattern: Law, term: Law) -> Iterator[Puts]:
    """What to put in for the free values of a law to have the other: every way there is."""
    if ("C" in pattern) != ("C" in term):
        return
    roles = [role for role in _ROLES if role in pattern]

    def rest(i: int, put: Puts) -> Iterator[Puts]:
        if i == len(roles):
            yield put
            return
        for found in _unify(pattern[roles[i]], term[roles[i]], put):
            yield from rest(i + 1, found)

    yield from rest(0, {})


def _unify(pattern: Term, term: Term, put: Puts) -> Iterator[Puts]:
    if pattern.op == "free":
        if pattern.node in put:
            if same(put[pattern.node], term):
                yield put
        elif term.dependence <= pattern.dependence and not term.op.startswith("op."):
            yield {**put, pattern.node: term}
        return
    if pattern.op == term.op and len(pattern.operands) == len(term.operands):
        if pattern.op == "number" and pattern.value != term.value:
            return
        for order in _orders(pattern.op, term.operands):
            yield from _all(pattern.operands, order, put)
    for wanted, unit in _without(pattern):
        for found in _unify(wanted, term, put):
            if unit.node not in found:
                yield {**found, unit.node: Term("number", value=_UNITS[pattern.op])}


def _all(patterns: tuple[Term, ...], terms: tuple[Term, ...], put: Puts) -> Iterator[Puts]:
    if not patterns:
        yield put
        return
    for found in _unify(patterns[0], terms[0], put):
        yield from _all(patterns[1:], terms[1:], found)


def _orders(op: str, operands: tuple[Term, ...]) -> Iterator[tuple[Term, ...]]:
    yield from permutations(operands) if op in COMMUTE or op == "op.add" else (operands,)


def _without(pattern: Term) -> Iterator[tuple[Term, Term]]:
    """A product without a factor that is free, a sum without a summand, and that."""
    if pattern.op not in _UNITS or len(pattern.operands) != 2:
        return
    for i, one in enumerate(pattern.operands):
        inner = one.operands[0] if one.op == "op.diag" else one
        if inner.op == "free" and (i == 1 or pattern.op not in ("sub", "div")):
            yield pattern.operands[1 - i], inner


def same(a: Term, b: Term) -> bool:
    """Whether two terms over the same free values are one, however commuting operands stand."""
    if (
        (a.op, a.node) != (b.op, b.node)
        or (a.op == "number" and a.value != b.value)
        or len(a.operands) != len(b.operands)
    ):
        return False
    return any(all(same(x, y) for x, y in zip(a.operands, order, strict=True)) for order in _orders(a.op, b.operands))


def akin(a: Term, b: Term) -> bool:
    """Whether two coefficients are one and the same thing of free values."""
    return any(all(term.op == "free" for term in put.values()) for put in _unify(a, b, {}))


@dataclass(frozen=True)
class Put:
    """What stands for a free value: a term over free values of the other law, and over those in ``of``, which are put in as well.
    ``weaker``: it is a free value too, and depends on less."""

    term: Term
    of: Mapping[str, Term]
    weaker: bool = False


def told(pattern: Law, put: Puts) -> dict[str, Put]:
    """What says something of what is put in: not that one free value has another name.

    A value that is made of others that are put in is told by them. What is left is free where no other has a part in it, and it takes no
    position in.
    """
    depends = {leaf.node: leaf.dependence for term in pattern.values() for leaf in _leaves(term)}
    order = sorted(put, key=lambda name: put[name].size)
    over: dict[str, Term] = {}
    for i, name in enumerate(order):
        term = put[name]
        for other in reversed(order[:i]):
            if put[other].op != "number":
                term = _replaced(term, put[other], Term("free", node=f"{_PUT}{other}"))
        over[name] = term
    found: dict[str, Put] = {}
    for name, term in over.items():
        elsewhere = frozenset[str]().union(*(one.free for other, one in over.items() if other != name))
        own = {part for part in term.free if not part.startswith(_PUT)}
        placed = any(leaf.dependence is Dependence.POSITION for leaf in _leaves(term)) and term.op != "free"
        weaker = term.dependence < depends[name]
        if term.op == "number" or own != term.free or own & elsewhere or placed or weaker:
            of = {other.removeprefix(_PUT): put[other.removeprefix(_PUT)] for other in term.free - own}
            found[name] = Put(term, of, weaker and term.op == "free")
    return found


def _leaves(term: Term) -> Iterator[Term]:
    if term.op == "free":
        yield term
    for one in term.operands:
        yield from _leaves(one)


def _replaced(term: Term, part: Term, by: Term) -> Term:
    if same(term, part):
        return by
    operands = tuple(_replaced(one, part, by) for one in term.operands)
    return Term(term.op, operands, term.node, term.value, term.dependence)
