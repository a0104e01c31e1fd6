"""Where a long line of mathematics is broken: as far out as it can be, between the terms of a sum before its factors, and before what stands
in brackets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Atom:
    """A piece that stays in one line. ``depth``: how far in a line may be broken before it, None if it may not."""

    latex: str
    width: float
    depth: float | None = None
    tall: int = 0


def total(atoms: Iterable[Atom]) -> float:
    return sum(atom.width for atom in atoms)


def joined(atoms: Iterable[Atom]) -> str:
    return " ".join(atom.latex for atom in atoms)


def marked(atoms: list[Atom], place: str, mark: Atom) -> list[Atom]:
    """With a script at the end; what has one there already is put in braces."""
    last = atoms[-1]
    taken = place in last.latex or (place == "^" and "'" in last.latex)
    latex = f"{{{last.latex}}}" if taken else last.latex
    return [*atoms[:-1], replace(last, latex=f"{latex}{place}{{{mark.latex}}}", width=last.width + mark.width)]


def breakable(atoms: list[Atom], depth: float) -> list[Atom]:
    """The same, with a line's end allowed before it."""
    first = atoms[0]
    return [replace(first, depth=depth if first.depth is None else min(depth, first.depth)), *atoms[1:]]


def broken(atoms: Sequence[Atom], first: float, others: float) -> list[list[Atom]]:
    """Lines of at most these widths; where nothing fits, broken wherever that is allowed."""
    depths = sorted({atom.depth for atom in atoms[1:] if atom.depth is not None})
    for depth in depths:
        found = _broken(atoms, first, others, depth)
        if all(total(line) <= (others if i else first) for i, line in enumerate(found)):
            return found
    return _broken(atoms, first, others, depths[-1] if depths else 0.0)


def _broken(atoms: Sequence[Atom], first: float, others: float, depth: float) -> list[list[Atom]]:
    """Lines as full as they can be; of the places where one can end, in its further half, the outermost, and of those the last."""
    found: list[list[Atom]] = []
    rest = list(atoms)
    room = first
    while total(rest) > room:
        so_far = 0.0
        fitting: list[tuple[float, int, float]] = []
        for i, atom in enumerate(rest):
            if i and atom.depth is not None and atom.depth <= depth and (so_far <= room or not fitting):
                fitting.append((atom.depth, i, so_far))
            so_far += atom.width
        if not fitting:
            break
        late = [one for one in fitting if one[2] > room / 3] or fitting
        _, at, _ = min(late, key=lambda one: (one[0], -one[1]))
        found.append(rest[:at])
        rest, room = rest[at:], others
    return [*found, rest]
