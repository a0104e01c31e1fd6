"""What differs between two architectures: their states, what stands around them, what they cost; as text, as data, as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssir.diff.compare import Comparison
    from ssir.spec.load import Spec


@dataclass(frozen=True)
class Diff:
    """Two architectures compared; printed, it is the text of ``ssir diff``."""

    comparison: Comparison

    @property
    def same(self) -> bool:
        """Whether nothing differs but what things are called, and the order of commuting operands."""
        return self.comparison.same

    def record(self) -> dict[str, Any]:
        """What ``ssir diff --json`` prints."""
        return self.comparison.record()

    def draw(self, out: Path | str | None = None) -> str:
        """The picture as DOT, written to ``out`` too, as its suffix says. Raises UsageError; EnvironmentLacks where nothing can render."""
        from ssir.diff.picture import picture
        from ssir.draw import render
        from ssir.errors import UsageError

        if out is not None and render.kind_of(Path(out)) == "html":
            raise UsageError(
                "what differs is drawn as .svg, .png, .pdf or .dot; `ssir draw A B -o x.html` has both to explore"
            )
        source = picture(self.comparison)
        if out is not None:
            render.write(source, Path(out))
        return source

    def __str__(self) -> str:
        from ssir.diff.text import text

        return text(self.comparison)


def diff(a: Spec | str | PathLike[str], b: Spec | str | PathLike[str]) -> Diff:
    """Compare two specs, at equal width as far as both have one: the dims of ``b`` are set to those of ``a``.

    Raises UsageError and SpecError.
    """
    from ssir.diff.compare import Comparison, Side
    from ssir.diff.width import equalised
    from ssir.spec.load import given

    one, other, setting = equalised(given(a), given(b))
    return Diff(Comparison(Side(one), Side(other), setting))
