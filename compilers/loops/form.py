"""The form of any cycle whose step can be written down as arithmetic on arrays of fixed sizes: its loop over time is compiled; and how
compiled loops are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssir.compilers.core import loop_reason
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.loops.diagonal import IN, scan
from ssir.compilers.loops.region import Region, Unfit, region
from ssir.ir.graph import Graph, Node
from ssir.passes.facts import Facts

if TYPE_CHECKING:
    from ssir.compilers.torch.cells import Cell, Scanned
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
        region, unit = cell.region, e.unit
        loop = unit.define(cell.digest, "LOOP", lambda name: definition(cell, name, unit))
        results = [e.fresh(f"{result.value.partition('/')[0]}_all") for result in region.results]
        _call(e, loop, region, results, step)
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


def write_scan(e: Emitter, node: Node, scan: Scanned, step: bool = False) -> str:
    """Write the call of a scan; the variable that is what it reads."""
    from ssir.compilers.torch.cells import scan_definition

    region, tiled = scan.region, scan.tiled
    kept, (output,) = region.kept(region.memories[0]), region.outputs.values()
    name = e.unit.define(scan.digest, "SCAN", lambda name: scan_definition(scan, name, e.unit))
    results = [e.fresh(f"{node.name}_{'memory' if one == kept else 'read'}") for one in tiled.results]
    read = results[tiled.results.index(output)]
    if tiled.again:
        last = e.fresh(f"{node.name}_last")
        results.append(last)
    else:
        last = f"{results[tiled.results.index(kept)]}{'' if step else '[:, -1]'}"
    _call(e, name, region, results, step)
    e.line(f"new[{e.key(node)}] = {last}")
    return read


def _call(e: Emitter, loop: str, region: Region, results: list[str], step: bool) -> None:
    """Write the call of a loop."""
    firsts = [e.node(memory.states[0]) for memory in region.memories]
    starts = [f"old.get({e.key(node)})" for node in firsts]
    clears = [e.start(node) or "None" for node in firsts]
    column = e.function("loops", "column")
    columns = [
        f"{column}({_column(e, name, firsts[0])}, time, {_sizes(region, own)})" for own, name in region.columns.items()
    ]
    constants = [_tensor(e, name) for name in region.constants.values()]
    groups = ", ".join(
        f"({', '.join(group)}{',' if len(group) == 1 else ''})" for group in (starts, clears, columns, constants)
    )
    targets = f"{', '.join(results)}{',' if len(results) == 1 else ''}"
    if step:
        e.line(f"{targets} = {loop}.once(time, {groups})")
    else:
        e.line(f"{targets} = {loop}({e.function('loops', 'resets')}(time), {groups})")


def compiled(graph: Graph, cycle: frozenset[str]) -> Cell | Unfit:
    """The loop of a cycle, or why there is none."""
    key = ("compiled loop", cycle)
    if key not in graph.known:
        graph.known[key] = _compiled(graph, cycle)
    found: Cell | Unfit = graph.known[key]
    return found


def compiled_scan(graph: Graph, node: Node, readout: bool) -> Scanned | None:
    """The scan of a memory, with its readout or without, if there is one."""
    key = ("compiled scan", node.name, readout)
    if key not in graph.known:
        graph.known[key] = _compiled_scan(graph, node, readout)
    found: Scanned | None = graph.known[key]
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


def _compiled_scan(graph: Graph, node: Node, readout: bool) -> Scanned | None:
    from ssir.compilers.torch.cells import scanned

    try:
        return scanned(scan(graph, node, readout))
    except Unfit:
        return None


def _column(e: Emitter, name: str, memory: Node) -> str:
    """What varies with the step, as a tensor."""
    from ssir.compilers.torch import system

    if name != IN:
        return _tensor(e, name)
    return system.spread(e, memory, system.entering(e, memory, system.axes_of(memory)), "in")


def _tensor(e: Emitter, name: str) -> str:
    """A value from around a loop, as a tensor over its own axes."""
    node = e.node(name)
    if node.op == "layer":
        return f"torch.full((), {e.value(name)}, dtype=time.dtype, device=time.device)"
    text = e.number(name)
    return e.fitted(name, node.type.names, text)


def _sizes(region: Region, name: str) -> str:
    from ssir.compilers.torch.ops import shape

    return shape([axis.size or 0 for axis in region.body[name].type.axes])
