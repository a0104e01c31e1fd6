"""How wide text and rows come out, before anything is laid out: a page has a width, and fonts differ from machine to machine.

Estimates err on the wide side (DejaVu Sans, which stands in where there is no Helvetica).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ssir.draw.path import depths
from ssir.draw.picture import Box, Kind, Row

PAGE = 18.5  # inches: a page across, at the size at which the small letters have 9 points
NORMAL, SMALL = 12, 9
_GAP = 0.3
_OVER = 1.15  # a line that is a little too wide reads better than two
_NARROW = frozenset("iljtfrI.,·;:|()[]' ⁻¹")


def text(value: str, size: float) -> float:
    """The width of a line in inches."""
    ems = sum(0.36 if c in _NARROW else 0.66 for c in value)
    return ems * size / 72


def box(item: Box) -> float:
    """The width of a box in inches."""
    if item.kind is Kind.OPERATOR:
        return 0.3
    label = f"{item.name} = {item.label}" if item.name else item.label
    width = (
        max(text(label, NORMAL), *(text(line, SMALL) for line in item.note.split(chr(10))), text(item.size, SMALL))
        + 0.2
    )
    if item.kind is Kind.MEMORY:
        beside = cells(item)
        width = width + beside if item.wired else max(width, beside)
    return width


def cells(item: Box) -> float:
    """The width of the coefficients of a memory."""
    lines = [(f"{c.letter}  {c.formula}" if c.formula else f"{c.letter}  {(*c.words, '')[0]}", 11) for c in item.cells]
    lines += [(words, SMALL) for c in item.cells for words in c.words]
    return max((text(line, size) for line, size in lines), default=0) + 0.15


def row(item: Row) -> float:
    """The width of a row in inches: its columns, and what stands on the wires between them."""
    return sum(_columns(item, depths(item)))


def _columns(item: Row, depth: dict[str, int]) -> list[float]:
    width = [0.0] * (max(depth.values(), default=0) + 1)
    for key, at in depth.items():
        width[at] = max(width[at], box(item.boxes[key]))
    label = [0.0] * len(width)
    for wire in item.wires:
        if wire.said and not wire.back:
            at = depth[wire.tail]
            label[at] = max(label[at], text(wire.said, SMALL))
    return [w + after + _GAP for w, after in zip(width, label, strict=True)]


def broken(item: Row, page: float = PAGE) -> list[Row]:
    """A row as lines that fit a page. A line ends where the fewest signals cross; a number says where each goes on."""
    depth = depths(item)
    columns = _columns(item, depth)
    if sum(columns) <= page * _OVER or len(columns) < 4:
        return [item]
    best = min(range(1, len(columns) - 2), key=lambda at: (_cost(item, depth, columns, at), at))
    first, second = _cut(item, {key for key, at in depth.items() if at <= best})
    return [first, *broken(second, page)]


def _cost(item: Row, depth: dict[str, int], columns: Sequence[float], at: int) -> float:
    crossing = {wire.tail for wire in item.wires if (depth[wire.tail] <= at) != (depth[wire.head] <= at)}
    left, right = sum(columns[: at + 1]), sum(columns[at + 1 :])
    framed = any(len({depth[key] <= at for key in group.keys}) > 1 for group in item.groups)
    short = min(left, right) / (left + right) < 0.25
    return (
        len(crossing)
        + 4 * short
        + 100 * framed
        + 10 * (max(left, right) > PAGE)
        + 6 * (max(left, right) / (left + right)) ** 2
    )


def _cut(item: Row, left: set[str]) -> tuple[Row, Row]:
    rows = (
        replace(item, boxes={k: b for k, b in item.boxes.items() if k in left}, wires=[]),
        replace(
            item,
            title="",
            subtitle="",
            where=(),
            boxes={k: b for k, b in item.boxes.items() if k not in left},
            wires=[],
        ),
    )
    marks: dict[str, str] = {}
    for wire in item.wires:
        here, there = int(wire.tail not in left), int(wire.head not in left)
        if here == there:
            rows[here].wires.append(wire)
            continue
        if wire.tail not in marks:
            marks[wire.tail] = mark = chr(0x2460 + item.cuts + len(marks))
            rows[here].add(Box(f"to {mark}", Kind.PORT, mark))
            rows[here].wires.append(replace(wire, head=f"to {mark}", cell="", label="", sign="", back=False))
        mark = marks[wire.tail]
        if f"from {mark}" not in rows[there].boxes:
            rows[there].boxes = {f"from {mark}": Box(f"from {mark}", Kind.PORT, mark), **rows[there].boxes}
        rows[there].wires.append(replace(wire, tail=f"from {mark}"))
        if wire.main:
            rows[here].wires = [replace(w, main=True) if w.head == f"to {mark}" else w for w in rows[here].wires]
    for part in rows:
        part.cuts = item.cuts + len(marks)
        part.groups = [group for group in item.groups if group.keys[0] in part.boxes]
        part.aligned = part.aligned if part.aligned in part.boxes else None
    return rows
