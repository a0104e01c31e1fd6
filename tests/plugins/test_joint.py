import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssir.compilers.runtime.support import Read
from ssir.plugins.linear_attention.kernels import joint as module
from tests.compilers.runtime.checks import check, close, resets

Kernel = Callable[..., tuple[Tensor, Tensor]]
joint: Kernel = module.joint


def steps(
    move: Tensor,
    b: Tensor,
    keys: Tensor,
    into: Tensor,
    values: Tensor,
    q: Tensor,
    h0: Tensor,
    source: int,
    reads: Sequence[int],
    reset: Tensor | None = None,
    read: Read = "after",
) -> tuple[Tensor, Tensor]:
    state, ys = h0, []
    for t in range(move.shape[1]):
        if reset is not None:
            state = torch.where(reset[:, t, None, None, None, None], 0, state)
        old = state
        u = values[:, t].clone()
        u[:, :, 0] += torch.einsum("bhk,bhkv->bhv", b[:, t], old[:, :, source])
        state = torch.einsum("bhij,bhjkv->bhikv", move[:, t], old)
        state = state + torch.einsum("bhei,bhek,bhev->bhikv", into[:, t], keys[:, t], u)
        seen = (state if read == "after" else old)[:, :, list(reads)]
        ys.append(torch.einsum("bhrk,bhrkv->bhrv", q[:, t], seen))
    return torch.stack(ys, 1), state


naive: Kernel = steps


def inputs(
    batch: int, time: int, heads: int, keys: int, values: int, states: int, entering: int, reads: int
) -> dict[str, Tensor]:
    lead = (batch, time, heads)
    given = {"b": F.normalize(torch.randn(*lead, keys), dim=-1), "move": torch.rand(*lead, states, states) / states}
    given["keys"] = torch.cat([given["b"][:, :, :, None], torch.randn(*lead, entering - 1, keys)], 3)
    given["into"] = -torch.rand(*lead, entering, states)
    given["values"] = torch.randn(*lead, entering, values)
    given["q"] = torch.randn(*lead, reads, keys)
    given["h0"] = torch.randn(batch, heads, states, keys, values)
    return given


SIZES = [(1, 1, 1, 1, 1), (3, 7, 2, 3, 5), (1, 63, 1, 4, 2), (3, 64, 2, 5, 3), (1, 65, 2, 2, 3), (1, 130, 3, 4, 6)]
SORTS = {"momentum": (2, 1, 0, [0]), "three states": (3, 1, 2, [1]), "all apart": (2, 3, 1, [0, 1, 1])}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("read", ["after", "before"])
def test_chunks_agree_with_a_loop(
    dtype: torch.dtype, size: tuple[int, int, int, int, int], sort: str, packed: bool, read: Read
) -> None:
    states, entering, source, reads = SORTS[sort]
    reset = resets(size[0], size[1]) if packed else None
    named: dict[str, Any] = {"source": source, "reads": reads, "reset": reset, "read": read}
    check(
        functools.partial(joint, **named),
        functools.partial(naive, **named),
        inputs(*size, states, entering, len(reads)),
        dtype,
        3e-5 if dtype == torch.float32 else None,
    )


@pytest.mark.parametrize("number", [0.0, 1e-30, -1.0])
def test_matrices_may_be_anything(number: float) -> None:
    given = inputs(2, 130, 2, 4, 3, 2, 1, 1)
    given["move"][:, 3:120:7] = number * torch.eye(2)
    given["move"][:, 5:120:7] *= torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    named: dict[str, Any] = {"source": 0, "reads": [1]}
    check(functools.partial(joint, **named), functools.partial(naive, **named), given)


def test_states_carry_across_a_split() -> None:
    given = {n: x.double() for n, x in inputs(2, 100, 2, 4, 3, 3, 2, 1).items()}
    state: Tensor | None = given.pop("h0")
    whole, last = joint(**given, source=0, reads=[2], h0=state)
    parts = []
    for start, end in ((0, 1), (1, 70), (70, 100)):
        y, state = joint(**{n: x[:, start:end] for n, x in given.items()}, source=0, reads=[2], h0=state)
        parts.append(y)
    close("y", torch.cat(parts, 1), whole, 1e-10)
    close("last", state, last, 1e-10)


def test_half_precision_keeps_float32_states() -> None:
    given = {n: x.bfloat16().requires_grad_() for n, x in inputs(1, 70, 2, 4, 3, 2, 1, 1).items()}
    y, last = joint(**given, source=0, reads=[0])
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    close("last", last, naive(**{n: x.double() for n, x in given.items()}, source=0, reads=[0])[1], 1e-5)
    assert all(grad.dtype == torch.bfloat16 for grad in torch.autograd.grad(y.float().sum(), list(given.values())))


def test_a_value_that_is_not_finite_spoils_itself_alone() -> None:
    given = inputs(1, 80, 1, 3, 4, 2, 2, 2)
    reset = torch.zeros(1, 80, dtype=torch.bool)
    reset[:, 70] = True
    wanted, _ = joint(**given, source=0, reads=[0, 1], reset=reset)
    given["values"][:, 20, :, 1, 2] = torch.nan
    y, last = joint(**given, source=0, reads=[0, 1], reset=reset)
    bad = torch.zeros_like(y, dtype=torch.bool)
    bad[:, 20:70, ..., 2] = True
    assert torch.equal(y.isnan(), bad)
    assert last.isfinite().all()
    close("the others", y[~bad], wanted[~bad], 1e-5)
