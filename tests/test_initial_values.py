"""How large first values are: from how many inputs a map has, and by the words of the language."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssir.api import parameters
from ssir.initial import initialise
from ssir.spec.load import loads


def first(graph: str, dims: str = "a: 40, b: 50, c: 60, per: 3", layer: int = 0, seed: int = 0) -> dict[str, Tensor]:
    nodes = "".join(f"      {line}\n" for line in graph.strip().splitlines())
    spec = loads(
        f"ssir: 1\nname: t\ndims: {{{dims}}}\ncomponents:\n  m:\n    input: {{x: [a, b]}}\n    graph:\n{nodes}    output: y\nmain: m\n"
    )
    return {name: initialise(owner, node, name, layer, seed) for name, node, owner, _ in parameters(spec.graph)}


def bound(graph: str) -> float:
    """The largest entry of the one weight: many are drawn, so it is close to the bound."""
    (weight,) = (value for name, value in first(graph).items() if name.endswith("weight"))
    assert abs(weight.mean()) < 0.05 * weight.abs().max()
    return weight.abs().max().item()


@pytest.mark.parametrize(
    ("graph", "inputs"),
    [
        ("y: linear(x, c)", 40 * 50),
        ("y: linear(x, c, over=a)", 40),
        ("y: linear(x, c, over=b)", 50),
        ("y: linear(x, [c, per], over=b)", 50),
        ("y: linear(x, c, per=a)", 50),
        ("y: linear(x, c, per=b)", 40),
    ],
)
def test_the_fan_of_a_map_is_the_number_of_its_inputs(graph: str, inputs: int) -> None:
    assert bound(graph) == pytest.approx(1 / math.sqrt(inputs), rel=0.02)


def test_a_fan_can_have_a_gain() -> None:
    assert bound("y: linear(x, c, init=fan_in(3))") == pytest.approx(3 / math.sqrt(2000), rel=0.02)


def test_a_parameter_that_no_map_uses_counts_its_last_axis() -> None:
    (p,) = first("y: x * param([a, b], init=fan_in)").values()
    assert p.abs().max().item() == pytest.approx(1 / math.sqrt(50), rel=0.02)


def value(init: str, axes: str = "[a, b]", layer: int = 0, seed: int = 0) -> Tensor:
    (p,) = first(f"y: x * param({axes}, init={init})", layer=layer, seed=seed).values()
    return p


@pytest.mark.parametrize(
    ("init", "mean", "std"),
    [
        ("normal(2)", 0, 2),
        ("normal(3, 0.5)", 3, 0.5),
        ("uniform(-1, 3)", 1, 4 / math.sqrt(12)),
        ("truncated_normal(0.5)", 0, 0.5 * 0.88),
        ("2 * normal(1) - 4", -4, 2),
        ("zeros", 0, 0),
        ("ones", 1, 0),
        ("0.25", 0.25, 0),
    ],
)
def test_words_have_the_mean_and_the_spread_that_they_say(init: str, mean: float, std: float) -> None:
    found = value(init)
    assert found.dtype == torch.float64
    assert found.mean().item() == pytest.approx(mean, abs=0.07 * max(std, 1e-9) * 2)
    assert found.std().item() == pytest.approx(std, rel=0.06, abs=1e-12)


def test_a_logarithmic_draw_is_uniform_in_the_logarithm() -> None:
    found = value("log_uniform(0.001, 0.1)").log()
    assert found.min().item() >= math.log(0.001) and found.max().item() <= math.log(0.1)
    assert found.mean().item() == pytest.approx((math.log(0.001) + math.log(0.1)) / 2, abs=0.1)


@pytest.mark.parametrize(
    ("init", "entry"),
    [
        ("log_arange", lambda a, b: math.log(b + 1)),
        ("arange(a)", lambda a, b: a),
        ("arange(b)", lambda a, b: b),
        ("1 - 2 ** (-1 - arange(a))", lambda a, b: 1 - 2 ** (-1 - a)),
        ("softplus_inverse(1 + arange(b))", lambda a, b: math.log(math.expm1(1 + b))),
        ("where(arange(a) < 2, 3, 5)", lambda a, b: 3 if a < 2 else 5),
        ("where(arange(a) <= 2, 3, 5)", lambda a, b: 3 if a <= 2 else 5),
        ("where(arange(a) == 2, 3, 5)", lambda a, b: 3 if a == 2 else 5),
        ("maximum(arange(a), 2)", lambda a, b: max(a, 2)),
        ("minimum(arange(a), 2)", lambda a, b: min(a, 2)),
        ("arange(a) % 3", lambda a, b: a % 3),
        ("(1 + arange(a)) / (2 + arange(b))", lambda a, b: (1 + a) / (2 + b)),
        ("-arange(b)", lambda a, b: -b),
        ("layer", lambda a, b: 3),
        ("arange(a) ** (layer / 6)", lambda a, b: math.sqrt(a)),
    ],
)
def test_what_is_written_out_is_computed(init: str, entry) -> None:  # type: ignore[no-untyped-def]
    found = value(init, layer=3)
    for a, b in ((0, 0), (1, 2), (2, 1), (3, 5)):
        assert found[a, b].item() == pytest.approx(entry(a, b)), (a, b)


@pytest.mark.parametrize(
    "name",
    "neg exp expm1 log log1p sqrt rsqrt square abs sign floor ceil round sin cos tan tanh arctan sigmoid softplus relu reciprocal".split(),
)
def test_functions_of_initialisers_are_those_of_the_language(name: str) -> None:
    calls: dict[str, Callable[[float], float]] = {
        "neg": lambda x: -x,
        "rsqrt": lambda x: x**-0.5,
        "square": lambda x: x * x,
        "sign": lambda x: 1.0,
        "arctan": math.atan,
        "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
        "softplus": lambda x: math.log(1 + math.exp(x)),
        "relu": lambda x: x,
        "reciprocal": lambda x: 1 / x,
        "abs": abs,
        "round": round,
    }
    call = calls.get(name) or getattr(math, name)
    assert value(f"{name}(0.3 + arange(b))")[0, 1].item() == pytest.approx(call(1.3))
    if name in ("relu", "abs", "sign", "floor", "round"):
        assert value(f"{name}(-0.3 - arange(b))")[0, 1].item() == {
            "relu": 0, "abs": 1.3, "sign": -1, "floor": -2, "round": -1,
        }[name]  # fmt: skip


def test_a_seed_and_a_name_decide_the_draw() -> None:
    assert torch.equal(value("normal(1)"), value("normal(1)"))
    assert not torch.equal(value("normal(1)"), value("normal(1)", seed=1))
    one, two = first("y: x * param([a], init=normal(1), name=p) + param([a], init=normal(1), name=q)").values()
    assert not torch.equal(one, two)


@pytest.mark.parametrize(
    ("axes", "sizes"), [("a, b", (40, 50)), ("per, a, b", (3, 40, 50)), ("per, b, a", (3, 50, 40))]
)
def test_the_unit_matrix_lies_along_the_last_two_axes(axes: str, sizes: tuple[int, ...]) -> None:
    (found,) = first(f"y: x * sum(param([{axes}], init=eye), over=[{axes}])").values()
    assert torch.equal(found, torch.eye(*sizes[-2:], dtype=torch.float64).expand(sizes))


@pytest.mark.parametrize(("over", "inputs"), [("a", 40), ("b", 50), ("[a, b]", 2000)])
def test_the_fan_of_a_bias_is_that_of_its_map(over: str, inputs: int) -> None:
    found = first(f"y: linear(x, [c, per], over={over}, bias=true, bias_init=fan_in)")["y.bias"]
    assert found.abs().max().item() == pytest.approx(1 / math.sqrt(inputs), rel=0.06)
    assert found.abs().max().item() <= 1 / math.sqrt(inputs)
