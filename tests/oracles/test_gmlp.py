"""gMLP against the equations of its paper (arXiv:2105.08050, section 2)."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssir.spec.load import load
from tests.oracles import compare

VOCAB, LENGTH, MODEL, HIDDEN, LAYERS, TIME = 11, 12, 6, 8, 2, 9


class Block(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.norm = nn.LayerNorm(MODEL)
        self.up = nn.Linear(MODEL, HIDDEN)
        self.inner = nn.LayerNorm(HIDDEN // 2)
        self.spatial = nn.Parameter(torch.empty(2 * LENGTH - 1) if kind == "relative" else torch.empty(LENGTH, LENGTH))
        self.offset = nn.Parameter(torch.empty(LENGTH))
        self.down = nn.Linear(HIDDEN // 2, MODEL)

    def matrix(self, time: int) -> Tensor:
        if self.kind == "relative":
            rows = [self.spatial[LENGTH - 1 + i - torch.arange(time)] for i in range(time)]
            return torch.stack(rows)
        w = self.spatial[:time, :time]
        return w.tril() if self.kind == "causal" else w

    def forward(self, x: Tensor) -> Tensor:
        u, v = F.gelu(self.up(self.norm(x))).chunk(2, -1)
        f = torch.einsum("ts,bsd->btd", self.matrix(x.shape[1]), self.inner(v)) + self.offset[: x.shape[1], None]
        found: Tensor = x + self.down(u * f)
        return found


class Whole(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, MODEL)
        self.layers = nn.ModuleList(Block(kind) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(MODEL)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        found: Tensor = self.norm(x) @ self.embedding.weight.T
        return found


def _mapping(mixer: str) -> dict[str, str | compare.Part]:
    both: dict[str, str | compare.Part] = {
        "e.weight": "embedding.weight",
        f"x.{{}}.y.{mixer}.weights": "layers.{}.spatial",
        f"x.{{}}.y.{mixer}.offset": "layers.{}.offset",
    }
    pairs = {
        "logits.layer_norm": "norm",
        "x.{}.u.z.layer_norm": "layers.{}.norm",
        "x.{}.u.z.linear": "layers.{}.up",
        f"x.{{}}.y.{mixer}.{'read.input' if mixer == 'causal_mixer' else 'y'}": "layers.{}.inner",
        "x.{}.y.linear": "layers.{}.down",
    }
    for ours, theirs in pairs.items():
        both |= {f"{ours}.{leaf}": f"{theirs}.{leaf}" for leaf in ("weight", "bias")}
    return both


@pytest.mark.parametrize("via", compare.VIA)
@pytest.mark.parametrize("kind", ["relative", "whole", "causal"])
def test_gmlp_agrees_with_its_equations(via: str, kind: str) -> None:
    component, mixer = {
        "relative": ("lm", "relative_mixer"),
        "whole": ("whole_lm", "mixer"),
        "causal": ("causal_lm", "causal_mixer"),
    }[kind]
    theirs = compare.built(lambda: Whole(kind))
    spec = load(f"gmlp.{component}", vocab=VOCAB, length=LENGTH, model=MODEL, hidden=HIDDEN, layers=LAYERS)
    ours, x = compare.Model(spec, via), compare.tokens(VOCAB, time=TIME)
    compare.same(ours, theirs, dict(theirs.named_parameters()), compare.per_layer(_mapping(mixer), LAYERS), x)
    if kind == "causal":
        compare.stepwise(ours, x, 4)
