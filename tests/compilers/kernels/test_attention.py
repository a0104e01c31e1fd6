"""Attention against its equation."""

import pytest
import torch
from torch import Tensor

from ssir.compilers.kernels import native
from ssir.compilers.kernels.attention import attention, attention_step, plain

from .checks import check, close

SIZES = [
    (2, 63, 2, 1, 16, 16),
    (1, 64, 1, 3, 32, 48),
    (2, 200, 2, 2, 64, 64),
    (1, 1, 2, 1, 16, 16),
    (1, 130, 1, 4, 112, 80),
]
ODD = [(2, 9, 1, 2, 6, 5)]  # widths that native code does not take


def _given(batch: int, time: int, heads: int, group: int, width: int, wide: int) -> dict[str, Tensor]:
    return {
        "q": torch.randn(batch, time, heads, group, width),
        "k": torch.randn(batch, time, heads, width),
        "v": torch.randn(batch, time, heads, wide),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES + ODD)
def test_attention_agrees_with_its_equation(way: str, dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    def ours(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (attention(q, k, v, 0.3),)

    def naive(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (plain(q, k, v, 0.3),)

    check(ours, naive, _given(*sizes), dtype)


@pytest.mark.parametrize("sizes", SIZES + ODD)
def test_a_step_is_the_last_row_of_a_sequence(way: str, sizes: tuple[int, ...]) -> None:
    q, k, v = _given(*sizes).values()
    close("y", attention_step(q[:, -1], k, v, 0.3), plain(q, k, v, 0.3)[:, -1], 1e-5)


def test_parts_of_one_projection_are_taken_as_they_lie(way: str) -> None:
    def parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = x.split((128, 32, 64), -1)
        return q.unflatten(-1, (2, 4, 16)), k.unflatten(-1, (2, 16)), v.unflatten(-1, (2, 32))

    def ours(x: Tensor) -> tuple[Tensor]:
        return (attention(*parts(x), 0.3),)

    def naive(x: Tensor) -> tuple[Tensor]:
        return (plain(*parts(x), 0.3),)

    check(ours, naive, {"x": torch.randn(2, 70, 224)}, torch.float32)
    q, k, v = parts(torch.randn(2, 70, 224))
    close("y", attention_step(q[:, -1], k, v, 0.3), plain(q, k, v, 0.3)[:, -1], 1e-5)


def test_large_scores_do_not_overflow(way: str) -> None:
    given = {name: 100 * value for name, value in _given(1, 70, 1, 1, 16, 16).items()}

    def ours(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (attention(q, k, v, 1.0),)

    def naive(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (plain(q, k, v, 1.0),)

    check(ours, naive, given, torch.float64, tolerance=1e-6)
    q, k, v = given.values()
    assert attention(q, k, v, 1.0).isfinite().all()


def test_gradients_of_gradients() -> None:
    if not native.available():
        pytest.skip(native.reason())  # PyTorch's attention has none
    q, k, v = (x.double().requires_grad_() for x in _given(1, 4, 1, 2, 16, 16).values())
    assert torch.autograd.gradgradcheck(lambda q, k, v: attention(q, k, v, 0.3), (q, k, v))
