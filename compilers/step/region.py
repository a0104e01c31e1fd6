"""The step of a graph as a region: everything that varies from step to step, registers included; and what whole sequences decide as another.

Short registers are memories like others, kept oldest first; those that are long or grow have room for more entries, and are written in
place. Slots that are not there yet are never visited: the axes of values say how far they reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ssir.analysis.facts import facts, is_complex, state_axes
from ssir.analysis.whole import Wholly, varies
from ssir.compilers.loops.pairs import COMPLEX
from ssir.compilers.loops.region import Maker, Region, Room, short_name
from ssir.compilers.loops.spelling import JOINED, LEAVES, REDUCED, VIEWS, Unfit, spelled
from ssir.compilers.program.systems import UnknownOperator
from ssir.compilers.step.apart import apart
from ssir.ir.builder import Value
from ssir.ir.graph import Axis, Dependence, Graph, Node, Type
from ssir.ir.op import TypeFault
from ssir.registry import registry

SHORT = 16
"""A register of more entries is not moved at every step."""
POSITION = "/position"
"""The column that holds the steps since the start, or the last reset: no node is called so."""
_KNOWN = {*JOINED, *LEAVES, *REDUCED, *VIEWS, *COMPLEX, "solve"}


def step_region(graph: Graph, whole: Wholly) -> Region:
    """The step of a graph. Its columns are the inputs of the moment, and the position. Raises Unfit."""
    return _made(_Maker(graph, whole), [name for _, name in graph.outputs])


def whole_region(graph: Graph, whole: Wholly, wanted: Sequence[str]) -> Region:
    """What whole sequences decide of a graph, as far as it is wanted. Its columns are the inputs that do. Raises Unfit."""
    return _made(_Whole(graph, whole), wanted)


def _made(maker: Maker, wanted: Sequence[str]) -> Region:
    try:
        return apart(maker.made(wanted))
    except TypeFault as fault:
        raise Unfit(fault.message) from None
    except UnknownOperator as unknown:
        raise Unfit(str(unknown)) from None


class _Maker(Maker):
    def __init__(self, graph: Graph, whole: Wholly) -> None:
        self.whole = whole
        super().__init__(graph, self._computed(graph))
        self.given |= {self._column(node.name, node.type).name for node in graph.inputs if self._reads(node)}

    def _computed(self, graph: Graph) -> frozenset[str]:
        return frozenset(node.name for node in graph if varies(node)) - self.whole.values

    def _reads(self, node: Node) -> bool:
        """Whether an input is one of the function."""
        return node.name not in self.whole.values

    def _column(self, name: str, type: Type) -> Value:
        if name not in self.values:
            self.values[name] = self.b.input(name, type)
            self.columns[self.values[name].name] = name
        return self.values[name]

    def _begin(self, node: Node) -> None:
        fact = facts(self.graph, node)
        if fact.slots is None or node.attrs["algebra"] != "plus_times":
            if fact.grows:
                raise Unfit(f"`{node.name}` grows, and is no register")
            self._remember(node, Type(fact.axes, dependence=Dependence.STATE))
            return
        axis = fact.slots
        lag = 0 if node.attrs["read"] == "after" else 1
        masked = axis.size is None or axis.name in dict(node.type.absent)
        axes = (axis, *(one for one in fact.axes if one.name != axis.name))
        type = Type(axes, dependence=Dependence.STATE, absent=((axis.name, lag),) if masked else ())
        if axis.size is not None and axis.size <= SHORT:
            self.slots[node.name] = axis.name
            self._remember(node, replace(type, absent=()))
        elif is_complex(self.graph, node):
            raise Unfit(f"`{node.name}` is a long register of complex numbers")
        else:
            self.old[node.name] = self.b.input(f"{short_name(node.name)}.slots", type)

    def _outside(self, name: str, axes: Sequence[Axis] | None) -> Value:
        node = self.graph[name]
        if name in self.whole.values:
            if node.type.dtype == "complex":
                raise Unfit(f"`{name}`, which whole sequences decide, is complex")
            value = self.b.input(short_name(name), replace(node.type, dtype="real", dependence=Dependence.INPUT))
            self.wholes[value.name] = name
            return self.b("ne", value, 0) if node.type.dtype == "bool" else value
        return super()._outside(name, axes)

    def _next(self, node: Node) -> Value:
        fact = facts(self.graph, node)
        if fact.slots is None or node.attrs["algebra"] != "plus_times":
            return super()._next(node)
        if node.name in self.new:
            return self.new[node.name]
        old, axis, b = self.old[node.name], fact.slots, self.b
        rest = Type(tuple(one for one in state_axes(node) if one.name != axis.name))
        if node.name not in self.slots:
            if node.name not in self.rooms:
                entering = b.expand(self.entering(node), rest)
                lag = 0 if node.attrs["read"] == "after" else 1
                self.rooms[node.name] = entering, Room(old.name, axis.name, entering.name, lag, node.name)
            return old
        entering = b.expand(self.entering(node), rest)
        size, first, kept = axis.size or 0, f"{axis.name}.new", f"{axis.name}.kept"
        parts = [b("expand", entering, axes=((first, 1),))]
        if size > 1:
            parts.append(b("slice", old, axis=axis.name, start=0, stop=size - 1, out=kept))
        names = (first, kept)[: len(parts)]
        self.new[node.name] = b("concat", *parts, axis=axis.name, axes=names)
        return self.new[node.name]

    def _seen(self, node: Node) -> Value:
        whole = super()._seen(node)
        absent = tuple(pair for pair in node.type.absent if pair[0] == self.slots.get(node.name))
        if not absent:
            return whole
        # All of the register is kept, and what is there of it is seen.
        return self.b.declared(
            f"{whole.name}.seen", "expand", [whole], {"axes": ()}, replace(whole.type, absent=absent)
        )

    def _inside(self, node: Node) -> Value:
        b = self.b
        match node.op:
            case "position":
                return self._column(POSITION, node.type)
            case "start":
                return b("eq", self._column(POSITION, Type(dtype="int", dependence=Dependence.POSITION)), 0)
            case "stack":
                return self._stack(node, len(node.inputs) - len(node.attrs["given"]))
            case "part":
                stack = self.value(node.inputs[0])
                return b.declared(node.name, "part", [stack], node.attrs, node.type)
        expand = getattr(registry.get("op", node.op), "expand", None)
        if expand is not None:
            found: Value = expand(b, node, *map(self.value, node.inputs))
            return found
        return self._written(node, node.op in _KNOWN or spelled(node.op) is not None)

    def _stack(self, node: Node, moved: int) -> Value:
        """The layers of a stack, of which so many inputs run through it; what whole sequences decide of the others they have already."""
        given = [pair for pair in self._given(node, moved) if pair[1] not in self.whole.values]
        return self._layers(node, node.inputs[:moved], given)

    def _given(self, node: Node, moved: int) -> list[tuple[str, str]]:
        return list(zip(node.attrs["given"], node.inputs[moved:], strict=True))

    def _layers(self, node: Node, moved: Sequence[str], given: Sequence[tuple[str, str]]) -> Value:
        names = [*moved, *(one for _, one in given)]
        if any(self.graph[one].type.dtype == "complex" for one in names):
            raise Unfit(f"what runs through `{node.name}` is complex")
        about = {**node.attrs, "given": tuple(label for label, _ in given), "path": node.name}
        if not moved:
            about["carried"] = ()
        return self.b.declared(node.name, "stack", map(self.value, names), about, node.type if moved else Type())


class _Whole(_Maker):
    """What whole sequences decide. Layers through which something of the moment runs are given the rest, and give nothing."""

    def _computed(self, graph: Graph) -> frozenset[str]:
        return self.whole.values | self.whole.plain | {node.name for node in graph if node.op == "stack"}

    def _reads(self, node: Node) -> bool:
        return node.name in self.whole.values

    def _stack(self, node: Node, moved: int) -> Value:
        given = self._given(node, moved)
        if node.name in self.whole.values:
            return self._layers(node, node.inputs[:moved], given)
        found = self._layers(node, (), [pair for pair in given if pair[1] in self.whole.values])
        self.done.append(found)
        return found
