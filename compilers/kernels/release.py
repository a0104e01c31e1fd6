"""Giving back the memory of documents that a reset has closed: no row will read again what stands before its open document."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from . import native
from .memory import Memories


def release(state: Memories, grows: Iterable[str]) -> None:
    """Cut the registers that grow, by their names, to the longest document that is still open in some row.

    For the state that a call with resets leaves behind. Where knowing would mean waiting for a device, or a register has a fixed
    capacity, everything is kept.
    """
    position = state.get("position")
    if position is None or "count" in state or not position.is_cpu or not position.numel() or native.tracing():
        return
    steps = int(position.max())
    for name in grows:
        state[name] = _newest(state[name], steps)


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
