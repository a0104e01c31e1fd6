"""Scans over time: a diagonal linear recurrence, its max-plus cousin, and one that turns pairs.

diagonal   h[t] = a[t] * h[t-1] + b[t]
max-plus   h[t] = max(a[t] + h[t-1], b[t])
rotation   h[t] = a[t] * R(angle[t]) h[t-1] + b[t]
"""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from . import native
from .support import data_type, polar, state_type, twin_gradients


def diagonal_scan(
    a: Tensor, b: Tensor, h0: Tensor | None = None, reset: Tensor | None = None, clear: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """h[t] = a[t] * h[t-1] + b[t].

    a: [B,T,*S], with size 1 where it is constant; b: [B,T,*S]; h0: [B,*S]; reset: [B,T] bool; clear: [*S], what the
    memory is before the first step (without h0) and after a reset.
    Returns h [B,T,*S] and the last h [B,*S], the latter in float32 at least.
    """
    return _scan(a, b, h0, reset, clear, maximum=False)


def max_plus_scan(
    a: Tensor, b: Tensor, h0: Tensor | None = None, reset: Tensor | None = None, clear: Tensor | float = -math.inf
) -> tuple[Tensor, Tensor]:
    """h[t] = max(a[t] + h[t-1], b[t]): a running decayed maximum. Arguments and results as for `diagonal_scan`.

    The gradient goes to the larger side, and to both by halves where they are equal.
    """
    return _scan(a, b, h0, reset, clear, maximum=True)


def rotation_scan(
    decay: Tensor | float,
    angle: Tensor,
    b: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    clear: Tensor | float = 0.0,
) -> tuple[Tensor, Tensor]:
    """h[t] = decay[t] * R(angle[t]) h[t-1] + b[t], where R turns pairs of the last axis: a diagonal scan over complex numbers.

    b: [B,T,*S,2*N]; decay and angle: [B,T,*S,N], with size 1 where they do not vary; h0: [B,*S,2*N]; clear: [*S,2*N].
    Returns as `diagonal_scan`.
    """
    dtype, kind = data_type(b, angle), state_type(data_type(b, angle, h0))
    gate = polar(decay, angle.to(kind))
    start = None if h0 is None else _paired(h0.to(kind))
    cleared = _paired(clear.to(kind)) if isinstance(clear, Tensor) else clear
    h, last = diagonal_scan(gate, _paired(b.to(kind)), start, reset, cleared)
    return torch.view_as_real(h).flatten(-2).to(dtype), torch.view_as_real(last).flatten(-2)


def _paired(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())


def _scan(
    a: Tensor, b: Tensor, h0: Tensor | None, reset: Tensor | None, clear: Tensor | float, maximum: bool
) -> tuple[Tensor, Tensor]:
    dtype = data_type(a, b)
    state = state_type(data_type(a, b, h0))
    a, b = a.to(state), b.to(state)
    cleared = torch.as_tensor(clear, dtype=state, device=b.device).expand(b.shape[2:])
    start = cleared.expand(b.shape[:1] + b.shape[2:]) if h0 is None else h0.to(state)
    if b.shape[1] == 1:
        h = _step(a, b, start, reset, cleared, maximum)
    elif native.usable(a, b, start, cleared, reset):
        h = _native_scan(a, b, start, cleared, reset, maximum)
    else:
        h = blocked_scan(a, b, start, reset, cleared, maximum)
    return h.to(dtype), h[:, -1]


def _step(a: Tensor, b: Tensor, start: Tensor, reset: Tensor | None, clear: Tensor, maximum: bool) -> Tensor:
    memory = start[:, None]
    if reset is not None:
        memory = torch.where(reset.view(-1, *(1,) * (b.dim() - 1)), clear, memory)
    return torch.maximum(a + memory, b) if maximum else torch.addcmul(b, a, memory)


def blocked_scan(a: Tensor, b: Tensor, start: Tensor, reset: Tensor | None, clear: Tensor, maximum: bool) -> Tensor:
    """The twin: sqrt(T) steps inside all blocks at once, sqrt(T) steps over the blocks, one correction of every step.

    Neither divides nor takes logarithms, so any a is safe.
    """
    times, plus, one, zero = _MAX_PLUS if maximum else _PLUS_TIMES
    batch, time = b.shape[:2]
    size = math.isqrt(time - 1) + 1
    blocks = -(-time // size)
    a = a.expand(-1, time, *a.shape[2:])
    ones = (1,) * (b.dim() - 2)
    rows_a, rows_b = _blocks(a, blocks, size, one), _blocks(b, blocks, size, zero)
    rows_reset = _blocks(reset, blocks, size, False) if reset is not None else [None] * size
    h = torch.full_like(rows_b[0], zero)
    carried: Tensor | None = None  # what a block makes of the memory before it; None: nothing yet
    dead = torch.zeros(batch, blocks, *ones, dtype=torch.bool, device=b.device)
    locals_, factors, deads = [], [], []
    for row_a, row_b, row_reset in zip(rows_a, rows_b, rows_reset, strict=True):
        if row_reset is not None:
            row_reset = row_reset.view(batch, blocks, *ones)
            h = torch.where(row_reset, clear, h)
            dead = dead | row_reset
        h = plus(times(row_a, h), row_b)
        carried = row_a if carried is None else times(row_a, carried)
        locals_.append(h)
        factors.append(carried)
        deads.append(dead)
    memory, memories = start, []
    for j in range(blocks):
        memories.append(memory)
        reached = plus(h[:, j], times(factors[-1][:, j], memory))
        memory = reached if reset is None else torch.where(dead[:, j], h[:, j], reached)
    inside = torch.stack(locals_, 2)
    whole = plus(inside, times(torch.stack(factors, 2), torch.stack(memories, 1).unsqueeze(2)))
    if reset is not None:
        whole = torch.where(torch.stack(deads, 2), inside, whole)
    return whole.flatten(1, 2)[:, :time]


_Pair = Callable[[Tensor, Tensor], Tensor]
_PLUS_TIMES: tuple[_Pair, _Pair, float, float] = (torch.mul, torch.add, 1.0, 0.0)
_MAX_PLUS: tuple[_Pair, _Pair, float, float] = (torch.add, torch.maximum, 0.0, -math.inf)


def _blocks(x: Tensor, blocks: int, size: int, fill: float) -> tuple[Tensor, ...]:
    """[B,T,...] as `size` rows [B,blocks,...]: row k holds step k of every block."""
    missing = blocks * size - x.shape[1]
    if missing:
        x = torch.cat([x, x.new_full((x.shape[0], missing, *x.shape[2:]), fill)], 1)
    return x.reshape(x.shape[0], blocks, size, *x.shape[2:]).unbind(2)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, start: Tensor, clear: Tensor, reset: Tensor | None, maximum: bool
    ) -> Tensor:
        # The dims of S that a lacks are filled in, batch and time stay of size 1.
        wide = a.expand(a.shape[:2] + b.shape[2:]).contiguous()
        b, start, clear = b.contiguous(), start.contiguous(), clear.contiguous()
        reset = reset.contiguous() if reset is not None else None
        h = torch.empty_like(b)
        native.call("scan_forward", b.dtype, wide, b, start, clear, reset, h, *_sizes(wide, b), maximum)
        ctx.save_for_backward(a, b, start, clear, h)
        ctx.reset, ctx.maximum, ctx.wide = reset, maximum, wide if wide is not a else None
        return h

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, start, clear, h = ctx.saved_tensors
        reset, maximum = ctx.reset, ctx.maximum
        if torch.is_grad_enabled():

            def twin(a: Tensor, b: Tensor, start: Tensor, clear: Tensor) -> tuple[Tensor, ...]:
                return (blocked_scan(a, b, start, reset, clear, maximum),)

            return *twin_gradients(twin, (a, b, start, clear), ctx.needs_input_grad[:4], (grad,)), None, None
        wide = a if ctx.wide is None else ctx.wide
        grad = grad.contiguous()
        da, db = torch.empty_like(b), torch.empty_like(b)
        dstart, dclear = torch.empty_like(start), torch.zeros_like(start)
        native.call(
            "scan_backward",
            b.dtype,
            wide,
            b,
            start,
            clear,
            reset,
            h,
            grad,
            da,
            db,
            dstart,
            dclear,
            *_sizes(wide, b),
            maximum,
        )
        return da.sum_to_size(a.shape), db, dstart, dclear.sum(0), None, None


def _sizes(a: Tensor, b: Tensor) -> tuple[int, ...]:
    """Batch, time, width, and how far a moves per batch row and per step."""
    batch, time = b.shape[:2]
    width = math.prod(b.shape[2:])
    return batch, time, width, (a[0].numel() if a.shape[0] > 1 else 0), (width if a.shape[1] > 1 else 0)


_native_scan = cast(Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None, bool], Tensor], _Scan.apply)
