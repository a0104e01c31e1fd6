import functools
import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

from ssir.plugins.linear_attention.kernels.chunked import key_decay, scalar_decay, turned_decay
from tests.compilers.runtime.checks import check, close, resets

Kernel = Callable[..., tuple[Tensor, Tensor]]
Read = Literal["after", "before"]
KERNELS: dict[str, Kernel] = {"scalar": scalar_decay, "key": key_decay}


def naive(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    h0: Tensor,
    g: Tensor | None = None,
    reset: Tensor | None = None,
    read: Read = "after",
    by_key: bool = False,
) -> tuple[Tensor, Tensor]:
    heads, state, ys = v.shape[2], h0, []
    q, k = (x.repeat_interleave(heads // x.shape[2], 2) for x in (q, k))
    for t in range(v.shape[1]):
        if reset is not None:
            state = torch.where(reset[:, t, None, None, None], 0, state)
        old = state
        if g is not None:
            gate = (g if g.dim() < 3 else g[:, t]).exp()
            state = (gate[..., None] if by_key else gate[..., None, None]) * state
        state = state + k[:, t, :, :, None] * v[:, t, :, None]
        ys.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state if read == "after" else old))
    return torch.stack(ys, 1), state


def inputs(
    name: str, batch: int, time: int, heads: int, keys: int, values: int, groups: int, gate: str
) -> dict[str, Tensor]:
    given = {
        "q": torch.randn(batch, time, groups, keys),
        "k": torch.randn(batch, time, groups, keys),
        "v": torch.randn(batch, time, heads, values),
        "h0": torch.randn(batch, heads, keys, values),
    }
    if gate != "none":
        last = (keys,) if name == "key" else ()
        shape = (heads, *last) if gate == "constant" else (batch, time, heads, *last)
        given["g"] = -torch.rand(shape)
    return given


SIZES = [(1, 1, 1, 1, 1, 1), (3, 7, 2, 3, 5, 1), (2, 64, 4, 5, 3, 2), (1, 130, 3, 4, 6, 3), (2, 67, 2, 3, 2, 2)]


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("gate", ["none", "constant", "moving"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("read", ["after", "before"])
def test_chunks_agree_with_a_loop(
    name: str, dtype: torch.dtype, size: tuple[int, int, int, int, int, int], gate: str, packed: bool, read: Read
) -> None:
    reset = resets(size[0], size[1]) if packed else None
    kernel = functools.partial(KERNELS[name], reset=reset, read=read)
    loop = functools.partial(naive, reset=reset, read=read, by_key=name == "key")
    check(kernel, loop, inputs(name, *size, gate), dtype)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("gate", [0.0, -30.0, -1e3, -1e5, -math.inf])
@pytest.mark.parametrize("often", [1, 40])
def test_hard_gates_spoil_no_other_step(name: str, gate: float, often: int) -> None:
    given = inputs(name, 1, 200, 1, 4, 3, 1, "moving")
    given["g"] *= 0.01
    given["g"][:, 3:190:often] = gate
    expected = naive(**{n: x.double() for n, x in given.items()}, by_key=name == "key")  # type: ignore[arg-type]
    leaves = {n: x.requires_grad_() for n, x in given.items()}
    got = KERNELS[name](**leaves)
    for part, ours, truth in zip(("y", "last"), got, expected, strict=True):
        for t in range(ours.shape[1]):
            close(f"{part} at {t}", ours[:, t], truth[:, t], 1e-5)
    grads = torch.autograd.grad(got[0].sum() + got[1].sum(), list(leaves.values()))
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("name", KERNELS)
def test_gradients_behind_hard_gates_agree_with_a_loop(name: str) -> None:
    given = inputs(name, 1, 100, 2, 4, 3, 2, "moving")
    given["g"][:, 30::7] = -1e5
    check(KERNELS[name], functools.partial(naive, by_key=name == "key"), given, torch.float32)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("gate", ["none", "constant", "moving"])
def test_state_carries_across_a_split(name: str, gate: str) -> None:
    given = inputs(name, 2, 100, 2, 4, 3, 1, gate)
    state: Tensor | None = given.pop("h0")
    fixed = {"g": given.pop("g")} if gate == "constant" else {}
    whole, last = KERNELS[name](**given, **fixed, h0=state)
    parts = []
    for start, end in ((0, 1), (1, 70), (70, 100)):
        y, state = KERNELS[name](**{n: x[:, start:end] for n, x in given.items()}, **fixed, h0=state)
        parts.append(y)
    close("y", torch.cat(parts, 1), whole, 1e-5)
    close("last", state, last, 1e-5)


@pytest.mark.parametrize("name", KERNELS)
def test_half_precision_keeps_a_float32_state(name: str) -> None:
    given = {n: x.bfloat16().requires_grad_() for n, x in inputs(name, 1, 70, 2, 4, 3, 1, "moving").items()}
    y, last = KERNELS[name](**given)
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    truth = naive(**{n: x.double() for n, x in given.items()}, by_key=name == "key")[1]  # type: ignore[arg-type]
    close("last", last, truth, 1e-5)
    assert all(grad.dtype == torch.bfloat16 for grad in torch.autograd.grad(y.float().sum(), list(given.values())))


@pytest.mark.parametrize("name", KERNELS)
def test_gradients_can_be_differentiated_again(name: str) -> None:
    leaves = {n: x.double().requires_grad_() for n, x in inputs(name, 1, 3, 1, 2, 2, 1, "moving").items()}
    torch.autograd.gradgradcheck(lambda *x: KERNELS[name](**dict(zip(leaves, x, strict=True))), list(leaves.values()))


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """Neighbouring pairs of the last axis of x turned."""
    a, b, c, s = x[..., 0::2], x[..., 1::2], angle.cos(), angle.sin()
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)


def naive_turned(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    angle: Tensor,
    h0: Tensor,
    g: Tensor,
    reset: Tensor | None = None,
    read: Read = "after",
) -> tuple[Tensor, Tensor]:
    heads, state, ys = v.shape[2], h0, []
    q, k, angle = (x.repeat_interleave(heads // x.shape[2], 2) for x in (q, k, angle))
    for t in range(v.shape[1]):
        if reset is not None:
            state = torch.where(reset[:, t, None, None, None], 0, state)
        old = state
        state = g[:, t, :, None, None].exp() * turned(state.mT, angle[:, t, :, None]).mT
        state = state + k[:, t, :, :, None] * v[:, t, :, None]
        ys.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state if read == "after" else old))
    return torch.stack(ys, 1), state


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 1, 1, 2, 1, 1), (3, 7, 2, 4, 5, 1), (2, 130, 2, 4, 3, 2)], ids=str)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("read", ["after", "before"])
def test_keys_that_turn_agree_with_a_loop(
    dtype: torch.dtype, size: tuple[int, int, int, int, int, int], packed: bool, read: Read
) -> None:
    batch, time, _, keys, _, groups = size
    reset = resets(batch, time) if packed else None
    given = inputs("scalar", *size, "moving") | {"angle": 3 * torch.randn(batch, time, groups, keys // 2)}
    kernel = functools.partial(turned_decay, reset=reset, read=read)
    check(kernel, functools.partial(naive_turned, reset=reset, read=read), given, dtype)


def test_keys_that_have_turned_many_times_stay_exact() -> None:
    given = inputs("scalar", 1, 4000, 1, 4, 2, 1, "moving") | {"angle": 3 + torch.rand(1, 4000, 1, 2)}
    given["g"] *= 0.01
    y, last = turned_decay(**given)  # type: ignore[arg-type]
    truth = naive_turned(**{n: x.double() for n, x in given.items()})  # type: ignore[arg-type]
    close("y", y, truth[0], 1e-5)
    close("last", last, truth[1], 1e-5)
