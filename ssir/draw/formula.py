"""Values of a graph as short mathematics."""

from __future__ import annotations

from collections.abc import Mapping

from ssir.draw import maths
from ssir.draw.maths import Apply, Cases, Compare, Entry, Maths, Number, Power, Quotient, Root, Sign, Sum
from ssir.draw.names import Names
from ssir.draw.words import COMPARISONS, THROUGH, function
from ssir.ir.graph import Dependence, Node

_NEGLIGIBLE = 1e-6


class Formula:
    """Writes a value as short mathematics. ``symbols`` name the nodes that are not to be opened."""

    def __init__(self, names: Names, symbols: Mapping[str, str]) -> None:
        self.names, self.graph, self.symbols = names, names.graph, symbols

    def of(self, name: str) -> str:
        return maths.text(self.tree(name))

    def tree(self, name: str) -> Maths:
        if name in self.symbols:
            return Sign(self.symbols[name])
        node = self.graph[name]
        if (
            node.op not in ("const", "input", "param")
            and node.type.dependence <= Dependence.POSITION
            and not node.type.operator
        ):
            named = self.names.symbol(name)
            if named:
                return Sign(named)
        match node.op:
            case "const":
                return Number(node.attrs["value"])
            case "param" | "input" | "array" | "state":
                return Sign(self.names.symbol(name) or "w")
            case "position" | "start" | "layer":
                return Sign(node.op)
            case "arange":
                return Sign(node.attrs["axis"])
            case "op.diag":
                return self.tree(node.inputs[0])
            case "select":
                return self._entry(node)
            case op if op in THROUGH:
                return self.tree(node.inputs[0])
        return self._arithmetic(node)

    def _arithmetic(self, node: Node) -> Maths:
        inputs = node.inputs
        match node.op.removeprefix("op."):
            case "add":
                return Sum(tuple(map(self.tree, inputs)))
            case "sub":
                return maths.difference(*map(self.tree, inputs))
            case "mul":
                return maths.product(map(self.tree, inputs))
            case "div":
                return Quotient(*map(self.tree, inputs))
            case "neg" if inputs[0] not in self.symbols and self.graph[inputs[0]].op == "expm1":
                return maths.difference(Number(1), self._exp(self.graph[inputs[0]]))
            case "expm1":
                return maths.difference(self._exp(node), Number(1))
            case "maximum" if self._negligible(inputs[1]):
                return self.tree(inputs[0])
            case "neg":
                return maths.negative(self.tree(inputs[0]))
            case "square":
                return Power(self.tree(inputs[0]), Number(2))
            case "sqrt":
                return Root(self.tree(inputs[0]))
            case "reciprocal":
                return Quotient(Number(1), self.tree(inputs[0]))
            case "pow":
                return Power(*map(self.tree, inputs))
            case "where":
                return Cases(*map(self.tree, inputs))
            case "outer":
                return maths.Product(tuple(map(self.tree, inputs)), ("⊗",))
            case op if op in COMPARISONS:
                return Compare(op, *map(self.tree, inputs))
        return self._call(node)

    def _exp(self, node: Node) -> Maths:
        return Apply("exp", (self.tree(node.inputs[0]),))

    def _negligible(self, name: str) -> bool:
        """A bound that only keeps numbers from overflowing says nothing."""
        node = self.graph[name]
        return node.op == "const" and 0 < node.attrs["value"] <= _NEGLIGIBLE

    def _entry(self, node: Node) -> Maths:
        """One entry of an axis; of a register, which slot is drawn elsewhere."""
        whole, index = (self.graph[name] for name in node.inputs)
        if index.op != "const" or whole.op == "state":
            return self.tree(whole.name)
        return Entry(self.tree(whole.name), Number(index.attrs["value"]))

    def _call(self, node: Node) -> Maths:
        operands = [name for name in node.inputs if node.op != "linear" or self.graph[name].op != "param"]
        if node.op == "op.shift":
            return Apply("shift", (Sign(node.attrs["axis"]),))
        name = {"op.rotate": "rotate", "op.dense": ""}.get(node.op, function(node.op))
        return Apply(name, tuple(map(self.tree, operands))) if name else self.tree(operands[0])
