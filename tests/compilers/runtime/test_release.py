"""What a reset has closed is not kept."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

import ssir
from ssir.compilers.runtime import model as runtime
from ssir.compilers.runtime.model import Model
from ssir.compilers.runtime.release import release
from ssir.compilers.runtime.state import State

SPEC = """
ssir: 1
name: one
dims: {n: 4, slot: unbounded}
components:
  main:
    input: {x: [n]}
    graph:
      y: {state: [slot, n], A: shift(slot), input: x, C: "softmax(dot(x, window(x, slot), over=n), over=slot)"}
    output: y
main: main
"""


def released(model: Model, state: State) -> State:
    cut = dict(state)
    release(cut, [name for name, memory in model.signature.memories.items() if None in memory.sizes])
    return State(cut, model.signature)


def entries(state: Mapping[str, Tensor]) -> set[int]:
    return {value.shape[1] for name, value in state.items() if name != "position"}


def run(model: Model, x: Tensor, reset: Tensor, cut: bool) -> tuple[Tensor, State]:
    """Prefill, then steps, cut after every call."""
    y, state = model(x[:, :9], reset=reset[:, :9])
    ys = [y]
    for t in range(9, x.shape[1]):
        if cut:
            state = released(model, state)
        y, state = model.step(x[:, t], state, reset[:, t])
        ys.append(y[:, None])
    return torch.cat(ys, 1), state


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model that releases nothing by itself."""
    monkeypatch.setattr(runtime, "release", lambda state, grows: None)
    made: Model = ssir.compile(ssir.loads(SPEC), dtype=torch.float64)
    return made


@pytest.mark.parametrize("grad", [False, True])
def test_only_the_longest_open_document_is_kept_and_nothing_changes(model: Model, grad: bool) -> None:
    x = torch.randn(2, 60, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reset = torch.zeros(2, 60, dtype=torch.bool)
    reset[0, 5] = reset[1, 7] = reset[:, 20] = reset[0, 40] = True
    with torch.set_grad_enabled(grad):
        whole, full = run(model, x, reset, False)
        y, state = run(model, x, reset, True)
    assert torch.allclose(y, whole, atol=1e-12)
    assert entries(full) == {60}
    assert entries(released(model, state)) == {40}  # the second row goes on since step 20


def test_memory_is_given_back(model: Model) -> None:
    reset = torch.zeros(1, 1000, dtype=torch.bool)
    reset[0, 990] = True
    _, state = model(torch.randn(1, 1000, 4, dtype=torch.float64), reset=reset)
    state = released(model, state)
    sizes = [value.untyped_storage().nbytes() for name, value in state.items() if name != "position"]
    assert sizes and all(size == 10 * 4 * 8 for size in sizes)


def test_two_continuations_of_a_cut_state_do_not_see_each_other(model: Model) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 1, 50, 4, dtype=torch.float64, generator=generator)
    reset = torch.zeros(1, 50, dtype=torch.bool)
    reset[0, 10] = True
    with torch.no_grad():
        state: State | None = None
        for t in range(40):
            _, state = model.step(x[0, :, t], state, reset[:, t])
        assert state is not None
        state = released(model, state)
        assert entries(state) == {30}
        for other in (1, 2, 1):
            both = torch.cat([x[0, :, :40], x[other, :, 40:]], 1)
            wanted, _ = model(both, reset=reset)
            branch = state
            for t in range(40, 50):
                y, branch = model.step(both[:, t], branch)
                assert torch.allclose(y, wanted[:, t], atol=1e-12)


def test_what_is_not_finite_does_not_stay_behind(model: Model) -> None:
    reset = torch.zeros(2, 30, dtype=torch.bool)
    reset[0, 20] = True
    x = torch.randn(2, 30, 4, dtype=torch.float64)
    x[0, :20] = torch.nan
    _, state = model(x, reset=reset)
    wanted, _ = model.step(x[:, 0].nan_to_num(1), state)
    state = released(model, state)
    assert all(value.isfinite().all() for value in state.values())
    assert torch.allclose(model.step(x[:, 0].nan_to_num(1), state)[0], wanted, atol=1e-12)
    x[1, 0] = torch.nan  # an open document stays as it is
    _, state = model(x, reset=reset)
    assert not all(value.isfinite().all() for value in released(model, state).values())


def test_a_state_of_fixed_capacity_is_left_alone(model: Model) -> None:
    state = model.initial_state(2, capacity=16)
    x = torch.randn(2, 4, dtype=torch.float64)
    _, state = model.step(x, state, torch.ones(2, dtype=torch.bool))
    assert entries({k: v for k, v in released(model, state).items() if k != "count"}) == {16}


def test_a_call_with_resets_gives_back_by_itself() -> None:
    made: Model = ssir.compile(ssir.loads(SPEC), dtype=torch.float64)
    reset = torch.zeros(1, 100, dtype=torch.bool)
    reset[0, 90] = True
    _, state = made(torch.randn(1, 100, 4, dtype=torch.float64), reset=reset)
    assert entries(state) == {10}
