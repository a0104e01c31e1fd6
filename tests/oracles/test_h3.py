"""H3 against its equations: both state spaces as convolutions."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssir.spec.load import load
from tests.oracles import compare
from tests.oracles.equations import below, by_fft, mapped, normed

Weights = Mapping[str, Tensor]
DIMS = {"model": 6, "layers": 4, "run": 2, "key": 2, "order": 8, "tap": 5, "query_head": 2, "hidden": 7, "vocab": 11}


def _per_head(w: Weights, name: str, u: Tensor) -> Tensor:
    """[batch, time, head, key]."""
    return torch.einsum("btm,hkm->bthk", u, w[f"{name}.weight"]) + w[f"{name}.bias"]


def _shift_kernel(w: Weights, time: int) -> Tensor:
    """K[l] = C A^l B, where A moves every entry of the state one place down: sum_n C[n + l] B[n]."""
    b, c = w["shifted.B"], w["shifted.C"]
    taps = [(c[lag:] * b[: len(b) - lag]).sum(0) for lag in range(len(b))]
    return torch.stack([*taps, *[torch.zeros_like(taps[0])] * time])[:time]


def _diagonal_kernel(w: Weights, time: int) -> Tensor:
    """K[l] = 2 Re sum_n C_n B'_n A'_n^l, A and B sampled by the bilinear rule."""
    z = w["log_dt"].exp()[:, None] * torch.complex(-w["log_rate"].exp(), w["frequency"]) / 2
    c = torch.complex(w["c_real"], w["c_imag"]) * torch.complex(w["b_real"], w["b_imag"])
    powers = ((1 + z) / (1 - z))[..., None] ** torch.arange(time)
    return 2 * torch.einsum("hn,hnl->lh", c * w["log_dt"].exp()[:, None] / (1 - z), powers).real


def _h3(w: Weights, u: Tensor) -> Tensor:
    """Y = Q * SSM_diag(SSM_shift(K) outer V), for each head."""
    q, k, v = (_per_head(w, name, u) for name in ("q", "k", "v"))
    k = by_fft(k, _shift_kernel(w, u.shape[1])) + w["shifted.D"] * k
    kv = k[..., :, None] * v[..., None, :]
    kv = by_fft(kv, _diagonal_kernel(w, u.shape[1])[..., None, None]) + w["skip"][:, None, None] * kv
    return torch.einsum("bthk,bthkv,mhv->btm", q, kv, w["y.weight"]) + w["y.bias"]


def _attention(w: Weights, u: Tensor) -> Tensor:
    q, k, v = (_per_head(w, name, u) for name in ("q", "k", "v"))
    scores = torch.einsum("bthk,bshk->bhts", q, k) * q.shape[-1] ** -0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    read = torch.einsum("bhts,bshv->bthv", scores.masked_fill(later, -torch.inf).softmax(-1), v)
    return torch.einsum("bthv,mhv->btm", read, w["out.weight"]) + w["out.bias"]


def _block(w: Weights, u: Tensor) -> Tensor:
    x = normed(w, "mixed.layer_norm", u)
    u = u + (
        _attention(below(w, "mixed.attention."), x)
        if "mixed.attention.q.weight" in w
        else _h3(below(w, "mixed.mixer."), x)
    )
    return u + mapped(w, "y.mlp.down", F.gelu(mapped(w, "y.mlp.up", normed(w, "y.layer_norm", u)), approximate="tanh"))


def _language_model(w: Weights, tokens: Tensor) -> Tensor:
    x = w["e.weight"][tokens]
    for layer in ("first.0.", "first.1.", "x.0.y.input.", "x.0.y.0."):
        x = _block(below(w, layer), x)
    return normed(w, "logits.layer_norm", x) @ w["e.weight"].T


@pytest.mark.parametrize("via", compare.VIA)
def test_h3_is_two_convolutions_between_gates(via: str) -> None:
    ours = compare.Model(load("h3", None, **DIMS), via)
    generator = torch.Generator().manual_seed(0)
    weights = {key: compare.random_like(p, generator).requires_grad_() for key, p in ours.params.items()}
    x = compare.tokens(11)
    sizes = {key: [size or 0 for size in node.type.sizes] for key, node in compare.parameters(ours.graph)}

    def theirs(x: Tensor) -> Tensor:
        return _language_model({key: w.reshape(sizes[key]) for key, w in weights.items()}, x)

    compare.same(ours, theirs, weights, {key: compare.Part(key) for key in weights}, x)
    compare.stepwise(ours, x, 4)
