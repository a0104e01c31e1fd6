import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssir.compilers.runtime.linear import linear

from .checks import check, close

SIZES = [(1, 512, 300), (3, 700, 301), (8, 300, 128), (9, 512, 400), (70, 333, 401), (700, 128, 129), (5, 3, 2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "inner", "outer"), SIZES)
@pytest.mark.parametrize("biased", [True, False])
def test_linear_agrees_with_torch(
    way: str, dtype: torch.dtype, rows: int, inner: int, outer: int, biased: bool
) -> None:
    given = {"x": torch.randn(rows, inner), "w": torch.randn(outer, inner) / inner**0.5}
    if biased:
        given["bias"] = torch.randn(outer)

    def torchs(x: Tensor, w: Tensor, bias: Tensor | None = None) -> tuple[Tensor]:
        return (F.linear(x, w, bias),)

    check(lambda **leaves: (linear(**leaves),), torchs, given, dtype)


def test_leading_axes_and_strides_do_not_matter(way: str) -> None:
    x, w = torch.randn(300, 4, 2).transpose(0, 2), torch.randn(300, 200).t()
    close("y", linear(x, w), F.linear(x, w), 1e-5)
    close("y", linear(x[0, 0], w.contiguous()), F.linear(x[0, 0], w), 1e-5)
    assert linear(x[:0], w).shape == (0, 4, 200)


@pytest.mark.parametrize("rows", [1, 300])
def test_weights_edited_in_place_are_seen(way: str, rows: int) -> None:
    layer = torch.nn.Linear(600, 500)
    x = torch.randn(rows, 600)

    def fresh() -> None:
        close("y", linear(x, layer.weight, layer.bias), F.linear(x, layer.weight, layer.bias), 1e-5)

    fresh()
    with torch.no_grad():
        layer.weight.mul_(3)
    fresh()
    layer.weight.data.add_(1)
    fresh()
    layer.load_state_dict(torch.nn.Linear(600, 500).state_dict())
    fresh()
    layer = copy.deepcopy(layer)
    fresh()


def test_only_wanted_gradients_are_made(way: str) -> None:
    x, w = torch.randn(100, 300), torch.randn(300, 300, requires_grad=True)
    (dw,) = torch.autograd.grad(linear(x, w).sum(), w)
    close("gradient of w", dw, x.sum(0).expand(300, 300), 1e-5)


def test_gradients_can_be_differentiated_again(way: str) -> None:
    def norm(function: Callable[..., Tensor], x: Tensor, w: Tensor) -> Tensor:
        (grad,) = torch.autograd.grad((function(x, w) ** 2).sum(), x, create_graph=True)
        return torch.autograd.grad(grad.square().mean(), w)[0]

    x, w = torch.randn(40, 512, requires_grad=True), torch.randn(512, 512, requires_grad=True)
    close("second gradient", norm(linear, x, w), norm(F.linear, x, w), 1e-5)


def test_other_tensors_go_to_torch() -> None:
    x, w = torch.randn(2, 512), torch.randn(512, 512)
    assert linear(x.bfloat16(), w.bfloat16()).dtype == torch.bfloat16
    close("vmap", torch.vmap(linear, (0, None))(x, w), F.linear(x, w), 1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(x, w).dtype == torch.bfloat16
    traced = torch.fx.symbolic_trace(linear)
    close("traced", traced(x, w), F.linear(x, w), 1e-5)
