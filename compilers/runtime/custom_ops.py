"""Kernels as operators of torch: whoever writes a program down to run it again (torch.compile, torch.export, fake tensors) sees
one node, whatever Python the kernel runs over the steps that it is given.

In eager mode nothing is in between. The operator runs the same function, its gradient is an operator too, which runs the function
again, and both can be batched by a loop. Autocast touches none of it.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from . import native
from .support import twin_gradients, without_autocast

Function = TypeVar("Function", bound=Callable[..., Any])
_RECORDED = torch._C.DispatchKey.AutogradFunctionality


def operator(schema: str, shapes: Callable[..., Any]) -> Callable[[Function], Function]:
    """Make a function an operator with this schema, whose results are like those of ``shapes``: contiguous, in new memory."""

    def make(function: Function) -> Function:
        name, rest = schema.split("(", 1)
        namespace = _namespace(Path(function.__code__.co_filename).parent)
        packets = getattr(torch.ops, namespace)
        if not hasattr(packets, name):
            _define(namespace, name, rest, function, shapes)
        op = getattr(packets, name).default

        @functools.wraps(function)
        def door(*given: Any, **named: Any) -> Any:
            if native.watched() or (torch._C._are_functorch_transforms_active() and _only_batched()):
                return op(*given, **named)
            if torch._C._is_any_autocast_enabled():
                with without_autocast():
                    return function(*given, **named)
            return function(*given, **named)

        return cast(Function, door)

    return make


@functools.cache
def _namespace(folder: Path) -> str:
    """Where the operators of the sources in a folder are. A process may hold several copies: of the same sources, which share them, or of
    others, which have their own."""
    digest = hashlib.sha256()
    for path in sorted({*Path(__file__).parent.glob("*.py"), *folder.glob("*.py")}):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    sources, name = digest.hexdigest()[:16], re.sub(r"\W", "_", f"sources_{folder.parent.name}")
    packets = torch.ops.ssir
    if not hasattr(packets, name):
        library = torch.library.Library("ssir", "FRAGMENT")
        library.define(f"{name}() -> str")
        _lasting(library, name, lambda: sources)
    return "ssir" if getattr(packets, name)() == sources else f"ssir_{sources}"


def _lasting(library: torch.library.Library, name: str, kernel: Callable[..., Any]) -> None:
    """Register a kernel for as long as the process runs, whatever becomes of this module."""
    library.impl(name, kernel, "CompositeExplicitAutograd")
    kernel.library = library  # type: ignore[attr-defined]  # torch keeps the kernel, and it the library


def _define(namespace: str, name: str, rest: str, function: Callable[..., Any], shapes: Callable[..., Any]) -> None:
    library = torch.library.Library(namespace, "FRAGMENT")
    library.define(f"{name}({rest}", tags=(torch.Tag.pt2_compliant_tag,))
    gradient = f"{name}_backward"
    inputs = rest[: rest.rindex(") ->")]
    library.define(
        f"{gradient}(Tensor[] grads, bool[] needed, {inputs}) -> Tensor[]", tags=(torch.Tag.pt2_compliant_tag,)
    )
    packets = getattr(torch.ops, namespace)
    forward, backward = getattr(packets, name).default, getattr(packets, gradient).default

    def run(*given: Any) -> Any:
        with torch.no_grad(), without_autocast():
            found = function(*given)
        if isinstance(found, Tensor):
            return next(_apart([found], given))
        return tuple(_apart(found, given))

    def differentiate(grads: Sequence[Tensor], needed: Sequence[bool], *given: Any) -> list[Tensor]:
        # Below autograd an operator is out of its sight, unless it asks for it.
        with torch._C._SetExcludeDispatchKeyGuard(_RECORDED, False), without_autocast():
            leaves = [x.detach().requires_grad_() if need else x for x, need in zip(given, needed, strict=True)]
            with torch.no_grad():
                found = twin_gradients(functools.partial(_several, function), leaves, needed, grads)
        wanted = [x for x, need in zip(given, needed, strict=True) if need]
        whole = [
            x.new_zeros(x.shape) if one is None else one for x, one in zip(wanted, _needed(found, needed), strict=True)
        ]
        return list(_apart(whole, [*grads, *given]))

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.given = [None if isinstance(x, Tensor) else x for x in inputs]
        ctx.places = [i for i, x in enumerate(inputs) if isinstance(x, Tensor)]
        ctx.save_for_backward(*(inputs[i] for i in ctx.places))

    def kept(ctx: Any) -> list[Any]:
        given = list(ctx.given)
        for i, x in zip(ctx.places, ctx.saved_tensors, strict=True):
            given[i] = x
        return given

    def once(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        given, needed = kept(ctx), list(ctx.needs_input_grad)
        found = iter(backward(list(grads), needed, *given))
        return tuple(next(found) if need else None for need in needed)

    def keep_all(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.count, ctx.needed = len(inputs[0]), inputs[1]
        keep(ctx, (*inputs[0], *inputs[2:]), output)

    def twice(ctx: Any, grads: Sequence[Tensor]) -> tuple[Any, ...]:
        given = kept(ctx)

        def gradients(*given: Any) -> tuple[Tensor, ...]:
            first = twin_gradients(
                functools.partial(_several, function), given[ctx.count :], ctx.needed, given[: ctx.count], True
            )
            return tuple(x for x in _needed(first, ctx.needed) if x is not None)

        wanted = [isinstance(x, Tensor) and x.requires_grad for x in given]
        with without_autocast():
            found = twin_gradients(gradients, given, wanted, grads)
        return list(found[: ctx.count]), None, *found[ctx.count :]

    _lasting(library, name, run)
    _lasting(library, gradient, differentiate)
    torch.library.register_fake(f"{namespace}::{name}", shapes, lib=library)
    torch.library.register_fake(f"{namespace}::{gradient}", _like, lib=library)
    torch.library.register_autograd(f"{namespace}::{name}", once, setup_context=keep, lib=library)
    torch.library.register_autograd(f"{namespace}::{gradient}", twice, setup_context=keep_all, lib=library)
    torch.library.register_vmap(f"{namespace}::{name}", functools.partial(_batched, forward), lib=library)
    torch.library.register_vmap(f"{namespace}::{gradient}", functools.partial(_batched, backward), lib=library)


def _several(function: Callable[..., Any], *given: Any) -> tuple[Tensor, ...]:
    found = function(*given)
    return (found,) if isinstance(found, Tensor) else found


def _needed(found: Sequence[Tensor | None], needed: Sequence[bool]) -> list[Tensor | None]:
    return [x for x, need in zip(found, needed, strict=True) if need]


def _like(grads: Sequence[Tensor], needed: Sequence[bool], *given: Any) -> list[Tensor]:
    return [x.new_empty(x.shape) for x, need in zip(given, needed, strict=True) if need]


def _apart(found: Sequence[Tensor], given: Sequence[Any]) -> Iterator[Tensor]:
    """Results as operators must give them: contiguous, and no two of them, or of what was given, in the same memory."""
    taken = {_memory(x) for x in given if isinstance(x, Tensor)}
    for x in found:
        x = x.detach().resolve_conj().resolve_neg().contiguous()
        if _memory(x) in taken or x.numel() < x.untyped_storage().nbytes() // x.element_size():
            x = x.clone()
        taken.add(_memory(x))
        yield x


def _memory(x: Tensor) -> int:
    """Where a tensor lies; one that lies nowhere, on the device meta, has nothing but a storage."""
    storage = x.untyped_storage()
    return storage.data_ptr() or storage._cdata


def _batched(op: Callable[..., Any], info: Any, in_dims: tuple[Any, ...], *given: Any) -> tuple[Any, Any]:
    """One call for each entry of the batch."""

    def one(x: Any, dim: Any, i: int) -> Any:
        if isinstance(x, (list, tuple)):
            dims = dim if isinstance(dim, (list, tuple)) else [dim] * len(x)
            return [one(part, its, i) for part, its in zip(x, dims, strict=True)]
        return x if dim is None else x.select(dim, i)

    found = [op(*(one(x, dim, i) for x, dim in zip(given, in_dims, strict=True))) for i in range(info.batch_size)]
    if isinstance(found[0], Tensor):
        return torch.stack(found), 0
    kind = type(found[0])
    return kind(torch.stack(parts) for parts in zip(*found, strict=True)), kind(0 for _ in found[0])


def _only_batched() -> bool:
    """Whether all transforms at work are vmap."""
    levels = torch._C._functorch.get_interpreter_stack() or ()
    return all(level.key() == torch._C._functorch.TransformType.Vmap for level in levels)
