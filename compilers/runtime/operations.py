"""The operations of generated modules that torch lacks.

Tensors are [batch, time, *axes] over a sequence, [batch, *axes] in a step, [*axes] where they are constant. Batch (and, where it
does not matter, time) may be 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from .clock import Time
from .support import of_type, plainly, state_type


def spread(time: Time, x: Tensor | float, sizes: Sequence[int], dtype: torch.dtype) -> Tensor:
    """x [batch or 1, (steps or 1,) *axes of these sizes or 1], or a number, in full size; a number in ``dtype``."""
    lead = (time.batch,) if time.steps is None else (time.batch, time.steps)
    if not isinstance(x, Tensor):
        return torch.full((*lead, *sizes), x, dtype=dtype, device=time.device)
    if time.steps is None and x.shape == (*lead, *sizes) and x.is_floating_point() and not dtype.is_complex:
        return x
    if dtype.is_complex or not (x.is_floating_point() or x.is_complex()):
        x = of_type(x, dtype)
    return x.expand(*lead, *sizes)


def lengthened(x: Tensor, time: Time) -> Tensor:
    """x [batch or 1, steps or 1, *axes] with every step written out."""
    return x.expand(x.shape[0], 1 if time.steps is None else time.steps, *x.shape[2:])


def final(x: Tensor) -> Tensor:
    """The last step of x [batch or 1, steps or 1, *axes], as a sequence of one."""
    return x[:, -1:]


def answer(x: Tensor, time: Time) -> Tensor:
    """An output [batch, *axes] of x [batch or 1, steps or 1, *axes]: that of the last step."""
    return x[:, -1].expand(time.batch, *x.shape[2:])


def leading(x: Tensor, dims: int) -> Tensor:
    """A constant with so many axes, those in front of size 1."""
    return x.reshape(*[1] * (dims - x.dim()), *x.shape)


def softmax(x: Tensor, dims: Sequence[int], there: Tensor | None = None) -> Tensor:
    """Softmax along dims, of what is there; all zero where nothing is."""
    if there is not None:
        x = x.masked_fill(~there, -torch.inf)
    if len(dims) == 1:
        y = torch.softmax(x, dims[0])
    else:
        keep = x.dim() - len(dims)
        moved = x.movedim(tuple(dims), tuple(range(keep, x.dim())))
        y = (
            torch.softmax(moved.flatten(keep), -1)
            .reshape(moved.shape)
            .movedim(tuple(range(keep, x.dim())), tuple(dims))
        )
    return y if there is None else torch.where(there, y, torch.zeros((), dtype=y.dtype, device=y.device))


def contract(equation: str, a: Tensor, b: Tensor) -> Tensor:
    """A product, as einsum has it, of numbers of a memory: autocast leaves them in their types."""
    return plainly(a.device, torch.einsum, equation, a, b)


def masked(x: Tensor, there: Tensor | None, fill: float = 0.0) -> Tensor:
    return x if there is None else torch.where(there, x, torch.full((), fill, dtype=x.dtype, device=x.device))


def both(*masks: Tensor | None) -> Tensor | None:
    """What all masks let through; None lets everything."""
    given = [mask for mask in masks if mask is not None]
    return reduce(torch.logical_and, given) if given else None


def masked_mean(x: Tensor, dims: Sequence[int], there: Tensor | None) -> Tensor:
    if there is None:
        return x.mean(tuple(dims))
    count = there.expand(torch.broadcast_shapes(there.shape, x.shape)).sum(tuple(dims)).clamp(min=1)
    return masked(x, there).sum(tuple(dims)) / count


def block_linear(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """x [..., *per, in], w [*per, out, in], b [*per, out] -> [..., *per, out]."""
    n = w.dim() - 2
    lead = x.shape[: x.dim() - 1 - n]
    per = prod(w.shape[:n])
    wide = w.reshape(per, *w.shape[-2:]).transpose(1, 2)
    rows = x.reshape(-1, per, x.shape[-1]).transpose(0, 1)
    y = torch.bmm(rows.to(w.dtype), wide) if b is None else torch.baddbmm(b.reshape(per, 1, -1), rows.to(w.dtype), wide)
    return y.transpose(0, 1).reshape(*lead, *w.shape[:n], w.shape[-2])


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Along the last axis. On the CPU torch sums the gradients of weight and bias in the dtype of x, so a narrow x is widened."""
    wide = state_type(x.dtype) if x.is_cpu else x.dtype
    weight = None if weight is None else of_type(weight, wide)
    bias = None if bias is None else of_type(bias, wide)
    return of_type(F.layer_norm(of_type(x, wide), x.shape[-1:], weight, bias, eps), x.dtype)


def wide_norm(x: Tensor, dims: Sequence[int], eps: float, centre: bool) -> Tensor:
    """layer_norm (centre) or rms_norm along any dims, without weight."""
    wide = x.to(state_type(x.dtype))
    if centre:
        wide = wide - wide.mean(tuple(dims), keepdim=True)
    return (wide * torch.rsqrt(wide.square().mean(tuple(dims), keepdim=True) + eps)).to(x.dtype)


def l2_norm(x: Tensor, dims: Sequence[int], eps: float) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=tuple(dims), keepdim=True)
    return x / length.clamp(min=eps)


def concat(parts: Sequence[Tensor], dim: int) -> Tensor:
    shape = torch.broadcast_shapes(*(p.movedim(dim, -1).shape[:-1] for p in parts))
    return torch.cat([p.movedim(dim, -1).expand(*shape, -1).movedim(-1, dim) for p in parts], dim)


def pack(parts: Sequence[Tensor | float], dim: int, like: Tensor) -> Tensor:
    tensors = [p if isinstance(p, Tensor) else torch.full((), p, dtype=like.dtype, device=like.device) for p in parts]
    return torch.stack(torch.broadcast_tensors(*tensors), dim)


def select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """Entry ``index`` (broadcast against the rest of x) of the axis ``dim``."""
    x = x.movedim(dim, -1)
    n = max(x.dim() - 1, index.dim())
    x, index = x.reshape(*[1] * (n + 1 - x.dim()), *x.shape), index.reshape(*[1] * (n - index.dim()), *index.shape)
    # What x does not vary over is looked up many times in one row, not in a row for each.
    many = [i for i in range(n) if x.shape[i] == 1 and index.shape[i] > 1]
    last = range(n - len(many), n)
    index = index.movedim(many, list(last))
    rows, sizes = x.squeeze(many), index.shape[n - len(many) :]
    index = index.flatten(n - len(many)) if many else index.unsqueeze(-1)
    shape = torch.broadcast_shapes(rows.shape[:-1], index.shape[:-1])
    found = torch.gather(rows.expand(*shape, -1), -1, index.expand(*shape, -1))
    return found.unflatten(-1, sizes).movedim(list(last), many) if many else found.squeeze(-1)


def modulo(a: Tensor, b: Tensor) -> Tensor:
    return torch.sub(a, b * torch.floor(a / b))
