"""Systems whose A, B and C are constant: y = K * x with K[l] = C A^l B, or the state itself by a scan with one operator.

A may be written in any way: what is needed of it is found by applying it to the identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ssir.analysis.facts import Facts, is_complex
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.program.function import Function, Taken, taken
from ssir.ir.builder import Value
from ssir.ir.graph import Axis, Dependence, Graph, Node, Type

_CHUNK = 64
_LARGEST = 2**26  # numbers in an operator that is written out
_SMALL = 8.0  # products of many small matrices take so much longer than one of a large
_LAUNCHES = 240  # where operations on small numbers are no cheaper than others
_POWERS = 700.0  # bytes moved for each number of what A makes of a vector over a chunk, which are found in float64


@dataclass(frozen=True)
class _Layout:
    """The axes of a state: ``systems`` stand side by side, ``states`` act on each other or are summed by C. ``inputs``: the axes of x
    that B sums over; ``outputs``: those that C adds. ``matrix``: whether A mixes states; ``alike``: whether it is one for all systems."""

    systems: tuple[str, ...]
    states: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    matrix: bool
    alike: bool
    sizes: Mapping[str, int]

    def size(self, names: Sequence[str]) -> int:
        return prod(self.sizes[name] for name in names)

    @property
    def order(self) -> list[str]:
        return [*self.systems, *self.states]

    @property
    def numbers(self) -> int:
        """How many there are in A, written out."""
        states = self.size(self.states)
        return (1 if self.alike else self.size(self.systems)) * states * (states if self.matrix else 1)


def _layout(graph: Graph, facts: Facts, summed: Sequence[str] = ()) -> _Layout:
    """summed: axes that count as states even if A does not mix them."""
    node = facts.node
    a, x, c = (None if name is None else graph[name] for name in (node.role("A"), node.role("x"), node.role("C")))
    mixed = set() if a is None else set(_mixed(graph, a))
    inside = [axis.name for axis in facts.axes]
    states = tuple(name for name in inside if name in mixed or name in summed)
    systems = tuple(name for name in inside if name not in states)
    inputs, outputs = (
        () if one is None else tuple(name for name in one.type.names if name not in inside) for one in (x, c)
    )
    sizes = {axis.name: axis.size or 1 for one in (x, c) if one is not None for axis in one.type.axes}
    sizes |= {axis.name: axis.size or 1 for axis in facts.axes}
    alike = a is None or not set(systems) & _varying(graph, a)
    return _Layout(systems, states, inputs, outputs, bool(mixed), alike, sizes)


def _mixed(graph: Graph, a: Node) -> Iterator[str]:
    """The axes along which an operator mixes entries."""
    if a.op == "op.shift":
        yield a.attrs["axis"]
    elif "over" in a.attrs:
        yield a.attrs["over"]
    for name in a.inputs:
        if graph[name].type.operator:
            yield from _mixed(graph, graph[name])


def _varying(graph: Graph, a: Node) -> set[str]:
    """The axes along which an operator varies."""
    if not a.type.operator:
        return set(a.type.names)
    return set().union(*(_varying(graph, graph[name]) for name in a.inputs))


def _constant(graph: Graph, facts: Facts, roles: Sequence[str]) -> bool:
    """Whether these coefficients of a memory are constant, and it is no register."""
    node = facts.node
    if facts.cycle is not None or node.attrs["algebra"] != "plus_times" or facts.structure.kind in ("shift", "zero"):
        return False
    if any(graph[name].type.absent for name in node.inputs if not graph[name].type.operator):
        return False
    return all(facts.dependence.get(role, Dependence.CONSTANT) is Dependence.CONSTANT for role in roles)


class Convolution:
    """C sums over the state, whose inputs and outputs lie outside it: it is never written out."""

    name = "chunked convolution"

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        node = facts.node
        x = node.role("x")
        summed = [axis.name for axis in facts.contracted]
        if x is None or not summed or not _constant(graph, facts, ("A", "B", "C")):
            return None
        layout = _layout(graph, facts, summed)
        if set(layout.states) != set(summed) or layout.numbers > _LARGEST:
            return None
        real = self._only_real(graph, node)
        why = f"A, B and C are constant, and C sums over {'×'.join(layout.states)}: a convolution, in chunks of {_CHUNK} steps with the state carried between them"
        return Match(self, why, details={"layout": layout, "real": real})

    def _only_real(self, graph: Graph, node: Node) -> bool:
        """Whether nothing but the real part of a complex readout is used."""
        x, d = node.role("x"), node.role("D")
        others = [name for name in (x, d, node.role("initial")) if name is not None]
        used = all(graph[user].op == "real" for user in graph.users[node.name])
        out = any(name == node.name for _, name in graph.outputs)
        return node.type.dtype == "complex" and used and not out and all(graph[n].type.dtype == "real" for n in others)

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        layout: _Layout = match.details["layout"]
        groups = (layout.systems, layout.states, layout.inputs, layout.outputs)
        systems, states, inputs, outputs = (layout.size(names) for names in groups)
        complex_state, complex_read = is_complex(graph, facts.node), facts.node.type.dtype == "complex"
        parts = 2 if complex_state else 1
        between = 2.0 * parts * states * (inputs + outputs)
        inside = 2.0 * _CHUNK * inputs * outputs
        if complex_read and not match.details["real"]:
            inside, between = 4 * inside, 2 * between
        carried = 2.0 * parts**2 * states * (states if layout.matrix else 1) / _CHUNK
        made = 12.0 * parts**2 * layout.numbers * states / (at.batch * at.steps) if layout.matrix else 0.0
        vectors = layout.numbers // (states if layout.matrix else 1)
        powers = _POWERS * vectors * _CHUNK * parts / (at.batch * at.steps)
        moved = 4.0 * (4 * (inputs + outputs) + 4 * parts * states / _CHUNK)
        serial = 60 + (2 * at.steps // _CHUNK if layout.matrix else 12)
        if at.machine.programs > 1:
            serial = _LAUNCHES
        return Cost(_SMALL * systems * (inside + between + carried) + made, systems * moved + powers, serial)

    def sequence(self, f: Function, fact: Facts, match: Match) -> Value:
        layout: _Layout = match.details["layout"]
        x = taken("full", f.value(fact.node.role("x") or ""), layout.systems, layout.inputs)
        gives = [layout.systems, layout.outputs]
        y = _run(f, fact, layout, "convolved", _system(f, fact, layout, match.details["real"]), x, gives)
        return f.fed_through(fact.node, y)


class ConstantScan:
    """A is constant; the state itself is wanted, or B and C are not."""

    name = "scan by powers"

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        layout = _layout(graph, facts)
        elementwise = facts.structure.kind in ("scalar", "diagonal") and is_complex(graph, facts.node)
        if not _constant(graph, facts, ("A",)) or not (layout.matrix or elementwise) or layout.numbers > _LARGEST:
            return None
        why = f"A is {facts.structure} and constant: a scan over time by A², A⁴, A⁸, ..."
        return Match(self, why, details={"layout": layout})

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        layout: _Layout = match.details["layout"]
        systems, states = layout.size(layout.systems), layout.size(layout.states)
        parts = 2 if is_complex(graph, facts.node) else 1
        levels = at.steps.bit_length()
        apart = layout.matrix and layout.numbers > states**2
        moved = (_SMALL if apart else 1.0) * 4.0 * parts**2 * systems * states * (states if layout.matrix else 1)
        made = 2.0 * parts**2 * layout.numbers * states * levels / (at.batch * at.steps) if layout.matrix else 0.0
        return Cost(moved + made, 48.0 * parts * facts.entries, 8.0 * levels)

    def sequence(self, f: Function, fact: Facts, match: Match) -> Value:
        node, layout = fact.node, match.details["layout"]
        x = taken("full", f.as_wide(f.entering(node)), layout.systems, layout.states)
        h = _run(f, fact, layout, "scanned", _system(f, fact, layout), x, [layout.systems, layout.states])
        return f.read(node, h)


def _run(
    f: Function, fact: Facts, layout: _Layout, way: str, system: Value, x: Taken, gives: Sequence[Sequence[str]]
) -> Value:
    """What a system makes of x, with the memory laid out as [systems, states]."""
    node = fact.node
    held = [layout.systems, layout.states]
    complex_state = is_complex(f.graph, node) if way == "scanned" else node.type.dtype == "complex"
    return f.kernel(
        f"ssir.plugins.state_space.kernels.invariant.{way}",
        taken("object", system),
        x,
        gives=gives,
        memories=[[node.name]],
        held=held,
        given="reset",
        behind=[f.clear(node, held)],
        dtype="complex" if complex_state else "real",
    )


def _system(f: Function, fact: Facts, layout: _Layout, real: bool | None = None) -> Value:
    """The system, a constant; real: with B and C, and whether only the real part of y is wanted."""
    node, a = fact.node, fact.node.role("A")
    unit, column = f.b.number(1.0), f"{'.'.join(layout.states)}.column"
    groups: list[Sequence[str]] = [layout.systems, layout.states]
    if layout.matrix and a is not None:
        n, row = layout.size(layout.states), f"{column}.row"
        whole = f.b("eye", axes=((column, n), (row, n)))
        unit = f.b("split", whole, axis=row, into=tuple((name, layout.sizes[name]) for name in layout.states))
        groups.append([column])
    applied = unit if a is None else f.applied(f.node(a), unit)
    operands = [_still(f, applied, groups, layout)]
    options: list[object] = []
    if real is not None:
        b, c = node.role("B"), f.value(node.role("C") or "")
        entering = f.b.number(1.0) if b is None else f.value(b)
        operands.append(_still(f, entering, [layout.systems, layout.states, layout.inputs], layout))
        operands.append(_still(f, c, [layout.systems, layout.outputs, layout.states], layout))
        options = [node.attrs["read"], real]
    return f.kernel("ssir.plugins.state_space.kernels.invariant.invariant", *operands, gives=None, options=options)


def _still(f: Function, value: Value, groups: Sequence[Sequence[str]], layout: _Layout) -> Taken:
    """A constant written out over groups of axes; systems that it does not tell apart count as one."""
    alike = not set(layout.systems) & set(value.type.names)
    wanted = [[] if alike else groups[0], *groups[1:]]
    sizes = {**layout.sizes, **{axis.name: axis.size or 1 for axis in value.type.axes}}
    axes = tuple(Axis(name, sizes[name]) for group in wanted for name in group)
    return taken("still", f.b.expand(value, Type(axes)), *wanted)
