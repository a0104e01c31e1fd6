"""Newton's iteration over all steps at once gives what the loop gives."""

import re

import pytest
import torch
from torch import Tensor

import ssir
from ssir import passes
from ssir.compilers.forms import Setting
from ssir.compilers.loops.form import by_entry, compiled
from ssir.compilers.loops.spelling import Unfit
from ssir.compilers.plan import plan
from ssir.compilers.runtime import newton
from ssir.compilers.runtime.model import Model
from ssir.ir.graph import Graph
from tests.compilers.runtime.habits import close
from tests.small import component

GATED = "f: sigmoid(linear(x, n) + param([n], init=normal(1)) * delay(h))\nh: {state: [n], A: f, B: 1 - f, input: 'linear(x, n)'}\ny: linear(h, n)"
CELLS = {
    "gated": GATED,
    "two memories": "c: sigmoid(x + delay(h)) * delay(c) + tanh(linear(x, n) - 0.5 * delay(h))\nh: tanh(c) * sigmoid(x - delay(c))\ny: h + 0.1 * c",
    "three memories": "a: tanh(x + 0.5 * delay(b))\nb: 0.5 * delay(a) + sigmoid(delay(c))\nc: 0.7 * delay(c) * sigmoid(delay(a)) + x\ny: a + b * c",
    "from a start": "h: tanh(x + 0.5 * delay(h, initial=param([n], init=normal(1))))\ny: h",
    "a value that two memories keep": "W: {state: [n], A: 0.5, input: x + 0.4 * tanh(m), initial: 0.2}\nm: delay(W)\ny: W * m",
    "its old memory read": "old: delay(h)\nh: tanh(x + old * x)\ny: sum(linear(old, n) * h, over=n) * x",
}
CHAOS = "h: 4 * delay(h, initial=0.3) * (1 - delay(h, initial=0.3)) + 0 * x\ny: h"


def graph(text: str) -> Graph:
    return passes.run(component(text, "{x: [n]}", "{n: 5}").graph)


def pair(text: str, dtype: str = "float64") -> tuple[Model, Model]:
    """By Newton's iteration, and by the loop."""
    spec = component(text, "{x: [n]}", "{n: 5}")
    (state, *_) = (
        entry.path for entry in plan(passes.run(spec.graph)).entries if entry.match.form.name == "compiled loop"
    )
    one, other = (ssir.compile(spec, dtype=dtype, forms={state: form}) for form in ("newton", "compiled loop"))
    other.load_state_dict(one.state_dict())
    return one, other


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each iteration, whether it came to an end."""
    found: list[bool] = []
    known = newton.iterated

    def noted(*given: object) -> object:
        results = known(*given)  # type: ignore[arg-type]
        found.append(results is not None)
        return results

    monkeypatch.setattr(newton, "iterated", noted)
    return found


def inputs(batch: int, steps: int, packed: bool) -> tuple[Tensor, Tensor | None]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(batch, steps, 5, dtype=torch.float64, generator=draw)
    return x, torch.rand(batch, steps, generator=draw) < 0.2 if packed else None


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("batch", "steps"), [(1, 2), (3, 63), (1, 300)])
@pytest.mark.parametrize("packed", [False, True])
def test_all_steps_at_once_give_what_the_loop_gives(
    ended: list[bool], name: str, batch: int, steps: int, packed: bool
) -> None:
    one, other = pair(CELLS[name])
    x, reset = inputs(batch, steps, packed)
    found = []
    for model in (one, other):
        given = x.clone().requires_grad_()
        y, state = model(given, reset=reset)
        again, last = model(given, state=state)
        score = y.square().sum() + again.sin().sum() + sum(value.square().sum() for value in last.values())
        found.append([y, again, *last.values(), *torch.autograd.grad(score, [given, *model.parameters()])])
    names = [
        "y",
        "y from a state",
        *last,
        "gradient of x",
        *(f"gradient of {name}" for name, _ in one.named_parameters()),
    ]
    assert ended == [True, True]
    for label, mine, wanted in zip(names, *found, strict=True):
        off, size = (mine - wanted).detach().abs().max(), wanted.detach().abs().max()
        assert off <= 1e-11 * (1 + size), label


def test_float32_agrees_to_roundings(ended: list[bool]) -> None:
    one, other = pair(GATED, "float32")
    x, reset = inputs(2, 200, True)
    torch.testing.assert_close(one(x.float(), reset=reset)[0], other(x.float(), reset=reset)[0], rtol=2e-5, atol=2e-5)
    assert ended == [True]


def test_where_it_comes_to_no_end_the_loop_runs(ended: list[bool]) -> None:
    one, other = pair(CHAOS)
    x, _ = inputs(1, 400, False)
    assert torch.equal(one(x)[0], other(x)[0])
    assert ended == [False]


def test_it_is_told_how_many_iterations_there_were(caplog: pytest.LogCaptureFixture) -> None:
    x, _ = inputs(1, 100, False)
    with caplog.at_level("DEBUG", logger="ssir.newton"):
        for text in (GATED, CHAOS):
            pair(text)[0](x)
    one, other = (record.getMessage() for record in caplog.records)
    assert re.fullmatch(r"100 steps: \d iterations, agreed to [\d.e+-]+ roundings", one)
    assert other.startswith("100 steps: after ") and other.endswith("roundings: the loop runs")


def test_gradients_can_be_differentiated_again() -> None:
    one, _ = pair(CELLS["two memories"])
    x, _ = inputs(1, 4, False)
    torch.autograd.gradgradcheck(lambda x: one(x)[0], [x.requires_grad_()])


def test_whoever_writes_it_down_sees_the_loop(ended: list[bool]) -> None:
    one, other = pair(GATED)
    x, _ = inputs(2, 9, False)
    written = torch.export.export(one, (x,), strict=False).module()
    close(written(x)[0], other(x)[0])
    assert not ended


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        *((text, True) for text in CELLS.values()),
        ("y: tanh(x + linear(delay(y), n))", False),
        ("y: tanh(x + mean(delay(y), over=n))", False),
        ("h: tanh(x + rms_norm(delay(h), over=n))\ny: h", False),
        ("a: tanh(x + sum(delay(b), over=n))\nb: tanh(x + delay(a))\ny: a + b", False),
    ],
)
def test_entries_that_look_at_others_have_no_small_blocks(text: str, fits: bool) -> None:
    one = graph(text)
    (cycle,) = one.cycles
    found = compiled(one, cycle)
    assert not isinstance(found, Unfit)
    assert by_entry(found.region) == fits


def test_it_is_chosen_where_launches_count_and_says_when_it_ends() -> None:
    one = graph(GATED)
    (entry, *_) = plan(one, Setting(1, 8192, "float32", "cuda")).entries
    assert entry.match.form.name == "newton"
    assert "its Jacobian along the state is diagonal" in entry.match.why
    assert "until they agree to 16 roundings; the compiled loop where 16 iterations are not enough" in entry.match.why
    (entry, *_) = plan(one).entries
    assert entry.match.form.name == "compiled loop"
    assert "newton" in entry.others


def test_the_scan_of_blocks() -> None:
    gate, into = torch.randn(2, 13, 3, 2, 2).double(), torch.randn(2, 13, 3, 2).double()
    memory, wanted = torch.zeros(2, 3, 2).double(), []
    for t in range(13):
        memory = (gate[:, t] @ memory[..., None])[..., 0] + into[:, t]
        wanted.append(memory)
    close(newton._scan(gate, into), torch.stack(wanted, 1))
