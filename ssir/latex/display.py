"""Equations under one another, aligned, in the width of a page."""

from __future__ import annotations

from collections.abc import Sequence

from ssir.latex import typeset
from ssir.latex.scope import Equation

WIDTH = 483.0  # points: \textwidth
_SLACK = 0.94
_NUMBER = 34.0
_INDENT = 20.0
_RELATION = 14.0


def display(found: Sequence[Equation], numbered: bool = True) -> str:
    """An align of all of them; long ones go on in further lines."""
    room = WIDTH * _SLACK - _NUMBER
    widest = min(max(typeset.width(one.left) for one in found), room / 3)
    rows = [row for one in found for row in _rows(one, room, widest, numbered)]
    kind = "align" if numbered else "align*"
    return f"\\begin{{{kind}}}\n" + " \\\\\n".join(rows) + f"\n\\end{{{kind}}}"


def _rows(one: Equation, room: float, widest: float, numbered: bool) -> list[str]:
    left, *more = typeset.lines(one.left, room, room)
    across = room - widest - _RELATION
    sticks_out = max(0.0, typeset.width(one.left) - widest)
    found = typeset.lines(one.right, across - sticks_out, across - _INDENT)
    if one.note is not None:
        note = typeset.lines(one.note, room, room)[0]
        fits = len(found) == 1 and typeset.width(one.right) + sticks_out + typeset.width(one.note) + 20 < across
        found = [f"{found[0]}, \\quad {note}"] if fits else [*found[:-1], f"{found[-1]},", note]
    rows = [" ".join((left, *more)) + f" &= {found[0]}", *(rf"&\quad {line}" for line in found[1:])]
    return [f"{row} \\notag" if numbered and i < len(rows) - 1 else row for i, row in enumerate(rows)]
