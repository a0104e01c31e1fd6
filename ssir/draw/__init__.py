"""Block diagrams of specs, from the IR alone, in one notation: DOT text, rendered where Graphviz can be found."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ssir.spec.load import Spec

Level = Literal["model", "block", "mixer", "state"]


def draw(
    specs: Spec | str | PathLike[str] | Sequence[Spec | str | PathLike[str]],
    out: Path | str | None = None,
    level: Level | None = None,
    state: str | None = None,
    title: str | None = None,
) -> str:
    """The picture of one spec, or of several side by side, as DOT; written to ``out`` too, as its suffix says.

    ``level`` is that of the picture, ``mixer`` if nothing is said. ``model`` shows layers, ``block`` what a layer is made of, ``mixer`` the graph that mixes over time, ``state`` A, B, C and D of
    every memory, or of the one named, and as one matrix those that feed one another. An .html file is a page to explore: it has
    all levels, and begins at ``level``, or outermost. Raises UsageError and SpecError;
    EnvironmentLacks where ``out`` cannot be rendered.
    """
    from ssir.draw import levels, render
    from ssir.spec.load import given

    if isinstance(specs, str) or not isinstance(specs, Sequence):
        specs = [specs]
    chosen = [given(spec) for spec in specs]
    if out is not None:
        render.kind_of(Path(out))
    source = levels.picture(chosen, level or ("state" if state else "mixer"), state, title)
    if out is not None:
        page = render.kind_of(Path(out)) == "html"
        render.write(_page(chosen, level, state, title) if page else source, Path(out))
    return source


def _page(specs: Sequence[Spec], level: Level | None, state: str | None, title: str | None) -> str:
    from ssir.draw.page import page

    return page(specs, title or ", ".join(spec.name for spec in specs), level, state)
