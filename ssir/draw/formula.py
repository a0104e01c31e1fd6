"""Values as short mathematics: 1 − exp(2·log_a), √(1 − a²), exp(−Δ·exp(A_log))."""

from __future__ import annotations

from collections.abc import Mapping

from ssir.draw.names import Names
from ssir.draw.words import COMPARISONS, SUBSCRIPTS, SUPERSCRIPTS, THROUGH, function, number
from ssir.ir.graph import Dependence, Node

# How tightly a formula holds together: a sum, a product, a power, an atom.
_SUM, _PRODUCT, _POWER, _ATOM = range(4)


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
        return self._write(name)[0]

    def meaning(self, name: str) -> str:
        """What a value that has a name is made of."""
        return self._open(self.graph[name])[0]

    def _in(self, name: str, at_least: int) -> str:
        text, tightness = self._write(name)
        return text if tightness >= at_least else f"({text})"

    def _write(self, name: str) -> tuple[str, int]:
        node = self.graph[name]
        still = node.type.dependence <= Dependence.POSITION and not node.type.operator
        symbol = self.symbols.get(name)
        if symbol is None and still and node.op != "const":
            symbol = self.names.symbol(name)
        if symbol is None and node.op in ("param", "input", "state"):
            symbol = self.names.symbol(name) or self.names.letter(name)
        if symbol is None:
            return self._open(node)
        self.called[name] = symbol
        return symbol, _ATOM

    def _open(self, node: Node) -> tuple[str, int]:
        self.spelled.add(node.name)
        match node.op:
            case "const":
                value = node.attrs["value"]
                return number(value), _ATOM if value >= 0 else _SUM
            case "position" | "start" | "layer":
                return node.op, _ATOM
            case "arange":
                return node.attrs["axis"], _ATOM
            case "op.diag":
                return self._write(node.inputs[0])
            case "select" | "slice":
                return f"{self._in(node.inputs[0], _ATOM)}{self.entry(node)}", _ATOM
            case op if op in THROUGH:
                return self._write(node.inputs[0])
        return self._arithmetic(node)

    def entry(self, node: Node) -> str:
        """What is taken of an axis, behind the name of the whole: ₀, [layer], [0:4]."""
        if node.op == "slice":
            return f"[{node.attrs['start']}:{node.attrs['stop']}]"
        index = self.index(node)
        return index.translate(SUBSCRIPTS) if index.isdigit() else f"[{index}]"

    def index(self, node: Node) -> str:
        """Which entry is selected."""
        index = self.graph[node.inputs[1]]
        if index.op != "const":
            return self.of(index.name)
        self.spelled.add(index.name)
        return str(int(index.attrs["value"]))

    def factor(self, name: str) -> str:
        """A value as something that is multiplied or added."""
        return self._in(name, _PRODUCT)

    def _arithmetic(self, node: Node) -> tuple[str, int]:
        match node.op.removeprefix("op."):
            case "add":
                return " + ".join(self._in(name, _SUM) for name in node.inputs), _SUM
            case "sub":
                return f"{self._in(node.inputs[0], _SUM)} − {self._in(node.inputs[1], _PRODUCT)}", _SUM
            case "mul":
                return self._product(node)
            case "div":
                return f"{self._in(node.inputs[0], _PRODUCT)} / {self._in(node.inputs[1], _POWER)}", _PRODUCT
            case "neg" if self._opens(node.inputs[0]) and self.graph[node.inputs[0]].op == "expm1":
                self.spelled.add(node.inputs[0])
                return f"1 − exp({self.of(self.graph[node.inputs[0]].inputs[0])})", _SUM
            case "expm1":
                return f"exp({self.of(node.inputs[0])}) − 1", _SUM
            case "neg":
                return f"−{self._in(node.inputs[0], _PRODUCT)}", _PRODUCT
            case "square":
                return f"{self._in(node.inputs[0], _ATOM)}²", _POWER
            case "sqrt":
                return f"√{self._in(node.inputs[0], _ATOM)}", _POWER
            case "reciprocal":
                return f"1 / {self._in(node.inputs[0], _POWER)}", _PRODUCT
            case "pow":
                return self._power(node)
            case "where":
                return self._where(node)
            case "outer":
                a, b = (self._in(name, _POWER) for name in node.inputs)
                return f"{a}⊗{b}", _PRODUCT
            case op if op in COMPARISONS:
                return f"{self._in(node.inputs[0], _SUM)} {COMPARISONS[op]} {self._in(node.inputs[1], _SUM)}", _SUM
        return self._call(node)

    def _opens(self, name: str) -> bool:
        return name not in self.symbols

    def _product(self, node: Node) -> tuple[str, int]:
        """Signs go to the front: Δ·(−a) is written −Δ·a; x·x is written x²."""
        sign, parts = "", list(node.inputs)
        for i, name in enumerate(parts):
            if name not in self.symbols and self.graph[name].op == "neg" and not self.names.known(name):
                self.spelled.add(name)
                sign, parts[i] = "" if sign else "−", self.graph[name].inputs[0]
        texts = [self._in(name, _PRODUCT) for name in parts]
        if texts[0].startswith("(−") and texts[0][2:-1].replace(".", "").isdigit():
            sign, texts[0] = "" if sign else "−", texts[0][2:-1]
        if len(parts) == 2 and parts[0] == parts[1]:
            return f"{sign}{self._in(parts[0], _ATOM)}²", _PRODUCT if sign else _POWER
        return sign + "·".join("(·)" if text == "·" else text for text in texts), _PRODUCT

    def _power(self, node: Node) -> tuple[str, int]:
        base, exponent = self._in(node.inputs[0], _ATOM), self.graph[node.inputs[1]]
        if exponent.op == "const" and exponent.name not in self.symbols:
            self.spelled.add(exponent.name)
            return base + number(exponent.attrs["value"]).replace("−", "-").translate(SUPERSCRIPTS), _POWER
        return f"{base}^{self._in(exponent.name, _ATOM)}", _POWER

    def _where(self, node: Node) -> tuple[str, int]:
        condition, then, other = node.inputs
        if self.graph[condition].op == "start":
            self.spelled.add(condition)
            return f"{self.of(other)}; {self.of(then)} at start", _SUM
        return f"where({', '.join(map(self.of, node.inputs))})", _ATOM

    def _call(self, node: Node) -> tuple[str, int]:
        operands, weights = self.names.operands(node)
        self.spelled |= weights
        if node.op == "op.shift":
            return f"shift({node.attrs['axis']})", _ATOM
        name = {"op.rotate": "rotate", "op.dense": ""}.get(node.op, function(node.op))
        return f"{name}({', '.join(map(self.of, operands))})" if name else self._write(operands[0])[0], _ATOM
