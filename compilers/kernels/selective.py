"""The selective scan: a diagonal recurrence over an expanded state, contracted in the same breath.

    h[d,n] = exp(g[t,d] L[d,n]) h[d,n] + u[t,d] b[t,n]
    y[t,d] = sum_n c[t,n] h[d,n]

A state of N numbers per channel and step is N times as much memory as x and y. It exists for a chunk of steps at most.
"""

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from . import native
from .scan import blocked_scan
from .support import data_type, state_type, twin_gradients

CHUNK = 16  # steps between kept states, in selective.c too
TWIN_CHUNK = 256
BOUND = 1e30  # keeps infinite gates out of 0 * inf

Read = Literal["after", "before"]


def selective_scan(
    g: Tensor,
    L: Tensor,
    u: Tensor,
    b: Tensor,
    c: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    read: Read = "after",
) -> tuple[Tensor, Tensor]:
    """h = exp(g L) h + u b and y = c h, summed over n; with read="before", y sees h before the update.

    g, u: [B,T,D]; L: [D,N]; b, c: [B,T,N]; h0: [B,D,N]; reset: [B,T] bool.
    Returns y [B,T,D] and the last h [B,D,N], the latter in float32 at least. The exponent g L should be at most 0.
    """
    dtype = data_type(g, u, b, c)
    kind = state_type(data_type(g, L, u, b, c, h0))
    g, L, u, b, c = (tensor.to(kind) for tensor in (g, L, u, b, c))
    h0 = u.new_zeros(u.shape[0], *L.shape) if h0 is None else h0.to(kind)
    tensors = (g, L, u, b, c, h0)
    usable = native.usable(*tensors, reset)
    if usable and u.shape[1] == 1 and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)):
        y, last = _step(g, L, u, b, c, h0, reset, read == "before")
    elif usable:
        y, last = _native_selective(g, L, u, b, c, h0, reset, read == "before")
    else:
        y, last = chunked_twin(g, L, u, b, c, h0, reset, read == "before")
    return y.to(dtype), last


def grouped_scan(
    groups: int,
    g: Tensor,
    L: Tensor,
    u: Tensor,
    b: Tensor,
    c: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    read: Read = "after",
) -> tuple[Tensor, Tensor]:
    """``selective_scan`` of groups of channels, each with a b and a c of its own: D and N count those of all groups."""
    parts = [x.unflatten(-1, (groups, -1)).unbind(-2) for x in (g, u, b, c)]
    memories = [None] * groups if h0 is None else h0.unflatten(1, (groups, -1)).unbind(1)
    rates = L.unflatten(0, (groups, -1)).unbind(0)
    found = [
        selective_scan(one_g, rate, one_u, one_b, one_c, memory, reset, read)
        for one_g, one_u, one_b, one_c, rate, memory in zip(*parts, rates, memories, strict=True)
    ]
    return torch.cat([y for y, _ in found], -1), torch.cat([last for _, last in found], 1)


def _step(
    g: Tensor, L: Tensor, u: Tensor, b: Tensor, c: Tensor, h0: Tensor, reset: Tensor | None, before: bool
) -> tuple[Tensor, Tensor]:
    """One native step without autograd: decoding. Unlike a scan of many steps it turns no layout around."""
    g, L, u, b, c, h0 = (tensor.contiguous() for tensor in (g, L, u, b, c, h0))
    reset = reset.contiguous() if reset is not None else None
    y, h = torch.empty_like(u), torch.empty_like(h0)
    native.call("selective_step", u.dtype, g, L, u, b, c, h0, reset, y, h, u.shape[0], *L.shape, before)
    return y, h


def chunked_twin(
    g: Tensor, L: Tensor, u: Tensor, b: Tensor, c: Tensor, h0: Tensor, reset: Tensor | None, before: bool
) -> tuple[Tensor, Tensor]:
    """The twin: chunk after chunk, each recomputed in the backward pass."""
    h, ys = h0, []
    for t in range(0, u.shape[1], TWIN_CHUNK):
        now = slice(t, t + TWIN_CHUNK)
        pieces = (g[:, now], L, u[:, now], b[:, now], c[:, now], h, None if reset is None else reset[:, now], before)
        if torch.is_grad_enabled() and u.shape[1] > TWIN_CHUNK:
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


class _Selective(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        L: Tensor,
        u: Tensor,
        b: Tensor,
        c: Tensor,
        h0: Tensor,
        reset: Tensor | None,
        before: bool,
    ) -> tuple[Tensor, Tensor]:
        g, u, b, c = g.contiguous(), u.contiguous(), b.contiguous(), c.contiguous()
        reset = reset.contiguous() if reset is not None else None
        start = h0.transpose(1, 2).contiguous()
        y, last = torch.empty_like(u), torch.empty_like(start)
        kept = None
        if any(ctx.needs_input_grad):
            kept = u.new_empty(u.shape[0], -(-u.shape[1] // CHUNK), *start.shape[1:])
        rates = L.t().contiguous()
        native.call("selective_forward", u.dtype, g, rates, u, b, c, start, reset, y, last, kept, *_sizes(u, L), before)
        ctx.save_for_backward(g, L, u, b, c, h0)
        ctx.kept, ctx.reset, ctx.before = kept, reset, before
        return y, last.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
        g, L, u, b, c, h0 = ctx.saved_tensors
        reset, before = ctx.reset, ctx.before
        if torch.is_grad_enabled():

            def twin(*inputs: Tensor) -> tuple[Tensor, ...]:
                g, L, u, b, c, h0 = inputs
                return chunked_twin(g, L, u, b, c, h0, reset, before)

            return *twin_gradients(twin, (g, L, u, b, c, h0), ctx.needs_input_grad[:6], (dy, dlast)), None, None
        flow = dlast.transpose(1, 2).clone(memory_format=torch.contiguous_format)
        dg, du, drates = torch.empty_like(g), torch.empty_like(u), torch.empty_like(flow)
        db, dc = b.new_zeros(2, torch.get_num_threads(), *b.shape).unbind()
        dy, rates = dy.contiguous(), L.t().contiguous()
        read = (g, rates, u, b, c, reset, ctx.kept, dy)
        native.call("selective_backward", u.dtype, *read, dg, drates, du, db, dc, flow, *_sizes(u, L), before)
        return dg, drates.sum(0).t(), du, db.sum(0), dc.sum(0), flow.transpose(1, 2), None, None


def _sizes(u: Tensor, L: Tensor) -> tuple[int, ...]:
    return *u.shape, L.shape[1]


_native_selective = cast(Callable[..., tuple[Tensor, Tensor]], _Selective.apply)
