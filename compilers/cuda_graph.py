"""The backend `cuda-graph`: the step, and sequences of chosen lengths, captured over tensors that never move.

A replay costs one launch. What can be wrong with captured graphs is dealt with here: inputs and states are copied into the
tensors that the graph reads; constants made from weights belong to the graphs, which are captured anew when a weight has changed or
is another tensor; nothing else that a graph reads lives outside of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ssir.compilers.runtime import native
from ssir.compilers.runtime.frozen import Kept
from ssir.compilers.runtime.model import Model
from ssir.compilers.runtime.state import State
from ssir.errors import EnvironmentLacks, UsageError

Replay = Callable[[], None]
Capture = Callable[[Callable[[], None], Callable[[], None]], Replay]
"""From a function, and one that brings what it changes back to where it began: it runs several times before it is captured."""


def on_cuda(run: Callable[[], None], begin: Callable[[], None]) -> Replay:
    """Capture the kernels of a function that only reads and writes tensors that stay."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            begin()
            run()
        begin()
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
        self._states: dict[int, State] = {}
        self._constants: Kept | None = None

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
        return state.fork()

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
        if self._constants is None or not self._constants.fits():
            self._captured.clear()
            self._constants = Kept(self.model, self.model.plain())
        if batch not in self._states:
            self._states[batch] = self.initial_state(batch)
        key = (batch, steps, *lengths)
        if key not in self._captured:
            shared = self._states[batch]
            self._captured[key] = _Captured(self.model, self._constants, inputs, shared, steps, self.capture)
        return self._captured[key](inputs, self.initial_state(batch) if state is None else state)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_captured": {}, "_states": {}, "_constants": None}


class _Captured:
    """One graph: where its inputs and state stand, and how to run it."""

    def __init__(
        self,
        model: Model,
        constants: Kept,
        inputs: Sequence[Tensor],
        state: State,
        steps: int | None,
        capture: Capture,
    ) -> None:
        self.model, self.constants, self.state, self.steps = model, constants, state, steps
        self.inputs = tuple(value.clone() for value in inputs)
        self.outputs: Any = None
        before = {name: value.clone() for name, value in state.items()}

        def begin() -> None:
            for name, value in before.items():
                self.state[name].copy_(value)
            if "count" in before:
                self.state["count"].zero_()

        self.replay = capture(self._run, begin)
        for name, value in before.items():
            self.state[name].copy_(value)

    def _run(self) -> None:
        with native.repeated():
            outputs, new = self.model.call(self.steps, self.inputs, self.state, kept=self.constants)
        if self.outputs is None:
            self.outputs = _cloned(outputs)
        else:
            _copied(self.outputs, outputs)
        for name, value in new.items():
            if value is not self.state[name]:
                self.state[name].copy_(value)

    def __call__(self, inputs: Sequence[Tensor], state: State) -> tuple[Any, State]:
        for mine, given in zip(self.inputs, inputs, strict=True):
            if mine.shape != given.shape:
                raise UsageError(f"captured for inputs of shape {list(mine.shape)}, not {list(given.shape)}")
            mine.copy_(given)
        self._enter(state)
        self.replay()
        return _cloned(self.outputs), State(self.state, self.state.signature)

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
        memories = self.model.signature.memories
        grown = [state[name].shape[1] for name, memory in memories.items() if None in memory.sizes and name in state]
        return max(grown, default=0)


def _cloned(value: Any) -> Any:
    return {name: one.clone() for name, one in value.items()} if isinstance(value, dict) else value.clone()


def _copied(target: Any, source: Any) -> None:
    if isinstance(target, dict):
        for name, one in target.items():
            one.copy_(source[name])
    else:
        target.copy_(source)
