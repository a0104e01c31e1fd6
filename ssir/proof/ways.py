"""The ways in which a compiled model can be run over a case: whole, in pieces, step by step, into a filled state, two from one state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssir.compilers.runtime.model import Model
from ssir.compilers.runtime.weights import own_tensors
from ssir.proof.compare import Results, distance
from ssir.proof.meaning import Case, Weights

Outputs = dict[str, Tensor]
State = Any  # a mapping of named tensors, handed on as it is

STEPPED = 63  # the longest case that is run step by step
_TRAINED = 2  # the longest of which gradients are taken so
_AT_ONCE = (2, 5, 33, 64)  # tokens into a filled state


@dataclass(frozen=True)
class Way:
    """``run`` gives the outputs of all steps and the state after the last. ``needs`` is the shortest case that it says something of;
    ``resetting``: it takes long, and says all that it has to say where there are resets; ``trained``: whether gradients flow."""

    name: str
    run: Callable[[Model, Case, Sequence[Tensor]], tuple[Outputs, State]]
    needs: int = 1
    up_to: int | None = None
    stepped: bool = False
    resetting: bool = False
    trained: bool = True

    def applies(self, model: Model, case: Case) -> bool:
        enough = case.steps >= self.needs and (self.up_to is None or case.steps <= self.up_to)
        enough = enough and (case.reset is not None or not self.resetting)
        return enough and (self.run is whole or (model.has_step and case.subject.graph.has_time))


def whole(model: Model, case: Case, inputs: Sequence[Tensor]) -> tuple[Outputs, State]:
    y, state = model(*inputs, reset=case.reset)
    return _named(model, y), state


def pieces(model: Model, case: Case, inputs: Sequence[Tensor]) -> tuple[Outputs, State]:
    """Cut where no chunk ends: after the first step, and at a third and a bit."""
    return _cut(model, case, inputs, sorted({1, case.steps // 3 + 1, case.steps}), None, 0)


def steps(model: Model, case: Case, inputs: Sequence[Tensor]) -> tuple[Outputs, State]:
    found, state = _stepped(model, case, inputs, 0, case.steps, model.initial_state(case.batch))
    return _joined(model, found), state


def filled(model: Model, case: Case, inputs: Sequence[Tensor]) -> tuple[Outputs, State]:
    """A state filled by single steps, then some tokens at once, a step, some more at once, ..., the rest step by step."""
    at = min(4, case.steps)
    found, state = _stepped(model, case, inputs, 0, at, model.initial_state(case.batch))
    for some in _AT_ONCE:
        if at + some < case.steps:
            more, state = _piece(model, case, inputs, at, at + some, state)
            one, state = _stepped(model, case, inputs, at + some, at + some + 1, state)
            found += [more, *one]
            at += some + 1
    rest, state = _stepped(model, case, inputs, at, case.steps, state)
    return _joined(model, [*found, *rest]), state


def decoded(model: Model, case: Case, inputs: Sequence[Tensor]) -> tuple[Outputs, State]:
    """A prompt, then steps with what only parameters decide kept, as decoding runs them."""
    at = min(3, case.steps - 1)
    state = model.initial_state(case.batch)
    with torch.no_grad(), model.frozen():
        found = []
        if at:
            prompt, state = _piece(model, case, inputs, 0, at, state)
            found.append(prompt)
        rest, state = _stepped(model, case, inputs, at, case.steps, state)
    return _joined(model, [*found, *rest]), state


WAYS = (
    Way("whole", whole),
    Way("in pieces", pieces, needs=2),
    Way("step by step", steps, up_to=STEPPED, stepped=True),
    Way("decoded", decoded, up_to=STEPPED, stepped=True, trained=False),
    Way("into a filled state", filled, needs=7, up_to=2 * STEPPED, stepped=True, resetting=True),
)


def results(
    way: Way, model: Model, case: Case, weights: Weights, dtype: torch.dtype, autocast: bool = False, train: bool = True
) -> Results:
    """What a way of running gives, with gradients where it gives them. Inputs are handed over in the dtype given."""
    backward = train and way.trained and (not way.stepped or case.steps <= _TRAINED)
    inputs = [x.to(dtype).requires_grad_(backward) if x.is_floating_point() else x for x in case.inputs]
    with torch.set_grad_enabled(backward):
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            outputs, state = way.run(model, case, inputs)
        with torch.no_grad():
            before = model.initial_state(case.batch) if model.has_step else {}
        left = case.recent(state, case.position)
        gradients: dict[str, Tensor] = {}
        if backward:
            leaves = {node.name: x for node, x in zip(case.subject.graph.inputs, inputs, strict=True)}
            found = case.gradients(outputs, left, leaves | dict(model.named_parameters()))
            gradients = {name: g.reshape(weights[name].shape) if name in weights else g for name, g in found.items()}
    return Results(outputs, {f"{name} at the start": value for name, value in before.items()} | left, gradients)


def forks(model: Model, case: Case, dtype: torch.dtype, at: int, kept: bool) -> tuple[Results, Results]:
    """Two decodings that start from one state, by turns: what each gives. The state is to stay as it is. kept: as decoding runs them."""
    cases = (case, case.forked(at))
    inputs = [[x.to(dtype) if x.is_floating_point() else x for x in one.inputs] for one in cases]
    with torch.no_grad(), model.frozen() if kept else nullcontext():
        first, start = _piece(model, case, inputs[0], 0, at, model.initial_state(case.batch))
        before = {name: value.clone() for name, value in start.items()}
        found, states = [[first], [first]], [start, start]
        for t in range(at, case.steps):
            for i, one in enumerate(cases):
                more, states[i] = _stepped(model, one, inputs[i], t, t + 1, states[i])
                found[i] += more
        moved = {name: value for name, value in start.items() if distance(value, before[name]) > 0}
    # A memory of the state that both start from and that has changed is wrong, whatever the end is.
    lost = {name: torch.full_like(value, torch.nan) for name, value in moved.items() if value.is_floating_point()}
    first_end, second_end = (
        Results(_joined(model, found[i]), case.recent(states[i], case.position) | lost) for i in range(2)
    )
    return first_end, second_end


def load(model: Model, weights: Weights) -> None:
    """Give a model the parameters of a meaning; those that the passes found no use for it lacks."""
    with torch.no_grad():
        for name, parameter in own_tensors(model):
            parameter.copy_(weights[name].reshape(parameter.shape))


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cut(
    model: Model, case: Case, inputs: Sequence[Tensor], cuts: Sequence[int], state: State | None, at: int
) -> tuple[Outputs, State]:
    found: list[Outputs] = []
    for end in cuts:
        more, state = _piece(model, case, inputs, at, end, state)
        found.append(more)
        at = end
    assert state is not None
    return _joined(model, found), state


def _piece(
    model: Model, case: Case, inputs: Sequence[Tensor], start: int, end: int, state: State | None
) -> tuple[Outputs, State]:
    reset = None if case.reset is None else case.reset[:, start:end]
    y, after = model(*case.during(inputs, slice(start, end)), state=state, reset=reset)
    return _named(model, y), after


def _stepped(
    model: Model, case: Case, inputs: Sequence[Tensor], start: int, end: int, state: State
) -> tuple[list[Outputs], State]:
    found: list[Outputs] = []
    for t in range(start, end):
        now = None if case.reset is None else case.reset[:, t]
        reset = None if now is None or not now.any() else now
        y, state = model.step(*case.during(inputs, t), state=state, reset=reset)
        found.append({name: one if name in model.ANSWERS else one[:, None] for name, one in _named(model, y).items()})
    return found, state


def _joined(model: Model, found: Sequence[Outputs]) -> Outputs:
    """The outputs of pieces, one behind the other; of answers the last."""
    return {
        name: found[-1][name] if name in model.ANSWERS else torch.cat([one[name] for one in found], 1)
        for name in found[0]
    }


def _named(model: Model, y: Any) -> Outputs:
    return dict(y) if isinstance(y, dict) else {model.outputs[0]: y}
