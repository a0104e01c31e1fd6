"""Whole sequences in which documents are packed: what a step reads of its own document, with memory linear in the steps.

A value along a whole sequence is [batch, steps, *axes], the entries among the axes. Where it is the same for all steps its steps are 1,
and what is made of the entries is made once a document. Entries of other documents may hold anything: who reads them leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from . import operations
from .clock import Time
from .product import product
from .runs import documents
from .support import state_type


def reduced(x: Tensor, time: Time, how: str, dim: int, others: Sequence[int] = ()) -> Tensor:
    """The sum, mean, max or min over the entries of the document, which lie along ``dim``, and over other dims; all are negative."""
    ends = _ends(time, x)
    if ends is not None:
        found = _by_document(x.squeeze(1), *ends, how, dim, others)
        return found.squeeze([other if other > dim else other + 1 for other in others])
    dims, there = (dim, *others), _together(x, time, dim)
    if how == "mean":
        return operations.masked_mean(x, dims, there)
    x = operations.masked(x, there, _NOTHING[how])
    return x.sum(dims) if how == "sum" else x.amax(dims) if how == "max" else x.amin(dims)


_NOTHING = {"sum": 0.0, "max": -torch.inf, "min": torch.inf}


def normalised(x: Tensor, time: Time, dim: int, others: Sequence[int] = ()) -> Tensor:
    """Softmax over the entries of the document, which lie along ``dim``, and over other dims."""
    ends = _ends(time, x)
    if ends is None:
        return operations.softmax(x, (dim, *others), _together(x, time, dim))
    entries = x.squeeze(1)
    peak = _by_document(entries.detach(), *ends, "max", dim, others).movedim(1, dim)
    weights = torch.exp((entries - peak).to(state_type(x.dtype)))
    total = _by_document(weights, *ends, "sum", dim, others).movedim(1, dim)
    return (weights / total).to(x.dtype).unsqueeze(1)


def dot(a: Tensor, b: Tensor, left: str, right: str, wanted: str, slot: str, time: Time) -> Tensor:
    """The sum of products over the entries of the document and other axes. Letters name axes, ``slot`` that of the entries."""
    if time.reset is None and time.outer is None:
        return torch.einsum(f"{left},{right}->{wanted}", a, b)
    if all(_ends(time, x) is not None for x, axes in ((a, left), (b, right)) if axes.startswith("ab")):
        return reduced(torch.einsum(f"{left},{right}->{wanted}{slot}", a, b), time, "sum", -1)
    first = slot in left and (a.shape[1] > 1 or slot not in right)
    x, axes = (a, left) if first else (b, right)
    x = operations.masked(x, _together(x, time, axes.index(slot) - len(axes)))
    a, b = (x, b) if first else (a, x)
    return product(f"{left},{right}->{wanted}", a, b)


def selected(x: Tensor, index: Tensor | int, time: Time) -> Tensor:
    """The entry whose position in the document is ``index`` (broadcast against the rest of x), of x [..., entries]; zero if none."""
    if time.reset is None and time.before is None and time.outer is None:
        return x.select(-1, index) if isinstance(index, int) else operations.select(x, -1, index)
    whole, step = (time, slice(None)) if time.outer is None else time.outer
    own = torch.arange(whole.steps or 1, device=time.device)[None]
    ends = documents(whole) or (torch.zeros_like(own), torch.full_like(own, x.shape[-1] - 1))
    shift, first, last = (
        end.reshape(*end.shape, *[1] * (x.dim() - 1 - end.dim()))
        for end in (part.expand(time.batch, -1)[:, step] for part in (own - whole.position, *ends))
    )
    entry = index + shift
    found = operations.select(x, -1, entry.clamp(0, x.shape[-1] - 1))
    return operations.masked(found, (entry >= first) & (entry <= last))


def _ends(time: Time, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """The documents, if there are several and x is the same for all steps."""
    return None if time.steps is None or x.shape[1] > 1 else documents(time)


def _together(x: Tensor, time: Time, dim: int) -> Tensor | None:
    return time.together(x.dim() + dim - (1 if time.steps is None else 2), -1 - dim)


def _by_document(x: Tensor, first: Tensor, last: Tensor, how: str, dim: int, others: Sequence[int]) -> Tensor:
    """x [batch or 1, *axes] reduced, for each step: [batch, steps, *axes without the entries]; other dims become 1."""
    wide = x.to(state_type(x.dtype))
    if others:
        reduce = {"sum": Tensor.sum, "mean": Tensor.mean, "max": Tensor.amax, "min": Tensor.amin}
        wide = cast(Callable[..., Tensor], reduce[how])(wide, tuple(others), keepdim=True)
    wide = wide.movedim(dim, 1)
    wide = wide.expand(first.shape[0], *wide.shape[1:])
    lead = (*first.shape, *[1] * (wide.dim() - 2))
    place = first.reshape(lead).expand(wide.shape)
    none = torch.zeros_like(wide)
    if how in ("sum", "mean"):
        found = none.scatter_add(1, place, wide).gather(1, place)
    else:
        found = none.scatter_reduce(1, place, wide, f"a{how}", include_self=False).gather(1, place)
    if how == "mean":
        found = found / (last - first + 1).reshape(lead)
    return found.to(x.dtype)
