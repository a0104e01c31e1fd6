"""The picture of states: diagrams and matrices, one under another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssir.draw import circuit, dot, matrix
from ssir.draw.circuit import Sheet, System
from ssir.draw.joint import Joint
from ssir.draw.picture import Shade


@dataclass(frozen=True)
class Memoryless:
    """What is said of a spec that has no state."""

    title: str
    text: str
    shades: tuple[Shade, ...] = ()


def picture(parts: Sequence[System | Joint | Memoryless], title: str | None) -> str:
    """The DOT of all of them."""
    body: list[str] = []
    top = 0.0
    if title:
        sheet = Sheet("title", 0.0)
        sheet.words(0, 0, [(title, 18, dot.INK)], bold=True)
        body, top = sheet.lines, -0.7
    for i, part in enumerate(parts):
        if isinstance(part, Memoryless):
            lines, height = _words(part, f"{i}.", top)
        elif isinstance(part, Joint):
            lines, height = matrix.draw(part, f"{i}.", top)
        else:
            lines, height = circuit.draw(part, f"{i}.", top)
        body += lines
        top -= height
    shades = {shade for part in parts for shade in part.shades}
    memory = [] if all(isinstance(part, Memoryless) for part in parts) else [dot.MEMORY_SWATCH]
    swatches = [*memory, *(dot.shade_swatch(shade) for shade in Shade if shade in shades)]
    return dot.document(
        body,
        layout="neato",
        splines="line",
        outputorder="edgesfirst",
        label=dot.swatches(swatches) if swatches else " ",
        labelloc="b",
        labeljust="l",
        pad=0.2,
    )


def _words(part: Memoryless, prefix: str, top: float) -> tuple[list[str], float]:
    sheet = Sheet(prefix, top)
    sheet.words(0, 0, [(part.title, 18, dot.INK)], bold=True)
    sheet.words(0, -0.35, [(part.text, 12, dot.INK)])
    return sheet.lines, 1.0
