"""The first Transformer against a transcription of its paper, with torch's attention."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssir.spec.load import load
from tests.oracles import compare

VOCAB, MODEL, LAYERS, HEAD, HIDDEN = 11, 12, 2, 3, 10


class _Block(nn.Module):
    def __init__(self, crossed: bool) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.MultiheadAttention(MODEL, HEAD, bias=False, batch_first=True) for _ in range(1 + crossed)
        )
        self.up, self.down = nn.Linear(MODEL, HIDDEN), nn.Linear(HIDDEN, MODEL)
        self.norms = nn.ModuleList(nn.LayerNorm(MODEL, eps=1e-6) for _ in range(2 + crossed))

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        n = x.shape[1]
        mask = None if memory is None else torch.ones(n, n, dtype=torch.bool).triu(1)
        x = self.norms[0](x + self.heads[0](x, x, x, attn_mask=mask, need_weights=False)[0])
        if memory is not None:
            x = self.norms[1](x + self.heads[1](x, memory, memory, need_weights=False)[0])
        return self.norms[-1](x + self.down(torch.relu(self.up(x))))  # type: ignore[no-any-return]


class _Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB, MODEL)
        self.encoder, self.decoder = (
            nn.ModuleList(_Block(crossed) for _ in range(LAYERS)) for crossed in (False, True)
        )

    def placed(self, tokens: Tensor) -> Tensor:
        at, i = torch.arange(tokens.shape[1])[:, None], torch.arange(MODEL // 2)
        angle = at / 10000 ** (2 * i / MODEL)
        waves = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
        return self.table(tokens) * MODEL**0.5 + waves  # type: ignore[no-any-return]

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        memory, x = self.placed(source), self.placed(target)
        for block in self.encoder:
            memory = block(memory)
        for block in self.decoder:
            x = block(x, memory)
        return x @ self.table.weight.T


def _heads(ours: str, theirs: str) -> dict[str, compare.Part]:
    def third(i: int) -> compare.View:
        return lambda x: x.chunk(3)[i]

    parts = {f"{ours}.{one}.weight": compare.Part(f"{theirs}.in_proj_weight", third(i)) for i, one in enumerate("qkv")}
    return {**parts, f"{ours}.y.weight": compare.Part(f"{theirs}.out_proj.weight")}


def _rest(at: str, there: str, norms: tuple[str, ...]) -> dict[str, compare.Part]:
    parts: dict[str, compare.Part] = {}
    for leaf in ("weight", "bias"):
        parts |= {f"{at}.{norm}.{leaf}": compare.Part(f"{there}.norms.{i}.{leaf}") for i, norm in enumerate(norms)}
        parts[f"{at}.y.mlp.up.{leaf}"] = compare.Part(f"{there}.up.{leaf}")
        parts[f"{at}.y.mlp.y.{leaf}"] = compare.Part(f"{there}.down.{leaf}")
    return parts


@pytest.mark.parametrize("via", compare.VIA)
def test_the_first_transformer_is_as_its_paper_has_it(via: str) -> None:
    theirs: Any = compare.built(_Transformer)
    mapping = {"embedding.e.weight": compare.Part("table.weight")}
    for i in range(LAYERS):
        at, there = f"logits.encoder.x.{i}", f"encoder.{i}"
        mapping |= {
            **_heads(f"{at}.mixed.self_attention", f"{there}.heads.0"),
            **_rest(at, there, ("mixed.layer_norm", "y.layer_norm")),
        }
        at, there = f"logits.decoder.x.{i}", f"decoder.{i}"
        mapping |= {
            **_heads(f"{at}.mixed.mixer", f"{there}.heads.0"),
            **_heads(f"{at}.seen.cross_attention", f"{there}.heads.1"),
        }
        mapping |= _rest(at, there, ("mixed.layer_norm", "seen.layer_norm", "y.layer_norm"))
    spec = load("vaswani", vocab=VOCAB, model=MODEL, layers=LAYERS, head=HEAD, hidden=HIDDEN)
    ours = compare.Model(spec, via)
    target, source = compare.tokens(VOCAB, time=9), compare.tokens(VOCAB, time=13, seed=1)
    compare.same(ours, theirs, dict(theirs.named_parameters()), mapping, target, source)
    compare.stepwise(ours, target, 4, source)
