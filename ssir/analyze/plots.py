"""An analysis as one figure, by matplotlib: poles and half-lives, responses, costs."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssir.errors import EnvironmentLacks, UsageError

if TYPE_CHECKING:
    from ssir.analyze import Analysis

SUFFIXES = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "ssir",
    "svg.fonttype": "path",
}
WIDTH = 12.0


def kind_of(out: Path) -> str:
    """What to write, by the suffix. Raises UsageError; EnvironmentLacks without matplotlib."""
    kind = SUFFIXES.get(out.suffix.lower())
    if kind is None:
        raise UsageError(f"`{out.name}` ends in no kind of plot; there are {', '.join(SUFFIXES)}")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder `{out.parent}` to write `{out.name}` into")
    if find_spec("matplotlib") is None:
        raise EnvironmentLacks(
            "plots need matplotlib, which is not installed: pip install matplotlib (or leave -o out)"
        )
    return kind


def write(analysis: Analysis, out: Path) -> None:
    """The figure as a file, which appears whole or not at all."""
    from ssir.files import replace

    kind = kind_of(out)
    if not analysis.poles:
        raise UsageError(f"there is nothing to plot: `{analysis.name}` has no state")
    import matplotlib

    content = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure(analysis).savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    replace(out, content.getvalue())


def figure(analysis: Analysis) -> Any:
    """A row for poles and half-lives, one for each constant system that is worth one, and the costs."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from ssir.analyze.panels import costs, poles, responses

    shown, priced = _responses(analysis), _costs(analysis)
    heights = [4.4, *(4.0 for _ in shown), *(3.9 for _ in priced)]
    whole = Figure(figsize=(WIDTH, sum(heights) + 0.4), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    told = "its own parameters" if analysis.trained else f"parameters drawn with the seed {analysis.seed}"
    over = f"\nA where it depends on the input: over {analysis.words}" if analysis.words else ""
    whole.suptitle(f"{analysis.name}, with {told}{over}", x=0.01, ha="left", fontsize=11)
    rows = whole.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    poles(rows[0], analysis.poles)
    for row, response in zip(rows[1:], shown, strict=False):
        responses(row, response)
    for row, few in zip(rows[1 + len(shown) :], priced, strict=False):
        costs(row, few, analysis.costs)
    return whole


def _responses(analysis: Analysis) -> list[Any]:
    """At most two: first what feeds back and forgets, then registers, then what only sums up."""
    found = [one for one in analysis.responses if one.channels]

    def rank(response: Any) -> int:
        channel = next(iter(response.channels.values()))
        return 1 if channel.a is None else 2 if channel.place.a is None else 0

    best = sorted(found, key=rank)
    return [one for one in best if rank(one) == rank(best[0])][:2]


def _costs(analysis: Analysis) -> list[list[Any]]:
    """States that cost the same, together; at most five kinds of them, first those that have a choice of forms; then none, for bytes. Two a
    row."""
    alike: dict[object, list[Any]] = {}
    for one in analysis.costs:
        alike.setdefault(one.signature, []).append(one)
    groups = sorted(alike.values(), key=lambda group: (-len(group[0].crossovers), -len(group[0].forms)))
    chosen: list[Any] = [*([group for group in groups if len(group[0].forms) > 1][:5] or groups[:1]), []]
    return [chosen[i : i + 2] for i in range(0, len(chosen), 2)]
