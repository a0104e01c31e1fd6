"""Values as short mathematics: 1 − exp(2·log_a), √(1 − a²), exp(−Δ·exp(A_log))."""

from __future__ import annotations

from collections.abc import Mapping

from ssir.draw import maths
from ssir.draw.maths import Apply, Cases, Compare, Entry, Maths, Number, Power, Quotient, Root, Sign, Sum
from ssir.draw.names import Names
from ssir.draw.words import COMPARISONS, THROUGH, function
from ssir.ir.graph import Dependence, Node


class Formula:
    """Writes a value as short mathematics. ``symbols`` name the nodes that are not to be opened.

    It keeps account of what it has written: ``spelled`` are the nodes that stand in it as mathematics, ``called`` those that stand in it
    by a name.
    """

    def __init__(self, names: Names, symbols: Mapping[str, str]) -> None:
        self.names, self.graph, self.symbols = names, names.graph, symbols
        self.spelled: set[str] = set()
        self.called: dict[str, str] = {}

    def of(self, name: str) -> str:
        return maths.text(self.tree(name))

    def meaning(self, name: str) -> str:
        """What a value that has a name is made of."""
        return maths.text(self.opened(name))

    def factor(self, name: str) -> str:
        """A value as something that is multiplied or added."""
        return maths.within(self.tree(name), maths.PRODUCT)

    def index(self, node: Node) -> str:
        """Which entry is selected."""
        return maths.text(self._index(node))

    def entry(self, node: Node) -> str:
        """What is taken of an axis, behind the name of the whole: ₀, [layer], [0:4]."""
        return maths.text(self._entry(node, Sign("")))

    def tree(self, name: str) -> Maths:
        node = self.graph[name]
        still = node.type.dependence <= Dependence.POSITION and not node.type.operator
        symbol = self.symbols.get(name)
        if symbol is None and still and node.op != "const":
            symbol = self.names.symbol(name)
        if symbol is None and node.op in ("param", "input", "state"):
            symbol = self.names.symbol(name) or self.names.letter(name)
        if symbol is None:
            return self.opened(name)
        self.called[name] = symbol
        return Sign(symbol)

    def opened(self, name: str) -> Maths:
        """``tree``, of a value that has a name too."""
        node = self.graph[name]
        self.spelled.add(name)
        match node.op:
            case "const":
                return Number(node.attrs["value"])
            case "position" | "start" | "layer":
                return Sign(node.op)
            case "arange":
                return Sign(node.attrs["axis"])
            case "op.diag":
                return self.tree(node.inputs[0])
            case "select" | "slice":
                return self._entry(node, self.tree(node.inputs[0]))
            case op if op in THROUGH:
                return self.tree(node.inputs[0])
        return self._arithmetic(node)

    def _entry(self, node: Node, whole: Maths) -> Maths:
        if node.op == "slice":
            return Entry(whole, Number(node.attrs["start"]), Number(node.attrs["stop"]))
        return Entry(whole, self._index(node))

    def _index(self, node: Node) -> Maths:
        index = self.graph[node.inputs[1]]
        if index.op != "const":
            return self.tree(index.name)
        self.spelled.add(index.name)
        return Number(int(index.attrs["value"]))

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
                self.spelled.add(inputs[0])
                return maths.difference(Number(1), self._exp(self.graph[inputs[0]]))
            case "expm1":
                return maths.difference(self._exp(node), Number(1))
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

    def _call(self, node: Node) -> Maths:
        operands, weights = self.names.operands(node)
        self.spelled |= weights
        if node.op == "op.shift":
            return Apply("shift", (Sign(node.attrs["axis"]),))
        name = {"op.rotate": "rotate", "op.dense": ""}.get(node.op, function(node.op))
        return Apply(name, tuple(map(self.tree, operands))) if name else self.tree(operands[0])
