"""The pictures, level by level, from rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from ssir.draw import dot, measure
from ssir.draw.path import depth_of, first_port
from ssir.draw.picture import Box, Cell, Kind, Row, Wire


class Notation(Protocol):
    """How boxes and wires are written as DOT, and what the legend says of them."""

    def box(self, prefix: str, item: Box) -> str: ...

    def wire(self, prefix: str, item: Wire, row: Row) -> str: ...

    def heading(self, title: str, *below: str) -> dot.Markup: ...

    def legend(self, rows: Sequence[Row]) -> dot.Markup: ...


def rows_picture(rows: Sequence[Row], title: str | None, aligned: bool = True, notation: Notation = dot) -> str:
    """One row under another: with their memories in one column, or each broken into lines where it is wider than a page."""
    column = 0
    if aligned and len(rows) > 1:
        rows = _compared([compact(row) for row in rows])
        column = max(map(depth_of, rows)) + 1
    else:
        lines = [measure.broken(row) for row in rows]
        rows = [line for parts in lines for line in parts]
        if len(rows) > len(lines):
            rows = [compact(row) for row in rows]
    body = [line for i, row in enumerate(rows) for line in _cluster(row, i, notation)]
    if len(rows) > 1:
        body += _stacked(rows, column)
    if title:
        label = dot.attributes(label=dot.heading(title), labelloc="t", labeljust="l", penwidth=0)
        body = ["subgraph cluster_all {", f"  graph {label};", *(f"  {line}" for line in body), "}"]
    return dot.document(
        body,
        rankdir="LR",
        nodesep=0.34,
        ranksep=0.26,
        splines="spline",
        label=notation.legend(rows),
        labelloc="b",
        labeljust="l",
    )


def compact(row: Row) -> Row:
    """Axes under the boxes instead of on the wires: rows in common columns have no room to spare."""
    boxes, wires = dict(row.boxes), list(row.wires)
    for i, wire in enumerate(wires):
        tail = boxes[wire.tail]
        if wire.label and tail.kind is not Kind.OPERATOR:
            if wire.label not in tail.note:
                out = f"\n→ {wire.label}" if tail.kind is Kind.MEMORY else f" → {wire.label}"
                boxes[wire.tail] = replace(tail, note=(tail.note + out).removeprefix(" → "))
            wires[i] = replace(wire, label="")
    return replace(row, boxes=boxes, wires=wires)


def _cluster(row: Row, index: int, notation: Notation) -> list[str]:
    prefix = f"{index}."
    lines = [f"subgraph cluster_{index} {{"]
    lines.append(
        f"  graph {dot.attributes(label=notation.heading(row.title, row.subtitle, *row.where), labelloc='t', labeljust='l', penwidth=0, margin=10)};"
    )
    lines += [f"  {notation.box(prefix, box)}" for box in row.boxes.values()]
    lines += [f"  {notation.wire(prefix, wire, row)}" for wire in row.wires]
    for i, group in enumerate(row.groups):
        label = dot.attributes(
            label=group.label,
            labelloc="b",
            labeljust="r",
            style="rounded,dashed",
            color=dot.LINE,
            penwidth=1.2,
            fontsize=13,
            margin=10,
        )
        members = "; ".join(dot.quoted(prefix + key) for key in group.keys)
        lines += [f"  subgraph cluster_{index}_{i} {{", f"    graph {label};", f"    {members};", "  }"]
    return [*lines, "}"]


def _stacked(rows: Sequence[Row], column: int) -> list[str]:
    """Invisible anchors keep the rows in order, and hold each row's memory at the common column."""
    lines = [dot.node(f"row {i}", shape="point", width=0, style="invis", label=" ") for i in range(len(rows))]
    chain = " -> ".join(dot.quoted(f"row {i}") for i in range(len(rows)))
    lines.append(f"{{ rank=same; {chain} {dot.attributes(style='invis')}; }}")
    for i, row in enumerate(rows):
        held = row.aligned if column else first_port(row)
        if held:
            lines.append(
                dot.edge(
                    dot.quoted(f"row {i}"), dot.quoted(f"{i}.{held}"), style="invis", minlen=column or 1, weight=100
                )
            )
    return lines


def _compared(rows: Sequence[Row]) -> list[Row]:
    """The aligned memories with what differs between them marked."""
    cores = [row.boxes[row.aligned] for row in rows if row.aligned]
    if len(cores) < 2:
        return list(rows)
    said = {letter: {_words(core, letter) for core in cores} for letter in "ABCD"}
    sizes = {core.size for core in cores}
    left = max(measure.cells(core) for core in cores if core.wired) if any(core.wired for core in cores) else 0
    right = max(measure.text(line, measure.SMALL) for core in cores for line in (core.size, core.note)) + 0.2
    result = []
    for row in rows:
        if row.aligned:
            core = row.boxes[row.aligned]
            cells = tuple(_marked(cell, said) for cell in core.cells)
            boxes = {
                **row.boxes,
                core.key: replace(core, cells=cells, size_differs=len(sizes) > 1, widths=(78 * left, 78 * right)),
            }
            row = replace(row, boxes=boxes)
        result.append(row)
    return result


def _words(core: Box, letter: str) -> tuple[str, ...]:
    return next((cell.words for cell in core.cells if cell.letter == letter), ())


def _marked(cell: Cell, said: dict[str, set[tuple[str, ...]]]) -> Cell:
    return replace(cell, differs=len(said[cell.letter]) > 1) if cell.letter in said else cell
