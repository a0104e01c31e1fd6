"""Several states that are affine in one another are found to be so, with the same coefficients however they are written."""

import pytest

from ssir import passes
from ssir.analysis.joint import Entering, Joint, Product, Read, joint
from ssir.compilers.loops.region import region

from ..small import component

DIMS = "{n: 3, key: 4, value: 5, head: 2}"
MADE = """
k: linear(x, [head, key])
p: linear(x, [head, key])
q: linear(x, [head, key])
v: linear(x, [head, value])
u: linear(x, [head, value])
rate: linear(x, head)
keep: linear(x, head)
beta: linear(x, [])
old: delay(W)
"""
ONE = Product()
EQUAL = (
    "M: beta * delay(M) - rate * (k * (dot(p, old, over=key) - v))\nW: keep * old + M",
    "M: beta * delay(M) + rate * (k * v) - k * (dot(p, old, over=key) * rate)\nW: M + old * keep",
    "M: -(rate * (dot(old, p, over=key) * k) - (k * v) * rate - delay(M) * beta)\nW: old - (1 - keep) * old + M",
    "M: {state: [head, key, value], A: beta, B: k, input: 'rate * (v - dot(p, old, over=key))'}\nW: {state: [head, key, value], A: keep, input: M}",
    "M: {state: [value, key, head], A: beta, B: k, input: 'rate * (v - dot(p, delay(W), over=key))'}\nW: keep * old + M",
)


def of(*factors: str, under: tuple[str, ...] = ()) -> Product:
    return Product(factors, under)


def found(graph: str, reads: tuple[str, ...] = ("y",)) -> Joint | None:
    """What is found of the only cycle of a graph; M comes before W."""
    done = passes.run(component(MADE + graph, "{x: [n]}", DIMS).graph)
    (cycle,) = done.cycles
    # What enters is taken in too, so that its products are seen.
    inside = {node.name for node in done if node.op in ("mul", "add", "sub", "neg", "dot")} | cycle
    step = region(done, frozenset(inside), reads)
    states = sorted(((memory.old, memory.new) for memory in step.memories), key=lambda pair: pair[0][0] != "M")
    return joint(step.body, states, [step.outputs[read].value for read in reads])


@pytest.mark.parametrize("graph", EQUAL)
def test_however_it_is_written(graph: str) -> None:
    by = {of("rate"): -1.0}
    assert found(f"{graph}\ny: dot(q, W, over=key)") == Joint(
        over="key",
        heads=("head",),
        values=("value",),
        between=(({of("beta"): 1.0}, {}), ({of("beta"): 1.0}, {of("keep"): 1.0})),
        source=1,
        right=of("p"),
        entering=(Entering(of("k"), (by, by), {of("v"): -1.0}),),
        reads=(Read(of("q"), 1),),
        read="after",
    )


def test_what_enters_otherwise_stands_apart() -> None:
    one = found(
        "M: (beta * delay(M) - k * dot(p, old, over=key)) / keep\nW: old + 0.5 * M + p * (rate * u)\n"
        "y: dot(q, old, over=key) + dot(k, delay(M), over=key)",
        ("y/dot", "y/dot_2"),
    )
    assert one is not None
    assert one.between == (
        ({of("beta", under=("keep",)): 1.0}, {}),
        ({of("beta", under=("keep",)): 0.5}, {ONE: 1.0}),
    )
    by = of(under=("keep",))
    assert one.entering == (
        Entering(of("k"), ({by: -1.0}, {by: -0.5}), {}),
        Entering(of("p"), ({}, {of("rate"): 1.0}), {of("u"): 1.0}),
    )
    assert (one.reads, one.read) == ((Read(of("q"), 1), Read(of("k"), 0)), "before")


def test_what_cancels_is_nothing() -> None:
    one = found(
        "M: beta * delay(M) - k * (dot(p, old, over=key) - v)\nW: keep * old + M - delay(M) * beta\ny: dot(q, W, over=key)"
    )
    assert one is not None
    assert one.between[1][0] == {}


@pytest.mark.parametrize(
    "graph",
    [
        "M: tanh(delay(M)) - k * (dot(p, old, over=key) - v)\nW: keep * old + M",
        "M: k * delay(M) - k * (dot(p, old, over=key) - v)\nW: keep * old + M",
        "M: u * delay(M) - k * (dot(p, old, over=key) - v)\nW: keep * old + M",
        "M: beta * delay(M) - k * (dot(p, old, over=key) - v)\nW: keep * old + M - p * dot(k, old, over=key)",
        "M: beta * delay(M) - k * dot(p, old, over=key)\nW: keep * old + M - p * dot(p, old, over=key)",
        "M: beta * delay(M) - k * dot(p, old + delay(M), over=key)\nW: keep * old + M",
        "M: beta * delay(M) - k * dot(p, old - k * v, over=key)\nW: keep * old + M",
        "M: beta * delay(M) - k * dot(p, dot(p, old, over=key) * k, over=key)\nW: keep * old + M",
        "M: beta * delay(M) - v * dot(u, old, over=value) * k\nW: keep * old + M",
        "M: beta * delay(M) - k * (dot(p, old, over=key) - v)\nW: keep * old + M + v",
        "M: beta * delay(M) - k * dot(p, old, over=key) * old\nW: keep * old + M",
        "M: beta * delay(M) - k * v\nW: keep * old + M * delay(M)",
        "M: beta * delay(M) - k * v - old\nW: keep * old + M",
        "M: beta * delay(M) - k * sum(old, over=key)\nW: keep * old + M",
        "M: beta * delay(M) - k * (dot(p, old, over=key) - v)\nW: keep * old / (1 + sum(M, over=value)) + M",
    ],
)
def test_what_is_something_else_is_left_alone(graph: str) -> None:
    assert found(f"{graph}\ny: dot(q, W, over=key)") is None


@pytest.mark.parametrize(
    "read",
    ["dot(u, W, over=value)", "dot(q, W * 2, over=key)", "dot(W, W, over=key)", "sum(W, over=key)", "W * v"],
)
def test_what_reads_otherwise_is_left_alone(read: str) -> None:
    assert found(f"M: beta * delay(M) - k * (dot(p, old, over=key) - v)\nW: keep * old + M\ny: {read}") is None
