"""y = softmax(scale q . k over the slots) v: a register of values whose C is a softmax over a register of keys.

The two registers are the cache; torch's fused attention reads them (flash attention where the device has it).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ssir.analysis.facts import Facts
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.program.function import Function, Taken, taken
from ssir.ir.builder import Value
from ssir.ir.graph import Graph, Node


@dataclass(frozen=True)
class _Term:
    """scale * dot(q, k) over ``keys``; without q, scale * k: a bias for each key."""

    q: str | None
    k: str
    keys: tuple[str, ...]
    scale: float


@dataclass(frozen=True)
class _Scores:
    """softmax of a sum of terms: ``heads`` are the axes that the first q and k share, ``group`` those of q alone."""

    terms: tuple[_Term, ...]
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
        why = f"A is a shift and C a softmax over its slots: fused attention over a cache that {memory}{several}"
        covers = tuple(dict.fromkeys(term.k for term in scores.terms))
        return Match(self, why, covers=covers, details={"scores": scores})

    def _scores(self, graph: Graph, c: Node, slots: str, size: int | None) -> _Scores | None:
        if c.attrs["over"] != (slots,):
            return None
        terms = list(_terms(graph, graph[c.inputs[0]], 1.0, slots, size))
        found = [term for term in terms if term is not None and term.q is not None]
        if None in terms or not found:
            return None
        first = found[0]
        q, k = graph[first.q or ""], graph[first.k]
        heads = tuple(name for name in k.type.names if name != slots and name not in first.keys)
        group = tuple(name for name in q.type.names if name not in heads and name not in first.keys)
        if not set(heads) <= set(q.type.names):
            return None
        for term in terms:
            assert term is not None
            rest = {*graph[term.k].type.names} - {slots, *term.keys}
            asked = set(graph[term.q].type.names) - set(term.keys) if term.q else set()
            if not rest <= set(heads) or not asked <= {*heads, *group}:
                return None
        return _Scores(tuple(term for term in terms if term is not None), heads, group)

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
            q = taken("led", f.as_data(f.value(term.q or "")), scores.heads, scores.group, term.keys)
            k = taken("entries", f.seen(f.node(term.k)), scores.heads, term.keys)
            scale = term.scale
        else:
            q, k, scale = *self._joined(f, scores), 1.0
        v = taken("entries", f.seen(node), scores.heads, values)
        gives = [scores.heads, scores.group, values]
        axes = [axis for term in scores.terms if term.q for axis in f.node(term.q).type.axes]
        options = [scale, slots.size]
        y = f.kernel(
            "ssir.plugins.attention.kernels.attention.attend",
            q,
            k,
            v,
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
            if term.q is None:
                qs.append(taken("object", f.b.number(term.scale)))
            else:
                asked = f.as_data(f.value(term.q)) * term.scale
                qs.append(taken("led", asked, scores.heads, scores.group, term.keys))
            ks.append(taken("entries", f.seen(f.node(term.k)), scores.heads, term.keys))
        queries, keys = (
            f.kernel("ssir.plugins.attention.kernels.attention.joined", *parts, gives=None) for parts in (qs, ks)
        )
        return taken("object", queries), taken("object", keys)


def _terms(graph: Graph, node: Node, scale: float, slots: str, size: int | None) -> Iterator[_Term | None]:
    """The terms of scores; None for what is neither a dot with a register of keys nor such a register."""
    match node.op:
        case "add" | "sub":
            left, right = graph.operands(node)
            yield from _terms(graph, left, scale, slots, size)
            yield from _terms(graph, right, scale if node.op == "add" else -scale, slots, size)
        case "neg":
            yield from _terms(graph, graph[node.inputs[0]], -scale, slots, size)
        case "mul" | "div" if graph[node.inputs[1]].op == "const":
            by = graph[node.inputs[1]].attrs["value"]
            yield from _terms(graph, graph[node.inputs[0]], scale * by if node.op == "mul" else scale / by, slots, size)
        case "mul" if graph[node.inputs[0]].op == "const":
            yield from _terms(graph, graph[node.inputs[1]], scale * graph[node.inputs[0]].attrs["value"], slots, size)
        case "dot" if slots not in node.attrs["over"]:
            for q, k in (node.inputs, node.inputs[::-1]):
                if _is_cache(graph, graph[k], slots, size) and slots not in graph[q].type.names:
                    yield None if graph[q].type.dtype == "complex" else _Term(q, k, tuple(node.attrs["over"]), scale)
                    return
            yield None
        case _:
            yield _Term(None, node.name, (), scale) if _is_cache(graph, node, slots, size) else None


def _is_cache(graph: Graph, node: Node, slots: str, size: int | None) -> bool:
    """Whether a node is a register along these slots, read as it is."""
    plain = node.op == "state" and set(node.attrs["roles"]) <= {"A", "B", "x"} and node.attrs["read"] == "after"
    if not plain or node.name in graph.cycle_of or dict(node.attrs["axes"]).get(slots, 0) != size:
        return False
    a = node.role("A")
    return a is not None and graph[a].op == "op.shift" and graph[a].attrs["axis"] == slots
