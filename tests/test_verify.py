"""Compiled models against the meaning, through the same report that `ssir verify` prints."""

from pathlib import Path

import pytest
import torch

import ssir
from ssir.compilers.core import Scan
from tests.small import SMALL, at, first, inputs, small

SPECS = Path(__file__).parent / "specs"
NAMES = [*SMALL, *(str(path) for path in sorted(SPECS.glob("*.yaml")))]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: Path(name).stem)
def test_the_planned_forms_agree_with_the_meaning(name: str) -> None:
    report = ssir.verify(small(name), steps=(1, 2, 70), every_form=False)
    bad = [row for row in report.worst() if not row.ok]
    assert report.ok, bad


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES, ids=lambda name: Path(name).stem)
def test_every_form_agrees_with_the_meaning(name: str) -> None:
    report = ssir.verify(ssir.load(name))
    bad = [row for row in report.worst() if not row.ok]
    assert report.ok, bad


ONE = """
ssir: 1
name: one
dims: {n: 3}
components:
  main:
    input: {x: [n]}
    graph:
      h:
        state: [n]
        A: sigmoid(linear(x, n))
        input: x
    output: h
main: main
"""


def test_a_form_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Scan.sequence

    def wrong(self: Scan, e: object, fact: object, match: object) -> str:
        return f"1.001 * {right(self, e, fact, match)}"  # type: ignore[arg-type]

    assert ssir.verify(ssir.loads(ONE), steps=(5,)).ok
    monkeypatch.setattr(Scan, "sequence", wrong)
    report = ssir.verify(ssir.loads(ONE), steps=(5,))
    assert not report.ok
    assert {row["form"] for row in report.summary() if not row["ok"]} == {"scan"}


def test_a_gradient_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Scan.sequence

    def wrong(self: Scan, e: object, fact: object, match: object) -> str:
        return f"{right(self, e, fact, match)}.detach()"  # type: ignore[arg-type]

    monkeypatch.setattr(Scan, "sequence", wrong)
    row = ssir.verify(ssir.loads(ONE), steps=(5,)).rows[0]
    assert row.forward <= row.limit and row.gradient is not None and row.gradient > row.limit


MET = """
ssir: 1
name: met
dims: {n: 4, both: 2 * n}
components:
  main:
    input: {x: [n]}
    graph:
      wave: cos(position * arange(n))
      still: dot(param([n], init=normal(1)), array([[1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2], [2, 0, 0, 1]], [n, n_]), over=n)
      parts: concat([x * wave, x + rename(still, n_=n)], both)
      y: linear(parts + linear(concat([wave, wave], both), both), n)
    output: y
main: main
"""


def test_what_positions_decide_is_exact_and_meets_data_in_its_dtype() -> None:
    spec = ssir.loads(MET)
    exact, half = (ssir.compile(spec, dtype=dtype) for dtype in (torch.float64, torch.bfloat16))
    (x,) = inputs(exact.graph, 1, 2000)
    y, wanted = first(half(x.to(torch.bfloat16))[0]), first(exact(x)[0])
    assert y.dtype == torch.bfloat16
    assert (y.double() - wanted).abs().max() < 0.05 * wanted.abs().max()  # bfloat16 has no 1001


@pytest.mark.parametrize("name", list(SMALL))
def test_bfloat16_stays_near_float64(name: str) -> None:
    """A smoke test: half precision runs, forward and backward, in sequence and step, with states in float32."""
    spec = small(name)
    exact, half = (ssir.compile(spec, dtype=dtype) for dtype in (torch.float64, torch.bfloat16))
    xs = inputs(exact.graph, 2, 20)
    halves = [x.to(torch.bfloat16).requires_grad_() if x.is_floating_point() else x for x in xs]
    y, wanted = first(half(*halves)[0]), first(exact(*xs)[0])
    y.float().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in half.parameters() if p.grad is not None)
    assert ((y.double() - wanted).abs().max() / wanted.abs().max()).item() < 0.1
    if not half.has_step:
        return
    with torch.no_grad():
        state = half.initial_state(2)
        for t in range(20):
            step, state = half.step(*at(half.graph, halves, t), state=state)
    assert ((first(step).double() - wanted[:, -1]).abs().max() / wanted.abs().max()).item() < 0.1
