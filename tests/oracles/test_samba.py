"""Samba against a transcription of its layers, put together from the parts of transformers' Mamba and Mistral."""

import pytest
import torch
from torch import Tensor, nn
from transformers import MambaConfig, MistralConfig
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mistral.modeling_mistral import (
    MistralAttention,
    MistralMLP,
    MistralRMSNorm,
    MistralRotaryEmbedding,
)

from ssir.spec.load import load
from tests.oracles import compare

VOCAB, MODEL, LAYERS, KV, GROUP, WINDOW, HIDDEN, STATE, RANK = 11, 16, 4, 2, 2, 5, 12, 16, 1


class _Layer(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        config = MistralConfig(
            hidden_size=MODEL,
            intermediate_size=HIDDEN,
            num_attention_heads=KV * GROUP,
            num_key_value_heads=KV,
        )
        config._attn_implementation = "eager"
        self.recurrent = index % 2 == 0
        if self.recurrent:
            self.mixer: nn.Module = MambaMixer(MambaConfig(hidden_size=MODEL, time_step_rank=RANK), index)
        else:
            self.mixer = MistralAttention(config, index)
            self.angles = MistralRotaryEmbedding(config)
        self.first, self.second = (MistralRMSNorm(MODEL, eps=1e-5) for _ in range(2))
        self.mlp: nn.Module = MistralMLP(config)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        u = self.first(x)
        if self.recurrent:
            mixed = x + self.mixer(u)
        else:
            at = torch.arange(x.shape[1])
            lag = at[:, None] - at[None, :]
            mask = torch.where((lag >= 0) & (lag < WINDOW), 0.0, -torch.inf)[None, None]
            mixed = x + self.mixer(u, position_embeddings=self.angles(x, at[None]), attention_mask=mask)[0]
        return mixed + self.mlp(self.second(mixed))  # type: ignore[no-any-return]


class _Samba(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, MODEL)
        self.layers = nn.ModuleList(_Layer(i) for i in range(LAYERS))
        self.norm = MistralRMSNorm(MODEL, eps=1e-5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.norm(x) @ self.embedding.weight.T
        return logits


def _rows(start: int, stop: int) -> compare.Part:
    return compare.Part("mixer.x_proj.weight", lambda x: x[start:stop])


RECURRENT: dict[str, str | compare.Part] = {
    "mixed.mixer.x0.weight": compare.Part("mixer.in_proj.weight", lambda x: x.chunk(2)[0]),
    "mixed.mixer.z.weight": compare.Part("mixer.in_proj.weight", lambda x: x.chunk(2)[1]),
    # Their kernel has the newest input last.
    "mixed.mixer.conv.C": compare.Part("mixer.conv1d.weight", lambda x: x[:, 0].flip(1).mT),
    "mixed.mixer.conv_bias": "mixer.conv1d.bias",
    "mixed.mixer.low.weight": _rows(0, RANK),
    "mixed.mixer.s.B.weight": _rows(RANK, RANK + STATE),
    "mixed.mixer.s.C.weight": _rows(RANK + STATE, RANK + 2 * STATE),
    "mixed.mixer.dt.weight": "mixer.dt_proj.weight",
    "mixed.mixer.dt.bias": "mixer.dt_proj.bias",
    "mixed.mixer.A_log": "mixer.A_log",
    "mixed.mixer.s.D": "mixer.D",
    "mixed.mixer.y.weight": "mixer.out_proj.weight",
}
ATTENTION: dict[str, str | compare.Part] = {
    "mixed.attention_mixer.q.weight": "mixer.q_proj.weight",
    "mixed.attention_mixer.k.weight": "mixer.k_proj.weight",
    "mixed.attention_mixer.v.weight": "mixer.v_proj.weight",
    "mixed.attention_mixer.y.weight": "mixer.o_proj.weight",
}
BOTH: dict[str, str | compare.Part] = {
    "mixed.rms_norm.weight": "first.weight",
    "y.rms_norm.weight": "second.weight",
    "y.mlp.gate.weight": "mlp.gate_proj.weight",
    "y.mlp.up.weight": "mlp.up_proj.weight",
    "y.mlp.y.weight": "mlp.down_proj.weight",
}


def _mapping() -> dict[str, compare.Part]:
    parts = {"e.weight": compare.Part("embedding.weight"), "logits.rms_norm.weight": compare.Part("norm.weight")}
    for i in range(LAYERS):
        for ours, part in (BOTH | (ATTENTION if i % 2 else RECURRENT)).items():
            part = compare.Part(part) if isinstance(part, str) else part
            parts[f"x.{i}.{ours}"] = compare.Part(f"layers.{i}.{part.name}", part.view)
    return parts


@pytest.mark.parametrize("via", compare.VIA)
def test_samba_agrees_with_its_layers_put_together(via: str) -> None:
    theirs = compare.built(_Samba)
    dims: dict[str, float] = {
        "model": MODEL,
        "layers": LAYERS,
        "kv": KV,
        "group": GROUP,
        "window": WINDOW,
        "hidden": HIDDEN,
    }
    ours, x = compare.Model(load("samba", None, vocab=VOCAB, **dims), via), compare.tokens(VOCAB, time=12)
    compare.same(ours, theirs, dict(theirs.named_parameters()), _mapping(), x)
    compare.stepwise(ours, x, 4)
