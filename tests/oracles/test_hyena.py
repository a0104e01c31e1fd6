"""Hyena against its equations."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssir.api import compile
from ssir.spec.load import load
from tests.oracles import compare
from tests.oracles.equations import below, by_fft, convolved, mapped, normed

Weights = Mapping[str, Tensor]
DIMS = {"model": 6, "layers": 2, "band": 2, "width": 4, "hidden": 7, "vocab": 11}


def _features(length: int, bands: int) -> Tensor:
    """[length, 2 bands + 1]: the time from 0 to 1, and exp(-i f 2 pi t / length), its real and its imaginary parts."""
    f = torch.linspace(1e-4, bands - 1, bands, dtype=torch.float64)
    waves = torch.exp(-1j * f * 2 * math.pi * torch.arange(length)[:, None] / length)
    return torch.cat([torch.linspace(0, 1, length, dtype=torch.float64)[:, None], waves.real, waves.imag], -1)


def _filter(w: Weights) -> Tensor:
    """h(t) = FFN(features of t) exp(-t |delta|): [length, channels]; the features are learned too."""
    z = torch.cat([w["time"], w["cosine"], w["sine"]], -1)
    for layer in ("z1", "z2", "z3"):
        z = torch.sin(w["frequency"] * mapped(w, f"{layer}", z))
    h = z @ w["h.weight"].T
    delta = torch.linspace(math.log(1e-2) / 1.5, math.log(1e-2) / 0.3, h.shape[1], dtype=h.dtype)
    return h * torch.exp(-torch.linspace(0, 1, len(h), dtype=h.dtype)[:, None] * delta.abs())


def _hyena(w: Weights, u: Tensor) -> Tensor:
    """y = x0 * (h * (v x1) + d v x1) of order 2."""
    x0, x1, v = (convolved(mapped(w, "conv.input", u), w["conv.C"]) + w["conv_bias"]).chunk(3, -1)
    v = v * x1
    return mapped(w, "y", x0 * (by_fft(v, _filter(below(w, "long.C."))[: u.shape[1]]) + w["long.D"] * v))


def _language_model(w: Weights, tokens: Tensor) -> Tensor:
    x = w["e.weight"][tokens]
    for layer in range(2):
        at = below(w, f"x.{layer}.")
        x = x + _hyena(below(at, "mixed.mixer."), normed(at, "mixed.layer_norm", x))
        up = mapped(at, "y.mlp.up", normed(at, "y.layer_norm", x))
        x = x + mapped(at, "y.mlp.down", F.gelu(up, approximate="tanh"))
    return normed(w, "logits.layer_norm", x) @ w["e.weight"].T


@pytest.mark.parametrize("length", [12, 6], ids=["a filter longer than the sequence", "a shorter one"])
@pytest.mark.parametrize("via", compare.VIA)
def test_hyena_is_a_long_convolution_between_gates(via: str, length: int) -> None:
    ours = compare.Model(load("hyena", None, length=length, **DIMS), via)
    generator = torch.Generator().manual_seed(0)
    weights = {key: compare.random_like(p, generator).requires_grad_() for key, p in ours.params.items()}
    x = compare.tokens(11)
    compare.same(ours, lambda x: _language_model(weights, x), weights, {key: compare.Part(key) for key in weights}, x)
    compare.stepwise(ours, x, 4)


def test_the_features_of_hyena_start_as_waves() -> None:
    first = dict(compile(load("hyena.mixer", None, length=9, **DIMS)).named_parameters())
    found = torch.cat([first[f"long.C.{name}"] for name in ("time", "cosine", "sine")], -1)
    assert torch.allclose(found.double(), _features(9, 2), atol=1e-6)
