"""The path of a parameter or a memory follows from where its call stands: not from the order of demand, and not from other nodes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssir import passes
from ssir.errors import SpecError
from ssir.ir.graph import Graph, parameters
from ssir.ir.text import parse, render
from ssir.spec.load import loads

SPEC = """
ssir: 1
name: named
dims: {{model: 4, vocab: 7, slot: 3}}
components:
  f:
    input: {{x: [model]}}
    graph:
      weight_of: linear(x, model)
      past: delay(weight_of)
      out: weight_of + past
    output: out
  mixer:
    input: {{u: [model], tokens: token}}
    graph:
{nodes}
    output: y
main: mixer
"""


def graph(*nodes: str) -> Graph:
    return loads(SPEC.format(nodes="\n".join(f"      {node}" for node in nodes))).graph


def paths(*nodes: str) -> set[str]:
    return {path for path, _, _, _ in parameters(graph(*nodes))}


def memories(*nodes: str) -> set[str]:
    return {node.name for node in passes.run(graph(*nodes)).states}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("y: linear(u, model)", {"y.weight"}),
        ("y: 2 * linear(u, model)", {"y.weight"}),
        ("y: f(u)", {"y.weight_of.weight"}),
        ("y: 2 * f(u)", {"y.weight_of.weight"}),
        ("y: u * param([model])", {"y"}),
        ("y: f(rms_norm(u, over=model))", {"y.f.weight_of.weight", "y.rms_norm.weight"}),
        ("y: f(rms_norm(u, over=model, scale=false))", {"y.f.weight_of.weight"}),
        ("y: f(u) + f(2 * u)", {"y.f.weight_of.weight", "y.f_2.weight_of.weight"}),
        ("y: f(f(u))", {"y.f.weight_of.weight", "y.f_2.weight_of.weight"}),
        ("y: f(u, name=left) + f(2 * u)", {"left.weight_of.weight", "y.weight_of.weight"}),
        ("y: linear(u, model, bias=true, name=q)", {"q.weight", "q.bias"}),
        ("y: linear(u, model, name=y)", {"y.weight"}),
        ("y: {state: [model], A: 'exp(-param([model]))', input: u}", {"y.A"}),
        ("y: {state: [model], A: 'exp(-param([model], name=rate))', input: u}", {"rate"}),
        (
            "y: {state: [model], A: 0, B: 'param([model]) * rms_norm(u, over=model)'}",
            {"y.B.param", "y.B.rms_norm.weight"},
        ),
        (
            "y: {state: [model], A: -1, input: u, discretize: {method: zoh, dt: 'exp(param([model]))'}}",
            {"y.dt"},
        ),
        (
            "y: {stack: [f], times: 2, input: 'linear(u, model)'}",
            {"y.input.weight", "y.0.weight_of.weight", "y.1.weight_of.weight"},
        ),
    ],
)
def test_a_path_is_that_of_the_expression_or_below_it(node: str, expected: set[str]) -> None:
    assert paths(node) == expected


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("y: delay(u)", {"y"}),
        ("y: u + 2 * delay(u)", {"y"}),
        ("y: delay(u, steps=3)", {"y"}),
        ("y: sum(window(u, slot), over=slot) + hold(u, every=2)", {"y.window", "y.hold"}),
        ("y: delay(u, name=past) + linear(u, model)", {"past"}),
        ("y: f(u)", {"y.past"}),
    ],
)
def test_memories_follow_the_same_rule(node: str, expected: set[str]) -> None:
    assert memories(node) == expected


NODES = [
    "q: f(u)",
    "k: 2 * f(q)",
    "v: linear(u, model) + delay(u) - f(rms_norm(u, over=model))",
    "e: embed(tokens, vocab, model)",
    "s: {state: [model], A: 'exp(-param([model]))', B: 'param([model])', input: f(u)}",
    "mul: u * param([model])",
    "d: delay(d) * 0.5 + k",
]
TERMS = ["q", "k * v", "e", "s", "mul", "d", "delay(u)", "f(v, name=own)", "linear(u, model, name=last)"]


def named(order: list[str], terms: list[str]) -> tuple[set[str], set[str], set[str]]:
    nodes = [*order, f"y: {' + '.join(terms)}"]
    made = graph(*nodes)
    return paths(*nodes), memories(*nodes), {f"{path}: {name}" for path, name in made.calls.items()}


@settings(max_examples=25, deadline=None)
@given(st.permutations(NODES), st.permutations(TERMS))
def test_no_order_of_nodes_or_operands_changes_a_path(order: list[str], terms: list[str]) -> None:
    assert named(order, terms) == named(NODES, TERMS)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from([0, 1, 3, 4, 5])))
def test_what_another_node_is_changes_no_path(left: set[int]) -> None:
    whole = paths(*NODES, "y: q + k + v + e + s + mul + d")
    kept = [term for i, term in enumerate(["q", "k", "v", "e", "s", "mul"]) if i not in left]
    assert paths(*NODES, f"y: {' + '.join(kept)}") <= whole


def test_a_function_gives_way_to_a_component_of_the_same_parameters() -> None:
    text = SPEC.replace(
        "  mixer:",
        "  map:\n    input: {{a: [model]}}\n    graph: {{y: 'linear(a, model, name=it)'}}\n    output: y\n  mixer:",
    )
    one = loads(text.format(nodes="      y: map(u)")).graph
    assert {path for path, _, _, _ in parameters(one)} == {"y.it.weight"}


@pytest.mark.parametrize(
    "nodes",
    [
        ["x: linear(u, model, name=q)", "y: linear(x, model, name=q)"],
        ["x: linear(u, model)", "y: linear(x, model, name=x)"],
        ["x: linear(u, model)", "y: f(x, name=x)"],
        ["y: f(u) + linear(u, model, name=y)"],
        ["y: {state: [model], A: 0.5, input: u, D: 'param([model], name=y)'}"],
    ],
)
def test_a_name_that_is_taken_is_refused_where_it_stands(nodes: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        graph(*nodes)
    fault = caught.value.diagnostics[0]
    assert fault.code == "SSIR024" and fault.span is not None and fault.help


def test_nothing_stands_below_a_parameter() -> None:
    found = paths(*NODES, f"y: {' + '.join(TERMS)}")
    assert not any(other.startswith(f"{path}.") for path in found for other in found)


def test_the_text_of_the_ir_tells_which_component_a_path_is_a_call_of() -> None:
    one = graph(*NODES, "y: q + k + v + e + s + mul + d")
    assert one.calls["q"] == one.calls["k"] == one.calls["s.input"] == one.calls["v.f"] == "f"
    assert parse(render(one)).calls == one.calls
