"""The sLSTM against a transcription of its equations without a stabiliser, in which exponential gates stand as they are."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssir.spec.load import load
from tests.oracles import compare, equations
from tests.oracles.equations import layer_norm

VOCAB, MODEL, HEAD, LAYERS, HIDDEN = 11, 12, 2, 2, 10
CELL = MODEL // HEAD


def _weights() -> dict[str, Tensor]:
    shapes = {"embed": [VOCAB, MODEL], "norm": [MODEL], "head": [VOCAB, MODEL]}
    for n in range(LAYERS):
        block = {"norm1": [MODEL], "norm2": [MODEL], "taps": [4, MODEL], "conv_bias": [MODEL], "group": [MODEL]}
        block |= {"gate": [HIDDEN, MODEL], "up": [HIDDEN, MODEL], "down": [MODEL, HIDDEN]}
        for gate in "ifzo":
            block |= {f"W_{gate}": [HEAD, CELL, CELL], f"R_{gate}": [HEAD, CELL, CELL], f"b_{gate}": [HEAD, CELL]}
        shapes |= {f"{n}.{key}": shape for key, shape in block.items()}
    return equations.weights(shapes)


def _mixer(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """c = sigmoid(f) c + exp(i) tanh(z), n = sigmoid(f) n + exp(i), h = sigmoid(o) c / n, of gates W x + R h + b."""
    near = F.silu(equations.convolved(x, w["taps"]) + w["conv_bias"])
    entering = {
        gate: torch.einsum("bthd,hed->bthe", source.unflatten(-1, (HEAD, CELL)), w[f"W_{gate}"]) + w[f"b_{gate}"]
        for gate, source in (("i", near), ("f", near), ("z", x), ("o", x))
    }
    h = c = n = x.new_zeros(x.shape[0], HEAD, CELL)
    reads = []
    for t in range(x.shape[1]):
        i, f, z, o = (entering[gate][:, t] + torch.einsum("bhd,hed->bhe", h, w[f"R_{gate}"]) for gate in "ifzo")
        c = torch.sigmoid(f) * c + torch.exp(i) * torch.tanh(z)
        n = torch.sigmoid(f) * n + torch.exp(i)
        h = torch.sigmoid(o) * c / n
        reads.append(h)
    return layer_norm(torch.stack(reads, 1), w["group"].unflatten(-1, (HEAD, CELL))).flatten(2)


def _slstm(weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    x = weights["embed"][tokens]
    for n in range(LAYERS):
        w = equations.below(weights, f"{n}.")
        x = x + _mixer(w, layer_norm(x, w["norm1"]))
        y = layer_norm(x, w["norm2"])
        x = x + (F.gelu(y @ w["gate"].T) * (y @ w["up"].T)) @ w["down"].T
    return layer_norm(x, weights["norm"]) @ weights["head"].T


SLSTM = {
    "e.weight": "embed",
    "logits.layer_norm.weight": "norm",
    "logits.linear.weight": "head",
    "x.{}.mixed.layer_norm.weight": "{}.norm1",
    "x.{}.y.layer_norm.weight": "{}.norm2",
    "x.{}.mixed.mixer.conv.C": "{}.taps",
    "x.{}.mixed.mixer.conv_bias": "{}.conv_bias",
    "x.{}.mixed.mixer.y.weight": "{}.group",
    **{f"x.{{}}.mixed.mixer.W_{gate}.weight": f"{{}}.W_{gate}" for gate in "ifzo"},
    **{f"x.{{}}.mixed.mixer.R_{gate}.weight": f"{{}}.R_{gate}" for gate in "ifzo"},
    **{f"x.{{}}.mixed.mixer.R_{gate}.bias": f"{{}}.b_{gate}" for gate in "ifzo"},
    **{f"x.{{}}.y.mlp.{name}.weight": f"{{}}.{name}" for name in ("gate", "up", "down")},
}


@pytest.mark.parametrize("via", compare.VIA)
def test_slstm_agrees_with_its_equations(via: str) -> None:
    spec = load("slstm", vocab=VOCAB, model=MODEL, layers=LAYERS, head=HEAD, hidden=HIDDEN)
    ours, weights, x = compare.Model(spec, via), _weights(), compare.tokens(VOCAB)
    mapping = compare.per_layer(SLSTM, LAYERS)
    # The bias of the input gate scales c and n alike.
    compare.same(ours, lambda x: _slstm(weights, x), weights, mapping, x, idle="R_i.bias")
    compare.stepwise(ours, x, 4)
