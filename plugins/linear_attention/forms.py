"""S[t] = A[t] S[t-1] + k[t] v[t], y[t] = q[t] S[t], in chunks of matrix products: A a scalar per head (SSD, arXiv:2405.21060),
a diagonal over the keys (arXiv:2312.06635), or a diagonal plus rank one (arXiv:2406.06484)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from operator import mul

from ssir.analysis import operators
from ssir.analysis.facts import Facts
from ssir.compilers.core import input_words
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.program.function import Function, Taken, taken
from ssir.ir.builder import Value
from ssir.ir.graph import Graph, Node

CHUNK = 64
KERNELS = "ssir.plugins.linear_attention.kernels"


@dataclass(frozen=True)
class Axes:
    heads: tuple[str, ...]
    keys: tuple[str, ...]
    values: tuple[str, ...]


def _axes(graph: Graph, facts: Facts, others: Sequence[str], more: Iterable[str] = ()) -> Axes | None:
    """The axes of a state that outer products enter and C reads, if it is one: keys are contracted, values are touched by x alone.

    others: the nodes that A is made of; more: axes that A varies along besides theirs."""
    node = facts.node
    x, b, c = (node.role(role) for role in ("x", "B", "C"))
    if x is None or b is None or c is None or not facts.contracted or facts.contracted != facts.expansion:
        return None
    if facts.cycle is not None or node.role("initial") or node.attrs["algebra"] != "plus_times":
        return None
    if any(graph[name].type.dtype == "complex" for name in node.inputs):
        return None
    keys = {axis.name for axis in facts.contracted}
    touched = {axis for name in (b, c, *others) for axis in graph[name].type.names}.union(more)
    inside = [axis.name for axis in facts.axes]
    if not touched <= set(inside) or not set(graph[x].type.names) <= set(inside):
        return None
    values = tuple(name for name in inside if name not in touched and name not in keys)
    heads = tuple(name for name in inside if name in touched and name not in keys)
    return Axes(heads, tuple(name for name in inside if name in keys), values)


def sizes_of(node: Node, axes: Axes) -> tuple[int, int, int]:
    """The numbers of heads, keys and values."""
    sizes = {name: size or 1 for name, size in node.attrs["axes"]}
    heads, keys, values = (prod(sizes[name] for name in group) for group in (axes.heads, axes.keys, axes.values))
    return heads, keys, values


class Chunked:
    """``by_key``: whether A varies along the keys."""

    def __init__(self, name: str, by_key: bool) -> None:
        self.name, self.by_key = name, by_key

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        if not facts.diagonal or not (facts.log or facts.structure.kind == "identity"):
            return None
        axes = _axes(graph, facts, [facts.log] if facts.log else [])
        decay = set(graph[facts.log].type.names) if facts.log else set()
        if axes is None or not axes.values or bool(decay & set(axes.keys)) != self.by_key:
            return None
        sort = (
            f"a diagonal over {'×'.join(axes.keys)}"
            if self.by_key
            else "one number per head"
            if decay
            else "the identity"
        )
        why = f"A is {sort}, and what enters is an outer product ({input_words(facts)}): matrix products over chunks of {CHUNK} steps"
        return Match(self, why, details={"axes": axes})

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        heads, keys, values = sizes_of(facts.node, match.details["axes"])
        return Cost(heads * (4.0 * keys * values + CHUNK * (keys + values)), 4.0 * heads * (3 * keys + 2 * values), 40)

    def sequence(self, f: Function, fact: Facts, match: Match) -> Value:
        axes: Axes = match.details["axes"]
        q, k, v = _entering(f, fact)
        shared = not {*q.type.names, *k.type.names} & set(axes.heads)
        heads = () if shared else axes.heads
        operands = _operands(q, k, v, axes, heads)
        name = "key_decay" if self.by_key else "scalar_decay"
        return _read(f, fact, axes, f"{KERNELS}.chunked.{name}", [*operands, _gate(f, fact, axes, self.by_key)])


class Turned:
    """A turns pairs of keys, and damps all keys of a head alike."""

    name = "chunked, turned keys"

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        a = facts.node.role("A")
        parts = operators.rotation(graph, graph[a]) if a else None
        if parts is None or parts.minus or (parts.decays and not facts.log):
            return None
        turned = {axis for one in parts.angles for axis in one.type.names}
        axes = _axes(graph, facts, [facts.log] if facts.log else [], turned)
        if axes is None or not axes.values or axes.keys != (parts.over,):
            return None
        why = f"A turns pairs along {parts.over}, and what enters is an outer product ({input_words(facts)}): keys and queries are turned instead, and matrix products taken over chunks of {CHUNK} steps"
        return Match(self, why, details={"axes": axes, "parts": parts})

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        heads, keys, values = sizes_of(facts.node, match.details["axes"])
        return Cost(heads * (4.0 * keys * values + CHUNK * (keys + values)), 4.0 * heads * (9 * keys + 2 * values), 60)

    def sequence(self, f: Function, fact: Facts, match: Match) -> Value:
        axes, parts = match.details["axes"], match.details["parts"]
        q, k, v = _entering(f, fact)
        touched = {axis for one in parts.angles for axis in one.type.names}.union(q.type.names, k.type.names)
        heads = axes.heads if touched & set(axes.heads) else ()
        operands = _operands(q, k, v, axes, heads)
        half = parts.angles[0].attrs["half"]
        angles = [f.b.rename(f.value(one.inputs[0]), {one.attrs["half"]: half}) for one in parts.angles]
        operands += [taken("full", sum(angles[1:], angles[0]), heads, [half])]
        return _read(f, fact, axes, f"{KERNELS}.chunked.turned_decay", [*operands, _gate(f, fact, axes, False)])


class RankOne:
    """A is a diagonal plus one outer product along the keys, or a product of several such: as many steps a token."""

    name = "chunked, diagonal plus rank one"

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        a = facts.node.role("A")
        parts = operators.rank_ones(graph, graph[a]) if a else ()
        if not parts or (any(one.diagonal for one in parts) and not facts.log):
            return None
        sides = [name for one in parts for name in (*one.left, *one.right)]
        axes = _axes(graph, facts, [*sides, *([facts.log] if facts.log else [])])
        if axes is None or axes.keys != (parts[0].over,):
            return None
        several = f"; {len(parts)} steps a token" if len(parts) > 1 else ""
        why = f"A is a {facts.structure}, and what enters is an outer product ({input_words(facts)}): matrix products and a triangular system over chunks of {CHUNK} steps{several}"
        return Match(self, why, details={"axes": axes, "parts": parts})

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        heads, keys, values = sizes_of(facts.node, match.details["axes"])
        count = len(match.details["parts"])
        inside = CHUNK * (10 * keys + 6 * values) + 8 * keys * values + 2 * keys * keys
        chunks = -(-at.steps * count // CHUNK)
        return Cost(float(count * heads * inside), 4.0 * count * heads * (30 * keys + 10 * values), 80.0 + 2 * chunks)

    def sequence(self, f: Function, fact: Facts, match: Match) -> Value:
        axes: Axes = match.details["axes"]
        parts: tuple[operators.RankOne, ...] = match.details["parts"]
        q, k, v = _entering(f, fact)
        lefts = [-_product(f, one.left) if one.minus else _product(f, one.left) for one in parts]
        rights = [_product(f, one.right) for one in parts]
        by_key = fact.log is not None and parts[0].over in f.node(fact.log).type.names
        operands = _operands(q, k, v, axes, axes.heads)
        several: list[str] = []
        if len(parts) > 1:
            several = [f"{parts[0].over}.step"]
            lefts, rights = ([f.b("pack", *side, axis=several[0])] for side in (lefts, rights))
        groups = [several, axes.heads, axes.keys] if several else [axes.heads, axes.keys]
        operands += [taken("full", one, *groups) for one in (*lefts, *rights)]
        name = "rank_ones" if several else "rank_one"
        return _read(f, fact, axes, f"{KERNELS}.rank_one.{name}", [*operands, _gate(f, fact, axes, by_key)])


def _entering(f: Function, fact: Facts) -> tuple[Value, Value, Value]:
    """Queries, keys and values: C, B and x."""
    c, b, x = (f.value(fact.node.role(role) or "") for role in ("C", "B", "x"))
    return c, b, x


def _operands(q: Value, k: Value, v: Value, axes: Axes, heads: Sequence[str]) -> list[Taken | None]:
    """The three for a kernel; ``heads``: of queries and keys."""
    wide = [taken("full", one, heads, axes.keys) for one in (q, k)]
    return [*wide, taken("full", v, axes.heads, axes.values)]


def _product(f: Function, names: Iterable[str]) -> Value:
    return reduce(mul, map(f.value, names), f.b.number(1.0))


def _read(f: Function, fact: Facts, axes: Axes, function: str, operands: Sequence[Taken | None]) -> Value:
    """What is read, by a kernel that holds the memory as [heads, keys, values]."""
    y = f.kernel(
        function,
        *operands,
        gives=[axes.heads, axes.values],
        memories=[[fact.node.name]],
        held=[axes.heads, axes.keys, axes.values],
        given="reset",
        options=[fact.node.attrs["read"]],
    )
    return f.fed_through(fact.node, y)


def _gate(f: Function, fact: Facts, axes: Axes, by_key: bool) -> Taken | None:
    """log A as [batch, steps, heads (1 if there are none), keys if it varies along them]."""
    if fact.log is None:
        return None
    return taken("full", f.value(fact.log), axes.heads, *([axes.keys] if by_key else []))


FORMS = (Chunked("chunked, scalar decay", False), Chunked("chunked, decay by key", True), Turned(), RankOne())
