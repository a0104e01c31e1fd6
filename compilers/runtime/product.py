"""Sums of products in which nothing comes of a zero: what a mask has cleared has no part in them, whatever stands beside it."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from . import native


def product(equation: str, a: Tensor, b: Tensor) -> Tensor:
    """torch.einsum of two tensors, except that 0 times NaN or infinity is 0; its gradients likewise."""
    if native.tracing() or not _invertible(equation):
        return torch.einsum(equation, a, b)
    if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad):
        return cast(Tensor, _Product.apply(equation, a, b))  # type: ignore[no-untyped-call]
    return _product(equation, a, b)


def _parts(equation: str) -> tuple[str, str, str]:
    inputs, output = equation.split("->")
    left, right = inputs.split(",")
    return left, right, output


def _invertible(equation: str) -> bool:
    """Whether the gradients are such products too: no axis stands in one of the three alone."""
    parts = _parts(equation)
    return all(sum(letter in part for part in parts) > 1 for letter in {*equation} - {*",->"})


def _product(equation: str, a: Tensor, b: Tensor) -> Tensor:
    if native.sees(a, b) and bool(a.isfinite().all()) and bool(b.isfinite().all()):
        return torch.einsum(equation, a, b)
    bad_a, bad_b = ~a.isfinite(), ~b.isfinite()
    met = sum(
        torch.einsum(equation, x.to(torch.float32), y.to(torch.float32)) for x, y in ((bad_a, b != 0), (a != 0, bad_b))
    )
    found = torch.einsum(equation, a.masked_fill(bad_a, 0), b.masked_fill(bad_b, 0))
    return found.masked_fill(cast(Tensor, met) > 0, torch.nan)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, equation: str, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.equation = equation
        return _product(equation, a, b)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        left, right, output = _parts(ctx.equation)
        grad = grad.to(a.dtype)
        to_a = to_b = None
        if ctx.needs_input_grad[1]:
            to_a = product(f"{output},{right}->{left}", grad, b.conj()).sum_to_size(a.shape)
        if ctx.needs_input_grad[2]:
            to_b = product(f"{left},{output}->{right}", a.conj(), grad).sum_to_size(b.shape)
        return None, to_a, to_b
