"""A matrix of blocks as a table: the joint state before and after, the transition between brackets, and the input."""

from __future__ import annotations

from collections.abc import Iterator

from ssir.draw import dot, measure
from ssir.draw.circuit import Sheet
from ssir.draw.joint import Entry, Joint

_HIGH, _LINE, _SPACE = 24, 6, 2  # points: a row, what is between blocks, what is between cells
_TEXT = 12


def draw(joint: Joint, prefix: str, top: float) -> tuple[list[str], float]:
    """The DOT of one matrix, and the height that it takes in inches."""
    sheet = Sheet(prefix, top)
    sheet.words(0, 0, [(joint.title, 16, dot.INK), (joint.equation, 12, dot.INK)], bold=True)
    table = _Table(joint)
    wide, high = table.wide / 72, table.high / 72
    sheet.place(wide / 2, -0.5 - high / 2, shape="plain", margin=0, label=dot.markup(table.markup()))
    below = 0.5 + high + 0.25
    half = 0.09 * len(joint.notes)
    sheet.words(0, -below - half, [(line, 10, dot.GREY) for line in joint.notes])
    return sheet.lines, below + 2 * half + 0.6


class _Table:
    """Columns: the state after, =, the matrix, the state before, + , B, x. Cells have given sizes, so that the whole has."""

    def __init__(self, joint: Joint) -> None:
        self.joint = joint
        self.entering = max(_points(entry.text) for entry in joint.entering)
        self.after = max(_points(f"{row}[t]") for row in joint.rows)
        self.before = max(_points(f"{row}[t−1]") for row in joint.rows)
        self.starts = [sum(joint.lines[:i]) for i in range(len(joint.lines))]
        self.columns = self._widths()
        self.tall = len(joint.rows) + len(joint.lines) - 1

    def _widths(self) -> list[float]:
        """Of the columns of the matrix; what stands over several widens them all."""
        joint = self.joint
        spans = list(zip(self.starts, joint.lines, joint.names, strict=True))
        for row in joint.matrix:
            at = 0
            for entry in row:
                spans.append((at, entry.span, entry.text))
                at += entry.span
        widths = [_points("0")] * len(joint.rows)
        for at, span, text in sorted(spans, key=lambda one: one[1]):
            lacking = max(0.0, _points(text) - sum(widths[at : at + span]))
            for column in range(at, at + span):
                widths[column] += lacking / span
        return widths

    @property
    def wide(self) -> float:
        between = _LINE * (len(self.joint.lines) - 1)
        signs = 8 * _LINE + 2 * 16 + 4 + _points(self.joint.x)
        cells = [*self.columns, self.entering, self.after, self.before]
        return sum(cells) + between + signs + _SPACE * (len(self.columns) + len(self.joint.lines) + 18)

    @property
    def high(self) -> float:
        rows = len(self.joint.rows)
        return 28 + rows * _HIGH + (len(self.joint.lines) - 1) * _LINE + _SPACE * (self.tall + 4)

    def markup(self) -> str:
        rows = "".join(f"<tr>{row}</tr>" for row in self._rows())
        return f'<table border="0" cellborder="0" cellspacing="{_SPACE}" cellpadding="0">{rows}</table>'

    def _rows(self) -> Iterator[str]:
        yield "".join(
            [_blank(5), _heading("A", self.tall), _blank(7), _heading("B" if self.joint.x else "B x", 1), _blank(2)]
        )
        yield self._names()
        for i, row in enumerate(self.joint.rows):
            if i and i in self.starts:
                yield self._between()
            yield self._row(i, row)

    def _names(self) -> str:
        """The states over their columns."""
        cells = [_blank(5)]
        for i, (name, lines) in enumerate(zip(self.joint.names, self.joint.lines, strict=True)):
            cells += [_blank(1)] if i else []
            cells.append(_heading(name, lines))
        return "".join([*cells, _blank(10)])

    def _row(self, i: int, name: str) -> str:
        joint, first = self.joint, i == 0
        cells = [self._bracket("left") if first else "", _vector(name, "[t]", self.after)]
        cells += [self._bracket("right"), self._sign("="), self._bracket("left")] if first else []
        at = 0
        for entry in joint.matrix[i]:
            if at and at in self.starts and first:
                cells.append(_line("L", width=_LINE, rowspan=self.tall))
            cells.append(_entry(entry, sum(self.columns[at : at + entry.span])))
            at += entry.span
        cells += [self._bracket("right"), self._sign(" "), self._bracket("left")] if first else []
        cells.append(_vector(name, "[t−1]", self.before))
        cells += [self._bracket("right"), self._sign("+"), self._bracket("left")] if first else []
        cells.append(_entry(joint.entering[i], self.entering))
        cells += [self._bracket("right"), self._sign(joint.x, italic=True)] if first else []
        return "".join(cells)

    def _between(self) -> str:
        """A line between blocks."""
        cells = [_blank(1, _LINE)]
        cells += [_line("T", height=_LINE, colspan=lines) for lines in self.joint.lines]
        return "".join([*cells, _blank(1, _LINE), _blank(1, _LINE)])

    def _bracket(self, side: str) -> str:
        return _line("LTB" if side == "left" else "TRB", width=_LINE, rowspan=self.tall, border=2, color=dot.INK)

    def _sign(self, sign: str, italic: bool = False) -> str:
        inner = dot.text(sign)
        wide = 4 if sign == " " else max(16, _points(sign))
        shown = dot.font(f"<i>{inner}</i>" if italic else inner, 13 if italic else 16)
        return f'<td rowspan="{self.tall}" width="{wide:.0f}">{shown}</td>'


def _points(value: str) -> float:
    return 72 * measure.text(value, _TEXT) + 12


def _blank(columns: int, height: float = 1) -> str:
    return f'<td colspan="{columns}" height="{height:.0f}"></td>'


def _heading(words: str, columns: int) -> str:
    return f'<td colspan="{columns}" height="14">{dot.font(f"<b>{dot.text(words)}</b>", 10, dot.GREY)}</td>'


def _line(sides: str, **values: str | int) -> str:
    given = {"border": 1, "color": dot.QUIET, **values}
    return f'<td sides="{sides}" {" ".join(f"{key}={dot.quoted(str(value))}" for key, value in given.items())}></td>'


def _vector(name: str, when: str, wide: float) -> str:
    inner = dot.text(name) if name == "⋮" else f"<i>{dot.text(name)}</i>{dot.text(when)}"
    return f'<td width="{wide:.0f}" height="{_HIGH}">{dot.font(inner, _TEXT)}</td>'


def _entry(entry: Entry, wide: float) -> str:
    inner = dot.font(dot.text(entry.text), _TEXT, dot.INK if entry.shade else dot.QUIET)
    size = {"width": f"{wide:.0f}", "height": str(_HIGH), "colspan": str(entry.span)}
    if entry.shade is None:
        return f"<td {' '.join(f'{key}={dot.quoted(value)}' for key, value in size.items())}>{inner}</td>"
    return dot.table_cell(inner, entry.shade, "", width=size["width"], height=size["height"], colspan=size["colspan"])
