"""Attention in PyTorch, a block of queries after another against the entries that some of them see; its gradients likewise.

Memory is linear in the number of queries and of entries. What a query does not see has no part in what comes of it: a product with
a weight of zero would still be NaN where a hidden entry is, so such products are taken over finite numbers and marked afterwards.

q: [B,T,H,G,K]; k: [B,N,H,K]; v: [B,N,H,V]; bias, keep: [B,T,H,G,N], 1 where they do not vary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .support import state_type

LOW = -1e9  # the score of an entry that is not kept
_SCORES = 2**22  # about so many are in memory at once


class Runs(Protocol):
    """Each query sees the entries from first to last, [B or 1,T]; see `attention`."""

    @property
    def scale(self) -> float: ...
    @property
    def size(self) -> int | None: ...
    @property
    def first(self) -> Tensor | None: ...
    @property
    def last(self) -> Tensor | None: ...


class _Block(NamedTuple):
    """Some queries, the entries that they may see, and which of them each does: [B or 1,1,1,queries,entries]; None: all."""

    steps: slice
    entries: slice
    visible: Tensor | None


def _blocks(runs: Runs, q: Tensor, k: Tensor) -> Iterator[_Block]:
    time, entries = q.shape[1], k.shape[1]
    size = entries if runs.size is None else min(runs.size, entries)
    rows = max(16, min(1024, _SCORES // max(1, q[:, 0, ..., 0].numel() * size)))
    index = torch.arange(entries, device=q.device)
    own = torch.arange(entries - time, entries, device=q.device)[None]
    for start in range(0, time, rows):
        steps = slice(start, min(start + rows, time))
        low, high = 0, entries
        last = own[:, steps] if runs.last is None else runs.last[:, steps]
        first = None if runs.first is None else runs.first[:, steps]
        if runs.size is not None:
            low = max(0, entries - time + start + 1 - runs.size)
        if runs.last is None:
            high = entries - time + steps.stop
        all_seen = False
        if q.is_cpu and q.shape[0]:  # elsewhere looking would be waiting
            high = min(high, max(0, int(last.max()) + 1))
            low = low if first is None else max(low, int(first.min()))
            all_seen = int(last.min()) >= high - 1 and (first is None or int(first.max()) <= low)
        low = min(low, high)
        visible = None
        if not all_seen:
            visible = index[low:high] <= last.unsqueeze(-1)
            visible = visible if first is None else visible & (index[low:high] >= first.unsqueeze(-1))
            visible = visible[:, None, None]
        yield _Block(steps, slice(low, high), visible)


def _scores(runs: Runs, block: _Block, q: Tensor, k: Tensor, bias: Tensor | None, keep: Tensor | None) -> Tensor:
    """[B,H,G,queries,entries]; -inf for what is not seen."""
    asked = q[:, block.steps].permute(0, 2, 3, 1, 4)
    scores = asked.flatten(2, 3) @ k[:, block.entries].permute(0, 2, 3, 1)
    scores = scores.unflatten(2, asked.shape[2:4]).to(state_type(q.dtype)) * runs.scale
    if bias is not None:
        scores = scores + _part(bias, block)
    if keep is not None:
        scores = scores.masked_fill(~_part(keep, block), LOW)
    if block.visible is not None:
        scores = scores.masked_fill(~block.visible, -torch.inf)
    if keep is not None:  # where nothing is kept, so that sums of exponentials are told apart from 1
        scores = torch.where(scores.amax(-1, keepdim=True) <= LOW, scores - LOW, scores)
    return scores


def _part(x: Tensor, block: _Block) -> Tensor:
    """What of a bias concerns a block: [B,H,G,queries,entries]."""
    x = x[..., block.entries] if x.shape[-1] > 1 else x
    return (x[:, block.steps] if x.shape[1] > 1 else x).permute(0, 2, 3, 1, 4)


def _product(a: Tensor, b: Tensor, visible: Tensor | None) -> Tensor:
    """a [...,rows,inner] b [...,inner,columns], where what is not visible [...,rows,inner] has no part."""
    if visible is None or (b.is_cpu and bool(b.isfinite().all())):
        return a @ b
    bad = ~b.isfinite()
    met = visible.to(a.dtype) @ bad.to(a.dtype)
    return (a @ b.masked_fill(bad, 0)).masked_fill(met > 0, torch.nan)


def _flat(visible: Tensor | None, group: int) -> Tensor | None:
    """[B or 1,1,group*queries,entries]."""
    return None if visible is None else visible.expand(-1, -1, group, -1, -1).flatten(2, 3)


def forward(
    runs: Runs, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The result [B,T,H,G,V], and the logarithms of the sums under it [B,H,G,T]."""
    batch, time, heads, group = q.shape[:4]
    y = q.new_empty(batch, time, heads, group, v.shape[3])
    lse = q.new_empty(batch, heads, group, time, dtype=state_type(q.dtype))
    for block in _blocks(runs, q, k):
        scores = _scores(runs, block, q, k, bias, keep)
        log_sum = torch.logsumexp(scores, -1)
        weights = _weights(scores, log_sum, block.visible)
        mixed = _product(
            weights.to(v.dtype).flatten(2, 3), v[:, block.entries].transpose(1, 2), _flat(block.visible, group)
        )
        y[:, block.steps] = mixed.unflatten(2, (group, -1)).permute(0, 3, 1, 2, 4)
        lse[..., block.steps] = log_sum
    return y, lse


def _weights(scores: Tensor, log_sum: Tensor, visible: Tensor | None) -> Tensor:
    weights = torch.exp(scores - log_sum.unsqueeze(-1))
    return weights if visible is None else weights.masked_fill(~visible, 0)


def backward(
    runs: Runs,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    keep: Tensor | None,
    y: Tensor,
    lse: Tensor,
    grad: Tensor,
    wants_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The gradients of q, k, v and, where it is wanted, of the bias."""
    kind, group = state_type(q.dtype), q.shape[3]
    dq = torch.zeros_like(q, memory_format=torch.contiguous_format)
    dk, dv = (torch.zeros(x.shape, dtype=kind, device=x.device) for x in (k, v))
    d_bias = torch.zeros_like(bias) if bias is not None and wants_bias else None
    for block in _blocks(runs, q, k):
        asked, up, out = (x[:, block.steps].permute(0, 2, 3, 1, 4).flatten(2, 3) for x in (q, grad, y))
        keys, values = (x[:, block.entries].transpose(1, 2) for x in (k, v))
        weights = _weights(_scores(runs, block, q, k, bias, keep), lse[..., block.steps], block.visible).flatten(2, 3)
        seen = _flat(block.visible, group)
        seen_by = None if seen is None else seen.mT
        dv[:, block.entries] += _product(weights.to(v.dtype).mT, up, seen_by).transpose(1, 2)
        slope = (up @ values.mT).to(kind) - (up * out).to(kind).sum(-1, keepdim=True)
        slope = weights * slope
        if seen is not None:
            slope = slope.masked_fill(~seen, 0)
        if d_bias is not None or keep is not None:
            apart = slope.unflatten(2, (group, -1))
            if keep is not None:
                apart = apart.masked_fill(~_part(keep, block), 0)
                slope = apart.flatten(2, 3)
            if d_bias is not None:
                part = _part(d_bias, block)
                part += apart.sum_to_size(part.shape)
        slope = (slope * runs.scale).to(q.dtype)
        dq[:, block.steps] = _product(slope, keys, seen).unflatten(2, (group, -1)).permute(0, 3, 1, 2, 4)
        dk[:, block.entries] += _product(slope.mT, asked, seen_by).transpose(1, 2)
    return dq, dk.to(k.dtype), dv.to(v.dtype), d_bias
