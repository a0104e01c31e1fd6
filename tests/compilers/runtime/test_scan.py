import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssir.compilers.runtime.scan import diagonal_scan, max_plus_scan, rotation_scan

from .checks import check, close, resets


def naive(
    a: Tensor, b: Tensor, h0: Tensor, clear: Tensor, reset: Tensor | None = None, maximum: bool = False
) -> tuple[Tensor, Tensor]:
    a, h, hs = a.expand(-1, b.shape[1], *a.shape[2:]), h0, []
    for t in range(b.shape[1]):
        if reset is not None:
            h = torch.where(reset[:, t].view(-1, *(1,) * clear.dim()), clear, h)
        h = torch.maximum(a[:, t] + h, b[:, t]) if maximum else a[:, t] * h + b[:, t]
        hs.append(h)
    return torch.stack(hs, 1), h


KERNELS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {"diagonal": diagonal_scan, "max_plus": max_plus_scan}


def inputs(a_shape: tuple[int, ...], shape: tuple[int, ...]) -> dict[str, Tensor]:
    rows = (shape[0], *shape[2:])
    return {"a": torch.rand(a_shape), "b": torch.randn(shape), "h0": torch.randn(rows), "clear": torch.randn(shape[2:])}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("a_shape", "shape"),
    [((1, 1, 1), (1, 1, 1)), ((3, 17, 5), (3, 17, 5)), ((2, 40, 3, 1), (2, 40, 3, 7)), ((1, 1, 600), (2, 9, 600))],
    ids=str,
)
@pytest.mark.parametrize("packed", [False, True])
def test_scan_agrees_with_a_loop(
    name: str, dtype: torch.dtype, a_shape: tuple[int, ...], shape: tuple[int, ...], packed: bool
) -> None:
    reset = resets(shape[0], shape[1]) if packed else None
    check(
        functools.partial(KERNELS[name], reset=reset),
        functools.partial(naive, reset=reset, maximum=name == "max_plus"),
        inputs(a_shape, shape),
        dtype,
    )


def test_complex_scan_agrees_with_a_loop() -> None:
    a = torch.polar(torch.rand(2, 1, 6), torch.rand(2, 1, 6) * 6)
    given = {"a": a, "b": torch.randn(2, 21, 6) + 1j, "h0": torch.randn(2, 6) + 0j, "clear": torch.randn(6) + 0j}
    reset = resets(2, 21)
    check(functools.partial(diagonal_scan, reset=reset), functools.partial(naive, reset=reset), given, torch.complex128)


@pytest.mark.parametrize(("steps", "shares"), [(1, [0.5]), (3, [0.875, 0.75, 0.5])], ids=["one step", "a sequence"])
def test_max_plus_gives_half_of_the_gradient_to_each_of_two_equals(steps: int, shares: list[float]) -> None:
    h0, b = torch.zeros(1, 1, requires_grad=True), torch.zeros(1, steps, 1, requires_grad=True)
    dh0, db = torch.autograd.grad(max_plus_scan(torch.zeros(1, 1, 1), b, h0)[0].sum(), (h0, b))
    assert float(dh0 + db.sum()) == steps
    if steps == 1:  # in blocks, equals meet in another order
        close("gradient of h0", dh0, torch.tensor([[shares[0]]]), 0)
        close("gradient of b", db, torch.tensor(shares)[None, :, None], 0)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_state_carries_across_a_split(kernel: Callable[..., tuple[Tensor, Tensor]]) -> None:
    given = inputs((2, 30, 4), (2, 30, 4))
    whole, last = kernel(given["a"], given["b"], given["h0"])
    first, middle = kernel(given["a"][:, :13], given["b"][:, :13], given["h0"])
    second, end = kernel(given["a"][:, 13:], given["b"][:, 13:], middle)
    close("h", torch.cat([first, second], 1), whole, 1e-6)
    close("last", end, last, 1e-6)


def test_non_contiguous_inputs() -> None:
    given = inputs((2, 6, 12), (2, 6, 12))
    kernel = functools.partial(diagonal_scan, h0=given["h0"])
    turned = {name: given[name].transpose(1, 2) for name in ("a", "b")}
    check(
        lambda a, b: kernel(a.transpose(1, 2), b.transpose(1, 2)),
        lambda a, b: naive(a.transpose(1, 2), b.transpose(1, 2), given["h0"].double(), torch.zeros(12).double()),
        turned,
        torch.float32,
    )


@pytest.mark.parametrize("gate", [0.0, -30.0, -1e3, -1e5, -math.inf])
def test_extreme_gates_stay_finite(gate: float) -> None:
    log_a = torch.full((1, 50, 3), -0.01)
    log_a[:, 20] = gate
    given = {"a": log_a.exp(), "b": torch.randn(1, 50, 3), "h0": torch.randn(1, 3)}
    check(diagonal_scan, functools.partial(naive, clear=torch.zeros(3)), given, torch.float32)
    given["a"] = log_a
    bottom = torch.full((3,), -math.inf)
    check(max_plus_scan, functools.partial(naive, clear=bottom, maximum=True), given, torch.float32)


def test_reset_shuts_out_even_nan() -> None:
    b = torch.randn(1, 12, 3)
    b[:, 4] = math.nan
    reset = torch.zeros(1, 12, dtype=torch.bool)
    reset[:, 7] = True
    for kernel in (diagonal_scan, max_plus_scan):
        h, last = kernel(torch.rand(1, 12, 3), b, reset=reset)
        assert h[:, 4:7].isnan().all()
        assert h[:, 7:].isfinite().all()
        assert last.isfinite().all()


def test_half_precision_keeps_a_float32_state() -> None:
    a, b = torch.rand(2, 9, 4).bfloat16().requires_grad_(), torch.randn(2, 9, 4).bfloat16()
    h, last = diagonal_scan(a, b)
    assert (h.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    assert torch.autograd.grad(h.float().sum(), a)[0].dtype == torch.bfloat16
    close("last", last, naive(a.detach().float(), b.float(), torch.zeros(2, 4), torch.zeros(4))[1], 1e-6)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_gradients_can_be_differentiated_again(kernel: Callable[..., tuple[Tensor, Tensor]]) -> None:
    given = [tensor.double().requires_grad_() for tensor in inputs((1, 5, 2), (1, 5, 2)).values()]
    reset = torch.tensor([[False, False, True, False, False]])
    torch.autograd.gradgradcheck(lambda a, b, h0, clear: kernel(a, b, h0, reset, clear), given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_pairs_that_turn_agree_with_complex_numbers(dtype: torch.dtype, alike: bool, packed: bool) -> None:
    reset = resets(2, 50) if packed else None
    given = {
        "decay": 2 * torch.rand(2, 50, 3, 1) - 1,
        "angle": 3 * torch.randn(1, 1, 1, 2) if alike else 3 * torch.randn(2, 50, 3, 2),
        "b": torch.randn(2, 50, 3, 4),
        "h0": torch.randn(2, 3, 4),
        "clear": torch.randn(3, 4),
    }

    def paired(x: Tensor) -> Tensor:
        return torch.complex(x[..., 0::2], x[..., 1::2])

    def expected(decay: Tensor, angle: Tensor, b: Tensor, h0: Tensor, clear: Tensor) -> tuple[Tensor, Tensor]:
        gate = decay * (1j * angle).exp()
        h, last = naive(gate.expand(-1, 50, 3, 2), paired(b), paired(h0), paired(clear), reset)
        return torch.view_as_real(h).flatten(-2), torch.view_as_real(last).flatten(-2)

    def kernel(decay: Tensor, angle: Tensor, b: Tensor, h0: Tensor, clear: Tensor) -> tuple[Tensor, Tensor]:
        return rotation_scan(decay, angle, b, h0, reset, clear)

    check(kernel, expected, given, dtype)
