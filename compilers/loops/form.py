"""The form of any cycle whose step can be written down as arithmetic on arrays of fixed sizes: its loop over time is compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssir.compilers.core import loop_reason
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.loops.region import Region, Unfit, region
from ssir.ir.graph import Graph
from ssir.passes.facts import Facts

if TYPE_CHECKING:
    from ssir.compilers.torch.cells import Cell
    from ssir.compilers.torch.emit import Emitter


class CompiledLoop:
    """One step after another, all of the cycle in one native loop, forwards and backwards."""

    name = "compiled loop"
    reads_weights = True  # of projections that it does not call
    native = True

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        if facts.cycle is None:
            return None
        found = compiled(graph, facts.cycle)
        if isinstance(found, Unfit):
            return None
        others = tuple(node.name for node in graph.states if node.name in facts.cycle and node.name != facts.node.name)
        why = f"{loop_reason(graph, facts)}; a compiled loop over the steps, what does not feed back outside it"
        return Match(self, why, covers=others, details={"cell": found})

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        cell: Cell = match.details["cell"]
        body = cell.region.body
        weights = sum(node.type.numel() for node in body if node.name in cell.region.constants)
        rest = sum(node.type.numel() for node in body if node.name not in cell.region.constants)
        return Cost(2.0 * weights + 4.0 * rest, weights / 16 + 8.0 * rest, 3.0 + at.machine.wait * at.steps)

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        return self._write(e, fact, match, step=False)

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return self._write(e, fact, match, step=True)

    def _write(self, e: Emitter, fact: Facts, match: Match, step: bool) -> str:
        from ssir.compilers.torch.cells import definition

        cell: Cell = match.details["cell"]
        region = cell.region
        unit = e.unit
        loop = unit.define(cell.digest, "LOOP", lambda name: definition(cell, name, unit))
        firsts = [e.node(memory.states[0]) for memory in region.memories]
        starts = [f"old.get({e.key(node)})" for node in firsts]
        clears = [e.start(node) or "None" for node in firsts]
        column = e.function("loops", "column")
        columns = [f"{column}({_tensor(e, name)}, time, {_sizes(e, name)})" for name in region.columns.values()]
        constants = [_tensor(e, name) for name in region.constants.values()]
        results = [e.fresh(f"{result.value.partition('/')[0]}_all") for result in region.results]
        groups = ", ".join(
            f"({', '.join(group)}{',' if len(group) == 1 else ''})" for group in (starts, clears, columns, constants)
        )
        targets = f"{', '.join(results)}{',' if len(results) == 1 else ''}"
        if step:
            e.line(f"{targets} = {loop}.once(time, {groups})")
        else:
            e.line(f"{targets} = {loop}({e.function('loops', 'resets')}(time), {groups})")
        named = dict(zip(region.results, results, strict=True))
        for memory in region.memories:
            for name in memory.states:
                node = e.node(name)
                text = named[region.kept(memory)] if step else f"{named[region.kept(memory)]}[:, -1]"
                e.line(f"new[{e.key(node)}] = {f'time.as_data({text})' if unit.kind(node) == 'data' else text}")
        for name, result in region.outputs.items():
            text = named[result] if name in unit.wide else f"time.as_data({named[result]})"
            e.names[name] = e.let(name, text)
        return e.names.get(fact.node.name, results[0])


def compiled(graph: Graph, cycle: frozenset[str]) -> Cell | Unfit:
    """The loop of a cycle, or why there is none."""
    key = ("compiled loop", cycle)
    if key not in graph.known:
        graph.known[key] = _compiled(graph, cycle)
    found: Cell | Unfit = graph.known[key]
    return found


def why_not(graph: Graph, cycle: frozenset[str]) -> str | None:
    """Why there is no compiled loop for a cycle, in words."""
    found = compiled(graph, cycle)
    return str(found) if isinstance(found, Unfit) else None


def _compiled(graph: Graph, cycle: frozenset[str]) -> Cell | Unfit:
    from ssir.compilers.torch.cells import cell

    try:
        made: Region = region(graph, cycle, graph.seen_outside(cycle))
        if not made.columns:
            raise Unfit("nothing enters the cycle")
        return cell(made)
    except Unfit as reason:
        return reason


def _tensor(e: Emitter, name: str) -> str:
    """A value from around the cycle, as a tensor over its own axes."""
    node = e.node(name)
    if node.op == "layer":
        return f"torch.full((), {e.value(name)}, dtype=time.dtype, device=time.device)"
    text = e.number(name)
    return e.fitted(name, node.type.names, text)


def _sizes(e: Emitter, name: str) -> str:
    from ssir.compilers.torch.ops import shape

    return shape([axis.size or 0 for axis in e.node(name).type.axes])
