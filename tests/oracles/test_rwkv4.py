"""RWKV-4 against transformers."""

import pytest
import torch
from transformers import RwkvConfig, RwkvForCausalLM

from ssir.spec.load import load
from tests.oracles import compare

RWKV: dict[str, str | compare.Part] = {
    "e.weight": "rwkv.embeddings.weight",
    "x.input.weight": "rwkv.blocks.0.pre_ln.weight",
    "x.input.bias": "rwkv.blocks.0.pre_ln.bias",
    "logits.layer_norm.weight": "rwkv.ln_out.weight",
    "logits.layer_norm.bias": "rwkv.ln_out.bias",
    "logits.linear.weight": "head.weight",
    "x.{}.mixed.layer_norm.weight": "rwkv.blocks.{}.ln1.weight",
    "x.{}.mixed.layer_norm.bias": "rwkv.blocks.{}.ln1.bias",
    "x.{}.y.layer_norm.weight": "rwkv.blocks.{}.ln2.weight",
    "x.{}.y.layer_norm.bias": "rwkv.blocks.{}.ln2.bias",
    "x.{}.mixed.mixer.mu_k": "rwkv.blocks.{}.attention.time_mix_key",
    "x.{}.mixed.mixer.mu_v": "rwkv.blocks.{}.attention.time_mix_value",
    "x.{}.mixed.mixer.mu_r": "rwkv.blocks.{}.attention.time_mix_receptance",
    "x.{}.mixed.mixer.time_decay": "rwkv.blocks.{}.attention.time_decay",
    "x.{}.mixed.mixer.u": "rwkv.blocks.{}.attention.time_first",
    "x.{}.mixed.mixer.k.weight": "rwkv.blocks.{}.attention.key.weight",
    "x.{}.mixed.mixer.v.weight": "rwkv.blocks.{}.attention.value.weight",
    "x.{}.mixed.mixer.r.weight": "rwkv.blocks.{}.attention.receptance.weight",
    "x.{}.mixed.mixer.y.weight": "rwkv.blocks.{}.attention.output.weight",
    "x.{}.y.channel_mixer.mu_k": "rwkv.blocks.{}.feed_forward.time_mix_key",
    "x.{}.y.channel_mixer.mu_r": "rwkv.blocks.{}.feed_forward.time_mix_receptance",
    "x.{}.y.channel_mixer.k.weight": "rwkv.blocks.{}.feed_forward.key.weight",
    "x.{}.y.channel_mixer.v.weight": "rwkv.blocks.{}.feed_forward.value.weight",
    "x.{}.y.channel_mixer.r.weight": "rwkv.blocks.{}.feed_forward.receptance.weight",
}


@pytest.mark.parametrize("via", compare.VIA)
def test_rwkv4_agrees_with_transformers(via: str) -> None:
    config = RwkvConfig(vocab_size=11, hidden_size=8, num_hidden_layers=2, rescale_every=0, use_cache=False)
    theirs = compare.built(lambda: RwkvForCausalLM(config))
    ours, x = compare.Model(load("rwkv4", vocab=11, model=8, layers=2), via), compare.tokens(11)
    mapping = compare.per_layer(RWKV, 2)
    compare.same(ours, lambda x: theirs(x, use_cache=False).logits, dict(theirs.named_parameters()), mapping, x)
    compare.stepwise(ours, x, 4)


@pytest.mark.parametrize("via", compare.VIA)
def test_large_keys_do_not_overflow(via: str) -> None:
    ours = compare.Model(load("rwkv4.mixer", model=8, layers=1), via).fill()
    x = 300 * torch.randn(2, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y, _ = ours(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in ours.gradients().values())
