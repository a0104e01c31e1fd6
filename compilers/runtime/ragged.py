"""Rows of different lengths in one batch, padded at the end.

The steps are cut where a row ends, and rows that have ended leave the batch: no step is computed for a pad, and the state of each row
is that after its own last step, whatever the model computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .state import State

if TYPE_CHECKING:
    from .model import Model


def by_lengths(
    model: Model, values: Sequence[Tensor], state: Mapping[str, Tensor] | None, reset: Tensor | None, lengths: Tensor
) -> tuple[Any, State]:
    """Outputs [batch, time, *axes], zero on the pads, and the state after each row's own last step. lengths: [batch]."""
    from .model import InputError

    batch, steps = values[0].shape[0], model.steps(values)
    if steps is None:
        raise InputError("`lengths` are those of inputs that go through time, and here there are none")
    if tuple(lengths.shape) != (batch,) or lengths.dtype not in (torch.int64, torch.int32):
        raise InputError(
            f"`lengths` must be [batch] of whole numbers, here [{batch}]; got {list(lengths.shape)} {lengths.dtype}"
        )
    ends = lengths.tolist()
    if batch and not 0 <= min(ends) <= max(ends) <= steps:
        raise InputError(f"`lengths` lie between 0 and {steps}, the steps of the input; got {min(ends)} to {max(ends)}")
    if model.ANSWERS and batch and min(ends) == 0:
        raise InputError(f"`{model.ANSWERS[0]}` is an answer to a sequence, and row {ends.index(0)} has no step")
    if not model.has_step:
        if model.ANSWERS:
            return _by_themselves(model, values, reset, ends, steps)
        return _at_once(model, values, reset, lengths, steps)
    rows = torch.arange(batch, device=values[0].device)
    now = State(state, model.signature) if state else model.initial_state(batch)
    found: list[tuple[Tensor, int, Any]] = []
    left: list[tuple[Tensor, State]] = []
    at = 0
    for end in sorted({0, *ends}):
        piece = tuple(
            value[rows] if whole else value[rows, at:end]
            for (*_, whole), value in zip(model.INPUTS, values, strict=True)
        )
        if end > at and len(rows):
            y, now = model.sequence(piece, now, None if reset is None else reset[rows, at:end])
            found.append((rows, at, y))
        ended = torch.tensor([ends[i] == end for i in rows.tolist()], dtype=torch.bool, device=rows.device)
        if ended.any():
            left.append((rows[ended], now.select(ended.nonzero().flatten())))
            now = now.select((~ended).nonzero().flatten())
        rows, at = rows[~ended], end
    return _assembled(model, found, batch, steps), _gathered(model, left, batch)


def _at_once(
    model: Model, values: Sequence[Tensor], reset: Tensor | None, lengths: Tensor, steps: int
) -> tuple[Any, State]:
    """A model that reads the future: the pads of a row are a document of their own."""
    index = torch.arange(steps, device=lengths.device)
    pads = index == lengths[:, None]
    y, state = model.sequence(values, None, pads if reset is None else pads | reset)

    def silent(one: Tensor) -> Tensor:
        real = (index < lengths[:, None]).reshape(*lengths.shape, steps, *[1] * (one.dim() - 2))
        return torch.where(real, one, torch.zeros((), dtype=one.dtype, device=one.device))

    return ({label: silent(one) for label, one in y.items()} if isinstance(y, dict) else silent(y)), state


def _by_themselves(
    model: Model, values: Sequence[Tensor], reset: Tensor | None, ends: Sequence[int], steps: int
) -> tuple[Any, State]:
    """A model that reads the future and answers at the last step, which is to be a row's own: rows of one length at a time."""
    found, left = [], []
    for end in sorted(set(ends)):
        rows = torch.tensor([i for i, other in enumerate(ends) if other == end], device=values[0].device)
        piece = [
            value[rows] if whole else value[rows, :end] for (*_, whole), value in zip(model.INPUTS, values, strict=True)
        ]
        y, state = model.sequence(piece, None, None if reset is None else reset[rows, :end])
        found.append((rows, 0, y))
        left.append((rows, state))
    return _assembled(model, found, len(ends), steps), _gathered(model, left, len(ends))


def _assembled(model: Model, found: Sequence[tuple[Tensor, int, Any]], batch: int, steps: int) -> Any:
    """The outputs of the pieces (of some rows, from a step on) in their places, zero elsewhere; of answers the last."""

    def whole(label: str, like: Tensor, parts: Sequence[tuple[Tensor, int, Tensor]]) -> Tensor:
        first = parts[0][2] if parts else like
        once = label in model.ANSWERS
        y = first.new_zeros(batch, *first.shape[1:]) if once else first.new_zeros(batch, steps, *first.shape[2:])
        for rows, at, part in parts:
            index = () if once else (torch.arange(at, at + part.shape[1], device=rows.device),)
            y = y.index_put((rows if once else rows[:, None], *index), part)
        return y

    nothing, _ = model.nothing(0 if model.ANSWERS else batch, 0, None)
    if isinstance(nothing, dict):
        return {
            label: whole(label, nothing[label], [(rows, at, y[label]) for rows, at, y in found]) for label in nothing
        }
    return whole(model.outputs[0], nothing, found)


def _gathered(model: Model, left: Sequence[tuple[Tensor, State]], batch: int) -> State:
    """The rows' states in their old order; registers that grew to different lengths are filled up in front of their oldest entry."""
    order = torch.cat([rows for rows, _ in left]).argsort()
    found = {}
    for name, memory in model.signature.memories.items():
        parts = [state[name] for _, state in left]
        if None in memory.sizes:
            most = max(part.shape[1] for part in parts)
            parts = [
                torch.cat([part.new_zeros(part.shape[0], most - part.shape[1], *part.shape[2:]), part], 1)
                for part in parts
            ]
        found[name] = torch.cat(parts)[order]
    return State(found, model.signature)
