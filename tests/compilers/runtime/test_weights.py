"""Weights that change, however they change, are those that are used; what is kept is kept only where the caller says so."""

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ssir.compilers.runtime.model import Model
from tests.compilers.runtime.habits import NAMES, close, model, tokens


def _copied(ours: Model, theirs: Model) -> None:
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        p.data.copy_(q.data)


def _set(ours: Model, theirs: Model) -> None:
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        p.data = q.data.clone()


def _moved(ours: Model, theirs: Model) -> None:
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        p.lerp_(q, 1.0)


WAYS: dict[str, Callable[[Model, Model], object]] = {
    "load_state_dict": lambda ours, theirs: ours.load_state_dict(theirs.state_dict()),
    "assign": lambda ours, theirs: ours.load_state_dict(copy.deepcopy(theirs.state_dict()), assign=True),
    "data copied": _copied,
    "data set": _set,
    "in place": _moved,
    "vector": lambda ours, theirs: nn.utils.vector_to_parameters(
        nn.utils.parameters_to_vector(theirs.parameters()), ours.parameters()
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["mamba", "griffin", "lstm", "transformer", "rwkv6"])
def test_evaluation_sees_new_weights(name: str, way: str) -> None:
    ours, other, x = model(name, 0), model(name, 5), tokens()
    with torch.no_grad():
        ours(x)
        for one in (ours, copy.deepcopy(ours)):
            WAYS[way](one, other)
            close(one(x)[0], other(x)[0])
            close(one.step(x[:, 0])[0], other.step(x[:, 0])[0])


@pytest.mark.parametrize("way", ["load_state_dict", "assign", "in place"])
@pytest.mark.parametrize("name", ["mamba", "griffin", "lstm", "transformer"])
def test_what_is_frozen_is_made_anew_when_a_weight_changes(name: str, way: str) -> None:
    ours, other, x = model(name, 0), model(name, 5), tokens()
    with torch.no_grad(), ours.frozen():
        ours(x)
        ours.step(x[:, 0])
        WAYS[way](ours, other)
        close(ours(x)[0], other(x)[0])
        close(ours.step(x[:, 0])[0], other.step(x[:, 0])[0])


def test_frozen_keeps_what_weights_decide_and_only_inside() -> None:
    ours, x = model("mamba"), tokens()
    with torch.no_grad():
        with ours.frozen():
            ours.step(x[:, 0])
            first = ours._kept
            ours.step(x[:, 0])
            assert first is not None and ours._kept is first
        ours.parameters().__next__().data.add_(1)  # behind the back of autograd: seen outside, where nothing is kept
        changed, _ = ours.step(x[:, 0])
        again, _ = model("mamba").step(x[:, 0])
    assert not torch.allclose(changed, again)


@pytest.mark.parametrize("name", NAMES)
def test_functional_call_uses_the_weights_that_it_is_given(name: str) -> None:
    ours, other, x = model(name, 0), model(name, 5), tokens()
    with torch.no_grad():
        before = ours(x)[0]
        found = torch.func.functional_call(ours, dict(other.named_parameters()), (x,))[0]
        close(found, other(x)[0])
        close(ours(x)[0], before)


@pytest.mark.parametrize("name", ["mamba", "lstm", "griffin"])
def test_training_is_not_disturbed_by_a_thread_that_evaluates(name: str) -> None:
    ours, x = model(name), tokens()
    stop = threading.Event()

    def evaluate() -> None:
        with torch.no_grad(), ours.frozen():
            while not stop.is_set():
                ours(x)

    thread = threading.Thread(target=evaluate)
    thread.start()
    try:
        for _ in range(10):
            ours.zero_grad()
            ours(x)[0].square().mean().backward()
            assert all(p.grad is not None for p in ours.parameters())
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("name", ["mamba", "lstm", "transformer"])
def test_hooks_that_came_before_it_was_frozen_are_called_in_it(name: str) -> None:
    ours, x, seen = model(name), tokens(), set[str]()
    with torch.no_grad():
        with ours.frozen():
            wanted = ours.step(x[:, 0])[0]
        owners = [path for path, one in ours.named_modules() if path and one._parameters]
        for path in owners:
            ours.get_submodule(path).register_forward_hook(lambda *_, path=path: seen.add(path))
        with ours.frozen():
            close(ours.step(x[:, 0])[0], wanted)
    assert seen >= {path for path in owners if any(True for _ in ours.get_submodule(path).parameters(recurse=False))}
