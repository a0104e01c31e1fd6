"""y[t] = sum_s C[s] x[t-s]: a shift register whose C is constant is a filter (FIR)."""

from __future__ import annotations

from ssir.analysis.facts import Facts
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.program.function import Function, taken
from ssir.ir.builder import Value
from ssir.ir.graph import Dependence, Graph


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

    def sequence(self, f: Function, fact: Facts, match: Match) -> Value:
        node, slots = fact.node, fact.slots
        assert slots is not None and slots.size is not None
        inside = tuple(axis for axis in fact.axes if axis.name != slots.name)
        each = [(axis.name,) for axis in inside]
        x = f.spread(f.entering(node), inside, node)
        f.keep(node, x)
        before = node.attrs["read"] == "before"
        taps = taken("thin", f.as_data(f.value(node.role("C") or "")), (slots.name,), *each)
        past = taken("object", f.past(node, None if before else slots.size - 1))
        y = f.kernel(
            "ssir.plugins.convolution.kernels.fir.filtered",
            taken("led", x, *each),
            taps,
            past,
            gives=each,
            given="reset",
            options=[before],
        )
        return f.fed_through(node, y)
