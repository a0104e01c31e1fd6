"""The state of decoding: its bytes are those of the plan, and stay so; it can be kept, forked and carried on."""

import pytest
import torch
from torch import Tensor

import ssir
from tests.small import SMALL, small


def nbytes(state: dict[str, Tensor]) -> int:
    return sum(value.nbytes for name, value in state.items() if name != "position")


def decode(name: str, steps: int, batch: int = 2) -> None:
    model = ssir.compile(small(name))
    plan = model.plan
    with torch.no_grad():
        state = model.initial_state(batch)
        assert nbytes(state) == batch * plan.state_bytes
        for t in range(steps):
            y, state = model.step(torch.full((batch,), t % 7), state)
            if t < 40 or t % 1000 == 999 or t == steps - 1:
                assert nbytes(state) == batch * (plan.state_bytes + (t + 1) * plan.growth), t
        assert torch.isfinite(y).all()


@pytest.mark.parametrize("name", list(SMALL))
def test_a_state_has_the_bytes_that_the_plan_says(name: str) -> None:
    decode(name, 60) if name != "gpt2" else decode(name, 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SMALL if name not in ("gpt2", "transformer")])
def test_a_constant_state_stays_constant_for_100000_steps(name: str) -> None:
    decode(name, 100_000, batch=1)


@pytest.mark.slow
def test_a_cache_grows_by_what_the_plan_says_for_100000_steps() -> None:
    decode("transformer", 100_000, batch=1)


@pytest.mark.parametrize("name", list(SMALL))
def test_the_state_after_a_sequence_has_the_same_bytes(name: str) -> None:
    model = ssir.compile(small(name))
    with torch.no_grad():
        for steps in (1, 3, 30):
            _, state = model(torch.randint(0, 7, (2, steps)))
            assert nbytes(state) == 2 * (model.plan.state_bytes + steps * model.plan.growth)


@pytest.mark.parametrize("name", list(SMALL))
def test_two_continuations_of_one_state_do_not_disturb_each_other(name: str) -> None:
    torch.manual_seed(0)
    model = ssir.compile(small(name), dtype=torch.float64)
    x = torch.randint(0, 7, (2, 30))
    with torch.no_grad():
        _, fork = model(x[:, :20])
        found = []
        for branch in range(2):
            state, ys = fork, []
            for t in range(20, 30):
                y, state = model.step((x[:, t] + branch) % 7, state)
                ys.append(y)
            found.append(torch.stack(ys, 1))
        for branch, ys_ in enumerate(found):
            whole, _ = model(torch.cat([x[:, :20], (x[:, 20:] + branch) % 7], 1))
            torch.testing.assert_close(ys_, whole[:, 20:], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", list(SMALL))
def test_interleaved_continuations_share_their_past(name: str) -> None:
    torch.manual_seed(0)
    model = ssir.compile(small(name), dtype=torch.float64)
    x = torch.randint(0, 7, (1, 26))
    with torch.no_grad():
        _, state = model(x[:, :20])
        first = second = state
        for t in range(20, 26):
            a, first = model.step(x[:, t], first)
            b, second = model.step((x[:, t] + 1) % 7, second)
        whole, _ = model(x)
        other, _ = model(torch.cat([x[:, :20], (x[:, 20:] + 1) % 7], 1))
    torch.testing.assert_close(a, whole[:, -1], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(b, other[:, -1], rtol=1e-9, atol=1e-11)


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
