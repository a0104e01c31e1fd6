"""Where forms went wrong unseen: read before with resets, memories that begin somewhere, remainders past a block, turns both ways.

Each spec is run in every form that fits it, at lengths that end inside a block, against its meaning.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ssir
from tests.compilers.test_forms import spec

PLACES = {
    "constant diagonal": "y: {{state: [n, m], A: 'sigmoid(param([n, m], init=normal(1)))', B: 'param([m], init=normal(1))', input: x, C: 'param([n, m], init=normal(1))'{more}}}",
    "constant turns": "z: {{state: [n, m], A: 'polar(0.95, param([n, m], init=uniform(0, 3)))', input: x, C: 'complex(param([m], init=normal(1)), param([n, m], init=normal(1)))'{more}}}\ny: real(z)",
    "gated diagonal": "y: {{state: [n, m], A: 'sigmoid(linear(x, [n, m]))', input: x, C: 'linear(x, m)'{more}}}",
    "selective": "dt: softplus(linear(x, n))\ny: {{state: [n, m], A: 'exp(-dt * softplus(param([n, m], init=normal(1))))', B: 'dt * linear(x, m)', input: x, C: 'linear(x, m)'{more}}}",
    "scalar decay": "y: {{state: [n, m], A: 'sigmoid(sum(linear(x, head), over=head))', B: 'linear(x, m)', input: x, C: 'linear(x, m)'{more}}}",
    "decay by key": "y: {{state: [n, m], A: 'sigmoid(linear(x, m))', B: 'linear(x, m)', input: x, C: 'linear(x, m)'{more}}}",
    "delta rule": "k: l2_norm(linear(x, m), over=m)\nb: sigmoid(sum(linear(x, head), over=head))\ny: {{state: [n, m], A: '1 - outer(b * k, k, over=m)', B: 'b * k', input: x, C: 'linear(x, m)'{more}}}",
    "constant matrix": "a: param([m, m_], init=normal(0.3))\ny: {{state: [n, m], A: 'dense(a, over=m)', B: 'param([m], init=normal(1))', input: x, C: 'param([m], init=normal(1))'{more}}}",
    "turns by the input": "y: {{state: [n, m], A: 'rotate(linear(x, half), over=m) * 0.9', B: 'linear(x, m)', input: x, C: 'linear(x, m)'{more}}}",
    "register": "y: {{state: [m, n], A: shift(m), input: x, C: 'linear(x, m)'{more}}}",
    "filter": "y: {{state: [m, n], A: shift(m), input: x, C: 'param([m, n], init=normal(1))'{more}}}",
}
MORE = {
    "read before": ", read: before",
    "that begins somewhere": ", initial: 'param([{axes}], init=normal(1))'",
    "that begins somewhere, read before": ", read: before, initial: 'param([{axes}], init=normal(1))'",
}
STEPS = 107  # 64 and 43 more: past a block, and past half of one


@pytest.mark.parametrize("more", MORE)
@pytest.mark.parametrize("place", PLACES)
def test_every_form_of_an_edge_agrees_with_its_meaning(place: str, more: str) -> None:
    axes = "m, n" if place in ("register", "filter") else "n, m"
    one = spec(PLACES[place].format(more=MORE[more].format(axes=axes)))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, STEPS, 3, dtype=torch.float64, generator=generator)
    reset = torch.rand(2, STEPS, generator=generator) < 0.05
    entries = ssir.compile(one).plan.entries
    forms = [{}, *({entry.path: other} for entry in entries for other in entry.others)]
    wanted: list[Tensor] = []
    for forced in forms:
        model = ssir.compile(one, dtype=torch.float64, seed=1, forms=forced)
        if not wanted:
            y, after = ssir.reference(model, x, reset=reset)
            wanted = found(model, y, after)
        for what, run in (("whole", whole), ("in pieces", pieces)):
            y, state = run(model, x, reset)
            for ours, theirs in zip(
                found(model, y, {name: state[name] for name in after if name in state}), wanted, strict=True
            ):
                torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9, msg=f"{forced}, {what}")


def whole(model: Any, x: Tensor, reset: Tensor) -> Any:
    return model(x, reset=reset)


def pieces(model: Any, x: Tensor, reset: Tensor) -> Any:
    first, state = model(x[:, :70], reset=reset[:, :70])
    rest, state = model(x[:, 70:], state=state, reset=reset[:, 70:])
    return torch.cat([first, rest], 1), state


def found(model: Any, y: Tensor, state: Any) -> list[Tensor]:
    """The output, the memories but the position, and the gradients of the parameters."""
    memories = [one for name, one in sorted(state.items()) if name != "position"]
    loss = y.square().sum() + sum(
        torch.view_as_real(one).square().sum() if one.is_complex() else one.square().sum() for one in memories
    )
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return [y, *memories, *(g for g in gradients if g is not None)]


@pytest.mark.parametrize("steps", [65, 96, 97, 111, 127])
@pytest.mark.parametrize("place", ["constant diagonal", "constant turns", "constant matrix"])
def test_the_state_is_right_after_every_remainder(place: str, steps: int) -> None:
    model = ssir.compile(spec(PLACES[place].format(more="")), dtype=torch.float64)
    x = torch.randn(2, steps, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y, state = model(x)
        wanted, after = ssir.reference(model, x)
    torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-10)
    for name in after:
        if name in state:
            torch.testing.assert_close(state[name].to(after[name].dtype), after[name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("pairs", ["interleaved", "halves"])
def test_turns_go_the_way_that_they_are_written(pairs: str) -> None:
    """By a right angle the first of a pair goes to the second, and the second to minus the first."""
    quarter = torch.pi / 2
    text = f"y: rotate(x, {quarter} * where(arange(half) < 2, 1, 0), over=key, pairs={pairs})"
    one = spec(text, "{x: [key]}")
    model = ssir.compile(one, dtype=torch.float64)
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]], dtype=torch.float64)
    wanted = [-2.0, 1.0, -4.0, 3.0] if pairs == "interleaved" else [-3.0, -4.0, 1.0, 2.0]
    for y in (model(x)[0], ssir.reference(model, x)[0]):
        assert y[0, 0].tolist() == pytest.approx(wanted)


def test_a_state_turns_the_way_that_it_is_written() -> None:
    one = spec(
        "y: {state: [key], A: 'rotate(0.5 * " + str(torch.pi) + " * (1 + 0 * arange(half)), over=key)', input: x}",
        "{x: [key]}",
    )
    model = ssir.compile(one, dtype=torch.float64)
    x = torch.zeros(1, 2, 4, dtype=torch.float64)
    x[0, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    for y in (model(x)[0], ssir.reference(model, x)[0]):
        assert y[0, 1].tolist() == pytest.approx([-2.0, 1.0, -4.0, 3.0])
