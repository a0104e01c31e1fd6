"""S[t] = A[t] S[t-1] + k[t] v[t], y[t] = q[t] S[t], in chunks of matrix products: A a scalar per head (SSD, arXiv:2405.21060),
a diagonal over the keys (arXiv:2312.06635), or a diagonal plus rank one (arXiv:2406.06484)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from ssir.compilers.core import input_words
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.torch import ops, system
from ssir.compilers.torch.emit import Emitter
from ssir.ir.graph import Graph, Node
from ssir.passes import operators
from ssir.passes.facts import Facts

CHUNK = 64


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

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        node, axes = fact.node, match.details["axes"]
        c, b, x = (node.role(role) or "" for role in ("C", "B", "x"))
        shared = not any(axis in axes.heads for name in (b, c) for axis in e.node(name).type.names)
        q = _operand(e, node, [c], () if shared else axes.heads, axes.keys)
        k = _operand(e, node, [b], () if shared else axes.heads, axes.keys)
        v = _operand(e, node, [x], axes.heads, axes.values)
        g = "None" if fact.log is None else _gate(e, fact, axes, self.by_key)
        return _call(e, fact, axes, "chunked", "key_decay" if self.by_key else "scalar_decay", [q, k, v, g])

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return system.step(e, fact)


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

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        node, axes, parts = fact.node, match.details["axes"], match.details["parts"]
        c, b, x = (node.role(role) or "" for role in ("C", "B", "x"))
        touched = {axis for one in parts.angles for axis in one.type.names}
        touched |= {axis for name in (b, c) for axis in e.node(name).type.names}
        heads = axes.heads if touched & set(axes.heads) else ()
        q, k = (_operand(e, node, [name], heads, axes.keys) for name in (c, b))
        v = _operand(e, node, [x], axes.heads, axes.values)
        g = "None" if fact.log is None else _gate(e, fact, axes, False)
        sizes = dict(node.attrs["axes"])
        wanted = ops.shape([*(sizes[name] for name in heads), sizes[parts.over] // 2])
        angles = " + ".join(ops.operand(e, one.inputs[0], [*heads, one.attrs["half"]]) for one in parts.angles)
        angle = e.let(
            f"{node.name}_angle", f"{e.function('operations', 'spread')}(time, {angles}, {wanted}, time.dtype)"
        )
        angle = f"{angle}.flatten({-1 - len(heads)}, -2)" if len(heads) > 1 else angle
        angle = angle if heads else f"{angle}.unsqueeze(-2)"
        return _call(e, fact, axes, "chunked", "turned_decay", [q, k, v, angle, g])

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return system.step(e, fact)


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

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        node, axes = fact.node, match.details["axes"]
        parts: tuple[operators.RankOne, ...] = match.details["parts"]
        c, b, x = (node.role(role) or "" for role in ("C", "B", "x"))
        q, k = (_operand(e, node, [name], axes.heads, axes.keys) for name in (c, b))
        v = _operand(e, node, [x], axes.heads, axes.values)
        lefts = [_operand(e, node, one.left, axes.heads, axes.keys, "-" if one.minus else "") for one in parts]
        rights = [_operand(e, node, one.right, axes.heads, axes.keys) for one in parts]
        by_key = fact.log is not None and parts[0].over in e.node(fact.log).type.names
        g = "None" if fact.log is None else _gate(e, fact, axes, by_key)
        v = v if axes.values else f"{v}.unsqueeze(-1)"
        if len(parts) == 1:
            return _call(e, fact, axes, "rank_one", "rank_one", [q, k, v, *lefts, *rights, g])
        stacked = [f"torch.stack(({', '.join(side)}), 2)" for side in (lefts, rights)]
        return _call(e, fact, axes, "rank_one", "rank_ones", [q, k, v, *stacked, g])

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return system.step(e, fact)


def _call(e: Emitter, fact: Facts, axes: Axes, module: str, kernel: str, operands: Sequence[str]) -> str:
    """Write the call of a kernel, with the memory laid out as [heads, keys, values] around it; the expression of y."""
    node = fact.node
    y, last = e.fresh(f"{node.name}_read"), e.fresh(f"{node.name}_last")
    given = ", ".join([*operands, before(e, node, axes)])
    e.line(f'{y}, {last} = {e.function(module, kernel)}({given}, time.reset, "{node.attrs["read"]}")')
    e.line(f"new[{e.key(node)}] = {after(node, axes, last)}")
    return system.feed_through(e, node, read(node, axes, y, node.type.names))


def before(e: Emitter, node: Node, axes: Axes) -> str:
    """The expression of a memory before the sequence, as [batch, heads, keys, values]."""
    own = system.axes_of(node)
    places = [own.index(name) + 1 for name in (*axes.heads, *axes.keys, *axes.values)]
    flat = ops.shape(sizes_of(node, axes))
    return f"{e.function('memory', 'arranged')}(old.get({e.key(node)}), {ops.shape([0, *places])}, {flat})"


def after(node: Node, axes: Axes, last: str) -> str:
    """The expression of a memory with axes of its own, from [batch, heads, keys, values]."""
    sizes, own = dict(node.attrs["axes"]), system.axes_of(node)
    order = [*axes.heads, *axes.keys, *axes.values]
    back = f"{last}.reshape(-1, {', '.join(str(sizes[name]) for name in order)})"
    return back if order == own else f"{back}.permute(0, {', '.join(str(order.index(name) + 1) for name in own)})"


def read(node: Node, axes: Axes, y: str, wanted: Sequence[str]) -> str:
    """The expression of a readout of a memory over ``wanted``, from [batch, steps, heads, values]."""
    sizes, whole = dict(node.attrs["axes"]), [*axes.heads, *axes.values]
    if (len(axes.heads), len(axes.values)) != (1, 1):
        y = f"{y}.reshape({', '.join(['time.batch', 'time.steps', *(str(sizes[name]) for name in whole)])})"
    return ops.fit(y, whole, wanted, 2)


def _operand(
    e: Emitter, node: Node, factors: Sequence[str], heads: Sequence[str], rest: Sequence[str], sign: str = ""
) -> str:
    """A product as [batch, steps, heads (1 if there are none), rest]."""
    product = sign + " * ".join(ops.operand(e, name, [*heads, *rest]) for name in factors)
    return wide(e, node, product, f"{factors[0]}_wide", heads, rest)


def wide(e: Emitter, node: Node, product: str, hint: str, heads: Sequence[str], rest: Sequence[str]) -> str:
    """An expression over heads and the rest as [batch, steps, heads (1 if there are none), rest]."""
    sizes = dict(node.attrs["axes"])
    size = ops.shape([sizes[axis] for axis in (*heads, *rest)])
    text = e.let(hint, f"{e.function('operations', 'spread')}(time, {product}, {size}, time.data)")
    if len(rest) > 1:
        text = f"{text}.flatten({-len(rest)})"
    if len(heads) > 1:
        text = f"{text}.flatten({-len(heads) - bool(rest)}, {-1 - bool(rest)})"
    return text if heads else f"{text}.unsqueeze({-1 - bool(rest)})"


def _gate(e: Emitter, fact: Facts, axes: Axes, by_key: bool) -> str:
    """log A as [batch, steps, heads (1 if there are none), keys if it varies along them]."""
    log, sizes = fact.log or "", dict(fact.node.attrs["axes"])
    wanted = [*axes.heads, *(axes.keys if by_key else ())]
    text = ops.operand(e, log, wanted)
    spread = (
        f"{e.function('operations', 'spread')}(time, {text}, {ops.shape([sizes[name] for name in wanted])}, time.dtype)"
    )
    gate = e.let(f"{log}_wide", spread)
    if by_key and len(axes.keys) > 1:
        gate = f"{gate}.flatten({-len(axes.keys)})"
    after = 1 if by_key else 0
    if len(axes.heads) > 1:
        gate = f"{gate}.flatten({-len(axes.heads) - after}, {-1 - after})"
    return gate if axes.heads else f"{gate}.unsqueeze({-1 - after})"


FORMS = (Chunked("chunked, scalar decay", False), Chunked("chunked, decay by key", True), Turned(), RankOne())
