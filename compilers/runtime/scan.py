"""Scans over time by torch alone: a diagonal linear recurrence, its max-plus cousin, and one that turns pairs.

diagonal   h[t] = a[t] * h[t-1] + b[t]
max-plus   h[t] = max(a[t] + h[t-1], b[t])
rotation   h[t] = a[t] * R(angle[t]) h[t-1] + b[t]
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .custom_ops import operator
from .support import data_type, of_type, polar, state_type


def diagonal_scan(
    a: Tensor,
    b: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    clear: Tensor | float = 0.0,
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    """h[t] = a[t] * h[t-1] + b[t].

    a: [B,T,*S], with size 1 where it is constant; b: [B,T,*S]; h0: [B,*S]; reset: [B,T] bool; clear: [*S], what the
    memory is before the first step (without h0) and after a reset.
    Returns h [B,T,*S] and the last h [B,*S], the latter in float32 at least; ``wide``: the former too.
    """
    return _scan(a, b, h0, reset, *_cleared(clear), False, wide)


def max_plus_scan(
    a: Tensor,
    b: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    clear: Tensor | float = -math.inf,
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    """h[t] = max(a[t] + h[t-1], b[t]): a running decayed maximum. Arguments and results as for `diagonal_scan`.

    The gradient goes to the larger side, and to both by halves where they are equal.
    """
    return _scan(a, b, h0, reset, *_cleared(clear), True, wide)


def rotation_scan(
    decay: Tensor | float,
    angle: Tensor,
    b: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    clear: Tensor | float = 0.0,
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    """h[t] = decay[t] * R(angle[t]) h[t-1] + b[t], where R turns pairs of the last axis: a diagonal scan over complex numbers.

    b: [B,T,*S,2*N]; decay and angle: [B,T,*S,N], with size 1 where they do not vary; h0: [B,*S,2*N]; clear: [*S,2*N].
    Returns as `diagonal_scan`.
    """
    dtype, kind = data_type(b, angle), state_type(data_type(b, angle, h0))
    gate = polar(decay, of_type(angle, kind))
    start = None if h0 is None else _paired(of_type(h0, kind))
    cleared = _paired(of_type(clear, kind)) if isinstance(clear, Tensor) else clear
    h, last = diagonal_scan(gate, _paired(of_type(b, kind)), start, reset, cleared)
    y = torch.view_as_real(h).flatten(-2)
    return y if wide else of_type(y, dtype), torch.view_as_real(last).flatten(-2)


def _paired(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())


def _cleared(clear: Tensor | float) -> tuple[Tensor | None, float]:
    return (clear, 0.0) if isinstance(clear, Tensor) else (None, clear)


def _shapes(
    a: Tensor,
    b: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    clear: Tensor | None,
    fill: float,
    maximum: bool,
    wide: bool,
) -> tuple[Tensor, Tensor]:
    state = state_type(data_type(a, b, h0))
    h = b.new_empty(b.shape, dtype=state if wide else data_type(a, b))
    return h, b.new_empty(b.shape[:1] + b.shape[2:], dtype=state)


@operator(
    "scan(Tensor a, Tensor b, Tensor? h0, Tensor? reset, Tensor? clear, float fill, bool maximum, bool wide)"
    " -> (Tensor, Tensor)",
    _shapes,
)
def _scan(
    a: Tensor,
    b: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    clear: Tensor | None,
    fill: float,
    maximum: bool,
    wide: bool,
) -> tuple[Tensor, Tensor]:
    dtype = data_type(a, b)
    state = state_type(data_type(a, b, h0))
    a, b = of_type(a, state), of_type(b, state)
    cleared = b.new_full((), fill) if clear is None else of_type(clear, state)
    cleared = cleared.expand(b.shape[2:])
    start = cleared.expand(b.shape[:1] + b.shape[2:]) if h0 is None else of_type(h0, state)
    if b.numel() == 0:
        # Nothing is computed, but what enters and leaves is a function of the same tensors.
        return b.to(state if wide else dtype), start.expand(b.shape[:1] + b.shape[2:])
    if b.shape[1] == 1:
        h = _step(a, b, start, reset, cleared, maximum)
    else:
        h = blocked_scan(a, b, start, reset, cleared, maximum)
    return h if wide else of_type(h, dtype), h[:, -1]


def _step(a: Tensor, b: Tensor, start: Tensor, reset: Tensor | None, clear: Tensor, maximum: bool) -> Tensor:
    memory = start[:, None]
    if reset is not None:
        memory = torch.where(reset.view(-1, *(1,) * (b.dim() - 1)), clear, memory)
    return torch.maximum(a + memory, b) if maximum else torch.addcmul(b, a, memory)


def blocked_scan(a: Tensor, b: Tensor, start: Tensor, reset: Tensor | None, clear: Tensor, maximum: bool) -> Tensor:
    """sqrt(T) steps inside all blocks at once, sqrt(T) steps over the blocks, one correction of every step.

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
        # Both sides of a product must be finite for its gradients to be, even for those that nobody asks for.
        reached = times(factors[-1][:, j], memory if reset is None else torch.where(dead[:, j], 0, memory))
        memory = plus(h[:, j], reached if reset is None else torch.where(dead[:, j], zero, reached))
    inside, entered = torch.stack(locals_, 2), torch.stack(memories, 1).unsqueeze(2)
    if reset is None:
        whole = plus(inside, times(torch.stack(factors, 2), entered))
    else:
        gone = torch.stack(deads, 2)
        reached = times(torch.stack(factors, 2), torch.where(gone, 0, entered))
        whole = torch.where(gone, inside, plus(inside, torch.where(gone, zero, reached)))
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
