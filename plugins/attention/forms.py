"""y = softmax(scale q . k over the slots) v: a register of values whose C is a softmax over a register of keys.

The two registers are the cache; torch's fused attention reads them (flash attention where the device has it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf
from operator import mul

from ssir.analysis.facts import Facts
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.program.function import Function, Taken, taken
from ssir.ir.builder import Value
from ssir.ir.graph import Axis, Graph, Node
from ssir.ir.op import broadcast
from ssir.plugins.attention.distance import Distances, decided


@dataclass(frozen=True)
class _Term:
    """scale * by * dot(q, k) over ``keys``; without q, scale * by * k: a bias for each key. ``by``: what varies by heads and groups."""

    q: str | None
    k: str
    keys: tuple[str, ...]
    scale: float
    by: tuple[str, ...]

    def asks(self, graph: Graph) -> tuple[Axis, ...]:
        """The axes of what meets the keys."""
        made = [graph[name].type for name in (*([] if self.q is None else [self.q]), *self.by)]
        return broadcast(made)


@dataclass(frozen=True)
class _Distant:
    """scale * by * bias: what the slot alone decides; or, if ``closed`` says what the bias is then, minus infinity where it is so, and zero."""

    bias: str
    scale: float
    by: tuple[str, ...]
    closed: bool | None = None


@dataclass(frozen=True)
class _Scores:
    """softmax of a sum of terms: ``heads`` are the axes that the first q and k share, ``group`` those of q alone."""

    terms: tuple[_Term, ...]
    distant: tuple[_Distant, ...]
    heads: tuple[str, ...]
    group: tuple[str, ...]


class Attention:
    name = "attention"
    native = True

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        node, slots, c = facts.node, facts.slots, facts.node.role("C")
        if (
            slots is None
            or facts.cycle is not None
            or c is None
            or node.role("initial")
            or node.attrs["read"] != "after"
        ):
            return None
        if [axis.name for axis in facts.contracted] != [slots.name] or graph[c].op != "softmax":
            return None
        scores = self._scores(graph, graph[c], slots.name, slots.size)
        if scores is None:
            return None
        inside = [axis.name for axis in facts.axes if axis.name != slots.name]
        if {name for name in inside if name in graph[c].type.names} != set(scores.heads):
            return None
        if len({term.k for term in scores.terms}) < len(scores.terms):
            return None
        memory = "grows with the sequence" if slots.size is None else f"keeps the last {slots.size} steps"
        several = f", scores of {len(scores.terms)} parts as one dot of longer keys" if len(scores.terms) > 1 else ""
        several += ", a bias by distance as a table" if scores.distant else ""
        why = f"A is a shift and C a softmax over its slots: fused attention over a cache that {memory}{several}"
        covers = tuple(dict.fromkeys(term.k for term in scores.terms))
        return Match(self, why, covers=covers, details={"scores": scores})

    def _scores(self, graph: Graph, c: Node, slots: str, size: int | None) -> _Scores | None:
        if c.attrs["over"] != (slots,):
            return None
        found = list(_terms(graph, graph[c.inputs[0]], 1.0, (), slots, size))
        terms = [one for one in found if isinstance(one, _Term)]
        distant = [one for one in found if isinstance(one, _Distant)]
        first = next((term for term in terms if term.q is not None), None)
        if None in found or first is None:
            return None
        k, asked = graph[first.k], [axis.name for axis in first.asks(graph)]
        heads = tuple(name for name in k.type.names if name != slots and name not in first.keys)
        group = tuple(name for name in asked if name not in heads and name not in first.keys)
        if not set(heads) <= set(asked):
            return None
        for term in terms:
            rest = {*graph[term.k].type.names} - {slots, *term.keys}
            own = {axis.name for axis in term.asks(graph)} - set(term.keys)
            if not rest <= set(heads) or not own <= {*heads, *group}:
                return None
        for one in distant:
            if not {name for each in (one.bias, *one.by) for name in graph[each].type.names} <= {*heads, *group, slots}:
                return None
        return _Scores(tuple(terms), tuple(distant), heads, group)

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        scores: _Scores = match.details["scores"]
        steps = at.steps if facts.slots is None or facts.slots.size is None else facts.slots.size
        q = sum(graph[term.q].type.numel() for term in scores.terms if term.q)
        return Cost(2.0 * steps * q, 16.0 * q, 6)

    def sequence(self, f: Function, fact: Facts, match: Match) -> Value:
        node, slots = fact.node, fact.slots
        scores: _Scores = match.details["scores"]
        assert slots is not None
        if node.name in match.covers:
            return f.register(fact)
        if len(scores.terms) > 1 and f.mode == "step":
            return f.register(fact)  # to lay the keys of all steps side by side for one query costs more
        values = tuple(axis.name for axis in fact.axes if axis.name not in (slots.name, *scores.heads))
        if len(scores.terms) == 1:
            (term,) = scores.terms
            asked = f.as_data(_scaled(f, f.value(term.q or ""), term.by))
            q = taken("led", asked, scores.heads, scores.group, term.keys)
            k = taken("entries", f.seen(f.node(term.k)), scores.heads, term.keys)
            scale = term.scale
        else:
            q, k, scale = *self._joined(f, scores), 1.0
        v = taken("entries", f.seen(node), scores.heads, values)
        gives = [scores.heads, scores.group, values]
        axes = [axis for term in scores.terms if term.q for axis in term.asks(f.graph)]
        options = [scale, slots.size]
        y = f.kernel(
            "ssir.plugins.attention.kernels.attention.attend",
            q,
            k,
            v,
            self._table(f, scores, node, slots),
            gives=gives,
            given="time",
            options=options,
            axes=axes,
        )
        return f.fed_through(node, y)

    step = sequence

    def _joined(self, f: Function, scores: _Scores) -> tuple[Taken, Taken]:
        """Queries and keys of all terms, laid end to end: their dot is the sum."""
        qs, ks = [], []
        for term in scores.terms:
            if term.q is None and not term.by:
                qs.append(taken("object", f.b.number(term.scale)))
            else:
                asked = f.as_data(_scaled(f, None if term.q is None else f.value(term.q), term.by)) * term.scale
                qs.append(taken("led", asked, scores.heads, scores.group, term.keys))
            ks.append(taken("entries", f.seen(f.node(term.k)), scores.heads, term.keys))
        queries, keys = (
            f.kernel("ssir.plugins.attention.kernels.attention.joined", *parts, gives=None) for parts in (qs, ks)
        )
        return taken("object", queries), taken("object", keys)

    def _table(self, f: Function, scores: _Scores, node: Node, slots: Axis) -> Taken | None:
        """What is added to scores, by the distance of an entry."""
        table = Distances(f, node, slots)
        found: Value | None = None
        for one in scores.distant:
            bias = _scaled(f, table.value(one.bias), one.by)
            if one.closed is not None:
                bias = f.b("where", bias, *((-inf, 0.0) if one.closed else (0.0, -inf)))
            bias = bias if one.scale == 1 else bias * one.scale
            found = bias if found is None else found + bias
        if found is None:
            return None
        return taken("led", table.whole(found), scores.heads, scores.group, [table.axis.name])


def _scaled(f: Function, x: Value | None, by: Sequence[str]) -> Value:
    return reduce(mul, [*([] if x is None else [x]), *(f.value(name) for name in by)])


def _terms(
    graph: Graph, node: Node, scale: float, by: tuple[str, ...], slots: str, size: int | None
) -> Iterator[_Term | _Distant | None]:
    """The terms of scores; None for what is neither a dot with a register of keys, nor such a register, nor decided by the slot."""

    def inside(one: str, scale: float, *more: str) -> Iterator[_Term | _Distant | None]:
        return _terms(graph, graph[one], scale, (*by, *more), slots, size)

    if decided(graph, node.name, slots):
        yield _Distant(node.name, scale, by) if all(decided(graph, one, slots) for one in by) else None
        return
    match node.op:
        case "add" | "sub":
            left, right = node.inputs
            yield from inside(left, scale)
            yield from inside(right, scale if node.op == "add" else -scale)
        case "neg":
            yield from inside(node.inputs[0], -scale)
        case "float32":  # as scores are whatever the data is
            yield from inside(node.inputs[0], scale)
        case "mul" | "div" if (number := graph[node.inputs[1]]).op == "const":
            value = number.attrs["value"]
            yield from inside(node.inputs[0], scale * value if node.op == "mul" else scale / value)
        case "mul":
            one, other = graph.operands(node)
            real = one.type.dtype == other.type.dtype == "real"
            if one.op == "const":
                yield from inside(other.name, scale * one.attrs["value"])
            elif real and slots not in other.type.names:
                yield from inside(one.name, scale, other.name)
            elif real and slots not in one.type.names:
                yield from inside(other.name, scale, one.name)
            else:
                yield None
        case "where" if not by and scale > 0 and decided(graph, node.inputs[0], slots):
            condition, *branches = node.inputs
            closing = [graph[one].op == "const" and graph[one].attrs["value"] == -inf for one in branches]
            if not any(closing):
                yield None
                return
            yield _Distant(condition, 1.0, (), closing[0])
            yield from inside(branches[1 if closing[0] else 0], scale)
        case "dot" if slots not in node.attrs["over"]:
            for q, k in (node.inputs, node.inputs[::-1]):
                if _is_cache(graph, graph[k], slots, size) and slots not in graph[q].type.names:
                    term = _Term(q, k, tuple(node.attrs["over"]), scale, by)
                    apart = not {axis for name in by for axis in graph[name].type.names} & set(term.keys)
                    yield term if apart and graph[q].type.dtype != "complex" else None
                    return
            yield None
        case _:
            yield _Term(None, node.name, (), scale, by) if _is_cache(graph, node, slots, size) else None


def _is_cache(graph: Graph, node: Node, slots: str, size: int | None) -> bool:
    """Whether a node is a register along these slots, read as it is."""
    plain = node.op == "state" and set(node.attrs["roles"]) <= {"A", "B", "x"} and node.attrs["read"] == "after"
    if not plain or node.name in graph.cycle_of or dict(node.attrs["axes"]).get(slots, 0) != size:
        return False
    a = node.role("A")
    return a is not None and graph[a].op == "op.shift" and graph[a].attrs["axis"] == slots
