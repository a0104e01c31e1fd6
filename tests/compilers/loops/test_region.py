"""From a cycle to a graph without memories, and to its derivative."""

import pytest

import ssir
from ssir.compilers.loops.adjoint import adjoint
from ssir.compilers.loops.region import region
from ssir.compilers.loops.spelling import Unfit
from ssir.compilers.plan import plan
from ssir.ir.text import parse, render
from ssir.ir.verifier import verify

from ...small import component
from .made import GRU, graph, made
from .test_loops import CELLS, SMALL, cell, dims

ELMAN = """\
graph main
  delay.old = input : [n:6] real state
  rename = rename(delay.old) {axes: [[n, n_in]]} : [n_in:6] real state
  weight = input : [n:6, n_in:6] real constant
  dot = dot(weight, rename) {over: [n_in]} : [n:6] real state
  x = input : [n:6] real input
  y/add = add(x, dot) : [n:6] real state
  y = tanh(y/add) : [n:6] real state
  -> y: y
"""
BACKWARD = """\
graph main_backward
  weight = input : [n:6, n_in:6] real constant
  dot = input : [n:6] real input
  x = input : [n:6] real input
  y/add = add(x, dot) : [n:6] real input
  y = tanh(y/add) : [n:6] real input
  delay.old.grad = input : [n:6] real state
  y.grad = input : [n:6] real input
  add = add(delay.old.grad, y.grad) : [n:6] real state
  mul = mul(y, y) : [n:6] real input
  number = const {value: 1} : [] real constant
  sub = sub(number, mul) : [n:6] real input
  mul_2 = mul(add, sub) : [n:6] real state
  dot_2 = dot(mul_2, weight) {over: [n]} : [n_in:6] real state
  rename_2 = rename(dot_2) {axes: [[n_in, n]]} : [n:6] real state
  -> rename_2: rename_2
  -> mul_2: mul_2
"""


def test_the_step_of_a_cycle_and_its_derivative_are_graphs() -> None:
    found, _ = cell("elman")
    assert render(found.body) == ELMAN
    assert render(adjoint(found).body) == BACKWARD


@pytest.mark.parametrize("name", CELLS)
def test_bodies_are_well_formed_and_their_text_parses_back(name: str) -> None:
    found, _ = cell(name)
    for body in (found.body, adjoint(found).body):
        verify(body)
        assert render(parse(render(body))) == render(body)


@pytest.mark.parametrize("name", CELLS)
def test_a_region_means_what_the_cycle_means(name: str) -> None:
    text, inputs = CELLS[name]
    report = ssir.verify(component(text, inputs, dims(**SMALL)), steps=(1, 12))
    assert report.ok, [row for row in report.worst() if not row.ok]
    assert "compiled loop" in {row.form for row in report.rows}


def test_two_names_of_one_memory_are_one() -> None:
    found, _ = made(GRU, "{xr: [n], xz: [n], xg: [n]}", dims(n=4))
    (memory,) = found.memories
    assert set(memory.states) == {"m", "h"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("w: window(delay(y), tap)\ny: tanh(x + max(w, over=tap))", "`w.window` is a register"),
        ("W: sigmoid(delay(y))\ny: tanh(x + select(delay(y), n, floor(3 * W)))", "`select` has no derivative in the IR"),
    ],
)  # fmt: skip
def test_the_plan_says_why_a_cycle_is_not_compiled(text: str, reason: str) -> None:
    whole = graph(text, "{x: [n]}", "{n: 3, tap: 2}")
    (cycle,) = whole.cycles
    with pytest.raises(Unfit, match=r"register|derivative"):
        adjoint(region(whole, cycle, whole.seen_outside(cycle)))
    entry = next(entry for entry in plan(whole).entries if entry.facts.cycle)
    assert entry.match.form.name == "loop"
    assert f"(not compiled: {reason})" in entry.match.why
