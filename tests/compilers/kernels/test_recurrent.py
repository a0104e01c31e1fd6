import functools
import math

import pytest
import torch
from torch import Tensor

from ssir.compilers.kernels.recurrent import gated_average, gated_cell

from .checks import check, close, resets


def naive_cell(gates: Tensor, R: Tensor, h0: Tensor, c0: Tensor, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    h, c, hs, cs = h0, c0, [], []
    for t in range(gates.shape[1]):
        if reset is not None:
            h, c = h * ~reset[:, t, None], c * ~reset[:, t, None]
        i, f, g, o = (gates[:, t] + torch.einsum("goi,bi->bgo", R, h)).unbind(1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        hs.append(h)
        cs.append(c)
    return torch.stack(hs, 1), torch.stack(cs, 1)


def naive_average(gates: Tensor, R: Tensor, bn: Tensor, h0: Tensor, reset: Tensor | None = None) -> tuple[Tensor]:
    h, hs = h0, []
    for t in range(gates.shape[1]):
        if reset is not None:
            h = h * ~reset[:, t, None]
        again = torch.einsum("goi,bi->bgo", R, h)
        r, z = torch.sigmoid(gates[:, t, 0] + again[:, 0]), torch.sigmoid(gates[:, t, 1] + again[:, 1])
        h = (1 - z) * torch.tanh(gates[:, t, 2] + r * (again[:, 2] + bn)) + z * h
        hs.append(h)
    return (torch.stack(hs, 1),)


def cell_inputs(batch: int, time: int, width: int) -> dict[str, Tensor]:
    return {
        "gates": torch.randn(batch, time, 4, width),
        "R": torch.randn(4, width, width) / width**0.5,
        "h0": torch.randn(batch, width),
        "c0": torch.randn(batch, width),
    }


def average_inputs(batch: int, time: int, width: int) -> dict[str, Tensor]:
    return {
        "gates": torch.randn(batch, time, 3, width),
        "R": torch.randn(3, width, width) / width**0.5,
        "bn": torch.randn(width),
        "h0": torch.randn(batch, width),
    }


SIZES = [(1, 1, 1), (3, 7, 5), (1, 30, 67), (2, 12, 130), (6, 9, 33), (1, 6, 256)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_lstm_agrees_with_a_loop(way: str, dtype: torch.dtype, size: tuple[int, int, int], packed: bool) -> None:
    reset = resets(size[0], size[1]) if packed else None
    check(
        functools.partial(gated_cell, reset=reset),
        functools.partial(naive_cell, reset=reset),
        cell_inputs(*size),
        dtype,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_gru_agrees_with_a_loop(way: str, dtype: torch.dtype, size: tuple[int, int, int], packed: bool) -> None:
    reset = resets(size[0], size[1]) if packed else None
    naive = functools.partial(naive_average, reset=reset)
    check(lambda **x: (gated_average(**x, reset=reset),), naive, average_inputs(*size), dtype)


def test_torchs_lstm_and_gru_are_the_same_cells(way: str) -> None:
    x = torch.randn(2, 20, 12)
    theirs = torch.nn.LSTM(12, 40, batch_first=True)
    W, R, bias, again = (parameter.detach() for parameter in theirs.parameters())
    gates = (x @ W.t() + bias + again).view(2, 20, 4, 40)
    h, c = gated_cell(gates, R.view(4, 40, 40))
    expected, (_, last_c) = theirs(x)
    close("h", h, expected, 1e-5)
    close("last c", c[:, -1], last_c[0], 1e-5)

    other = torch.nn.GRU(12, 40, batch_first=True)
    W, R, bias, again = (parameter.detach() for parameter in other.parameters())
    r, z, n = again.view(3, 40)
    gates = (x @ W.t() + bias).view(2, 20, 3, 40) + torch.stack([r, z, torch.zeros(40)])
    close("h", gated_average(gates, R.view(3, 40, 40), n), other(x)[0], 1e-5)


def test_state_carries_across_a_split(way: str) -> None:
    given = cell_inputs(2, 30, 40)
    whole = gated_cell(**given)
    first = gated_cell(given["gates"][:, :3], given["R"], given["h0"], given["c0"])
    second = gated_cell(given["gates"][:, 3:], given["R"], first[0][:, -1], first[1][:, -1])
    for name, a, b, both in zip("hc", first, second, whole, strict=True):
        close(name, torch.cat([a, b], 1), both, 1e-5)


@pytest.mark.parametrize("gate", [1e3, -1e3, 1e5, -1e5, math.inf, -math.inf])
def test_saturated_gates_stay_finite(way: str, gate: float) -> None:
    given = cell_inputs(1, 12, 20)
    given["gates"][:, 4] = gate
    check(gated_cell, naive_cell, given, torch.float32)
    given = average_inputs(1, 12, 20)
    given["gates"][:, 4] = gate
    check(lambda **x: (gated_average(**x),), naive_average, given, torch.float32)


def test_half_precision_and_strides(way: str) -> None:
    given = {name: x.bfloat16().requires_grad_() for name, x in cell_inputs(2, 9, 12).items()}
    turned = {name: x.transpose(0, 1).contiguous().transpose(0, 1) for name, x in given.items()}
    h, c = gated_cell(**turned)
    assert h.dtype == c.dtype == torch.float32
    close("h", h, naive_cell(**{name: x.float() for name, x in given.items()})[0], 1e-5)
    assert all(grad.dtype == torch.bfloat16 for grad in torch.autograd.grad(h.sum(), list(given.values())))


def test_gradients_can_be_differentiated_again(way: str) -> None:
    torch.autograd.gradgradcheck(gated_cell, [x.double().requires_grad_() for x in cell_inputs(1, 3, 2).values()])
    torch.autograd.gradgradcheck(gated_average, [x.double().requires_grad_() for x in average_inputs(1, 3, 2).values()])
