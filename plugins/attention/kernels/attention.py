"""softmax(scale q k^T) v, where every query sees a run of the entries: those up to its own, those of a window, those of a document.

A score may have a bias by the distance of an entry from the last one that the query sees: a table [heads or 1, group or 1, distances], for
all that are seen; minus infinity hides.

The run goes from ``first`` to ``last``, [batch or 1, steps] each; no mask over queries and entries is ever made. Blocks that nobody
sees are skipped, so that a window costs what it holds, and what a query does not see has no part in its result, be it NaN.

Compiled C on the CPU, which is faster than PyTorch's attention there and takes queries, keys and values as they lie; on a GPU PyTorch's own
where only causality hides entries, and its FlexAttention; block by block in PyTorch elsewhere.
"""

import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ....compilers.runtime import native
from ....compilers.runtime.clock import Time
from ....compilers.runtime.runs import documents, seen
from ....compilers.runtime.support import data_type, of_type, recorded, state_type, twin_gradients
from . import blocks, flex

LANES = 16  # widths of keys and values are multiples of it, in native code,
WIDEST = 256  # and at most this
BLOCK = 64

_LAID = (
    "q{B:qb,T:qt,H*G:qh,K:1} k{B:kb,N:kn,H:kh,K:1} v{B:vb,N:vn,H:vh,V:1} first?:int64[B,T] last?:int64[B,T] bias?[H*G,R]",
    "scale R B T N H G K<=256 V<=256 qb qt qh kb kn kh vb vn vh",
)
native.declare(
    f"attention_forward {_LAID[0]} y(B,T,H*G,V) lse(B,H*G,T) packed(B,H,K,N+64) {_LAID[1]}",
    f"attention_backward {_LAID[0]} y(B,T,H*G,V) lse(B,H*G,T) grad(B,T,H*G,V) dq(B,T,H*G,K) dk(B,N,H*G,K) dv(B,N,H*G,V) d_bias?(B,H*G,R) {_LAID[1]}",
    "attention_step q(B,H,G,K) k{B:kb,N:kn,H:kh,K:1} v{B:vb,N:vn,H:vh,V:1} first?:int64[B] bias?[H*G,R] y(B,H,G,V) scores(B*H*G,N+16) scale"
    " R B N H G K<=256 V<=256 kb kn kh vb vn vh",
    source=native.beside(__file__, "attention.c"),
)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    first: Tensor | None = None,
    last: Tensor | None = None,
    size: int | None = None,
    table: Tensor | None = None,
) -> Tensor:
    """Attention to the entries from first to last: by default from the oldest to the query's own, queries being the newest entries.

    q: [B,T,H,G,K]; k: [B,N,H,K]; v: [B,N,H,V]; first, last: [B or 1,T]; table: [H or 1,G or 1,S], what is added to scores by distance.
    Where nothing is seen the result is zero. ``size`` promises that no query sees more entries than so many, its own being the last.
    Returns [B,T,H,G,V].
    """
    q, k, v = _alike(q, k, v)
    _reaches(table, k.shape[1] if size is None else size, k.shape[1])
    if native.tracing():
        return _by_torch(q, k, v, scale, first, last, table)
    if q.is_cpu and native.available() and not _native(q, k, v, scale):
        fitted = _fitted(q, k, v, scale)
        if fitted is not None:
            y = attention(*fitted, scale, first, last, size, table)
            return y[..., : v.shape[-1]].to(v.dtype)
    if not q.is_cpu and first is None and last is None and table is None and q.shape[1] == k.shape[1]:
        return _by_torch(q, k, v, scale, None, None, None)
    given = _Given(scale, size, first, last)
    if recorded(q, k, v, table):
        return _recorded(given, q, k, v, table, None, None)
    return _forward(given, q, k, v, table, None, None)[0]


def attention_step(
    q: Tensor, k: Tensor, v: Tensor, scale: float, first: Tensor | None = None, table: Tensor | None = None
) -> Tensor:
    """One query against the entries from first [B or 1] on: q [B,H,G,K]; k [B,N,H,K]; v [B,N,H,V]. Returns [B,H,G,V]."""
    q, k, v = _alike(q, k, v)
    _reaches(table, k.shape[1], k.shape[1])
    watched = recorded(q, k, v, table)
    if watched or not _native(q, k, v, scale):
        start = None if first is None else first.unsqueeze(1)
        if first is None and table is None and not watched:
            return _by_torch(q.unsqueeze(1), k, v, scale, None, None, None).squeeze(1)
        return attention(q.unsqueeze(1), k, v, scale, start, table=table).squeeze(1)
    batch, heads, group, width = q.shape
    entries, wide = k.shape[1], v.shape[3]
    q, k, v = q.contiguous(), _last(k), _last(v)
    y = q.new_empty(batch, heads, group, wide)
    scores = q.new_empty(batch * heads * group * (entries + LANES))
    start = None if first is None else first.to(torch.long).expand(batch).contiguous()
    bias, reach = _laid(table, q.dtype, heads, group)
    sizes = reach, batch, entries, heads, group, width, wide, *k.stride()[:3], *v.stride()[:3]
    native.call("attention_step", q.dtype, q, k, v, start, bias, y, scores, _bits(scale), *sizes)
    return y


def attend_whole(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    bias: Tensor | None,
    keep: Tensor | None,
    document: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """softmax(scale q k^T + bias) v over all entries, or those of a document, with very low scores for those that are not kept.

    q: [B,T,H,G,K]; k: [B,T,N,H,K]; v: [B,T,N,H,V]; bias and keep: [B,T,H,G,N]; where one does not vary over batch, steps, heads or
    groups it may be 1. document: the first and last entry of the document of each step, [B,T] each. Returns [B,T,H,G,V].
    """
    given = [x for x in (q, k, v, bias, keep) if x is not None]
    given += [] if document is None else list(document)
    batch, steps = (torch.broadcast_shapes(*(x.shape[at : at + 1] for x in given))[0] for at in (0, 1))
    if max(k.shape[1], v.shape[1]) > 1:  # a sequence of its own for every step
        q, k, v = (_each(x, batch, steps) for x in (q, k, v))
        bias, keep = (None if x is None else _each(x, batch, steps) for x in (bias, keep))
        within = None if document is None else (_each(document[0], batch, steps), _each(document[1], batch, steps))
        apart: Tensor = attend_whole(q, k, v, scale, bias, keep, within)
        apart = apart.unflatten(0, (batch, steps)).squeeze(2)
        return apart
    if document is None:
        (steps,) = torch.broadcast_shapes(*(x.shape[1:2] for x in (q, bias, keep) if x is not None))
    q = q.expand(batch, steps, -1, -1, -1)
    k, v = (x[:, 0].expand(batch, -1, -1, -1) for x in (k, v))
    first, last = (None, torch.full((1, steps), k.shape[1] - 1, device=q.device)) if document is None else document
    q, k, v = _alike(q, k, v)
    if bias is None and keep is None:
        return attention(q, k, v, scale, first, last)
    if native.tracing():
        return plain(q, k, v, scale, first, last, bias, keep)
    how = _Given(scale, None, first, last)
    if recorded(q, k, v, bias):
        return _recorded(how, q, k, v, None, bias, keep)
    return _forward(how, q, k, v, None, bias, keep)[0]


def attend(q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, time: Time, scale: float, size: int | None) -> Tensor:
    """softmax(scale q k + table by distance) v over the entries of two registers.

    q: [batch, (steps,) heads, group, K]; k: [batch, entries, heads, K]; v: [batch, entries, heads, V];
    table: [1, (1,) heads or 1, group or 1, distances]. Returns [batch, (steps,) heads, group, V].
    """
    if table is not None:
        table = table.flatten(0, -4).squeeze(0)
    first, last = seen(time, k.shape[1], size)
    if time.steps is not None:
        beyond = first is not None or last is not None or table is not None or k.shape[1] != time.steps
        if beyond and flex.reaches(q, k, v):
            sizes = time.steps, k.shape[1]
            mask = time.once(("seen blocks", size, *sizes), lambda: flex.seen(first, last, *sizes, q.device))
            return flex.attend(*_alike(q, k, v), scale, mask, table=None if table is None else (table, last))
        return attention(q, k, v, scale, first, last, size, table)
    if last is None:
        return attention_step(q, k, v, scale, first, table)
    assert first is not None
    return attention(q.unsqueeze(1), k, v, scale, first.unsqueeze(1), last.unsqueeze(1), table=table).squeeze(1)


def attend_all(q: Tensor, k: Tensor, v: Tensor, time: Time, *rest: Any) -> Tensor:
    """``attend_whole`` with biases and masks one by one. What is in ``rest``: those; a sign for each, + for what is added to the scores, -
    for what is taken from them, & for a mask; the scale; whether a step sees its own document alone."""
    *others, signs, scale, apart = rest
    document = documents(time) if apart else None
    if k.shape[1] == v.shape[1] == 1 and flex.reaches(q, k, v):
        return _attend_flex(q, k, v, time, scale, document, tuple(zip(signs, others, strict=True)))
    added = [-x if sign == "-" else x for sign, x in zip(signs, others, strict=True) if sign != "&"]
    kept = [x for sign, x in zip(signs, others, strict=True) if sign == "&"]
    bias = sum(added[1:], added[0]) if added else None
    return attend_whole(q, k, v, scale, bias, reduce(and_, kept) if kept else None, document)


def _attend_flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    time: Time,
    scale: float,
    document: tuple[Tensor, Tensor] | None,
    biases: tuple[tuple[str, Tensor], ...],
) -> Tensor:
    """``attend_whole`` by FlexAttention."""
    given = [q, k, v, *(bias for _, bias in biases), *(document or ())]
    (batch,) = torch.broadcast_shapes(*(x.shape[:1] for x in given))
    (steps,) = torch.broadcast_shapes(*(x.shape[1:2] for x in (q, *(bias for _, bias in biases), *(document or ()))))
    q = q.expand(batch, steps, -1, -1, -1)
    k, v = (x[:, 0].expand(batch, -1, -1, -1) for x in (k, v))
    mask = None
    if document is not None:
        sizes = steps, k.shape[1]
        mask = time.once(("document blocks", *sizes), lambda: flex.seen(*document, *sizes, q.device))
    return flex.attend(*_alike(q, k, v), scale, mask, biases)


def joined(*parts: Tensor | float) -> Tensor:
    """Parts laid end to end along the last axis, broadcast along the others. A number is a part of one entry."""
    like = next(x for x in parts if isinstance(x, Tensor))
    given = [x if isinstance(x, Tensor) else like.new_full((1,) * like.dim(), x) for x in parts]
    front = torch.broadcast_shapes(*(x.shape[:-1] for x in given))
    return torch.cat([x.expand(*front, x.shape[-1]) for x in given], -1)


def _each(x: Tensor, batch: int, steps: int) -> Tensor:
    """x [batch or 1, steps or 1, ...] as [batch * steps, 1, ...]."""
    return x.expand(batch, steps, *x.shape[2:]).flatten(0, 1).unsqueeze(1)


def _reaches(table: Tensor | None, size: int, entries: int) -> None:
    """Raises ValueError where a table does not hold all distances that may be seen."""
    if table is not None and table.shape[-1] < min(size, entries):
        raise ValueError(f"a table of {table.shape[-1]} distances, for {min(size, entries)}")


def _alike(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if q.dtype == k.dtype == v.dtype:
        return q, k, v
    dtype = data_type(q, k, v)
    return of_type(q, dtype), of_type(k, dtype), of_type(v, dtype)


def _fitted(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor] | None:
    """What native code takes in place of these: widths filled up with zeros, float32 for halves. None if there is no such thing."""
    dtype = state_type(q.dtype)
    q, k, v = (F.pad(x, (0, -x.shape[-1] % LANES)).to(dtype) for x in (q, k, v))
    return (q, k, v) if _native(q, k, v, scale) else None


def _by_torch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    first: Tensor | None,
    last: Tensor | None,
    table: Tensor | None,
) -> Tensor:
    """PyTorch's attention, where a compiler watches or only causality hides entries; with runs or a table it makes a mask."""
    plain = first is None and last is None and table is None
    causal = plain and q.shape[1] == k.shape[1]
    alone = plain and q.shape[1] == 1  # a step, which sees all
    mask = None
    if not causal and not alone:
        mask = _visible(q.shape[1], k.shape[1], first, last, q.device).unsqueeze(1)
        if table is not None:
            bias = blocks.by_distance(table, q.shape[1], k.shape[1], last).permute(0, 2, 3, 1, 4)
            bias = bias.expand(-1, *q.shape[2:4], -1, -1).flatten(1, 2).to(q.dtype)
            mask = bias.masked_fill(~mask, -torch.inf)
    y: Tensor = F.scaled_dot_product_attention(
        q.flatten(2, 3).transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal and not alone,
        scale=scale,
        enable_gqa=q.shape[3] > 1,
    )
    return y.transpose(1, 2).reshape(*q.shape[:4], v.shape[-1])


def _visible(steps: int, entries: int, first: Tensor | None, last: Tensor | None, device: torch.device) -> Tensor:
    """[B or 1,T,N]: which entries each query sees."""
    index = torch.arange(entries, device=device)
    own = torch.arange(entries - steps, entries, device=device)[None] if last is None else last
    seen = index <= own.unsqueeze(-1)
    return seen if first is None else seen & (index >= first.unsqueeze(-1))


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


def _laid(table: Tensor | None, dtype: torch.dtype, heads: int, group: int) -> tuple[Tensor | None, int]:
    """A table as native code takes it, and its width there."""
    if table is None:
        return None, 0
    laid = F.pad(table.to(dtype).expand(heads, group, -1).flatten(0, 1).flip(-1), (BLOCK, BLOCK))
    return laid, laid.shape[-1]


@functools.cache
def _bits(x: float) -> int:
    """The bits of a double, to hand it over as an integer."""
    bits: int = struct.unpack("q", struct.pack("d", x))[0]
    return bits


@dataclass(frozen=True)
class _Given:
    """What of an attention has no gradient."""

    scale: float
    size: int | None
    first: Tensor | None
    last: Tensor | None

    def fused(self, q: Tensor, k: Tensor, *others: Tensor) -> bool:
        """Whether PyTorch's attention will do: only causality hides entries, and nothing is there that would show through."""
        plain = self.first is None and self.last is None and q.shape[1] == k.shape[1]
        return (
            plain
            and q.numel() > 0
            and native.sees(q, k, *others)
            and all(bool(x.isfinite().all()) for x in (q, k, *others))
        )

    def ends(self, batch: int, steps: int) -> tuple[Tensor | None, Tensor | None]:
        """first and last as native code takes them: [B,T]."""
        first, last = (
            None if x is None else x.to(torch.long).expand(batch, steps).contiguous() for x in (self.first, self.last)
        )
        return first, last


def _sizes(q: Tensor, k: Tensor, v: Tensor, group: int) -> tuple[int, ...]:
    """q: [B,T,H*G,K]; k: [B,N,H,K]; v: [B,N,H,V]."""
    lead = q.shape[0], q.shape[1], k.shape[1], k.shape[2], group, k.shape[3], v.shape[3]
    return *lead, *q.stride()[:3], *k.stride()[:3], *v.stride()[:3]


def _forward(
    given: _Given,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    bias: Tensor | None,
    keep: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """The result, and from native code the logarithms of the sums under it: [B,H*G,T]."""
    if bias is not None or keep is not None or not _native(q, k, v, given.scale):
        with torch.no_grad(), torch.autocast(q.device.type, enabled=False):
            if table is None and bias is None and keep is None and given.fused(q, k, v):
                return _by_torch(q, k, v, given.scale, None, None, None), None
            return blocks.forward(given, q, k, v, table, bias, keep), None
    batch, time, heads, group, width = q.shape
    entries = k.shape[1]
    y = q.new_empty(batch, time, heads, group, v.shape[3])
    lse = q.new_empty(batch, heads * group, time)
    packed = q.new_empty(batch * heads * width * (entries + BLOCK))
    q, k, v = _heads(q), _last(k), _last(v)
    ends = given.ends(batch, time)
    laid, reach = _laid(table, q.dtype, heads, group)
    sizes = reach, *_sizes(q, k, v, group)
    native.call("attention_forward", q.dtype, q, k, v, *ends, laid, y, lse, packed, _bits(given.scale), *sizes)
    return y, lse


def _backward(
    given: _Given, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, y: Tensor, lse: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    batch, time, heads, group, width = q.shape
    entries, wide = k.shape[1], v.shape[3]
    dq = q.new_zeros(batch, time, heads, group, width)
    dk = q.new_empty(batch, entries, heads, group, width)
    dv = q.new_empty(batch, entries, heads, group, wide)
    q, k, v, grad = _heads(q), _last(k), _last(v), grad.contiguous()
    ends = given.ends(batch, time)
    laid, reach = _laid(table, q.dtype, heads, group)
    d_laid = None if laid is None else laid.new_zeros(batch, heads, group, reach)
    sizes = reach, *_sizes(q, k, v, group)
    grads = y, lse, grad, dq, dk, dv, d_laid
    native.call("attention_backward", q.dtype, q, k, v, *ends, laid, *grads, _bits(given.scale), *sizes)
    dk, dv = ((x.sum(3) if group > 1 else x.squeeze(3)) for x in (dk, dv))
    if table is None or d_laid is None:
        return dq, dk, dv, None
    d_table = (d_laid.sum(0) / given.scale)[..., BLOCK:-BLOCK].flip(-1)
    return dq, dk, dv, d_table.sum_to_size(table.shape).to(table.dtype)


class _Recorded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        given: _Given,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        table: Tensor | None,
        bias: Tensor | None,
        keep: Tensor | None,
    ) -> Tensor:
        y, lse = _forward(given, q, k, v, table, bias, keep)
        ctx.save_for_backward(q, k, v, table, bias, keep, y, lse)
        ctx.given = given
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        given: _Given = ctx.given
        q, k, v, table, bias, keep, y, lse = ctx.saved_tensors
        grad = grad.to(q.dtype)
        if torch.is_grad_enabled():

            def twin(q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, bias: Tensor | None) -> tuple[Tensor, ...]:
                return (plain(q, k, v, given.scale, given.first, given.last, table, bias, keep),)

            return None, *twin_gradients(twin, (q, k, v, table, bias), ctx.needs_input_grad[1:6], (grad,)), None
        if lse is not None:
            return None, *_backward(given, q, k, v, table, y, lse, grad), None, None
        with torch.autocast(q.device.type, enabled=False):
            if table is None and bias is None and keep is None and given.fused(q, k, v, grad):

                def again(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
                    return (_by_torch(q, k, v, given.scale, None, None, None),)

                return None, *twin_gradients(again, (q, k, v), ctx.needs_input_grad[1:4], (grad,)), None, None, None
            wants = ctx.needs_input_grad[4:6]
            return None, *blocks.backward(given, q, k, v, table, bias, keep, y, grad, wants), None


_recorded = cast(
    Callable[[_Given, Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None], Tensor],
    _Recorded.apply,
)


def plain(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    first: Tensor | None = None,
    last: Tensor | None = None,
    table: Tensor | None = None,
    bias: Tensor | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """`attention` and `attend_whole`, as in the equation."""
    scores = torch.einsum("bthgk,bnhk->bthgn", q, k).to(state_type(q.dtype)) * scale
    if table is not None:
        scores = scores + blocks.by_distance(table, q.shape[1], k.shape[1], last)
    if bias is not None:
        scores = scores + bias
    if keep is not None:
        scores = torch.where(keep, scores, torch.full((), blocks.LOW, dtype=scores.dtype, device=scores.device))
    hidden = ~_visible(q.shape[1], k.shape[1], first, last, q.device)[:, :, None, None]
    if table is not None:
        hidden = hidden | (blocks.by_distance(table, q.shape[1], k.shape[1], last) == -torch.inf)
    weights = torch.softmax(scores.masked_fill(hidden, torch.finfo(scores.dtype).min), -1).masked_fill(hidden, 0)
    return torch.einsum("bthgn,bnhv->bthgv", weights.to(v.dtype), v)
