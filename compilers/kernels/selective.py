"""The selective scan: a diagonal recurrence over an expanded state, contracted in the same breath.

    h[d,n] = exp(g[t,d] L[d,n]) h[d,n] + u[t,d] b[t,n]
    y[t,d] = sum_n c[t,n] h[d,n]

A state of N numbers per channel and step is N times as much memory as x and y. It exists for a chunk of steps at most.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from . import native
from .operators import operator
from .scan import blocked_scan
from .support import Kept, Native, data_type, of_type, recorded, state_type

CHUNK = 16  # steps between kept states, in selective.c too
TWIN_CHUNK = 256
BOUND = 1e30  # keeps infinite gates out of 0 * inf

Read = Literal["after", "before"]

native.declare(
    "selective_forward g[B,T,D] rates[N,D] u[B,T,D] b[B,T,N] c[B,T,N] start[B,N,D] reset?:bool[B,T] y[B,T,D] last[B,N,D]"
    " kept?[B,T/16,N,D] B T D N before",
    "selective_step g(B,D) rates[D,N] u(B,D) b(B,N) c(B,N) start[B,D,N] reset?:bool(B) y(B,D) last[B,D,N] B D N before",
    "selective_backward g[B,T,D] rates[N,D] u[B,T,D] b[B,T,N] c[B,T,N] reset?:bool[B,T] kept[B,T/16,N,D] dy[B,T,D]"
    " dg[B,T,D] drates[B,N,D] du[B,T,D] db[threads,B,T,N] dc[threads,B,T,N] flow[B,N,D] B T D N before",
)


def _shapes(
    g: Tensor,
    L: Tensor,
    u: Tensor,
    b: Tensor,
    c: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    read: str = "after",
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    kind = state_type(data_type(g, L, u, b, c, h0))
    y = u.new_empty(u.shape, dtype=kind if wide else data_type(g, u, b, c))
    return y, u.new_empty(u.shape[0], *L.shape, dtype=kind)


@operator(
    "selective_scan(Tensor g, Tensor L, Tensor u, Tensor b, Tensor c, Tensor? h0=None, Tensor? reset=None,"
    " str read='after', bool wide=False) -> (Tensor, Tensor)",
    _shapes,
)
def selective_scan(
    g: Tensor,
    L: Tensor,
    u: Tensor,
    b: Tensor,
    c: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    read: Read = "after",
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    """h = exp(g L) h + u b and y = c h, summed over n; with read="before", y sees h before the update.

    g, u: [B,T,D]; L: [D,N]; b, c: [B,T,N]; h0: [B,D,N]; reset: [B,T] bool.
    Returns y [B,T,D] and the last h [B,D,N], the latter in float32 at least; ``wide``: the former too. The exponent g L should
    be at most 0.
    """
    dtype = data_type(g, u, b, c)
    kind = state_type(data_type(g, L, u, b, c, h0))
    g, L, u, b, c = (of_type(tensor, kind) for tensor in (g, L, u, b, c))
    h0 = u.new_zeros(u.shape[0], *L.shape) if h0 is None else of_type(h0, kind)
    tensors = (g, L, u, b, c, h0)
    before = read == "before"
    if u.numel() == 0:
        return u.to(kind if wide else dtype), h0
    if not native.usable(*tensors, reset):
        y, last = chunked_twin(*tensors, reset, before)
    else:
        reset = reset.contiguous() if reset is not None else None
        run = _step if u.shape[1] == 1 and not recorded(*tensors) else _native
        g, L, u, b, c, h0 = (tensor.contiguous() for tensor in tensors)
        y, last = run(g, L, u, b, c, h0, reset, before)
    return y if wide else of_type(y, dtype), last


def grouped_scan(
    g: Tensor,
    L: Tensor,
    u: Tensor,
    b: Tensor,
    c: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    read: Read = "after",
    groups: int = 1,
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    """``selective_scan`` of groups of channels, each with a b and a c of its own: D and N count those of all groups."""
    parts = [x.unflatten(-1, (groups, -1)).unbind(-2) for x in (g, u, b, c)]
    memories = [None] * groups if h0 is None else h0.unflatten(1, (groups, -1)).unbind(1)
    rates = L.unflatten(0, (groups, -1)).unbind(0)
    found = [
        selective_scan(one_g, rate, one_u, one_b, one_c, memory, reset, read, wide)
        for one_g, one_u, one_b, one_c, rate, memory in zip(*parts, rates, memories, strict=True)
    ]
    return torch.cat([y for y, _ in found], -1), torch.cat([last for _, last in found], 1)


def _step(
    g: Tensor, L: Tensor, u: Tensor, b: Tensor, c: Tensor, h0: Tensor, reset: Tensor | None, before: bool
) -> tuple[Tensor, Tensor]:
    """One native step without autograd: decoding. Unlike a scan of many steps it turns no layout around."""
    y, h = torch.empty_like(u), torch.empty_like(h0)
    native.call("selective_step", u.dtype, g, L, u, b, c, h0, reset, y, h, u.shape[0], *L.shape, int(before))
    return y, h


def chunked_twin(
    g: Tensor, L: Tensor, u: Tensor, b: Tensor, c: Tensor, h0: Tensor, reset: Tensor | None, before: bool
) -> tuple[Tensor, Tensor]:
    """The twin: chunk after chunk, each recomputed in the backward pass."""
    h, ys = h0, []
    for t in range(0, u.shape[1], TWIN_CHUNK):
        now = slice(t, t + TWIN_CHUNK)
        pieces = (g[:, now], L, u[:, now], b[:, now], c[:, now], h, None if reset is None else reset[:, now], before)
        if torch.is_grad_enabled() and u.shape[1] > TWIN_CHUNK and not native.tracing():
            y, h = checkpoint(_chunk, *pieces, use_reentrant=False)
        else:
            y, h = _chunk(*pieces)
        ys.append(y)
    return torch.cat(ys, 1), h


def _chunk(
    g: Tensor, L: Tensor, u: Tensor, b: Tensor, c: Tensor, h0: Tensor, reset: Tensor | None, before: bool
) -> tuple[Tensor, Tensor]:
    if not g.is_complex():
        g = g.clamp(-BOUND, BOUND)
    if not L.is_complex():
        L = L.clamp(-BOUND, BOUND)
    decay = (g[..., None] * L).exp()  # [B,T,D,N]
    h = blocked_scan(decay, u[..., None] * b[:, :, None], h0, reset, torch.zeros_like(h0[0]), False)
    seen = torch.cat([h0[:, None], h[:, :-1]], 1) if before else h
    if before and reset is not None:
        seen = torch.where(reset[..., None, None], 0, seen)
    return (seen @ c[..., None]).squeeze(-1), h[:, -1]


def _forward(
    keep: bool, g: Tensor, L: Tensor, u: Tensor, b: Tensor, c: Tensor, h0: Tensor, reset: Tensor | None, before: bool
) -> tuple[tuple[Tensor, ...], Kept]:
    start = h0.transpose(1, 2).contiguous()
    y, last = torch.empty_like(u), torch.empty_like(start)
    kept = u.new_empty(u.shape[0], -(-u.shape[1] // CHUNK), *start.shape[1:]) if keep else None
    rates = L.t().contiguous()
    native.call(
        "selective_forward", u.dtype, g, rates, u, b, c, start, reset, y, last, kept, *_sizes(u, L), int(before)
    )
    return (y, last.transpose(1, 2)), (kept,)


def _backward(
    inputs: Sequence[Any], results: Sequence[Tensor], kept: Kept, grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    g, L, u, b, c, _, reset, before = inputs
    dy, dlast = grads
    flow = dlast.transpose(1, 2).clone(memory_format=torch.contiguous_format)
    dg, du, drates = torch.empty_like(g), torch.empty_like(u), torch.empty_like(flow)
    db, dc = b.new_zeros(2, torch.get_num_threads(), *b.shape).unbind()
    read = (g, L.t().contiguous(), u, b, c, reset, *kept, dy)
    native.call("selective_backward", u.dtype, *read, dg, drates, du, db, dc, flow, *_sizes(u, L), int(before))
    return dg, drates.sum(0).t(), du, db.sum(0), dc.sum(0), flow.transpose(1, 2), None, None


def _sizes(u: Tensor, L: Tensor) -> tuple[int, ...]:
    return *u.shape, L.shape[1]


_native = Native(_forward, _backward, chunked_twin)
