"""Giving back the memory of documents that a reset has closed: no row will read again what stands before its open document."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from . import native
from .memory import Memories


def release(state: Memories, grows: Iterable[str]) -> None:
    """Cut the registers that grow, by their names, to the longest document that is still open in some row.

    For the state that a call with resets leaves behind. What is not finite does not stay in what closed documents left in other
    rows. Where knowing would mean waiting for a device, or a register has a fixed capacity, everything is kept.
    """
    position = state.get("position")
    if (
        position is None
        or "count" in state
        or not position.numel()
        or not native.sees(position)
        or native.transformed()
    ):
        return
    steps = int(position.max())
    for name in grows:
        kept = _newest(state[name], steps)
        state[name] = kept if bool(kept.isfinite().all()) else _cleared(kept, position)


def _cleared(kept: Tensor, position: Tensor) -> Tensor:
    """A register with zeros for what a row will not read: [batch, entries, *axes]."""
    age = position.new_ones(kept.shape[1]).cumsum(0).flip(0) - 1
    closed = age >= position[:, None]
    return kept.masked_fill(closed.reshape(*closed.shape, *[1] * (kept.dim() - 2)), 0)


def _newest(kept: Tensor, entries: int) -> Tensor:
    """The newest entries of a register: [batch, entries, *axes]. Copied where that frees half of the memory that it lies in."""
    old = kept.shape[1] - entries
    if old <= 0:
        return kept
    cut = kept[:, old:]
    if 2 * cut.numel() * cut.element_size() <= cut.untyped_storage().nbytes():
        return cut.clone()
    room = getattr(kept, "room", None)  # steps go on writing where they would have
    if room is not None:
        cut.room = room  # type: ignore[attr-defined]
    return cut
