"""HGRN2 against a transcription of its equations."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssir.spec.load import load
from tests.oracles import compare

VOCAB, MODEL, KEY, LAYERS, HIDDEN = 11, 8, 4, 3, 12


def _weights() -> dict[str, Tensor]:
    shapes = {"embed": [VOCAB, MODEL], "gamma": [LAYERS, MODEL], "norm": [MODEL], "head": [VOCAB, MODEL]}
    for i in range(LAYERS):
        shapes |= {f"{i}.{name}": [MODEL, MODEL] for name in ("q", "f", "i", "o")}
        shapes |= {f"{i}.{name}": [MODEL] for name in ("norm1", "norm2", "g_norm")}
        shapes |= {f"{i}.gate": [HIDDEN, MODEL], f"{i}.up": [HIDDEN, MODEL], f"{i}.down": [MODEL, HIDDEN]}
    generator = torch.Generator().manual_seed(0)
    return {k: compare.random_like(torch.zeros(shape), generator).requires_grad_() for k, shape in shapes.items()}


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def _hgrn2(w: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """S[t] = diag(f) S[t-1] + (1 - f) outer i, read by q; f lies above a bound that grows with depth."""
    batch, time = tokens.shape
    heads = MODEL // KEY
    x = w["embed"][tokens]
    share = torch.softmax(w["gamma"], 0)
    bounds = torch.cumsum(share, 0) - share[0]
    for n in range(LAYERS):
        y = _norm(x, w[f"{n}.norm1"])
        q = F.silu(y @ w[f"{n}.q"].T).unflatten(-1, (heads, KEY)) * KEY**-0.5
        f = (bounds[n] + (1 - bounds[n]) * torch.sigmoid(y @ w[f"{n}.f"].T)).unflatten(-1, (heads, KEY))
        i = (y @ w[f"{n}.i"].T).unflatten(-1, (heads, MODEL // heads))
        memory = torch.zeros(batch, heads, KEY, MODEL // heads, dtype=x.dtype)
        reads = []
        for t in range(time):
            memory = f[:, t, :, :, None] * memory + (1 - f[:, t])[..., None] * i[:, t, :, None, :]
            reads.append(torch.einsum("bhk,bhkv->bhv", q[:, t], memory).flatten(1))
        x = x + _norm(torch.stack(reads, 1), w[f"{n}.g_norm"]) @ w[f"{n}.o"].T
        y = _norm(x, w[f"{n}.norm2"])
        x = x + (F.silu(y @ w[f"{n}.gate"].T) * (y @ w[f"{n}.up"].T)) @ w[f"{n}.down"].T
    return _norm(x, w["norm"]) @ w["head"].T


HGRN2 = {
    "e.weight": "embed",
    "gamma": "gamma",
    "logits.rms_norm.weight": "norm",
    "logits.linear.weight": "head",
    "x.{}.mixed.rms_norm.weight": "{}.norm1",
    "x.{}.mixed.mixer.q.weight": "{}.q",
    "x.{}.mixed.mixer.f.weight": "{}.f",
    "x.{}.mixed.mixer.i.weight": "{}.i",
    "x.{}.mixed.mixer.y.rms_norm.weight": "{}.g_norm",
    "x.{}.mixed.mixer.y.linear.weight": "{}.o",
    "x.{}.y.rms_norm.weight": "{}.norm2",
    "x.{}.y.mlp.gate.weight": "{}.gate",
    "x.{}.y.mlp.up.weight": "{}.up",
    "x.{}.y.mlp.down.weight": "{}.down",
}


@pytest.mark.parametrize("via", compare.VIA)
def test_hgrn2_agrees_with_its_equations(via: str) -> None:
    spec = load("hgrn2", vocab=VOCAB, model=MODEL, key=KEY, layers=LAYERS, hidden=HIDDEN)
    ours, weights, x = compare.Model(spec, via), _weights(), compare.tokens(VOCAB)
    compare.same(ours, lambda x: _hgrn2(weights, x), weights, compare.per_layer(HGRN2, LAYERS), x)
    compare.stepwise(ours, x, 4)
