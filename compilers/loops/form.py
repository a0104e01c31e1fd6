"""The form of any cycle whose step can be written down as arithmetic on arrays of fixed sizes: its loop over time is compiled; and how
compiled loops and scans are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ssir.analysis.facts import Facts, state_axes
from ssir.compilers.core import loop_reason
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.loops.diagonal import IN, scan
from ssir.compilers.loops.pairs import PARTS
from ssir.compilers.loops.region import Region, Result, region
from ssir.compilers.loops.spelling import Unfit
from ssir.compilers.program.function import Function
from ssir.ir.builder import Value
from ssir.ir.graph import Dependence, Graph, Node, Type
from ssir.ir.ops import is_elementwise

if TYPE_CHECKING:
    from ssir.compilers.torch.cells import Cell, Scanned


Printed = TypeVar("Printed")
BLOCK = 3  # memories that Newton's iteration may have
ITERATIONS, ROUNDINGS = 16, 16  # at most, and what steps agree to, of the largest memory
EXPECTED = 5.0  # iterations


class CompiledLoop:
    """One step after another, all of the cycle in one native loop, forwards and backwards."""

    name = "compiled loop"
    reads_weights = True  # of projections that it does not call
    native = True
    newton: tuple[int, int] | None = (
        None  # iterations and roundings, where all steps of a sequence are computed at once
    )

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        cycle = around(facts)
        found = compiled(graph, cycle) if cycle is not None else Unfit("a scan or a view of the inputs computes it")
        if isinstance(found, Unfit) or cycle is None:
            return None
        others = tuple(node.name for node in graph.states if node.name in cycle and node.name != facts.node.name)
        why = f"{loop_reason(graph, facts)}; a compiled loop over the steps, what does not feed back outside it"
        return Match(self, why, covers=others, details={"cell": found})

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        cell: Cell = match.details["cell"]
        body = cell.region.body
        weights = sum(node.type.numel() for node in body if node.name in cell.region.constants)
        rest = sum(node.type.numel() for node in body if node.name not in cell.region.constants)
        return Cost(2.0 * weights + 4.0 * rest, weights / 16 + 8.0 * rest, 3.0 + at.machine.wait * at.steps)

    def sequence(self, f: Function, fact: Facts, match: Match) -> Mapping[str, Value]:
        region: Region = match.details["cell"].region
        whole = _called(f, region, region.results, self.newton if f.mode == "sequence" else None)
        found = {}
        for node, result in region.outputs.items():
            found[node] = f.result(whole, region.results.index(result), _type(region, result))
        return found

    step = sequence


class Newton(CompiledLoop):
    """A cycle whose memories change entry by entry: its Jacobian is diagonal, or as small a block for each entry as there are memories."""

    name = "newton"
    newton = ITERATIONS, ROUNDINGS

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        found = super().match(graph, facts)
        if found is None or facts.cycle is None:
            return None
        region: Region = found.details["cell"].region
        if len(region.memories) > BLOCK or not by_entry(region):
            return None
        many = len(region.memories)
        block = "diagonal" if many == 1 else f"in blocks of {many}"
        why = (
            f"{loop_reason(graph, facts)}, but its Jacobian along the state is {block}: Newton's iteration over all steps at once, each a scan, until they agree"
            f" to {ROUNDINGS} roundings; the compiled loop where {ITERATIONS} iterations are not enough"
        )
        return replace(found, form=self, why=why)

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        region: Region = match.details["cell"].region
        many, doublings = len(region.memories), at.steps.bit_length()
        entries = sum(region.body[memory.old].type.numel() for memory in region.memories)
        values = sum(node.type.numel() for node in region.body)
        scan = 3.0 * doublings * many * entries
        launches = (2.0 + many) * sum(1 for _ in region.body) + 6.0 * doublings
        return Cost(EXPECTED * (4.0 * values + scan), EXPECTED * (24.0 * values + 8.0 * scan), EXPECTED * launches)


def by_entry(region: Region) -> bool:
    """Whether each entry of the new memories depends on no other entry of the old ones."""
    body = region.body
    axes = {body[memory.old].type.names for memory in region.memories}
    if len(axes) != 1:
        return False
    (own,) = axes
    kinds: dict[str, str] = dict.fromkeys((memory.old for memory in region.memories), "own")
    for node in body:
        if node.name in kinds:
            continue
        given = {kinds[name] for name in node.inputs} - {"free"}
        if not given:
            kinds[node.name] = "free"
        else:
            kept = given == {"own"} and is_elementwise(node.op) and set(node.type.names) == set(own)
            kinds[node.name] = "own" if kept else "mixed"
    return all(kinds[memory.new] != "mixed" for memory in region.memories)


def scan_call(f: Function, node: Node, scan: Scanned) -> Value:
    """What a scan reads."""
    region = scan.region
    (output,) = region.outputs.values()
    whole = _called(f, region, (output,))
    return f.result(whole, scan.tiled.results.index(output), _type(region, output))


def _called(f: Function, region: Region, results: Sequence[Result], newton: tuple[int, int] | None = None) -> Value:
    """The call of a loop, or of a scan."""
    firsts = [f.node(memory.states[0]) for memory in region.memories]
    starts = [f.start(node) for node in firsts]
    around = (*region.columns.values(), *region.constants.values())
    values = [_entering(f, firsts[0]) if name == IN else f.value(name) for name in around]
    values += [start for start in starts if start is not None]
    name, affine = f.b.free("loop"), region.affine
    f.bodies[name] = region.body
    about = {
        "body": name,
        "memories": tuple((one.old, one.new, one.states, one.fill) for one in region.memories),
        "started": tuple(start is not None for start in starts),
        "columns": tuple(region.columns),
        "constants": tuple(region.constants),
        "results": tuple((one.value, one.axes) for one in results),
        "affine": None if affine is None else (affine.gate, affine.into, affine.maximum),
        "newton": newton,
    }
    return f.b.declared("loop", "compiled_loop", values, about, Type(dependence=Dependence.STATE))


def _entering(f: Function, node: Node) -> Value:
    return f.spread(f.as_wide(f.entering(node)), state_axes(node), node)


def _type(region: Region, result: Result) -> Type:
    type = region.body[result.value].type
    axes = tuple(type.axis(axis) for axis in result.axes if axis != PARTS)
    return Type(axes, "complex" if PARTS in result.axes else "real", Dependence.STATE)


def compiled(graph: Graph, cycle: frozenset[str]) -> Cell | Unfit:
    """The loop of a cycle, or why there is none."""
    from ssir.compilers.torch.cells import cell

    def made() -> Region:
        found = region(graph, cycle, graph.seen_outside(cycle))
        if not found.columns:
            raise Unfit("nothing enters the cycle")
        return found

    return _printed(graph, ("compiled loop", cycle), made, cell)


def compiled_scan(graph: Graph, node: Node, readout: bool) -> Scanned | None:
    """The scan of a memory, with its readout or without, if there is one."""
    from ssir.compilers.torch.cells import scanned

    key = "compiled scan", node.name, readout
    found = _printed(graph, key, lambda: scan(graph, node, readout), scanned)
    return None if isinstance(found, Unfit) else found


def around(facts: Facts) -> frozenset[str] | None:
    """What a loop computes: the cycle of a memory, or the memory alone; None where no step has to wait for the one before."""
    if facts.cycle is not None:
        return facts.cycle
    waits = not facts.diagonal and facts.structure.kind not in ("shift", "zero")
    return frozenset({facts.node.name}) if waits else None


def why_not(graph: Graph, cycle: frozenset[str]) -> str | None:
    """Why there is no compiled loop for a cycle, in words."""
    found = compiled(graph, cycle)
    return str(found) if isinstance(found, Unfit) else None


def _printed(
    graph: Graph, key: object, made: Callable[[], Region], printed: Callable[[Region], Printed]
) -> Printed | Unfit:
    """The loop of a region, made once for a graph, or why there is none."""
    if key not in graph.known:
        try:
            found = made()
            graph.known[key] = found.body.known["cell"] = printed(found)
        except Unfit as reason:
            graph.known[key] = reason
    known: Printed | Unfit = graph.known[key]
    return known
