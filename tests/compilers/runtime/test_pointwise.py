"""Norms, rotations and gates against PyTorch's own operations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssir.compilers.runtime import pointwise

from .checks import check, close


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a tensor is."""
    monkeypatch.setattr(pointwise, "SMALL", 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 700, 200), (4,)])
def test_rms_norm_agrees_with_torch(way: str, dtype: torch.dtype, weighted: bool, shape: tuple[int, ...]) -> None:
    given = {"x": torch.randn(shape)}
    if weighted:
        given["weight"] = torch.randn(shape[-1])

    def ours(x: Tensor, weight: Tensor | None = None) -> tuple[Tensor]:
        return (pointwise.rms_norm(x, weight, 1e-5),)

    def torchs(x: Tensor, weight: Tensor | None = None) -> tuple[Tensor]:
        return (F.rms_norm(x, x.shape[-1:], weight, 1e-5),)

    check(ours, torchs, given, dtype)


def _product(gate: str, a: Tensor, b: Tensor | None) -> Tensor:
    match gate:
        case "sigmoid":
            y = 1 / (1 + torch.exp(-a))
        case "silu":
            y = F.silu(a)
        case _:
            y = F.gelu(a, approximate="tanh")
    return y if b is None else y * b


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gate", pointwise.GATES)
@pytest.mark.parametrize("shape", [(2, 9, 40), (1, 300, 512), (3, 6)])
@pytest.mark.parametrize("laid", ["alone", "halves", "heads", "turned round"])
def test_gates_agree_with_torch(
    way: str, dtype: torch.dtype, gate: pointwise.Gate, shape: tuple[int, ...], laid: str
) -> None:
    def parts(x: Tensor) -> tuple[Tensor, Tensor | None]:
        if laid == "alone":
            return x, None
        if laid == "turned round":
            return x.transpose(0, 1), x.transpose(0, 1) + 1
        a, b = x.split(shape[-1] // 2, -1)
        return (
            (a.unflatten(-1, (-1, 2)), (2 * b).unflatten(-1, (-1, 2))) if laid == "heads" and len(shape) > 2 else (a, b)
        )

    def ours(x: Tensor) -> tuple[Tensor]:
        return (pointwise.gated(*parts(x), gate),)

    def torchs(x: Tensor) -> tuple[Tensor]:
        return (_product(gate, *parts(x)),)

    check(ours, torchs, {"x": 3 * torch.randn(shape)}, dtype)


def test_gates_at_the_ends_of_the_numbers(way: str) -> None:
    x = torch.tensor([-1e30, -200.0, -90.0, -20.0, 0.0, 20.0, 90.0, 200.0, 1e10, torch.inf, torch.nan])
    for gate in pointwise.GATES:
        assert torch.allclose(pointwise.gated(x, None, gate), _product(gate, x, None), atol=1e-6, equal_nan=True), gate


TURNED = [
    ((2, 9, 3, 2, 8), (1, 9, 1, 1, 4)),
    ((2, 9, 3, 2, 8), (2, 9, 1, 1, 4)),
    ((2, 9, 3, 2, 8), (1, 9, 1, 2, 4)),
    ((2, 9, 2, 8), (1, 9, 2, 4)),
    ((2, 9, 2, 8), (2, 9, 2, 4)),
    ((1, 9, 2, 8), (1, 9, 2, 4)),
    ((2, 1, 3, 8), (1, 1, 1, 4)),
    ((2, 3, 8), (2, 1, 4)),
    ((5, 8), (4,)),
    ((3, 5, 2, 8), (3, 1, 2, 4)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize(("shape", "angles"), TURNED)
@pytest.mark.parametrize("apart", [True, False])
def test_turning_agrees_with_complex_numbers(
    way: str, dtype: torch.dtype, halves: bool, shape: tuple[int, ...], angles: tuple[int, ...], apart: bool
) -> None:
    angle = torch.randn(angles, dtype=torch.float64)

    def side(x: Tensor) -> Tensor:
        return x[..., : shape[-1]]

    def ours(x: Tensor) -> tuple[Tensor]:
        c, s = (part.to(x.dtype) for part in (angle.cos(), angle.sin()))
        return (pointwise.turn_by(side(x), c, s, halves),)

    def plain(x: Tensor) -> tuple[Tensor]:
        x = side(x)
        pairs = torch.stack(x.chunk(2, -1), -1) if halves else x.unflatten(-1, (-1, 2))
        turned = torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones_like(angle), angle).to(
            torch.complex128 if x.dtype == torch.float64 else torch.complex64
        )
        y = torch.view_as_real(turned)
        return (torch.cat(y.unbind(-1), -1) if halves else y.flatten(-2),)

    check(ours, plain, {"x": torch.randn(*shape[:-1], shape[-1] + 3 * apart)}, dtype)


def test_angles_may_be_learned(way: str) -> None:
    x, angle = torch.randn(2, 3, 4, 8), torch.randn(1, 3, 1, 4, requires_grad=True)
    y = pointwise.turn_by(x, angle.cos(), angle.sin(), True)
    (found,) = torch.autograd.grad(y.square().sum() + y.sum(), angle)
    assert found.abs().max() > 0
    close("y", pointwise.turn_by(y, angle.cos(), -angle.sin(), True), x, 1e-6)
