"""y = softmax(scale q . k over the slots) v: a register of values whose C is a softmax over a register of keys.

The two registers are the cache; torch's fused attention reads them (flash attention where the device has it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssir.compilers.core import STEPS
from ssir.compilers.forms import Cost, Match
from ssir.compilers.torch import ops, system
from ssir.compilers.torch.emit import Emitter
from ssir.ir.graph import Graph, Node
from ssir.passes.facts import Facts


@dataclass(frozen=True)
class _Scores:
    """softmax(scale * dot(q, k)): ``heads`` are the axes that q and k share, ``group`` those of q alone."""

    q: str
    k: str
    keys: tuple[str, ...]
    heads: tuple[str, ...]
    group: tuple[str, ...]
    scale: float


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
        memory = "grows with the sequence" if slots.size is None else f"keeps the last {slots.size} steps"
        why = f"A is a shift and C a softmax over its slots: fused attention over a cache that {memory}"
        return Match(self, why, covers=(scores.k,), details={"scores": scores})

    def _scores(self, graph: Graph, c: Node, slots: str, size: int | None) -> _Scores | None:
        if c.attrs["over"] != (slots,):
            return None
        scale, inner = 1.0, graph[c.inputs[0]]
        while inner.op in ("mul", "div"):
            left, right = (graph[name] for name in inner.inputs)
            if right.op == "const":
                scale, inner = scale * right.attrs["value"] if inner.op == "mul" else scale / right.attrs["value"], left
            elif left.op == "const" and inner.op == "mul":
                scale, inner = scale * left.attrs["value"], right
            else:
                return None
        if inner.op != "dot" or slots in inner.attrs["over"]:
            return None
        for q_name, k_name in (inner.inputs, inner.inputs[::-1]):
            q, k = graph[q_name], graph[k_name]
            plain = k.op == "state" and set(k.attrs["roles"]) <= {"A", "B", "x"} and k.attrs["read"] == "after"
            if (
                not plain
                or k.name in graph.cycle_of
                or slots in q.type.names
                or dict(k.attrs["axes"]).get(slots, 0) != size
            ):
                continue
            a = k.role("A")
            if a is None or graph[a].op != "op.shift" or graph[a].attrs["axis"] != slots or q.type.dtype == "complex":
                continue
            keys = inner.attrs["over"]
            heads = tuple(name for name in k.type.names if name != slots and name not in keys)
            group = tuple(name for name in q.type.names if name not in heads and name not in keys)
            if set(heads) <= set(q.type.names):
                return _Scores(q.name, k.name, keys, heads, group, scale)
        return None

    def cost(self, graph: Graph, facts: Facts, match: Match) -> Cost:
        scores: _Scores = match.details["scores"]
        steps = STEPS if facts.slots is None or facts.slots.size is None else facts.slots.size
        q = graph[scores.q].type.numel()
        return Cost(2.0 * steps * q, 16.0 * q, 6)

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        node, slots = fact.node, fact.slots
        scores: _Scores = match.details["scores"]
        assert slots is not None
        if node.name == scores.k:
            return system.register(e, fact)
        lead = ops.LEADS[e.mode]
        values = [name for name in system.axes_of(node) if name != slots.name and name not in scores.heads]
        asked = e.tensor(scores.q, [*scores.heads, *scores.group, *scores.keys])
        q = grouped(ops.as_data(e, scores.q, asked), [scores.heads, scores.group, scores.keys])
        k = self._entries(e, e.node(scores.k), [scores.heads, scores.keys], slots.name)
        v = self._entries(e, node, [scores.heads, values], slots.name)
        y = e.let(
            f"{node.name}_read",
            f"{e.function('operations', 'attend')}({q}, {k}, {v}, {scores.scale!r}, time, {slots.size})",
        )
        sizes = {**dict(node.attrs["axes"]), **{a.name: a.size for a in e.node(scores.q).type.axes}}
        whole = [*scores.heads, *scores.group, *values]
        if any(len(names) != 1 for names in (scores.heads, scores.group, values)):
            y = e.let(
                f"{node.name}_axes",
                f"{y}.reshape(*{y}.shape[:{lead}], {', '.join(str(sizes[name]) for name in whole)})",
            )
        return system.feed_through(e, node, ops.fit(y, whole, node.type.names, lead))

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return self.sequence(e, fact, match)

    def _entries(self, e: Emitter, node: Node, groups: list[Sequence[str]], slots: str) -> str:
        """A register as [batch, entries, *one axis a group]."""
        inside = [name for name in system.axes_of(node) if name != slots]
        order = [name for group in groups for name in group]
        seen = system.seen(e, node)
        kept = f"time.as_data({seen})" if e.unit.kind(node) == "wide" else seen
        return grouped(ops.fit(kept, inside, order, 2), groups)


def grouped(text: str, groups: Sequence[Sequence[str]]) -> str:
    """The last axes, in the order of the groups, made one axis a group."""
    for after, group in enumerate(reversed(groups)):
        if len(group) > 1:
            text = f"{text}.flatten({-len(group) - after}, {-1 - after})"
        elif not group:
            text = f"{text}.unsqueeze({-1 - after})"
    return text
