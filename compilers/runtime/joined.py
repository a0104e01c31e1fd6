"""Parallel projections as one product: parameters of their own, which lie side by side in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from . import native, tritons


class Block(NamedTuple):
    """Weights [sum of rows, in] and biases [sum of rows] of projections, as one; or what those that have one add ``later``."""

    weight: Tensor
    bias: Tensor | None
    later: tuple[Tensor | None, ...] = ()


def pays(device: torch.device) -> bool:
    """Whether one product takes less time than several: where each is launched. (On a CPU, the gradients of the results, which have to be
    laid side by side too, cost what it saves.)"""
    return not torch.compiler.is_compiling() and tritons.reaches(device)


def block(layers: Sequence[nn.Module]) -> Block | None:
    """What layers own, as one tensor that their gradients flow back from; None where it does not lie side by side."""
    if not native.alone():
        return None
    weight = _whole([layer._parameters.get("weight") for layer in layers])
    biases = [layer._parameters.get("bias") for layer in layers]
    if weight is None:
        return None
    bias = _whole(biases)
    return Block(weight, bias, () if bias is not None or all(one is None for one in biases) else tuple(biases))


def lay(layers: Sequence[nn.Module]) -> None:
    """Move what layers own into one piece of memory, where that can be done and is not so."""
    for name in ("weight", "bias"):
        parts = [layer._parameters.get(name) for layer in layers]
        kinds = {None if x is None else (type(x), x.dtype, x.device, x.shape[1:]) for x in parts}
        if len(kinds) > 1 or type(parts[0]) is not nn.Parameter or _beside(parts):
            continue
        found = cast(list[Tensor], parts)
        whole = torch.cat([x.detach() for x in found])
        for x, place in zip(found, whole.split([len(x) for x in found]), strict=True):
            x.data = place


def _beside(parts: Sequence[Tensor | None]) -> bool:
    """Whether each begins where the one before ends."""
    if any(x is None or type(x) is not nn.Parameter or not x.is_contiguous() for x in parts):
        return False
    found = cast(list[Tensor], parts)
    first, end = found[0], found[0].storage_offset()
    for x in found:
        same = x.dtype == first.dtype and x.untyped_storage()._cdata == first.untyped_storage()._cdata
        if not same or x.storage_offset() != end:
            return False
        end += x.numel()
    return True


def _whole(parts: Sequence[Tensor | None]) -> Tensor | None:
    if not _beside(parts):
        return None
    found = cast(list[Tensor], parts)
    if torch.is_grad_enabled() and any(x.requires_grad for x in found):
        return cast(Tensor, _Whole.apply(*found))  # type: ignore[no-untyped-call]
    return _view(found)


def _view(parts: Sequence[Tensor]) -> Tensor:
    first = parts[0].detach()
    sizes = [sum(map(len, parts)), *first.shape[1:]]
    return first.new_empty(0).set_(first.untyped_storage(), first.storage_offset(), sizes, first.stride())


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.rows = [len(x) for x in parts]
        ctx.save_for_backward(*parts)
        return _view(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        _ = ctx.saved_tensors  # raises where one of them was changed in between
        found: tuple[Tensor, ...] = grad.split(ctx.rows)
        return found
