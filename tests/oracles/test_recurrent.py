"""LSTM, in one direction and in two, and GRU against torch.nn."""

import pytest
import torch
from torch import Tensor, nn

from ssir.spec.load import load
from tests.oracles import compare

MODEL, LAYERS = 6, 2


class _Language(nn.Module):
    """Embedding, torch's layers, head."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, MODEL)
        self.rnn = cell(MODEL, MODEL, LAYERS, batch_first=True)
        self.head = nn.Linear(MODEL, 11)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.rnn(self.embedding(x))[0])
        return y


def _mapping(gates: str) -> dict[str, compare.Part]:
    def gate(name: str, i: int) -> compare.Part:
        return compare.Part(name, lambda x: x.chunk(len(gates))[i])

    names = {"W": "ih", "U": "hh"}
    parts: dict[str, str | compare.Part] = {
        "e.weight": "embedding.weight",
        "logits.weight": "head.weight",
        "logits.bias": "head.bias",
    }
    for i, letter in enumerate(gates):
        for ours, theirs in names.items():
            for leaf in ("weight", "bias"):
                parts[f"x.{{}}.{ours}_{letter}.{leaf}"] = gate(f"rnn.{leaf}_{theirs}_l{{}}", i)
    return compare.per_layer(parts, LAYERS)


@pytest.mark.parametrize("via", compare.VIA)
@pytest.mark.parametrize(("name", "cell", "gates"), [("lstm", nn.LSTM, "ifgo"), ("gru", nn.GRU, "rzn")])
def test_recurrent_networks_agree_with_torch(via: str, name: str, cell: type[nn.LSTM], gates: str) -> None:
    theirs = _Language(cell).double()
    compare.randomise(theirs)
    ours, x = compare.Model(load(name, vocab=11, model=MODEL, layers=LAYERS), via), compare.tokens(11, time=12)
    compare.same(ours, theirs, dict(theirs.named_parameters()), _mapping(gates), x)
    compare.stepwise(ours, x, 5)


@pytest.mark.parametrize("via", compare.VIA)
@pytest.mark.parametrize(("name", "cell", "gates"), [("lstm", nn.LSTM, "ifgo"), ("gru", nn.GRU, "rzn")])
def test_a_reset_starts_recurrent_networks_afresh(via: str, name: str, cell: type[nn.LSTM], gates: str) -> None:
    theirs = _Language(cell).double()
    compare.randomise(theirs)
    ours, x = compare.Model(load(name, vocab=11, model=MODEL, layers=LAYERS), via), compare.tokens(11, time=12)
    compare.copy(dict(theirs.named_parameters()), ours, _mapping(gates))
    reset = torch.zeros(x.shape, dtype=torch.bool)
    reset[:, [0, 5]] = True
    with torch.no_grad():
        expected = torch.cat([theirs(x[:, :5]), theirs(x[:, 5:])], 1)
        compare.close(ours(x, reset=reset)[0], expected)


class _Tagger(nn.Module):
    """Embedding, torch's layers in both directions, head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 2 * MODEL)
        self.rnn = nn.LSTM(2 * MODEL, MODEL, LAYERS, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * MODEL, 7)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.rnn(self.embedding(x))[0])
        return y


def _both_ways() -> dict[str, compare.Part]:
    parts: dict[str, str | compare.Part] = {"logits.weight": "head.weight", "logits.bias": "head.bias"}
    parts["x.input.weight"] = "embedding.weight"
    for way, suffix in (("ahead", ""), ("back", "_reverse")):
        for i, letter in enumerate("ifgo"):
            for ours, theirs in (("W", "ih"), ("U", "hh")):
                for leaf in ("weight", "bias"):
                    name = f"rnn.{leaf}_{theirs}_l{{}}{suffix}"
                    parts[f"x.{{}}.{way}.{ours}_{letter}.{leaf}"] = compare.Part(name, lambda x, i=i: x.chunk(4)[i])  # type: ignore[misc]
    return compare.per_layer(parts, LAYERS)


@pytest.mark.parametrize("via", compare.VIA)
def test_an_lstm_in_both_directions_agrees_with_torch_on_documents_too(via: str) -> None:
    theirs = _Tagger().double()
    compare.randomise(theirs)
    ours, x = (
        compare.Model(load("bilstm", vocab=11, model=MODEL, layers=LAYERS, label=7), via),
        compare.tokens(11, time=12),
    )
    compare.same(ours, theirs, dict(theirs.named_parameters()), _both_ways(), x)
    reset = torch.zeros(x.shape, dtype=torch.bool)
    reset[:, [0, 5]] = True
    with torch.no_grad():
        compare.close(ours(x, reset=reset)[0], torch.cat([theirs(x[:, :5]), theirs(x[:, 5:])], 1))
