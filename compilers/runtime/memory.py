"""What is remembered from step to step: plain memories [batch, *axes] and registers [batch, entries, *axes], oldest first.

Tensors are [batch, time, *axes] over a sequence, [batch, *axes] in a step. Batch may be 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import native
from .clock import Time
from .state import Course

Memories = dict[str, Any]
"""What is remembered, by path: tensors, or the course of each over the steps where all of it is wanted."""


def initial(time: Time, sizes: Sequence[int], dtype: torch.dtype, start: Tensor | None, fill: float) -> Tensor:
    """[batch, *sizes]: what memory is before the first step."""
    if start is not None:
        return start.to(dtype).expand(time.batch, *sizes)
    return torch.full((time.batch, *sizes), fill, dtype=dtype, device=time.device)


def recall(
    time: Time,
    old: Memories,
    key: str,
    sizes: Sequence[int],
    dtype: torch.dtype,
    start: Tensor | None = None,
    fill: float = 0.0,
) -> Tensor:
    """The memory before a step: [batch, *sizes]."""
    kept = old.get(key)
    if kept is None:
        return initial(time, sizes, dtype, start, fill)
    if time.reset is not None:
        clear = torch.full((), fill, dtype=kept.dtype, device=kept.device) if start is None else start.to(kept.dtype)
        kept = torch.where(time.reset.reshape(-1, *[1] * (kept.dim() - 1)), clear, kept)
    return kept


class Room:
    """Spare capacity behind a register, so that a step need not copy it. Entries are never written twice: two continuations of
    one state share what they have in common, and the second to append copies. Who takes the only token may write the next entry."""

    def __init__(self, buffer: Tensor, used: int) -> None:
        self.buffer, self.tokens = buffer, [used]

    def claim(self, entry: int) -> bool:
        """Whether the caller, and nobody else, may write this entry."""
        try:
            free = self.tokens.pop()
        except IndexError:
            return False
        if free == entry < self.buffer.shape[1]:
            return True
        self.tokens.append(free)
        return False


_SMALL = 16


def push(
    time: Time, old: Memories, new: Memories, key: str, x: Tensor, size: int | None, start: Tensor | None = None
) -> Tensor:
    """A register with the input of the call entered: [batch, entries, *axes], oldest first. Keeps the last ``size``."""
    kept: Tensor | None = old.get(key)
    x = x.expand(time.batch, *x.shape[1:])
    if time.count is not None and size is None and kept is not None:
        new[key] = _write(time, kept, x)
        return kept
    if time.steps is None:
        return _push_one(time, new, key, x, kept, size, start)
    if kept is None and start is not None:
        kept = _started(time, x, size or 0, start, x.shape[2:])
    seen = x if kept is None else torch.cat([kept.to(x.dtype), x], 1)
    if time.each:
        before = seen.shape[1] - time.steps
        new[key] = Course(lambda t: _after(time, seen[:, : before + t + 1], t, size, start))
    else:
        new[key] = _after(time, seen, time.steps - 1, size, start)
    return seen


def _after(time: Time, seen: Tensor, t: int, size: int | None, start: Tensor | None) -> Tensor:
    """The register after step t, from all that it has seen until then."""
    return seen if size is None else _last(time, seen, size, start, t)


def _last(time: Time, seen: Tensor, size: int, start: Tensor | None, t: int) -> Tensor:
    """The register after step t, the last that was seen: [batch, size, *axes], oldest first, with what a reset has cleared."""
    # Whoever writes this down for any number of steps must not see it ask how many there are.
    short = size if native.watched() else size - seen.shape[1]
    last = (F.pad(seen, (0, 0) * (seen.dim() - 2) + (short, 0)) if short > 0 else seen)[:, -size:]
    if time.reset is None:
        return last.contiguous()
    slot = torch.arange(size - 1, -1, -1, device=time.device)
    return _kept(last, slot, time.since[:, t : t + 1] + 1, start)


def _write(time: Time, kept: Tensor, x: Tensor) -> Tensor:
    """A register of fixed capacity with the input of the call written behind what is in it, in place."""
    assert time.count is not None
    if time.steps is None:
        return kept.index_copy_(1, time.count, x[:, None].to(kept.dtype))
    return kept.index_copy_(1, time.count + torch.arange(time.steps, device=time.device), x.to(kept.dtype))


def keep(time: Time, old: Memories, new: Memories, key: str, x: Tensor, size: int) -> None:
    """Keep the last inputs of a sequence as a register, without looking at it as a whole."""
    assert time.steps is not None
    kept = old.get(key)

    def after(t: int) -> Tensor:
        if native.watched():
            return _last(time, x if kept is None else torch.cat([kept.to(x.dtype), x], 1), size, None, t)
        tail = x[:, max(t + 1 - size, 0) : t + 1]
        if kept is not None and tail.shape[1] < size:
            tail = torch.cat([kept[:, tail.shape[1] :].to(x.dtype), tail], 1)
        return _last(time, tail, size, None, t)

    new[key] = Course(after) if time.each else after(time.steps - 1)


def history(old: Memories, key: str, entries: int | None) -> Tensor | None:
    """The last entries of a register (None: all), oldest first."""
    kept = old.get(key)
    return kept if kept is None or entries is None else kept[:, kept.shape[1] - entries :]


def arranged(h: Tensor | None, order: Sequence[int], sizes: Sequence[int]) -> Tensor | None:
    """A memory [batch, *axes] permuted, and reshaped to [batch, *sizes]."""
    return None if h is None else h.permute(*order).reshape(h.shape[0], *sizes)


def _started(time: Time, x: Tensor, size: int, start: Tensor, axes: Sequence[int]) -> Tensor:
    return start.to(x.dtype).flip(0).expand(time.batch, size, *axes)


def _push_one(
    time: Time, new: Memories, key: str, x: Tensor, kept: Tensor | None, size: int | None, start: Tensor | None
) -> Tensor:
    if kept is None:
        entries = 0 if size is None else size
        kept = (
            _started(time, x, entries, start, x.shape[1:])
            if start is not None
            else x.new_zeros(time.batch, entries, *x.shape[1:])
        )
    elif size is not None:
        kept = _emptied(kept, time, start)
    if (size is not None and size <= _SMALL) or torch.is_grad_enabled() or native.watched():
        whole = torch.cat([kept.to(x.dtype), x[:, None]], 1)
        new[key] = seen = whole if size is None else whole[:, 1:]
        return seen
    new[key] = seen = _append(kept, x, size)
    return seen


def _append(kept: Tensor, x: Tensor, size: int | None) -> Tensor:
    entries = kept.shape[1]
    room, entry = getattr(kept, "room", (None, 0))
    if room is None or not room.claim(entry):
        buffer = x.new_empty(kept.shape[0], 2 * max(entries, 32), *x.shape[1:])
        held = kept if size is None else kept[:, 1:]
        entry = held.shape[1]
        buffer[:, :entry] = held
        room = Room(buffer, entry)
        room.claim(entry)
    room.buffer[:, entry] = x
    seen: Tensor = room.buffer[:, (0 if size is None else entry + 1 - size) : entry + 1]
    seen.room = (room, entry + 1)  # type: ignore[attr-defined]
    room.tokens.append(entry + 1)
    return seen


def register(
    time: Time, old: Memories, key: str, size: int | None, axes: Sequence[int], start: Tensor | None
) -> Tensor:
    """A register before the input of a step: [batch, entries, *axes], oldest first."""
    kept = old.get(key)
    if kept is None:
        if start is not None:
            return start.to(time.data).flip(0).expand(time.batch, size or 0, *axes)
        return torch.zeros(time.batch, size or 0, *axes, dtype=time.data, device=time.device)
    return _emptied(kept, time, start) if size is not None else kept


def _emptied(kept: Tensor, time: Time, start: Tensor | None) -> Tensor:
    """A register in a step, cleared where there is a reset."""
    if time.reset is None:
        return kept
    zero = torch.zeros((), dtype=kept.dtype, device=kept.device)
    clear = zero if start is None else start.to(kept.dtype).flip(0)
    return torch.where(time.reset.reshape(-1, *[1] * (kept.dim() - 1)), clear, kept)


def windows(seen: Tensor, time: Time, size: int, lag: int, start: Tensor | None = None) -> Tensor:
    """[batch, (steps,) size, *axes], newest first: the register as it stands at each step, absent slots zero."""
    if time.steps is None:
        return seen.flip(1)
    before = seen.shape[1] - time.steps
    need = size - 1 + lag
    if native.watched():
        seen = F.pad(seen, (0, 0) * (seen.dim() - 2) + (need, 0))[:, -(time.steps + need) :]
    elif before < need:
        seen = F.pad(seen, (0, 0) * (seen.dim() - 2) + (need - before, 0))
    elif before > need:
        seen = seen[:, before - need :]
    seen = seen[:, : seen.shape[1] - lag] if lag else seen
    slots = seen.unfold(1, size, 1).movedim(-1, 2)
    if native.watched():
        slots = slots.contiguous()  # to turn around what overlaps, torch asks how many steps there are
    slots = slots.flip(2)
    if time.reset is None:
        return slots
    slot = torch.arange(size, device=time.device)
    return _kept(slots, slot, (time.since + (1 - lag)).unsqueeze(-1), start)


def _kept(slots: Tensor, slot: Tensor, entered: Tensor, start: Tensor | None) -> Tensor:
    """Slots that have been entered since the last reset; the others are as they were at the start."""
    there = slot < entered
    other = torch.zeros((), dtype=slots.dtype, device=slots.device)
    if start is not None:
        other = start.to(slots.dtype)[(slot - entered).clamp(min=0)]
    return torch.where(there.reshape(*there.shape, *[1] * (slots.dim() - there.dim())), slots, other)


def by_slot(x: Tensor, dim: int, time: Time, entries: int, size: int | None, lag: int) -> Tensor:
    """A constant over slots laid out over entries: dim (negative) becomes [1, (steps,) entries] there, in front of the rest."""
    slot = time.slots(entries, size, lag).clamp(0, x.shape[dim] - 1)
    return x.movedim(dim, 0)[slot].movedim(slot.dim() - 1, dim)


def recall_all(
    time: Time, old: Memories, key: str, sizes: Sequence[int], dtype: torch.dtype, start: Tensor | None, fill: float
) -> Tensor:
    """The memory before a sequence, whatever is reset later."""
    kept = old.get(key)
    return initial(time, sizes, dtype, start, fill) if kept is None else kept


def previous(x: Tensor, first: Tensor | None, clear: Tensor | None, time: Time) -> Tensor:
    """x a step before: [batch, steps, *axes]; ``first`` [batch, *axes] comes before all, ``clear`` after a reset."""
    return _moved(x.expand(time.batch, *x.shape[1:]), first, clear, time.reset)


def _moved(x: Tensor, first: Tensor | None, clear: Tensor | None, reset: Tensor | None) -> Tensor:
    shape = (x.shape[0], *x.shape[2:])
    zero = torch.zeros((), dtype=x.dtype, device=x.device)
    cleared = (zero if clear is None else clear.to(x.dtype)).expand(shape)
    start = cleared if first is None else first.to(x.dtype).expand(shape)
    moved = torch.cat([start[:, None], x if native.watched() else x[:, :-1]], 1)
    moved = moved[:, :-1] if native.watched() else moved
    if reset is None:
        return moved
    return torch.where(reset.reshape(*reset.shape, *[1] * (x.dim() - 2)), cleared[:, None], moved)


def delayed(
    x: Tensor, before: Tensor | None, reset: Tensor | None, clear: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """x a step before, and the last x: [batch, steps, *axes]; ``before`` [batch, *axes] comes before all, ``clear`` after a reset."""
    return _moved(x, before, clear, reset), x[:, -1]


def _at(course: Sequence[Memories], key: str, t: int) -> Tensor:
    found: Tensor = course[t][key]
    return found


def loop(
    cell: Callable[..., tuple[Tensor, ...]], time: Time, old: Memories, new: Memories, *xs: Tensor
) -> tuple[Tensor, ...]:
    """The outputs of a cell, one step after another: [batch, steps, *axes] each."""
    assert time.steps is not None
    columns = [
        x.unbind(1) if x.shape[1] == time.steps else x.expand(-1, time.steps, *x.shape[2:]).unbind(1) for x in xs
    ]
    memory, found, course = old, [], []
    for t in range(time.steps):
        fresh: Memories = {}
        found.append(cell(time.at(t), memory, fresh, *(column[t] for column in columns)))
        memory = fresh
        if time.each:
            course.append(memory)
    if time.each:
        new.update({key: Course(partial(_at, course, key)) for key in memory})
    else:
        new.update(memory)
    return tuple(torch.stack([y.expand(time.batch, *y.shape[1:]) for y in ys], 1) for ys in zip(*found, strict=True))
