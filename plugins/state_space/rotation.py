"""h[t] = a[t] R(angle[t]) h[t-1] + ...: pairs that are turned and damped alike are complex numbers that are multiplied."""

from __future__ import annotations

from math import isqrt

from ssir.analysis.facts import Facts
from ssir.analysis.operators import Rotation, rotation
from ssir.compilers.core import input_words
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.program.function import Function, taken
from ssir.ir.builder import Value
from ssir.ir.graph import Graph


class RotatingScan:
    name = "scan of pairs"

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        a = facts.node.role("A")
        parts = rotation(graph, graph[a]) if a else None
        if parts is None or facts.cycle is not None:
            return None
        if any(graph[name].type.dtype == "complex" for name in facts.node.inputs):
            return None
        why = (
            f"A turns pairs along {parts.over} and damps both alike ({input_words(facts)}): a scan over complex numbers"
        )
        return Match(self, why, details={"parts": parts})

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        # Many operations of torch: no compiled loop knows of it.
        return Cost(8.0 * facts.entries, 40.0 * facts.entries, 6.0 * isqrt(at.steps))

    def sequence(self, f: Function, fact: Facts, match: Match) -> Value:
        parts: Rotation = match.details["parts"]
        node, b = fact.node, f.b
        order = [*((axis.name,) for axis in fact.axes if axis.name != parts.over), (parts.over,)]
        half = parts.angles[0].attrs["half"]
        halves = [*order[:-1], (half,)]
        angles = [b.rename(f.value(one.inputs[0]), {one.attrs["half"]: half}) for one in parts.angles]
        decay = b.number(-1.0 if parts.minus else 1.0)
        for name in parts.decays:
            decay = decay * f.value(name)
        h = f.kernel(
            "scan.rotation_scan",
            taken("led", decay, *order),
            taken("led", sum(angles[1:], angles[0]), *halves),
            taken("full", f.as_wide(f.entering(node)), *order),
            gives=order,
            memories=[[node.name]],
            held=order,
            given="reset",
            behind=[f.clear(node, order)],
        )
        return f.read(node, h)
