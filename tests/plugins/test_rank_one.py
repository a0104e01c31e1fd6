import functools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssir.compilers.runtime.support import Read
from ssir.plugins.linear_attention.kernels import rank_one as module
from tests.compilers.runtime.checks import check, close, resets

Kernel = Callable[..., tuple[Tensor, Tensor]]
rank_one: Kernel = module.rank_one


def steps(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    h0: Tensor,
    g: Tensor | None = None,
    reset: Tensor | None = None,
    read: Read = "after",
) -> tuple[Tensor, Tensor]:
    state, ys = h0, []
    for t in range(v.shape[1]):
        if reset is not None:
            state = torch.where(reset[:, t, None, None, None], 0, state)
        old = state
        if g is not None:
            gate = g[:, t if g.shape[1] > 1 else 0].exp()
            state = (gate[..., None] if gate.dim() == 3 else gate[..., None, None]) * state
        erased = torch.einsum("bhk,bhkv->bhv", b[:, t], old)
        state = state + a[:, t, :, :, None] * erased[:, :, None] + k[:, t, :, :, None] * v[:, t, :, None]
        ys.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state if read == "after" else old))
    return torch.stack(ys, 1), state


naive: Kernel = steps


def inputs(batch: int, time: int, heads: int, keys: int, values: int, gate: str) -> dict[str, Tensor]:
    given = {
        "q": torch.randn(batch, time, heads, keys),
        "k": torch.randn(batch, time, heads, keys),
        "v": torch.randn(batch, time, heads, values),
        "h0": torch.randn(batch, heads, keys, values),
    }
    given["b"] = F.normalize(torch.randn(batch, time, heads, keys), dim=-1)
    given["a"] = -given["b"] * torch.rand(batch, time, heads, 1) + 0.02 * torch.randn(batch, time, heads, keys)
    shapes = {"head": (batch, time, heads), "key": (batch, time, heads, keys), "constant": (1, 1, heads, keys)}
    if gate in shapes:
        given["g"] = -torch.rand(shapes[gate])
    return given


SIZES = [(1, 1, 1, 1, 1), (3, 7, 2, 3, 5), (2, 64, 2, 5, 3), (1, 130, 3, 4, 6)]
GATES = ("none", "constant", "head", "key")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("read", ["after", "before"])
def test_chunks_agree_with_a_loop(
    dtype: torch.dtype, size: tuple[int, int, int, int, int], gate: str, packed: bool, read: Read
) -> None:
    reset = resets(size[0], size[1]) if packed else None
    kernel = functools.partial(rank_one, reset=reset, read=read)
    check(
        kernel,
        functools.partial(naive, reset=reset, read=read),
        inputs(*size, gate),
        dtype,
        3e-5 if dtype == torch.float32 else None,
    )


@pytest.mark.parametrize("by", ["head", "key"])
@pytest.mark.parametrize("gate", [0.0, -30.0, -1e3, -1e5, -math.inf])
def test_hard_gates_spoil_no_other_step(by: str, gate: float) -> None:
    given = inputs(1, 200, 1, 4, 3, by)
    given["g"] *= 0.01
    given["g"][:, 3:190:40] = gate
    expected = naive(**{n: x.double() for n, x in given.items()})
    leaves = {n: x.requires_grad_() for n, x in given.items()}
    got = rank_one(**leaves)
    for part, ours, truth in zip(("y", "last"), got, expected, strict=True):
        for t in range(ours.shape[1]):
            close(f"{part} at {t}", ours[:, t], truth[:, t], 3e-5)
    grads = torch.autograd.grad(got[0].sum() + got[1].sum(), list(leaves.values()))
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("gate", GATES)
def test_state_carries_across_a_split(gate: str) -> None:
    given = {n: x.double() for n, x in inputs(2, 100, 2, 4, 3, gate).items()}
    state: Tensor | None = given.pop("h0")
    fixed = {"g": given.pop("g")} if gate == "constant" else {}
    whole, last = rank_one(**given, **fixed, h0=state)
    parts = []
    for start, end in ((0, 1), (1, 70), (70, 100)):
        y, state = rank_one(**{n: x[:, start:end] for n, x in given.items()}, **fixed, h0=state)
        parts.append(y)
    close("y", torch.cat(parts, 1), whole, 1e-10)
    close("last", state, last, 1e-10)


def test_half_precision_keeps_a_float32_state() -> None:
    given = {n: x.bfloat16().requires_grad_() for n, x in inputs(1, 70, 2, 4, 3, "key").items()}
    y, last = rank_one(**given)
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    close("last", last, naive(**{n: x.double() for n, x in given.items()})[1], 1e-5)
    assert all(grad.dtype == torch.bfloat16 for grad in torch.autograd.grad(y.float().sum(), list(given.values())))


@pytest.mark.parametrize("by", ["head", "key"])
def test_gradients_can_be_differentiated_again(by: str) -> None:
    leaves = {n: x.double().requires_grad_() for n, x in inputs(1, 3, 1, 2, 2, by).items()}
    torch.autograd.gradgradcheck(lambda *x: rank_one(**dict(zip(leaves, x, strict=True))), list(leaves.values()))
