"""Layers without memory: gated linear units against those of transformers' T5, linear compression against its equation."""

import pytest
import torch
from torch import Tensor
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5DenseGatedActDense

from ssir.spec.load import load
from tests.oracles import compare

GATES = {"glu": "sigmoid", "bilinear": "linear", "reglu": "relu", "geglu": "gelu", "swiglu": "silu"}


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("via", compare.VIA)
@pytest.mark.parametrize("name", GATES)
def test_gated_linear_units_agree_with_transformers(via: str, name: str) -> None:
    config = T5Config(d_model=5, d_ff=7, feed_forward_proj="gated-gelu", dropout_rate=0.0)
    config.dense_act_fn = GATES[name]
    theirs = compare.built(lambda: T5DenseGatedActDense(config))
    ours = compare.Model(load(f"glu.{name}", model=5, hidden=7), via)
    mapping = compare.per_layer(
        {"gate.weight": "wi_0.weight", "up.weight": "wi_1.weight", "down.weight": "wo.weight"}, 1
    )
    compare.same(ours, theirs, dict(theirs.named_parameters()), mapping, _random(2, 6, 5))


@pytest.mark.parametrize("via", compare.VIA)
def test_embeddings_are_compressed_by_one_matrix(via: str) -> None:
    w, x = _random(3, 4).requires_grad_(), _random(2, 6, 4, 5)
    ours = compare.Model(load("lce", many=4, few=3, model=5), via)
    parts = compare.per_layer({"y.weight": "w"}, 1)
    compare.same(ours, lambda x: (w @ x).mT, {"w": w}, parts, x)
    recent = compare.Model(load("lce.recent", many=4, few=3, model=5), via)
    w = _random(3, 4, seed=1).requires_grad_()

    def last(x: Tensor) -> Tensor:
        """The newest of the last four first, nothing before the first."""
        past = torch.cat([x.new_zeros(2, 3, 5), x], 1).unfold(1, 4, 1).flip(-1)
        return torch.einsum("fm,btdm->btdf", w, past)

    parts = compare.per_layer({"y.linear.weight": "w"}, 1)
    compare.same(recent, last, {"w": w}, parts, x[:, :, 0])
    compare.stepwise(recent, x[:, :, 0], 3)
