"""Pictures as DOT. All text that comes from a spec or a user passes through ``text`` or ``quoted``."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence

from ssir.draw.picture import Box, Cell, Kind, Row, Shade, Wire

FONT = "Helvetica,Arial,sans-serif"
INK, LINE, GREY, QUIET = "#1b2437", "#33415c", "#6b7385", "#a3a9b5"
PAPER, PROJECTION, MEMORY, PART = "#ffffff", "#e8effa", "#ffefc2", "#f4f1fa"
# fill, border colour, border style: of a coefficient by what it depends on.
SHADES: dict[Shade, tuple[str, str, str]] = {
    Shade.FIXED: ("#ffffff", "#6b7385", "dotted"),
    Shade.LEARNED: ("#eeeeee", "#6b7385", "solid"),
    Shade.POSITION: ("#e9e2f7", "#6f4fb0", "dashed"),
    Shade.INPUT: ("#d9efe4", "#2f7d59", "solid"),
    Shade.STATE: ("#fadfd5", "#b8502a", "bold"),
}
SHADE_WORDS = {
    Shade.FIXED: "constant, fixed",
    Shade.LEARNED: "constant, learned",
    Shade.POSITION: "depends on the position",
    Shade.INPUT: "on the input",
    Shade.STATE: "on the state: a feedback loop",
}
BIG, NORMAL, SMALL = 15, 11, 9


class Markup(str):
    """An HTML-like label, built here; a plain string is never taken for one."""


def markup(inner: str) -> Markup:
    return Markup(f"<{inner}>")


def quoted(value: str) -> str:
    """A DOT string: quotes and backslashes lose their meaning, control characters go."""
    clean = "".join(c for c in value if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'


def text(value: str) -> str:
    """Text within an HTML-like label; never empty, which Graphviz takes for a fault.

    A backslash would start an escape of Graphviz (the name of the node or the graph), written as an entity too: one that
    looks like it stands in.
    """
    clean = "".join(c for c in value if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return html.escape(clean, quote=True).replace("\\", "∖") or " "


def font(inner: str, size: int = NORMAL, colour: str = INK) -> str:
    return f'<font point-size="{size}" color="{colour}">{inner}</font>'


def small(note: str) -> str:
    return "<br/>".join(font(text(line), SMALL, GREY) for line in note.split("\n"))


def attributes(**values: str | float) -> str:
    """[a="1", label=<markup>]."""
    pairs = (f"{key}={value if isinstance(value, Markup) else quoted(str(value))}" for key, value in values.items())
    return f"[{', '.join(pairs)}]"


def document(body: Iterable[str], **graph: str | float) -> str:
    """A whole digraph."""
    settings = {"layout": "dot", "fontname": FONT, "bgcolor": "white", "fontcolor": INK, **graph}
    lines = [
        "digraph ssir {",
        f"  graph {attributes(**settings)};",
        f"  node {attributes(fontname=FONT, fontsize=NORMAL, color=LINE, fontcolor=INK, penwidth=1.1, margin='0.09,0.05', label=' ')};",
        f"  edge {attributes(fontname=FONT, fontsize=SMALL, color=LINE, fontcolor=GREY, arrowsize=0.6, penwidth=1.0)};",
        *(f"  {line}" for line in body),
        "}",
    ]
    return "\n".join(lines) + "\n"


def node(name: str, **values: str | float) -> str:
    return f"{quoted(name)} {attributes(**values)};"


def edge(tail: str, head: str, **values: str | float) -> str:
    return f"{tail} -> {head} {attributes(**values)};"


def heading(title: str, *below: str) -> Markup:
    """A title with smaller lines under it, for the label of a cluster or a graph."""
    first = font(f"<b>{text(title)}</b>", 16)
    rows = f'<tr><td align="left">{first}</td></tr>'
    for line in filter(None, below):
        rows += f'<tr><td align="left">{font(text(line), SMALL, GREY)}</td></tr>'
    return markup(f'<table border="0" cellborder="0" cellspacing="0" cellpadding="1">{rows}</table>')


def table_cell(inner: str, shade: Shade | None, port: str = "", **more: str | int) -> str:
    """A cell of a memory's table, bordered and filled by its shade."""
    fill, colour, style = SHADES[shade] if shade else (PAPER, LINE, "solid")
    width = 2 if style == "bold" else 1
    extra = "".join(f' {key}="{value}"' for key, value in more.items())
    named = f' port="{port}"' if port else ""
    drawn = "" if style in ("bold", "solid") else f' style="{style}"'
    return f'<td{named} bgcolor="{fill}" color="{colour}" border="{width}"{drawn}{extra}>{inner}</td>'


def coefficient(cell: Cell) -> str:
    """What a coefficient's cell says: letter, formula, then words; what differs between rows is marked, the rest is quiet."""
    said = [compared(words, cell.differs) for words in cell.words]
    first = font(f"<b>{text(cell.letter)}</b>")
    if cell.formula:
        first += font(f"  {text(cell.formula)}")
    elif said:
        first += f"  {said.pop(0)}"
    lines = [first, *said]
    return "".join(f'{line}<br align="left"/>' for line in lines) if len(lines) > 1 else lines[0]


def compared(words: str, differs: bool | None) -> str:
    """Small words: plain where nothing is compared, else bold where rows differ and pale where they do not."""
    said = font(text(words), SMALL, GREY if differs is None else INK if differs else QUIET)
    return f"<b>{said}</b>" if differs else said


def memory(box: Box) -> Markup:
    """The table of a memory: wired coefficients on the left of the memory, constant ones under it."""
    core = "<br/>".join(
        [
            font(f"<b>{text(box.label)}</b>"),
            font("<b>z⁻¹</b>", BIG),
            small(box.note),
            compared(box.size, box.size_differs),
        ]
    )
    colour = SHADES[Shade.STATE][1] if box.shade is Shade.STATE else LINE
    left, right = (f"{width:.0f}" for width in box.widths or (0, 0))
    cells = [
        table_cell(coefficient(cell), cell.shade, cell.letter, align="left", balign="left", width=left)
        for cell in box.cells
    ]
    if box.wired:
        tall = f'<td port="h" rowspan="{len(cells)}" bgcolor="{MEMORY}" border="3" color="{colour}" width="{right}">{core}</td>'
        cells[0] += tall
    else:
        cells.insert(0, f'<td port="h" bgcolor="{MEMORY}" border="3" color="{colour}">{core}</td>')
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return markup(f'<table border="0" cellborder="1" cellspacing="0" cellpadding="4">{body}</table>')


def box(prefix: str, item: Box) -> str:
    """A box as a DOT node."""
    name = f"{prefix}{item.key}"
    border = SHADES[Shade.STATE][1] if item.shade is Shade.STATE else LINE
    width = 2.0 if item.shade is Shade.STATE else 1.1
    label = font(f"<i>{text(item.name)}</i> = " * bool(item.name) + text(item.label), NORMAL + 1)
    if item.note:
        label += f"<br/>{small(item.note)}"
    match item.kind:
        case Kind.PORT:
            return node(
                name,
                shape="plaintext",
                margin="0.06,0.02",
                width=0,
                height=0,
                label=markup(f"<i>{font(text(item.label), 13)}</i>"),
            )
        case Kind.MEMORY:
            return node(name, shape="plain", margin=0, label=memory(item))
        case Kind.DELAY:
            return node(
                name, shape="box", style="filled", fillcolor=MEMORY, penwidth=2.2, color=border, label=markup(label)
            )
        case Kind.OPERATOR:
            return node(
                name,
                shape="circle",
                width=0.3,
                fixedsize="true",
                margin=0,
                color=border,
                penwidth=width,
                label=markup(font(text(item.label), 14)),
            )
        case Kind.PROJECTION:
            return node(
                name,
                shape="box",
                style="filled",
                fillcolor=PROJECTION,
                color=border,
                penwidth=width,
                label=markup(label),
            )
        case Kind.COMPONENT:
            return node(
                name,
                shape="box",
                style="filled",
                fillcolor=PART,
                color=border,
                penwidth=width,
                margin="0.16,0.1",
                label=markup(label),
            )
        case Kind.CONSTANT:
            fill, colour, style = SHADES[item.shade]
            return node(
                name,
                shape="box",
                style="filled" if style == "solid" else f"filled,{style}",
                fillcolor=fill,
                color=colour,
                margin="0.07,0.03",
                height=0.3,
                label=markup(label),
            )
        case Kind.FUNCTION:
            return node(
                name,
                shape="box",
                style="rounded,filled",
                fillcolor=PAPER,
                color=border,
                penwidth=width,
                label=markup(label),
            )


def wire(prefix: str, item: Wire, row: Row, **more: str | float) -> str:
    """A wire as a DOT edge; ``more``: attributes over its own."""
    tail, head = row.boxes[item.tail], row.boxes[item.head]
    start, end = quoted(prefix + item.tail), quoted(prefix + item.head)
    if tail.kind is Kind.MEMORY:
        start += ":h:e" if tail.wired else ":h"
    if head.kind is Kind.MEMORY:
        end += f":{quoted(item.cell)}:w" if head.wired else ":h:w"
    values: dict[str, str | float] = {}
    if said := item.said:
        values["label"] = said
    if item.sign:
        values |= {
            "headlabel": item.sign,
            "labeldistance": 1.7,
            "labelangle": 38,
            "labelfontsize": NORMAL,
            "labelfontcolor": INK,
        }
    if item.main:
        values |= {"penwidth": 2.2, "weight": 8, "color": INK}
    if item.back:
        # Laid out as a wire forwards with its arrow at the tail: Graphviz keeps such a wire clear of boxes and titles.
        start = quoted(prefix + item.tail) + (":h:n" if tail.kind is Kind.MEMORY else "")
        values |= {"dir": "back", "color": SHADES[Shade.STATE][1], "weight": 0}
        start, end = end, start
    return edge(start, end, **{**values, **more})


def legend(rows: Sequence[Row]) -> Markup:
    """What the signs mean: only those that stand in the picture."""
    boxes = [item for row in rows for item in row.boxes.values()]
    kinds = {item.kind for item in boxes}
    shades = {cell.shade for item in boxes for cell in item.cells} | {
        item.shade for item in boxes if item.shade is Shade.STATE or item.kind is Kind.CONSTANT
    }
    entries: list[str] = []
    if Kind.PROJECTION in kinds:
        entries.append(swatch(f'bgcolor="{PROJECTION}" color="{LINE}" border="1"', "projection (learned)"))
    if Kind.FUNCTION in kinds:
        entries.append(swatch(f'bgcolor="{PAPER}" color="{LINE}" border="1" style="rounded"', "function"))
    if Kind.COMPONENT in kinds:
        entries.append(swatch(f'bgcolor="{PART}" color="{LINE}" border="1"', "component"))
    if kinds & {Kind.MEMORY, Kind.DELAY}:
        entries.append(MEMORY_SWATCH)
    entries += [shade_swatch(shade) for shade in Shade if shade in shades]
    if any(item.main for row in rows for item in row.wires):
        entries.append(f"<td>{font('<b>━━</b>', NORMAL)}</td><td>{font('main path', SMALL, GREY)}</td>")
    return swatches(entries)


def swatches(entries: Sequence[str]) -> Markup:
    """A legend as a label."""
    cells = "".join(entries)
    return markup(f'<table border="0" cellborder="0" cellspacing="4" cellpadding="2"><tr>{cells}</tr></table>')


def shade_swatch(shade: Shade) -> str:
    fill, colour, style = SHADES[shade]
    border = 'border="2"' if style == "bold" else f'border="1" style="{style}"'
    return swatch(f'bgcolor="{fill}" color="{colour}" {border}', SHADE_WORDS[shade])


def swatch(border: str, meaning: str, inside: str = "   ") -> str:
    """A small box for a legend, and what it means."""
    return f'<td {border} width="22" height="12">{font(inside, SMALL)}</td><td>{font(text(meaning), SMALL, GREY)}</td>'


MEMORY_SWATCH = swatch(f'bgcolor="{MEMORY}" color="{LINE}" border="2"', "memory, one step", "z⁻¹")
