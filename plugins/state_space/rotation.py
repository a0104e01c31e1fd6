"""h[t] = a[t] R(angle[t]) h[t-1] + ...: pairs that are turned and damped alike are complex numbers that are multiplied."""

from __future__ import annotations

from ssir.compilers.core import complex_scan, input_words
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.torch import ops, system
from ssir.compilers.torch.emit import Emitter
from ssir.ir.graph import Graph
from ssir.passes.facts import Facts
from ssir.passes.operators import Rotation, rotation


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
        return complex_scan(facts.entries, at)

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        parts: Rotation = match.details["parts"]
        node, own = fact.node, system.axes_of(fact.node)
        order = [*(name for name in own if name != parts.over), parts.over]
        sizes = [dict(node.attrs["axes"])[name] for name in order]
        spread = f"{e.function('operations', 'spread')}(time, {system.entering(e, node, order)}, {ops.shape(sizes)}, time.dtype)"
        b = e.let(f"{node.name}_in", f"{spread}.to(time.dtype)")
        leading = e.function("operations", "leading")
        angles = " + ".join(ops.operand(e, one.inputs[0], [*order[:-1], one.attrs["half"]]) for one in parts.angles)
        angle = e.let(f"{node.name}_angle", f"{leading}({angles}, {len(order)}, {b})")
        decays = " * ".join(["-1.0" if parts.minus else "1.0", *(ops.operand(e, name, order) for name in parts.decays)])
        decay = e.let(f"{node.name}_decay", f"{leading}({decays}, {len(order)}, {b})")
        places = [own.index(name) for name in order]
        h0 = f"{e.function('memory', 'arranged')}(old.get({e.key(node)}), {ops.shape([0, *(i + 1 for i in places)])}, {ops.shape(sizes)})"
        start = e.start(node)
        clear = f"{start}.permute({', '.join(map(str, places))})" if start else "0.0"
        h, last = e.fresh(f"{node.name}_h"), e.fresh(f"{node.name}_last")
        kernel = e.function("scan", "rotation_scan")
        e.line(f"{h}, {last} = {kernel}({decay}, {angle}, {b}, {h0}, time.reset, {clear})")
        e.line(f"new[{e.key(node)}] = {ops.fit(last, order, own, 1)}")
        h = e.let(f"{node.name}_own", ops.fit(h, order, own, 2))
        if node.attrs["read"] == "before":
            h = system.before(e, node, h)
        return system.readout(e, node, h)

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return system.step(e, fact)
