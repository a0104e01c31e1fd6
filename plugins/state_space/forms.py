"""h[d, n] = exp(g[d] L[d, n]) h[d, n] + u[d] b[n], y[d] = sum_n c[n] h[d, n]: the selective scan (arXiv:2312.00752, section 3.3).

The expanded state is never written out over a sequence: it is a memory that is larger than all that enters it and all that is read of it.
"""

from __future__ import annotations

from ssir.analysis.facts import Facts, is_complex
from ssir.compilers.core import input_words
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.loops.form import compiled_scan, scan_call
from ssir.compilers.program.function import Function
from ssir.ir.builder import Value
from ssir.ir.graph import Graph

_RATE = 5.0
"""How long an operation inside a loop takes beside one of a matrix product."""


class SelectiveScan:
    name = "selective scan"
    native = True

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        if not facts.diagonal or facts.cycle is not None or not facts.contracted:
            return None
        scan = compiled_scan(graph, facts.node, readout=True)
        if scan is None or not scan.tiled.again:
            return None
        contracted = {axis.name for axis in facts.contracted}
        channels = "×".join(sorted({axis.name for axis in facts.axes} - contracted))
        why = f"A is {facts.structure}, and C sums over {'×'.join(sorted(contracted))} for each {channels} apart ({input_words(facts)}): a fused scan that never writes the expanded state out"
        return Match(self, why, details={"scan": scan})

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        channels, parts = facts.entries, 2 if is_complex(graph, facts.node) else 1
        for axis in facts.contracted:
            channels //= axis.size or 1
        return Cost(_RATE * match.details["scan"].tiled.work, 16.0 * channels, 4.0 + at.scan(parts * facts.entries))

    def sequence(self, f: Function, fact: Facts, match: Match) -> Value:
        return scan_call(f, fact.node, match.details["scan"])

    step = sequence
