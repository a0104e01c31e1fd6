"""h[t] = A h[t-1] + B x[t], y[t] = C h[t] + D x[t], written out as arithmetic: what steps and loops are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ssir.analysis.facts import state_axes
from ssir.ir.builder import GraphBuilder, Value
from ssir.ir.graph import Axis, Graph, Node, Type


class UnknownOperator(Exception):
    """An operator that is not known by arithmetic, in words."""


def turned(b: GraphBuilder, x: Value, angle: Value, over: str, half: str, halves: bool = False) -> Value:
    """Pairs along an axis turned by an angle over ``half``: neighbours, or those of the first half with those of the second."""
    pair = f"{over}_pair"
    into = ((half, angle.type.axis(half).size), (pair, 2))
    pairs = b("split", x, axis=over, into=into[::-1] if halves else into)
    first, second = (b("select", pairs, i, axis=pair) for i in (0, 1))
    c, s = b("cos", angle), b("sin", angle)
    found = b("pack", first * c - second * s, first * s + second * c, axis=pair)
    return b("merge", found, axes=(pair, half) if halves else (half, pair), out=over)


class Systems(ABC):
    """The arithmetic of the systems of a graph, made with a builder."""

    graph: Graph
    b: GraphBuilder

    @abstractmethod
    def value(self, name: str) -> Value:
        """What a node of the graph is."""

    def matrix(self, name: str, axes: Sequence[Axis]) -> Value:
        """What a matrix is, its axes under these names."""
        given = self.value(name)
        return self.b.rename(given, dict(zip(given.type.names, (axis.name for axis in axes), strict=True)))

    def product(self, a: Value, b: Value, over: Sequence[str]) -> Value:
        """The sum of a b over some axes, of numbers of a memory."""
        return self.b.dot(a, b, over)

    def entering(self, node: Node) -> Value:
        """B x."""
        x, b = (self.value(name) if name else None for name in (node.role("x"), node.role("B")))
        plus = node.attrs["algebra"] == "plus_times"
        if x is None or b is None:
            both = b if x is None else x
            return both if both is not None else self.b.number(1.0 if plus else 0.0)
        state = {axis.name for axis in state_axes(node)}
        used = [name for name in b.type.names if name in x.type.names and name not in state]
        if plus:
            return self.product(b, x, used)
        return self.b("max", b + x, over=tuple(used)) if used else b + x

    def following(self, node: Node, old: Value, zero: bool) -> Value:
        """The memory after a step, from that before it; ``zero``: nothing of it stays."""
        into, a = self.entering(node), node.role("A")
        if node.attrs["algebra"] == "plus_times":
            return into if zero else into + (old if a is None else self.applied(self.graph[a], old))
        return self.b("maximum", old if a is None else old + self.value(self.graph[a].inputs[0]), into)

    def applied(self, a: Node, h: Value) -> Value:
        """The operator a on h. Raises UnknownOperator."""
        b = self.b
        match a.op:
            case "op.diag":
                return h * self.value(a.inputs[0])
            case "op.neg":
                return -self.applied(self.graph[a.inputs[0]], h)
            case "op.add" | "op.sub":
                left, right = (self.applied(self.graph[name], h) for name in a.inputs)
                return left + right if a.op == "op.add" else left - right
            case "op.mul":
                return self.applied(self.graph[a.inputs[0]], self.applied(self.graph[a.inputs[1]], h))
            case "op.outer":
                left, right = map(self.value, a.inputs)
                return left * self.product(right, h, [a.attrs["over"]])
            case "op.dense":
                over = a.attrs["over"]
                m = self.graph[a.inputs[0]]
                axes = [Axis(f"{over}_in", x.size) if x.name == f"{over}_" else x for x in m.type.axes]
                return self.product(self.matrix(m.name, axes), b.rename(h, {over: f"{over}_in"}), [f"{over}_in"])
            case "op.shift":
                return self._moved(h, a.attrs["axis"])
            case "op.rotate":
                return turned(b, h, self.value(a.inputs[0]), a.attrs["over"], a.attrs["half"])
        raise UnknownOperator(f"the operator of `{a.name}` is a `{a.op}`")

    def _moved(self, h: Value, axis: str) -> Value:
        """h moved on by one along an axis, whose first entry is zero."""
        b, first, kept = self.b, f"{axis}.first", f"{axis}.kept"
        rest = Type(tuple(one for one in h.type.axes if one.name != axis))
        zero = b.expand(b.expand(b.number(0.0), rest), Type((Axis(first, 1),)))
        size = h.type.axis(axis).size or 0
        if size == 1:
            return b.rename(zero, {first: axis})
        moved = b("slice", h, axis=axis, start=0, stop=size - 1, out=kept)
        return b("concat", zero, moved, axis=axis, axes=(first, kept))

    def readout(self, node: Node, h: Value) -> Value:
        """y[t] = C h + D x."""
        b = self.b
        plus = node.attrs["algebra"] == "plus_times"
        y, c = h, node.role("C")
        if c is not None:
            weights = self.value(c)
            used = self.contracted(node)
            if plus:
                y = self.product(h, weights, used)
            else:
                y = b("max", h + weights, over=tuple(used)) if used else h + weights
        return self.fed_through(node, y)

    def contracted(self, node: Node) -> list[str]:
        """The axes of a state that C sums over."""
        x, c = node.role("x"), node.role("C")
        given = self.graph[x].type.names if x else ()
        along = self.graph[c].type.names if c else ()
        return [axis.name for axis in state_axes(node) if axis.name not in given and axis.name in along]

    def fed_through(self, node: Node, y: Value) -> Value:
        """y + D x, over the axes that the node has."""
        plus = node.attrs["algebra"] == "plus_times"
        if (d := node.role("D")) is not None:
            x, through = node.role("x"), self.value(d)
            if x is not None:
                through = through * self.value(x) if plus else through + self.value(x)
            y = y + through if plus else self.b("maximum", y, through)
        return self.b.expand(y, node.type)
