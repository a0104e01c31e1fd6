"""Perceiver IO against transformers; Perceiver against its paper, made of transformers' layers."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PerceiverConfig, PerceiverForMaskedLM
from transformers.models.perceiver.modeling_perceiver import PerceiverLayer

from ssir.spec.load import load
from tests.oracles import compare

VOCAB, LENGTH, MODEL, LATENT, WIDTH, HEAD = 11, 12, 16, 3, 24, 8


def _config(**more: Any) -> PerceiverConfig:
    return PerceiverConfig(
        num_latents=LATENT,
        d_latents=WIDTH,
        d_model=MODEL,
        attention_probs_dropout_prob=0.0,
        vocab_size=VOCAB,
        max_position_embeddings=LENGTH,
        **more,
    )


def _layer(ours: str, theirs: str, mlp: str) -> dict[str, str | compare.Part]:
    pairs = {
        "q" if mlp == "mlp" else "q.linear": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "mixed": "attention.output.dense",
    }
    norms = {"asking": "attention.self.layernorm1", "given": "attention.self.layernorm2"}
    if mlp == "mlp":
        pairs |= {"y.mlp.up": "mlp.dense1", "y.mlp.down": "mlp.dense2", "y.layer_norm": "layernorm"}
    else:
        pairs |= {"up.linear": "mlp.dense1", "y": "mlp.dense2", "up.layer_norm": "layernorm"}
        norms = {"q.layer_norm": "attention.self.layernorm1", "given": "attention.self.layernorm2"}
    if ours.endswith("{}"):
        norms = {"given": "attention.self.layernorm1"}
    return {
        f"{ours}.{a}.{leaf}": f"{theirs}.{b}.{leaf}" for a, b in (pairs | norms).items() for leaf in ("weight", "bias")
    }


IO: dict[str, str | compare.Part] = {
    "token.weight": "perceiver.input_preprocessor.embeddings.weight",
    "place.weight": "perceiver.input_preprocessor.position_embeddings.weight",
    "latents": "perceiver.embeddings.latents",
    "query.weight": "perceiver.decoder.output_position_encodings.position_embeddings",
    "logits.linear.bias": "embedding_decoder.bias",
    **_layer("z.input", "perceiver.encoder.cross_attention", "mlp"),
    **_layer("z.0.y.{}", "perceiver.encoder.self_attends.{}", "mlp"),
    **_layer("logits.tell", "perceiver.decoder.decoding_cross_attention", "out"),
}


@pytest.mark.parametrize("via", compare.VIA)
def test_perceiver_io_agrees_with_transformers(via: str) -> None:
    config = _config(
        num_blocks=2,
        num_self_attends_per_block=2,
        num_self_attention_heads=HEAD,
        num_cross_attention_heads=HEAD,
        qk_channels=8 * 32,
        v_channels=WIDTH,
    )
    theirs = compare.built(lambda: PerceiverForMaskedLM(config))
    dims: dict[str, float] = {"vocab": VOCAB, "length": LENGTH, "model": MODEL, "latent": LATENT, "width": WIDTH}
    ours = compare.Model(load("perceiver_io", None, blocks=2, layers=2, **dims), via)
    keep = torch.ones(2, 9, dtype=torch.float64)
    keep[1, 6:] = 0

    def run(tokens: Tensor, keep: Tensor) -> Tensor:
        found: Tensor = theirs(tokens, attention_mask=keep).logits[:, : tokens.shape[1]]
        return found

    mapping = compare.per_layer(IO, 2)
    compare.same(ours, run, dict(theirs.named_parameters()), mapping, compare.tokens(VOCAB), keep)


class Perceiver(nn.Module):
    """Read, think, read again, think, ...; all but the first reading with the same parameters, all thinking as well."""

    def __init__(self, blocks: int, layers: int) -> None:
        super().__init__()
        config = _config(cross_attention_shape_for_attention="kv")

        layer: Any = PerceiverLayer

        def reader() -> Any:
            return layer(config, True, None, None, 1, WIDTH, MODEL, 1)

        self.latents = nn.Parameter(torch.empty(LATENT, WIDTH))
        self.first, self.again = reader(), reader()
        self.tower = nn.ModuleList(layer(config, False, None, None, HEAD, WIDTH, WIDTH, 1) for _ in range(layers))
        self.blocks = blocks
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 7)

    def forward(self, x: Tensor) -> Tensor:
        z = self.latents.expand(x.shape[0], -1, -1)
        for block in range(self.blocks):
            z = (self.again if block else self.first)(z, inputs=x)[0]
            for layer in self.tower:
                z = layer(z)[0]
        found: Tensor = self.head(self.norm(z).mean(1))
        return found


CLASSIFIER: dict[str, str | compare.Part] = {
    "latents": "latents",
    **_layer("z.input.y", "first", "mlp"),
    **_layer("z.1.y", "again", "mlp"),
    **_layer("z.0.y.y.{}", "tower.{}", "mlp"),
    **{f"pooled.layer_norm.{leaf}": f"norm.{leaf}" for leaf in ("weight", "bias")},
    **{f"logits.{leaf}": f"head.{leaf}" for leaf in ("weight", "bias")},
}


@pytest.mark.parametrize("via", compare.VIA)
def test_perceiver_agrees_with_its_paper(via: str) -> None:
    theirs = compare.built(lambda: Perceiver(3, 2))
    spec = load("perceiver", classes=7, model=MODEL, latent=LATENT, width=WIDTH, head=HEAD, blocks=3, layers=2)
    ours = compare.Model(spec, via)
    x = torch.randn(2, 5, MODEL, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    compare.same(ours, theirs, dict(theirs.named_parameters()), compare.per_layer(CLASSIFIER, 2), x)
