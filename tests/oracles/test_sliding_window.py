"""Sliding-window attention against transformers' Mistral."""

import pytest
from transformers import MistralConfig, MistralForCausalLM

from ssir.spec.load import load
from tests.oracles import compare

MISTRAL: dict[str, str | compare.Part] = {
    "e.weight": "model.embed_tokens.weight",
    "logits.rms_norm.weight": "model.norm.weight",
    "logits.linear.weight": "lm_head.weight",
    "x.{}.mixed.rms_norm.weight": "model.layers.{}.input_layernorm.weight",
    "x.{}.mixed.mixer.out.q.weight": "model.layers.{}.self_attn.q_proj.weight",
    "x.{}.mixed.mixer.out.k.weight": "model.layers.{}.self_attn.k_proj.weight",
    "x.{}.mixed.mixer.out.v.weight": "model.layers.{}.self_attn.v_proj.weight",
    "x.{}.mixed.mixer.out.out.weight": "model.layers.{}.self_attn.o_proj.weight",
    "x.{}.y.rms_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
    "x.{}.y.mlp.gate.weight": "model.layers.{}.mlp.gate_proj.weight",
    "x.{}.y.mlp.up.weight": "model.layers.{}.mlp.up_proj.weight",
    "x.{}.y.mlp.down.weight": "model.layers.{}.mlp.down_proj.weight",
}


@pytest.mark.parametrize("via", compare.VIA)
@pytest.mark.parametrize("window", [3, 20])
def test_mistral_agrees_with_transformers(via: str, window: int) -> None:
    config = MistralConfig(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
        rms_norm_eps=1e-5,
        use_cache=False,
    )
    theirs = compare.built(lambda: MistralForCausalLM(config))
    spec = load("sliding_window", vocab=11, model=16, layers=2, kv=2, group=2, hidden=12, window=window)
    ours, x = compare.Model(spec, via), compare.tokens(11, time=10)
    mapping = compare.per_layer(MISTRAL, 2)
    compare.same(ours, lambda x: theirs(x).logits, dict(theirs.named_parameters()), mapping, x)
    compare.stepwise(ours, x, 4)
