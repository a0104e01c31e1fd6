"""What each level shows of a spec."""

from __future__ import annotations

from collections.abc import Sequence

from ssir.draw import parts, path, pictures
from ssir.draw.fold import Fold
from ssir.draw.picture import Box, Row, Shade
from ssir.errors import UsageError, nearest
from ssir.spec.load import Spec


def picture(specs: Sequence[Spec], level: str, state: str | None, title: str | None) -> str:
    """The DOT of a level. Raises UsageError for what does not fit together."""
    if not specs:
        raise UsageError("there is nothing to draw: name a spec")
    if level == "mixer":
        return pictures.rows_picture([row for spec in specs for row in mixer_rows(spec)], title)
    raise UsageError(level)


def mixer_rows(spec: Spec) -> list[Row]:
    found = parts.mixers(spec)
    if not found:
        raise UsageError(f"`{spec.name}` has no memory, so it mixes nothing over time: draw it with level=block or model")
    return [_row(part) for part in found]


def _row(part: parts.Part) -> Row:
    row = Fold(part.graph, Row(part.title), part.symbols).run()
    path.finish(row, _importance)
    return row


def _importance(memory: Box) -> tuple[int, ...]:
    """A memory whose coefficients change matters more than a filter, one that is read more than one that is not."""
    wired = any(cell.shade in (Shade.INPUT, Shade.STATE, Shade.POSITION) for cell in memory.cells)
    return int(wired), int(any(cell.letter == "C" for cell in memory.cells))
