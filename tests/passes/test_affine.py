"""The same memory, said in several ways, is one plan; what is not affine stays a cycle."""

import pytest

import ssir
from ssir import passes
from ssir.compilers.plan import plan
from ssir.ir.verifier import verify
from ssir.spec.load import Spec

from ..small import component

DIMS = "{n: 3, key: 4, value: 5}"
WIDE = "{n: 3, key: 64, value: 64}"  # where chunks pay
MADE = "k: l2_norm(linear(x, key), over=key)\nv: linear(x, value)\nq: linear(x, key)\nrate: sigmoid(sum(linear(x, n), over=n))\n"


def spec(graph: str, dims: str = DIMS) -> Spec:
    return component(graph, "{x: [n]}", dims)


def planned(graph: str, dims: str = DIMS) -> dict[str, str]:
    """Form and structure by state."""
    done = passes.run(spec(graph, dims).graph, check=True)
    verify(done)
    return {entry.path: f"{entry.match.form.name}: {entry.facts.structure}" for entry in plan(done).entries}


STATE = "z: sigmoid(linear(x, n))\ny: {state: [n], A: z, B: 1 - z, input: 'linear(x, n)'}"
AVERAGES = {
    "as a sum": "z: sigmoid(linear(x, n))\ny: z * delay(y) + (1 - z) * linear(x, n)",
    "towards a target": "z: sigmoid(linear(x, n))\ny: delay(y) + (1 - z) * (linear(x, n) - delay(y))",
    "with a name for the old value": "z: sigmoid(linear(x, n))\nold: delay(y)\ny: old * z - (z - 1) * linear(x, n)",
}
OTHERS = {
    "a count": "c: delay(c) + 1\ny: x * c",
    "an average by a division": "y: (delay(y) + x) / (1 + exp(sum(x, over=n)))",
    "from a start": "y: 0.5 * delay(y, initial=0.3) + x",
    "a matrix of sums": MADE + "W: rate * delay(W) + k * v\ny: dot(q, W, over=key)",
}
DELTA = MADE + "W: {state: [key, value], A: '1 - outer(rate * k, k, over=key)', B: rate * k, input: v, C: q}\ny: W * 1"
GRADIENTS = {
    "its error as a node": MADE
    + "error: dot(k, delay(W), over=key) - v\nW: {state: [key, value], A: 1, B: -rate * k, input: error}\ny: dot(q, W, over=key)",
    "all by hand": MADE + "W: delay(W) - rate * k * (dot(k, delay(W), over=key) - v)\ny: dot(q, W, over=key)",
    "with a sum for the dot": MADE
    + "W: delay(W) + rate * k * (v - sum(delay(W) * k, over=key))\ny: sum(W * q, over=key)",
    "with B and input exchanged": MADE
    + "error: v - dot(delay(W), k, over=key)\nW: {state: [key, value], B: error, input: rate * k}\ny: dot(q, W, over=key)",
}


@pytest.mark.parametrize("name", AVERAGES)
def test_a_gated_average_is_a_scan_however_it_is_spelled(name: str) -> None:
    (wanted,) = planned(STATE).values()
    assert list(planned(AVERAGES[name]).values()) == [wanted]


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_delta_rule_runs_in_chunks_however_it_is_spelled(name: str) -> None:
    (wanted,) = planned(DELTA, WIDE).values()
    assert wanted.startswith("chunked, diagonal plus rank one")
    assert list(planned(GRADIENTS[name], WIDE).values()) == [wanted]


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_affine_in_itself_is_no_cycle(name: str) -> None:
    forms = planned(OTHERS[name])
    assert len(forms) == 1
    assert not any("loop" in form for form in forms.values()), forms


@pytest.mark.parametrize("graph", [*AVERAGES.values(), *GRADIENTS.values(), *OTHERS.values()])
def test_what_is_rewritten_means_the_same(graph: str) -> None:
    report = ssir.verify(spec(graph), steps=(1, 2, 40))
    assert report.ok, [row for row in report.worst() if not row.ok]


@pytest.mark.parametrize(
    "graph",
    [
        "y: tanh(delay(y)) + x",
        "y: 0.1 * delay(y) * delay(y) + tanh(x)",
        "y: linear(delay(y), n) + x",
        "y: exp(-softplus(delay(y))) * delay(y) + x",
        "m: delay(h)\nh: 0.5 * m + x\ny: h + m",
        "W: {state: [n], A: sigmoid(m), input: x}\nm: delay(W)\ny: W * 1",
        "W: {state: [n], A: 0.5, input: x + m, initial: 0.2}\nm: delay(W)\ny: W * 1",
    ],
)
def test_what_is_not_affine_or_not_of_one_memory_stays(graph: str) -> None:
    done = passes.run(spec(graph).graph)
    assert done.cycles
    report = ssir.verify(spec(graph), steps=(1, 20))
    assert report.ok
