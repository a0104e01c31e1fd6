"""Mamba-2 against transformers."""

import pytest
from transformers import Mamba2Config, Mamba2ForCausalLM

from ssir.spec.load import load
from tests.oracles import compare

MODEL, INNER, GROUPS, HEADS, STATE = 8, 16, 2, 4, 3
CHANNELS = INNER + 2 * GROUPS * STATE


def _rows(start: int, stop: int) -> compare.Part:
    """Some rows of the map that gives gate, channels and step at once."""
    return compare.Part("backbone.layers.{}.mixer.in_proj.weight", lambda x: x[start:stop])


MAMBA2: dict[str, str | compare.Part] = {
    "e.weight": "backbone.embeddings.weight",
    "logits.rms_norm.weight": "backbone.norm_f.weight",
    "x.{}.y.rms_norm.weight": "backbone.layers.{}.norm.weight",
    "x.{}.y.mixer.z.weight": _rows(0, INNER),
    "x.{}.y.mixer.conv.input.weight": _rows(INNER, INNER + CHANNELS),
    "x.{}.y.mixer.dt.weight": _rows(INNER + CHANNELS, INNER + CHANNELS + HEADS),
    "x.{}.y.mixer.dt.bias": "backbone.layers.{}.mixer.dt_bias",
    # Their kernel has the newest input last.
    "x.{}.y.mixer.conv.C": compare.Part("backbone.layers.{}.mixer.conv1d.weight", lambda x: x[:, 0].flip(1).mT),
    "x.{}.y.mixer.conv_bias": "backbone.layers.{}.mixer.conv1d.bias",
    "x.{}.y.mixer.A_log": "backbone.layers.{}.mixer.A_log",
    "x.{}.y.mixer.s.D": "backbone.layers.{}.mixer.D",
    "x.{}.y.mixer.gain": "backbone.layers.{}.mixer.norm.weight",
    "x.{}.y.mixer.y.weight": "backbone.layers.{}.mixer.out_proj.weight",
}


@pytest.mark.parametrize("via", compare.VIA)
def test_mamba2_agrees_with_transformers(via: str) -> None:
    config = Mamba2Config(
        vocab_size=11,
        hidden_size=MODEL,
        num_hidden_layers=2,
        num_heads=HEADS,
        head_dim=INNER // HEADS,
        n_groups=GROUPS,
        state_size=STATE,
        chunk_size=4,
        tie_word_embeddings=True,
        use_cache=False,
    )
    theirs = compare.built(lambda: Mamba2ForCausalLM(config))
    spec = load("mamba2", vocab=11, model=MODEL, layers=2, group=GROUPS, value=INNER // HEADS, state=STATE)
    ours, x = compare.Model(spec, via), compare.tokens(11)
    mapping = compare.per_layer(MAMBA2, 2)
    compare.same(ours, lambda x: theirs(x).logits, dict(theirs.named_parameters()), mapping, x)
    compare.stepwise(ours, x, 4)
