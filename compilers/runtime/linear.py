"""y = x w^T + bias on the CPU by the fastest of three ways; elsewhere it is torch's own `linear`.

    few rows (decoding)        a native product that reads w once, at the speed of memory
    large (training, prefill)  oneDNN's matmul, on many processors faster than the BLAS behind torch's `linear`
    between                    `torch.nn.functional.linear`

w is handed to oneDNN as it lies: a packed copy would be 5 to 15 percent faster to multiply by, costs more than that to
make, and could go stale.
"""

import functools
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from . import native
from .support import recorded, without_autocast

native.declare("few_rows x(M,K) w[N,K] bias?[N] y(M,N) M K N", "transpose from[M,K] to[K,M] M K")

# Where each way wins, by measurement: rows of x, and elements of w or multiply-adds.
FEW_ROWS = 8
ONE_ROW_WEIGHTS = 1 << 17
FEW_ROWS_WEIGHTS = 1 << 15
ONEDNN_WEIGHTS = 3 << 16
ONEDNN_WORK = 1 << 23


def linear(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[..., o] = sum_i x[..., i] w[o, i] + bias[o], as `torch.nn.functional.linear`."""
    if not _special(x, w, bias):
        return F.linear(x, w, bias)
    if recorded(x, w, bias):
        rows = x.numel() // w.shape[1]
        return _linear(x, w, bias) if _few(rows, w) or _large(rows, w) else F.linear(x, w, bias)
    return _product(x, w, bias)


def _special(x: Tensor, w: Tensor, bias: Tensor | None) -> bool:
    """Whether anything but torch's own `linear` may run."""
    if not native.alone() or torch._C._is_any_autocast_enabled():
        return False
    for tensor in (x, w, bias):
        if tensor is not None and (not native.plain(tensor) or tensor.dtype != torch.float32):
            return False
    shapes = w.dim() == 2 and x.dim() > 0 and x.shape[-1] == w.shape[1] and x.numel() > 0 and w.numel() > 0
    return shapes and (bias is None or bias.shape == w.shape[:1])


def _few(rows: int, w: Tensor) -> bool:
    enough = rows <= FEW_ROWS and w.numel() >= (ONE_ROW_WEIGHTS if rows == 1 else FEW_ROWS_WEIGHTS)
    return enough and w.is_contiguous() and native.library(torch.float32) is not None


def _large(rows: int, w: Tensor) -> bool:
    weights = w.numel()
    return rows > FEW_ROWS and (weights >= ONEDNN_WEIGHTS or rows * weights >= ONEDNN_WORK) and _onednn()


def _onednn() -> bool:
    return _onednn_built() and bool(torch.backends.mkldnn.enabled)


@functools.cache
def _onednn_built() -> bool:
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX") or not torch._C._has_mkldnn:
        return False
    return hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _product(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """x w^T + bias outside autograd."""
    rows = x.numel() // w.shape[1]
    if _few(rows, w):
        x = x.contiguous()
        y = x.new_empty(*x.shape[:-1], w.shape[0])
        native.call(
            "few_rows", x.dtype, x, w, bias.contiguous() if bias is not None else None, y, rows, w.shape[1], w.shape[0]
        )
        return y
    if _large(rows, w):
        # Of a cut-out piece, whose rows do not lie side by side, oneDNN makes a product a hundred times slower.
        if not (w.is_contiguous() or w.t().is_contiguous()):
            w = w.contiguous()
        with torch.no_grad():
            return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], ""))
    return F.linear(x, w, bias)


def _transposed(x: Tensor) -> Tensor:
    """x^T, laid out anew: torch's own copy takes several times as long."""
    if not native.usable(x):
        return x.t().contiguous()
    x = x.contiguous()
    y = x.new_empty(x.shape[1], x.shape[0])
    native.call("transpose", x.dtype, x, y, *x.shape)
    return y


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, w)
        return _product(x, w, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        dx = dw = dbias = None
        with without_autocast():
            if ctx.needs_input_grad[0]:
                dx = linear(grad, w.t())
            if ctx.needs_input_grad[1]:
                dw = outer_sum(grad.flatten(0, -2), x.flatten(0, -2))
            if ctx.needs_input_grad[2]:
                dbias = grad.flatten(0, -2).sum(0)
        return dx, dw, dbias


def outer_sum(left: Tensor, right: Tensor) -> Tensor:
    """sum_m left[m,:] right[m,:]^T: the gradient of a weight; left: [M,N], right: [M,K], result: [N,K]."""
    if not _large(left.shape[1], right) or torch.is_grad_enabled() or not _special(left.t(), right.t(), None):
        return left.t() @ right
    return _product(_transposed(left), right.t(), None)


def outer_sums(lefts: Sequence[Tensor], right: Tensor) -> list[Tensor]:
    """`outer_sum` of each with one right: what has to be laid out anew is that one, once."""
    first = lefts[0]
    same = all(left.shape == first.shape for left in lefts) and len(lefts) > 1
    if (
        not same
        or torch.is_grad_enabled()
        or not _large(right.shape[1], first)
        or not _special(right.t(), first.t(), None)
    ):
        return [outer_sum(left, right) for left in lefts]
    turned = _transposed(right)
    return [_transposed(_product(turned, left.t(), None)) for left in lefts]


def _linear(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    return cast(Tensor, _Linear.apply(x, w, bias))  # type: ignore[no-untyped-call]
