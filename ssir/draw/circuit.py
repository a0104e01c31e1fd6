"""One state-space node as signal-processing people draw it: A in the feedback, D in parallel, a shift register as a tapped line.

Boxes stand at fixed places, so that wires are straight and turn at right angles.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from ssir.draw import dot, measure
from ssir.draw.maths import Maths
from ssir.draw.picture import Shade
from ssir.draw.words import subscript

_GAP, _UP, _DOWN = 0.42, 0.85, 1.0
_CIRCLE = 0.3
_MOST_TAPS = 4


@dataclass(frozen=True)
class Coefficient:
    """``words``: its structure or its axes, and what it depends on. ``tree``: its formula however long, None where that would say nothing."""

    letter: str
    formula: str
    words: str
    shade: Shade
    tree: Maths | None = None


@dataclass(frozen=True)
class System:
    """What a diagram of a state says; ``stands`` are the nodes of the graph that it stands for. ``slots``: of a shift register, None where they grow; ``taps``: the words for its C."""

    title: str
    equation: str
    x: tuple[str, str]
    y: tuple[str, str]
    memory: tuple[str, ...]
    coefficients: dict[str, Coefficient]
    before: bool = False
    register: bool = False
    slots: int | None = None
    maximum: bool = False
    where: tuple[str, ...] = ()
    node: str = ""
    stands: frozenset[str] = frozenset()

    @property
    def shades(self) -> set[Shade]:
        return {c.shade for c in self.coefficients.values() if not (self.register and c.letter == "A")}


@dataclass
class Sheet:
    """Nodes at places and wires between them, in inches; y grows upwards."""

    prefix: str
    top: float = 0.0
    lines: list[str] = field(default_factory=list)
    wires: list[str] = field(default_factory=list)
    bottom: float = 0.0
    count: int = 0

    def place(self, x: float, y: float, **values: str | float) -> str:
        name = f"{self.prefix}{self.count}"
        self.count += 1
        self.lines.append(dot.node(name, pos=f"{x:.3f},{self.top + y:.3f}!", **values))
        self.bottom = min(self.bottom, y)
        return dot.quoted(name)

    def dot(self, x: float, y: float) -> str:
        return self.place(x, y, shape="point", width=0.06, color=dot.LINE, label=" ")

    def corner(self, x: float, y: float) -> str:
        return self.place(x, y, shape="point", width=0.012, color=dot.LINE, label=" ")

    def circle(self, x: float, y: float, sign: str = "+") -> str:
        label = dot.markup(dot.font(dot.text(sign), 14 if len(sign) == 1 else dot.SMALL))
        return self.place(
            x, y, shape="circle", width=_CIRCLE if len(sign) == 1 else 0.42, fixedsize="true", margin=0, label=label
        )

    def words(
        self, x: float, y: float, lines: list[tuple[str, int, str]], bold: bool = False, italic: bool = False
    ) -> str:
        """Lines of text that start at x."""
        wide = max(measure.text(line, size) for line, size, _ in lines) * 1.12
        rows = ""
        for i, (line, size, colour) in enumerate(lines):
            inner = dot.text(line)
            inner = f"<b>{inner}</b>" if bold and i == 0 else f"<i>{inner}</i>" if italic else inner
            rows += f'<tr><td align="left" width="{72 * wide:.0f}">{dot.font(inner, size, colour)}</td></tr>'
        table = dot.markup(f'<table border="0" cellborder="0" cellspacing="0" cellpadding="1">{rows}</table>')
        return self.place(x + wide / 2, y, shape="plain", label=table)

    def port(self, x: float, y: float, label: str, axes: str) -> str:
        shown = f"<i>{dot.font(dot.text(label), 13)}</i>" + (
            f"<br/>{dot.font(dot.text(axes), dot.SMALL, dot.GREY)}" if axes else ""
        )
        return self.place(x, y, shape="plaintext", margin="0.05,0.03", width=0, height=0, label=dot.markup(shown))

    def box(
        self,
        x: float,
        y: float,
        width: float,
        inner: str,
        fill: str,
        colour: str,
        style: str = "solid",
        pen: float = 1.2,
        role: str = "h",
    ) -> str:
        """A box; its class in SVG says what role of the state it has."""
        height = 0.52
        drawn = "filled" if style in ("solid", "bold") else f"filled,{style}"
        values: dict[str, str | float] = {
            "style": drawn,
            "fillcolor": fill,
            "color": colour,
            "penwidth": pen,
            "width": f"{width:.3f}",
            "height": height,
            "class": f"role-{role}",
        }
        return self.place(x, y, shape="box", margin="0.06,0.04", label=dot.markup(inner), **values)

    def wire(self, *stops: str, arrow: bool = True) -> None:
        for i, (tail, head) in enumerate(pairwise(stops)):
            last = arrow and i == len(stops) - 2
            self.wires.append(dot.edge(tail, head, arrowhead="normal" if last else "none"))


def _inner(c: Coefficient) -> str:
    first = f"<b>{dot.text(c.letter)}</b>" + (f"  {dot.text(c.formula)}" if c.formula else "")
    return f"{dot.font(first, 12)}<br/>{dot.font(dot.text(c.words), dot.SMALL, dot.GREY)}"


def _width(c: Coefficient) -> float:
    return max(measure.text(f"{c.letter}  {c.formula}", 12), measure.text(c.words, dot.SMALL)) + 0.2


def _coefficient(sheet: Sheet, x: float, y: float, c: Coefficient) -> str:
    fill, colour, style = dot.SHADES[c.shade]
    return sheet.box(x, y, _width(c), _inner(c), fill, colour, style, 2.2 if style == "bold" else 1.2, c.letter)


def _memory(sheet: Sheet, x: float, y: float, lines: tuple[str, ...]) -> str:
    inner = dot.font("<b>z⁻¹</b>", 16) + "".join(
        f"<br/>{dot.font(dot.text(line), dot.SMALL, dot.GREY)}" for line in lines
    )
    return sheet.box(x, y, _memory_width(lines), inner, dot.MEMORY, dot.LINE, pen=2.6)


def _memory_width(lines: tuple[str, ...]) -> float:
    return max([0.7, *(measure.text(line, dot.SMALL) + 0.2 for line in lines)])


def draw(system: System, prefix: str, top: float) -> tuple[list[str], float]:
    """The DOT of one diagram, and the height that it takes."""
    sheet = Sheet(prefix, top)
    sheet.words(0, 0, [(system.title, 16, dot.INK), (system.equation, 12, dot.INK)], bold=True)
    sheet.top -= 0.75 + (_UP if "D" in system.coefficients and not system.register else 0.25)
    told = [*(_register(sheet, system) if system.register else _loop(sheet, system)), *system.where]
    if told:
        half = 0.09 * len(told)
        sheet.words(0, sheet.bottom - 0.4 - half, [(line, 10, dot.GREY) for line in told])
        sheet.bottom -= half
    return [*sheet.lines, *sheet.wires], top - (sheet.top + sheet.bottom) + 0.85


def _loop(sheet: Sheet, system: System) -> list[str]:
    known = system.coefficients
    a, b, c, d = (known.get(letter) for letter in "ABCD")
    wide = _port_width(system.x)
    start = sheet.port(wide / 2, 0, *system.x)
    at = begin = wide + 0.2
    split, last = None, start
    if d:
        split = sheet.dot(at, 0)
        sheet.wire(start, split, arrow=False)
        last, at = split, at + 0.1
    if b:
        at += _GAP + _width(b) / 2
        box = _coefficient(sheet, at, 0, b)
        sheet.wire(last, box)
        last, at = box, at + _width(b) / 2
    wide = _memory_width(system.memory)
    looped = a is not None
    at += _GAP
    plus_at = at
    plus = ""
    if a:
        plus = sheet.circle(at, 0, "max" if system.maximum else "+")
        sheet.wire(last, plus)
        last = plus
    if system.before:
        at += _GAP + wide / 2 + (max(0.0, _width(a) - wide) / 2 if a else 0)
        memory = _memory(sheet, at, 0, system.memory)
        sheet.wire(last, memory)
        middle, last, at = at, memory, at + wide / 2 + _GAP
        tap = sheet.dot(at + (max(0.0, _width(a) - wide) / 2 if a else 0), 0) if looped else memory
        if a:
            at += max(0.0, _width(a) - wide) / 2
            sheet.wire(last, tap, arrow=False)
            corner = sheet.corner(at, -_DOWN)
            box = _coefficient(sheet, middle, -_DOWN, a)
            sheet.wire(tap, corner, box)
            turn = sheet.corner(plus_at, -_DOWN)
            sheet.wire(box, turn, plus)
            last = tap
    elif a:
        room = wide + _width(a) + 3 * _GAP
        tap_at = plus_at + room
        tap = sheet.dot(tap_at, 0)
        sheet.wire(plus, tap, arrow=False)
        memory = _memory(sheet, tap_at - _GAP - wide / 2, -_DOWN, system.memory)
        corner = sheet.corner(tap_at, -_DOWN)
        sheet.wire(tap, corner, memory)
        box = _coefficient(sheet, plus_at + _GAP + _width(a) / 2, -_DOWN, a)
        turn = sheet.corner(plus_at, -_DOWN)
        sheet.wire(memory, box)
        sheet.wire(box, turn, plus)
        last, at = tap, tap_at
    if c:
        at += _GAP + _width(c) / 2
        box = _coefficient(sheet, at, 0, c)
        sheet.wire(last, box)
        last, at = box, at + _width(c) / 2
    if d and split:
        at += _GAP
        total = sheet.circle(at, 0)
        sheet.wire(last, total)
        over = _coefficient(sheet, at / 2 + 0.4, _UP, d)
        sheet.wire(split, sheet.corner(begin, _UP), over)
        sheet.wire(over, sheet.corner(at, _UP), total)
        last = total
    out = sheet.port(at + 0.4 + _port_width(system.y) / 2, 0, *system.y)
    sheet.wire(last, out)
    return []


def _port_width(port: tuple[str, str]) -> float:
    return max(measure.text(port[0], 13), measure.text(port[1], dot.SMALL)) + 0.12


def _tap(sheet: Sheet, x: float, letter: str, c: Coefficient) -> str:
    fill, colour, style = dot.SHADES[c.shade]
    return sheet.box(
        x, -_DOWN + 0.1, 0.5, dot.font(f"<b>{dot.text(letter)}</b>", 12), fill, colour, style, role=c.letter
    )


def _register(sheet: Sheet, system: System) -> list[str]:
    """x → • → z⁻¹ → • → z⁻¹ → ...: each slot is tapped, weighed by its C, and the taps are summed; without C they are read whole.
    Taps are counted by the steps since their input entered."""
    b, c, d = (system.coefficients.get(letter) for letter in "BCD")
    slots = system.slots
    shown: list[str] = [str(i) for i in range(slots)] if slots is not None and slots <= _MOST_TAPS else ["0", "1", "2"]
    if slots is not None and slots > _MOST_TAPS:
        shown += ["…", str(slots - 1)]
    step = 1.3
    wide = _port_width(system.x)
    last = sheet.port(wide / 2, 0, *system.x)
    at, sums = wide + 0.3, ""
    low = -2 * _DOWN + 0.1
    beside = d is not None and c is not None and system.before  # the newest input has a tap of its own
    if d and beside:
        tap, weight, sums = sheet.dot(at, 0), _tap(sheet, at, "D", d), sheet.corner(at, low)
        sheet.wire(last, tap, arrow=False)
        sheet.wire(tap, weight)
        sheet.wire(weight, sums, arrow=False)
        last = tap
    if b:
        at += 0.2 + _width(b) / 2
        box = _coefficient(sheet, at, 0, b)
        sheet.wire(last, box)
        last, at = box, at + _width(b) / 2 + 0.3
    for i, slot in enumerate(shown):
        if i or system.before:
            if slot == "…":
                more = sheet.words(at + 0.35, 0, [("⋯", 18, dot.LINE)])
                sheet.wire(last, more, arrow=False)
                last, at = more, at + 0.9
                continue
            delay = sheet.box(at + step / 2, 0, 0.6, dot.font("<b>z⁻¹</b>", 15), dot.MEMORY, dot.LINE, pen=2.6)
            sheet.wire(last, delay)
            last, at = delay, at + step
        tap = sheet.dot(at, 0)
        sheet.wire(last, tap, arrow=False)
        last = tap
        below = tap
        if c:
            below = _tap(sheet, at, f"C{subscript(int(slot) + system.before)}", c)
            sheet.wire(tap, below)
        if not sums:
            turn = sheet.corner(at, low)
            sheet.wire(below, turn, arrow=False)
            sums = turn
        else:
            plus = sheet.circle(at, low) if c else sheet.dot(at, low)
            sheet.wire(below, plus, arrow=bool(c))
            sheet.wire(sums, plus, arrow=bool(c))
            sums = plus
    if slots is None:
        more = sheet.words(at + 0.35, 0, [("⋯", 18, dot.LINE)])
        sheet.wire(last, more, arrow=False)
    if d and not beside:
        at += 0.6
        sheet.words(at, -_DOWN / 2, [(f"+ D x, D: {d.words}", 10, dot.GREY)])
    sheet.wire(sums, sheet.port(at + 0.8 + _port_width(system.y) / 2, low, *system.y))
    told = [*system.memory]
    if d and beside:
        told.append(f"D = {d.formula}: {d.words}" if d.formula else f"D: {d.words}")
    if c:
        told.append(f"C = {c.formula}: {c.words}" if c.formula else f"C: {c.words}")
    else:
        told.append("read whole: the slots are an axis of y")
    return told
