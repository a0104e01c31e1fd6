"""A state is a value: kept, forked, chosen from, rolled back, saved; checked once where it comes in."""

import threading
from pathlib import Path

import pytest
import torch

import ssir
from ssir.compilers.runtime.model import InputError
from ssir.compilers.runtime.state import State, StateError
from tests.compilers.runtime.habits import NAMES, close, model, tokens
from tests.small import component


@pytest.mark.parametrize("name", NAMES)
def test_the_state_after_every_step_verifies_a_draft(name: str) -> None:
    ours, x = model(name, dtype=torch.float64), tokens(2, 21)
    with torch.no_grad():
        whole, _ = ours(x)
        _, state = ours(x[:, :7])
        y, states = ours(x[:, 7:14], state, states="each")
        close(y, whole[:, 7:14], 1e-10)
        assert len(states) == 7
        for k in (0, 3, 6, -1):
            at = 7 + k % 7 + 1
            close(ours.step(x[:, at], states[k])[0], whole[:, at], 1e-10)
        last = states[6]
        _, wanted = ours(x[:, :14])
        assert last.keys() == wanted.keys()
        for key, value in wanted.items():
            close(last[key], value, 1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_the_states_after_every_step_know_resets(name: str) -> None:
    ours, x = model(name, dtype=torch.float64), tokens(2, 12)
    reset = torch.zeros(2, 12, dtype=torch.bool)
    reset[0, 3] = reset[1, 6] = reset[1, 7] = True
    with torch.no_grad():
        y, states = ours(x, reset=reset, states="each")
        close(y, ours(x, reset=reset)[0], 1e-10)
        for k in (2, 3, 6, 9):
            _, wanted = ours(x[:, : k + 1], reset=reset[:, : k + 1])
            close(ours.step(x[:, 0], states[k])[0], ours.step(x[:, 0], wanted)[0], 1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_different_lengths_leave_the_state_of_their_own_last_step(name: str) -> None:
    ours, x = model(name, dtype=torch.float64), tokens(4, 15)
    lengths = torch.tensor([15, 1, 6, 6])
    _, before = ours(tokens(4, 5, 1))
    with torch.no_grad():
        y, state = ours(x, before, lengths=lengths)
        for row, length in enumerate(lengths.tolist()):
            wanted, after = ours(x[row : row + 1, :length], before.select([row]))
            close(y[row : row + 1, :length], wanted, 1e-10)
            assert (y[row, length:] == 0).all()
            close(
                ours.step(x[row : row + 1, 0], state.select([row]))[0], ours.step(x[row : row + 1, 0], after)[0], 1e-10
            )


def test_pads_get_no_gradient_and_everything_else_does() -> None:
    ours = ssir.compile(ssir.load("mamba.mixer", model=8, state=2), dtype=torch.float64)
    u = torch.randn(2, 9, 8, dtype=torch.float64, requires_grad=True)
    y, _ = ours(u, lengths=torch.tensor([4, 9]))
    y.square().sum().backward()
    assert u.grad is not None
    assert (u.grad[0, 4:] == 0).all() and (u.grad[0, :4] != 0).any(-1).all() and (u.grad[1] != 0).any(-1).all()


def test_lengths_that_cannot_be_are_told() -> None:
    ours, x = model("mamba"), tokens(2, 5)
    with pytest.raises(InputError, match=r"`lengths` must be \[batch\]"):
        ours(x, lengths=torch.tensor([3]))
    with pytest.raises(InputError, match="lie between 0 and 5"):
        ours(x, lengths=torch.tensor([3, 6]))


@pytest.mark.parametrize("name", NAMES)
def test_beams_are_chosen_from_a_state(name: str) -> None:
    ours, x = model(name, dtype=torch.float64), tokens(3, 9)
    with torch.no_grad():
        _, state = ours(x)
        chosen = state.select([2, 0, 2, 2])
        assert chosen.batch == 4
        y, _ = ours.step(x[[2, 0, 2, 2], 0], chosen)
        close(y, ours.step(x[:, 0], state)[0][[2, 0, 2, 2]], 1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_leaves_the_state_that_it_was_given_alone(name: str) -> None:
    ours, x = model(name), tokens(2, 70)
    with torch.no_grad(), ours.frozen():
        _, state = ours(x[:, :40])
        before = state.fork()
        branches = []
        for _ in range(2):
            now, ys = state, []
            for t in range(40, 70):
                y, now = ours.step(x[:, t], now)
                ys.append(y)
            branches.append(torch.stack(ys))
        assert torch.equal(*branches)
        assert all(torch.equal(state[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", ["transformer", "griffin", "mamba"])
def test_threads_that_go_on_from_one_state_do_not_see_each_other(name: str) -> None:
    ours = model(name)
    with torch.no_grad():
        _, state = ours(tokens(1, 40))
        for t in range(3):
            _, state = ours.step(tokens(1, 3, 9)[:, t], state)
        futures = [tokens(1, 30, seed) for seed in range(4)]
        alone = [ours(x, state.fork())[0] for x in futures]
    found: dict[int, torch.Tensor] = {}

    def go_on(i: int) -> None:
        with torch.no_grad():
            now, ys = state, []
            for t in range(30):
                y, now = ours.step(futures[i][:, t], now)
                ys.append(y)
            found[i] = torch.stack(ys, 1)

    threads = [threading.Thread(target=go_on, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, wanted in enumerate(alone):
        close(found[i], wanted, 1e-4)


@pytest.mark.parametrize("name", [*NAMES, "s4d.mixer", "lru.mixer"])
def test_states_are_saved_and_loaded(name: str, tmp_path: Path) -> None:
    if name in NAMES:
        ours, x = model(name), tokens(2, 9)
    else:  # with complex memories
        ours = ssir.compile(ssir.load(name, model=6))
        x = torch.randn(2, 9, 6)
    with torch.no_grad():
        _, state = ours(x)
        state.save(tmp_path / "state.safetensors")
        again = State.load(tmp_path / "state.safetensors")
        assert again.keys() == state.keys()
        assert all(torch.equal(again[key], value) and again[key].dtype == value.dtype for key, value in state.items())
        close(ours.step(x[:, 0], again)[0], ours.step(x[:, 0], state)[0], 1e-7)
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_detached_state_cuts_backpropagation() -> None:
    ours, x = model("mamba"), tokens(2, 10)
    _, state = ours(x)
    assert any(value.requires_grad for value in state.values())
    assert not any(value.requires_grad for value in state.detach().values())


@pytest.mark.parametrize("name", NAMES)
def test_a_reset_clears_what_is_not_finite(name: str) -> None:
    ours, x = model(name), tokens(2, 20)
    with torch.no_grad():
        _, state = ours(x)
        bad = {key: torch.full_like(v, torch.nan) if v.is_floating_point() else v for key, v in state.items()}
        reset = torch.zeros(2, 20, dtype=torch.bool)
        reset[:, 0] = True
        y, after = ours(x, bad, reset)
        close(y, ours(x)[0])
        assert all(value.isfinite().all() for value in after.values())
        y, after = ours.step(x[:, 0], bad, reset[:, 0])
        close(y, ours(x[:, :1])[0][:, 0])
        assert all(value.isfinite().all() for value in after.values())


def test_foreign_states_are_refused_by_name() -> None:
    ours, x = model("mamba"), tokens(2, 5)
    _, state = ours(x)
    with pytest.raises(StateError, match="`nonsense` is no memory of mamba"):
        ours.step(x[:, 0], {"nonsense": torch.zeros(1)})
    with pytest.raises(StateError, match="holds 2 sequences, and the input has 1"):
        ours.step(x[:1, 0], state)
    with pytest.raises(StateError, match="the state lacks `position`"):
        ours.step(x[:, 0], {key: value for key, value in state.items() if key != "position"})
    name = next(key for key in state if key != "position")
    with pytest.raises(StateError, match=f"`{name}` is .*float32 in mamba, and float64 in the state"):
        ours.step(x[:, 0], {**state, name: state[name].double()})
    with pytest.raises(StateError, match=r"is no memory of mamba|the state lacks"):
        ours.step(x[:, 0], model("lstm")(x)[1])
    with pytest.raises(StateError, match=r"`position` is \[batch\] in mamba, and \[2, 3\] in the state"):
        ours.step(x[:, 0], {**state, "position": torch.zeros(2, 3, dtype=torch.long)})


_KEPT = """ssir: 1
name: kept
dims: {model: 8, key: 4, value: 3, slot: 5}
components:
  mixer:
    input: {u: [model]}
    graph:
      k: linear(u, key)
      v: linear(u, value)
      S: {state: [key, value], A: "sigmoid(linear(u, key))", B: k, input: v, C: "linear(u, key)", dtype: data}
      T: {state: [key, value], A: "sigmoid(linear(u, key))", B: k, input: v, C: "linear(u, key)"}
      narrow: {state: [slot, model], A: shift(slot), input: u * position, C: "param([slot, model])", dtype: data}
      wide: {state: [slot, model], A: shift(slot), input: u, C: "param([slot, model])", dtype: float32}
      before: {state: [model], A: 0, input: u * position, read: before, dtype: data}
      after: {state: [model], A: 0, input: u, read: before, dtype: float32}
      y: linear(S + T, model) + narrow + wide + before + after
    output: y
main: mixer
"""
_WIDE = {"T", "wide", "after"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_memories_are_kept_in_the_dtype_that_is_said(dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "kept.yaml"
    path.write_text(_KEPT, encoding="utf-8")
    ours = ssir.compile(path, dtype=dtype)
    x = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.no_grad():
        y, after = ours(x)
        _, states = ours(x, states="each")
        state, outputs = ours.initial_state(2), []
        for t in range(9):
            for found in (state, *([states[t - 1]] if t else [])):
                for name, value in found.items():
                    wanted = torch.promote_types(dtype, torch.float32) if name in _WIDE else dtype
                    assert name == "position" or value.dtype == wanted, name
            out, state = ours.step(x[:, t], state)
            outputs.append(out)
        state.save(tmp_path / "state")
        ours.step(x[:, 0], State.load(tmp_path / "state"))
    limit = 0.05 if dtype == torch.bfloat16 else 1e-5
    close(torch.stack(outputs, 1), y, limit)
    for name, value in after.items():
        close(state[name], value, limit)


def test_the_plan_counts_memories_as_they_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "kept.yaml"
    path.write_text(_KEPT, encoding="utf-8")
    ours = ssir.compile(path, dtype=torch.bfloat16)
    found = {entry.path: entry.bytes for entry in ours.plan.entries}
    state = ours.initial_state(1)
    assert found == {name: state[name].numel() * state[name].element_size() for name in found}


@pytest.mark.parametrize(
    "graph",
    [
        "y: {state: [m], A: 'dense(param([m, m_], init=normal(0.4)), over=m)', B: 'param([m], init=normal(1))', input: 'sum(x, over=n)'}",
        "w: dot(param([m, n], init=normal(0.3)), rename(param([m, n], init=normal(0.3)), m=m_), over=n)\ny: {state: [m, n], A: 'dense(w, over=m)', input: x}",
    ],
    ids=["a matrix that parameters are", "one that is made of them"],
)
def test_autocast_leaves_memories_in_their_types(graph: str) -> None:
    """An error that stays in a memory grows with the steps."""
    model = ssir.compile(component(graph, "{x: [n]}", "{n: 3, m: 4, m_: 4}"))
    x = torch.randn(2, 60, 3, generator=torch.Generator().manual_seed(0))
    _, wanted = model(x)
    for steps in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            state = None
            for t in range(60) if steps else ():
                _, state = model.step(x[:, t], state=state)
            _, found = model(x) if state is None else (None, state)
        for name, value in wanted.items():
            error = (found[name] - value).abs().max().item()
            assert error < 1e-4 * max(1, value.abs().max().item()), f"{name}: {error}"
