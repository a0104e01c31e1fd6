import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssir.compilers.runtime import native
from ssir.plugins.convolution.kernels.fir import fir
from tests.compilers.interpreted import interpreted
from tests.compilers.runtime.checks import check, close, resets


@pytest.fixture(params=["native", "twin", "triton"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with compiled code, with the PyTorch twin, and with the kernels of a GPU in Triton's interpreter."""
    way: str = request.param
    if way == "triton":
        interpreted(monkeypatch)
    elif way == "twin":
        monkeypatch.setattr(native, "library", lambda dtype, source="": None)
    elif not native.available():
        pytest.skip(native.reason())
    return way


def naive(
    x: Tensor, w: Tensor, history: Tensor, bias: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    memory, ys = list(history.unbind(1)), []
    for t in range(x.shape[1]):
        if reset is not None:
            cleared = reset[:, t].view(-1, *(1,) * (x.dim() - 2))
            memory = [torch.where(cleared, 0, past) for past in memory]
        memory.append(x[:, t])
        terms = [tap * past for tap, past in zip(w, reversed(memory), strict=True)]
        ys.append(torch.stack(terms).sum(0) + (0 if bias is None else bias))
        memory = memory[1:]
    return torch.stack(ys, 1), torch.stack(memory, 1) if memory else history


CASES = [
    # taps, shape of w beyond them, shape of x
    (1, (3,), (1, 5, 3)),
    (4, (300,), (3, 21, 300)),
    (8, (2, 1), (2, 5, 2, 3)),
    (3, (5,), (2, 1, 5)),
    (12, (4,), (2, 40, 4)),
    (50, (4,), (2, 3, 4)),
    (40, (1, 3), (2, 90, 2, 3)),
    (100, (3,), (2, 100, 3)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("taps", "channels", "shape"), CASES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_fir_agrees_with_a_loop(
    way: str,
    dtype: torch.dtype,
    taps: int,
    channels: tuple[int, ...],
    shape: tuple[int, ...],
    packed: bool,
    biased: bool,
) -> None:
    reset = resets(shape[0], shape[1]) if packed else None
    history = (shape[0], taps - 1, *shape[2:])
    given = {"x": torch.randn(shape), "w": torch.randn(taps, *channels), "history": torch.randn(history)}
    if biased:
        given["bias"] = torch.randn(channels)
    check(functools.partial(fir, reset=reset), functools.partial(naive, reset=reset), given, dtype)


@pytest.mark.parametrize(
    "taps",
    [
        lambda w: w[:6].t().unflatten(-1, (2, 3)),
        lambda w: w[:2].t().unsqueeze(-1),
        lambda w: w[:3].t().unsqueeze(1),
        lambda w: w[:1].t().unsqueeze(-1),
        lambda w: w[:6].t().unflatten(-1, (3, 2)).mT,
    ],
    ids=["channels", "by head", "of a head", "one", "turned"],
)
def test_inputs_and_weights_may_be_parts_of_something_wider(way: str, taps: Callable[[Tensor], Tensor]) -> None:
    given = {"x": torch.randn(2, 11, 10), "w": torch.randn(7, 4), "history": torch.randn(2, 3, 2, 3)}

    def parts(x: Tensor, w: Tensor, history: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x[..., 2:8].unflatten(-1, (2, 3)), taps(w), history

    check(lambda **leaves: fir(*parts(**leaves)), lambda **leaves: naive(*parts(**leaves)), given, torch.float64)


@pytest.mark.parametrize("taps", [4, 40])
def test_history_carries_across_a_split_and_defaults_to_zero(way: str, taps: int) -> None:
    x, w = torch.randn(2, 100, 3), torch.randn(taps, 3)
    whole, last = fir(x, w)
    close("y", whole, naive(x, w, torch.zeros(2, taps - 1, 3))[0], 1e-5)
    history, parts = None, []
    for part in torch.split(x, [1, 50, 2, 47], 1):
        y, history = fir(part, w, history)
        parts.append(y)
    close("y in parts", torch.cat(parts, 1), whole, 1e-5)
    close("history", history, last, 0)


def test_complex_filters() -> None:
    given = {"x": torch.randn(1, 60, 2), "w": torch.randn(50, 2) + 1j, "history": torch.randn(1, 49, 2)}
    check(fir, naive, given, torch.complex128)


@pytest.mark.parametrize("taps", [4, 40])
def test_reset_shuts_out_even_nan(way: str, taps: int) -> None:
    x, reset = torch.randn(1, 90, 2), torch.zeros(1, 90, dtype=torch.bool)
    x[:, 50], reset[:, 52] = math.nan, True
    y, history = fir(x, torch.randn(taps, 2), reset=reset)
    assert y[:, 52:].isfinite().all()
    assert history.isfinite().all()


def test_half_precision_keeps_a_float32_history(way: str) -> None:
    x, w = torch.randn(2, 9, 4).bfloat16(), torch.randn(3, 4).bfloat16().requires_grad_()
    y, history = fir(x, w)
    assert (y.dtype, history.dtype) == (torch.bfloat16, torch.float32)
    expected = naive(x.float(), w.float(), torch.zeros(2, 2, 4))[0]
    close("y", y, expected.bfloat16().float(), 1e-2)
    assert torch.autograd.grad(y.float().sum(), w)[0].dtype == torch.bfloat16


def test_gradients_can_be_differentiated_again(way: str) -> None:
    given = [torch.randn(*shape).double().requires_grad_() for shape in ((1, 5, 2), (3, 2), (1, 2, 2), (2,))]
    torch.autograd.gradgradcheck(lambda x, w, history, bias: fir(x, w, history, None, bias), given)


def test_on_a_gpu_a_short_filter_is_one_kernel_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = interpreted(monkeypatch)
    x, w = torch.randn(2, 40, 3).bfloat16().requires_grad_(), torch.randn(4, 3).bfloat16()
    fir(x, w)[0].sum().backward()
    assert dict(ran) == {"filtered": 1, "filtered_back": 1}
