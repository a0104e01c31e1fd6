"""Every spec of the zoo: it is whole, it elaborates at its published size, and it has as many parameters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ssir import passes
from ssir.analysis.facts import facts
from ssir.ir.graph import Graph
from ssir.reference.interpreter import Interpreter
from ssir.spec.load import load, zoo
from tests.oracles.compare import Model, parameters
from tests.small import SMALL, at, inputs, last, small

NAMES = [name for name, _ in zoo()]
PARTIAL = {"trape"}  # its mixer reads what says the position, and never writes it


def states(graph: Graph) -> Iterator[tuple[Graph, str]]:
    for one in graph.walk():
        for node in one.states:
            yield one, node.name


def test_every_spec_has_small_dims_to_be_tested_at() -> None:
    assert set(SMALL) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_introduces_itself(name: str) -> None:
    file = load(name).module.file
    assert file.name == name
    assert file.title and file.paper and file.idea and file.tags and file.glossary


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_elaborates_at_its_published_size(name: str) -> None:
    graph = passes.run(load(name).graph, check=True)
    assert all(size is None or size > 0 for one in graph.walk() for node in one for size in node.type.sizes)


@pytest.mark.parametrize("name", NAMES)
def test_every_named_size_elaborates(name: str) -> None:
    for size in load(name).module.file.sizes:
        passes.run(load(name, size).graph, check=True)


@pytest.mark.parametrize("name", [name for name in NAMES if "mixer" in load(name).module.file.components])
def test_a_mixer_can_be_had_by_itself(name: str) -> None:
    spec = load(f"{name}.mixer")
    graph = passes.run(spec.graph, check=True)
    assert graph.states or not graph.has_step
    first, (_, output) = graph.inputs[0], graph.outputs[0]
    if name not in PARTIAL:
        assert set(graph[output].type.axes) == set(first.type.axes)


@pytest.mark.parametrize("name", NAMES)
def test_gains_and_biases_are_spared_weight_decay(name: str) -> None:
    for key, node in parameters(load(name).graph):
        if len(node.type.axes) == 1 or key.endswith(".bias"):
            assert not node.attrs["decay"], key


@pytest.mark.parametrize("name", ["mamba", "mamba2", "hawk", "hgrn2", "rwkv4", "rwkv6"])
def test_gates_between_0_and_1_have_a_logarithm_without_log_of_exp(name: str) -> None:
    graph = passes.run(load(name).graph)
    gated = [facts(one, one[state]) for one, state in states(graph)]
    logs = [(found.node.name, found.log) for found in gated if found.structure.kind == "diagonal" and found.log]
    assert logs
    for one, state in states(graph):
        log = facts(one, one[state]).log
        assert log is None or one[log].op != "log" or one[one[log].inputs[0]].op != "exp"


@pytest.mark.parametrize("name", ["mamba", "mamba2", "hawk", "hgrn2", "rwkv4", "rwkv6"])
def test_scans_lie_on_no_cycle(name: str) -> None:
    graph = passes.run(load(name).graph)
    assert all(facts(one, one[state]).cycle is None for one, state in states(graph))


@pytest.mark.parametrize("name", SMALL)
def test_small_models_run_and_every_parameter_matters(name: str) -> None:
    model = Model(small(name)).fill()
    y, _ = model(*inputs(model.graph, 2, 9))
    assert last(model.graph, y).shape[0] == 2 and (last(model.graph, y) is y or y.shape[1] == 9) and y.isfinite().all()
    if model.params:
        y.abs().square().sum().backward()
    for key, gradient in model.gradients().items():
        assert gradient.isfinite().all() and gradient.abs().max() > 0, key


def test_gradients_are_finite_where_a_gate_is_shut() -> None:
    """A recurrence gate of exactly 0 gives a = 1, where the slope of sqrt(1 - a^2) is infinite."""
    graph = passes.run(load("hawk.mixer", None, model=4, head=2, layers=1).graph)
    params = {key: torch.zeros([s or 0 for s in n.type.sizes], dtype=torch.float64) for key, n in parameters(graph)}
    params["Lambda"] = torch.full_like(params["Lambda"], -800.0)
    params["conv_bias"] += 1.0
    params = {key: value.requires_grad_() for key, value in params.items()}
    outputs, _ = Interpreter(graph, params).run({"u": torch.ones(1, 3, 4, dtype=torch.float64)})
    next(iter(outputs.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in params.values())


@pytest.mark.parametrize("name", [name for name in SMALL if load(name).graph.has_step])
def test_resets_start_afresh(name: str) -> None:
    model = Model(small(name)).fill()
    xs = inputs(model.graph, 2, 9)
    reset = torch.zeros(2, 9, dtype=torch.bool)
    reset[:, 4] = True
    with torch.no_grad():
        y, _ = model(*xs, reset=reset)
        afresh = model(*at(model.graph, xs, slice(4, None)))[0]
        assert torch.allclose(y if last(model.graph, y) is y else y[:, 4:], afresh, atol=1e-10)
