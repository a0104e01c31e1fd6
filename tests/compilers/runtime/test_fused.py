"""`ssir.compile(..., fuse=True)`: whole sequences by torch.compile give what they give without it."""

import copy
import functools
import itertools
import pickle
import shutil

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

import ssir
from ssir.compilers.runtime.model import Model
from ssir.errors import EnvironmentLacks, UsageError
from tests.small import small

from .habits import close, tokens

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.compile warns of itself

TRACED = functools.partial(torch.compile, backend="eager")  # seen through as ever, and run by torch


@pytest.fixture(autouse=True)
def _anew() -> None:
    torch._dynamo.reset()
    counters.clear()


def pair(name: str) -> tuple[Model, Model]:
    """A model as it is, and the same one fused."""
    return ssir.compile(small(name), dtype="float64"), ssir.compile(small(name), dtype="float64", fuse=True)


def agree(plain: Model, fused: Model, x: Tensor, reset: Tensor | None = None) -> None:
    (y, state), (wanted, wanted_state) = fused(x, reset=reset), plain(x, reset=reset)
    close(y, wanted)
    for name, value in wanted_state.items():
        held = state[name]
        # What no document sees any more is let go only where nobody watches.
        close(held[:, held.shape[1] - value.shape[1] :] if held.shape != value.shape else held, value)
    (y, _), (wanted, _) = fused(x, state=state), plain(x, state=wanted_state)
    close(y, wanted)
    found, truth = (
        torch.autograd.grad(one.square().sum(), list(m.parameters())) for one, m in ((y, fused), (wanted, plain))
    )
    for (name, _), one, two in zip(plain.named_parameters(), found, truth, strict=True):
        assert (one - two).abs().max() < 1e-9 * max(1.0, float(two.abs().max())), name


@pytest.mark.parametrize("name", ["mamba", "transformer"])
def test_fused_sequences_are_the_same(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch, "compile", TRACED)
    plain, fused = pair(name)
    agree(plain, fused, tokens(3, 20), torch.rand(3, 20, generator=torch.Generator().manual_seed(0)) < 0.2)
    agree(plain, fused, tokens(1, 1))
    assert not counters["graph_break"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mamba", "griffin", "lstm", "gated_delta_net", "transformer", "hyena", "rwkv7"])
def test_inductor_computes_the_same(name: str) -> None:
    plain, fused = pair(name)
    for batch, steps in ((3, 20), (1, 1), (1, 63)):
        agree(plain, fused, tokens(batch, steps))
    agree(plain, fused, tokens(3, 20), torch.rand(3, 20, generator=torch.Generator().manual_seed(0)) < 0.2)


@pytest.mark.parametrize("name", ["mamba", "gated_delta_net"])
def test_lengths_share_programs(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """One program at most for each power of two."""
    monkeypatch.setattr(torch, "compile", TRACED)
    _, fused = pair(name)
    with torch.no_grad():
        for steps in itertools.chain(range(2, 9), (15, 16, 17, 31, 33, 64, 65, 100, 127, 128, 200, 256)):
            fused(tokens(2, steps))
    assert counters["stats"]["unique_graphs"] <= 8


def test_a_fused_model_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", TRACED)
    plain, fused = pair("lstm")
    x = tokens(2, 9)
    wanted, _ = plain(x)
    fused(x)
    for made in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        assert made.fused
        close(made(x)[0], wanted)
    y, _ = fused(x, lengths=torch.tensor([9, 4]))
    close(y[0], wanted[0])


def test_only_what_torch_runs_is_fused() -> None:
    with pytest.raises(UsageError, match="nothing to fuse"):
        ssir.compile(small("lstm"), backend="c", fuse=True)


def test_without_a_compiler_nothing_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EnvironmentLacks, match=r"C\+\+ compiler"):
        ssir.compile(small("lstm"), fuse=True)
