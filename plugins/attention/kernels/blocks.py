"""Attention in PyTorch, a block of queries after another against the entries that some of them see; its gradients likewise.

Memory is linear in the number of queries and of entries. What a query does not see has no part in what comes of it: a product with
a weight of zero would still be NaN where a hidden entry is, so such products are taken over finite numbers and marked afterwards.

q: [B,T,H,G,K]; k: [B,N,H,K]; v: [B,N,H,V]; bias, keep: [B,T,H,G,N], 1 where they do not vary; table: [H or 1,G or 1,S], a bias by the
distance of an entry from the last one that a query sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ....compilers.runtime import native
from ....compilers.runtime.support import state_type

LOW = -1e9  # the score of an entry that is not kept
_SCORES = {"cpu": 2**18}  # about so many are in memory at once: what a cache holds
_MANY = 2**24


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
    """Some queries, the entries that some of them see, and which of these each does not: [B or 1,H or 1,G or 1,queries,entries]; None: none.
    last: the last entry that each query sees, [B or 1,queries]."""

    steps: slice
    entries: slice
    hidden: Tensor | None
    last: Tensor


def _blocks(runs: Runs, q: Tensor, k: Tensor, table: Tensor | None) -> Iterator[_Block]:
    time, entries = q.shape[1], k.shape[1]
    room = _SCORES.get(q.device.type, _MANY) // max(1, q.shape[0] * q.shape[2] * q.shape[3])
    size = min(runs.size or entries, entries)
    most = room // max(1, entries) if size == entries else (isqrt(size * size + 4 * room) - size) // 2
    rows = max(16, min(1024, most))
    index = torch.arange(entries, device=q.device)
    own = torch.arange(entries - time, entries, device=q.device)[None]
    closed = None if table is None else table == -torch.inf  # what that would be added to is not looked at
    if closed is not None and native.sees(closed) and not bool(closed.any()):
        closed = None
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
        if native.sees(q, last) and q.shape[0]:
            high = min(high, max(0, int(last.max()) + 1))
            low = low if first is None else max(low, int(first.min()))
            all_seen = int(last.min()) >= high - 1 and (first is None or int(first.max()) <= low)
        low = min(low, high)
        hidden = None
        if not all_seen:
            hidden = index[low:high] > last.unsqueeze(-1)
            hidden = hidden if first is None else hidden | (index[low:high] < first.unsqueeze(-1))
            hidden = hidden[:, None, None]
        if closed is not None:
            here = closed[:, :, distances(last, index[low:high], closed.shape[-1])].permute(2, 0, 1, 3, 4)
            hidden = here if hidden is None else hidden | here
        yield _Block(steps, slice(low, high), hidden, last)


def distances(last: Tensor, entries: Tensor, reach: int) -> Tensor:
    """How far entries are from the last one that a query sees, within what a table holds: [B or 1,queries,entries]."""
    return (last.unsqueeze(-1) - entries).clamp(0, max(reach - 1, 0))


def by_distance(table: Tensor, steps: int, entries: int, last: Tensor | None) -> Tensor:
    """A table written out over queries and entries: [B or 1,T,H or 1,G or 1,N]."""
    index = torch.arange(entries, device=table.device)
    last = index[None, entries - steps :] if last is None else last
    return table[:, :, distances(last, index, table.shape[-1])].permute(2, 3, 0, 1, 4)


def _weights(
    runs: Runs,
    block: _Block,
    q: Tensor,
    k: Tensor,
    table: Tensor | None,
    bias: Tensor | None,
    keep: Tensor | None,
) -> Tensor:
    """[B,H,G,queries,entries]; zero for what is hidden."""
    asked = (q[:, block.steps] * runs.scale).permute(0, 2, 3, 1, 4)
    scores = asked.flatten(2, 3) @ k[:, block.entries].permute(0, 2, 3, 1)
    scores = scores.unflatten(2, asked.shape[2:4]).to(state_type(q.dtype))
    if table is not None:
        scores = scores + table[:, :, _distances(block, table)].permute(2, 0, 1, 3, 4)
    if bias is not None:
        scores = scores + _part(bias, block)
    if keep is not None:
        scores = scores.masked_fill(~_part(keep, block), LOW)
    if block.hidden is None:
        return torch.softmax(scores, -1)
    return torch.softmax(scores.masked_fill(block.hidden, -torch.inf), -1).masked_fill(block.hidden, 0)


def _distances(block: _Block, table: Tensor) -> Tensor:
    entries = torch.arange(block.entries.start, block.entries.stop, device=table.device)
    return distances(block.last, entries, table.shape[-1])


def _part(x: Tensor, block: _Block) -> Tensor:
    """What of a bias concerns a block: [B,H,G,queries,entries]."""
    x = x[..., block.entries] if x.shape[-1] > 1 else x
    return (x[:, block.steps] if x.shape[1] > 1 else x).permute(0, 2, 3, 1, 4)


def _product(a: Tensor, b: Tensor, hidden: Tensor | None) -> Tensor:
    """a [...,rows,inner] b [...,inner,columns], where what is hidden [...,rows,inner] has no part."""
    if hidden is None or (native.sees(b) and bool(b.isfinite().all())):
        return a @ b
    bad = ~b.isfinite()
    met = (~hidden).to(a.dtype) @ bad.to(a.dtype)
    return (a @ b.masked_fill(bad, 0)).masked_fill(met > 0, torch.nan)


def _flat(hidden: Tensor | None, group: int) -> Tensor | None:
    """[B or 1,H or 1,group*queries,entries]."""
    return None if hidden is None else hidden.expand(-1, -1, group, -1, -1).flatten(2, 3)


def forward(
    runs: Runs,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    bias: Tensor | None,
    keep: Tensor | None,
) -> Tensor:
    """[B,T,H,G,V]"""
    group = q.shape[3]
    y = q.new_empty(*q.shape[:4], v.shape[3])
    for block in _blocks(runs, q, k, table):
        weights = _weights(runs, block, q, k, table, bias, keep).to(v.dtype).flatten(2, 3)
        mixed = _product(weights, v[:, block.entries].transpose(1, 2), _flat(block.hidden, group))
        y[:, block.steps] = mixed.unflatten(2, (group, -1)).permute(0, 3, 1, 2, 4)
    return y


def backward(
    runs: Runs,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    bias: Tensor | None,
    keep: Tensor | None,
    y: Tensor,
    grad: Tensor,
    wants: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """The gradients of q, k, v and, where they are wanted, of the table and the bias."""
    kind, group = state_type(q.dtype), q.shape[3]
    dq = torch.zeros_like(q, memory_format=torch.contiguous_format)
    dk, dv = (torch.zeros(x.shape, dtype=kind, device=x.device) for x in (k, v))
    d_table, d_bias = (
        torch.zeros_like(x) if x is not None and want else None for x, want in zip((table, bias), wants, strict=True)
    )
    for block in _blocks(runs, q, k, table):
        asked, up, out = (x[:, block.steps].permute(0, 2, 3, 1, 4).flatten(2, 3) for x in (q, grad, y))
        keys, values = (x[:, block.entries].transpose(1, 2) for x in (k, v))
        weights = _weights(runs, block, q, k, table, bias, keep).flatten(2, 3)
        hidden = _flat(block.hidden, group)
        hidden_from = None if hidden is None else hidden.mT
        dv[:, block.entries] += _product(weights.to(v.dtype).mT, up, hidden_from).transpose(1, 2)
        slope = (up @ values.mT).to(kind) - (up * out).to(kind).sum(-1, keepdim=True)
        slope = weights * slope
        if hidden is not None:
            slope = slope.masked_fill(hidden, 0)
        if d_table is not None or d_bias is not None or keep is not None:
            apart = slope.unflatten(2, (group, -1))
            if keep is not None:
                apart = apart.masked_fill(~_part(keep, block), 0)
                slope = apart.flatten(2, 3)
            if d_table is not None:
                places = _distances(block, d_table).expand(apart.shape[0], -1, -1).flatten()
                by_head = apart.permute(1, 2, 0, 3, 4).sum_to_size(
                    *d_table.shape[:2], *apart.shape[:1], *apart.shape[3:]
                )
                d_table.index_add_(-1, places, by_head.flatten(2).to(d_table.dtype))
            if d_bias is not None:
                part = _part(d_bias, block)
                part += apart.sum_to_size(part.shape)
        slope = (slope * runs.scale).to(q.dtype)
        dq[:, block.steps] = _product(slope, keys, hidden).unflatten(2, (group, -1)).permute(0, 3, 1, 2, 4)
        dk[:, block.entries] += _product(slope.mT, asked, hidden_from).transpose(1, 2)
    return dq, dk.to(k.dtype), dv.to(v.dtype), d_table, d_bias
