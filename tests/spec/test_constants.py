"""pi and inf, and what a mask of -inf means."""

import math

import pytest
import torch

import ssir
from ssir.compilers.runtime.model import Model
from ssir.errors import SpecError
from ssir.spec.check import check

TEXT = """
ssir: 1
name: constants
dims: {{model: 4, slot: 3{dims}}}
constants: {{turn: 2 * pi}}
components:
  mixer:
    input: {{u: [model]}}
    graph:
{nodes}
    output: y
main: mixer
"""


def model(*nodes: str, dims: str = "") -> Model:
    text = TEXT.format(nodes="\n".join(f"      {node}" for node in nodes), dims=dims)
    check(ssir.loads(text))
    made: Model = ssir.compile(ssir.loads(text), dtype=torch.float64)
    return made


X = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_pi_and_inf_are_numbers() -> None:
    torch.testing.assert_close(model("y: sin(pi * u) + turn")(X)[0], torch.sin(math.pi * X) + 2 * math.pi)
    torch.testing.assert_close(model("y: minimum(u, inf) + maximum(u, -inf)")(X)[0], 2 * X)


@pytest.mark.parametrize(("nodes", "dims"), [(("pi: 2 * u", "y: pi"), ""), (("y: pi * u",), ", pi: 2")])
def test_what_a_spec_calls_pi_stands_before_it(nodes: tuple[str, ...], dims: str) -> None:
    torch.testing.assert_close(model(*nodes, dims=dims)(X)[0], 2 * X)


@pytest.mark.parametrize("node", ["y: delay(u, steps=inf)", "y: {stack: [mixer], times: inf, input: u}"])
def test_a_count_is_finite(node: str) -> None:
    with pytest.raises(SpecError):
        model(node)


def test_a_size_is_finite() -> None:
    with pytest.raises(SpecError, match="whole number"):
        check(ssir.loads(TEXT.format(nodes="      y: u", dims=", w: inf")))


def test_minus_inf_in_a_softmax_masks() -> None:
    one = model(
        "s: where(arange(slot) > 0, -inf, sum(u, over=model))",
        "y: u * sum(softmax(s, over=slot) * arange(slot), over=slot)",
    )
    torch.testing.assert_close(one(X)[0], torch.zeros_like(X))
    torch.testing.assert_close(ssir.reference(one, X)[0], torch.zeros_like(X))


def test_a_masked_slot_of_a_memory_is_not_read() -> None:
    one = model(
        "scores: where(arange(slot) > 1, -inf, dot(u, window(u, slot), over=model))",
        "y: {state: [slot, model], A: shift(slot), input: u, C: 'softmax(scores, over=slot)'}",
    )
    before = torch.cat([torch.zeros_like(X[:, :1]), X[:, :-1]], 1)
    scores = torch.stack([(X * X).sum(-1), (X * before).sum(-1)], -1)
    scores[:, 0, 1] = -torch.inf
    weights = scores.softmax(-1)
    expected = weights[..., :1] * X + weights[..., 1:] * before
    torch.testing.assert_close(one(X)[0], expected)
    torch.testing.assert_close(ssir.reference(one, X)[0], expected)
