"""What a time step may read, as a run from a first to a last place: numbers per step, never a mask over steps and places."""

from __future__ import annotations

import torch
from torch import Tensor

from . import native
from .clock import Time


def seen(time: Time, entries: int, size: int | None) -> tuple[Tensor | None, Tensor | None]:
    """The first and the last entry of a register, oldest first, that a step sees with its own: [batch or 1, (steps)] each.

    None for the first: nothing is hidden but what comes later. None for the last: it is the step's own, the newest being last.
    """
    found: tuple[Tensor | None, Tensor | None] = time.once(("seen", entries, size), lambda: _seen(time, entries, size))
    return found


def _seen(time: Time, entries: int, size: int | None) -> tuple[Tensor | None, Tensor | None]:
    steps = time.steps
    if time.count is not None and size is None:
        last = time.count if steps is None else time.count + torch.arange(steps, device=time.device)[None]
        return last - time.position, last
    if steps is not None:
        if time.fresh and time.reset is None and entries == steps and _unbounded(entries, size):
            return None, None
        own = torch.arange(entries - steps, entries, device=time.device)[None]
    else:
        if native.sees(time.position) and bool((time.position >= entries - 1).all()):
            return None, None
        own = torch.full((1,), entries - 1, device=time.device)
    past = time.position if size is None else time.position.clamp(max=size - 1)
    return (own - past).clamp(min=0), None


def _unbounded(entries: int, size: int | None) -> bool:
    """Whether a register has room for all entries. One who writes this down for any number of them must not see it asked."""
    return size is None or (not native.watched() and entries <= size)


def documents(time: Time) -> tuple[Tensor, Tensor] | None:
    """The first and the last step of the document of each step of a sequence, [batch,steps] each; None if there is but one."""
    reset = time.reset
    if reset is None:
        return None
    ends: tuple[Tensor, Tensor] = time.once("documents", lambda: _documents(reset))
    return ends


def _documents(reset: Tensor) -> tuple[Tensor, Tensor]:
    steps = reset.shape[1]
    index = torch.arange(steps, device=reset.device)
    first = torch.where(reset, index, 0).cummax(1).values
    following = torch.where(reset, index, steps)[:, 1:]
    following = torch.cat([following, following.new_full((reset.shape[0], 1), steps)], 1)
    return first, following.flip(1).cummin(1).values.flip(1) - 1
