"""Systems whose A, B and C are constant: y = K * x with K[l] = C A^l B, or the state itself by a scan with one operator.

A may be written in any way: what is needed of it is found by applying it to the identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.torch import ops, system
from ssir.compilers.torch.emit import Emitter
from ssir.ir.graph import Dependence, Graph, Node
from ssir.passes.facts import Facts, is_complex

_CHUNK = 64
_LARGEST = 2**26  # numbers in an operator that is written out


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
        made = (
            20.0 * layout.numbers * _CHUNK * parts / (at.batch * at.steps)
            if not layout.matrix
            else 12.0 * parts**2 * layout.numbers * states / (at.batch * at.steps)
        )
        moved = 4.0 * (4 * (inputs + outputs) + 4 * parts * states / _CHUNK)
        serial = 60 + (2 * at.steps // _CHUNK if layout.matrix else 12)
        return Cost(systems * (inside + between + carried) + made, systems * moved, serial)

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        node, layout = fact.node, match.details["layout"]
        name = _system(e, fact, layout, match.details["real"])
        sizes = ops.shape([layout.sizes[axis] for axis in (*layout.systems, *layout.inputs)])
        x = ops.operand(e, node.role("x") or "", [*layout.systems, *layout.inputs])
        flat = f"{layout.size(layout.systems)}, {layout.size(layout.inputs)}"
        spread = f"{e.function('operations', 'spread')}(time, {x}, {sizes}, time.data)"
        given = e.let(f"{node.name}_x", f"{spread}.reshape(time.batch, time.steps, {flat})")
        y = _run(e, fact, layout, f"{name}.run", given)
        outer = [*layout.systems, *layout.outputs]
        text = f"{y}.reshape({', '.join(['time.batch', 'time.steps', *(str(layout.sizes[axis]) for axis in outer)])})"
        text += ".to(time.data)" if node.type.dtype == "real" else ""
        return system.feed_through(e, node, ops.fit(e.let(f"{node.name}_data", text), outer, node.type.names, 2))

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return system.step(e, fact)


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
        moved = 4.0 * parts**2 * systems * states * (states if layout.matrix else 1)
        made = 2.0 * parts**2 * layout.numbers * states * levels / (at.batch * at.steps) if layout.matrix else 0.0
        return Cost(moved + made, 48.0 * parts * facts.entries, 8.0 * levels)

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        node, layout = fact.node, match.details["layout"]
        name = _system(e, fact, layout)
        order, own = layout.order, system.axes_of(node)
        sizes = ops.shape([layout.sizes[axis] for axis in order])
        dtype = "time.complex" if e.is_complex(node) else "time.dtype"
        flat = f"{layout.size(layout.systems)}, {layout.size(layout.states)}"
        spread = f"{e.function('operations', 'spread')}(time, {system.entering(e, node, order)}, {sizes}, {dtype})"
        wide = "" if e.is_complex(node) else ".to(time.dtype)"
        given = e.let(f"{node.name}_in", f"{spread}.reshape(time.batch, time.steps, {flat}){wide}")
        h = _run(e, fact, layout, f"{name}.scan", given)
        text = f"{h}.reshape({', '.join(['time.batch', 'time.steps', *(str(layout.sizes[axis]) for axis in order)])})"
        h = e.let(f"{node.name}_h", ops.fit(text, order, own, 2))
        if node.attrs["read"] == "before":
            h = system.before(e, node, h)
        return system.readout(e, node, h)

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return system.step(e, fact)


def _run(e: Emitter, fact: Facts, layout: _Layout, call: str, given: str) -> str:
    """Write the call of a method of the system, with the memory laid out as [systems, states] around it; its first result."""
    node, order, own = fact.node, layout.order, system.axes_of(fact.node)
    places = [own.index(name) for name in order]
    flat = (layout.size(layout.systems), layout.size(layout.states))
    h0 = f"{e.function('memory', 'arranged')}(old.get({e.key(node)}), {ops.shape([0, *(i + 1 for i in places)])}, {ops.shape(flat)})"
    start = e.start(node)
    clear = f"{start}.permute({', '.join(map(str, places))}).reshape{ops.shape(flat)}" if start else "0.0"
    y, last = e.fresh(f"{node.name}_read"), e.fresh(f"{node.name}_last")
    e.line(f"{y}, {last} = {call}({given}, {h0}, time.reset, {clear})")
    back = f"{last}.reshape(-1, {', '.join(str(layout.sizes[name]) for name in order)})"
    if order != own:
        back += f".permute(0, {', '.join(str(order.index(name) + 1) for name in own)})"
    e.line(f"new[{e.key(node)}] = {back}")
    return y


def _system(e: Emitter, fact: Facts, layout: _Layout, real: bool | None = None) -> str:
    """The system, a constant; real: with B and C, and whether only the real part of y is wanted."""
    node, c = fact.node, e.unit.constant
    key = f"system {node.name}"
    if key not in c.names:
        groups = (layout.systems, layout.states, layout.inputs, layout.outputs)
        systems, states, inputs, outputs = ([layout.sizes[name] for name in names] for names in groups)
        grouped = c.function("invariant", "grouped")
        a = node.role("A")
        own = "dtype=time.dtype, device=time.device"
        n = prod(states)
        if layout.matrix and a is not None:
            unit = c.let(
                f"{node.name}_unit", f"torch.eye({n}, {own}).reshape({ops.shape([n, *[1] * len(systems), *states])})"
            )
            text = f"{system.operator(c, c.node(a), unit, layout.order, 1)}.movedim(0, -1)"
            a_text = f"{grouped}({text}, time, ({systems}, False), ({states}, True), ([{n}], True))"
        else:
            unit = c.let(f"{node.name}_unit", f"torch.ones({ops.shape([1] * len(layout.order))}, {own})")
            text = unit if a is None else system.operator(c, c.node(a), unit, layout.order, 0)
            a_text = f"{grouped}({text}, time, ({systems}, False), ({states}, True))"
        arguments = [a_text]
        if real is not None:
            b, read = node.role("B"), node.role("C") or ""
            entering = ops.operand(c, b, [*layout.order, *layout.inputs]) if b else "1.0"
            arguments.append(f"{grouped}({entering}, time, ({systems}, False), ({states}, True), ({inputs}, True))")
            leaving = ops.operand(c, read, [*layout.systems, *layout.outputs, *layout.states])
            arguments.append(f"{grouped}({leaving}, time, ({systems}, False), ({outputs}, True), ({states}, True))")
            arguments += [f'"{node.attrs["read"]}"', str(real)]
        c.names[key] = c.let(f"{node.name}_system", f"{c.function('invariant', 'invariant')}({', '.join(arguments)})")
    return e.unit.keep_text(c.names[key])
