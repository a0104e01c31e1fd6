"""Going on from a prompt."""

from typing import Any

import pytest
import torch

import ssir
from ssir.compilers.runtime.generate import sample, sampling
from ssir.compilers.runtime.model import InputError, Model
from tests.small import small

from .habits import tokens


def made(name: str = "mamba") -> Model:
    model: Model = ssir.compile(small(name), dtype="float64")
    return model


@pytest.mark.parametrize("name", ["mamba", "transformer", "griffin"])
def test_the_likeliest_token_follows_what_was_seen(name: str) -> None:
    model, x = made(name), tokens(2, 6)
    found, state = model.generate(x, 5, temperature=0)
    seen = x
    for i in range(5):
        seen = torch.cat([seen, model(seen)[0][:, -1].argmax(-1, keepdim=True)], 1)
        assert found[:, i].tolist() == seen[:, -1].tolist()
    wanted = model(seen[:, :-1])[1]
    for key, value in wanted.items():
        torch.testing.assert_close(state[key], value)
    half, state = model.generate(x, 2, temperature=0)
    rest, _ = model.generate(half[:, -1:], 3, temperature=0, state=state)
    assert torch.cat([half, rest], 1).tolist() == found.tolist()


def shares(
    logits: torch.Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> torch.Tensor:
    """How often each token is drawn."""
    torch.manual_seed(0)
    how = sampling(temperature, top_k, top_p, logits.device)
    found = sample(logits.expand(20_000, -1), how, top_k is not None or top_p is not None)
    return torch.bincount(found, minlength=len(logits)) / len(found)


LOGITS = torch.tensor([0.0, 2.0, 1.0, -1.0, 1.5])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_with_their_probability(temperature: float) -> None:
    torch.testing.assert_close(
        shares(LOGITS, temperature=temperature), (LOGITS / temperature).softmax(0), rtol=0, atol=0.01
    )


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"top_k": 2}, [1, 4]),
        ({"top_p": 0.5}, [1, 4]),
        ({"top_p": 0.01}, [1]),
        ({"top_k": 9}, [0, 1, 2, 3, 4]),
        ({"top_k": 3, "top_p": 0.9999}, [1, 2, 4]),
    ],
)
def test_only_the_likeliest_are_drawn(settings: dict[str, Any], left: list[int]) -> None:
    wanted = torch.zeros(5)
    wanted[left] = LOGITS[left].softmax(0)
    torch.testing.assert_close(shares(LOGITS, **settings), wanted, rtol=0, atol=0.01)


def test_the_same_seed_draws_the_same() -> None:
    model, x = made(), tokens(2, 4)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(model.generate(x, 12, temperature=5.0)[0].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_cannot_be_drawn_is_refused() -> None:
    model, x = made(), tokens(1, 3)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"temperature": -1.0}, "temperature is 0 or more"),
        ({"top_k": 0}, "top_k is 1 or more"),
        ({"top_p": 1.5}, "top_p is above 0"),
    ]
    for settings, words in wrong:
        with pytest.raises(ValueError, match=words):
            model.generate(x, 1, **settings)
    with pytest.raises(InputError, match="no token to go on from"):
        model.generate(x[:, :0], 1)
    with pytest.raises(InputError, match="does not"):
        made("bert").generate(x, 1)
