"""Values as short mathematics: 1 − exp(2·log_a), √(1 − a²), exp(−Δ·exp(A_log))."""

from __future__ import annotations

from collections.abc import Mapping

from ssir.draw.names import Names
from ssir.draw.words import COMPARISONS, SUBSCRIPTS, SUPERSCRIPTS, THROUGH, function, number
from ssir.ir.graph import Dependence, Node

_NEGLIGIBLE = 1e-6
# How tightly a formula holds together: a sum, a product, a power, an atom.
_SUM, _PRODUCT, _POWER, _ATOM = range(4)


class Formula:
    """Writes a value as short mathematics. ``symbols`` name the nodes that are not to be opened."""

    def __init__(self, names: Names, symbols: Mapping[str, str]) -> None:
        self.names, self.graph, self.symbols = names, names.graph, symbols

    def of(self, name: str) -> str:
        return self._write(name)[0]

    def _in(self, name: str, at_least: int) -> str:
        text, tightness = self._write(name)
        return text if tightness >= at_least else f"({text})"

    def _write(self, name: str) -> tuple[str, int]:
        if name in self.symbols:
            text = self.symbols[name]
            return text, _ATOM
        node = self.graph[name]
        if (
            node.op not in ("const", "input", "param")
            and node.type.dependence <= Dependence.POSITION
            and not node.type.operator
        ):
            named = self.names.symbol(name)
            if named:
                return named, _ATOM
        match node.op:
            case "const":
                value = node.attrs["value"]
                return number(value), _ATOM if value >= 0 else _SUM
            case "param" | "input" | "array" | "state":
                return self.names.symbol(name) or "w", _ATOM
            case "position" | "start" | "layer":
                return node.op, _ATOM
            case "arange":
                return node.attrs["axis"], _ATOM
            case "op.diag":
                return self._write(node.inputs[0])
            case "select":
                return self._entry(node)
            case op if op in THROUGH:
                return self._write(node.inputs[0])
        return self._arithmetic(node)

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
                return f"1 − exp({self.of(self.graph[node.inputs[0]].inputs[0])})", _SUM
            case "expm1":
                return f"exp({self.of(node.inputs[0])}) − 1", _SUM
            case "maximum" if self._negligible(node.inputs[1]):
                return self._write(node.inputs[0])
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

    def _negligible(self, name: str) -> bool:
        """A bound that only keeps numbers from overflowing says nothing."""
        node = self.graph[name]
        return node.op == "const" and 0 < node.attrs["value"] <= _NEGLIGIBLE

    def _product(self, node: Node) -> tuple[str, int]:
        """Signs go to the front: Δ·(−a) is written −Δ·a; x·x is written x²."""
        sign, parts = "", list(node.inputs)
        for i, name in enumerate(parts):
            if name not in self.symbols and self.graph[name].op == "neg":
                sign, parts[i] = "" if sign else "−", self.graph[name].inputs[0]
        texts = [self._in(name, _PRODUCT) for name in parts]
        if texts[0].startswith("(−") and texts[0][2:-1].replace(".", "").isdigit():
            sign, texts[0] = "" if sign else "−", texts[0][2:-1]
        if len(parts) == 2 and parts[0] == parts[1]:
            return f"{sign}{self._in(parts[0], _ATOM)}²", _PRODUCT if sign else _POWER
        return sign + "·".join(texts), _PRODUCT

    def _power(self, node: Node) -> tuple[str, int]:
        base, exponent = self._in(node.inputs[0], _ATOM), self.graph[node.inputs[1]]
        if exponent.op == "const" and exponent.name not in self.symbols:
            return base + number(exponent.attrs["value"]).replace("−", "-").translate(SUPERSCRIPTS), _POWER
        return f"{base}^{self._in(exponent.name, _ATOM)}", _POWER

    def _where(self, node: Node) -> tuple[str, int]:
        condition, then, other = node.inputs
        if self.graph[condition].op == "start":
            return f"{self.of(other)}; {self.of(then)} at start", _SUM
        return f"where({', '.join(map(self.of, node.inputs))})", _ATOM

    def _entry(self, node: Node) -> tuple[str, int]:
        """One entry of an axis; of a register, which slot is drawn elsewhere."""
        whole, index = (self.graph[name] for name in node.inputs)
        if index.op != "const" or whole.op == "state":
            return self._write(whole.name)
        return self._in(whole.name, _ATOM) + str(int(index.attrs["value"])).translate(SUBSCRIPTS), _ATOM

    def _call(self, node: Node) -> tuple[str, int]:
        operands = (
            [name for name in node.inputs if self.graph[name].op != "param"]
            if node.op == "linear"
            else list(node.inputs)
        )
        if node.op == "op.shift":
            return f"shift({node.attrs['axis']})", _ATOM
        name = {"op.rotate": "rotate", "op.dense": "", "dot": "dot"}.get(node.op, function(node.op))
        return f"{name}({', '.join(map(self.of, operands))})" if name else self._write(operands[0])[0], _ATOM
