"""What the layers of a stack are given: it is a signal there, and what it may change with is what it is outside, at least the position."""

from __future__ import annotations

import pytest

from ssir import passes
from ssir.ir import Dependence
from ssir.spec.load import loads


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("param([model])", Dependence.POSITION),
        ("param([model]) * position", Dependence.POSITION),
        ("2 * u", Dependence.INPUT),
        ("delay(u)", Dependence.INPUT),
    ],
)
def test_what_a_layer_is_given_keeps_its_dependence(given: str, wanted: Dependence) -> None:
    one = passes.run(
        loads(
            "ssir: 1\nname: t\ndims: {model: 4}\ncomponents:\n"
            "  f:\n    input: {x: [model], w: [model]}\n    graph: {a: 2 * w, p: 'param([model])', y: x + a * p}\n    output: y\n"
            "  m:\n    input: {u: [model]}\n    graph:\n"
            f"      y: {{stack: [f], times: 2, input: u, with: {{w: '{given}'}}}}\n    output: y\nmain: m\n"
        ).graph
    )
    (body,) = one.bodies.values()
    assert body["w"].type.dependence is body["a"].type.dependence is wanted
    assert body["p"].type.dependence is Dependence.CONSTANT
    assert body["x"].type.dependence is body["y"].type.dependence is Dependence.INPUT
