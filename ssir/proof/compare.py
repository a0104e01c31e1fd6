"""How far what was found is from what is meant: by tensor, relative to how large it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

KINDS = ("output", "state", "gradient")
_SMALLEST = 1e-2  # of the largest gradient: what is zero by symmetry is all rounding

Name = tuple[str, str]


@dataclass(frozen=True)
class Results:
    """What a run gives, by kind and name: outputs, memories (as they are left, and as they are before the first step), and gradients
    of inputs and parameters."""

    output: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)
    gradient: Mapping[str, Tensor] = field(default_factory=dict)

    def of(self, kind: str) -> Mapping[str, Tensor]:
        found: Mapping[str, Tensor] = getattr(self, kind)
        return found


def differences(found: Results, wanted: Results) -> dict[Name, float]:
    """For every tensor that was found the largest error, relative to its largest entry. A tensor that is missing is infinitely wrong,
    and so is NaN. Gradients are relative to a hundredth of the largest of all, where their own largest is smaller."""
    errors: dict[Name, float] = {}
    largest = max(map(_largest, wanted.gradient.values()), default=0.0)
    for kind in KINDS:
        ours, theirs = found.of(kind), wanted.of(kind)
        if not ours:
            continue
        for name, value in theirs.items():
            scale = max(_largest(value), _SMALLEST * largest if kind == "gradient" else 0.0) or 1.0
            errors[kind, name] = distance(ours[name], value) / scale if name in ours else math.inf
    return errors


def distance(found: Tensor, wanted: Tensor) -> float:
    """The largest difference of two entries; equal infinities are equal, NaN is infinitely far from everything."""
    if found.shape != wanted.shape:
        return math.inf
    if not wanted.numel():
        return 0.0
    found = found.detach().to(wanted.dtype)
    error = torch.where(found == wanted, 0.0, (found - wanted).abs())
    largest = error.max().item()
    return largest if largest == largest else math.inf


def _largest(x: Tensor) -> float:
    """The largest finite size of an entry."""
    sizes = x.detach().abs()
    finite = sizes[torch.isfinite(sizes)]
    return finite.max().item() if finite.numel() else 0.0
