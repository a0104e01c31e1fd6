"""The parts of the backend `cuda-graph` that need no CUDA: a stand-in for a captured graph repeats what was done to the same memory."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import ssir
from ssir.compilers import cuda_graph
from ssir.compilers.runtime import native
from ssir.compilers.runtime.model import Model
from ssir.errors import EnvironmentLacks, UsageError
from tests.small import small

ZOO = ["mamba", "transformer", "griffin", "lstm", "rwkv4", "gpt2"]


class Recorder(TorchDispatchMode):
    """Keeps every operation with the tensors that it read and wrote, as a captured graph keeps their addresses. Repeated, it reads what
    stands there then, and writes its results where they stood: a tensor that has moved meanwhile is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.done: list[tuple[Any, Any, Any, list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, pytree.tree_leaves(result)))
        return result

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, kept in self.done:
                read = {
                    x.untyped_storage().data_ptr()
                    for x in pytree.tree_leaves((args, kwargs))
                    if isinstance(x, torch.Tensor)
                }
                for old, new in zip(kept, pytree.tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(old, torch.Tensor) and old.untyped_storage().data_ptr() not in read:
                        old.copy_(new)


def again(run: Callable[[], None], begin: Callable[[], None] = lambda: None) -> cuda_graph.Replay:
    for _ in range(3):
        begin()
        run()
    begin()
    recorder = Recorder()
    with recorder:
        run()
    return recorder.replay


@pytest.fixture(autouse=True)
def no_native_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code runs behind the back of a recorder, as of a captured graph."""
    monkeypatch.setattr(native, "library", lambda dtype, source="": None)


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


@pytest.mark.parametrize("name", ["mamba", "griffin", "lstm", "rwkv4"])
@pytest.mark.parametrize(
    "meanwhile", ["gradients", "initial states", "frozen calls", "evaluation", "new tensors", "new weights"]
)
def test_nothing_that_happens_meanwhile_moves_what_a_graph_reads(name: str, meanwhile: str) -> None:
    model, graphs, x = pair(name)
    other, _, _ = pair(name)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.1)
    _, state = graphs.step(x[:, 0])
    kept = graphs.fork(state)
    match meanwhile:
        case "gradients":
            model(x)[0].sum().backward()
        case "initial states":
            model.initial_state(3)
        case "frozen calls":
            with torch.no_grad(), model.frozen():
                model.step(x[:, 0])
        case "evaluation":
            with torch.no_grad():
                model(x)
        case "new tensors":
            model.load_state_dict(other.state_dict(), assign=True)
        case _:
            model.load_state_dict(other.state_dict())
    with torch.no_grad():
        y, _ = graphs.step(x[:, 1], state)
        wanted, _ = model.step(
            x[:, 1], {key: value for key, value in kept.items() if key != "count"} | _grown(model, kept)
        )
    torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-12)


def _grown(model: Model, state: Any) -> dict[str, torch.Tensor]:
    """The registers of a state of fixed capacity as the eager model has them."""
    entries = int(state["count"])
    memories = model.signature.memories
    return {key: state[key][:, :entries] for key, memory in memories.items() if None in memory.sizes}


def test_the_recorder_sees_a_tensor_that_has_moved() -> None:
    box = {"w": torch.ones(2)}
    x, y = torch.ones(2), torch.zeros(2)

    def run() -> None:
        y.copy_(x * box["w"])

    replay = again(run)
    x.fill_(3)
    replay()
    assert y.tolist() == [3, 3]
    box["w"] = torch.full((2,), 5.0)
    replay()
    assert y.tolist() == [3, 3], "as a captured graph, it reads the old one"


def test_a_captured_model_is_saved_and_pickled(tmp_path: Path) -> None:
    model, graphs, x = pair("mamba")
    graphs.step(x[:, 0])
    ssir.save(graphs, tmp_path / "saved")
    with torch.no_grad():
        wanted, _ = model(x)
        torch.testing.assert_close(ssir.open(tmp_path / "saved")(x)[0], wanted)
        again = pickle.loads(pickle.dumps(cuda_graph.GraphModel(model, 8, None, None, cuda_graph.on_cuda)))
        torch.testing.assert_close(again.model(x)[0], wanted)


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


def test_more_steps_than_there_is_room_for_are_refused_before_they_are_taken() -> None:
    _, graphs, x = pair("transformer")
    _, state = graphs(x)
    _, state = graphs(x, state=state)
    with pytest.raises(UsageError, match="room for 24 steps, and there would be 25"):
        graphs.step(x[:, 0], state)
    _, state = graphs.step(x[:, 0])  # from the start again
    kept = graphs.fork(state)
    graphs(x)
    graphs(x, state=kept)
    with pytest.raises(UsageError, match="there would be 25"):
        graphs(x[:, :1], state=graphs.forward(x, state=graphs(x)[1])[1])


@pytest.mark.parametrize("name", ["mamba", "transformer", "griffin"])
def test_a_sequence_goes_through_in_pieces_of_the_lengths_that_were_chosen(name: str) -> None:
    model, _, _ = pair(name)
    graphs = cuda_graph.compile(model, capacity=24, lengths=[2, 8], capture=again)
    for steps in (1, 7, 11, 12):
        x = torch.randint(0, 7, (3, steps))
        with torch.no_grad():
            torch.testing.assert_close(graphs(x)[0], model(x)[0], rtol=1e-10, atol=1e-12)
    assert {steps for _, (_, steps) in graphs._captured} == {None, 2, 8}


@pytest.mark.parametrize("name", ["mamba", "transformer", "griffin"])
def test_fewer_sequences_than_a_graph_holds(name: str) -> None:
    model, _, _ = pair(name)
    graphs = cuda_graph.compile(model, capacity=24, batches=[4, 2], capture=again)
    whole = torch.randint(0, 7, (4, 9))
    with torch.no_grad():
        for batch in (4, 3, 1):
            x = whole[:batch]
            wanted, _ = model(x)
            y, state = graphs(x[:, :8])
            last, state = graphs.step(x[:, 8], state)
            torch.testing.assert_close(torch.cat([y, last[:, None]], 1), wanted, rtol=1e-10, atol=1e-12)
            assert state.batch == batch
        with pytest.raises(UsageError, match="no room for 5 sequences"):
            graphs.step(torch.zeros(5, dtype=torch.long))
    assert {room for room, _ in graphs._captured} == {2, 4}


@pytest.mark.parametrize("name", ["mamba", "transformer", "lstm"])
def test_tokens_drawn_in_graphs_are_those_drawn_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "TOKENS", 4)
    model, graphs, x = pair(name)
    found, state = graphs.generate(x[:2, :5], 10, temperature=0)
    wanted, after = model.generate(x[:2, :5], 10, temperature=0)
    assert found.tolist() == wanted.tolist()
    more, _ = graphs.generate(found[:, -1:], 3, temperature=0, state=state)
    assert more.tolist() == model.generate(wanted[:, -1:], 3, temperature=0, state=after)[0].tolist()
    drawn = [graphs.generate(x[:2, :5], 9, temperature=3.0, top_k=3)[0].tolist() for _ in range(3)]
    assert len(set(map(str, drawn))) > 1, "each replay draws anew"


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
