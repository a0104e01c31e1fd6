"""The pictures, level by level, from rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ssir.draw import dot
from ssir.draw.path import depth_of
from ssir.draw.picture import Box, Cell, Kind, Row


def rows_picture(rows: Sequence[Row], title: str | None) -> str:
    """One row under another; the memories that matter stand in one column."""
    rows = _compared(rows) if len(rows) > 1 else list(rows)
    body: list[str] = []
    column = max(map(depth_of, rows), default=0)
    for i, row in enumerate(rows):
        body += _cluster(row, i)
    if len(rows) > 1:
        body += _column(rows, column)
    if title:
        body = [f"subgraph cluster_all {{", f"  graph {dot.attributes(label=dot.heading(title, ''), labelloc='t', labeljust='l', penwidth=0)};", *(f"  {line}" for line in body), "}"]
    return dot.document(body, rankdir="LR", nodesep=0.2, ranksep=0.26, splines="spline", label=dot.legend(rows), labelloc="b", labeljust="l", newrank="false")


def _cluster(row: Row, index: int) -> list[str]:
    prefix = f"{index}."
    lines = [f"subgraph cluster_{index} {{"]
    lines.append(f"  graph {dot.attributes(label=dot.heading(row.title, row.subtitle), labelloc='t', labeljust='l', penwidth=0, margin=10)};")
    lines += [f"  {dot.box(prefix, box)}" for box in row.boxes.values()]
    lines += [f"  {dot.wire(prefix, wire, row)}" for wire in row.wires]
    return [*lines, "}"]


def _column(rows: Sequence[Row], column: int) -> list[str]:
    """Invisible anchors, in order, hold each row's memory at one rank and the rows one under another."""
    lines = [dot.node(f"row {i}", shape="point", width=0, style="invis", label=" ") for i in range(len(rows))]
    chain = " -> ".join(dot.quoted(f"row {i}") for i in range(len(rows)))
    lines.append(f"{{ rank=same; {chain} {dot.attributes(style='invis')}; }}")
    for i, row in enumerate(rows):
        if row.aligned:
            lines.append(dot.edge(dot.quoted(f"row {i}"), dot.quoted(f"{i}.{row.aligned}"), style="invis", minlen=column + 1, weight=100))
    return lines


def _compared(rows: Sequence[Row]) -> list[Row]:
    """The aligned memories with what differs between them marked."""
    cores = [row.boxes[row.aligned] for row in rows if row.aligned]
    if len(cores) < 2:
        return list(rows)
    said = {letter: {_words(core, letter) for core in cores} for letter in "ABCD"}
    sizes = {core.size for core in cores}
    result = []
    for row in rows:
        if row.aligned:
            core = row.boxes[row.aligned]
            cells = tuple(_marked(cell, said) for cell in core.cells)
            boxes = {**row.boxes, core.key: replace(core, cells=cells, size_differs=len(sizes) > 1)}
            row = replace(row, boxes=boxes)
        result.append(row)
    return result


def _words(core: Box, letter: str) -> tuple[str, ...]:
    return next((cell.words for cell in core.cells if cell.letter == letter), ())


def _marked(cell: Cell, said: dict[str, set[str]]) -> Cell:
    return replace(cell, differs=len(said[cell.letter]) > 1) if cell.letter in said else cell
