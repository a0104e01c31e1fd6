"""What the slot of a register alone decides: a table by the distance from the newest entry, the same at every step."""

from __future__ import annotations

from dataclasses import replace

from ssir.compilers.program.function import Function
from ssir.ir.builder import Value
from ssir.ir.graph import Axis, Dependence, Graph, Node, Type
from ssir.ir.ops import is_elementwise


def decided(graph: Graph, name: str, slots: str) -> bool:
    """Whether a value depends on nothing but parameters and the place along ``slots``."""
    node = graph[name]
    if node.type.dtype == "complex" or node.type.operator:
        return False
    if node.type.dependence is Dependence.CONSTANT:
        return True
    if slots not in node.type.names:
        return False
    if node.op == "arange":
        return True
    return (is_elementwise(node.op) or node.op in ("select", "embed")) and all(
        decided(graph, one, slots) for one in node.inputs
    )


class Distances:
    """Values along the slots of a register, as tables: their axis of slots is called ``axis``, and no step has one of its own."""

    def __init__(self, f: Function, register: Node, slots: Axis) -> None:
        self.f, self.register, self.slots = f, register, slots
        self.axis = Axis(f"{slots.name}_ago", slots.size)
        self.known: dict[str, Value] = {}

    def value(self, name: str) -> Value:
        """A value that is decided by the slot."""
        if name not in self.known:
            self.known[name] = self._value(self.f.node(name))
        return self.known[name]

    def whole(self, table: Value) -> Value:
        """A table with the axis of slots, if it lacks it."""
        return table if self.axis.name in table.type.names else table + self._steps() * 0

    def _value(self, node: Node) -> Value:
        if self.slots.name not in node.type.names:
            return self.f.value(node.name)
        if node.type.dependence is Dependence.CONSTANT:
            return self.f.b("rename", self.f.value(node.name), axes=((self.slots.name, self.axis.name),))
        if node.op == "arange":
            return self._steps()
        axes = tuple(self.axis if axis.name == self.slots.name else axis for axis in node.type.axes)
        values = [self.value(one) for one in node.inputs]
        return self.f.b.declared(node.op, node.op, values, node.attrs, replace(node.type, axes=axes, absent=()))

    def _steps(self) -> Value:
        if self.slots.size is not None:
            return self.f.b("arange", axis=self.axis.name, size=self.slots.size)
        type = Type((self.axis,), dependence=Dependence.POSITION)
        return self.f.b.declared("distances", "distances", [self.f.seen(self.register)], {"kind": "wide"}, type)
