import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssir.compilers.kernels.selective import Read, grouped_scan, selective_scan

from .checks import check, close, resets


def naive(
    g: Tensor,
    L: Tensor,
    u: Tensor,
    b: Tensor,
    c: Tensor,
    h0: Tensor,
    reset: Tensor | None = None,
    read: Read = "after",
) -> tuple[Tensor, Tensor]:
    h, ys = h0, []
    for t in range(u.shape[1]):
        if reset is not None:
            h = torch.where(reset[:, t, None, None], 0, h)
        new = (g[:, t, :, None] * L).exp() * h + u[:, t, :, None] * b[:, t, None]
        ys.append(torch.einsum("bdn,bn->bd", new if read == "after" else h, c[:, t]))
        h = new
    return torch.stack(ys, 1), h


Kernel = Callable[..., tuple[Tensor, Tensor]]
plain: Kernel = selective_scan
plain_naive: Kernel = naive


def inputs(batch: int, time: int, width: int, states: int) -> dict[str, Tensor]:
    return {
        "g": torch.rand(batch, time, width),
        "L": -torch.rand(width, states),
        "u": torch.randn(batch, time, width),
        "b": torch.randn(batch, time, states),
        "c": torch.randn(batch, time, states),
        "h0": torch.randn(batch, width, states),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (3, 33, 5, 3), (2, 70, 67, 16), (1, 300, 2, 4)], ids=str)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("read", ["after", "before"])
def test_selective_scan_agrees_with_a_loop(
    way: str, dtype: torch.dtype, size: tuple[int, int, int, int], packed: bool, read: Read
) -> None:
    reset = resets(size[0], size[1]) if packed else None
    kernel, loop = (functools.partial(function, reset=reset, read=read) for function in (selective_scan, naive))
    check(kernel, loop, inputs(*size), dtype)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("read", ["after", "before"])
def test_decoding_step_by_step_is_the_scan(way: str, packed: bool, read: Read) -> None:
    given, h = inputs(3, 12, 37, 5), None
    rates, _ = given.pop("L"), given.pop("h0")
    reset = resets(3, 12) if packed else None
    whole, last = plain(**given, L=rates, reset=reset, read=read)
    for t in range(12):
        now = slice(t, t + 1)
        cut = None if reset is None else reset[:, now]
        y, h = plain(**{name: x[:, now] for name, x in given.items()}, L=rates, h0=h, reset=cut, read=read)
        close(f"y at {t}", y, whole[:, now], 1e-5)
    close("last", h, last, 1e-5)


def test_complex_rates_are_taken_by_the_twin() -> None:
    given = inputs(1, 20, 3, 2)
    given["L"] = torch.complex(given["L"], torch.randn(3, 2))
    check(selective_scan, naive, given, torch.complex128)


@pytest.mark.parametrize("gate", [0.0, 30.0, 1e3, 1e5, math.inf])
def test_extreme_gates_stay_finite(way: str, gate: float) -> None:
    given = inputs(1, 50, 3, 2)
    given["g"][:, 20] = gate
    finite = given | {"g": given["g"].clamp(max=1e6)}
    y, last = plain(**given)
    expected_y, expected_last = plain_naive(**{name: tensor.double() for name, tensor in finite.items()})
    close("y", y, expected_y, 1e-5)
    close("last", last, expected_last, 1e-5)
    leaves = {name: tensor.requires_grad_() for name, tensor in given.items()}
    grads = torch.autograd.grad(plain(**leaves)[0].sum(), list(leaves.values()))
    assert all(grad.isfinite().all() for grad in grads)


def test_state_carries_across_a_split(way: str) -> None:
    given = inputs(2, 50, 6, 4)
    h0, rates = given.pop("h0"), given.pop("L")
    whole, last = plain(**given, L=rates, h0=h0)
    first, middle = plain(**{name: x[:, :21] for name, x in given.items()}, L=rates, h0=h0)
    second, end = plain(**{name: x[:, 21:] for name, x in given.items()}, L=rates, h0=middle)
    close("y", torch.cat([first, second], 1), whole, 1e-6)
    close("last", end, last, 1e-6)


def test_non_contiguous_inputs(way: str) -> None:
    given = inputs(2, 9, 6, 4)
    strided = {name: tensor.transpose(0, -1).contiguous().transpose(0, -1) for name, tensor in given.items()}
    check(lambda **x: plain(**{n: t + 0 * strided[n] for n, t in x.items()}), naive, given, torch.float32)
    close("y", plain(**strided)[0], plain(**given)[0], 0)


def test_half_precision_keeps_a_float32_state(way: str) -> None:
    given = {name: tensor.bfloat16().requires_grad_() for name, tensor in inputs(2, 9, 6, 4).items()}
    y, last = plain(**given)
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    close("last", last, plain_naive(**{name: tensor.float() for name, tensor in given.items()})[1], 1e-5)
    assert all(grad.dtype == torch.bfloat16 for grad in torch.autograd.grad(y.float().sum(), list(given.values())))


def test_gradients_can_be_differentiated_again(way: str) -> None:
    leaves = [tensor.double().requires_grad_() for tensor in inputs(1, 4, 2, 2).values()]
    torch.autograd.gradgradcheck(lambda *x: selective_scan(*x), leaves)


@pytest.mark.parametrize("remembered", [False, True])
def test_groups_of_channels_are_scanned_each_with_its_own_input_and_readout(remembered: bool) -> None:
    torch.manual_seed(0)
    groups, width, states = 3, 4, 5
    g, u = -torch.rand(2, 7, groups, width, dtype=torch.float64), torch.randn(2, 7, groups, width, dtype=torch.float64)
    rate = torch.rand(groups, width, states, dtype=torch.float64)
    b, c = (torch.randn(2, 7, groups, states, dtype=torch.float64) for _ in range(2))
    h0 = torch.randn(2, groups, width, states, dtype=torch.float64)
    given = h0.flatten(1, 2) if remembered else None
    y, last = grouped_scan(
        g.flatten(2), rate.flatten(0, 1), u.flatten(2), b.flatten(2), c.flatten(2), given, None, "after", groups
    )
    for i in range(groups):
        start = h0[:, i] if remembered else torch.zeros_like(h0[:, i])
        wanted, end = naive(g[:, :, i], rate[i], u[:, :, i], b[:, :, i], c[:, :, i], start)
        close("y", y.unflatten(2, (groups, width))[:, :, i], wanted, 1e-12)
        close("h", last.unflatten(1, (groups, width))[:, i], end, 1e-12)
