"""How a comparison is written as DOT: the shapes are those of every picture; colour and border say whose a thing is."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssir.diff.compare import Comparison
from ssir.diff.memories import COUNTING, Pair
from ssir.diff.merge import Joined, JoinedWire
from ssir.draw import dot
from ssir.draw.dot import BIG, NORMAL, SMALL, Markup, font, markup, text
from ssir.draw.picture import Box, Cell, Kind, Row, Wire

_PRODUCT = re.compile(r"[^\W\d]\w*(?:×[^\W\d]\w*)*")


@dataclass(frozen=True)
class Ink:
    """``quiet``: for small letters."""

    line: str
    words: str
    quiet: str
    fill: str
    style: str
    width: float


_INDENT = font("\u2003\u2002", NORMAL)
_SHORT = 24
_AND = " and "
_LINE = 110
BOTH = Ink("#b3b8c2", "#7b8291", "#9aa0ac", "#f6f7f8", "solid", 1.0)
SIDES = (
    Ink("#c2570c", "#a34400", "#a34400", "#fdebdd", "dashed", 1.6),
    Ink("#1f5fbf", "#17489b", "#17489b", "#e1ebfb", "solid", 2.0),
)
CHANGED = Ink("#1b2437", "#1b2437", "#6b7385", "#ffffff", "solid", 1.8)


class Notation:
    """Writes boxes, wires and the legend of a comparison."""

    def __init__(self, found: Comparison) -> None:
        self.names = (found.a.name, found.b.name) if found.a.name != found.b.name else ("the first", "the second")
        self.axes = _axes(found.pairs, found.setting.axes)

    # What is the same.

    def same(self, a: str, b: str) -> bool:
        """Whether two texts say the same, whatever axes are called."""
        return a == b or self._plain(a, 0) == self._plain(b, 1)

    def _plain(self, said: str, side: int) -> str:
        def one(match: re.Match[str]) -> str:
            names = set(match[0].split("×")) - self.axes[2]
            for i, pair in enumerate(zip(self.axes[0], self.axes[1], strict=True)):
                if pair[side] <= names:
                    names = (names - pair[side]) | {f"#{i}"}
            return "×".join(sorted(names))

        return _PRODUCT.sub(one, said)

    def changed(self, item: Joined) -> bool:
        """Whether something of a box that both have differs."""
        other = item.other
        if other is None:
            return False
        if item.kind is Kind.MEMORY:
            lines = any(self._cell_differs(item, cell.letter) for cell in item.cells)
            return lines or not self.same(item.note, other.note) or item.size != other.size
        noted = not item.note or not other.note or self.same(item.note, other.note)
        return not ("" in item.equal or item.label == other.label) or not noted

    def _cell_differs(self, item: Joined, letter: str) -> bool:
        mine, theirs = _cell(item, letter, item.letters), _cell(item.other, letter, None)
        if mine is None or theirs is None:
            return mine is not theirs and letter != "x"  # an input has no cell where no coefficient has a wire
        return not self._written_alike(item, mine, theirs) or not self.same(
            "\n".join(mine.words), "\n".join(theirs.words)
        )

    def _written_alike(self, item: Joined, a: Cell, b: Cell) -> bool:
        """Whether two coefficients are the same formula; one that the wires say is not written."""
        unsaid = bool(a.formula) != bool(b.formula) and a.letter in item.akin
        return a.letter in item.equal or a.formula == b.formula or unsaid

    # Text.

    def _both(self, a: str, b: str, size: int, quiet: str, same: bool | None = None) -> list[str]:
        """A text that both have once, two that differ under each other, each in its colour."""
        if same or (same is None and self.same(a, b)):
            return _lines(a or b, size, quiet)
        return [line for said, ink in zip((a, b), SIDES, strict=True) for line in _lines(said, size, ink.words)]

    def _note(self, a: str, b: str, quiet: str) -> list[str]:
        """What stands in small letters; axes that answer to each other, by both their names."""
        if a != b and a and b and self.same(a, b):
            said = [f"{a} / {b}"] if len(a) + len(b) <= _SHORT else [a, b]
            return [line for one in said for line in _lines(one, SMALL, quiet)]
        return self._both(a, b, SMALL, quiet)

    def _label(self, item: Joined, ink: Ink) -> str:
        other = item.other
        if other is None:
            lines = [font(_named(item), NORMAL + 1, ink.words)]
            lines += self._note(item.note, item.note, ink.quiet)
            return "<br/>".join(lines)
        if "" in item.equal or item.label == other.label:
            names = " / ".join(dict.fromkeys(filter(None, (item.name, other.name))))
            lines = [font(_named(item, names), NORMAL + 1, ink.words)]
        else:
            lines = [font(_named(one), NORMAL + 1, side.words) for one, side in zip((item, other), SIDES, strict=True)]
        return "<br/>".join([*lines, *self._note(item.note, other.note, ink.quiet)])

    # Boxes.

    def box(self, prefix: str, item: Box) -> str:
        name = f"{prefix}{item.key}"
        if not isinstance(item, Joined):
            return dot.box(prefix, item)
        ink = SIDES[item.side] if item.side is not None else CHANGED if self.changed(item) else BOTH
        if item.kind is Kind.PORT:
            said = dict.fromkeys((item.label, item.other.label if item.other else item.label))
            label = markup(f"<i>{font(text(' / '.join(said)), 13, ink.words)}</i>")
            return dot.node(name, shape="plaintext", margin="0.06,0.02", width=0, height=0, label=label)
        if item.kind is Kind.MEMORY:
            return dot.node(name, shape="plain", margin=0, label=self._memory(item, ink))
        style: dict[str, str | float] = {"color": ink.line, "penwidth": ink.width, "fillcolor": ink.fill}
        if item.kind is Kind.OPERATOR:
            sign = markup(font(text(item.label), 14, ink.words))
            styles = ",".join(filter(None, ("filled", ink.style * (ink.style != "solid"))))
            return dot.node(
                name, shape="circle", width=0.3, fixedsize="true", margin=0, label=sign, **style, style=styles
            )
        rounded = "rounded" if item.kind is Kind.FUNCTION else ""
        styles = ",".join(filter(None, (rounded, "filled", ink.style * (ink.style != "solid"))))
        label = markup(self._label(item, ink))
        return dot.node(name, shape="box", label=label, **style, style=styles)

    def _memory(self, item: Joined, ink: Ink) -> Markup:
        other = item.other or item
        name = " / ".join(dict.fromkeys((item.label, other.label)))
        core = [font(f"<b>{text(name)}</b>", NORMAL, ink.words), font("<b>z⁻¹</b>", BIG, ink.words)]
        core += self._note(item.note, other.note, ink.quiet)
        core += self._both(item.size, other.size, SMALL, ink.quiet)
        inside = "<br/>".join(core)
        border = 'border="3"' if ink.style == "solid" else 'border="3" style="dashed"'
        rows = [self._cell(item, cell.letter, ink) for cell in item.cells]
        if item.wired:
            rows[0] += (
                f'<td port="h" rowspan="{len(rows)}" bgcolor="{ink.fill}" {border} color="{ink.line}">{inside}</td>'
            )
        else:
            rows.insert(0, f'<td port="h" bgcolor="{ink.fill}" {border} color="{ink.line}">{inside}</td>')
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return markup(f'<table border="0" cellborder="1" cellspacing="0" cellpadding="4">{body}</table>')

    def _cell(self, item: Joined, letter: str, ink: Ink) -> str:
        mine = _cell(item, letter, item.letters)
        theirs = _cell(item.other, letter, None) if item.other else mine
        whose = ink if item.side is not None else BOTH
        if item.side is None and letter != "x" and (mine is None or theirs is None):
            whose = SIDES[0 if theirs is None else 1]
        elif item.side is None and self._cell_differs(item, letter):
            whose = CHANGED
        one, two = mine or theirs, theirs or mine
        assert one is not None and two is not None
        first = font(f"<b>{text(letter)}</b>", NORMAL, whose.words)
        same = one is two or self._written_alike(item, one, two)
        said = one.formula
        if same and one.formula != two.formula and len(one.formula + two.formula) <= _SHORT:
            said = " / ".join(filter(None, (one.formula, two.formula)))
        formulas = self._both(said, two.formula, NORMAL, whose.words, same)
        lines = [f"{first}  {formulas[0]}", *(f"{_INDENT}{line}" for line in formulas[1:])] if formulas else [first]
        for i in range(max(len(one.words), len(two.words))):
            lines += self._both("".join(one.words[i : i + 1]), "".join(two.words[i : i + 1]), SMALL, whose.quiet)
        if len(lines) > 1 and lines[0] == first:
            lines[:2] = [f"{first}  {lines[1]}"]
        inner = "".join(f'{line}<br align="left"/>' for line in lines) if len(lines) > 1 else lines[0]
        style = ' style="dashed"' if whose.style != "solid" else ""
        return (
            f'<td port="{text(letter)}" bgcolor="{whose.fill}" color="{whose.line}" border="1"{style} align="left" '
            f'balign="left">{inner}</td>'
        )

    # Wires.

    def wire(self, prefix: str, item: Wire, row: Row) -> str:
        side = item.side if isinstance(item, JoinedWire) else None
        ink = BOTH if side is None else SIDES[side]
        width = (2.2 if item.main else 1.0) + (0.4 if side is not None else 0)
        return dot.wire(prefix, item, row, color=ink.line, fontcolor=ink.quiet, penwidth=width, style=ink.style)

    # The legend.

    def legend(self, rows: Sequence[Row]) -> Markup:
        boxes = [item for row in rows for item in row.boxes.values() if isinstance(item, Joined)]
        sides = {item.side for item in boxes} | {w.side for row in rows for w in row.wires if isinstance(w, JoinedWire)}
        entries = []
        if None in sides:
            entries.append(_swatch(BOTH, "in both"))
        entries += [_swatch(SIDES[side], f"{self.names[side]} alone") for side in (0, 1) if side in sides]
        if any(item.side is None and self.changed(item) for item in boxes):
            entries.append(_swatch(CHANGED, f"changed: above {self.names[0]}, below {self.names[1]}"))
        return dot.swatches(entries)

    def heading(self, title: str, *below: str) -> Markup:
        """The names of the two in their colours; under them what makes one state the other, and what is meant by names."""
        words = [font(f"<b>{text(one)}</b>", 16, self._colour(one)) for one in title.split(_AND)]
        rows = [font(" and ", NORMAL, BOTH.words).join(words)]
        rows += [
            font(text(line), NORMAL + 1) for part in "\n".join(below).split("\n") for line in textwrap.wrap(part, _LINE)
        ]
        cells = "".join(f'<tr><td align="left">{row}</td></tr>' for row in rows)
        return markup(f'<table border="0" cellborder="0" cellspacing="0" cellpadding="1">{cells}</table>')

    def _colour(self, title: str) -> str:
        """That of the one whose part is called so."""
        own = [side for side in (0, 1) if title.partition(" · ")[0] == self.names[side]]
        return SIDES[own[0]].words if len(own) == 1 else dot.INK


def _lines(said: str, size: int, colour: str) -> list[str]:
    return [font(text(line), size, colour) for line in said.split("\n") if line]


def _swatch(ink: Ink, meaning: str) -> str:
    border = 'border="2"' + (f' style="{ink.style}"' if ink.style != "solid" else "")
    return dot.swatch(f'bgcolor="{ink.fill}" color="{ink.line}" {border}', meaning)


def _named(item: Box, names: str | None = None) -> str:
    name = item.name if names is None else names
    return f"<i>{text(name)}</i> = {text(item.label)}" if name else text(item.label)


def _cell(item: Box | None, letter: str, only: frozenset[str] | None) -> Cell | None:
    """The cell of a letter, if the box has it by itself."""
    if item is None or (only is not None and letter not in only):
        return None
    return next((cell for cell in item.cells if cell.letter == letter), None)


def _axes(
    pairs: Sequence[Pair], known: Mapping[str, str]
) -> tuple[list[frozenset[str]], list[frozenset[str]], frozenset[str]]:
    """Axes that answer to each other, the larger groups first, and those of size 1."""
    found = {frozenset({mine}): frozenset({theirs}) for mine, theirs in known.items()}
    taken = (set(known), set(known.values()))
    for pair in sorted(pairs, key=lambda pair: pair.a.kind not in COUNTING):
        for mine, theirs in pair.axes.items():
            if not mine & taken[0] and not theirs & taken[1]:
                found[mine] = theirs
                taken[0].update(mine)
                taken[1].update(theirs)
    order = sorted(found, key=lambda one: (-len(one) - len(found[one]), sorted(one)))
    single = {axis.name for pair in pairs for one in (pair.a, pair.b) for axis in one.facts.axes if axis.size == 1}
    return order, [found[one] for one in order], frozenset(single - taken[0] - taken[1])
