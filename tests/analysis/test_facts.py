"""What is inferred of a state: the structure of A, dependences, expansion, range. A row for each kind of memory."""

import math
import textwrap

import pytest

from ssir import passes
from ssir.analysis.facts import Facts, facts
from ssir.analysis.ranges import interval
from ssir.ir import Graph
from ssir.spec.load import loads

DIMS = "{model: 4, n: 3, head: 2, key: 4, value: 3, tap: 4, past: unbounded, r: 2, half: 2}"
INPUTS = "u: [model], x: [head, value], k: [head, key], q: [head, key], g: [head], w: [head, key], o: [n]"


def graph(body: str) -> Graph:
    nodes = textwrap.indent(textwrap.dedent(body).strip(), "      ")
    text = f"ssir: 1\nname: t\ndims: {DIMS}\ncomponents:\n  m:\n    input: {{{INPUTS}}}\n    graph:\n{nodes}\n    output: y\nmain: m\n"
    return passes.run(loads(text).graph, check=True)


def known(body: str, name: str = "y") -> Facts:
    one = graph(body)
    return facts(one, one[name])


# A of each kind; its structure; what A, B and C depend on (c constant, p position, i input, s state); expansion; contracted.
STATES: dict[str, tuple[str, str, str, str, str]] = {
    "a convolution": (
        "y: {state: [tap, model], A: shift(tap), input: u, C: 'param([tap, model])'}",
        "shift along tap", "A c C c", "tap", "tap",
    ),
    "attention": (
        "s: dot(q, window(k, past), over=key)\ny: {state: [past, head, value], A: shift(past), input: x, C: 'softmax(s, over=past)'}",
        "shift along past", "A c C i", "past", "past",
    ),
    "a diagonal that is constant": (
        "y: {state: [model, n], A: 'exp(-exp(param([model, n])))', B: 'param([model, n])', input: u, C: 'param([model, n])'}",
        "diagonal over model×n", "A c B c C c", "n", "n",
    ),
    "a constant rotation": (
        "y: {state: [key], A: 'rotate(param([half]), over=key)', B: 'param([key])', input: 'sum(u, over=model)'}",
        "rotation along key", "A c B c", "key", "",
    ),
    "a complex diagonal": (
        "y: real(z)\nz: {state: [model], A: 'polar(sigmoid(param([model])), param([model]))', input: u}",
        "diagonal over model", "A c", "", "",
    ),
    "a constant matrix": (
        "y: {state: [n], A: 'dense(param([n, n_]), over=n)', B: 'param([n])', input: 'sum(u, over=model)', C: 'param([n])'}",
        "dense along n", "A c B c C c", "n", "n",
    ),
    "a diagonal plus a constant of rank one": (
        "y: {state: [n], A: 'param([n]) - outer(param([n]), param([n]), over=n)', B: 'param([n])', input: 'sum(u, over=model)'}",
        "diagonal plus rank one along n", "A c B c", "n", "",
    ),
    "a gate for each channel": (
        "y: {state: [model], A: sigmoid(u), B: 1 - sigmoid(u), input: u}",
        "diagonal over model", "A i B i", "", "",
    ),
    "a selective diagonal": (
        "y: {state: [model, n], A: 'exp(-softplus(u) * exp(param([model, n])))', B: softplus(u) * o, input: u, C: o}",
        "diagonal over model×n", "A i B i C i", "n", "n",
    ),
    "a scalar for each head": (
        "y: {state: [head, key, value], A: sigmoid(g), B: k, input: x, C: q}",
        "diagonal over head", "A i B i C i", "key", "key",
    ),
    "one scalar": (
        "y: {state: [model], A: 0.9, input: u}",
        "scalar", "A c", "", "",
    ),
    "a gate for each key": (
        "y: {state: [head, key, value], A: sigmoid(w), B: k, input: x, C: q}",
        "diagonal over head×key", "A i B i C i", "key", "key",
    ),
    "the delta rule": (
        "y: {state: [head, key, value], A: '1 - outer(k, sigmoid(g) * k, over=key)', B: sigmoid(g) * k, input: x, C: q}",
        "diagonal plus rank one along key", "A i B i C i", "key", "key",
    ),
    "the gated delta rule": (
        "y: {state: [head, key, value], A: '(1 - outer(k, k, over=key)) * sigmoid(g)', B: k, input: x, C: q}",
        "diagonal plus rank one along key", "A i B i C i", "key", "key",
    ),
    "a diagonal less a product of others": (
        "y: {state: [head, key, value], A: 'w - outer(k, q, over=key)', B: k, input: x, C: q}",
        "diagonal plus rank one along key", "A i B i C i", "key", "key",
    ),
    "a running maximum": (
        "y: {state: [model], A: logsigmoid(u), input: u, algebra: max_plus}",
        "diagonal over model", "A i", "", "",
    ),
    "an integrator": ("y: {state: [model], input: u}", "identity", "A c", "", ""),
    "a delay": ("y: {state: [model], A: 0, input: u, read: before}", "zero", "A c", "", ""),
    "a clock": ("y: {state: [model], A: 'where(position % 2 == 0, 0, 1)', input: u}", "scalar", "A p", "", ""),
    "two matrices": (
        "y: {state: [n], A: 'dense(param([n, n_]), over=n) * dense(param([n, n_]), over=n)', input: o}",
        "general", "A c", "", "",
    ),
    "a decaying rotation": (
        "y: {state: [key], A: 'rotate(param([half]), over=key) * sigmoid(param([key]))', B: 'param([key])'}",
        "rotation along key", "A c B c", "key", "",
    ),
    "two rotations": (
        "y: {state: [key], A: 'rotate(param([half]), over=key) * rotate(linear(u, half), over=key)', B: 'param([key])'}",
        "rotation along key", "A i B c", "key", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", STATES)
def test_the_facts_of_each_kind_of_memory(kind: str) -> None:
    body, structure, depends, expansion, contracted = STATES[kind]
    found = known(body, "z" if kind == "a complex diagonal" else "y")
    assert str(found.structure) == structure
    words = dict(zip(depends.split()[::2], depends.split()[1::2], strict=True))
    assert {role: str(found.dependence[role])[0] for role in words} == words
    assert " ".join(axis.name for axis in found.expansion) == expansion
    assert " ".join(axis.name for axis in found.contracted) == contracted
    assert found.cycle is None


@pytest.mark.parametrize(
    ("body", "memories"),
    [
        ("m: delay(y)\ny: tanh(linear(m, model) + u)", 1),
        ("m: delay(y)\nc: {state: [model], A: sigmoid(m + u), B: sigmoid(m - u), input: tanh(m)}\ny: tanh(c)", 2),
    ],
)
def test_a_memory_on_a_cycle_depends_on_itself(body: str, memories: int) -> None:
    one = graph(body)
    found = [facts(one, state) for state in one.states]
    assert len(found) == memories and all(each.cycle for each in found)
    gated = [each for each in found if "B" in each.dependence]
    assert all(str(each.dependence["A"]) == "state" for each in gated)


def test_seen_from_outside_its_cycle_a_memory_is_a_signal() -> None:
    one = graph("h: tanh(u + delay(h))\ny: {state: [model], A: sigmoid(h), input: u}")
    found = facts(one, one["y"])
    assert found.cycle is None and str(found.dependence["A"]) == "input"


def test_a_register_that_grows_counts_by_the_token() -> None:
    one = graph("y: sum(window(u, past), over=past)")
    found = facts(one, one.states[0])
    assert found.grows and found.entries == 4 and found.slots is not None and found.slots.size is None


def test_the_size_of_a_memory_is_the_product_of_its_axes() -> None:
    assert known(STATES["the delta rule"][0]).entries == 2 * 4 * 3


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("sigmoid(u)", 0, 1),
        ("tanh(u)", -1, 1),
        ("softmax(u, over=model)", 0, 1),
        ("softplus(u)", 0, math.inf),
        ("relu(u)", 0, math.inf),
        ("sqrt(square(u))", 0, math.inf),
        ("rsqrt(1 + square(u))", 0, math.inf),
        ("abs(u)", 0, math.inf),
        ("logsigmoid(u)", -math.inf, 0),
        ("sin(u)", -1, 1),
        ("cos(u)", -1, 1),
        ("l2_norm(u, over=model)", -1, 1),
        ("2 * position", 0, math.inf),
        ("-sigmoid(u)", -1, 0),
        ("sigmoid(u) - 2 * tanh(u)", -2, 3),
        ("u % 3", 0, 3),
        ("1 - sigmoid(u)", 0, 1),
        ("exp(-softplus(u))", 0, 1),
        ("exp(-softplus(u) * exp(param([model])))", 0, 1),
        ("tanh(u) * sigmoid(u)", -1, 1),
        ("0.5 * sigmoid(u) + 0.25", 0.25, 0.75),
        ("where(u > 0, sigmoid(u), 2)", 0, 2),
        ("clamp(u, low=0.1, high=0.9)", 0.1, 0.9),
        ("maximum(u, 0)", 0, math.inf),
        ("minimum(sigmoid(u), 0.5)", 0, 0.5),
        ("square(u)", 0, math.inf),
        ("sigmoid(u) ** 8", 0, 1),
        ("softplus(u) ** 0.5", 0, math.inf),
        ("1 - 2 ** (-5 - arange(n))", 31 / 32, 127 / 128),
        ("(1 + sigmoid(u)) ** u", 0, math.inf),
        ("u ** 2", -math.inf, math.inf),
        ("sigmoid(u) / 2", 0, 0.5),
        ("1 / (1 + exp(u))", 0, 1),
        ("sigmoid(u) / exp(u)", 0, math.inf),
        ("sigmoid(u) / u", -math.inf, math.inf),
        ("floor(2.5 * sigmoid(u))", 0, 2),
        ("ceil(2.5 * sigmoid(u))", 0, 3),
        ("round(2.7 * sigmoid(u) - 1)", -1, 2),
        ("log(1 + sigmoid(u))", 0, math.log(2)),
        ("log(sigmoid(u))", -math.inf, 0),
        ("arange(model)", 0, 3),
        ("u", -math.inf, math.inf),
        ("param([model])", -math.inf, math.inf),
        ("sum(u, over=model)", -math.inf, math.inf),
    ],
)
def test_where_a_value_lies_is_proved_as_far_as_it_can_be(value: str, low: float, high: float) -> None:
    one = graph(f"z: {value}\ny: z + u")
    name = next(node.name for node in one if node.name == "z") if "z" in one.nodes else one["y"].inputs[0]
    assert interval(one, name) == pytest.approx((low, high))


def test_nothing_is_proved_of_a_cycle() -> None:
    one = graph("y: sigmoid(u) * (1 + delay(y))")
    assert interval(one, "y") == (-math.inf, math.inf)
