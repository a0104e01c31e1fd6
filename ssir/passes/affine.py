"""Finds states in cycles: what is affine in its own value of a step before is a state, however it is spelled, with an A that is read off.

    h = z * delay(h) + x                              ->   h = state(A = z, x = x)
    W = state(A = f, B = -r k, x = dot(k, delay(W)) - v)   ->   W = state(A = f - outer(r k, k), B = -r k, x = -v)

A is the sum of what multiplies the old value, entry by entry or, through a dot, as an outer product. The memory keeps its name: in the
first case that of the delay, in the second its own. Non-goals: two memories that need one another (ssir.analysis.joint); sums of several outer products, for
which there is no form; matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import Any

from ssir.analysis.facts import facts
from ssir.ir.builder import GraphBuilder, Value
from ssir.ir.graph import Graph, Node, attrs
from ssir.ir.op import TypeFault, pairs
from ssir.ir.verifier import in_step
from ssir.passes.dead import drop_dead
from ssir.passes.merge import merge_equal
from ssir.passes.rewrite import bottom_up, swapped


@dataclass(frozen=True)
class _Term:
    """left * M, or, with the other two, left * dot(right, M, over); None: 1."""

    left: Value | None = None
    right: Value | None = None
    over: str | None = None


@dataclass(frozen=True)
class _Form:
    """The sum of terms in the old value M, and of what does not depend on it (None: nothing)."""

    terms: tuple[_Term, ...] = ()
    rest: Value | None = None


class _NotAffine(Exception):
    pass


def find_affine(graph: Graph) -> Graph:
    return bottom_up(graph, _one)


def _one(graph: Graph) -> Graph:
    for cycle in graph.cycles:
        try:
            found = _Cycle(graph, cycle).rewritten()
        except (_NotAffine, TypeFault):
            continue
        return _one(merge_equal(drop_dead(found)))
    return graph


class _Cycle:
    """A cycle through one memory: a delay, or a state that is delayed."""

    def __init__(self, graph: Graph, cycle: frozenset[str]) -> None:
        self.graph, self.cycle = graph, cycle
        states = [node for node in graph.states if node.name in cycle]
        delays = [node for node in states if _is_delay(graph, node)]
        if len(delays) != 1 or len(states) > 2:
            raise _NotAffine
        self.delay = delays[0]
        self.state = next((node for node in states if node is not self.delay), None)
        self.end = graph[self.delay.role("x") or ""]
        self.b = GraphBuilder.of(graph)
        self.forms: dict[str, _Form] = {}

    def rewritten(self) -> Graph:
        """The graph with the cycle as a state. Raises _NotAffine."""
        self._check()
        self.forms[self.delay.name] = _Form((_Term(),))
        for name in in_step(self.graph, self.cycle):
            node = self.graph[name]
            if node is not self.delay and node is not self.state and not node.type.operator:
                self.forms[name] = self._form(node)
        return self._a_sum() if self.state is None else self._a_state(self.state)

    def _check(self) -> None:
        graph, end = self.graph, self.end
        if end.type.dtype != "real" or end.type.absent or self.delay.attrs["dtype"] is not None:
            raise _NotAffine
        if self.state is None:
            used = [user for user in graph.users[self.delay.name] if user not in self.cycle]
            if used or any(name == self.delay.name for _, name in graph.outputs):
                raise _NotAffine  # the old value too is asked for
            return
        plain = (
            self.state is end and self.state.attrs["read"] == "after" and self.state.attrs["algebra"] == "plus_times"
        )
        same = self.state.role("initial") == self.delay.role("initial")
        if not plain or not same or self.state.role("C") or self.state.role("D"):
            raise _NotAffine
        if any(graph[name].type.operator and name in self.cycle for name in self.state.inputs):
            raise _NotAffine  # A depends on the state

    # Forms.

    def _of(self, name: str) -> _Form:
        if name in self.forms:
            return self.forms[name]
        if name in self.cycle:
            raise _NotAffine
        return _Form((), Value(self.b, self.graph[name]))

    def _form(self, node: Node) -> _Form:
        operands = [self._of(name) for name in node.inputs]
        match node.op:
            case "add":
                return self._total(*operands)
            case "sub":
                return self._total(operands[0], self._scaled(operands[1], -1.0))
            case "neg":
                return self._scaled(operands[0], -1.0)
            case "mul":
                for one, other in (operands, operands[::-1]):
                    if not other.terms and other.rest is not None:
                        return self._scaled(one, other.rest)
            case "div" if not operands[1].terms and operands[1].rest is not None:
                return self._scaled(operands[0], self.b("reciprocal", operands[1].rest))
            case "dot":
                for one, other in (operands, operands[::-1]):
                    if not other.terms and other.rest is not None:
                        return self._contracted(one, other.rest, node.attrs["over"])
            case "sum" if node.attrs["over"]:
                return self._contracted(operands[0], None, node.attrs["over"])
        raise _NotAffine

    def _total(self, one: _Form, other: _Form) -> _Form:
        rests = [form.rest for form in (one, other) if form.rest is not None]
        return _Form(
            (*one.terms, *other.terms), None if not rests else rests[0] if len(rests) == 1 else rests[0] + rests[1]
        )

    def _scaled(self, form: _Form, by: Value | float) -> _Form:
        terms = tuple(_Term(self._times(term.left, by), term.right, term.over) for term in form.terms)
        return _Form(terms, None if form.rest is None else form.rest * by)

    def _times(self, left: Value | None, by: Value | float) -> Value:
        if left is None:
            return by if isinstance(by, Value) else self.b.number(by)
        return left * by

    def _contracted(self, form: _Form, by: Value | None, over: tuple[str, ...]) -> _Form:
        """The sum of a product with something that does not depend on M."""
        terms = []
        for term in form.terms:
            if term.right is not None or len(over) != 1 or over[0] not in self.end.type.names:
                raise _NotAffine
            right = self._times(term.left, self.b.number(1.0) if by is None else by)
            if over[0] not in right.type.names:
                raise _NotAffine
            terms.append(_Term(None, right, over[0]))
        rest = form.rest
        if rest is not None:
            rest = self.b.sum(rest, over) if by is None else self.b.dot(by, rest, over)
        return _Form(tuple(terms), rest)

    # States.

    def _a_sum(self) -> Graph:
        """A delay whose next value is a sum becomes a state of its name."""
        form = self.forms[self.end.name]
        a = self._operator(form.terms, None)
        roles: dict[str, Value] = {"A": a, **self._entering(form.rest)}
        initial = self.delay.role("initial")
        if initial is not None:
            roles["initial"] = Value(self.b, self.graph[initial])
        values: dict[str, Any] = {
            "axes": pairs(self.end.type.axes),
            "roles": tuple(roles),
            "read": "after",
            "algebra": "plus_times",
            "dtype": None,
            "enters": (),
        }
        state = self.b("state", *roles.values(), **values).node
        if state.type.names != self.end.type.names:
            raise _NotAffine
        return self._with(state.with_(name=self.delay.name), {self.end.name: self.delay.name}, state.name)

    def _entering(self, rest: Value | None) -> dict[str, Value]:
        """B and x; a product of which one side lacks axes of the state is an outer product of the two."""
        if rest is None:
            return {"x": self.b.number(0.0)}
        axes = self.end.type.names
        factors = list(self._factors(rest))
        for axis in axes:
            sides = [factor for factor in factors if factor.type.axes and axis not in factor.type.names]
            others = [factor for factor in factors if factor not in sides]
            covered = {name for factor in factors for name in factor.type.names}
            if sides and any(axis in factor.type.names for factor in others) and covered >= set(axes):
                return {"B": reduce(mul, others), "x": reduce(mul, sides)}
        return {"x": rest}

    def _factors(self, value: Value) -> Iterator[Value]:
        """The factors of a product."""
        match value.node.op:
            case "mul":
                for operand in value.operands:
                    yield from self._factors(operand)
            case "neg":
                yield self.b.number(-1.0)
                yield from self._factors(value.operands[0])
            case _:
                yield value

    def _a_state(self, state: Node) -> Graph:
        """A state that is given its own old value takes that into its A."""
        given = {
            role: self._of(name) for role, name in zip(state.attrs["roles"], state.inputs, strict=True) if role in "Bx"
        }
        inner = [role for role, form in given.items() if form.terms]
        if len(inner) != 1:
            raise _NotAffine
        other = next((form.rest for role, form in given.items() if role != inner[0]), None)
        inside = {name for name, _ in state.attrs["axes"]}
        form = given[inner[0]]
        if other is not None and self._shared(other, form) - inside:
            raise _NotAffine
        terms = form.terms if other is None else self._scaled(_Form(form.terms), other).terms
        a = self._operator(terms, state.role("A"))
        rest = self.b.number(0.0) if form.rest is None else form.rest
        roles = dict(zip(state.attrs["roles"], state.inputs, strict=True)) | {"A": a.name, "x": rest.name}
        roles.pop("B", None)
        if other is not None:
            roles["B"] = other.name
        values = {**state.attrs, "roles": tuple(roles)}
        return self._with(state.with_(inputs=tuple(roles.values()), attrs=attrs(**values)), {}, None)

    def _shared(self, other: Value, form: _Form) -> set[str]:
        """Axes that B and x both have."""
        own = set(self.end.type.names) if form.rest is None else set(form.rest.type.names)
        for term in form.terms:
            own |= set() if term.left is None else set(term.left.type.names)
        return own & set(other.type.names)

    def _operator(self, terms: tuple[_Term, ...], a: str | None) -> Value:
        """A + the terms."""
        b = self.b
        parts = [] if a is None else [Value(b, self.graph[a])]
        if a is None and self.state is not None:
            parts.append(b("op.diag", 1.0))
        diagonal = [term.left for term in terms if term.right is None]
        if diagonal:
            total: Value | float = 0.0
            for left in diagonal:
                total = (1.0 if left is None else left) + total
            parts.append(b("op.diag", total))
        for term in terms:
            if term.right is not None and term.over is not None:
                left = b.number(1.0) if term.left is None else term.left
                if term.over not in left.type.names:
                    raise _NotAffine
                parts.append(b("op.outer", left, term.right, over=term.over))
        found = parts[0]
        for part in parts[1:]:
            found = b("op.add", found, part)
        return found

    def _with(self, state: Node, other: Mapping[str, str], made: str | None) -> Graph:
        """The graph with a state put in, if there is a form for what A is then."""
        state = state.with_(at=self.end.at)
        nodes = {name: node for name, node in self.b.nodes.items() if name != made}
        new = {name: node.with_(at=self.end.at) for name, node in nodes.items() if name not in self.graph.nodes}
        nodes |= {**new, state.name: state}
        graph = swapped(self.graph.with_nodes(nodes.values()), other)
        if facts(graph, graph[state.name]).structure.kind == "general":
            raise _NotAffine
        return graph


def _is_delay(graph: Graph, node: Node) -> bool:
    plain = node.attrs["read"] == "before" and node.attrs["algebra"] == "plus_times"
    return plain and set(node.attrs["roles"]) <= {"A", "x", "initial"} and facts(graph, node).structure.kind == "zero"
