"""Nothing that stands later, or in another document, changes anything, not even NaN: over sequences, in steps, in gradients."""

import pytest
import torch
from torch import Tensor

import ssir
from ssir.compilers.runtime.model import Model

DIMS = "{n: 16, m: 7, head: 2, key: 16, value: 5, long: 20, short: 3, slot: unbounded, all: unbounded}"
CAUSAL = {
    "attention": "q: linear(x, key)\nr: {state: [slot, value], A: shift(slot), input: 'linear(x, value)', C: 'softmax(dot(q, window(linear(x, key), slot), over=key), over=slot)'}\ny: linear(r, n)",
    "attention in a window": "q: linear(x, key)\nr: {state: [long, value], A: shift(long), input: 'linear(x, value)', C: 'softmax(dot(q, window(linear(x, key), long), over=key), over=long)'}\ny: linear(r, n)",
    "a bias by the distance": "s: dot(x, window(x, slot), over=n) - 0.1 * arange(slot)\ny: dot(softmax(s, over=slot), window(x, slot), over=slot)",
    "a bias in a window": "s: dot(x, window(x, long), over=n) - 0.1 * arange(long)\ny: dot(softmax(s, over=long), window(x, long), over=long)",
    "the age of a slot": "y: dot(window(x, slot), 0.5 ** arange(slot), over=slot)",
    "a short window": "y: mean(window(x, short), over=short) + max(window(x, short), over=short)",
    "a mean of all that was": "y: mean(window(x, slot), over=slot)",
}
WHOLE = {
    "a mean": "y: mean(context(x, all), over=all)",
    "extremes": "y: max(context(x, all), over=all) - min(context(2 * x, all), over=all) + sum(context(x, all), over=all)",
    "a softmax": "y: dot(softmax(context(x, all), over=all), context(x, all), over=all)",
    "attention to all": "y: dot(softmax(dot(x, context(x, all), over=n), over=all), context(x, all), over=all)",
    "attention with a bias": "y: dot(softmax(dot(x, context(x, all), over=n) - abs(position - arange(all)), over=all), context(x, all), over=all)",
    "weights of their own": "y: dot(tanh(dot(x, context(x, all), over=n)), context(x, all), over=all)",
    "the entry at a position": "y: x + select(context(x, all), all, position) + select(context(x, all), all, 0)",
}
STEPS, CUT = 30, 17


def compiled(graph: str) -> Model:
    lines = "\n".join(f"      {line}" for line in graph.strip().splitlines())
    text = f"ssir: 1\nname: one\ndims: {DIMS}\ncomponents:\n  main:\n    input: {{x: [n]}}\n    graph:\n{lines}\n    output: y\nmain: main\n"
    model: Model = ssir.compile(ssir.loads(text), dtype=torch.float64)
    return model


def given(poison: float = 0.0, start: int = CUT) -> Tensor:
    x = torch.randn(2, STEPS, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[:, start:] += poison
    return x


def parted() -> Tensor:
    reset = torch.zeros(2, STEPS, dtype=torch.bool)
    reset[:, CUT] = True
    return reset


@pytest.mark.parametrize("name", CAUSAL)
def test_what_comes_later_changes_nothing(name: str) -> None:
    model = compiled(CAUSAL[name])
    with torch.no_grad():
        assert torch.allclose(model(given(torch.nan))[0][:, :CUT], model(given())[0][:, :CUT], atol=1e-12)
        assert not model(given(torch.nan))[0][:, CUT:].isfinite().any()


@pytest.mark.parametrize("name", [*CAUSAL, *WHOLE])
def test_another_document_changes_nothing(name: str) -> None:
    model = compiled((CAUSAL | WHOLE)[name])
    results = []
    for poison in (0.0, torch.nan):
        x = given(poison).requires_grad_()
        y, _ = model(x, reset=parted())
        up = torch.ones_like(y)
        up[:, CUT:] = poison
        (grad,) = torch.autograd.grad(y, x, up)
        results.append((y[:, :CUT].detach(), grad[:, :CUT]))
    for got, want in zip(*results[::-1], strict=True):
        assert torch.allclose(got, want, atol=1e-12)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_reset_closes_what_is_not_finite_for_the_steps_after_it(name: str) -> None:
    model = compiled(CAUSAL[name])
    x, wanted = given(), model(given()[:, CUT:])[0]
    x[:, :CUT] = torch.nan
    with torch.no_grad():
        y, _ = model(x, reset=parted())
        assert torch.allclose(y[:, CUT:], wanted, atol=1e-12)
        _, state = model(x[:, : CUT - 1])
        for t in range(CUT - 1, STEPS):
            step, state = model.step(x[:, t], state, parted()[:, t])
            if t >= CUT:
                assert torch.allclose(step, wanted[:, t - CUT], atol=1e-12)
        _, state = model(x[:, :CUT])
        rest, _ = model(x[:, CUT:], state, parted()[:, CUT:])
        assert torch.allclose(rest, wanted, atol=1e-12)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_window_that_has_passed_what_is_not_finite_is_finite(name: str) -> None:
    if "window" not in name:
        return
    model = compiled(CAUSAL[name])
    x = given()
    x[:, 0] = torch.nan
    y, state = model(x)
    size = 3 if "short" in name else 20
    assert not y[:, :size].isfinite().all(-1).any() and y[:, size:].isfinite().all()
    assert all(value.isfinite().all() for value in state.values())


@pytest.mark.parametrize("name", [*CAUSAL, *WHOLE])
def test_no_batch_gives_nothing(name: str) -> None:
    model = compiled((CAUSAL | WHOLE)[name])
    for reset in (None, torch.ones(0, 5, dtype=torch.bool)):
        y, _ = model(torch.randn(0, 5, 16, dtype=torch.float64), reset=reset)
        assert y.shape == (0, 5, 16)
