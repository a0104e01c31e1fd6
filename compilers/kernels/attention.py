"""softmax(scale q k^T) v: over a sequence, every query sees its own entry and those before it; in a step, one query sees all.

Compiled C on the CPU, which is faster than PyTorch's attention there: it looks at no block of entries that causality hides, and
takes queries, keys and values as they lie. Elsewhere it is PyTorch's.
"""

import functools
import struct
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from . import native
from .support import twin_gradients

LANES = 16  # widths of keys and values are multiples of it, in native code,
WIDEST = 256  # and at most this
BLOCK = 64

_LAID = (
    "q{B:qb,T:qt,H*G:qh,K:1} k{B:kb,T:kt,H:kh,K:1} v{B:vb,T:vt,H:vh,V:1}",
    "scale B T H G K<=256 V<=256 qb qt qh kb kt kh vb vt vh",
)
native.declare(
    f"attention_forward {_LAID[0]} y(B,T,H*G,V) lse(B,H*G,T) packed(B,H,K,T+64) {_LAID[1]}",
    f"attention_backward {_LAID[0]} y(B,T,H*G,V) lse(B,H*G,T) grad(B,T,H*G,V) dq(B,T,H*G,K) dk(B,T,H*G,K) dv(B,T,H*G,V) {_LAID[1]}",
    "attention_step q(B,H,G,K) k{B:kb,N:kn,H:kh,K:1} v{B:vb,N:vn,H:vh,V:1} y(B,H,G,V) scores(B*H*G,N+16) scale"
    " B N H G K<=256 V<=256 kb kn kh vb vn vh",
)


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention over as many entries as there are queries.

    q: [B,T,H,G,K]; k: [B,T,H,K]; v: [B,T,H,V]. Returns [B,T,H,G,V].
    """
    if not _native(q, k, v, scale):
        return _by_torch(q, k, v, scale, True, None)
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        return _causal(q, k, v, scale)
    return _forward(q, k, v, scale)[0]


def attention_step(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """One query against all entries: q [B,H,G,K]; k [B,N,H,K]; v [B,N,H,V]. Returns [B,H,G,V]."""
    recorded = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if recorded or not _native(q, k, v, scale):
        return _by_torch(q.unsqueeze(1), k, v, scale, False, None).squeeze(1)
    batch, heads, group, width = q.shape
    entries, wide = k.shape[1], v.shape[3]
    q, k, v = q.contiguous(), _last(k), _last(v)
    y = q.new_empty(batch, heads, group, wide)
    scores = q.new_empty(batch * heads * group * (entries + LANES))
    sizes = batch, entries, heads, group, width, wide
    native.call("attention_step", q.dtype, q, k, v, y, scores, _bits(scale), *sizes, *k.stride()[:3], *v.stride()[:3])
    return y


def masked_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, there: Tensor) -> Tensor:
    """Attention to the entries that are there: q [B,T,H,G,K]; k [B,N,H,K]; v [B,N,H,V]; there [B or 1,T,N] bool."""
    return _by_torch(q, k, v, scale, False, there.unsqueeze(1))


def attend_whole(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    bias: Tensor | None,
    keep: Tensor | None,
    there: Tensor | None,
) -> Tensor:
    """softmax(scale q k^T + bias) v over all entries: those that are there, and very low scores for those that are not kept.

    q: [B,T,H,G,K]; k: [B,T,N,H,K]; v: [B,T,N,H,V]; bias and keep: [B,T,H,G,N]; there: [B,T,N]; where one does not vary over
    batch, steps, heads or groups it may be 1. Returns [B,T,H,G,V].
    """
    given = [x for x in (q, k, v, bias, keep, there) if x is not None]
    batch, steps = max(x.shape[0] for x in given), max(x.shape[1] for x in given)
    if max(k.shape[1], v.shape[1]) > 1:  # a sequence of its own for every step
        each = [None if x is None else _each(x, batch, steps) for x in (q, k, v, bias, keep, there)]
        q, k, v = (x for x in each[:3] if x is not None)
        found: Tensor = attend_whole(q, k, v, scale, *each[3:])
        found = found.unflatten(0, (batch, steps)).squeeze(2)
        return found
    mask = None if bias is None else bias.to(q.dtype)
    zero = torch.zeros((), dtype=q.dtype, device=q.device)
    never = torch.full_like(zero, -torch.inf)
    if keep is not None:
        # Where nothing is kept all weigh the same, whatever the queries ask.
        some = (keep if there is None else keep & there[:, :, None, None]).any(-1, keepdim=True)
        q = torch.where(some, q, zero)
        mask = torch.where(some, torch.where(keep, zero if mask is None else mask, never), zero)
    if there is not None:
        mask = torch.where(there[:, :, None, None], zero if mask is None else mask, never)
    steps = max(q.shape[1], 1 if mask is None else mask.shape[1])
    group = q.shape[3]
    if mask is not None:
        if mask.shape[1] * mask.shape[3] > 1:
            mask = mask.expand(-1, steps, -1, group, -1)
        mask = mask.transpose(1, 2).flatten(2, 3)
    y: Tensor = F.scaled_dot_product_attention(
        q.expand(batch, steps, -1, -1, -1).transpose(1, 2).flatten(2, 3),
        k[:, 0].expand(batch, -1, -1, -1).transpose(1, 2),
        v[:, 0].expand(batch, -1, -1, -1).transpose(1, 2),
        attn_mask=mask,
        scale=scale,
    )
    apart: Tensor = y.unflatten(2, (steps, group)).transpose(1, 2)
    return apart


def _each(x: Tensor, batch: int, steps: int) -> Tensor:
    """x [batch or 1, steps or 1, ...] as [batch * steps, 1, ...]."""
    return x.expand(batch, steps, *x.shape[2:]).flatten(0, 1).unsqueeze(1)


def _by_torch(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool, mask: Tensor | None) -> Tensor:
    y: Tensor = F.scaled_dot_product_attention(
        q.flatten(2, 3).transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal,
        scale=scale,
        enable_gqa=q.shape[3] > 1,
    )
    return y.transpose(1, 2).reshape(*q.shape[:4], v.shape[-1])


def _native(q: Tensor, k: Tensor, v: Tensor, scale: float) -> bool:
    width, wide = k.shape[-1], v.shape[-1]
    fits = width % LANES == 0 == wide % LANES and 0 < width <= WIDEST and 0 < wide <= WIDEST
    return (
        fits
        and scale > 0
        and q.numel() > 0
        and k.numel() > 0
        and k.shape[0] == q.shape[0] == v.shape[0]
        and native.usable(q, k, v)
    )


def _last(x: Tensor) -> Tensor:
    """x with its last axis contiguous, and none repeated."""
    return x if x.stride(-1) == 1 and all(stride >= x.shape[-1] for stride in x.stride()[:-1]) else x.contiguous()


def _heads(q: Tensor) -> Tensor:
    """The heads of the queries, as one axis at one distance: [B,T,H*G,K]."""
    return _last(q.flatten(2, 3))


@functools.cache
def _bits(x: float) -> int:
    """The bits of a double, to hand it over as an integer."""
    bits: int = struct.unpack("q", struct.pack("d", x))[0]
    return bits


def _sizes(q: Tensor, k: Tensor, v: Tensor, group: int) -> tuple[int, ...]:
    batch, time, heads, width = k.shape
    return batch, time, heads, group, width, v.shape[3], *q.stride()[:3], *k.stride()[:3], *v.stride()[:3]


def _forward(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The result, and the logarithms of the sums under it: [B,H*G,T]."""
    batch, time, heads, group, width = q.shape
    y = q.new_empty(batch, time, heads, group, v.shape[3])
    lse = q.new_empty(batch, heads * group, time)
    packed = q.new_empty(batch * heads * width * (time + BLOCK))
    q, k, v = _heads(q), _last(k), _last(v)
    native.call("attention_forward", q.dtype, q, k, v, y, lse, packed, _bits(scale), *_sizes(q, k, v, group))
    return y, lse


class _Causal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        y, lse = _forward(q, k, v, scale)
        ctx.save_for_backward(q, k, v, y, lse)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, y, lse = ctx.saved_tensors
        if torch.is_grad_enabled():

            def twin(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
                return (plain(q, k, v, ctx.scale),)

            return *twin_gradients(twin, (q, k, v), ctx.needs_input_grad[:3], (grad,)), None
        batch, time, heads, group, width = q.shape
        dq = q.new_zeros(batch, time, heads, group, width)
        dk = q.new_empty(batch, time, heads, group, width)
        dv = q.new_empty(batch, time, heads, group, v.shape[3])
        q, k, v, grad = _heads(q), _last(k), _last(v), grad.contiguous()
        sizes = _sizes(q, k, v, group)
        native.call("attention_backward", q.dtype, q, k, v, y, lse, grad, dq, dk, dv, _bits(ctx.scale), *sizes)
        return dq, *((x.sum(3) if group > 1 else x.squeeze(3)) for x in (dk, dv)), None


_causal = cast(Callable[[Tensor, Tensor, Tensor, float], Tensor], _Causal.apply)


def plain(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """`attention`, as in the equation."""
    scores = torch.einsum("bthgk,bnhk->bhgtn", q, k) * scale
    hidden = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device).triu(1)
    return torch.einsum("bhgtn,bnhv->bthgv", torch.softmax(scores.masked_fill(hidden, -torch.inf), -1), v)
