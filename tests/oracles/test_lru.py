"""The LRU against a transcription of its equations: every state as the sum over all inputs so far."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssir.spec.load import load
from tests.oracles import compare
from tests.oracles.equations import below, mapped, normed

Weights = Mapping[str, Tensor]


def _lru(w: Weights, u: Tensor) -> Tensor:
    """h[t] = sum_j lambda^(t - j) gamma B u[j], lambda = exp(-exp(nu) + i exp(theta)); y = Re(C h) + D u."""
    lam = torch.exp(torch.complex(-w["log_nu"].exp(), w["log_theta"].exp()))
    b = torch.complex(w["b_real.weight"], w["b_imag.weight"]) * w["log_gamma"].exp()[:, None]
    c = torch.complex(w["c_real.weight"], w["c_imag.weight"])
    age = torch.arange(u.shape[1])
    age = age[:, None] - age
    powers = torch.where(age[..., None] >= 0, lam ** age.clamp(min=0)[..., None], 0)
    h = torch.einsum("tjn,nm,bjm->btn", powers, b, u.to(b.dtype))
    return torch.einsum("mn,btn->btm", c, h).real + w["skip"] * u


def _classifier(w: Weights, pixels: Tensor) -> Tensor:
    x = mapped(w, "x.input", pixels)
    for layer in range(2):
        at = below(w, f"x.{layer}.")
        u, at = normed(at, "y.layer_norm", x, eps=1e-6), below(at, "y.mixer.")
        y = F.gelu(_lru(at, u), approximate="tanh")
        x = x + mapped(at, "out", y) * torch.sigmoid(mapped(at, "gate", y))
    return mapped(w, "logits", x.mean(1))


@pytest.mark.parametrize("via", compare.VIA)
def test_lru_sums_over_powers_of_its_eigenvalues(via: str) -> None:
    ours = compare.Model(load("lru", None, model=6, layers=2, colour=3, **{"class": 5}, hidden=4), via)
    generator = torch.Generator().manual_seed(0)
    weights = {key: compare.random_like(p, generator).requires_grad_() for key, p in ours.params.items()}
    x = torch.randn(2, 9, 3, dtype=torch.float64, generator=generator)
    compare.same(ours, lambda x: _classifier(weights, x), weights, {key: compare.Part(key) for key in weights}, x)
    compare.stepwise(ours, x, 4)
