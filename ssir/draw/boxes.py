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
from ssir.draw.formula import Formula
from ssir.draw.meanings import Told, meanings
from ssir.draw.picture import Box, Kind, Row, Shade, Wire
from ssir.draw.signals import CIRCLES, LONGEST, SHORT, Cone, Signals
from ssir.draw.words import COMPARISONS, function, is_fixed, leaf, product
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
        self.names: dict[str, str] = {}
        self.letters: dict[str, str] = {}
        self.todo: list[str] = []
        self.told = Told()

    def run(self) -> Row:
        for label, name in self.graph.outputs:
            key = f"out {label}"
            self.row.add(Box(key, Kind.PORT, self._output(label, name)))
            self._wire(name, key)
        while self.todo:
            name = self.todo.pop(0)
            if name not in self.row.boxes:
                self._box(self.graph[name])
        for key, symbol in {**self.letters, **self.names}.items():
            box = self.row.boxes[key]
            if box.kind in (Kind.FUNCTION, Kind.PROJECTION, Kind.COMPONENT):
                self.row.boxes[key] = replace(box, name=symbol)
            elif box.kind is Kind.DELAY:
                self.row.boxes[key] = replace(box, note=f"{symbol} {box.note}")
            elif box.kind is Kind.OPERATOR or box.label != symbol:
                self._name_wires(key, symbol)
        self._label_once()
        # What signals are called stands on their boxes and wires.
        self.told.called = {name: said for name, said in self.told.called.items() if name not in self.signals.live}
        self.row.where = meanings(self.signals, self.told)
        self.row.meant = frozenset(self.told.spelled)
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

    def _wire(self, value: str, head: str, cell: str = "", sign: str = "", formula: str = "", word: str = "") -> None:
        """A wire to where a value is read; ``formula`` is what may call it by its name there, ``word`` what it is there."""
        if value not in self.signals.live:
            self._constant(value)
            self.row.wires.append(Wire(value, head, cell, way=word, sign=sign))
            return
        tail = self.signals.source(value)
        way, stands = self._way(value, formula)
        way = "  ".join(filter(None, (word, way)))
        wire = Wire(tail, head, cell, self._axes(value, tail), way, sign, stands)
        if wire not in self.row.wires:
            self.row.wires.append(wire)
            self.row.axes |= {axis.name: axis.size for axis in self.graph[value].type.axes}
            self._name(value, tail, head)
        self.todo.append(tail)

    def _way(self, value: str, formula: str) -> tuple[str, frozenset[str]]:
        """What happens to a signal on its way to a reader, and the nodes that do it. A formula that calls it by name says where in its
        signal it is; a name that its box cannot say stands on the wire."""
        signals, writer = self.signals, Formula(self.signals.names, {})
        steps = signals.way(value)
        said = [text for step in reversed(steps) if (text := signals.said(step, writer))]
        self.told.add(writer)
        symbol, owner = signals.named(value)
        if symbol and symbol in formula:
            name, source = signals.symbol(owner) or symbol, signals.source(value)
            if signals.tells(owner) and self.names.setdefault(source, name) == name:
                taken = steps[: steps.index(owner)] if owner in steps else steps
                said = [text for step in reversed(steps) if step not in taken and (text := signals.said(step, writer))]
            else:
                said.insert(0, f"{name}:")
        return "  ".join(said), frozenset({*steps, *writer.spelled})

    def _constant(self, value: str) -> None:
        """What no input decides, where it is more than a part of a formula: a box of its own."""
        if value in self.row.boxes:
            return
        node, names, writer = self.graph[value], self.signals.names, Formula(self.signals.names, {})
        symbol = names.symbol(value) or ""
        text = symbol if node.op in ("param", "input") and symbol else writer.meaning(value)
        if node.op == "param":
            writer.spelled.add(value)
            text = symbol or names.letter(value)
        if len(text) > LONGEST:
            symbol = symbol or names.letter(value)
            self.told.lines.append(f"{symbol} = {text}")
            text = symbol
        self.told.add(writer)
        learned = self.graph[value].type.dependence is Dependence.CONSTANT and not is_fixed(self.graph, value)
        shade = Shade.LEARNED if learned else Shade.FIXED
        if node.type.dependence is Dependence.POSITION:
            shade = Shade.POSITION
        axes = f"[{product(node.type.axes)}]" if node.type.axes else ""
        name = symbol if symbol != text else ""
        self.row.axes |= {axis.name: axis.size for axis in node.type.axes}
        self.row.add(Box(value, Kind.CONSTANT, text, axes, shade, name, stands=frozenset({value, *writer.spelled})))

    def _name(self, value: str, tail: str, head: str) -> None:
        """A box says the letter that the spec gives its value, but for an output, which says it already."""
        symbol, owner = self.signals.named(value)
        lettered = symbol is not None and len(symbol) == 1 and self.graph[tail].op not in _UNNAMED
        if symbol and lettered and self.signals.tells(owner) and self.row.boxes[head].kind is not Kind.PORT:
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

    def _box(self, node: Node) -> None:
        shade = Shade.STATE if node.type.dependence is Dependence.STATE else Shade.INPUT
        one = frozenset({node.name})
        if node.op == "input":
            self.row.add(Box(node.name, Kind.PORT, self.signals.symbol(node.name) or leaf(node.name), stands=one))
        elif node.op == "state":
            box, feeds, told = state_box.drawn(self.signals, node)
            self.told.add(told)
            self.told.lines += told.lines
            self.row.add(box)
            self.row.axes |= dict(node.attrs["axes"])
            for value, cell, formula in feeds:
                self._wire(value, node.name, cell, formula=formula)
        elif node.op in ("component", "stack"):
            label, note = node.attrs.get("label", node.name), node.attrs.get("note", "")
            stands = one | node.attrs.get("stands", frozenset())
            opens = node.attrs.get("opens", "")
            self.row.add(Box(node.name, Kind.COMPONENT, label, note, shade, stands=stands, opens=opens))
            for value in dict.fromkeys(node.inputs):
                self._wire(value, node.name)
        elif node.op == "linear":
            label, first, stands = self._chain(node)
            self.row.add(Box(node.name, Kind.PROJECTION, label, "", shade, stands=stands))
            for value in self.signals.names.operands(first)[0]:
                self._wire(value, node.name)
        elif joint := self.signals.joint(node):
            biased = any(part.attrs["bias"] or self.signals.has_bias(part.name) for part in joint)
            stands = self._joined(node)
            label = "linear + b" if biased else "linear"
            self.row.add(Box(node.name, Kind.PROJECTION, label, "", shade, stands=stands))
            for part in joint:
                for value in self.signals.names.operands(part)[0]:
                    self._wire(value, node.name)
        elif (cone := self.signals.cone(node.name)) is not None:
            self._formula(node, cone, shade)
        elif node.op in CIRCLES:
            self._circle(node, shade)
        else:
            self._plain(node, shade)

    def _joined(self, node: Node) -> frozenset[str]:
        """The nodes of linear maps that are drawn as one, and of their sum."""
        if node.op == "linear":
            return frozenset({node.name, *self.signals.names.operands(node)[1]})
        writer, found = Formula(self.signals.names, {}), {node.name}
        for value in node.inputs:
            way = self.signals.way(value)
            for step in way:
                self.signals.said(step, writer)
            found |= {*way, *self._joined(self.graph[self.signals.source(value)])}
        return frozenset(found | writer.spelled)

    def _plain(self, node: Node, shade: Shade) -> None:
        over, note = node.attrs.get("over"), ""
        if over and node.op not in NORM:
            note = f"over {product(over) if isinstance(over, tuple) else over}"
        if node.op == "context":
            note = "of the whole sequence"
        kind = Kind.PROJECTION if node.op == "embed" else Kind.FUNCTION
        operands, weights = self.signals.names.operands(node)
        label = COMPARISONS.get(node.op, function(node.op))
        self.row.add(Box(node.name, kind, label, note, shade, stands=frozenset({node.name, *weights})))
        words = ("if", "then", "else") if node.op == "where" else ("",) * len(operands)
        for value, word in zip(operands, words, strict=True):
            self._wire(value, node.name, word=word)

    def _formula(self, node: Node, cone: Cone, shade: Shade) -> None:
        name, only = function(node.op), self.signals.symbol(cone.leaves[0]) or "·"
        simple = len(node.inputs) == 1 and cone.formula in (f"{name}({only})", f"{name}{only}")
        stands = frozenset({node.name, *cone.written.spelled})
        if simple or (cone.single and len(node.inputs) == 1):
            self.row.add(Box(node.name, Kind.FUNCTION, name, "", shade, stands=stands))
            own = self.signals.symbol(node.name)
            if own and len(own) <= SHORT:
                self.names.setdefault(node.name, own)
            for value in cone.leaves:
                self._wire(value, node.name)
        else:
            self.told.add(cone.written)
            self.row.add(Box(node.name, Kind.FUNCTION, cone.formula, "", shade, stands=stands))
            for value in cone.leaves:
                self._wire(value, node.name, formula=cone.formula)

    def _circle(self, node: Node, shade: Shade) -> None:
        """A sum with a − at what is subtracted; a division with a ÷ at the divisor."""
        terms, stands = self._terms(node)
        label = "+" if node.op == "sub" else CIRCLES[node.op]
        self.row.add(Box(node.name, Kind.OPERATOR, label, "", shade, stands=stands))
        for i, value in enumerate(terms):
            self._wire(value, node.name, sign={"sub": "−", "div": "÷"}.get(node.op, "") if i == 1 else "")

    def _terms(self, node: Node) -> tuple[list[str], frozenset[str]]:
        """The operands of a sum or product, those of nested ones among them that serve it alone; and the nodes that it is."""
        stands = frozenset({node.name})
        if node.op not in ("add", "mul"):
            return list(node.inputs), stands
        terms: list[str] = []
        for name in node.inputs:
            inner, way = self.graph[self.signals.source(name)], self.signals.way(name)
            same = name in self.signals.live and inner.op == node.op and self.signals.alone(inner.name)
            through = all(not self.signals.said(step, Formula(self.signals.names, {})) for step in way)
            single = self.signals.cone(inner.name) is None and not self.signals.joint(inner)
            if same and through and single:
                more, inside = self._terms(inner)
                terms, stands = terms + more, stands | inside | {*way}
            else:
                terms.append(name)
        return terms, stands

    def _chain(self, node: Node) -> tuple[str, Node, frozenset[str]]:
        """Maps in a row that nothing else reads are one box: linear → linear + b; so is a function in a narrow middle."""
        signals = self.signals
        label = "linear + b" if node.attrs["bias"] or signals.has_bias(node.name) else "linear"
        operands, weights = signals.names.operands(node)
        stands = frozenset({node.name, *weights})
        if operands[0] not in signals.live or len(operands) > 1:
            return label, node, stands
        before, middle = self.graph[signals.source(operands[0])], ""
        way = signals.way(operands[0])
        if is_elementwise(before.op) and len(before.inputs) == 1 and signals.alone(before.name):
            inner = self.graph[signals.source(before.inputs[0])]
            if inner.op == "linear" and inner.type.numel() < min(
                node.type.numel(), self.graph[inner.inputs[0]].type.numel()
            ):
                way += [before.name, *signals.way(before.inputs[0])]
                middle, before = f"{function(before.op)} → ", inner
        writer = Formula(signals.names, {})
        said = [text for step in way if signals.behind(self.graph[step]) and (text := signals.said(step, writer))]
        if before.op == "linear" and signals.alone(before.name) and not said:
            start, first, more = self._chain(before)
            return f"{start} → {middle}{label}", first, stands | more | {*way, *writer.spelled}
        return label, node, stands
