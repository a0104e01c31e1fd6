"""Attention on a GPU where more than causality hides entries, or scores have a bias: torch's FlexAttention, one kernel forwards and two backwards.

What hides entries are runs, `first` to `last` of each query, so that which blocks are needed is known without a mask over queries and entries.
A hidden entry that shares a block with a visible one is multiplied by zero: there, unlike elsewhere, it must be finite.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import flex_attention
from torch.nn.attention.flex_attention import BlockMask

from ....compilers.runtime import native, tritons
from . import blocks

BLOCK = 128  # queries, and entries, that are hidden or seen together
NARROWEST, WIDEST = 16, 256
_TYPES = (torch.float32, torch.bfloat16, torch.float16)
Index = Tensor
_CHANGES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "&": lambda score, keep: torch.where(keep, score, blocks.LOW),
}


def reaches(*tensors: Tensor) -> bool:
    """Whether FlexAttention computes with such queries, keys and values."""
    first = tensors[0]
    if not tritons.reaches(first.device) or not tritons.available() or native.transformed() or first.numel() == 0:
        return False
    return first.dtype in _TYPES and all(NARROWEST <= x.shape[-1] <= WIDEST for x in tensors)


def seen(first: Tensor | None, last: Tensor | None, steps: int, entries: int, device: torch.device) -> BlockMask:
    """Which blocks of queries see which of entries; first, last: [B or 1,T], by default the oldest entry, and the query's own."""
    own = torch.arange(entries - steps, entries, device=device)[None]
    last = own if last is None else last
    first = torch.zeros_like(last) if first is None else first
    first, last = torch.broadcast_tensors(first, last)
    rows, columns = -(-steps // BLOCK), -(-entries // BLOCK)

    def parts(x: Tensor) -> Tensor:
        """[B,blocks,BLOCK], the last query repeated."""
        filled = torch.cat([x, x[:, -1:].expand(-1, rows * BLOCK - steps)], 1)
        return filled.view(-1, rows, BLOCK)

    firsts, lasts = parts(first), parts(last)
    begin = torch.arange(columns, device=device) * BLOCK
    some = (begin + BLOCK > firsts.amin(-1)[..., None]) & (begin <= lasts.amax(-1)[..., None])
    whole = (begin >= firsts.amax(-1)[..., None]) & (begin + BLOCK - 1 <= lasts.amin(-1)[..., None])

    def visible(b: Index, h: Index, q: Index, k: Index) -> Tensor:
        row = b if first.shape[0] > 1 else b * 0
        there: Tensor = (k >= first[row, q]) & (k <= last[row, q])
        return there

    return BlockMask.from_kv_blocks(
        *_listed(some & ~whole), *_listed(whole), BLOCK, visible, seq_lengths=(steps, entries)
    )


def _listed(there: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks there are in each row, and which, those first: [B,1,rows], [B,1,rows,columns]."""
    order = there.int().argsort(dim=-1, descending=True, stable=True)
    return there.sum(-1, dtype=torch.int32)[:, None], order.to(torch.int32)[:, None]


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    mask: BlockMask | None,
    biases: Sequence[tuple[str, Tensor]] = (),
    table: tuple[Tensor, Tensor | None] | None = None,
) -> Tensor:
    """softmax(scale q k + biases) v. q: [B,T,H,G,K]; k: [B,N,H,K]; v: [B,N,H,V]; biases: [B,T,H,G,N] each, 1 where it does not vary, with a
    sign: what is added or subtracted, or (&) where scores are very low that it does not hold for; table: [H or 1,G or 1,S], added
    by the distance from the last entry that a query sees, and that, [B or 1,T], its own by default; without a mask all entries are seen.
    Returns [B,T,H,G,V]."""
    group, steps, entries = q.shape[3], q.shape[1], k.shape[1]
    by_distance = None
    if table is not None:
        by_distance, last = table
        own = torch.arange(entries - steps, entries, device=q.device)[None] if last is None else last

    def changed(score: Tensor, b: Index, h: Index, i: Index, j: Index) -> Tensor:
        if by_distance is not None:
            # What is hidden may lie outside the table.
            distance = (own[b if own.shape[0] > 1 else b * 0, i] - j).clamp(0, by_distance.shape[-1] - 1)
            by_head, by_group, _ = by_distance.shape
            head = h // group if by_head > 1 else h * 0
            score = score + by_distance[head, h % group if by_group > 1 else h * 0, distance]
        for sign, bias in biases:
            at = (b, i, h // group, h % group, j)
            one = bias[tuple(place if size > 1 else place * 0 for place, size in zip(at, bias.shape, strict=True))]
            score = _CHANGES[sign](score, one)
        return score

    given = q.flatten(2, 3).transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    several = group > 1
    if mask is None and not biases and table is None:
        y = F.scaled_dot_product_attention(*given, scale=scale, enable_gqa=several)
    else:
        eager = native.watched() or not q.is_cuda
        y = (flex_attention.flex_attention if eager else _compiled())(  # type: ignore[operator]
            *given, changed if biases or table is not None else None, mask, scale, enable_gqa=several
        )
    return y.transpose(1, 2).reshape(*q.shape[:4], v.shape[-1])


@functools.cache
def _compiled() -> Callable[..., Any]:
    """FlexAttention where nobody compiles what is around it."""
    return torch.compile(flex_attention.flex_attention, dynamic=True)
