"""The blocks of the kernels of chunks for a machine: a twin says which are right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .....compilers.runtime import tuned

if TYPE_CHECKING:
    from .launches import Blocks, Given

Twin = Callable[["Given"], tuple[Tensor, ...]]
Kernels = Callable[..., tuple[Tensor, ...]]
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}  # of the root mean square; else
_OF_HALVES = 2e-2
_said: ContextVar[Blocks | None] = ContextVar("said", default=None)


def tuned_blocks(given: Given, first: Blocks, kernels: Kernels, twin: Twin) -> Blocks:
    """Those that are as fast as any, for what is given."""
    said = _said.get()
    if said is not None:
        return said
    rows, values = given.rows, given.values
    what = (
        "chunks", rows.shape[0], rows.shape[4], values.shape[3], given.g is None, given.by_key, str(values.dtype),
        given.read, min(first.steps, rows.shape[2]),
    )  # fmt: skip
    right, run = partial(_right, given, kernels, twin), partial(_run, given, kernels)
    return tuned.chosen(what, rows.device, first, lambda: _others(first), right, run)


def _others(first: Blocks) -> Sequence[Blocks]:
    """Each number half or twice as large; of what a product needs at least 16."""
    found = []
    for field, least, most in (("steps", 16, 128), ("keys", 16, 128), ("values", 16, 128), ("warps", 2, 8)):
        for size in (getattr(first, field) // 2, getattr(first, field) * 2):
            if least <= size <= most:
                one = first._replace(**{field: size})
                found.append(one._replace(most_warps=max(one.most_warps, one.warps)))
    found += [first._replace(most_warps=size) for size in (4, 8, 16) if size != first.most_warps]
    return found


@contextmanager
def said(blocks: Blocks) -> Iterator[None]:
    token = _said.set(blocks)
    try:
        yield
    finally:
        _said.reset(token)


def _run(given: Given, kernels: Kernels, blocks: Blocks) -> None:
    """Forward and backward, of all that there is."""
    with said(blocks), torch.enable_grad():
        _both(given, kernels)


def _both(given: Given, kernels: Kernels) -> list[Tensor | None]:
    """Results, and the gradients of their sums."""
    leaves = _tensors(given, lambda x: x.detach().requires_grad_())
    results = kernels(*leaves)
    grads = torch.autograd.grad([y.float().sum() for y in results], [x for x in leaves if isinstance(x, Tensor)])
    return [*(y.detach() for y in results), *grads]


def _right(given: Given, kernels: Kernels, twin: Twin, blocks: Blocks) -> bool:
    """Whether kernels and twin agree on a few numbers of the same sizes, over some chunks the last of which is not whole."""
    small = _small(given, 2 * blocks.steps + 3)
    with said(blocks), torch.enable_grad():
        found = _both(small, kernels)
        wanted = _both(_wide(small), lambda *inputs: twin(type(given)(*inputs)))
    return all(map(_agree, found, wanted))


def _small(given: Given, steps: int) -> Given:
    """Random numbers in the place of what is given, of one sequence with as many heads as share rows."""
    generator = torch.Generator(given.rows.device).manual_seed(0)
    sorts, _, _, groups, keys = given.rows.shape
    heads, values = given.values.shape[2] // groups, given.values.shape[3]

    def drawn(like: Tensor, *sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator, device=like.device).to(like.dtype)

    rows, columns = (drawn(x, sorts, 1, steps, 1, keys) * keys**-0.5 for x in (given.rows, given.columns))
    g = given.g
    if g is not None:
        g = torch.nn.functional.logsigmoid(drawn(g, 1, steps, heads, *([keys] if given.by_key else [])).float()).to(g)
    start = None if given.h0 is None else drawn(given.h0, 1, heads, keys, values)
    return given._replace(
        rows=rows, columns=columns, values=drawn(given.values, 1, steps, heads, values), g=g, h0=start
    )


def _wide(given: Given) -> Given:
    """The same numbers in float64."""
    return _tensors(given, Tensor.double)._replace(dtype=torch.float64, kind=torch.float64)


def _tensors(given: Given, change: Callable[[Tensor], Tensor]) -> Given:
    """What is given, each tensor changed."""
    changed: dict[str, Any] = {name: change(x) for name, x in given._asdict().items() if isinstance(x, Tensor)}
    return given._replace(**changed)


def _agree(found: Tensor | None, wanted: Tensor | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    off = (found.double() - wanted).square().mean().sqrt()
    return bool(off <= _TOLERANCE.get(found.dtype, _OF_HALVES) * wanted.square().mean().sqrt().clamp(min=1e-3))
