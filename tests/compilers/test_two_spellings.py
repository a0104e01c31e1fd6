"""What is written in two ways is one: the same forms, the same numbers."""

import pytest
import torch

import ssir

SMALL = {"n": 6, "key": 4, "value": 3, "head": 2, "half": 2}
LARGE = {"n": 64, "key": 64, "value": 64, "head": 4, "half": 32}
CELL = """
h: delay(y)
z: sigmoid(linear(x, n) + linear(h, n))
r: sigmoid(linear(x, n) + linear(h, n))
c: tanh(linear(x, n) + r * linear(h, n))
"""
RULE = """
k: l2_norm(linear(x, key), over=key)
v: linear(x, value)
q: linear(x, key)
rate: sigmoid(linear(x, []))
keep: sigmoid(linear(x, []))
beta: sigmoid(linear(x, []))
y: dot(q, W, over=key)
"""
HEADS = """
k: linear(x, [head, key])
v: linear(x, [head, value])
q: linear(x, [head, key])
g: 1 - 2 ** (-5 - arange(head))
"""
ASKED = """
q: linear(x, [head, key])
k: linear(x, [head, key])
v: linear(x, [head, value])
scores: dot(q, window(k, slot), over=key) * key ** -0.5
"""
TURNED = "y: {{state: [key], A: '{}', input: 'linear(x, key)'}}"
MOMENTUM = "a gated delta rule by its gradient, with momentum"
WRITTEN: dict[str, tuple[str, str, str]] = {  # what is common, and what follows it in either
    "a gated recurrent unit": (CELL, "y: z * c + (1 - z) * h", "y: h + z * (c - h)"),
    "a moving average": (
        "z: sigmoid(linear(x, n))\n",
        "y: {state: [n], A: 1 - z, B: z, input: x}",
        "y: delay(y) + z * (x - delay(y))",
    ),
    MOMENTUM: (
        RULE,
        "error: dot(k, delay(W), over=key) - v\nM: {state: [key, value], A: beta, B: -rate * k, input: error}\nW: {state: [key, value], A: keep, input: M}",
        "old: delay(W)\nerror: dot(k, old, over=key) - v\nM: beta * delay(M) - rate * k * error\nW: keep * old + M",
    ),
    "a rotation times a decay": (
        "",
        TURNED.format("rotate(linear(x, half), over=key) * sigmoid(sum(x, over=n))"),
        TURNED.format("sigmoid(sum(x, over=n)) * rotate(linear(x, half), over=key)"),
    ),
    "a decay under a square root": (
        HEADS,
        "y: {state: [head, key, value], A: g, B: k, input: v, C: q}",
        "y: {state: [head, key, value], A: sqrt(g * g), B: k, input: v, C: q}",
    ),
    "linear attention, as a running sum of outer products": (
        HEADS,
        "y: {state: [head, key, value], B: k, input: v, C: q}",
        "y: dot(q, cumsum(k * v), over=key)",
    ),
    "what is kept of outer products, scaled": (
        HEADS,
        "y: {state: [head, key, value], A: g, B: k * g, input: v, C: q}",
        "h: {state: [head, key, value], A: g, input: k * g * v}\ny: dot(q, h, over=key)",
    ),
    "attention, read by a dot, its scores said to be float32": (
        ASKED,
        "y: {state: [slot, head, value], A: shift(slot), input: v, C: 'softmax(scores, over=slot)'}",
        "y: dot(softmax(float32(scores), over=slot), window(v, slot), over=slot)",
    ),
    "a filter, read by a sum": (
        "x2: linear(x, n)\n",
        "y: {state: [tap, n], A: shift(tap), input: x2, C: 'param([tap, n], name=taps, init=ones)'}",
        "y: sum(window(x2, tap) * param([tap, n], name=taps, init=ones), over=tap)",
    ),
}
PAIRS = {name: (common + one, common + other) for name, (common, one, other) in WRITTEN.items()}


def spec(graph: str, dims: dict[str, int]) -> ssir.Spec:
    lines = "\n".join(f"      {line}" for line in graph.strip().splitlines())
    sizes = ", ".join(f"{name}: {size}" for name, size in {**dims, "tap": 3, "slot": "unbounded"}.items())
    return ssir.loads(
        f"ssir: 1\nname: one\ndims: {{{sizes}}}\ncomponents:\n  main:\n    input: {{x: [n]}}\n    graph:\n{lines}\n    output: y\nmain: main\n"
    )


def planned(graph: str, dims: dict[str, int]) -> set[str]:
    return {found.form.name for found in ssir.compile(spec(graph, dims)).plan.chosen.values()}


@pytest.mark.parametrize("name", PAIRS)
def test_the_plan_of_equal_things_is_equal(name: str) -> None:
    one, other = PAIRS[name]
    for dims in (SMALL, LARGE):
        assert planned(one, dims) == planned(other, dims)
        assert "loop" not in planned(one, dims)


def test_a_rule_with_momentum_runs_in_chunks() -> None:
    for graph in PAIRS[MOMENTUM]:
        assert planned(graph, LARGE) == {"chunked, joint states"}


@pytest.mark.parametrize(
    ("name", "forms"), [*((name, None) for name in PAIRS), (MOMENTUM, {"M": "chunked, joint states"})]
)
def test_equal_things_compute_the_same(name: str, forms: dict[str, str] | None) -> None:
    first, second = (ssir.compile(spec(graph, SMALL), dtype=torch.float64, forms=forms) for graph in PAIRS[name])
    second.load_state_dict(first.state_dict())
    x = torch.randn(2, 9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reset = torch.zeros(2, 9, dtype=torch.bool)
    reset[1, 4] = True
    wanted = ssir.reference(first, x, reset=reset)[0]
    for model in (first, second):
        y = model(x, reset=reset)[0]
        torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-10)
        y.square().sum().backward()
    others = dict(second.named_parameters())
    for path, one in first.named_parameters():
        torch.testing.assert_close(one.grad, others.pop(path).grad, rtol=1e-9, atol=1e-10, msg=path)
    assert not others
