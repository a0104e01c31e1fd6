"""The passes: each does its work once, changes no meaning, and says when it changed nothing."""

import math
import textwrap
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from ssir import passes
from ssir.errors import SpecError
from ssir.ir import Axis, Dependence, Graph, Node, Type, attrs
from ssir.ir.verifier import IllFormed, verify
from ssir.passes.fold import fold_constants
from ssir.passes.gates import find_log_gates
from ssir.passes.merge import merge_equal
from ssir.proof.shrink import shrunk
from ssir.reference.interpreter import Interpreter
from ssir.spec.load import load, loads, zoo

NAMES = [name for name, _ in zoo()]


def graph(body: str, inputs: str = "u: [model]") -> Graph:
    nodes = textwrap.indent(textwrap.dedent(body).strip(), "      ")
    return loads(
        "ssir: 1\nname: t\ndims: {model: 4, n: 3, head: 2, key: 2}\ncomponents:\n  m:\n"
        f"    input: {{{inputs}}}\n    graph:\n{nodes}\n    output: y\nmain: m\n"
    ).graph


def stripped(one: Graph) -> Graph:
    """The graph without what passes found."""
    constant = [node.with_(type=Type(node.type.axes, node.type.dtype)) for node in one]
    return one.with_nodes(constant)


def weights(one: Graph, seed: int = 0) -> dict[str, Tensor]:
    """A value for every parameter of a graph and of its bodies."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}

    def walk(here: Graph, at: str) -> None:
        for node in here.params:
            key = node.attrs["key"] if node.attrs["shared"] else at + node.attrs["key"]
            if key not in found:
                shape = [axis.size or 1 for axis in node.type.axes]
                found[key] = 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
        for node in here:
            if node.op == "stack":
                for i, body in enumerate(node.attrs["pattern"]):
                    walk(here.bodies[body], f"{at}{node.name}.{i}.")

    walk(one, "")
    return found


def outputs(one: Graph, params: dict[str, Tensor], steps: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    given = {}
    for node in one.inputs:
        sizes = [2, *([] if node.name in one.whole else [steps]), *(size or 4 for size in node.type.sizes)]
        if node.type.dtype == "int":
            given[node.name] = torch.randint(0, 2, sizes, generator=generator)
        else:
            given[node.name] = torch.randn(sizes, generator=generator, dtype=torch.float64)
    reset = torch.zeros(2, steps, dtype=torch.bool)
    reset[0, 1] = True
    return Interpreter(one, params).run(given, None, reset)[0]


@cache
def made_small(name: str) -> Graph:
    return shrunk(load(name)).graph


@cache
def meaning(name: str) -> tuple[Graph, dict[str, Tensor], dict[str, Tensor]]:
    """A graph before the passes, values for its parameters, and what it computes."""
    raw = passes.run(made_small(name), "infer dependence")
    params = weights(raw)
    return raw, params, outputs(raw, params)


@pytest.mark.parametrize("name", NAMES)
def test_every_pass_is_done_after_once(name: str) -> None:
    one = load(name).graph
    for _, run in passes.PASSES:
        once = run(one)
        assert run(once) is once, "a pass that changes nothing gives back the same object"
        one = once
    assert passes.run(one) is one, "no pass makes work for one before it"


@pytest.mark.parametrize("name", NAMES)
def test_passes_leave_graphs_well_formed_and_their_meaning_as_it_was(name: str) -> None:
    raw = made_small(name)
    verify(raw)
    done = passes.run(raw, check=True)
    params = weights(raw)
    assert set(weights(done)) <= set(params)
    before, after = outputs(raw, params), outputs(done, params)
    assert before.keys() == after.keys()
    for label in before:
        torch.testing.assert_close(after[label], before[label], rtol=1e-12, atol=1e-12, msg=f"{label} of {name}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("one", passes.PASSES, ids=[name for name, _ in passes.PASSES])
def test_each_pass_by_itself_changes_no_meaning(name: str, one: tuple[str, Callable[[Graph], Graph]]) -> None:
    raw, params, before = meaning(name)
    done = one[1](raw)
    if done is not raw:
        for label, after in outputs(done, params).items():
            torch.testing.assert_close(after, before[label], rtol=1e-12, atol=1e-12, msg=f"{label} of {name}")


def test_a_run_can_stop_after_a_pass() -> None:
    one = graph("y: u * (2 * 0.5)")
    assert passes.run(one, "fold constants") == fold_constants(one) != one
    assert passes.run(one, "fold constants") == fold_constants(one)


# Folding


@pytest.mark.parametrize(
    ("y", "ops"),
    [
        ("u * (2 * 0.5)", set()),
        ("u + 0 * 3", set()),
        ("u ** 1 - 0", set()),
        ("u * exp(0)", set()),
        ("0 + sum(u, over=model) * 1", {"sum"}),
        ("0 - u", {"sub", "const"}),
    ],
)
def test_numbers_are_computed_and_what_changes_nothing_is_dropped(y: str, ops: set[str]) -> None:
    left = {node.op for node in passes.run(graph(f"y: {y}"))} - {"input"}
    assert left == ops


def test_folding_keeps_what_it_cannot_compute() -> None:
    constant = Node("c", "const", (), attrs(value=-1), Type())
    one = Graph("g", {"c": constant, "d": Node("d", "log", ("c",), attrs(), Type())}, (("d", "d"),))
    assert fold_constants(one) is one


@pytest.mark.parametrize(
    ("y", "words"), [("u / 0 * 0 + 1 / (2 - 2)", "division by zero"), ("u * exp(1000)", "has no value")]
)
def test_numbers_that_are_none_are_told(y: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        passes.run(graph(f"y: {y}"))


@pytest.mark.parametrize(
    ("op", "numbers", "wanted"),
    [
        ("neg", (2.0,), -2.0),
        ("exp", (1.0,), math.e),
        ("log", (math.e,), 1.0),
        ("sqrt", (9.0,), 3.0),
        ("square", (3.0,), 9.0),
        ("abs", (-2.0,), 2.0),
        ("add", (2.0, 3.0), 5.0),
        ("sub", (2.0, 3.0), -1.0),
        ("mul", (2.0, 3.0), 6.0),
        ("div", (3.0, 2.0), 1.5),
        ("pow", (3.0, 2.0), 9.0),
        ("maximum", (2.0, 3.0), 3.0),
        ("minimum", (2.0, 3.0), 2.0),
        ("log", (-1.0,), None),
    ],
)
def test_arithmetic_on_numbers_is_done_where_it_can_be(
    op: str, numbers: tuple[float, ...], wanted: float | None
) -> None:
    nodes = {f"c{i}": Node(f"c{i}", "const", (), attrs(value=value), Type()) for i, value in enumerate(numbers)}
    one = fold_constants(Graph("g", {**nodes, "y": Node("y", op, tuple(nodes), attrs(), Type())}, (("y", "y"),)))
    assert one["y"].op == (op if wanted is None else "const")
    assert wanted is None or one["y"].attrs["value"] == pytest.approx(wanted)


@pytest.mark.parametrize("y", ["1 - u", "1 / (u + 3)", "2 ** u", "0 - u", "u * 0 + u", "u ** 0 + u", "u - 1", "u / 2"])
def test_what_only_looks_neutral_stays(y: str) -> None:
    raw = graph(f"y: {y}")
    before, after = outputs(raw, {}), outputs(passes.run(raw), {})
    torch.testing.assert_close(after["y"], before["y"], rtol=0, atol=0)


# Merging


def test_equal_nodes_become_one_and_parameters_do_not() -> None:
    one = merge_equal(graph("y: delay(u) * tanh(delay(u)) + linear(u, model) * linear(u, model)"))
    assert len(one.states) == 1
    assert len(one.params) == 2


def test_numbers_that_are_equal_but_of_another_kind_stay_apart() -> None:
    nodes = {
        name: Node(name, "const", (), attrs(value=value), Type()) for name, value in (("a", 0.0), ("b", -0.0), ("c", 0))
    }
    total = Node("y", "add", ("a", "b"), attrs(), Type())
    one = Graph("g", {**nodes, "y": total}, (("y", "y"), ("c", "c")))
    kept = merge_equal(one)
    assert {str(node.attrs["value"]) for node in kept if node.op == "const"} >= {"0.0", "-0.0"}


# Dependence


@pytest.mark.parametrize(
    ("y", "dependence"),
    [
        ("param([model])", "constant"),
        ("param([model]) * layer", "constant"),
        ("param([model]) * position", "position"),
        ("where(start, param([model]), 0)", "position"),
        ("u", "input"),
        ("u * position", "input"),
        ("delay(u)", "input"),
        ("delay(param([model]))", "position"),
    ],
)
def test_a_value_depends_on_what_it_is_computed_from(y: str, dependence: str) -> None:
    one = passes.run(graph(f"y: {y} + 0 * 1"))
    assert str(one[one.outputs[0][1]].type.dependence) == dependence


def test_only_what_lies_on_a_cycle_depends_on_the_state() -> None:
    one = passes.run(graph("h: tanh(u + delay(h))\nz: linear(u, model)\ny: h * z"))
    assert one["h"].type.dependence is Dependence.STATE
    assert one["z"].type.dependence is Dependence.INPUT
    assert one["y"].type.dependence is Dependence.INPUT
    assert len(one.cycles) == 1 and "z" not in one.cycles[0]


def test_the_layers_of_a_stack_depend_on_what_they_are_given() -> None:
    one = passes.run(
        loads(
            "ssir: 1\nname: t\ndims: {model: 4}\ncomponents:\n"
            "  f:\n    input: {x: [model], w: [model]}\n    graph: {a: 2 * w, y: x + a}\n    output: y\n"
            "  m:\n    input: {u: [model]}\n    graph:\n"
            "      y: {stack: [f], times: 2, input: u, with: {w: 'param([model])'}}\n    output: y\nmain: m\n"
        ).graph
    )
    (body,) = one.bodies.values()
    assert body["a"].type.dependence == body["w"].type.dependence <= Dependence.POSITION
    assert body["x"].type.dependence is Dependence.INPUT


# The verifier


def node(name: str, op: str, *inputs: str, operator: bool = False, **values: object) -> Node:
    return Node(name, op, inputs, attrs(**values), Type((Axis("n", 2),), operator=operator))


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("y", "add", "a", "b")], "`y` uses `a`, which is not there"),
        (
            [node("u", "input"), node("a", "op.diag", "u", operator=True), node("y", "exp", "a")],
            "uses the operator `a` as a value",
        ),
        ([node("u", "input"), node("y", "state", "u", roles=("A",), read="after")], "the A of `y` is no operator"),
        ([node("u", "input"), node("y", "state", "u", roles=("x", "B"), read="after")], "roles ('x', 'B') for 1"),
        ([node("a", "exp", "y"), node("y", "exp", "a")], "a cycle without memory"),
        ([node("u", "input"), node("y", "stack", "u", pattern=("b",), carried=(), given=())], "repeats `b`"),
        ([node("u", "input"), node("y", "stack", "u", pattern=(), carried=("z",), given=())], "1 operands for 2"),
        ([node("u", "input"), node("y", "add", "u")], "`y` has 1 operands for add(a, b)"),
        ([node("u", "input"), node("y", "exp", "u", "u")], "`y` has 2 operands for exp(a)"),
        ([node("y", "arange", axis="n")], "`y` has the attributes axis for arange{axis, size}"),
        ([node("u", "input"), node("y", "exp", "u", over=("n",))], "`y` has the attributes over for exp(a)"),
        ([node("y", "arange", axis="n", size=3)], "`y` is [n:2] real constant, but arange gives [n:3] real constant"),
        ([node("u", "input"), node("y", "gt", "u", "u")], "but gt gives [n:2] bool"),
        ([node("u", "input"), node("y", "sum", "u", over=("m",))], "`y`: there is no axis `m` here"),
    ],
)
def test_the_verifier_says_what_is_ill_formed_and_after_which_pass(nodes: list[Node], words: str) -> None:
    one = Graph("g", {each.name: each for each in nodes}, (("y", "y"),))
    with pytest.raises(IllFormed) as caught:
        verify(one, after="some pass")
    assert words in str(caught.value) and "after the pass `some pass`" in str(caught.value)


def test_the_verifier_wants_outputs_and_names_to_be_there() -> None:
    with pytest.raises(IllFormed, match="the output `y` is `z`, which is not there"):
        verify(Graph("g", {}, (("y", "z"),)))
    with pytest.raises(IllFormed, match="is filed as"):
        verify(Graph("g", {"z": node("y", "input")}, ()))


# Log A


def log_of(gate: str) -> str:
    """What the logarithm of a gate was found to be, as an expression of ops."""
    one = find_log_gates(passes.run(graph(f"y: {{state: [model], A: '{gate}', input: u}}")))
    (state,) = one.states
    name = state.role("logA")
    return "none" if name is None else shown(one, name)


def shown(one: Graph, name: str) -> str:
    here = one[name]
    if here.op in ("input", "param", "linear"):
        return {"input": "u"}.get(here.op, here.op)
    if here.op == "const":
        return f"{here.attrs['value']:g}"
    return f"{here.op}({', '.join(shown(one, operand) for operand in here.inputs)})"


@pytest.mark.parametrize(
    ("gate", "log"),
    [
        ("exp(u)", "u"),
        ("sigmoid(u)", "logsigmoid(u)"),
        ("exp(u) * sigmoid(u)", "add(u, logsigmoid(u))"),
        ("sigmoid(u) ** 8", "mul(logsigmoid(u), 8)"),
        ("sqrt(sigmoid(u))", "mul(logsigmoid(u), 0.5)"),
        ("1 - sigmoid(u)", "logsigmoid(neg(u))"),
        ("softplus(u)", "log(softplus(u))"),
        ("exp(-softplus(u) * exp(param([model])))", "mul(neg(softplus(u)), exp(param))"),
        ("0.5 + 0.5 * sigmoid(u)", "log(add(0.5, mul(0.5, sigmoid(u))))"),
        ("tanh(u)", "none"),
        ("u", "none"),
        ("0.9", "none"),
        ("param([model])", "none"),
    ],
)
def test_the_logarithm_of_a_gate_is_found_by_rewriting(gate: str, log: str) -> None:
    assert log_of(gate) == log


@pytest.mark.parametrize(
    "gate", ["exp(u) * sigmoid(u)", "1 - sigmoid(u)", "sqrt(sigmoid(u)) ** 3", "exp(-softplus(u))"]
)
def test_the_logarithm_is_the_logarithm(gate: str) -> None:
    one = passes.run(graph(f"y: {{state: [model], A: '{gate}', input: u}}"))
    (state,) = one.states
    a, log = state.role("A"), state.role("logA")
    assert a and log
    both = one.with_nodes(one, (("a", one[a].inputs[0]), ("log", log)))
    found = outputs(both, {})
    torch.testing.assert_close(found["log"], found["a"].log(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("a", "log"),
    [
        ("1 - outer(u, u, over=model)", "none"),
        ("(1 - outer(u, u, over=model)) * sigmoid(u)", "logsigmoid(u)"),
        ("sigmoid(u) * (1 - outer(u, u, over=model))", "logsigmoid(u)"),
        ("exp(u) + outer(u, u, over=model)", "u"),
        ("exp(u) * (1 - outer(u, u, over=model)) * sigmoid(u)", "add(logsigmoid(u), u)"),
        ("0.5 * (sigmoid(u) - outer(u, u, over=model))", "add(-0.693147, logsigmoid(u))"),
        ("-(outer(u, u, over=model) - exp(u))", "u"),
        ("outer(u, u, over=model) - exp(u)", "none"),
        ("-(exp(u) - outer(u, u, over=model))", "none"),
        ("u - outer(u, u, over=model)", "none"),
        ("-(1 - outer(u, u, over=model)) * sigmoid(u)", "none"),
        ("outer(u, u, over=model) * sigmoid(u)", "none"),
        (
            "rotate(linear(u, key), over=model) * sigmoid(sum(u, over=model)) * 0.5",
            "add(logsigmoid(sum(u)), -0.693147)",
        ),
        ("rotate(linear(u, key), over=model) * sigmoid(u)", "none"),
        ("-rotate(linear(u, key), over=model) * 0.5", "none"),
        ("(1 - outer(u, u, over=model)) * (1 - outer(u, u, over=model))", "none"),
        (
            "(1 - outer(u, u, over=model)) * sigmoid(sum(u, over=model)) * (1 - outer(u, tanh(u), over=model))",
            "logsigmoid(sum(u))",
        ),
        ("(1 - outer(u, u, over=model)) * sigmoid(u) * (1 - outer(u, tanh(u), over=model))", "none"),
    ],
)
def test_the_logarithm_of_the_diagonal_beside_an_outer_product_is_found(a: str, log: str) -> None:
    one = passes.run(graph(f"y: {{state: [model], A: '{a}', input: u}}"), check=True)
    assert log_of(a) == log
    assert passes.run(one) is one


def test_a_deep_product_of_gates_is_found_in_time() -> None:
    chain = "\n".join(f"x{i}: x{i + 1} * x{i + 1}" for i in range(200))
    passes.run(graph(f"{chain}\nx200: sigmoid(u)\ny: {{state: [model], A: x0, input: u}}"), check=True)
