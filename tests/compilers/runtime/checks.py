"""Comparing a kernel with a loop over time steps in float64: outputs, final state, and the gradient of every input."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.complex128: 1e-10, torch.complex64: 1e-5}


def check(
    kernel: Function,
    naive: Function,
    inputs: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float64,
    tolerance: float | None = None,
) -> None:
    """`kernel(**inputs)` in `dtype` against `naive(**inputs)` in float64 (or complex128)."""
    wide = torch.complex128 if dtype.is_complex else torch.float64
    results = []
    for function, kind in ((naive, wide), (kernel, dtype)):
        leaves = {name: tensor.detach().to(kind).requires_grad_() for name, tensor in inputs.items()}
        outputs = function(**leaves)
        generator = torch.Generator().manual_seed(1)
        finite = [output.masked_fill(output.detach().isinf(), 0) for output in outputs]
        weights = [torch.randn(out.shape, generator=generator, dtype=wide) for out in finite]
        terms = [(out * weight.to(out.dtype)).sum() for out, weight in zip(finite, weights, strict=True)]
        grads = torch.autograd.grad(torch.stack(terms).sum().abs(), list(leaves.values()), allow_unused=True)
        named: dict[str, Tensor | None] = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
        results.append(named | {f"gradient of {name}": grad for name, grad in zip(leaves, grads, strict=True)})
    expected, got = results
    for name, value in expected.items():
        close(name, got[name], value, TOLERANCE[dtype] if tolerance is None else tolerance)


def close(name: str, got: Tensor | None, expected: Tensor | None, tolerance: float) -> None:
    """Asserts that the largest error is within `tolerance` of the largest expected value."""
    if got is None or expected is None:
        present = got if expected is None else expected
        assert present is None or not present.abs().max(), f"{name}: missing on one side"
        return
    assert got.shape == expected.shape, f"{name}: shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if not got.numel():
        return
    assert torch.equal(got.isinf(), expected.isinf()), f"{name}: infinite elsewhere"
    got, expected = got.masked_fill(got.isinf(), 0), expected.masked_fill(expected.isinf(), 0)
    assert got.isfinite().all(), f"{name}: NaN"
    error = (got.to(expected.dtype) - expected).abs().max()
    scale = expected.abs().max().clamp(min=0.1)
    assert error <= tolerance * scale, f"{name}: error {error / scale:.2e} of the largest, allowed {tolerance:.0e}"


def resets(batch: int, time: int, first: bool = False) -> Tensor:
    """Some resets in every row, more than one in a row of steps; at step 0 only in the last row, unless `first`."""
    reset = torch.rand(batch, time) < 0.2
    reset[:, 0] = first
    reset[-1, 0] = True
    return reset
