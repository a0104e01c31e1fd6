"""Causal filters of finite length: y[t] = bias + sum_j w[j] x[t-j].

Short filters are summed directly (as compiled C on the CPU), long ones go through the FFT. A reset cuts the sequence:
no tap reaches across it. The FFT knows no cuts, so there every segment is a sequence of its own; and it mixes all
steps, so that what is not finite is taken out before, and put back where it reaches.
"""

import functools
import math
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....compilers.runtime import native, tritons
from ....compilers.runtime.custom_ops import operator
from ....compilers.runtime.support import Kept, Native, data_type, finite, of_type, reached, spread, state_type

NATIVE_TAPS = 8
DIRECT_TAPS = 32  # from here on the FFT wins

native.declare(
    "fir_forward x(B,T,D) w(W,D) bias?(D) history(B,W-1,D) reset?:bool[B,T] y(B,T,D) reach:uint8[B,T] B T D W<=8",
    "fir_backward x(B,T,D) w(W,D) history(B,W-1,D) reach:uint8[B,T] grad(B,T,D) dx(B,T,D) dw(B,W,D) dhistory(B,W-1,D)"
    " B T D W<=8",
    source=native.beside(__file__, "fir.c"),
)


def _shapes(
    x: Tensor,
    w: Tensor,
    history: Tensor | None = None,
    reset: Tensor | None = None,
    bias: Tensor | None = None,
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    kind = state_type(data_type(x, w, bias, history))
    y = x.new_empty(x.shape, dtype=kind if wide else data_type(x, w, bias))
    return y, x.new_empty(x.shape[0], w.shape[0] - 1, *x.shape[2:], dtype=kind)


@operator(
    "fir(Tensor x, Tensor w, Tensor? history=None, Tensor? reset=None, Tensor? bias=None, bool wide=False)"
    " -> (Tensor, Tensor)",
    _shapes,
)
def fir(
    x: Tensor,
    w: Tensor,
    history: Tensor | None = None,
    reset: Tensor | None = None,
    bias: Tensor | None = None,
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    """y[t] = bias + sum_j w[j] x[t-j].

    x: [B,T,*S]; w: [W,*S] with size 1 where it is shared, w[0] for the newest input; history: [B,W-1,*S], the inputs
    before x (default 0), oldest first; reset: [B,T] bool; bias: broadcasts to [*S].
    Returns y [B,T,*S] and the new history, in which inputs before a reset are 0; the latter in float32 at least, ``wide``: the
    former too.
    """
    dtype = data_type(x, w, bias)
    kind = state_type(data_type(x, w, bias, history))
    taps, batch, shape = w.shape[0], x.shape[0], x.shape[2:]
    if x.shape[1] > 1 and taps <= DIRECT_TAPS and x.numel() and tritons.takes(x, w, history, reset, bias):
        y, *last = _kernels(*_placed(x, w, bias, history, reset), kind, kind if wide else dtype)
        return y, last[0] if last else of_type(_remembered(x, history, reset, taps - 1), kind)
    x, w = of_type(x, kind), of_type(w, kind)
    past = x.new_zeros(batch, taps - 1, *shape) if history is None else of_type(history, kind)
    bias = of_type(bias, kind) if bias is not None else None
    if x.numel() == 0:
        return x.to(kind if wide else dtype), past
    if x.shape[1] == 1:
        y, past = _step(x, w, bias, past, reset)
        return y if wide else of_type(y, dtype), past
    if taps <= NATIVE_TAPS and native.usable(x, w, past, reset, bias):
        y = _compiled(x, w, bias, past, reset)
    elif taps <= DIRECT_TAPS or x.shape[1] <= DIRECT_TAPS or (reset is not None and native.transformed()):
        y = direct(x, w, bias, past, reset)
    else:
        y = by_fft(x, w, bias, past if history is not None else past[:, :0], reset)
    return y if wide else of_type(y, dtype), _remembered(x, past, reset, taps - 1)


def filtered(x: Tensor, w: Tensor, history: Tensor | None, reset: Tensor | None, before: bool) -> Tensor:
    """The first result of `fir`; ``before``: without the step's own input, history [B,W,*S]."""
    return fir(x, torch.cat((torch.zeros_like(w[:1]), w)) if before else w, history, reset)[0]


def _step(x: Tensor, w: Tensor, bias: Tensor | None, history: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """One step, as in the equation."""
    if reset is not None:
        history = torch.where(reset.view(-1, *(1,) * (x.dim() - 1)), 0, history)
    whole = torch.cat([history, x], 1)
    y = (whole * w.flip(0)).sum(1, keepdim=True)
    return y if bias is None else y + bias, whole[:, 1:]


def direct(x: Tensor, w: Tensor, bias: Tensor | None, history: Tensor, reset: Tensor | None) -> Tensor:
    """One multiply-add of the whole sequence per tap; one sum over all taps per step, where the steps are fewer."""
    time, before, ones = x.shape[1], history.shape[1], (1,) * (x.dim() - 2)
    whole = torch.cat([history, x], 1)
    since = _steps_since(reset, before) if reset is not None else None
    if time < w.shape[0]:
        age = torch.arange(before, -1, -1, device=x.device)
        steps = []
        for t in range(time):
            window = whole[:, t : t + before + 1]
            if since is not None:
                window = torch.where((age <= since[:, t, None]).view(*window.shape[:2], *ones), window, 0)
            steps.append((window * w.flip(0)).sum(1))
        return torch.stack(steps, 1) if bias is None else torch.stack(steps, 1) + bias
    y = torch.zeros_like(x) if bias is None else bias.expand(x.shape)
    for j in range(w.shape[0]):
        shifted = whole[:, before - j : before - j + time]
        if since is not None and j:
            shifted = torch.where((since >= j).view(*since.shape, *ones), shifted, 0)
        y = torch.addcmul(y, shifted, w[j])
    return y


def by_fft(x: Tensor, w: Tensor, bias: Tensor | None, history: Tensor, reset: Tensor | None) -> Tensor:
    """Multiplication of spectra. `history` may be shorter than W-1."""
    before = history.shape[1]
    whole = torch.cat([history, x], 1)
    cut = None if reset is None else F.pad(reset, (before, 0))
    y = _convolve_all(whole, w, cut)[:, before:]
    if not finite(y, history):
        bad = ~whole.isfinite()
        far = reached(bad, cut, steps=w.shape[0])[:, before:]
        y = _convolve_all(torch.where(bad, 0, whole), w, cut)[:, before:]
        y = torch.where(far, math.nan, y)
    return y if bias is None else y + bias


def _convolve_all(x: Tensor, w: Tensor, cut: Tensor | None) -> Tensor:
    return _convolve(x, w) if cut is None else _convolve_segments(x, w, cut)


def _convolve(x: Tensor, w: Tensor) -> Tensor:
    """The first T steps of the convolution of x [B,T,*S] with w [W,*S]."""
    time = x.shape[1]
    w = w[:time]
    size = _fast_size(time + w.shape[0] - 1)
    if x.is_complex() or w.is_complex():
        y: Tensor = torch.fft.ifft(torch.fft.fft(x, size, 1) * torch.fft.fft(w, size, 0), size, 1)
    else:
        y = torch.fft.irfft(torch.fft.rfft(x, size, 1) * torch.fft.rfft(w, size, 0), size, 1)
    return y[:, :time]


def _convolve_segments(x: Tensor, w: Tensor, cut: Tensor) -> Tensor:
    """As `_convolve`, but every run of steps from a cut to the next is alone; runs of like lengths go together."""
    batch, time = cut.shape
    cut = cut.clone()
    cut[:, 0] = True
    starts = cut.flatten().nonzero().flatten()
    ends = torch.cat([starts[1:], starts.new_tensor([batch * time])])
    lengths = ends - starts
    flat = x.flatten(0, 1)
    y = torch.zeros_like(flat)
    buckets = (lengths - 1).clamp(min=1).log2().floor()
    for bucket in torch.unique(buckets):
        here = buckets == bucket
        offsets = torch.arange(int(lengths[here].max()), device=x.device)
        inside = offsets < lengths[here, None]
        index = torch.where(inside, starts[here, None] + offsets, 0)
        mask = inside.view(*inside.shape, *(1,) * (x.dim() - 2))
        pieces = _convolve(torch.where(mask, flat[index], 0), w)
        y = y.index_put((index[inside],), pieces[inside])
    return y.view(x.shape)


@functools.lru_cache(maxsize=256)
def _fast_size(least: int) -> int:
    """The smallest 2^i 3^j 5^k that is at least `least`."""
    best = 1 << (least - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            best = min(best, three << max(0, (-(-least // three) - 1).bit_length()))
            three *= 3
        five *= 5
    return best


def _steps_since(reset: Tensor, before: int) -> Tensor:
    """[B,T]: how many steps back the last reset lies; without one, more than any tap reaches."""
    steps = torch.arange(reset.shape[1], device=reset.device)
    last = torch.where(reset, steps, -1 - before).cummax(1).values
    return steps - last


def _remembered(x: Tensor, history: Tensor | None, reset: Tensor | None, before: int) -> Tensor:
    """The last W-1 inputs, 0 where they lie before the last reset."""
    time = x.shape[1]
    if time >= before:
        kept = x[:, time - before :]
    elif history is None:
        kept = torch.cat([x.new_zeros(x.shape[0], before - time, *x.shape[2:]), x], 1)
    else:
        kept = torch.cat([history[:, time:], of_type(x, history.dtype)], 1)
    if reset is None:
        return kept
    age = torch.arange(before, 0, -1, device=x.device) - 1  # of each kept input; 0 is the newest
    alive = age <= _steps_since(reset, before)[:, -1:]
    return torch.where(alive.view(*alive.shape, *(1,) * (x.dim() - 2)), kept, 0)


def _compiled(x: Tensor, w: Tensor, bias: Tensor | None, history: Tensor, reset: Tensor | None) -> Tensor:
    return _native(*_laid(x, w, bias, history, reset))[0]


def _laid(x: Tensor, w: Tensor, bias: Tensor | None, *others: Tensor | None) -> list[Tensor | None]:
    """All as kernels read it: side by side, weights written out."""
    filters = spread(w, (w.shape[0], *x.shape[2:]))
    offset = None if bias is None else spread(bias, x.shape[2:])
    return [x.contiguous(), filters, offset, *(None if one is None else one.contiguous() for one in others)]


def _forward(
    keep: bool, x: Tensor, w: Tensor, bias: Tensor | None, history: Tensor, reset: Tensor | None
) -> tuple[tuple[Tensor, ...], Kept]:
    y, reach = torch.empty_like(x), x.new_empty(x.shape[:2], dtype=torch.uint8)
    native.call("fir_forward", x.dtype, x, w, bias, history, reset, y, reach, *_sizes(x, w))
    return (y,), (reach,)


def _backward(
    inputs: Sequence[Tensor], results: Sequence[Tensor], kept: Kept, grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    x, w, bias, history, _ = inputs
    (grad,) = grads
    dx, dhistory = torch.empty_like(x), torch.empty_like(history)
    dw = x.new_empty(x.shape[0], *w.shape)
    native.call("fir_backward", x.dtype, x, w, history, *kept, grad, dx, dw, dhistory, *_sizes(x, w))
    return dx, dw.sum(0), None if bias is None else grad.sum((0, 1)), dhistory, None


def _twin(x: Tensor, w: Tensor, bias: Tensor | None, history: Tensor, reset: Tensor | None) -> tuple[Tensor, ...]:
    return (direct(x, w, bias, history, reset),)


def _sizes(x: Tensor, w: Tensor) -> tuple[int, int, int, int]:
    return *x.shape[:2], math.prod(x.shape[2:]), w.shape[0]


_native = Native(_forward, _backward, _twin)


# On a GPU: x, w, bias, history and reset as they are placed, the type of sums, the type of y.


def _placed(x: Tensor, w: Tensor, bias: Tensor | None, *others: Tensor | None) -> list[Tensor | None]:
    """All as kernels on a GPU read it: weights and rows of x where they are, where that is said by a stride."""
    filters = w.expand(w.shape[0], *x.shape[2:])
    offset = None if bias is None else spread(bias, x.shape[2:])
    return [
        tritons.spaced(x),
        filters if _strides(filters) is not None else filters.contiguous(),
        offset,
        *(None if one is None else one.contiguous() for one in others),
    ]


def _strides(w: Tensor) -> tuple[int, int, int] | None:
    """How many numbers lie between taps of w [W,*S], and between channels, of which so many are alike; None if there are no such numbers."""
    found = [(size, stride) for size, stride in zip(w.shape[1:], w.stride()[1:], strict=True) if size > 1]
    alike = 1
    while found and found[-1][1] == 0:
        alike *= found.pop()[0]
    if any(stride != size * inner for (_, stride), (size, inner) in pairwise(found)):
        return None
    return w.stride(0), found[-1][1] if found else 0, alike


def _kernel_forward(keep: bool, *inputs: Any) -> tuple[tuple[Tensor, ...], Kept]:
    x, w, bias, history, reset, kind, dtype = inputs
    before, y = w.shape[0] - 1, x.new_empty(x.shape, dtype=dtype)
    last = [x.new_empty(x.shape[0], before, *x.shape[2:], dtype=kind)] if _ends(x, w) else [None]
    _launch("filtered", x.shape[1], kind, x, w, (x, w, bias, history, reset, y, *last))
    return (y, *(one for one in last if one is not None)), ()


def _ends(x: Tensor, w: Tensor) -> bool:
    """Whether the inputs that are remembered are all of x, so that the kernel hands them out."""
    return x.shape[1] >= w.shape[0] - 1 > 0


def _kernel_backward(
    inputs: Sequence[Any], results: Sequence[Tensor], kept: Kept, grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    x, w, bias, history, reset, kind, _ = inputs
    taps, rows = w.shape[0], x.shape[1] + w.shape[0] - 1
    dx, dhistory = x.new_empty(x.shape), None if history is None else torch.empty_like(history)
    partial = x.new_empty(x.shape[0] * -(-rows // _STEPS), taps + 1, *x.shape[2:], dtype=kind)
    dlast = grads[1] if len(grads) > 1 else None
    _launch("filtered_back", rows, kind, x, w, (x, w, history, reset, grads[0], dlast, dx, dhistory, partial))
    sums = partial.sum(0)
    return (
        dx,
        of_type(sums[:taps], w.dtype),
        None if bias is None else of_type(sums[taps], bias.dtype),
        dhistory,
        *[None] * 3,
    )


def _kernel_twin(*inputs: Any) -> tuple[Tensor, ...]:
    x, w, bias, history, reset, kind, dtype = inputs
    past = x.new_zeros(x.shape[0], w.shape[0] - 1, *x.shape[2:]) if history is None else history
    x, w, past = of_type(x, kind), of_type(w, kind), of_type(past, kind)
    y = of_type(direct(x, w, None if bias is None else of_type(bias, kind), past, reset), dtype)
    return (y, _remembered(x, past, reset, w.shape[0] - 1)) if _ends(x, w) else (y,)


_STEPS, _CHANNELS = 32, 64  # of a program


def _launch(name: str, rows: int, kind: torch.dtype, x: Tensor, w: Tensor, tensors: tuple[Tensor | None, ...]) -> None:
    batch, time, channels, taps = _sizes(x, w)
    fixed = {"W": taps, "BT": _STEPS, "BD": _CHANNELS, "REAL": tritons.spelled(kind)}
    programs = batch * -(-rows // _STEPS) * -(-channels // _CHANNELS)
    kernel = getattr(import_module(f"{__package__}.fir_triton"), name)
    strides = tritons.spacing(x), *(_strides(w) or ())
    tritons.launch(kernel, (programs,), *tensors, *strides, time, channels, warps=4, **fixed)


_kernels = Native(_kernel_forward, _kernel_backward, _kernel_twin, tritons.takes)
