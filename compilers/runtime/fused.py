"""Whole sequences by `torch.compile`: what stands between the kernels, which stay operators of their own, becomes few launches."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import tritons
from .joined import Block

if TYPE_CHECKING:
    from .model import Model

Sequenced = Callable[
    [Sequence[Tensor], Mapping[str, Tensor] | None, Tensor | None, bool, Sequence[Block | None]], tuple[Any, Any]
]
VARIANTS = 64
"""Programs that a model may have: with gradients and without, with states, resets, types; not many, but more than torch's eight."""


def lacking(device: torch.device) -> str | None:
    """What torch.compile has no compiler without, on a device."""
    if device.type == "cuda" and not tritons.available():
        return "Triton"
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "c++", "clang++"))):
        return "a C++ compiler"
    return None


def compiled(model: Model) -> Sequenced:
    """`Model.call` of a sequence, compiled once for all lengths but 1."""

    def sequence(
        values: Sequence[Tensor],
        state: Mapping[str, Tensor] | None,
        reset: Tensor | None,
        each: bool,
        blocks: Sequence[Block | None],
    ) -> tuple[Any, Any]:
        return model.call(model.steps(values), values, state, reset, each, blocks=blocks, training=model.dropping)

    made = torch.compile(sequence)

    def run(
        values: Sequence[Tensor],
        state: Mapping[str, Tensor] | None,
        reset: Tensor | None,
        each: bool,
        blocks: Sequence[Block | None],
    ) -> tuple[Any, Any]:
        for (*_, whole), x in zip(model.INPUTS, values, strict=True):
            if not whole:
                torch._dynamo.maybe_mark_dynamic(x, 1)
        if reset is not None:
            torch._dynamo.maybe_mark_dynamic(reset, 1)
        with torch._dynamo.config.patch(recompile_limit=VARIANTS):
            found: tuple[Any, Any] = made(values, state, reset, each, blocks)
        return found

    return run
