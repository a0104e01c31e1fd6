"""From the IR to a row of boxes and wires: what adds nothing to understanding folds into an edge, a box or a formula.

split(linear(u))                    a projection; the edge has the new axes
linear(x) + linear(h) + b           one projection with two wires
linear(linear(x))                   one box, if nothing else reads the middle
sqrt(1 - a * a)                     one rounded box with the formula
x + (h - x) * mu                    one rounded box: an elementwise function that reads an input twice is a formula
a * b                               a circle
state                               a table: the coefficients, and the memory itself
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ssir.draw import state_box
from ssir.draw.picture import Box, Kind, Row, Shade, Wire
from ssir.draw.signals import CIRCLES, SHORT, Cone, Signals
from ssir.draw.words import COMPARISONS, function, leaf, product
from ssir.ir.graph import Dependence, Graph, Node
from ssir.ir.ops import is_elementwise
from ssir.ir.ops.sums import NORM

_UNNAMED = frozenset({"input", "state", "component", "stack", *CIRCLES})
_CHANGE_AXES = frozenset({"input", "linear", "embed", "state", "dot", "sum", "component", "stack"})


class Fold:
    """Builds the row of a graph, from the outputs back, so that what folds into a reader is never drawn."""

    def __init__(self, graph: Graph, row: Row, signs: Mapping[str, str]) -> None:
        self.graph = graph
        self.signals = Signals(graph, signs)
        self.row = row
        self.told: dict[str, str] = {}
        self.letters: dict[str, str] = {}
        self.todo: list[str] = []

    def run(self) -> Row:
        for label, name in self.graph.outputs:
            if name in self.signals.live:
                key = f"out {label}"
                self.row.add(Box(key, Kind.PORT, self._output(label, name)))
                self._wire(name, key)
        while self.todo:
            name = self.todo.pop(0)
            if name not in self.row.boxes:
                self._box(self.graph[name])
        for key, symbol in {**self.letters, **self.told}.items():
            box = self.row.boxes[key]
            if box.kind in (Kind.FUNCTION, Kind.PROJECTION):
                self.row.boxes[key] = replace(box, name=symbol)
            elif box.kind is Kind.DELAY:
                self.row.boxes[key] = replace(box, note=f"{symbol} {box.note}")
            elif box.kind is Kind.OPERATOR:
                self._name_wires(key, symbol)
        self._label_once()
        order = {name: i for i, name in enumerate(self.graph.nodes)}
        self.row.boxes = dict(sorted(self.row.boxes.items(), key=lambda item: order.get(item[0], len(order))))
        self.row.wires.sort(key=lambda wire: (order.get(wire.tail, 0), order.get(wire.head, len(order))))
        return self.row

    def _output(self, label: str, name: str) -> str:
        names = self.signals.names
        return (names.symbol(name) if label == name else None) or names.sign(leaf(label))

    def _name_wires(self, tail: str, symbol: str) -> None:
        """A circle has no room for its name: the wires say it."""
        for i, wire in enumerate(self.row.wires):
            if wire.tail == tail:
                self.row.wires[i] = replace(wire, label=f"{symbol}  {wire.label}".strip())

    def _label_once(self) -> None:
        """The wires that leave a box with the same axes say so once."""
        said: set[tuple[str, str]] = set()
        for i, wire in enumerate(self.row.wires):
            if (wire.tail, wire.label) in said:
                self.row.wires[i] = replace(wire, label="")
            said.add((wire.tail, wire.label))

    def _wire(self, value: str, head: str, cell: str = "", sign: str = "") -> None:
        tail = self.signals.source(value)
        wire = Wire(tail, head, cell, self._axes(value, tail), sign)
        if wire not in self.row.wires:
            self.row.wires.append(wire)
            self.row.axes |= {axis.name: axis.size for axis in self.graph[value].type.axes}
            self._name(value, tail, head)
        self.todo.append(tail)

    def _name(self, value: str, tail: str, head: str) -> None:
        """A box says the letter that the spec gives its value, but for an output, which says it already."""
        symbol = self.signals.symbol(value)
        lettered = symbol is not None and len(symbol) == 1 and self.graph[tail].op not in _UNNAMED
        if symbol and lettered and self.row.boxes[head].kind is not Kind.PORT:
            self.letters.setdefault(tail, symbol)

    def _axes(self, value: str, tail: str) -> str:
        """The axes of a wire where they have changed."""
        node, axes = self.graph[tail], self.graph[value].type.names
        given: list[str] = [x] if node.op == "state" and (x := node.role("x")) else []
        if node.op in ("component", "stack"):
            given = list(node.inputs)
        if any(self.graph[name].type.names == axes for name in given):
            return ""
        changed = node.op in _CHANGE_AXES or axes != node.type.names
        return product(axes) if changed or self.signals.joint(node) else ""

    def _tell(self, values: tuple[str, ...], formula: str) -> None:
        """A formula names what it reads: the boxes of those have to say their names."""
        for value in values:
            symbol = self.signals.symbol(value)
            if symbol and symbol in formula:
                self.told.setdefault(self.signals.source(value), symbol)

    def _box(self, node: Node) -> None:
        shade = Shade.STATE if node.type.dependence is Dependence.STATE else Shade.INPUT
        if node.op == "input":
            self.row.add(Box(node.name, Kind.PORT, self.signals.symbol(node.name) or leaf(node.name)))
        elif node.op == "state":
            box, feeds = state_box.drawn(self.signals, node)
            self.row.add(box)
            self.row.axes |= dict(node.attrs["axes"])
            for value, cell, formula in feeds:
                self._wire(value, node.name, cell)
                self._tell((value,), formula)
        elif node.op in ("component", "stack"):
            self.row.add(
                Box(node.name, Kind.COMPONENT, node.attrs.get("label", node.name), node.attrs.get("note", ""), shade)
            )
            for value in dict.fromkeys(node.inputs):
                if value in self.signals.live:
                    self._wire(value, node.name)
        elif node.op == "linear":
            label, first = self._chain(node)
            self.row.add(Box(node.name, Kind.PROJECTION, label, "", shade))
            self._wire(first.inputs[0], node.name)
        elif joint := self.signals.joint(node):
            biased = any(part.attrs["bias"] or self.signals.has_bias(part.name) for part in joint)
            self.row.add(Box(node.name, Kind.PROJECTION, "linear + b" if biased else "linear", "", shade))
            for part in joint:
                self._wire(part.inputs[0], node.name)
        elif (cone := self.signals.cone(node.name)) is not None:
            self._formula(node, cone, shade)
        elif node.op in CIRCLES:
            self._circle(node, shade)
        else:
            self._plain(node, shade)

    def _plain(self, node: Node, shade: Shade) -> None:
        over, note = node.attrs.get("over"), ""
        if over and node.op not in NORM:
            note = f"over {product(over) if isinstance(over, tuple) else over}"
        if node.op == "context":
            note = "of the whole sequence"
        if node.op == "rotate" and node.inputs[1] not in self.signals.live:
            note = "by position"
        kind = Kind.PROJECTION if node.op == "embed" else Kind.FUNCTION
        name = function(node.op)
        self.row.add(Box(node.name, kind, COMPARISONS.get(node.op, name), note, shade))
        for value in dict.fromkeys(node.inputs):
            if value in self.signals.live:
                self._wire(value, node.name)

    def _formula(self, node: Node, cone: Cone, shade: Shade) -> None:
        name, only = function(node.op), self.signals.symbol(cone.leaves[0]) or "·"
        simple = len(node.inputs) == 1 and cone.formula in (f"{name}({only})", f"{name}{only}")
        if simple or (len(cone.nodes) == 1 and len(node.inputs) == 1):
            self.row.add(Box(node.name, Kind.FUNCTION, name, "", shade))
            own = self.signals.symbol(node.name)
            if own and len(own) <= SHORT:
                self.told.setdefault(node.name, own)
        else:
            self.row.add(Box(node.name, Kind.FUNCTION, cone.formula, "", shade))
            self._tell(cone.leaves, cone.formula)
        for value in cone.leaves:
            self._wire(value, node.name)

    def _circle(self, node: Node, shade: Shade) -> None:
        """A sum with a − at what is subtracted; a division with a ÷ at the divisor."""
        self.row.add(Box(node.name, Kind.OPERATOR, "+" if node.op == "sub" else CIRCLES[node.op], "", shade))
        for i, value in enumerate(self._terms(node)):
            if value in self.signals.live:
                self._wire(value, node.name, sign={"sub": "−", "div": "÷"}.get(node.op, "") if i == 1 else "")

    def _terms(self, node: Node) -> list[str]:
        """The operands of a sum or product, those of nested ones among them that serve it alone."""
        if node.op not in ("add", "mul"):
            return list(node.inputs)
        terms: list[str] = []
        for name in node.inputs:
            inner = self.graph[self.signals.source(name)]
            same = name in self.signals.live and inner.op == node.op and self.signals.alone(inner.name)
            if same and self.signals.cone(inner.name) is None and not self.signals.joint(inner):
                terms += self._terms(inner)
            else:
                terms.append(name)
        return terms

    def _chain(self, node: Node) -> tuple[str, Node]:
        """Maps in a row that nothing else reads are one box: linear → linear + b; so is a function in a narrow middle."""
        signals = self.signals
        label = "linear + b" if node.attrs["bias"] or signals.has_bias(node.name) else "linear"
        if node.inputs[0] not in signals.live:
            return label, node
        before, middle = self.graph[signals.source(node.inputs[0])], ""
        if is_elementwise(before.op) and len(before.inputs) == 1 and signals.alone(before.name):
            inner = self.graph[signals.source(before.inputs[0])]
            if inner.op == "linear" and inner.type.numel() < min(
                node.type.numel(), self.graph[inner.inputs[0]].type.numel()
            ):
                middle, before = f"{function(before.op)} → ", inner
        if before.op == "linear" and signals.alone(before.name):
            start, first = self._chain(before)
            return f"{start} → {middle}{label}", first
        return label, node
