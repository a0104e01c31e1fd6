"""The state of decoding: its bytes are those of the plan, and stay so; it can be kept, forked and carried on."""

import pytest
import torch
from torch import Tensor

import ssir
from ssir.analysis.facts import facts
from ssir.ir.graph import Graph
from ssir.passes.dependence import infer_dependence
from tests.small import SMALL, at, first, inputs, small

STEPPING = [name for name in SMALL if small(name).graph.has_step]


def grows(graph: Graph) -> bool:
    return any(facts(one, node).grows for one in graph.walk() for node in one.states)


def nbytes(state: dict[str, Tensor]) -> int:
    return sum(value.nbytes for name, value in state.items() if name != "position")


def joined(graph: Graph, past: list[Tensor], future: list[Tensor]) -> list[Tensor]:
    return [
        x if node.name in graph.whole else torch.cat([x, y], 1)
        for node, x, y in zip(graph.inputs, past, future, strict=True)
    ]


def beside(graph: Graph, past: list[Tensor], future: list[Tensor]) -> list[Tensor]:
    """The future, with the whole sequences of the past."""
    return [x if node.name in graph.whole else y for node, x, y in zip(graph.inputs, past, future, strict=True)]


def decode(name: str, steps: int, batch: int = 2) -> None:
    model = ssir.compile(small(name))
    plan = model.plan
    with torch.no_grad():
        state = model.initial_state(batch)
        assert nbytes(state) == batch * plan.state_bytes
        xs = inputs(model.graph, batch, 7, torch.float32)
        for t in range(steps):
            y, state = model.step(*at(model.graph, xs, t % 7), state=state)
            if t < 40 or t % 1000 == 999 or t == steps - 1:
                assert nbytes(state) == batch * (plan.state_bytes + (t + 1) * plan.growth), t
        assert torch.isfinite(first(y)).all()


@pytest.mark.parametrize("name", STEPPING)
def test_a_state_has_the_bytes_that_the_plan_says(name: str) -> None:
    decode(name, 60) if name != "gpt2" else decode(name, 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STEPPING if not grows(infer_dependence(small(name).graph))])
def test_a_constant_state_stays_constant_for_100000_steps(name: str) -> None:
    decode(name, 100_000, batch=1)


@pytest.mark.slow
def test_a_cache_grows_by_what_the_plan_says_for_100000_steps() -> None:
    decode("transformer", 100_000, batch=1)


@pytest.mark.parametrize("name", STEPPING)
def test_the_state_after_a_sequence_has_the_same_bytes(name: str) -> None:
    model = ssir.compile(small(name))
    with torch.no_grad():
        for steps in (1, 3, 30):
            _, state = model(*inputs(model.graph, 2, steps, torch.float32))
            assert nbytes(state) == 2 * (model.plan.state_bytes + steps * model.plan.growth)


@pytest.mark.parametrize("name", STEPPING)
def test_two_continuations_of_one_state_do_not_disturb_each_other(name: str) -> None:
    torch.manual_seed(0)
    model = ssir.compile(small(name), dtype=torch.float64)
    past, *futures = (inputs(model.graph, 2, steps, seed=seed) for seed, steps in enumerate((20, 10, 10)))
    with torch.no_grad():
        _, fork = model(*past)
        found = []
        for xs in futures:
            state, ys = fork, []
            for t in range(10):
                y, state = model.step(*at(model.graph, beside(model.graph, past, xs), t), state=state)
                ys.append(first(y))
            found.append(torch.stack(ys, 1))
        for xs, ys_ in zip(futures, found, strict=True):
            whole, _ = model(*joined(model.graph, past, xs))
            found_, wanted = (ys_[:, -1], first(whole)) if model.ANSWERS else (ys_, first(whole)[:, 20:])
            torch.testing.assert_close(found_, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", STEPPING)
def test_interleaved_continuations_share_their_past(name: str) -> None:
    torch.manual_seed(0)
    model = ssir.compile(small(name), dtype=torch.float64)
    past, *futures = (inputs(model.graph, 1, steps, seed=seed) for seed, steps in enumerate((20, 6, 6, 6)))
    futures = [beside(model.graph, past, xs) for xs in futures]
    with torch.no_grad():
        _, state = model(*at(model.graph, past, slice(0, 18)))
        for t in (18, 19):  # the last of what they share
            _, state = model.step(*at(model.graph, past, t), state=state)
        states, ys = [state] * 3, [torch.empty(0)] * 3
        for t in range(6):
            for i, xs in enumerate(futures):
                y, states[i] = model.step(*at(model.graph, xs, t), state=states[i])
                ys[i] = first(y)
        for y, continued in zip(ys, futures, strict=True):
            whole, _ = model(*joined(model.graph, past, continued))
            wanted = first(whole) if model.ANSWERS else first(whole)[:, -1]
            torch.testing.assert_close(y, wanted, rtol=1e-9, atol=1e-11)


def test_changed_weights_are_seen_by_the_next_step() -> None:
    model = ssir.compile(small("mamba"), dtype=torch.float64)
    x = torch.randint(0, 7, (1,))
    with torch.no_grad():
        before, _ = model.step(x)
        for parameter in model.parameters():
            parameter.mul_(1.5)
        after, _ = model.step(x)
        wanted, _ = model(x[:, None])
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, wanted[:, 0])
    model.load_state_dict({name: value / 1.5 for name, value in model.state_dict().items()})
    with torch.no_grad():
        torch.testing.assert_close(model.step(x)[0], before)


def test_a_copy_of_a_model_is_its_own() -> None:
    import copy

    torch.manual_seed(0)
    model = ssir.compile(small("griffin"), dtype=torch.float64)
    x = torch.randint(0, 7, (1, 9))
    with torch.no_grad():
        before, _ = model(x)
        other = copy.deepcopy(model)
        for parameter in other.parameters():
            parameter.mul_(2)
        assert torch.equal(model(x)[0], before)
        assert not torch.allclose(other(x)[0], before)
        torch.testing.assert_close(model.float()(x)[0].double(), before, rtol=1e-4, atol=1e-4)
