"""The states of a component that feed one another, as one state: its transition as a matrix of blocks, each state's A on the
diagonal, beside it what enters a state from the others, and its input."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from ssir.analysis import coupling
from ssir.analysis.facts import Facts, facts
from ssir.draw import state_box
from ssir.draw.formula import Formula
from ssir.draw.meanings import Told, meanings, written
from ssir.draw.picture import Shade
from ssir.draw.signals import Signals, called
from ssir.draw.words import THROUGH, function, is_fixed, product, subscript
from ssir.ir.graph import Dependence, Graph, Node

_LONGEST = 20
_NAME = 10
_STILL = THROUGH | {"add", "where", "select", "sum", "concat", "pack", "real"}
_SHADES = (Shade.FIXED, Shade.LEARNED, Shade.POSITION, Shade.INPUT, Shade.STATE)


@dataclass(frozen=True)
class Entry:
    """A place in the matrix, over so many columns. Without a shade nothing enters there, or it is one of those left out."""

    text: str
    shade: Shade | None = None
    span: int = 1


@dataclass(frozen=True)
class Joint:
    """``names``: of the states, one a block; ``lines``: how many rows, and columns, each has; ``rows``: what each is called."""

    title: str
    equation: str
    names: tuple[str, ...]
    lines: tuple[int, ...]
    rows: tuple[str, ...]
    matrix: tuple[tuple[Entry, ...], ...]
    entering: tuple[Entry, ...]
    x: str
    notes: tuple[str, ...]

    @property
    def shades(self) -> set[Shade]:
        entries = [*self.entering, *(entry for row in self.matrix for entry in row)]
        return {entry.shade for entry in entries if entry.shade}


@dataclass(frozen=True)
class _Lines:
    """A state as rows and columns: one for each entry along the axes that its input lacks (the slots of a register, what a state
    is expanded by), each a vector over the others. ``shown`` are those written out, None stands for those left out."""

    known: Facts
    name: str
    along: tuple[str, ...]
    shown: tuple[int | None, ...]
    first: int

    @property
    def node(self) -> Node:
        return self.known.node

    @property
    def unit(self) -> str:
        return product([axis for axis in self.known.axes if axis.name not in self.along])

    def index(self, line: int | None) -> str:
        if not self.along or line is None:
            return ""
        return subscript(line + self.first)


@dataclass(frozen=True)
class _Input:
    """A value from outside, what it is called, and how it comes to a state; and whether others do too."""

    name: str
    leaf: str
    way: coupling.Way
    more: bool = False


def joints(graph: Graph, title: str, signs: Mapping[str, str]) -> list[Joint]:
    """A matrix for each group of states that feed one another."""
    return [_Writer(graph, group, title, signs).joint() for group in coupling.coupled(graph)]


class _Writer:
    def __init__(self, graph: Graph, group: Sequence[Node], title: str, signs: Mapping[str, str]) -> None:
        self.graph, self.title = graph, title
        self.signals = Signals(graph, signs)
        self.ways = coupling.entries(graph)
        self.states = [self._lines(node) for node in group]
        self.told = Told()
        self.at_once = self.bent = False

    def joint(self) -> Joint:
        places = [(state, line) for state in self.states for line in state.shown]
        matrix = tuple(
            tuple(entry for source in self.states for entry in self._row(*place, source)) for place in places
        )
        inputs = {state.node.name: self._input(state) for state in self.states}
        x = {found.name for found in inputs.values() if found}
        alone = len(x) == 1
        names = tuple(state.name for state in self.states)
        return Joint(
            title=f"{self.title} · {', '.join(names)} as one state",
            equation=f"H[t] = A H[t−1] + B x[t],    H = ({', '.join(names)})",
            names=names,
            lines=tuple(len(state.shown) for state in self.states),
            rows=tuple("⋮" if line is None else state.name + state.index(line) for state, line in places),
            matrix=matrix,
            entering=tuple(self._entering(state, line, inputs[state.node.name], alone) for state, line in places),
            x=f"{next(iter(x))}[t]" if alone else "",
            notes=tuple(self._notes()),
        )

    def _lines(self, node: Node) -> _Lines:
        known = facts(self.graph, node)
        name = called(self.signals, node)
        shifted = [axis for axis in known.axes if self._pattern(known, (axis.name,)) == "below"]
        chosen = tuple(shifted[:1]) or known.expansion
        along = tuple(axis.name for axis in chosen)
        size = None if any(axis.size is None for axis in chosen) else prod(axis.size or 1 for axis in chosen)
        shown: tuple[int | None, ...]
        if size is None:
            shown = (0, 1, None)
        elif shifted:
            shown = tuple(range(size)) if size <= 4 else (0, 1, None, size - 2, size - 1)
        else:
            shown = tuple(range(size)) if size <= 3 else (0, None, size - 1)
        first = int(node.attrs["read"] == "before") if shifted else 1
        return _Lines(known, name, along, shown, first)

    # The diagonal: where the entries of a state's own A stand.

    def _pattern(self, known: Facts, along: Collection[str]) -> str:
        """Whether A keeps the entries along some axes apart (`apart`), moves them down by one (`below`) or mixes them (`mixed`)."""
        a = known.node.role("A")
        return "apart" if a is None else self._moves(a, along)

    def _moves(self, name: str, along: Collection[str]) -> str:
        node = self.graph[name]
        if node.op == "op.shift":
            return "below" if node.attrs["axis"] in along else "apart"
        if node.op in ("op.dense", "op.outer", "op.rotate"):
            return "mixed" if node.attrs["over"] in along else "apart"
        if node.op == "op.diag":
            return "apart"
        moves = {self._moves(operand, along) for operand in node.inputs}
        if len(moves) == 1 and (node.op != "op.mul" or moves == {"apart"}):
            return moves.pop()
        return "below" if node.op == "op.mul" and moves == {"apart", "below"} else "mixed"

    def _own(self, state: _Lines, row: int, source: _Lines, column: int | None) -> Entry:
        """What a state keeps of itself."""
        if column is None:
            return Entry("⋯")
        if state is not source or state.known.structure.kind == "zero":
            return Entry("0")
        pattern = self._pattern(state.known, state.along)
        if pattern != "mixed" and row != column + (pattern == "below"):
            return Entry("0")
        a = state.node.role("A")
        if a is None or self.graph[a].op == "op.shift" or state.known.structure.kind == "identity":
            return Entry("1", Shade.FIXED)
        return Entry(self._letter(state, "A", row), state_box.shade(self.graph, state.known, "A"))

    # Beside it: what a state gives another.

    def _row(self, target: _Lines, row: int | None, source: _Lines) -> list[Entry]:
        """The entries of a row in the columns of a state. What takes the columns as a whole stands over all of them."""
        if row is None:
            return [Entry("⋱" if target is source and column is None else "⋮") for column in source.shown]
        way = self.ways[target.node.name].get(source.node.name)
        if target is source and self._pattern(target.known, target.along) == "mixed" and way is None:
            return [replace(self._own(target, row, source, row), span=len(source.shown))]
        if way is None or not self._enters(target, row):
            return [self._own(target, row, source, column) for column in source.shown]
        picked = self._picked(source, way)
        weighed = set(source.along) <= {axis.name for axis in source.known.contracted} and way.linear
        if picked is None and not weighed and target is not source and len(source.shown) > 1:
            return [Entry(*self._along(target, row, source, None, way), len(source.shown))]
        entries: list[Entry] = []
        for column in source.shown:
            own = self._own(target, row, source, column)
            if column is None or picked not in (None, column):
                entries.append(own)
                continue
            text, shade = self._along(target, row, source, column, way)
            entries.append(Entry(f"{own.text} + {text}", _later(own.shade, shade)) if own.shade else Entry(text, shade))
        return entries

    def _enters(self, target: _Lines, row: int) -> bool:
        """What enters a register enters its first slot, unless B says otherwise."""
        if row == 0 or self._pattern(target.known, target.along) != "below":
            return True
        b, first = self._b(target)
        return b is not None and not first and self._varies(b, target.along)

    def _b(self, target: _Lines) -> tuple[str | None, bool]:
        """B, if there is an input beside it, and whether it stands for the first slot alone; that is left out of it."""
        b = target.node.role("B")
        if b is None or target.node.role("x") is None:
            return None, False
        node = self.graph[b]
        if self._is_first(b, target.along):
            return None, True
        rest = [name for name in node.inputs if not self._is_first(name, target.along)]
        return (rest[0], True) if node.op == "mul" and len(rest) == 1 else (b, False)

    def _is_first(self, name: str, along: Collection[str]) -> bool:
        """Whether a value is 1 in the first slot and 0 in the others."""
        node = self.graph[name]
        condition = self.graph[node.inputs[0]] if node.op == "where" else node
        return condition.op == "eq" and any(
            self.graph[operand].op == "arange" and self.graph[operand].attrs["axis"] in along
            for operand in condition.inputs
        )

    def _picked(self, source: _Lines, way: coupling.Way) -> int | None:
        """The one slot that is read, if one is picked."""
        for name in way.nodes:
            node = self.graph[name]
            if node.op == "select" and node.attrs["axis"] in source.along:
                index = self.graph[node.inputs[1]]
                return int(index.attrs["value"]) if index.op == "const" else None
            if node.op not in THROUGH:
                break
        return None

    def _along(
        self, target: _Lines, row: int, source: _Lines, column: int | None, way: coupling.Way
    ) -> tuple[str, Shade]:
        """B times what the way makes of C, and what all of it depends on."""
        inner, shade = "", Shade.FIXED
        if source.node.role("C"):
            inner, shade = self._letter(source, "C", column), state_box.shade(self.graph, source.known, "C")
        text, held = self._made(target, source.node.name, way, inner)
        text, b = self._times_b(target, row, text)
        if len(text) > _LONGEST:
            text, _ = self._times_b(target, row, f"{self._entrance(target)}(·)")
        if source.node.attrs["read"] == "after":
            self.at_once = True
            text += "′"
        return text, _later(shade, held, b)

    def _times_b(self, target: _Lines, row: int, text: str) -> tuple[str, Shade]:
        name, _ = self._b(target)
        if name is None:
            return text or "1", Shade.FIXED
        b, sign = self._letter(target, "B", row, name), ""
        if text.startswith("−"):
            text, sign = text[1:].removeprefix("1"), "−"
        return sign + (f"{b}·{text}" if text else b), state_box.shade(self.graph, target.known, "B")

    def _entrance(self, target: _Lines) -> str:
        """What a state's input is called; it is told what it is."""
        self.bent = True
        entrance = coupling.entrance(target.node) or ""
        own = self.signals.symbol(entrance)
        self.told.called[entrance] = own or f"x of {target.name}"
        return own or "x"

    def _made(
        self, target: _Lines, source: str, way: coupling.Way, text: str, argument: str = "·"
    ) -> tuple[str, Shade]:
        """What the nodes of a way make of a value: products, and functions of it, of which the dot is the argument. Biases and
        other summands are left out."""
        shade, at, sign = Shade.FIXED, source, ""
        for name in way.nodes:
            node = self.graph[name]
            others = [operand for operand in node.inputs if operand != at]
            match node.op:
                case op if op in _STILL or (op == "sub" and at == node.inputs[0]):
                    pass
                case "neg" | "sub":
                    sign = "" if sign else "−"
                case "mul" | "dot" if others:
                    text = "·".join(filter(None, (self._factor(others[0]), text)))
                    shade = _later(shade, self._shade(target, others[0]))
                case "div" if at == node.inputs[0]:
                    text = f"{text or 1} / {self._factor(node.inputs[1])}"
                    shade = _later(shade, self._shade(target, node.inputs[1]))
                case "state":
                    d = node.role("D") or ""
                    text = "·".join(filter(None, (self.signals.symbol(d) or self._number(d) or "D", text)))
                    shade = _later(shade, self._shade(target, d))
                case "linear":
                    text = f"W·{text}" if text else "W"
                    shade = _later(shade, Shade.LEARNED)
                case op:
                    self.bent = True
                    inside = " ".join(filter(None, (sign + text, argument)))
                    text = f"{self._factor(node.inputs[0])} / {inside}" if op == "div" else f"{function(op)}({inside})"
                    sign = argument = ""
            at = name
        return sign + (text or "1" * bool(sign)), shade

    def _factor(self, name: str) -> str:
        own = self.signals.symbol(name)
        if own:
            self.told.called[name] = own
            return own
        text = written(self.signals, name, Told(), opened=True)
        if not 0 < len(text) <= _LONGEST:
            return "…"
        return f"({text})" if " " in text and not text.endswith(")") else text

    def _shade(self, target: _Lines, name: str) -> Shade:
        if name in (target.known.cycle or ()):
            return Shade.STATE
        dependence = self.graph[name].type.dependence
        if dependence is Dependence.CONSTANT:
            return Shade.FIXED if is_fixed(self.graph, name) else Shade.LEARNED
        return Shade.POSITION if dependence is Dependence.POSITION else Shade.INPUT

    # What comes from outside.

    def _input(self, state: _Lines) -> _Input | None:
        """The value from outside that a state sees, and its way; the most direct of several."""
        members = {one.node.name for one in self.states}
        ways = {name: way for name, way in self.ways[state.node.name].items() if name not in members}
        known = [self._called(leaf, way) for leaf, way in ways.items() if self.graph[leaf].op != "state"]
        known = known or [self._called(leaf, way) for leaf, way in ways.items()]
        if not known:
            return None
        best = min(known, key=lambda one: (not one.way.linear, len(one.way.nodes)))
        if self.signals.symbol(best.leaf):
            self.told.called[best.leaf] = best.name
        return replace(best, more=any(one.way.linear and one.name != best.name for one in known))

    def _called(self, leaf: str, way: coupling.Way) -> _Input:
        while self.signals.symbol(leaf) is None and (inner := self._behind(leaf)):
            way = coupling.Way((leaf, *way.nodes), way.linear)
            leaf = inner
        text = self.signals.symbol(leaf) or written(self.signals, leaf, Told(), opened=True)
        return _Input(text if 0 < len(text) <= _LONGEST else "x", leaf, way)

    def _behind(self, name: str) -> str | None:
        """The signal that a value is linear in, if there is one."""
        node = self.graph[name]
        live = [operand for operand in node.inputs if operand in self.signals.live]
        return live[0] if node.op in _STILL | {"linear", "mul", "neg"} and len(live) == 1 else None

    def _entering(self, state: _Lines, line: int | None, found: _Input | None, alone: bool) -> Entry:
        if line is None:
            return Entry("⋮")
        if found is None or not self._enters(state, line):
            return Entry("0")
        text, held = (
            self._made(state, found.leaf, found.way, "")
            if alone
            else self._made(state, found.leaf, found.way, found.name, "")
        )
        text, b = self._times_b(state, line, text)
        return Entry(text + " + …" * found.more, _later(held, b))

    # Words.

    def _letter(self, state: _Lines, role: str, line: int | None, part: str | None = None) -> str:
        """A coefficient, or the part of it that counts, by its name, as a number, or by its letter; with the line's number where it
        varies from line to line."""
        name = self._weight(part or state.node.role(role) or "")
        value = self.graph[name].inputs[0] if self.graph[name].op == "op.diag" else name
        index = state.index(line) if self._varies(value, state.along) else ""
        if number := self._number(value):
            return number
        own = None if self.graph[value].type.operator else self.signals.symbol(value)
        if own and len(own) <= _NAME:
            self.told.called[value] = own
            return own + index
        text = written(self.signals, name, Told(), opened=True)
        if text and not index and len(text) <= _NAME:
            return f"({text})" if " " in text else text
        return role + index

    def _number(self, name: str) -> str:
        return Formula(self.signals.names, {}).of(name) if self.graph[name].op == "const" else ""

    def _weight(self, name: str) -> str:
        """What an operator does to a value besides moving it."""
        node = self.graph[name]
        rest = [operand for operand in node.inputs if self.graph[operand].op != "op.shift"]
        return self._weight(rest[0]) if node.op == "op.mul" and len(rest) == 1 else name

    def _varies(self, name: str, along: Collection[str]) -> bool:
        """Whether a coefficient differs from line to line."""
        node = self.graph[name]
        if not node.type.operator:
            return bool(set(along) & set(node.type.names))
        return node.attrs.get("over") in along or any(self._varies(operand, along) for operand in node.inputs)

    def _notes(self) -> Iterator[str]:
        for state in self.states:
            said = [str(state.known.structure), state_box.words(state_box.shade(self.graph, state.known, "A"))]
            said = ["kept for one step"] if state.known.structure.kind == "zero" else said
            unit = f"a vector [{state.unit}]" if state.unit else "a number"
            rows = f"; for each {product(state.along)} {unit}" if state.along else ""
            yield f"{state.name} [{product(state.known.axes)}]: {' · '.join(said)}{rows}"
        if self.at_once:
            yield "′ reads the state of this step, H[t]; without it, that of the step before"
        if self.bent:
            yield "(·): a function; each column shows what it gives to the argument"
        yield from meanings(self.signals, self.told)


def _later(*shades: Shade) -> Shade:
    return max(shades, key=_SHADES.index)
