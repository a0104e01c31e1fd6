"""Jamba against transformers."""

import pytest
from transformers import JambaConfig, JambaForCausalLM

from ssir.spec.load import load
from tests.oracles import compare

LAYERS, STATE, RANK, HIDDEN = 8, 5, 4, 12


def _rows(name: str, start: int, stop: int) -> compare.Part:
    return compare.Part(name, lambda x: x[start:stop])


def _half(name: str, which: int, dim: int) -> compare.Part:
    return compare.Part(name, lambda x: x.chunk(2, dim)[which])


MAMBA: dict[str, str | compare.Part] = {
    "mixed.mixer.x0.weight": _half("mamba.in_proj.weight", 0, 0),
    "mixed.mixer.z.weight": _half("mamba.in_proj.weight", 1, 0),
    # Their kernel has the newest input last.
    "mixed.mixer.conv.C": compare.Part("mamba.conv1d.weight", lambda x: x[:, 0].flip(1).mT),
    "mixed.mixer.conv_bias": "mamba.conv1d.bias",
    "mixed.mixer.low.linear.weight": _rows("mamba.x_proj.weight", 0, RANK),
    "mixed.mixer.low.rms_norm.weight": "mamba.dt_layernorm.weight",
    "mixed.mixer.s.B.linear.weight": _rows("mamba.x_proj.weight", RANK, RANK + STATE),
    "mixed.mixer.s.B.rms_norm.weight": "mamba.b_layernorm.weight",
    "mixed.mixer.s.C.linear.weight": _rows("mamba.x_proj.weight", RANK + STATE, RANK + 2 * STATE),
    "mixed.mixer.s.C.rms_norm.weight": "mamba.c_layernorm.weight",
    "mixed.mixer.dt.weight": "mamba.dt_proj.weight",
    "mixed.mixer.dt.bias": "mamba.dt_proj.bias",
    "mixed.mixer.A_log": "mamba.A_log",
    "mixed.mixer.s.D": "mamba.D",
    "mixed.mixer.y.weight": "mamba.out_proj.weight",
}
ATTENTION: dict[str, str | compare.Part] = {
    "mixed.attention_mixer.q.weight": "self_attn.q_proj.weight",
    "mixed.attention_mixer.k.weight": "self_attn.k_proj.weight",
    "mixed.attention_mixer.v.weight": "self_attn.v_proj.weight",
    "mixed.attention_mixer.y.weight": "self_attn.o_proj.weight",
}
MLP: dict[str, str | compare.Part] = {
    "y.mlp.gate.weight": "feed_forward.gate_proj.weight",
    "y.mlp.up.weight": "feed_forward.up_proj.weight",
    "y.mlp.down.weight": "feed_forward.down_proj.weight",
}
MIXTURE: dict[str, str | compare.Part] = {
    "y.mixture.p.weight": "feed_forward.router.weight",
    "y.mixture.y.gate": _half("feed_forward.experts.gate_up_proj", 0, 1),
    "y.mixture.y.up": _half("feed_forward.experts.gate_up_proj", 1, 1),
    "y.mixture.y.down": "feed_forward.experts.down_proj",
}
NORMS: dict[str, str | compare.Part] = {
    "mixed.rms_norm.weight": "input_layernorm.weight",
    "y.rms_norm.weight": "pre_ff_layernorm.weight",
}


def _mapping() -> dict[str, compare.Part]:
    parts = {
        "e.weight": compare.Part("model.embed_tokens.weight"),
        "logits.rms_norm.weight": compare.Part("model.final_layernorm.weight"),
        "logits.linear.weight": compare.Part("lm_head.weight"),
    }
    for i in range(LAYERS):
        layer = NORMS | (ATTENTION if i % 8 == 4 else MAMBA) | (MIXTURE if i % 2 else MLP)
        for ours, part in layer.items():
            part = compare.Part(part) if isinstance(part, str) else part
            parts[f"x.{i}.{ours}"] = compare.Part(f"model.layers.{i}.{part.name}", part.view)
    return parts


@pytest.mark.parametrize("via", compare.VIA)
def test_jamba_agrees_with_transformers(via: str) -> None:
    config = JambaConfig(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=5,
        mamba_d_state=STATE,
        mamba_dt_rank=RANK,
        pad_token_id=None,  # a padding token would get no gradient
        use_cache=False,
    )
    theirs = compare.built(lambda: JambaForCausalLM(config))
    theirs.set_experts_implementation("eager")
    dims: dict[str, float] = {"kv": 2, "group": 2, "state": STATE, "rank": RANK, "hidden": HIDDEN, "expert": 5}
    ours = compare.Model(load("jamba", None, vocab=11, model=16, layers=LAYERS, **dims), via)
    x = compare.tokens(11, time=12)
    compare.same(ours, lambda x: theirs(x).logits, dict(theirs.named_parameters()), _mapping(), x)
    compare.stepwise(ours, x, 4)
