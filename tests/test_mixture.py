"""The functions of the plugin `mixture` in specs: what runs is what they mean, and mistakes are pointed at."""

import pytest
import torch

import ssir
from ssir.compilers.plan import flops_per_token
from ssir.errors import SpecError
from tests.oracles.compare import Model

SPEC = """
ssir: 1
name: mix
dims: {{model: 4, part: 3, piece: 2, hidden: 5, expert: 6, out: 7, tap: 3, slot: unbounded}}
components:
  main:
    input: {{x: [{axes}]}}
    graph:
      y: {y}
    output: y
main: main
"""


def spec(y: str, axes: str = "model") -> ssir.Spec:
    return ssir.loads(SPEC.format(y=y, axes=axes))


CHOSEN = "softmax(linear(x, expert), over=expert) * top(linear(x, expert), 2, over=expert)"
CASES = {
    "chosen": (f"experts(x, {CHOSEN}, expert, hidden, out)", "model"),
    "renormalised": (f"experts(x, {CHOSEN} / sum({CHOSEN}, over=expert), expert, hidden, out, gated=false)", "model"),
    "all": ("experts(x, sigmoid(linear(x, expert)), expert, hidden, out, activation=gelu_tanh)", "model"),
    "per part": (
        "experts(x, top(linear(x, expert, over=model), 2, over=expert), expert, hidden, out, over=model)",
        "part, model",
    ),
    "several axes in and out": (
        f"experts(x, {CHOSEN}, expert, hidden, [tap, out], gated=false, activation=relu)",
        "part, piece",
    ),
    "to a number": (f"experts(x, {CHOSEN}, expert, hidden, [], activation=gelu)", "model"),
    "of the slots there": (
        "sum(window(x, tap) * top(sum(window(x, tap), over=model), 2, over=tap), over=tap)",
        "model",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_mixtures_run_as_they_mean(case: str) -> None:
    report = ssir.verify(spec(*CASES[case]), steps=(1, 6))
    assert report.ok, [row for row in report.rows if not row.ok]


def test_only_the_chosen_experts_cost_and_get_gradients() -> None:
    some, every = (spec(*CASES[case]).graph for case in ("chosen", "all"))
    one = 2.0 * (4 * 5 + 4 * 5 + 5 * 7)
    router = 2.0 * 4 * 6
    assert 2 * one < flops_per_token(ssir.compile(spec(*CASES["chosen"])).graph) < 2 * one + 2 * router + 30
    assert flops_per_token(ssir.compile(spec(*CASES["all"])).graph) > 6 * one
    assert some is not every
    model = Model(spec(*CASES["chosen"]), "compiled").fill()
    y, _ = model(torch.ones(1, 1, 4, dtype=torch.float64))
    y.sum().backward()
    used = model.gradients()["y.experts.down"].abs().amax((1, 2)) > 0
    assert used.sum() == 2


MISTAKES = {
    "experts(x, x, expert, hidden, out)": "SSIR014",
    "experts(x, linear(x, expert), expert, slot, out)": "SSIR018",
    "experts(linear(x, expert), linear(x, expert), expert, hidden, out, over=expert)": "SSIR014",
    "top(x, 5, over=model)": "SSIR018",
    "top(x, 0, over=model)": "SSIR018",
    "top(x, 1, over=expert)": "SSIR014",
}


@pytest.mark.parametrize("y", MISTAKES)
def test_mistakes_are_pointed_at(y: str) -> None:
    with pytest.raises(SpecError) as error:
        _ = spec(y).graph
    assert error.value.diagnostics[0].code == MISTAKES[y]
    assert error.value.diagnostics[0].span is not None
