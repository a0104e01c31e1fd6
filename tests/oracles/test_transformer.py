"""Llama and GPT-2 against transformers."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from ssir.spec.load import load
from tests.oracles import compare

LLAMA = {
    "e.weight": "model.embed_tokens.weight",
    "logits.rms_norm.weight": "model.norm.weight",
    "logits.linear.weight": "lm_head.weight",
    "x.{}.mixed.rms_norm.weight": "model.layers.{}.input_layernorm.weight",
    "x.{}.mixed.mixer.q.weight": "model.layers.{}.self_attn.q_proj.weight",
    "x.{}.mixed.mixer.k.weight": "model.layers.{}.self_attn.k_proj.weight",
    "x.{}.mixed.mixer.v.weight": "model.layers.{}.self_attn.v_proj.weight",
    "x.{}.mixed.mixer.out.weight": "model.layers.{}.self_attn.o_proj.weight",
    "x.{}.y.rms_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
    "x.{}.y.mlp.gate.weight": "model.layers.{}.mlp.gate_proj.weight",
    "x.{}.y.mlp.up.weight": "model.layers.{}.mlp.up_proj.weight",
    "x.{}.y.mlp.down.weight": "model.layers.{}.mlp.down_proj.weight",
}


@pytest.mark.parametrize("via", compare.VIA)
@pytest.mark.parametrize(("kv", "group"), [(2, 2), (1, 4), (4, 1)])
def test_llama_agrees_with_transformers(via: str, kv: int, group: int) -> None:
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=kv * group,
        num_key_value_heads=kv,
        rms_norm_eps=1e-5,
    )
    theirs = compare.built(lambda: LlamaForCausalLM(config))
    spec = load("transformer", vocab=11, model=16, layers=2, kv=kv, group=group, hidden=12)
    ours, x = compare.Model(spec, via), compare.tokens(11)
    mapping = compare.per_layer(LLAMA, 2)
    compare.same(ours, lambda x: theirs(x).logits, dict(theirs.named_parameters()), mapping, x)
    compare.stepwise(ours, x, 4)


def _third(name: str, which: int) -> compare.Part:
    """One of the three maps that stand side by side in one matrix, inputs first."""
    return compare.Part(name, lambda x: x.chunk(3, -1)[which].mT if x.dim() > 1 else x.chunk(3)[which])


GPT2: dict[str, str | compare.Part] = {
    "token.weight": "transformer.wte.weight",
    "place.weight": "transformer.wpe.weight",
    "logits.layer_norm.weight": "transformer.ln_f.weight",
    "logits.layer_norm.bias": "transformer.ln_f.bias",
    "x.{}.mixed.layer_norm.weight": "transformer.h.{}.ln_1.weight",
    "x.{}.mixed.layer_norm.bias": "transformer.h.{}.ln_1.bias",
    **{
        f"x.{{}}.mixed.mixer.{part}.{leaf}": _third(f"transformer.h.{{}}.attn.c_attn.{leaf}", i)
        for i, part in enumerate("qkv")
        for leaf in ("weight", "bias")
    },
    "x.{}.mixed.mixer.out.weight": compare.transposed("transformer.h.{}.attn.c_proj.weight"),
    "x.{}.mixed.mixer.out.bias": "transformer.h.{}.attn.c_proj.bias",
    "x.{}.y.layer_norm.weight": "transformer.h.{}.ln_2.weight",
    "x.{}.y.layer_norm.bias": "transformer.h.{}.ln_2.bias",
    "x.{}.y.mlp.up.weight": compare.transposed("transformer.h.{}.mlp.c_fc.weight"),
    "x.{}.y.mlp.up.bias": "transformer.h.{}.mlp.c_fc.bias",
    "x.{}.y.mlp.down.weight": compare.transposed("transformer.h.{}.mlp.c_proj.weight"),
    "x.{}.y.mlp.down.bias": "transformer.h.{}.mlp.c_proj.bias",
}


@pytest.mark.parametrize("via", compare.VIA)
def test_gpt2_agrees_with_transformers(via: str) -> None:
    config = GPT2Config(vocab_size=11, n_positions=9, n_embd=16, n_layer=2, n_head=4)
    theirs = compare.built(lambda: GPT2LMHeadModel(config))
    spec = load("gpt2", vocab=11, length=9, model=16, layers=2, head=4)
    ours, x = compare.Model(spec, via), compare.tokens(11)
    mapping = compare.per_layer(GPT2, 2)
    compare.same(ours, lambda x: theirs(x).logits, dict(theirs.named_parameters()), mapping, x)
    compare.stepwise(ours, x, 4)


def test_a_rotation_is_the_same_from_any_start() -> None:
    """Attention sees only the distance between positions: a reset in the middle starts afresh."""
    ours = compare.Model(load("transformer", vocab=11, model=16, layers=1, kv=2, group=1, hidden=12)).fill()
    x = compare.tokens(11)
    reset = torch.zeros(x.shape, dtype=torch.bool)
    reset[:, 4] = True
    whole, _ = ours(x, reset=reset)
    alone, _ = ours(x[:, 4:])
    compare.close(whole[:, 4:], alone)
