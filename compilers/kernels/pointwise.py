"""What stands between the products of a layer, in one pass over memory each: norms, rotations, gates.

Compiled C on the CPU; elsewhere, and where a tensor is too small to be worth a call, PyTorch's own operations.
"""

import functools
import struct
from collections.abc import Callable
from math import prod
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from . import native
from .support import twin_gradients

Gate = Literal["sigmoid", "silu", "gelu_tanh"]
GATES: tuple[Gate, ...] = ("sigmoid", "silu", "gelu_tanh")
SMALL = 1 << 12  # elements below which PyTorch's operations cost less than one call


def _recorded(*tensors: Tensor | None) -> bool:
    """Whether autograd is watching."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


# x / sqrt(mean(x^2) + eps) w


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight along the last axis; weight: of its size, or none."""
    weight = None if weight is None else weight.to(x.dtype)
    if x.numel() == 0 or not native.usable(x, weight):
        return F.rms_norm(x, x.shape[-1:], weight, eps)
    if _recorded(x, weight):
        return _native_norm(x, weight, eps)
    return _normed(x.contiguous(), weight, eps)[0]


def _normed(x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    width = x.shape[-1]
    y, scale = torch.empty_like(x), x.new_empty(x.numel() // width)
    weight = None if weight is None else weight.contiguous()
    native.call("rms_norm_forward", x.dtype, x, weight, y, scale, x.numel() // width, width, _bits(eps))
    return y, scale


@functools.cache
def _bits(x: float) -> int:
    """The bits of a double, to hand it over as an integer."""
    bits: int = struct.unpack("q", struct.pack("d", x))[0]
    return bits


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        y, ctx.scale = _normed(x.contiguous(), weight, eps)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():

            def twin(x: Tensor, weight: Tensor | None) -> tuple[Tensor, ...]:
                return (F.rms_norm(x, x.shape[-1:], weight, ctx.eps),)

            return *twin_gradients(twin, (x, weight), ctx.needs_input_grad[:2], (grad,)), None
        width = x.shape[-1]
        near, grad = x.contiguous(), grad.contiguous()
        dx = torch.empty_like(near)
        shares = None if weight is None else x.new_zeros(torch.get_num_threads(), width)
        weight = None if weight is None else weight.contiguous()
        rows = x.numel() // width
        native.call("rms_norm_backward", x.dtype, near, weight, ctx.scale, grad, dx, shares, rows, width)
        return dx, None if shares is None else shares.sum(0), None


_native_norm = cast(Callable[[Tensor, Tensor | None, float], Tensor], _RmsNorm.apply)


# Pairs of an axis turned.


def turn_by(x: Tensor, c: Tensor, s: Tensor, halves: bool) -> Tensor:
    """Pairs of the last axis turned by angles with cosine c and sine s: x [..., n], c and s [..., n / 2], broadcast.

    halves: (0, n / 2), (1, n / 2 + 1), ... are pairs; else (0, 1), (2, 3), ...
    """
    c, s = c.to(x.dtype), s.to(x.dtype)
    sizes = None
    if x.numel() >= SMALL and native.usable(x, c, s) and not _recorded(c, s):
        sizes = _turns(x, c)
    if sizes is None or s.shape != c.shape:
        return _turned(x, c, s, halves)
    if _recorded(x):
        return _native_turn(x, c, s, halves, sizes)
    return _turn(x, c, s, halves, sizes, 1)


def _turned(x: Tensor, c: Tensor, s: Tensor, halves: bool) -> Tensor:
    if halves:
        a, b = x.chunk(2, -1)
        return torch.cat([a * c - b * s, a * s + b * c], -1)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)


Sizes = tuple[int, int, int, int, int]


def _turns(x: Tensor, c: Tensor) -> Sizes | None:
    """(rows, outer, inner, half, turns): x is [rows, outer, inner, 2 half], c [turns, inner, half], its rows over again."""
    if c.dim() != x.dim() or 2 * c.shape[-1] != x.shape[-1]:
        return None
    last = x.dim() - 1
    start = last
    while start > 0 and c.shape[start - 1] == x.shape[start - 1] != 1:
        start -= 1
    middle = start
    while middle > 0 and c.shape[middle - 1] == 1:
        middle -= 1
    if middle == 0:
        cut = max(start, last - 1)
        return prod(x.shape[:cut]), 1, prod(x.shape[cut:last]), c.shape[-1], prod(c.shape[:cut])
    rows, first = x.shape[:middle], c.shape[:middle]
    lead = 0
    while lead < middle and first[lead] == 1:
        lead += 1
    if first[lead:] != rows[lead:]:
        return None
    return prod(rows), prod(x.shape[middle:start]), prod(x.shape[start:last]), c.shape[-1], prod(first)


def _turn(x: Tensor, c: Tensor, s: Tensor, halves: bool, sizes: Sizes, sign: int) -> Tensor:
    rows, outer, inner, half, turns = sizes
    width = outer * inner * half * 2
    x, stride = _strided(x, width)
    y = torch.empty(x.shape, dtype=x.dtype)
    c, s = c.contiguous(), s.contiguous()
    native.call("turn", x.dtype, x, c, s, y, rows, stride, outer, inner, half, turns, int(halves), sign)
    return y


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, c: Tensor, s: Tensor, halves: bool, sizes: Sizes) -> Tensor:
        ctx.save_for_backward(c, s)
        ctx.halves, ctx.sizes = halves, sizes
        return _turn(x, c, s, halves, sizes, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        c, s = ctx.saved_tensors
        dx = (
            turn_by(grad, c, -s, ctx.halves)
            if torch.is_grad_enabled()
            else _turn(grad, c, s, ctx.halves, ctx.sizes, -1)
        )
        return dx, None, None, None, None


_native_turn = cast(Callable[[Tensor, Tensor, Tensor, bool, Sizes], Tensor], _Turn.apply)


# gate(a) b


def gated(a: Tensor, b: Tensor | None, gate: Gate) -> Tensor:
    """gate(a) * b, or gate(a): gate is one of GATES."""
    worth = a.numel() >= SMALL and (b is None or b.shape == a.shape)
    if not worth or not native.usable(a, b):
        return _gated(a, b, gate)
    if _recorded(a, b):
        return _native_gate(a, b, gate)
    return _apply(a, b, gate)


def _gated(a: Tensor, b: Tensor | None, gate: Gate) -> Tensor:
    match gate:
        case "sigmoid":
            y = torch.sigmoid(a)
        case "silu":
            y = F.silu(a)
        case _:
            y = F.gelu(a, approximate="tanh")
    return y if b is None else y * b


def _apply(a: Tensor, b: Tensor | None, gate: Gate) -> Tensor:
    a, b, sizes = _both(a, b)
    y = torch.empty(a.shape, dtype=a.dtype)
    native.call("gated_forward", a.dtype, a, b, y, *sizes, GATES.index(gate))
    return y


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor | None, gate: Gate) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.gate = gate
        return _apply(a, b, gate)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        if torch.is_grad_enabled():

            def twin(a: Tensor, b: Tensor | None) -> tuple[Tensor, ...]:
                return (_gated(a, b, ctx.gate),)

            return *twin_gradients(twin, (a, b), ctx.needs_input_grad[:2], (grad,)), None
        a, b, sizes = _both(a, b)
        da = torch.empty(a.shape, dtype=a.dtype)
        db = None if b is None else torch.empty(a.shape, dtype=a.dtype)
        native.call("gated_backward", a.dtype, a, b, grad.contiguous(), da, db, *sizes, GATES.index(ctx.gate))
        return da, db, None


_native_gate = cast(Callable[[Tensor, Tensor | None, Gate], Tensor], _Gated.apply)


# Rows that lie apart, as the parts of a split do.


def _both(a: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None, tuple[int, int, int, int]]:
    """Both as rows of the same width, and (rows, width, stride of a, stride of b)."""
    width = min(_run(x) for x in (a, b) if x is not None)
    a, a_stride = _strided(a, width)
    if b is None:
        return a, b, (a.numel() // width, width, a_stride, 0)
    b, b_stride = _strided(b, width)
    return a, b, (a.numel() // width, width, a_stride, b_stride)


def _run(x: Tensor) -> int:
    """The elements of the last axes that lie side by side; not the whole of a tensor, so that there are rows to share out."""
    width = 1
    for size, stride in zip(reversed(x.shape[1:]), reversed(x.stride()[1:]), strict=True):
        if size != 1 and stride != width:
            return width
        if width >= 256:
            break
        width *= size
    return width if width > 1 else x.shape[-1]


def _strided(x: Tensor, width: int) -> tuple[Tensor, int]:
    """x, copied if it is not rows of that width at one distance, and the distance."""
    axes = [(size, stride) for size, stride in zip(x.shape, x.stride(), strict=True) if size != 1]
    inside = 1
    while axes and inside < width and axes[-1][1] == inside:
        inside *= axes.pop()[0]
    distance = expected = axes[-1][1] if axes else width
    for size, stride in reversed(axes):
        if stride != expected:
            return x.contiguous(), width
        expected = stride * size
    return (x, distance) if inside == width else (x.contiguous(), width)
