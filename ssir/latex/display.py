"""Equations under one another, aligned, in the width of a page."""

from __future__ import annotations

from collections.abc import Sequence

from ssir.latex import typeset
from ssir.latex.scope import Equation

_WIDTH = 483.0  # \textwidth in points
_SLACK = 0.94
_NUMBER = 34.0
_INDENT = 20.0
_RELATION = 14.0


def display(found: Sequence[Equation], numbered: bool = True) -> str:
    """An align of all of them; long ones go on in further lines."""
    room = _WIDTH * _SLACK - _NUMBER
    sides = [typeset.width(one.left) for one in found]
    left = max((side for side in sides if side <= room / 3), default=0.0)
    rows = [row for one in found for row in _rows(one, room - left, left, numbered)]
    kind = "align" if numbered else "align*"
    return f"\\begin{{{kind}}}\n" + " \\\\\n".join(rows) + f"\n\\end{{{kind}}}"


def _rows(one: Equation, room: float, widest: float, numbered: bool) -> list[str]:
    """The lines of an equation; a left side that would push all others to the right has one of its own."""
    across = room - _RELATION
    left = " ".join(typeset.lines(one.left, across, across))
    apart = typeset.width(one.left) > widest
    found = typeset.lines(one.right, across - _INDENT if apart else across, across - _INDENT)
    if one.note is not None:
        note = typeset.lines(one.note, across, across)[0]
        fits = len(found) == 1 and typeset.width(one.right) + typeset.width(one.note) + 2 * _INDENT < across
        found = [f"{found[0]}, \\quad {note}"] if fits else [*found[:-1], f"{found[-1]},", note]
    head = [f"& {left}", f"&\\quad = {found[0]}"] if apart else [f"{left} &= {found[0]}"]
    rows = [*head, *(f"&\\quad {line}" for line in found[1:])]
    return [f"{row} \\notag" if numbered and i < len(rows) - 1 else row for i, row in enumerate(rows)]
