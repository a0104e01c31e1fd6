"""y[t] = sum_s C[s] x[t-s]: a shift register whose C is constant is a filter (FIR)."""

from __future__ import annotations

from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.torch import ops, system
from ssir.compilers.torch.emit import Emitter
from ssir.ir.graph import Dependence, Graph
from ssir.passes.facts import Facts


class Filter:
    name = "filter"
    native = True

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        node, slots, c = facts.node, facts.slots, facts.node.role("C")
        if slots is None or slots.size is None or facts.cycle is not None or c is None or node.role("initial"):
            return None
        inside = {axis.name for axis in facts.axes}
        taps = graph[c].type
        if facts.dependence["C"] is not Dependence.CONSTANT or taps.dtype == "complex" or not set(taps.names) <= inside:
            return None
        if [axis.name for axis in facts.contracted] != [slots.name]:
            return None
        return Match(self, f"A is a shift and C is constant: a filter of {slots.size} taps")

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        return Cost(2.0 * facts.entries, 8.0 * facts.entries / (facts.slots.size or 1 if facts.slots else 1), 2)

    def _taps(self, e: Emitter, fact: Facts, change: str) -> str:
        """C as [slots, *axes], newest first, changed further."""
        node, slots = fact.node, fact.slots
        assert slots is not None
        c = node.role("C") or ""
        order = [slots.name, *(name for name in system.axes_of(node) if name != slots.name)]
        taps = ops.kept(e, c, ops.fit("", e.node(c).type.names, order, 0) + change)
        return f"time.as_data({taps})" if ops.is_wide(e, c) else taps

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        node, slots = fact.node, fact.slots
        assert slots is not None
        inside = [name for name in system.axes_of(node) if name != slots.name]
        sizes = ops.shape([dict(node.attrs["axes"])[name] for name in inside])
        x = e.let(
            f"{node.name}_x",
            f"{e.function('operations', 'spread')}(time, {system.entering(e, node, inside)}, {sizes}, {system.memory_dtype(e, fact)})",
        )
        before = node.attrs["read"] == "before"
        taps = self._taps(e, fact, "")
        if before:
            taps = e.let(f"{node.name}_taps", f"torch.cat((torch.zeros_like({taps}[:1]), {taps}))")
        history = f"{e.function('memory', 'history')}(old, {e.key(node)}, {'None' if before else slots.size - 1 if slots.size else 0})"
        y = e.fresh(f"{node.name}_read")
        e.line(f"{y}, _ = {e.function('fir', 'fir')}({x}, {taps}, {history}, time.reset)")
        e.line(f"{e.function('memory', 'keep')}(time, old, new, {e.key(node)}, {x}, {slots.size})")
        return system.feed_through(e, node, ops.fit(y, inside, node.type.names, 2))

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        node, slots = fact.node, fact.slots
        assert slots is not None
        inside = [name for name in system.axes_of(node) if name != slots.name]
        taps = self._taps(e, fact, ".flip(0)")
        y = e.let(f"{node.name}_read", f"({system.seen(e, node)} * {taps}).sum(1)")
        return system.feed_through(e, node, ops.fit(y, inside, node.type.names, 1))
