"""The gated attention unit against the equations of its paper (arXiv:2202.10447, section 3 and appendix)."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssir.spec.load import load
from tests.oracles import compare

VOCAB, LENGTH, MODEL, KEY, LAYERS = 11, 5, 6, 4, 2


def _turned(x: Tensor) -> Tensor:
    """x [..., time, s]: the two halves as the parts of complex numbers, turned by the position."""
    time, half = x.shape[-2], x.shape[-1] // 2
    angle = torch.arange(time, dtype=torch.float64)[:, None] * 10000.0 ** (-torch.arange(half) / half)
    z = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], -1)


class Unit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        wide = 2 * MODEL
        self.norm = nn.LayerNorm(MODEL)
        self.up = nn.Linear(MODEL, 2 * wide + KEY)
        self.gamma, self.beta = nn.Parameter(torch.empty(2, KEY)), nn.Parameter(torch.empty(2, KEY))
        self.a, self.b = nn.Parameter(torch.empty(KEY)), nn.Parameter(torch.empty(KEY))
        self.down = nn.Linear(wide, MODEL)

    def forward(self, x: Tensor) -> Tensor:
        time = x.shape[1]
        u, v, z = F.silu(self.up(self.norm(x))).split([2 * MODEL, 2 * MODEL, KEY], -1)
        q, k = (_turned(z * self.gamma[i] + self.beta[i]) for i in range(2))
        bias = _turned(self.a.expand(time, KEY)) @ _turned(self.b.expand(time, KEY)).T
        scores = torch.relu(q @ k.mT / LENGTH + bias) ** 2
        found: Tensor = x + self.down(u * (scores.tril() @ v))
        return found


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, MODEL)
        self.scale = nn.Parameter(torch.empty(()))
        self.layers = nn.ModuleList(Unit() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(MODEL)

    def forward(self, tokens: Tensor) -> Tensor:
        rates = torch.exp(-math.log(10000) * torch.arange(MODEL // 2) / (MODEL // 2))
        angle = torch.arange(tokens.shape[1], dtype=torch.float64)[:, None] * rates
        x = self.embedding(tokens) + self.scale * torch.cat([angle.sin(), angle.cos()], -1)
        for layer in self.layers:
            x = layer(x)
        found: Tensor = self.norm(x) @ self.embedding.weight.T
        return found


def _rows(name: str, start: int, size: int) -> compare.Part:
    return compare.Part(name, lambda x: x[start : start + size])


def _row(name: str, row: int) -> compare.Part:
    return compare.Part(name, lambda x: x[row])


MAPPING: dict[str, str | compare.Part] = {
    "e.weight": "embedding.weight",
    "scale": "scale",
    **{
        f"x.{{}}.y.mixer.{part}.{leaf}": _rows(f"layers.{{}}.up.{leaf}", start, size)
        for part, start, size in (("u", 0, 12), ("v", 12, 12), ("z", 24, KEY))
        for leaf in ("weight", "bias")
    },
    **{f"x.{{}}.y.mixer.{part}_gain": _row("layers.{}.gamma", i) for i, part in enumerate("qk")},
    **{f"x.{{}}.y.mixer.{part}_offset": _row("layers.{}.beta", i) for i, part in enumerate("qk")},
    "x.{}.y.mixer.a": "layers.{}.a",
    "x.{}.y.mixer.b": "layers.{}.b",
    **{f"x.{{}}.y.mixer.y.{leaf}": f"layers.{{}}.down.{leaf}" for leaf in ("weight", "bias")},
    **{f"x.{{}}.y.layer_norm.{leaf}": f"layers.{{}}.norm.{leaf}" for leaf in ("weight", "bias")},
    **{f"logits.layer_norm.{leaf}": f"norm.{leaf}" for leaf in ("weight", "bias")},
}


@pytest.mark.parametrize("via", compare.VIA)
def test_a_gated_attention_unit_agrees_with_its_equations(via: str) -> None:
    theirs = compare.built(Whole)
    ours = compare.Model(load("gau", vocab=VOCAB, length=LENGTH, model=MODEL, key=KEY, layers=LAYERS), via)
    x = compare.tokens(VOCAB)
    compare.same(ours, theirs, dict(theirs.named_parameters()), compare.per_layer(MAPPING, LAYERS), x)
    compare.stepwise(ours, x, 4)
