"""Zamba against transformers."""

import pytest
from transformers import ZambaConfig, ZambaForCausalLM

from ssir.spec.load import load
from tests.oracles import compare

LAYERS, STATE, RANK = 9, 5, 4


def _rows(name: str, start: int, stop: int) -> compare.Part:
    return compare.Part(name, lambda x: x[:, start:stop])


def _every_second(start: int) -> compare.Part:
    """Their channels alternate between the input and its gate."""
    return compare.Part("mamba.in_proj.weight", lambda x: x[start::2])


BLOCK: dict[str, str | compare.Part] = {
    "y.rms_norm.weight": "input_layernorm.weight",
    "y.mixer.x0.weight": _every_second(0),
    "y.mixer.z.weight": _every_second(1),
    # Their kernel has the newest input last.
    "y.mixer.conv.C": compare.Part("mamba.conv1d.weight", lambda x: x[:, 0].flip(1).mT),
    "y.mixer.conv_bias": "mamba.conv1d.bias",
    "y.mixer.low.weight": _rows("mamba.x_proj_weight", 0, RANK),
    "y.mixer.s.B.weight": _rows("mamba.x_proj_weight", RANK, RANK + STATE),
    "y.mixer.s.C.weight": _rows("mamba.x_proj_weight", RANK + STATE, RANK + 2 * STATE),
    "y.mixer.dt.weight": "mamba.dt_proj_weight",
    "y.mixer.dt.bias": "mamba.dt_proj_bias",
    "y.mixer.A_log": "mamba.A_log",
    "y.mixer.s.D": "mamba.D",
    "y.mixer.y.weight": "mamba.out_proj.weight",
}
SHARED = {
    "mixed.rms_norm.weight": "input_layernorm.weight",
    **{f"mixed.attention_mixer.{one}.weight": f"self_attn.{one}_proj.weight" for one in "qkv"},
    "mixed.attention_mixer.y.weight": "self_attn.o_proj.weight",
    "y.rms_norm.weight": "pre_ff_layernorm.weight",
    **{f"y.mlp.{one}.weight": f"feed_forward.{one}_proj.weight" for one in ("gate", "up", "down")},
}


def _mapping() -> dict[str, compare.Part]:
    parts = {
        "e.weight": compare.Part("model.embed_tokens.weight"),
        "logits.rms_norm.weight": compare.Part("model.final_layernorm.weight"),
    }
    parts |= {f"shared.{ours}": compare.Part(f"model.layers.2.shared_transf.{part}") for ours, part in SHARED.items()}
    for i in range(LAYERS):
        at, hybrid = (f"x0.{i}" if i < 3 else f"x.{i - 3}"), i in (2, 7)
        below = f"model.layers.{i}.mamba_decoder" if hybrid else f"model.layers.{i}"
        for ours, part in BLOCK.items():
            part = compare.Part(part) if isinstance(part, str) else part
            parts[f"{at}.{ours}"] = compare.Part(f"{below}.{part.name}", part.view)
        if hybrid:
            parts[f"{at}.seen.linear.weight"] = compare.Part(f"model.layers.{i}.linear.weight")
    return parts


@pytest.mark.parametrize("via", compare.VIA)
def test_zamba_agrees_with_transformers(via: str) -> None:
    config = ZambaConfig(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        mamba_d_state=STATE,
        mamba_dt_rank=RANK,
        pad_token_id=None,  # a padding token would get no gradient
        use_cache=False,
    )
    theirs = compare.built(lambda: ZambaForCausalLM(config))
    ours = compare.Model(load("zamba", vocab=11, model=16, layers=LAYERS, head=2, state=STATE, rank=RANK), via)
    x = compare.tokens(11, time=12)
    compare.same(ours, lambda x: theirs(x).logits, dict(theirs.named_parameters()), _mapping(), x)
    compare.stepwise(ours, x, 4)


def test_calls_that_share_weights_remember_apart() -> None:
    model = compare.Model(load("zamba", vocab=11, model=16, layers=LAYERS, head=2, state=STATE, rank=RANK), "compiled")
    _, state = model.fill()(compare.tokens(11, time=5))
    first, second = (
        state["x0.2.seen.shared.mixed.attention_mixer.read"],
        state["x.4.seen.shared.mixed.attention_mixer.read"],
    )
    assert first.shape == second.shape == (2, 5, 2, 16)
    assert (first - second).abs().min() > 0
