"""What stands between the products of a layer, in one pass over memory each: norms, rotations, gates.

Compiled C on the CPU; elsewhere, where somebody watches, and where a tensor is too small to be worth a call, PyTorch's own
operations, whose types are those of x whatever autocast says.
"""

import functools
import struct
from collections.abc import Sequence
from math import prod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from . import native
from .support import Kept, Native, of_type, plainly, recorded

native.declare(
    "rms_norm_forward x(R,D) w?(D) y(R,D) scale[R] R D eps",
    "rms_norm_backward x(R,D) w?(D) scale[R] grad(R,D) dx(R,D) dw?[threads,D] R D",
    "turn x{rows:stride,outer*inner*half*2:1} c(turns,inner,half) s(turns,inner,half) y(rows,outer,inner,half,2)"
    " rows stride outer inner half turns halves<=1 sign",
    "gated_forward a{R:a_stride,D:1} b?{R:b_stride,D:1} y(R,D) R D a_stride b_stride kind<=2",
    "gated_backward a{R:a_stride,D:1} b?{R:b_stride,D:1} grad(R,D) da(R,D) db?(R,D) R D a_stride b_stride kind<=2",
)

Gate = Literal["sigmoid", "silu", "gelu_tanh"]
GATES: tuple[Gate, ...] = ("sigmoid", "silu", "gelu_tanh")
SMALL = 1 << 12  # elements below which PyTorch's operations cost less than one call


# x / sqrt(mean(x^2) + eps) w


def _large(x: Tensor) -> bool:
    """Whether x has so many elements; who writes down what runs must not see it asked."""
    return native.alone() and x.numel() >= SMALL


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight along the last axis; weight: of its size, or none."""
    weight = None if weight is None else weight.to(x.dtype)
    if not native.usable(x, weight) or x.numel() == 0:
        return plainly(x.device, F.rms_norm, x, x.shape[-1:], weight, eps)
    return _native_norm(x.contiguous(), None if weight is None else weight.contiguous(), eps)[0]


def _norm(keep: bool, x: Tensor, weight: Tensor | None, eps: float) -> tuple[tuple[Tensor, ...], Kept]:
    width = x.shape[-1]
    y, scale = torch.empty_like(x), x.new_empty(x.numel() // width)
    native.call("rms_norm_forward", x.dtype, x, weight, y, scale, x.numel() // width, width, _bits(eps))
    return (y,), (scale,)


@functools.cache
def _bits(x: float) -> int:
    """The bits of a double, to hand it over as an integer."""
    bits: int = struct.unpack("q", struct.pack("d", x))[0]
    return bits


def _norm_back(
    inputs: Sequence[Any], results: Sequence[Tensor], kept: Kept, grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    x, weight, _ = inputs
    width = x.shape[-1]
    dx = torch.empty_like(x)
    shares = None if weight is None else x.new_zeros(torch.get_num_threads(), width)
    native.call("rms_norm_backward", x.dtype, x, weight, *kept, *grads, dx, shares, x.numel() // width, width)
    return dx, None if shares is None else shares.sum(0), None


def _norm_twin(x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, ...]:
    return (F.rms_norm(x, x.shape[-1:], weight, eps),)


_native_norm = Native(_norm, _norm_back, _norm_twin)


# Pairs of an axis turned.


def turn_by(x: Tensor, c: Tensor, s: Tensor, halves: bool) -> Tensor:
    """Pairs of the last axis turned by angles with cosine c and sine s: x [..., n], c and s [..., n / 2], broadcast.

    halves: (0, n / 2), (1, n / 2 + 1), ... are pairs; else (0, 1), (2, 3), ...
    """
    c, s = of_type(c, x.dtype), of_type(s, x.dtype)
    sizes = None
    if _large(x) and native.usable(x, c, s) and s.shape == c.shape and not recorded(c, s):
        sizes = _turns(x, c)
    if sizes is None:
        return _turned(x, c, s, halves)
    return _native_turn(x, c.contiguous(), s.contiguous(), halves, sizes)[0]


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
    y = x.new_empty(x.shape)
    native.call("turn", x.dtype, x, c, s, y, rows, stride, outer, inner, half, turns, int(halves), sign)
    return y


def _turn_forward(
    keep: bool, x: Tensor, c: Tensor, s: Tensor, halves: bool, sizes: Sizes
) -> tuple[tuple[Tensor, ...], Kept]:
    return (_turn(x, c, s, halves, sizes, 1),), ()


def _turn_back(
    inputs: Sequence[Any], results: Sequence[Tensor], kept: Kept, grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    _, c, s, halves, sizes = inputs
    return _turn(grads[0], c, s, halves, sizes, -1), None, None, None, None


def _turn_twin(x: Tensor, c: Tensor, s: Tensor, halves: bool, sizes: Sizes) -> tuple[Tensor, ...]:
    return (_turned(x, c, s, halves),)


_native_turn = Native(_turn_forward, _turn_back, _turn_twin)


# gate(a) b


def gated(a: Tensor, b: Tensor | None, gate: Gate) -> Tensor:
    """gate(a) * b, or gate(a): gate is one of GATES."""
    if not _large(a) or not native.usable(a, b) or (b is not None and b.shape != a.shape):
        return _gated(a, b, gate)
    return _native_gate(a, b, gate)[0]


def _gated(a: Tensor, b: Tensor | None, gate: Gate) -> Tensor:
    match gate:
        case "sigmoid":
            y = torch.sigmoid(a)
        case "silu":
            y = F.silu(a)
        case _:
            y = F.gelu(a, approximate="tanh")
    return y if b is None else y * b


def _gate(keep: bool, a: Tensor, b: Tensor | None, gate: Gate) -> tuple[tuple[Tensor, ...], Kept]:
    a, b, sizes = _both(a, b)
    y = a.new_empty(a.shape)
    native.call("gated_forward", a.dtype, a, b, y, *sizes, GATES.index(gate))
    return (y,), ()


def _gate_back(
    inputs: Sequence[Any], results: Sequence[Tensor], kept: Kept, grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    a, b, gate = inputs
    a, b, sizes = _both(a, b)
    da = a.new_empty(a.shape)
    db = None if b is None else a.new_empty(a.shape)
    native.call("gated_backward", a.dtype, a, b, *grads, da, db, *sizes, GATES.index(gate))
    return da, db, None


def _gate_twin(a: Tensor, b: Tensor | None, gate: Gate) -> tuple[Tensor, ...]:
    return (_gated(a, b, gate),)


_native_gate = Native(_gate, _gate_back, _gate_twin)


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
