"""States of a cycle that are affine in one another run in chunks: in whatever words, however they are read, and nothing else does."""

import pytest
import torch

import ssir
from ssir import passes
from ssir.compilers.plan import plan

from ..small import component

FORM = "chunked, joint states"
DIMS = "{n: 3, key: 4, value: 5, head: 2}"
MADE = """
k: l2_norm(linear(x, [head, key]), over=key)
v: linear(x, [head, value])
q: linear(x, [head, key])
p: linear(x, [head, key])
rate: sigmoid(linear(x, head))
keep: sigmoid(linear(x, head))
beta: sigmoid(linear(x, []))
"""
RULE = MADE + "old: delay(W)\nM: beta * delay(M) - rate * k * (dot(k, old, over=key) - v)\nW: keep * old + M\n"
FITTING = {
    "as states": MADE
    + "error: dot(k, delay(W), over=key) - v\nM: {state: [value, head, key], A: beta, B: -rate * k, input: error}\nW: {state: [head, key, value], A: keep, input: M}\ny: dot(q, W, over=key)",
    "by hand": f"{RULE}y: dot(q, W, over=key)",
    "two readouts": f"{RULE}y: dot(q, W, over=key) + dot(p, M, over=key)",
    "read before": f"{RULE}y: dot(q, old, over=key)",
    "as a state that is read before": MADE
    + "M: {state: [head, key, value], A: beta, B: -rate * k, input: error}\nerror: dot(k, W, over=key) - v\nW: {state: [head, key, value], A: keep, input: M, read: before}\ny: dot(q, W, over=key)",
    "two that enter, divided": MADE
    + "old: delay(W)\nM: (beta * delay(M) - rate * k * dot(k, old, over=key)) / (1 + keep) + 0.3 * p * v\nW: keep * old + 0.5 * M\ny: dot(q, W, over=key)",
    "three states": MADE
    + "old: delay(W)\nN: 0.5 * delay(N) - rate * k * (dot(k, old, over=key) - v)\nM: beta * delay(M) + N\nW: keep * old + M\ny: dot(q, W, over=key)",
    "an outer product in A": MADE
    + "M:\n  state: [head, key, value]\n  A: beta\n  B: rate * k\n  input: v - dot(k, delay(W), over=key)\nW:\n  state: [head, key, value]\n  A: keep - outer(rate * k, k, over=key)\n  input: M\ny: dot(q, W, over=key)",
    "no heads": "k: l2_norm(linear(x, key), over=key)\nv: linear(x, value)\nold: delay(W)\nM: 0.9 * delay(M) - k * (dot(k, old, over=key) - v)\nW: 0.8 * old + 0.1 * M\ny: dot(k, W, over=key)",
}
OTHER = {
    "a whole state is asked for": f"{RULE}y: W * 1",
    "a query is made of what another reads": f"{RULE}r: dot(q, W, over=key)\ny: dot(softmax(linear(r, [head, key]), over=key), W, over=key)",
    "they are read before and after": f"{RULE}y: dot(q, W, over=key) + dot(p, old, over=key)",
    "a sum is asked for": f"{RULE}y: dot(q, W, over=key) + dot(k, W * 2, over=key)",
    "a start is given": RULE.replace("delay(W)", "delay(W, initial=0.3)") + "y: dot(q, W, over=key)",
    "two sums along the keys": RULE.replace("delay(M)", "(delay(M) - p * dot(k, delay(M), over=key))")
    + "y: dot(q, W, over=key)",
    "a register is in between": RULE.replace("keep * old", "keep * delay(W, steps=3)") + "y: dot(q, W, over=key)",
}


def spec(graph: str) -> ssir.Spec:
    return component(graph, "{x: [n]}", DIMS)


@pytest.mark.parametrize("name", FITTING)
def test_it_means_the_same(name: str) -> None:
    one = spec(FITTING[name])
    assert all(FORM in entry.seconds for entry in plan(passes.run(one.graph)).entries)
    report = ssir.verify(one, steps=(1, 63, 64, 65, 130) if name == "by hand" else (2, 70))
    assert report.ok, [row for row in report.worst() if not row.ok]


@pytest.mark.parametrize("name", OTHER)
def test_nothing_else_does(name: str) -> None:
    assert all(FORM not in entry.seconds for entry in plan(passes.run(spec(OTHER[name]).graph)).entries)


PARTS = """ssir: 1
name: parts
dims: {n: 6, key: 4, value: 5}
components:
  rule:
    input: {k: [key], v: [value], rate: []}
    graph:
      W: 0.9 * delay(W) + M
      M: 0.8 * delay(M) - rate * k * (dot(k, delay(W), over=key) - v)
    output: W
  read:
    input: {x: [n], W: [key, value]}
    graph:
      y: dot(linear(x, key), W, over=key)
    output: y
  block:
    input: {x: [n]}
    graph:
      W: rule(l2_norm(linear(x, key), over=key), linear(x, value), sigmoid(linear(x, [])))
      y: x + linear(read(x, W), n)
    output: y
  main:
    input: {x: [n]}
    graph:
      y: {stack: [block], times: 2, input: x}
    output: y
main: main
"""


def test_states_and_their_readout_may_be_of_two_components() -> None:
    report = ssir.verify(ssir.loads(PARTS), steps=(2, 65))
    assert FORM in {row.form for row in report.rows}
    assert report.ok, [row for row in report.worst() if not row.ok]


def test_bfloat16_has_float32_states() -> None:
    forced = [
        ssir.compile(spec(FITTING["as states"]), dtype=kind, forms={"M": FORM})
        for kind in (torch.bfloat16, torch.float32)
    ]
    forced[1].load_state_dict(forced[0].state_dict())
    x = torch.randn(2, 70, 3, generator=torch.Generator().manual_seed(0))
    (y, state), (wanted, _) = (
        model(x.to(kind)) for model, kind in zip(forced, (torch.bfloat16, torch.float32), strict=True)
    )
    assert y.dtype == torch.bfloat16
    assert (y.float() - wanted).abs().max() < 0.05 * wanted.abs().max()
    assert {memory.dtype for memory in state.values()} == {torch.float32}
