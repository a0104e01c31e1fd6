"""What generated modules call: time, memory, and the operations that torch lacks. Needs torch alone.

Tensors are [batch, time, *axes] over a sequence, [batch, *axes] in a step, [*axes] where they are constant. Batch (and, where it
does not matter, time) may be 1.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .linear import linear as linear

State = dict[str, Tensor]


_LONG_AGO = 2**40


class Time:
    """The steps of one call: ``position`` counts from the start or the last reset; ``reset`` clears memory before a step.

    Over a sequence both are [batch or 1, steps]; in a single step (``steps`` None) they are [batch or 1]. ``count`` [1] is
    given where registers that grow have a fixed capacity: the number of entries in them so far. They are written in place.
    """

    def __init__(
        self,
        batch: int,
        steps: int | None,
        position: Tensor | None,
        reset: Tensor | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.batch, self.steps, self.reset, self.device = batch, steps, reset, device
        self.before = position
        self.data = dtype
        self.dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self.complex = torch.complex128 if dtype == torch.float64 else torch.complex64
        self.fresh = position is None
        self.count: Tensor | None = None
        self._known: dict[Any, Any] = {}

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """What does not change within a call, computed once."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    @property
    def position(self) -> Tensor:
        return self.once("position", self._position)  # type: ignore[no-any-return]

    def _position(self) -> Tensor:
        if self.steps is None:
            start = torch.zeros(1, dtype=torch.long, device=self.device) if self.before is None else self.before
            return start if self.reset is None else torch.where(self.reset, 0, start)
        index = torch.arange(self.steps, device=self.device)[None]
        whole = index if self.before is None else index + self.before[:, None]
        if self.reset is None:
            return whole
        last = torch.where(self.reset, index, -1).cummax(1).values
        return torch.where(last >= 0, index - last, whole)

    @property
    def since(self) -> Tensor:
        """Over a sequence: the steps since the last reset in it, a large number before the first."""
        return self.once("since", self._since)  # type: ignore[no-any-return]

    def _since(self) -> Tensor:
        assert self.steps is not None and self.reset is not None
        index = torch.arange(self.steps, device=self.device)[None]
        last = torch.where(self.reset, index, -1).cummax(1).values
        return torch.where(last >= 0, index - last, _LONG_AGO)

    @property
    def real_position(self) -> Tensor:
        return self.once("real position", lambda: self.position.to(self.dtype))  # type: ignore[no-any-return]

    @property
    def start(self) -> Tensor:
        return self.once("start", lambda: self.position == 0)  # type: ignore[no-any-return]

    def after(self) -> Tensor:
        """The position that the next call starts from: [batch]."""
        last = self.position if self.steps is None else self.position[:, -1]
        return (last + 1).expand(self.batch)

    def at(self, t: int) -> Time:
        """One step of a sequence."""
        position = self.position[:, t if self.position.shape[1] > 1 else 0]
        moment = Time(
            self.batch, None, position, None if self.reset is None else self.reset[:, t], self.data, self.device
        )
        moment.fresh = self.fresh and t == 0
        return moment

    def present(self, entries: int, size: int | None, lag: int) -> Tensor:
        """[batch or 1, (steps,) entries]: which entries of a register, oldest first, a step may read.

        size: how many slots the register has; lag: 0 if the step's own input is among them, 1 if not.
        """
        return self.once((entries, size, lag), lambda: self._present(entries, size, lag))  # type: ignore[no-any-return]

    def _present(self, entries: int, size: int | None, lag: int) -> Tensor:
        slot = self.slots(entries, size, lag)
        reached = torch.clamp(self.position + (1 - lag), max=size) if size is not None else self.position + (1 - lag)
        return (slot >= 0) & (slot < reached.unsqueeze(-1))

    def slots(self, entries: int, size: int | None, lag: int) -> Tensor:
        """[1, (steps,) entries]: the slot in which an entry, oldest first, stands at each step (negative: not yet there)."""
        index = torch.arange(entries, device=self.device)
        count = self.count if size is None else None
        if self.steps is None:
            newest = entries - 1 if count is None else count - lag
            return (newest - index)[None]
        first = entries - self.steps if count is None else count
        now = torch.arange(self.steps, device=self.device) + (first - lag)
        return now[None, :, None] - index

    def visible(self, entries: int, size: int | None) -> Tensor | None:
        """``present``, or None where nothing but causality hides an entry (over a sequence), or nothing at all (in a step)."""
        return self.once(("visible", entries, size), lambda: self._visible(entries, size))  # type: ignore[no-any-return]

    def _visible(self, entries: int, size: int | None) -> Tensor | None:
        if self.steps is not None:
            plain = self.fresh and self.reset is None and entries == self.steps and (size is None or entries <= size)
            return None if plain else self.present(entries, size, 0)
        if self.count is None and self.device.type == "cpu" and bool((self.position >= entries - 1).all()):
            return None
        return self.present(entries, size, 0)


def real(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.is_floating_point() or x.is_complex() else x.to(dtype)


# Memory.


def initial(time: Time, sizes: Sequence[int], dtype: torch.dtype, start: Tensor | None, fill: float) -> Tensor:
    """[batch, *sizes]: what memory is before the first step."""
    if start is not None:
        return start.to(dtype).expand(time.batch, *sizes)
    return torch.full((time.batch, *sizes), fill, dtype=dtype, device=time.device)


def recall(
    time: Time,
    old: State,
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


def begin(
    time: Time, old: State, key: str, sizes: Sequence[int], dtype: torch.dtype, start: Tensor | None = None
) -> Tensor | None:
    """The memory before a sequence, or None where it is zero."""
    kept = old.get(key)
    return kept if kept is not None or start is None else initial(time, sizes, dtype, start, 0.0)


def state_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype


class Room:
    """Spare capacity behind a register, so that a step need not copy it. Entries are never written twice: two continuations of
    one state share what they have in common, and the second to append copies."""

    def __init__(self, buffer: Tensor, used: int) -> None:
        self.buffer, self.used = buffer, used


_SMALL = 16


def push(
    time: Time, old: State, new: State, key: str, x: Tensor, size: int | None, start: Tensor | None = None
) -> Tensor:
    """A register with the input of the call entered: [batch, entries, *axes], oldest first. Keeps the last ``size``."""
    kept = old.get(key)
    x = x.expand(time.batch, *x.shape[1:])
    if time.count is not None and size is None and kept is not None:
        new[key] = _write(time, kept, x)
        return kept
    if time.steps is None:
        return _push_one(time, new, key, x, kept, size, start)
    if kept is None and start is not None:
        kept = _started(time, x, size or 0, start, x.shape[2:])
    seen = x if kept is None else torch.cat([kept.to(x.dtype), x], 1)
    if size is None:
        new[key] = seen
    else:
        new[key] = _last(time, seen, size, start)
    return seen


def _last(time: Time, seen: Tensor, size: int, start: Tensor | None) -> Tensor:
    """The register after a sequence: [batch, size, *axes], oldest first, with what a reset has cleared."""
    short = size - seen.shape[1]
    last = F.pad(seen, (0, 0) * (seen.dim() - 2) + (short, 0)) if short > 0 else seen[:, -size:]
    if time.reset is None:
        return last.contiguous()
    slot = torch.arange(size - 1, -1, -1, device=time.device)
    return _kept(last, slot, time.since[:, -1:] + 1, start)


def _write(time: Time, kept: Tensor, x: Tensor) -> Tensor:
    """A register of fixed capacity with the input of the call written behind what is in it, in place."""
    assert time.count is not None
    if time.steps is None:
        return kept.index_copy_(1, time.count, x[:, None].to(kept.dtype))
    return kept.index_copy_(1, time.count + torch.arange(time.steps, device=time.device), x.to(kept.dtype))


def keep(time: Time, old: State, new: State, key: str, x: Tensor, size: int) -> None:
    """Keep the last inputs of a sequence as a register, without looking at it as a whole."""
    kept = old.get(key)
    tail = x[:, -size:]
    if kept is not None and tail.shape[1] < size:
        tail = torch.cat([kept[:, tail.shape[1] :].to(x.dtype), tail], 1)
    new[key] = _last(time, tail, size, None)


def history(old: State, key: str, entries: int | None) -> Tensor | None:
    """The last entries of a register (None: all), oldest first."""
    kept = old.get(key)
    return kept if kept is None or entries is None else kept[:, kept.shape[1] - entries :]


def arranged(h: Tensor | None, order: Sequence[int], sizes: Sequence[int]) -> Tensor | None:
    """A memory [batch, *axes] permuted, and reshaped to [batch, *sizes]."""
    return None if h is None else h.permute(*order).reshape(h.shape[0], *sizes)


def _started(time: Time, x: Tensor, size: int, start: Tensor, axes: Sequence[int]) -> Tensor:
    return start.to(x.dtype).flip(0).expand(time.batch, size, *axes)


def _push_one(
    time: Time, new: State, key: str, x: Tensor, kept: Tensor | None, size: int | None, start: Tensor | None
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
    if (size is not None and size <= _SMALL) or torch.is_grad_enabled():
        whole = torch.cat([kept.to(x.dtype), x[:, None]], 1)
        new[key] = seen = whole if size is None else whole[:, 1:]
        return seen
    new[key] = seen = _append(kept, x, size)
    return seen


def _append(kept: Tensor, x: Tensor, size: int | None) -> Tensor:
    entries = kept.shape[1]
    room: Room | None = getattr(kept, "room", None)
    if (
        room is None
        or room.used != kept.storage_offset() // _stride(kept) + entries
        or room.used == room.buffer.shape[1]
    ):
        buffer = x.new_empty(kept.shape[0], 2 * max(entries, 32), *x.shape[1:])
        held = kept if size is None else kept[:, 1:]
        buffer[:, : held.shape[1]] = held
        room = Room(buffer, held.shape[1])
    room.buffer[:, room.used] = x
    room.used += 1
    seen = room.buffer[:, (0 if size is None else room.used - size) : room.used]
    seen.room = room  # type: ignore[attr-defined]
    return seen


def _stride(x: Tensor) -> int:
    return max(x.stride(1), 1)


def register(time: Time, old: State, key: str, size: int | None, axes: Sequence[int], start: Tensor | None) -> Tensor:
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
    if before < need:
        seen = F.pad(seen, (0, 0) * (seen.dim() - 2) + (need - before, 0))
    elif before > need:
        seen = seen[:, before - need :]
    seen = seen[:, : seen.shape[1] - lag] if lag else seen
    slots = seen.unfold(1, size, 1).movedim(-1, 2).flip(2)
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
    moved = x.movedim(dim, 0)[slot]
    return moved.movedim(slot.dim() - 1, dim) if moved.dim() > slot.dim() else moved


# Operations.


def spread(time: Time, x: Tensor | float, sizes: Sequence[int], dtype: torch.dtype) -> Tensor:
    """x [batch or 1, (steps or 1,) *axes of these sizes or 1], or a number, in full size; a number in ``dtype``."""
    lead = (time.batch,) if time.steps is None else (time.batch, time.steps)
    if not isinstance(x, Tensor):
        return torch.full((*lead, *sizes), x, dtype=dtype, device=time.device)
    if dtype.is_complex or not (x.is_floating_point() or x.is_complex()):
        x = x.to(dtype)
    return x.expand(*lead, *sizes)


def lengthened(x: Tensor, time: Time) -> Tensor:
    """x [batch or 1, steps or 1, *axes] with every step written out."""
    return x.expand(x.shape[0], time.steps or 1, *x.shape[2:])


def leading(x: Tensor | float, axes: int, like: Tensor) -> Tensor:
    """A constant with batch and time axes of size 1 in front."""
    if not isinstance(x, Tensor):
        return torch.full((1, 1, *[1] * axes), x, dtype=like.dtype, device=like.device)
    return x.reshape(*[1] * (2 + axes - x.dim()), *x.shape)


def recall_all(
    time: Time, old: State, key: str, sizes: Sequence[int], dtype: torch.dtype, start: Tensor | None, fill: float
) -> Tensor:
    """The memory before a sequence, whatever is reset later."""
    kept = old.get(key)
    return initial(time, sizes, dtype, start, fill) if kept is None else kept


def shifted(x: Tensor, dim: int) -> Tensor:
    """Moved one place along an axis: what leaves is lost, a zero enters."""
    return torch.cat([torch.zeros_like(x.narrow(dim, 0, 1)), x.narrow(dim, 0, x.shape[dim] - 1)], dim)


def softmax(x: Tensor, dims: Sequence[int], there: Tensor | None = None) -> Tensor:
    """Softmax along dims, of what is there; all zero where nothing is."""
    if there is not None:
        x = x.masked_fill(~there, -torch.inf)
    if len(dims) == 1:
        y = torch.softmax(x, dims[0])
    else:
        keep = x.dim() - len(dims)
        moved = x.movedim(tuple(dims), tuple(range(keep, x.dim())))
        y = (
            torch.softmax(moved.flatten(keep), -1)
            .reshape(moved.shape)
            .movedim(tuple(range(keep, x.dim())), tuple(dims))
        )
    return y if there is None else torch.where(there, y, torch.zeros((), dtype=y.dtype, device=y.device))


def masked(x: Tensor, there: Tensor, fill: float = 0.0) -> Tensor:
    return torch.where(there, x, torch.full((), fill, dtype=x.dtype, device=x.device))


def masked_mean(x: Tensor, dims: Sequence[int], there: Tensor) -> Tensor:
    count = there.expand(torch.broadcast_shapes(there.shape, x.shape)).sum(tuple(dims)).clamp(min=1)
    return masked(x, there).sum(tuple(dims)) / count


def block_linear(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """x [..., *per, in], w [*per, out, in], b [*per, out] -> [..., *per, out]."""
    n = w.dim() - 2
    lead = x.shape[: x.dim() - 1 - n]
    per = prod(w.shape[:n])
    wide = w.reshape(per, *w.shape[-2:]).transpose(1, 2)
    rows = x.reshape(-1, per, x.shape[-1]).transpose(0, 1)
    y = torch.bmm(rows.to(w.dtype), wide) if b is None else torch.baddbmm(b.reshape(per, 1, -1), rows.to(w.dtype), wide)
    return y.transpose(0, 1).reshape(*lead, *w.shape[:n], w.shape[-2])


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    return F.layer_norm(
        x, x.shape[-1:], None if weight is None else weight.to(x.dtype), None if bias is None else bias.to(x.dtype), eps
    )


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], None if weight is None else weight.to(x.dtype), eps)


def wide_norm(x: Tensor, dims: Sequence[int], eps: float, centre: bool) -> Tensor:
    """layer_norm (centre) or rms_norm along any dims, without weight."""
    wide = x.to(state_dtype(x))
    if centre:
        wide = wide - wide.mean(tuple(dims), keepdim=True)
    return (wide * torch.rsqrt(wide.square().mean(tuple(dims), keepdim=True) + eps)).to(x.dtype)


def l2_norm(x: Tensor, dims: Sequence[int], eps: float) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=tuple(dims), keepdim=True)
    return x / length.clamp(min=eps)


def turn(x: Tensor, angle: Tensor, halves: bool) -> Tensor:
    """Pairs of the last axis turned: x [..., n], angle [..., n / 2]."""
    return turn_by(x, torch.cos(angle), torch.sin(angle), halves)


def turn_by(x: Tensor, c: Tensor, s: Tensor, halves: bool) -> Tensor:
    c, s = c.to(x.dtype), s.to(x.dtype)
    if halves:
        a, b = x.chunk(2, -1)
        return torch.cat([a * c - b * s, a * s + b * c], -1)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)


def concat(parts: Sequence[Tensor], dim: int) -> Tensor:
    shape = torch.broadcast_shapes(*(p.movedim(dim, -1).shape[:-1] for p in parts))
    return torch.cat([p.movedim(dim, -1).expand(*shape, -1).movedim(-1, dim) for p in parts], dim)


def pack(parts: Sequence[Tensor | float], dim: int, like: Tensor) -> Tensor:
    tensors = [p if isinstance(p, Tensor) else torch.full((), p, dtype=like.dtype, device=like.device) for p in parts]
    return torch.stack(torch.broadcast_tensors(*tensors), dim)


def select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """Entry ``index`` (broadcast against the rest of x) of the axis ``dim``."""
    moved = x.movedim(dim, -1)
    shape = torch.broadcast_shapes(moved.shape[:-1], index.shape)
    return torch.gather(moved.expand(*shape, moved.shape[-1]), -1, index.expand(shape).unsqueeze(-1)).squeeze(-1)


def modulo(a: Tensor, b: Tensor) -> Tensor:
    return torch.sub(a, b * torch.floor(a / b))


def previous(x: Tensor, first: Tensor | None, clear: Tensor | None, time: Time) -> Tensor:
    """x a step before: [batch, steps, *axes]; ``first`` [batch, *axes] comes before all, ``clear`` after a reset."""
    shape = (time.batch, *x.shape[2:])
    zero = torch.zeros((), dtype=x.dtype, device=x.device)
    cleared = (zero if clear is None else clear.to(x.dtype)).expand(shape)
    start = cleared if first is None else first.to(x.dtype).expand(shape)
    moved = torch.cat([start[:, None], x.expand(time.batch, *x.shape[1:])[:, :-1]], 1)
    if time.reset is None:
        return moved
    return torch.where(time.reset.reshape(*time.reset.shape, *[1] * (x.dim() - 2)), cleared[:, None], moved)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, time: Time, size: int | None) -> Tensor:
    """softmax(scale q k) v over the entries of two registers.

    q: [batch, (steps,) heads, group, K]; k: [batch, entries, heads, K]; v: [batch, entries, heads, V].
    Returns [batch, (steps,) heads, group, V].
    """
    one = time.steps is None
    if one:
        q = q.unsqueeze(1)
    batch, steps, heads, group, _ = q.shape
    there = time.visible(k.shape[1], size)
    mask = None if there is None else (there.unsqueeze(1) if one else there).unsqueeze(1)
    y = F.scaled_dot_product_attention(
        q.flatten(2, 3).transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None and not one,
        scale=scale,
        enable_gqa=group > 1,
    )
    y = y.transpose(1, 2).reshape(batch, steps, heads, group, -1)
    return y.squeeze(1) if one else y


def loop(
    cell: Callable[..., tuple[Tensor, ...]], time: Time, old: State, new: State, *xs: Tensor
) -> tuple[Tensor, ...]:
    """The outputs of a cell, one step after another: [batch, steps, *axes] each."""
    assert time.steps is not None
    columns = [
        x.unbind(1) if x.shape[1] == time.steps else x.expand(-1, time.steps, *x.shape[2:]).unbind(1) for x in xs
    ]
    memory, found = old, []
    for t in range(time.steps):
        fresh: State = {}
        found.append(cell(time.at(t), memory, fresh, *(column[t] for column in columns)))
        memory = fresh
    new.update(memory)
    return tuple(torch.stack([y.expand(time.batch, *y.shape[1:]) for y in ys], 1) for ys in zip(*found, strict=True))


# Modules.


class Body(nn.Module):
    """A graph: parameters and layers under their paths, the code in a subclass.

    ``at`` is the path of this body in the model, which its memories are filed under; ``layer`` its index in a stack; ``kind`` which
    of the bodies of the stack it is. Paths come from a spec, so they are looked up among modules, never as attributes.
    """

    GROWS: tuple[str, ...] = ()  # the registers without bound
    PARAMETERS: tuple[tuple[str, tuple[int, ...], str | None, bool], ...] = ()  # path, sizes, own dtype, shared
    STACKS: tuple[tuple[str, tuple[tuple[str, type[Body]], ...]], ...] = ()  # path, the kind and class of each layer

    root: Body
    like: Tensor

    def __init__(
        self, dtype: torch.dtype, at: str = "", layer: int = 0, kind: str = "", root: Body | None = None
    ) -> None:
        super().__init__()
        self.at, self.layer, self.kind = at, layer, kind
        self.__dict__["root"] = top = self if root is None else root
        self.kept: tuple[Any, ...] | None = None
        self.stacks: dict[str, tuple[Body, ...]] = {}
        if root is None:
            self.like = torch.zeros((), dtype=dtype)
        for path, sizes, own, shared in self.PARAMETERS:
            empty = torch.empty(sizes, dtype=dtype if own is None else getattr(torch, own))
            (top if shared else self).enter(path, nn.Parameter(empty))
        for path, layers in self.STACKS:
            made = [body(dtype, f"{at}{path}.{i}.", i, name, top) for i, (name, body) in enumerate(layers)]
            self.enter_layers(path, made)

    def _inside(self, path: str, make: bool = False) -> tuple[nn.Module, str]:
        *outer, leaf = path.split(".")
        module: nn.Module = self
        for name in outer:
            if make and name not in module._modules:
                module._modules[name] = nn.Module()
            module = module._modules[name]  # type: ignore[assignment]
        return module, leaf

    def enter(self, path: str, parameter: nn.Parameter) -> None:
        """File a parameter under a path; one that is there already stays."""
        module, leaf = self._inside(path, make=True)
        module._parameters.setdefault(leaf, parameter)

    def enter_layers(self, path: str, layers: Sequence[Body]) -> None:
        """File the layers of a stack under its path, as 0, 1, 2, ..."""
        container, _ = self._inside(f"{path}.0", make=True)
        for i, layer in enumerate(layers):
            container._modules[str(i)] = layer
        self.stacks[path] = tuple(layers)

    def param(self, path: str) -> nn.Parameter:
        module, leaf = self._inside(path)
        return module._parameters[leaf]  # type: ignore[return-value]

    def layers(self, path: str) -> tuple[Body, ...]:
        return self.stacks[path]

    @property
    def real(self) -> torch.dtype:
        """The dtype of real numbers that only sizes decide."""
        return torch.float64 if self.root.like.dtype == torch.float64 else torch.float32

    @property
    def device(self) -> torch.device:
        return self.root.like.device

    def prepare(self) -> tuple[Any, ...]:
        """What only parameters decide."""
        raise NotImplementedError

    def constants(self) -> tuple[Any, ...]:
        """``prepare``: computed anew wherever a gradient may flow, else kept until a parameter changes."""
        return self.prepare() if self.kept is None else self.kept

    def begin(self, time: Time, new: State) -> None:
        """Write every memory as it is before the first step."""
        raise NotImplementedError

    def sequence(self, time: Time, old: State, new: State, *inputs: Tensor) -> Any:
        raise NotImplementedError

    def step(self, time: Time, old: State, new: State, *inputs: Tensor) -> Any:
        raise NotImplementedError("no step form: `context` reads the whole sequence")


class Model(nn.Module):
    """A compiled model: ``forward`` takes a sequence, ``step`` one time step; both return the outputs and the new state.

    A state is a flat dict of tensors, [batch, ...], by the path of the memory; ``position`` says how many steps lie behind it.
    """

    body: Body
    plan: Any = None
    spec: Any = None
    graph: Any = None
    source: Any = None

    def __init__(self, body: Body, inputs: tuple[str, ...], outputs: tuple[str, ...], needs_position: bool) -> None:
        super().__init__()
        self._modules, self._parameters = body._modules, body._parameters
        self.__dict__["body"] = body
        self.inputs, self.outputs, self.needs_position = inputs, outputs, needs_position
        self._seen: int | None = None
        self._bodies = [body, *(module for module in body.modules() if isinstance(module, Body) and module is not body)]
        self._watched = list(self.parameters())

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._forget()
        self.body.like = fn(self.body.like)
        self._watched = list(self.parameters())
        return result

    def _forget(self) -> None:
        self._seen = None
        for body in self._bodies:
            body.kept = None

    def _ready(self) -> None:
        if torch.is_grad_enabled():
            if self._seen is not None:
                self._forget()
            return
        version = sum(p._version for p in self._watched)
        if version != self._seen:
            self._forget()
            for body in self._bodies:
                body.kept = body.prepare()
            self._seen = version

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the data; states are float32 at least."""
        return self.body.like.dtype

    @property
    def device(self) -> torch.device:
        return self.body.like.device

    @property
    def has_step(self) -> bool:
        """Whether the model can run one step at a time: it does not if it reads the future."""
        return all(type(body).step is not Body.step for body in self._bodies)

    def initial_state(self, batch: int = 1, capacity: int | None = None) -> State:
        """The state before the first step.

        With a capacity, registers that grow have room for so many steps from the start and are written in place, so that
        every tensor keeps its address and size: what a captured graph needs.
        """
        self._ready()
        time = Time(batch, None, None, None, self.dtype, self.device)
        state: State = {}
        self.body.begin(time, state)
        if self.needs_position:
            state["position"] = torch.zeros(batch, dtype=torch.long, device=self.device)
        state = {name: value.contiguous() for name, value in state.items()}
        if capacity is not None:
            for body in self._bodies:
                for name in body.GROWS:
                    grown = state[body.at + name]
                    state[body.at + name] = grown.new_zeros(batch, capacity, *grown.shape[2:])
            state["count"] = torch.zeros(1, dtype=torch.long, device=self.device)
        return state

    def _arguments(
        self, inputs: tuple[Any, ...], state: State | None, reset: Tensor | None
    ) -> tuple[tuple[Tensor, ...], State | None, Tensor | None]:
        wanted = len(self.inputs)
        if len(inputs) < wanted or len(inputs) > wanted + 2:
            raise TypeError(f"takes {', '.join(self.inputs)}, then state and reset; {len(inputs)} arguments were given")
        rest = inputs[wanted:]
        return inputs[:wanted], rest[0] if rest else state, rest[1] if len(rest) > 1 else reset

    def forward(self, *inputs: Any, state: State | None = None, reset: Tensor | None = None) -> tuple[Any, State]:
        """inputs: [batch, time, *axes] (tokens: [batch, time]), then state and reset [batch, time] (bool), by position or by name."""
        values, state, reset = self._arguments(inputs, state, reset)
        return self.call(values[0].shape[1], values, state, reset)

    def step(self, *inputs: Any, state: State | None = None, reset: Tensor | None = None) -> tuple[Any, State]:
        """inputs: [batch, *axes] (tokens: [batch]), then state and reset [batch] (bool), by position or by name."""
        values, state, reset = self._arguments(inputs, state, reset)
        return self.call(None, values, state, reset)

    def call(
        self, steps: int | None, values: Sequence[Tensor], state: State | None, reset: Tensor | None
    ) -> tuple[Any, State]:
        """A sequence of so many steps, or (None) one step."""
        self._ready()
        old: State = state or {}
        time = Time(values[0].shape[0], steps, old.get("position"), reset, self.dtype, values[0].device)
        time.fresh, time.count = not old, old.get("count")
        new: State = {}
        found = (self.body.step if steps is None else self.body.sequence)(time, old, new, *values)
        if self.needs_position:
            new["position"] = time.after()
        if time.count is not None:
            new["count"] = time.count + (steps or 1)
        return found if len(self.outputs) == 1 else dict(zip(self.outputs, found, strict=True)), new


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, read with torch alone."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        dtype = _SAFETENSORS[entry["dtype"]]
        flat = (
            torch.frombuffer(data, dtype=dtype, count=(end - start) // dtype.itemsize, offset=start)
            if end > start
            else torch.empty(0, dtype=dtype)
        )
        found[name] = flat.reshape(entry["shape"]).clone()
    return found


_SAFETENSORS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def with_weights(model: Model, path: str | os.PathLike[str]) -> Model:
    """A model whose parameters are those of a file; complex ones are stored as pairs of reals. Raises KeyError if one is missing."""
    weights = read_weights(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = weights[name]
            parameter.copy_(torch.view_as_complex(value) if parameter.is_complex() else value)
    return model
