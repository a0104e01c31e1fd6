"""What every kernel needs around its arithmetic: types, resets, chunks, gradients by way of the twin."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from . import native

T = TypeVar("T")

HALF = (torch.float16, torch.bfloat16)

Read = Literal["after", "before"]
"""Whether a memory is read after the step's input has entered, or before."""


def data_type(*tensors: Tensor | None) -> torch.dtype:
    """The type that the inputs promote to: that of the outputs."""
    result: torch.dtype | None = None
    for tensor in tensors:
        if tensor is not None and tensor.dtype != result:
            result = tensor.dtype if result is None else torch.promote_types(result, tensor.dtype)
    assert result is not None
    return result


def of_type(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in that type. (Asking torch for the type that a tensor has takes ten times as long as looking.)"""
    return x if x.dtype == dtype else x.to(dtype)


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


def finite(*tensors: Tensor) -> bool:
    """Whether all numbers are finite, if that can be found out at once; an answer that a device or a transform keeps back is no."""
    if native.transformed():
        return False
    # A sum is finite only if all its terms are; that it may not be although they are costs time, nothing else.
    return native.sees(*tensors) and all(bool(x.detach().sum().isfinite()) for x in tensors)


def reached(bad: Tensor, reset: Tensor | None, start: Tensor | None = None, steps: int | None = None) -> Tensor:
    """[B,T,*S] bool: whether something bad [B,T,*S] has come in since the last reset, in the step itself, or (start [B,*S]) was in the
    memory before; ``steps``: only what came in during so many steps counts."""
    ones = (1,) * (bad.dim() - 2)
    now = torch.arange(bad.shape[1], device=bad.device)
    last = torch.where(bad, now.view(-1, *ones), -2).cummax(1).values
    if start is not None:
        last = torch.maximum(last, torch.where(start, -1, -2)[:, None])
    since = -torch.ones_like(now)[None]
    if reset is not None:
        since = torch.where(reset, now, -1).cummax(1).values
    if steps is not None:
        since = torch.maximum(since, now - steps + 1)
    return last >= since.view(*since.shape, *ones)


def recorded(*tensors: Tensor | None) -> bool:
    """Whether autograd is watching."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def without_autocast() -> AbstractContextManager[None]:
    """Inside, operations run in the types of what they are given."""
    if not torch._C._is_any_autocast_enabled():
        return _nothing
    found: AbstractContextManager[None] = torch._C._DisableAutocast()
    return found


_nothing = nullcontext()


def plainly(device: torch.device, function: Callable[..., T], *given: Any) -> T:
    """``function(*given)``, operations in the types of what they are given; one who compiles may watch."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return function(*given)
    with torch.autocast(device.type, enabled=False):
        return function(*given)


def spread(x: Tensor, shape: Sequence[int]) -> Tensor:
    """x in this shape, side by side in memory; autograd sees nothing where nothing is to be done."""
    return (x if x.shape == shape else x.expand(shape)).contiguous()


def twin_gradients(
    twin: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Any],
    needed: Sequence[bool],
    grads: Sequence[Tensor],
    again: bool | None = None,
) -> tuple[Tensor | None, ...]:
    """Gradients of `twin(*inputs)`. Where gradients are recorded, or ``again``, they can themselves be differentiated."""
    again = torch.is_grad_enabled() if again is None else again
    with torch.enable_grad():
        # One tensor may be given twice; each place has a gradient of its own.
        places = [x.view_as(x) if need and x is not None else x for x, need in zip(inputs, needed, strict=True)]
        chosen = [need and x is not None for x, need in zip(inputs, needed, strict=True)]
        wanted = [x for x, choose in zip(places, chosen, strict=True) if choose]
        used = [(out, grad) for out, grad in zip(twin(*places), grads, strict=True) if out.requires_grad]
        if not used or not wanted:
            return (None,) * len(inputs)
        outputs, weights = [out for out, _ in used], [grad for _, grad in used]
        found = iter(torch.autograd.grad(outputs, wanted, weights, create_graph=again, allow_unused=True))
    return tuple(next(found) if choose else None for choose in chosen)


Kept = tuple[Tensor | None, ...]


class Native:
    """A native function that autograd knows. Where it runs is for the caller to say: ``able`` of all inputs.

    forward(keep, *inputs) gives the results, and if ``keep`` what else the backward pass wants; backward(inputs, results, kept,
    grads) the gradients of all inputs, from contiguous ones of all results; twin(*inputs) the same results by torch alone, for
    all that native code cannot do: gradients of gradients, or many at once.
    """

    def __init__(
        self,
        forward: Callable[..., tuple[tuple[Tensor, ...], Kept]],
        backward: Callable[..., tuple[Tensor | None, ...]],
        twin: Callable[..., tuple[Tensor, ...]],
        able: Callable[..., bool] = native.usable,
    ) -> None:
        self.forward = forward

        class Recorded(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
                results, kept = forward(True, *inputs)
                ctx.given = [None if isinstance(x, Tensor) else x for x in inputs]
                ctx.results, ctx.kept = len(results), len(kept)
                ctx.save_for_backward(*(x if isinstance(x, Tensor) else None for x in inputs), *results, *kept)
                return results

            @staticmethod
            def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
                saved = ctx.saved_tensors
                count = len(ctx.given)
                inputs = [x if given is None else given for x, given in zip(saved, ctx.given, strict=False)]
                with without_autocast():
                    if torch.is_grad_enabled() or not able(*grads):
                        return twin_gradients(twin, inputs, ctx.needs_input_grad, grads)
                    results, kept = saved[count : count + ctx.results], saved[count + ctx.results :]
                    return backward(inputs, results, kept, [grad.contiguous() for grad in grads])

        self.recorded = Recorded.apply

    def __call__(self, *inputs: Any) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            for x in inputs:
                if isinstance(x, Tensor) and x.requires_grad:
                    found: tuple[Tensor, ...] = self.recorded(*inputs)  # type: ignore[no-untyped-call]
                    return found
        return self.forward(False, *inputs)[0]
