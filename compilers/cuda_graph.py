"""The backend `cuda-graph`: the step, and sequences of chosen lengths, captured over tensors that never move.

A replay costs one launch. What can be wrong with captured graphs is dealt with here: inputs and states are copied into the
tensors that the graph reads; constants made from weights are made anew, in place, when a weight has changed; nothing else that a
graph reads lives outside of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ssir.compilers.kernels.memory import State
from ssir.compilers.kernels.module import Model
from ssir.errors import EnvironmentLacks, UsageError

Replay = Callable[[], None]
Capture = Callable[[Callable[[], None]], Replay]


def on_cuda(run: Callable[[], None]) -> Replay:
    """Capture the kernels of a function that only reads and writes tensors that stay."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def require_cuda() -> None:
    """Raise EnvironmentLacks if graphs cannot be captured here."""
    if not torch.cuda.is_available():
        raise EnvironmentLacks(
            "the backend `cuda-graph` needs a CUDA device, and there is none here; use the backend `torch`"
        )


def compile(model: Model, capacity: int = 2048, capture: Capture | None = None) -> GraphModel:
    """A compiled model whose step is captured. ``capacity`` is how many steps registers without bound have room for."""
    if capture is None:
        require_cuda()
        model = model.to("cuda")
    return GraphModel(model, capacity, capture or on_cuda)


class GraphModel(torch.nn.Module):
    """Decoding without launch overhead. One state lives in it at a time, in place.

    ``step`` and ``forward`` take and return states as the model itself does; a state that came from here and is given back next is
    not copied. It changes with the next call: ``fork`` it to keep it.
    """

    def __init__(self, model: Model, capacity: int, capture: Capture) -> None:
        super().__init__()
        self.model, self.capacity, self.capture = model, capacity, capture
        self._captured: dict[tuple[int | None, ...], _Captured] = {}

    @property
    def plan(self) -> Any:
        return self.model.plan

    @property
    def spec(self) -> Any:
        return self.model.spec

    def initial_state(self, batch: int = 1) -> State:
        """The state before the first step, with room for ``capacity`` steps."""
        return self.model.initial_state(batch, self.capacity)

    def fork(self, state: State) -> State:
        """A copy of a state that later calls leave alone."""
        return {name: value.clone() for name, value in state.items()}

    @torch.no_grad()
    def forward(self, *inputs: Tensor, state: State | None = None) -> tuple[Any, State]:
        """A sequence, [batch, time, *axes]: captured once for each length that is asked for."""
        return self._replay(inputs, state, self.model.steps(inputs))

    @torch.no_grad()
    def step(self, *inputs: Any, state: State | None = None) -> tuple[Any, State]:
        """One step, [batch, *axes], then the state, by position or by name."""
        wanted = len(self.model.inputs)
        return self._replay(inputs[:wanted], inputs[wanted] if len(inputs) > wanted else state, None)

    def _replay(self, inputs: Sequence[Tensor], state: State | None, steps: int | None) -> tuple[Any, State]:
        batch = inputs[0].shape[0]
        lengths = (x.shape[1] for name, x in zip(self.model.inputs, inputs, strict=True) if name in self.model.whole)
        key = (batch, steps, *lengths)
        if key not in self._captured:
            self._captured[key] = _Captured(self.model, inputs, self._shared(batch), steps, self.capture)
        return self._captured[key](inputs, self.initial_state(batch) if state is None else state)

    def _shared(self, batch: int) -> State:
        """The state that all graphs of a batch size read and write."""
        for (other, *_), captured in self._captured.items():
            if other == batch:
                return captured.state
        return self.initial_state(batch)


class _Captured:
    """One graph: where its inputs and state stand, and how to run it."""

    def __init__(
        self, model: Model, inputs: Sequence[Tensor], state: State, steps: int | None, capture: Capture
    ) -> None:
        self.model, self.state, self.steps = model, state, steps
        self.inputs = tuple(value.clone() for value in inputs)
        self.outputs: Any = None
        model._ready()
        self.version = model._seen
        before = {name: value.clone() for name, value in state.items()}
        self.replay = capture(self._run)
        for name, value in before.items():
            self.state[name].copy_(value)

    def _run(self) -> None:
        model = self.model
        outputs, new = model.call(self.steps, self.inputs, self.state, None)
        if self.outputs is None:
            self.outputs = _cloned(outputs)
        else:
            _copied(self.outputs, outputs)
        for name, value in new.items():
            if value is not self.state[name]:
                self.state[name].copy_(value)

    def __call__(self, inputs: Sequence[Tensor], state: State) -> tuple[Any, State]:
        self._refresh()
        for mine, given in zip(self.inputs, inputs, strict=True):
            if mine.shape != given.shape:
                raise UsageError(f"captured for inputs of shape {list(mine.shape)}, not {list(given.shape)}")
            mine.copy_(given)
        self._enter(state)
        self.replay()
        return _cloned(self.outputs), dict(self.state)

    def _enter(self, state: State) -> None:
        for name, mine in self.state.items():
            given = state.get(name)
            if given is mine:
                continue
            if name == "count":
                mine.fill_(self._entries(state)) if given is None else mine.copy_(given)
            elif given is None:
                mine.zero_()
            elif given.shape == mine.shape:
                mine.copy_(given)
            else:
                if given.shape[1] > mine.shape[1]:
                    raise UsageError(
                        f"`{name}` holds {given.shape[1]} steps, and there is room for {mine.shape[1]}: compile with more capacity"
                    )
                mine[:, : given.shape[1]].copy_(given)

    def _entries(self, state: State) -> int:
        """How many steps a state of the eager model has seen, as its growing registers tell."""
        grown = [
            state[body.at + name].shape[1]
            for body in self.model._bodies
            for name in body.GROWS
            if body.at + name in state
        ]
        return max(grown, default=0)

    def _refresh(self) -> None:
        """Bring the constants that the graph reads up to date with the weights, in place."""
        model = self.model
        version = sum(p._version for p in model._watched)
        if version == self.version:
            return
        for body in model._bodies:
            if body.kept is not None:
                for old, new in zip(body.kept, body.prepare(), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)
        self.version = model._seen = version


def _cloned(value: Any) -> Any:
    return {name: one.clone() for name, one in value.items()} if isinstance(value, dict) else value.clone()


def _copied(target: Any, source: Any) -> None:
    if isinstance(target, dict):
        for name, one in target.items():
            one.copy_(source[name])
    else:
        target.copy_(source)
