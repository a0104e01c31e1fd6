"""A comparison as text: what differs in rows, what does not in a line."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from ssir.diff.compare import Comparison
from ssir.diff.rows import Row, Section

_WIDTH = 118
_LABEL = 20
_CELL = (_WIDTH - _LABEL) // 2


def text(found: Comparison) -> str:
    """All of it, for people."""
    sides = (found.a, found.b)
    heads = [f"{side.name}: {title}" if (title := side.spec.module.file.title) else side.name for side in sides]
    lines = [*dict.fromkeys(heads), ""]
    if found.same:
        changed = found.setting.words()
        lines.append(f"nothing differs, {changed}" if changed else "nothing differs")
        return "\n".join(lines) + "\n"
    if found.sentences:
        lines += [*(line for one in found.sentences for line in textwrap.wrap(one, _WIDTH)), ""]
    names = (found.a.name, found.b.name)
    for section in (*found.states, *found.blocks):
        lines += _section(section, *names)
    rows = [*found.totals, *([found.begins] if found.begins else [])]
    lines += _table("in all", *names, rows)
    if words := found.setting.words():
        lines += [f"  {words}", ""]
    if found.unseen:
        lines += [f"{found.unseen}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _section(section: Section, a: str, b: str) -> list[str]:
    if not section.b or not section.a:
        whose, name = (a, section.a) if section.a else (b, section.b)
        said = [_said(row.what, row.a if section.a else row.b) for row in section.rows]
        head = f"only {whose} has the {section.title} {name}: "
        return [*textwrap.wrap(head + "; ".join(said), _WIDTH, subsequent_indent="  "), ""]
    titles = (section.a, section.b) if a == b else (f"{a}: {section.a}", f"{b}: {section.b}")
    if section.same:
        what = section.a if section.a == section.b else f"{section.a}, {section.b}"
        return [f"the same in both: the {section.title} {what}", ""]
    return _table(section.title, *titles, section.rows)


def _table(title: str, a: str, b: str, rows: Sequence[Row]) -> list[str]:
    """A head, the rows that differ, and the others in a line."""
    lines = [f"{title:{_LABEL}}{a:{_CELL}}{b}".rstrip(), "─" * _WIDTH]
    for row in (row for row in rows if not row.same):
        for label, left, right in zip_longest(
            textwrap.wrap(row.what, _LABEL - 3), _wrapped(row.a), _wrapped(row.b), fillvalue=""
        ):
            lines.append(f"  {label:{_LABEL - 2}}{left:{_CELL}}{right}".rstrip())
    if same := [_said(row.what, row.a) for row in rows if row.same]:
        lines += textwrap.wrap(
            "the same: " + "; ".join(same), _WIDTH - 2, initial_indent="  ", subsequent_indent="    "
        )
    return [*lines, ""]


def _wrapped(cell: str) -> list[str]:
    return [part for line in cell.split("\n") for part in textwrap.wrap(line, _CELL - 2, subsequent_indent="  ")]


def _said(what: str, cell: str) -> str:
    """A row in a line: A = shift(tap), structure shift along tap."""
    sign = " = " if len(what) == 1 else " "
    return what + sign + " ".join(cell.replace("\n", ", ").split())
