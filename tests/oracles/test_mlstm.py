"""The mLSTM of xLSTM 7B against transformers' xLSTM, step by step and in chunks, and against long memories in float32."""

import pytest
import torch
from transformers import xLSTMConfig, xLSTMForCausalLM

import ssir
from ssir.spec.load import load
from tests.oracles import compare

VOCAB, MODEL, HEAD, LAYERS, HIDDEN = 11, 16, 2, 2, 64

XLSTM: dict[str, str | compare.Part] = {
    "e.weight": "backbone.embeddings.weight",
    "logits.rms_norm.weight": "backbone.out_norm.weight",
    "logits.linear.weight": "lm_head.weight",
    "x.{}.mixed.rms_norm.weight": "backbone.blocks.{}.norm_mlstm.weight",
    "x.{}.y.rms_norm.weight": "backbone.blocks.{}.norm_ffn.weight",
    **{f"x.{{}}.mixed.mixer.{name}.weight": f"backbone.blocks.{{}}.mlstm_layer.{name}.weight" for name in "qkv"},
    "x.{}.mixed.mixer.o.weight": "backbone.blocks.{}.mlstm_layer.ogate_preact.weight",
    **{
        f"x.{{}}.mixed.mixer.{name}.{leaf}": f"backbone.blocks.{{}}.mlstm_layer.{name}gate_preact.{leaf}"
        for name in "if"
        for leaf in ("weight", "bias")
    },
    "x.{}.mixed.mixer.y.group_norm.weight": "backbone.blocks.{}.mlstm_layer.multihead_norm.weight",
    "x.{}.mixed.mixer.y.linear.weight": "backbone.blocks.{}.mlstm_layer.out_proj.weight",
    "x.{}.y.mlp.gate.weight": "backbone.blocks.{}.ffn.proj_up_gate.weight",
    "x.{}.y.mlp.up.weight": "backbone.blocks.{}.ffn.proj_up.weight",
    "x.{}.y.mlp.down.weight": "backbone.blocks.{}.ffn.proj_down.weight",
}


@pytest.mark.parametrize("chunk", [4, 64])
@pytest.mark.parametrize("via", compare.VIA)
def test_mlstm_agrees_with_transformers(via: str, chunk: int) -> None:
    config = xLSTMConfig(
        vocab_size=VOCAB,
        hidden_size=MODEL,
        num_hidden_layers=LAYERS,
        num_heads=HEAD,
        chunk_size=chunk,
        ffn_round_up_to_multiple_of=HIDDEN,
        use_cache=False,
    )
    theirs = compare.built(lambda: xLSTMForCausalLM(config))
    ours = compare.Model(load("mlstm", vocab=VOCAB, model=MODEL, layers=LAYERS, head=HEAD, hidden=HIDDEN), via)
    x = compare.tokens(VOCAB)
    mapping = compare.per_layer(XLSTM, LAYERS)
    compare.same(ours, lambda x: theirs(x).logits, dict(theirs.named_parameters()), mapping, x)
    compare.stepwise(ours, x, 4)


def test_mlstm_keeps_its_scale_over_a_long_sequence_in_float32() -> None:
    """Gates from one cap to the other: exp(15) enters, thousands of steps pass, and the ratio C / n stays what it is."""
    spec = load("mlstm.mixer", None, model=MODEL, head=HEAD, layers=1)
    exact, quick = (ssir.compile(spec, dtype=dtype) for dtype in (torch.float64, torch.float32))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for (key, mine), theirs in zip(exact.named_parameters(), quick.parameters(), strict=True):
            wide = 20 if key.startswith(("i.", "f.")) and key.endswith("weight") else 1
            mine.copy_(wide * compare.random_like(mine, generator).float())
            theirs.copy_(mine)
        x = torch.randn(1, 3000, MODEL, generator=generator)
        expected, found = exact(x.double())[0], quick(x)[0]
    compare.close(found.double(), expected, tolerance=1e-4)
