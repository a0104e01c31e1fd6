"""Hawk and Griffin against transformers' RecurrentGemma."""

import pytest
import torch
from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM

from ssir.spec.load import load
from tests.oracles import compare

VOCAB, MODEL, HEAD, LAYERS, WINDOW = 11, 16, 2, 4, 3

HEADS: dict[str, str | compare.Part] = {
    "e.weight": "model.embed_tokens.weight",
    "logits.norm.scale": "model.final_norm.weight",
}
BLOCK: dict[str, str | compare.Part] = {
    "mixed.norm.scale": "temporal_pre_norm.weight",
    "y.norm.scale": "channel_pre_norm.weight",
    "y.mlp.gate.weight": "mlp_block.gate_proj.weight",
    "y.mlp.gate.bias": "mlp_block.gate_proj.bias",
    "y.mlp.up.weight": "mlp_block.up_proj.weight",
    "y.mlp.up.bias": "mlp_block.up_proj.bias",
    "y.mlp.y.weight": "mlp_block.down_proj.weight",
    "y.mlp.y.bias": "mlp_block.down_proj.bias",
}
RECURRENT: dict[str, str | compare.Part] = {
    "x0.weight": "linear_x.weight",
    "x0.bias": "linear_x.bias",
    "gate.weight": "linear_y.weight",
    "gate.bias": "linear_y.bias",
    # Their kernel has the newest input last.
    "conv.C": compare.Part("conv_1d.weight", lambda x: x[:, 0].flip(1).mT),
    "conv_bias": "conv_1d.bias",
    "r.weight": compare.transposed("rg_lru.recurrent_gate_weight"),
    "r.bias": "rg_lru.recurrent_gate_bias",
    "i.weight": compare.transposed("rg_lru.input_gate_weight"),
    "i.bias": "rg_lru.input_gate_bias",
    "Lambda": "rg_lru.recurrent_param",
    "y.weight": "linear_out.weight",
    "y.bias": "linear_out.bias",
}
ATTENTION: dict[str, str | compare.Part] = {
    "q0.weight": "q_proj.weight",
    "k0.weight": "k_proj.weight",
    "v.weight": "v_proj.weight",
    "y.weight": "o_proj.weight",
    "y.bias": "o_proj.bias",
}


def _mapping(pattern: str, recurrent: str) -> dict[str, compare.Part]:
    parts = dict(HEADS)
    for i in range(LAYERS):
        mixer = (recurrent, RECURRENT) if pattern[i % len(pattern)] == "r" else ("mixer", ATTENTION)
        block = {
            **BLOCK,
            **{f"mixed.{mixer[0]}.{key}": _below("temporal_block", value) for key, value in mixer[1].items()},
        }
        parts |= {f"x.{i}.{key}": _below(f"model.layers.{i}", value) for key, value in block.items()}
    return compare.per_layer(parts, 1)


def _below(prefix: str, part: str | compare.Part) -> compare.Part:
    part = compare.Part(part) if isinstance(part, str) else part
    return compare.Part(f"{prefix}.{part.name}", part.view)


@pytest.mark.parametrize("via", compare.VIA)
@pytest.mark.parametrize("name", ["hawk", "griffin"])
def test_recurrent_gemma_agrees_with_transformers(via: str, name: str) -> None:
    pattern = {"hawk": ["recurrent"], "griffin": ["recurrent", "recurrent", "attention"]}[name]
    config = RecurrentGemmaConfig(
        vocab_size=VOCAB,
        hidden_size=MODEL,
        num_hidden_layers=LAYERS,
        intermediate_size=6 * MODEL,  # theirs counts the gate and what it gates
        num_attention_heads=HEAD,
        num_key_value_heads=1,
        attention_window_size=WINDOW + 1,  # theirs counts the token itself
        block_types=pattern,
        pad_token_id=None,  # a padding token would get no gradient
        use_cache=False,
    )
    theirs = compare.built(lambda: RecurrentGemmaForCausalLM(config))
    theirs.model.normalizer = torch.tensor(MODEL**0.5, dtype=torch.float64)  # theirs is rounded to bfloat16
    dims: dict[str, float] = {"window": WINDOW} if name == "griffin" else {}
    ours = compare.Model(load(name, None, vocab=VOCAB, model=MODEL, layers=LAYERS, head=HEAD, **dims), via)
    x = compare.tokens(VOCAB, time=10)
    mapping = _mapping("".join(kind[0] for kind in pattern), "mixer" if name == "hawk" else "recurrent")
    compare.same(ours, lambda x: theirs(x).logits, dict(theirs.named_parameters()), mapping, x)
    compare.stepwise(ours, x, 4)
