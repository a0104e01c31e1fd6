"""What the transcriptions of papers share: weights to draw, norms and short convolutions written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tests.oracles import compare


def weights(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, Tensor]:
    """Random weights of those shapes, in float64, which gather gradients."""
    generator = torch.Generator().manual_seed(seed)
    return {k: compare.random_like(torch.zeros(list(shape)), generator).requires_grad_() for k, shape in shapes.items()}


def below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin so, without the beginning."""
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def rms_norm(x: Tensor, weight: Tensor | float, eps: float = 1e-5) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


def layer_norm(x: Tensor, weight: Tensor | float, bias: Tensor | float = 0.0, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def before(x: Tensor) -> Tensor:
    """Every value of the step before; zero on the first."""
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)


def convolved(x: Tensor, taps: Tensor) -> Tensor:
    """A causal convolution along time of each channel by itself; taps [taps, channels], the newest input's first."""
    y, moved = torch.zeros_like(x), x
    for tap in taps:
        y, moved = y + tap * moved, before(moved)
    return y


def by_fft(x: Tensor, kernel: Tensor) -> Tensor:
    """y[t] = sum_l kernel[l] x[t - l]: x [batch, time, *axes], kernel [at most time, *axes]."""
    size = 2 * x.shape[1]
    y: Tensor = torch.fft.irfft(torch.fft.rfft(x, size, 1) * torch.fft.rfft(kernel, size, 0), size, 1)
    return y[:, : x.shape[1]]


def mapped(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """A linear map of the last axis, with a bias."""
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def normed(w: Mapping[str, Tensor], name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    """The layer norm of the last axis."""
    return layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"], eps)
