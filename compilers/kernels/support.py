"""What every kernel needs around its arithmetic: types, resets, chunks, gradients by way of the twin."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def data_type(*tensors: Tensor | None) -> torch.dtype:
    """The type that the inputs promote to: that of the outputs."""
    present = [tensor.dtype for tensor in tensors if tensor is not None]
    result = present[0]
    for dtype in present[1:]:
        result = torch.promote_types(result, dtype)
    return result


def state_type(dtype: torch.dtype) -> torch.dtype:
    """The type of the arithmetic and the state for data of `dtype`: float32 at least."""
    return torch.float32 if dtype in HALF else dtype


def cartesian(real: Tensor, imaginary: Tensor) -> Tensor:
    """real + i imaginary, in complex64 at least."""
    kind = state_type(data_type(real, imaginary))
    return torch.complex(*torch.broadcast_tensors(real.to(kind), imaginary.to(kind)))


def polar(length: Tensor | float, angle: Tensor) -> Tensor:
    """length exp(i angle), in complex64 at least. The length may be negative, for which the gradient of torch.polar is wrong."""
    angle = angle.to(state_type(angle.dtype))
    return cartesian(length * angle.cos(), length * angle.sin())


def twin_gradients(
    twin: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    grads: Sequence[Tensor],
) -> tuple[Tensor | None, ...]:
    """Gradients of `twin(*inputs)` that can themselves be differentiated: the backward of a backward."""
    chosen = [need and tensor is not None for tensor, need in zip(inputs, needed, strict=True)]
    wanted = [tensor for tensor, choose in zip(inputs, chosen, strict=True) if choose and tensor is not None]
    with torch.enable_grad():
        used = [(out, grad) for out, grad in zip(twin(*inputs), grads, strict=True) if out.requires_grad]
        outputs, weights = [out for out, _ in used], [grad for _, grad in used]
        found = iter(torch.autograd.grad(outputs, wanted, weights, create_graph=True, allow_unused=True))
    return tuple(next(found) if choose else None for choose in chosen)
