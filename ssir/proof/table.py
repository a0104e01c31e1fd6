"""The page of all proofs, docs/verify.md: a table for each spec, added as it is found, so that a run that was stopped can go on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ssir.files import replace
from ssir.proof.report import FLOORS, MULTIPLES, Report


def _allowed(by_dtype: Mapping[torch.dtype, float]) -> str:
    return ", ".join(f"{value:g} in {str(dtype).removeprefix('torch.')}" for dtype, value in by_dtype.items())


_HEAD = f"""# Proofs

Written by `ssir verify --all -o docs/verify.md`, which goes on where it was stopped; delete the page to begin anew.

Each row is a form at some dims and in a dtype: the largest errors, relative to the largest entry of the tensor, of outputs, memories
(as they are left, and before the first step) and gradients, over all lengths, with and without resets, whole, in pieces, step by step,
several tokens into a filled state, and two decodings from one state. The judge is the spec as it is written, in float64, one step
after another. Allowed are {_allowed(FLOORS)}; or, where the spec itself is ill-conditioned, so many times what moving inputs,
parameters and all that is computed by one rounding moves the meaning: {_allowed(MULTIPLES)}. Then the column *condition* says by how many roundings that is.
"""


def held(path: Path) -> set[str]:
    """The specs that a page has a table of."""
    return set(re.findall(r"^## (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)) if path.exists() else set()


def append(path: Path, report: Report) -> None:
    """Add a spec to a page, which is made if it is not there."""
    before = path.read_text(encoding="utf-8") if path.exists() else _HEAD
    replace(path, f"{before}\n{section(report)}".encode())


def section(report: Report) -> str:
    lines = [f"## {report.name}", "", f"- small dims: {_dims(report.dims)}"]
    lines += [f"- {place}: {dims}" for place, dims in report.places.items()]
    lines += [f"- the passes keep `{name}` in `{holder}`" for name, holder in report.merged.items()]
    lines += [f"- {note}" for note in report.notes]
    columns = ("state", "form", "at", "dtype", "output", "memory", "gradient", "limit", "condition", "rows", "")
    lines += ["", _line(columns), _line(["---"] * 4 + ["---:"] * 6 + ["---"])]
    lines += [_line(_cells(one)) for one in report.summary()]
    return "\n".join(lines) + "\n"


def _cells(one: dict[str, Any]) -> list[str]:
    errors = ["" if one[key] is None else f"{one[key]:.1e}" for key in ("forward", "after", "gradient", "limit")]
    condition = "" if one["condition"] is None else f"{one['condition']:.0e}"
    state = f"`{one['state']}`" if one["state"] else "as planned"
    return [state, one["form"], one["at"], one["dtype"], *errors, condition, str(one["comparisons"]), one["verdict"]]


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _dims(dims: Any) -> str:
    return ", ".join(f"{name}={'unbounded' if size is None else size}" for name, size in dims.items())
