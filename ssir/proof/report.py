"""What a proof found: a row for each comparison, a report for each spec."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ssir.proof.compare import KINDS, Name, Results, differences
from ssir.proof.meaning import Conditioned

# The error that is allowed whatever the condition: some hundreds of roundings of float64 and float32, as long sums make, and some ten
# of bfloat16.
FLOORS = {torch.float64: 1e-12, torch.float32: 5e-5, torch.bfloat16: 5e-2}
ROUNDINGS = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-9}
FINEST = 2.0**-36  # a move that stands out from the roundings of the meaning itself
MULTIPLES = {torch.float64: 16.0, torch.float32: 16.0, torch.bfloat16: 4.0}
"""How many times what one rounding of all that is computed does an error may be. A form adds in another order, by other operations, some of
which are larger in between than what they lead to. What is bfloat16 adds up in float32, and rounds less than is thought of here."""


@dataclass(frozen=True)
class Row:
    """One comparison: ``state`` is computed by ``form``, all others as the plan says.

    ``forward``, ``after`` and ``gradient`` are the largest errors of outputs, memories and gradients; ``tensor`` is the one that is
    farthest beyond its ``limit``, or came nearest to it; ``condition`` says by how many roundings one rounding of all that is computed moves it,
    where that had to be known.
    """

    state: str
    form: str
    at: str
    dtype: str
    threads: int
    steps: int
    case: str
    forward: float
    after: float | None
    gradient: float | None
    tensor: str
    limit: float
    condition: float | None
    ratio: float

    @property
    def ok(self) -> bool:
        return self.ratio <= 1

    @property
    def verdict(self) -> str:
        if not self.ok:
            return "WRONG"
        return "good" if self.condition is None else "ill-conditioned"

    def record(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok, "verdict": self.verdict}


def _weight(row: Row) -> tuple[bool, bool, float]:
    return not row.ok, row.condition is not None, row.ratio


def judged(found: Results, meant: Conditioned, dtype: torch.dtype) -> dict[str, Any]:
    """The errors of a run, and the limit of the tensor that is over its own, else of one that is over what is allowed anyhow, else of the
    one that comes nearest. Only where an error is over what is allowed anyhow the condition is asked for."""
    errors = differences(found, meant.results)
    floor, rounding = FLOORS[dtype], ROUNDINGS[dtype]
    limits: dict[Name, float] = dict.fromkeys(errors, floor)
    known: Mapping[Name, float] = {}
    if any(error > floor for error in errors.values()):
        known = meant.conditions(max(rounding, FINEST), rounding)
        limits |= {name: max(floor, MULTIPLES[dtype] * known[name] * rounding) for name in errors}
    ratios = {name: error / limits[name] for name, error in errors.items()}
    worst = max(ratios, key=lambda name: (ratios[name] > 1, errors[name] > floor, ratios[name], errors[name]))
    by_kind = {
        kind: max((error for (other, _), error in errors.items() if other == kind), default=None) for kind in KINDS
    }
    return {
        "forward": by_kind["output"] or 0.0,
        "after": by_kind["state"],
        "gradient": by_kind["gradient"],
        "tensor": _words(worst),
        "limit": limits[worst],
        "condition": known[worst] if errors[worst] > floor else None,
        "ratio": ratios[worst],
    }


def _words(name: Name) -> str:
    kind, label = name
    return {"output": "", "state": "the memory ", "gradient": "the gradient by "}[kind] + f"`{label}`"


@dataclass
class Report:
    """All comparisons of a spec. ``dims`` are those that most were made at, ``places`` those of the others by what they are called;
    ``merged`` says for each memory that the passes made one with another which; ``has_step`` whether it can run step by step."""

    name: str
    dims: Mapping[str, float | None]
    has_step: bool
    places: dict[str, str] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row.ok for row in self.rows)

    def worst(self) -> list[Row]:
        """For each form, place and dtype the row that is farthest beyond its limit, or came nearest to it."""
        return [max(rows, key=_weight) for rows in self._groups().values()]

    def _groups(self) -> dict[tuple[str, str, str, str], list[Row]]:
        groups: dict[tuple[str, str, str, str], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.state, row.form, row.at, row.dtype), []).append(row)
        return groups

    def summary(self) -> list[dict[str, Any]]:
        """For each form, place and dtype the largest errors, how many comparisons were made, and the verdict."""
        found = []
        for (state, form, at, dtype), rows in self._groups().items():
            worst = max(rows, key=_weight)
            found.append(
                {
                    "state": state,
                    "form": form,
                    "at": at,
                    "dtype": dtype,
                    "forward": max(row.forward for row in rows),
                    "after": max((row.after for row in rows if row.after is not None), default=None),
                    "gradient": max((row.gradient for row in rows if row.gradient is not None), default=None),
                    "limit": worst.limit,
                    "condition": worst.condition,
                    "tensor": worst.tensor,
                    "comparisons": len(rows),
                    "ok": worst.ok,
                    "verdict": worst.verdict,
                }
            )
        return found

    def record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dims": dict(self.dims),
            "places": self.places,
            "merged": self.merged,
            "notes": self.notes,
            "ok": self.ok,
            "has_step": self.has_step,
            "forms": [{key: _plain(value) for key, value in one.items()} for one in self.summary()],
        }


def _plain(value: Any) -> Any:
    """JSON has no infinity."""
    return "infinite" if isinstance(value, float) and not math.isfinite(value) else value
