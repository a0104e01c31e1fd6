"""Mamba against transformers."""

import pytest
from transformers import MambaConfig, MambaForCausalLM

from ssir.spec.load import load
from tests.oracles import compare

RANK, STATE = 2, 4


def _rows(start: int, stop: int) -> compare.Part:
    """Some rows of the map that gives step, input and readout at once."""
    return compare.Part("backbone.layers.{}.mixer.x_proj.weight", lambda x: x[start:stop])


MAMBA: dict[str, str | compare.Part] = {
    "e.weight": "backbone.embeddings.weight",
    "logits.rms_norm.weight": "backbone.norm_f.weight",
    "x.{}.y.rms_norm.weight": "backbone.layers.{}.norm.weight",
    "x.{}.y.mixer.x0.weight": compare.Part("backbone.layers.{}.mixer.in_proj.weight", lambda x: x.chunk(2)[0]),
    "x.{}.y.mixer.z.weight": compare.Part("backbone.layers.{}.mixer.in_proj.weight", lambda x: x.chunk(2)[1]),
    # Their kernel has the newest input last.
    "x.{}.y.mixer.conv.C": compare.Part("backbone.layers.{}.mixer.conv1d.weight", lambda x: x[:, 0].flip(1).mT),
    "x.{}.y.mixer.conv_bias": "backbone.layers.{}.mixer.conv1d.bias",
    "x.{}.y.mixer.low.weight": _rows(0, RANK),
    "x.{}.y.mixer.s.B.weight": _rows(RANK, RANK + STATE),
    "x.{}.y.mixer.s.C.weight": _rows(RANK + STATE, RANK + 2 * STATE),
    "x.{}.y.mixer.dt.weight": "backbone.layers.{}.mixer.dt_proj.weight",
    "x.{}.y.mixer.dt.bias": "backbone.layers.{}.mixer.dt_proj.bias",
    "x.{}.y.mixer.A_log": "backbone.layers.{}.mixer.A_log",
    "x.{}.y.mixer.s.D": "backbone.layers.{}.mixer.D",
    "x.{}.y.mixer.y.weight": "backbone.layers.{}.mixer.out_proj.weight",
}


@pytest.mark.parametrize("via", compare.VIA)
def test_mamba_agrees_with_transformers(via: str) -> None:
    config = MambaConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=2, state_size=STATE, time_step_rank=RANK, use_cache=False
    )
    theirs = compare.built(lambda: MambaForCausalLM(config))
    spec = load("mamba", vocab=11, model=8, layers=2, state=STATE, rank=RANK)
    ours, x = compare.Model(spec, via), compare.tokens(11)
    mapping = compare.per_layer(MAMBA, 2)
    compare.same(ours, lambda x: theirs(x).logits, dict(theirs.named_parameters()), mapping, x)
    compare.stepwise(ours, x, 4)
