"""Who feeds whom among the states of a graph."""

from ssir import passes
from ssir.analysis.coupling import Way, coupled, entries
from ssir.ir.graph import Graph
from ssir.spec.load import loads

SPEC = """
ssir: 1
name: fed
dims: {{n: 4, slot: 6}}
components:
  main:
    input: {{u: [n], v: [n]}}
    graph:
{graph}
    output: y
main: main
"""


def graph_of(*lines: str) -> Graph:
    return passes.run(loads(SPEC.format(graph="\n".join(f"      {line}" for line in lines))).graph, check=True)


def names(graph: Graph) -> list[list[str]]:
    return [[node.name for node in group] for group in coupled(graph)]


def test_a_state_that_reads_another_is_coupled_to_it() -> None:
    graph = graph_of(
        "a: {state: [n], A: 0.5, input: u}",
        "b: {state: [n], A: 0.5, input: 2 * a}",
        "c: {state: [n], A: 0.5, input: v}",
        "y: b + c",
    )
    assert names(graph) == [["a", "b"]]
    assert set(entries(graph)["b"]) == {"a"} and entries(graph)["b"]["a"].linear
    assert entries(graph)["a"] == {"u": Way()}


def test_a_function_on_the_way_is_not_linear() -> None:
    graph = graph_of("a: {state: [n], A: 0.5, input: u}", "b: {state: [n], A: 0.5, input: tanh(a) + v}", "y: b")
    ways = entries(graph)["b"]
    assert set(ways) == {"a", "v"}
    assert not ways["a"].linear and ways["v"].linear


def test_a_state_that_only_opens_a_gate_or_sets_a_coefficient_feeds_nothing() -> None:
    graph = graph_of(
        "a: {state: [n], A: 0.5, input: u}",
        "b: {state: [n], A: sigmoid(a), B: 1 - sigmoid(a), input: v}",
        "c: {state: [n], A: 0.5, input: sigmoid(a) * (u + b)}",
        "y: b + c",
    )
    assert names(graph) == [["b", "c"]]
    assert set(entries(graph)["c"]) == {"u", "b"}


def test_of_a_product_with_a_state_the_other_factors_are_coefficients() -> None:
    graph = graph_of("a: {state: [n], A: 0.5, input: u}", "b: {state: [n], A: 0.5, input: a * v}", "y: b")
    assert set(entries(graph)["b"]) == {"a"}


def test_a_value_that_is_read_twice_is_looked_through_both_times() -> None:
    graph = graph_of(
        "a: {state: [n], A: 0.5, input: u}",
        "back: a - u",
        "b: {state: [n], A: 0.5, input: (u + back) * (v + back * v)}",
        "y: b",
    )
    assert "a" in entries(graph)["b"]


def test_a_loop_through_delays_is_followed_once() -> None:
    graph = graph_of("a: delay(tanh(linear(a, n) + b))", "b: delay(a + u)", "y: a + b")
    assert names(graph) == [["a.delay", "b"]]
    assert set(entries(graph)["a.delay"]) == {"a.delay", "b"} and set(entries(graph)["b"]) == {"a.delay", "u"}


def test_attention_couples_nothing() -> None:
    """Keys decide what is read of the values, not what is kept."""
    graph = graph_of(
        "scores: dot(u, window(v, slot), over=n)",
        "y: {state: [slot, n], A: shift(slot), input: v, C: 'softmax(scores, over=slot)'}",
    )
    assert names(graph) == []


def test_states_of_two_algebras_make_no_one_matrix() -> None:
    graph = graph_of(
        "top: {state: [n], A: -1, input: u, algebra: max_plus}", "b: {state: [n], A: 0.5, input: top}", "y: b"
    )
    assert names(graph) == []


def test_the_shortest_of_several_ways_is_told() -> None:
    graph = graph_of("a: {state: [n], A: 0.5, input: u}", "b: {state: [n], A: 0.5, input: a + tanh(a)}", "y: b")
    assert [graph[name].op for name in entries(graph)["b"]["a"].nodes] == ["add"]


def test_a_feed_through_lets_what_enters_a_state_enter_the_next() -> None:
    graph = graph_of("a: {state: [n], A: 0.5, input: u, D: 2}", "b: {state: [n], A: 0.5, input: a}", "y: b")
    assert entries(graph)["b"] == {"a": Way(), "u": Way(("a",))}
    plain = graph_of("a: {state: [n], A: 0.5, input: u}", "b: {state: [n], A: 0.5, input: a}", "y: b")
    assert set(entries(plain)["b"]) == {"a"}
