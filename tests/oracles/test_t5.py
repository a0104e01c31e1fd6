"""T5 against transformers."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from ssir.api import compile
from ssir.spec.load import load
from tests.oracles import compare

DIMS: dict[str, int] = {
    "vocab": 11,
    "model": 12,
    "layers": 2,
    "head": 3,
    "key": 4,
    "hidden": 10,
    "bucket": 8,
    "farthest": 20,
}


def _attention(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{one}.weight": f"{theirs}.{'o' if one == 'y' else one}.weight" for one in "qkvy"}


def _mlp(index: int) -> dict[str, str]:
    return {
        "y.rms_norm.weight": f"layer.{index}.layer_norm.weight",
        "y.mlp.up.weight": f"layer.{index}.DenseReluDense.wi.weight",
        "y.mlp.y.weight": f"layer.{index}.DenseReluDense.wo.weight",
    }


ENCODER = {
    "mixed.rms_norm.weight": "layer.0.layer_norm.weight",
    **_attention("mixed.self_attention", "layer.0.SelfAttention"),
    **_mlp(1),
}
DECODER = {
    "mixed.rms_norm.weight": "layer.0.layer_norm.weight",
    **_attention("mixed.mixer", "layer.0.SelfAttention"),
    "seen.rms_norm.weight": "layer.1.layer_norm.weight",
    **_attention("seen.cross_attention", "layer.1.EncDecAttention"),
    **_mlp(2),
}
T5: dict[str, str | compare.Part] = {
    "embedding.e.weight": "shared.weight",
    "encoder_bias.bias.weight": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    "decoder_bias.bias.embed.weight": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    "logits.encoder.y.weight": "encoder.final_layer_norm.weight",
    "logits.decoder.logits.rms_norm.weight": "decoder.final_layer_norm.weight",
    **{f"logits.encoder.x.{{}}.{ours}": f"encoder.block.{{}}.{theirs}" for ours, theirs in ENCODER.items()},
    **{f"logits.decoder.x.{{}}.{ours}": f"decoder.block.{{}}.{theirs}" for ours, theirs in DECODER.items()},
}


def built() -> Any:
    config = T5Config(
        vocab_size=DIMS["vocab"],
        d_model=DIMS["model"],
        d_kv=DIMS["key"],
        d_ff=DIMS["hidden"],
        num_layers=DIMS["layers"],
        num_heads=DIMS["head"],
        relative_attention_num_buckets=DIMS["bucket"],
        relative_attention_max_distance=DIMS["farthest"],
        use_cache=False,
    )
    return compare.built(lambda: T5ForConditionalGeneration(config))


@pytest.mark.parametrize("via", compare.VIA)
def test_t5_agrees_with_transformers(via: str) -> None:
    theirs, ours = built(), compare.Model(load("t5", None, **DIMS), via)
    target, source = compare.tokens(11, time=26), compare.tokens(11, time=31, seed=1)  # farther apart than all buckets

    def run(target: Tensor, source: Tensor) -> Tensor:
        return theirs(input_ids=source, decoder_input_ids=target).logits  # type: ignore[no-any-return]

    mapping = compare.per_layer(T5, DIMS["layers"])
    compare.same(ours, run, dict(theirs.named_parameters()), mapping, target, source)
    compare.stepwise(ours, target, 4, source)


def test_an_encoder_runs_once_for_all_steps_of_its_decoder() -> None:
    whole = compile(load("t5", None, **DIMS), dtype=torch.float64)
    parts = {name: compile(load(f"t5.{name}", None, **DIMS), dtype=torch.float64) for name in ("encoder", "decoder")}
    for name, part in parts.items():
        own = {key.removeprefix(f"logits.{name}."): value for key, value in whole.state_dict().items()}
        part.load_state_dict({key: own[key] for key in part.state_dict()})
    target, source = compare.tokens(11, time=6), compare.tokens(11, time=9, seed=1)
    with torch.no_grad():
        wanted, _ = whole(target, source)
        memory, _ = parts["encoder"](source)
        assert memory.shape == (2, 9, DIMS["model"])
        state, found = None, []
        for t in range(6):
            y, state = parts["decoder"].step(target[:, t], memory, state=state)
            found.append(y)
    compare.close(torch.stack(found, 1), wanted, "decoding")
