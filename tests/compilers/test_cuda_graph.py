"""The parts of the backend `cuda-graph` that need no CUDA: a stand-in for a captured graph runs the same function again."""

from collections.abc import Callable

import pytest
import torch

import ssir
from ssir.compilers import cuda_graph
from ssir.compilers.kernels.module import Model
from ssir.errors import EnvironmentLacks, UsageError
from tests.small import small

ZOO = ["mamba", "transformer", "griffin", "lstm", "rwkv4", "gpt2"]


def again(run: Callable[[], None]) -> cuda_graph.Replay:
    for _ in range(3):
        run()
    return run


def pair(name: str) -> tuple[Model, cuda_graph.GraphModel, torch.Tensor]:
    torch.manual_seed(0)
    model = ssir.compile(small(name), dtype=torch.float64)
    return model, cuda_graph.compile(model, capacity=24, capture=again), torch.randint(0, 7, (3, 12))


@pytest.mark.parametrize("name", ZOO)
def test_replayed_steps_equal_eager_steps(name: str) -> None:
    model, graphs, x = pair(name)
    with torch.no_grad():
        whole, _ = model(x)
        state, found = None, []
        for t in range(12):
            y, state = graphs.step(x[:, t], state)
            found.append(y)
    torch.testing.assert_close(torch.stack(found, 1), whole, rtol=1e-10, atol=1e-12, msg=lambda text: f"{name}: {text}")


@pytest.mark.parametrize("name", ZOO)
def test_steps_go_on_from_a_captured_prefill_and_from_an_eager_one(name: str) -> None:
    model, graphs, x = pair(name)
    with torch.no_grad():
        whole, _ = model(x)
        y, state = graphs(x[:, :7])
        torch.testing.assert_close(y, whole[:, :7], rtol=1e-10, atol=1e-12)
        y, _ = graphs.step(x[:, 7], state)
        torch.testing.assert_close(y, whole[:, 7], rtol=1e-10, atol=1e-12)
        _, eager = model(x[:, :7])
        y, _ = graphs.step(x[:, 7], eager)
        torch.testing.assert_close(y, whole[:, 7], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ZOO)
def test_weights_may_change_between_replays(name: str) -> None:
    model, graphs, x = pair(name)
    with torch.no_grad():
        _, state = graphs.step(x[:, 0])
        kept = graphs.fork(state)
        for parameter in model.parameters():
            parameter.mul_(1.1)
        y, _ = graphs.step(x[:, 1], state)
        wanted, _ = model.step(x[:, 1], kept)
    torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-12)


def test_states_never_move() -> None:
    _, graphs, x = pair("transformer")
    _, state = graphs.step(x[:, 0])
    places = {name: value.data_ptr() for name, value in state.items()}
    for t in range(1, 9):
        _, state = graphs.step(x[:, t], state)
    assert {name: value.data_ptr() for name, value in state.items()} == places


def test_more_steps_than_there_is_room_for_are_refused() -> None:
    model, graphs, _ = pair("transformer")
    with torch.no_grad():
        _, long = model(torch.randint(0, 7, (3, 30)))
        with pytest.raises(UsageError, match="room for 24"):
            graphs.step(torch.randint(0, 7, (3,)), long)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")
def test_without_cuda_one_sentence_names_the_alternative() -> None:
    with pytest.raises(EnvironmentLacks, match="use the backend `torch`"):
        ssir.compile(small("mamba"), backend="cuda-graph")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ZOO)
def test_captured_graphs_equal_the_eager_step_on_a_gpu(name: str) -> None:
    graphs = ssir.compile(small(name), backend="cuda-graph", dtype=torch.float64)
    model = graphs.model
    assert isinstance(model, Model)
    x = torch.randint(0, 7, (3, 12), device="cuda")
    with torch.no_grad():
        whole, _ = model(x)
        y, state = graphs(x[:, :5])
        found = [*y.unbind(1)]
        for t in range(5, 12):
            y, state = graphs.step(x[:, t], state)
            found.append(y)
    torch.testing.assert_close(torch.stack(found, 1), whole, rtol=1e-9, atol=1e-11)
