"""The backend `cuda-graph`: the step, sequences of chosen lengths, and steps with the draw of the next token in between, captured over tensors
that never move.

A replay costs one launch. What can be wrong with captured graphs is dealt with here: inputs and states are copied into the
tensors that the graph reads; constants made from weights belong to the graphs, which are captured anew when a weight has changed or
is another tensor; nothing else that a graph reads lives outside of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ssir.compilers.runtime import native
from ssir.compilers.runtime.frozen import Kept
from ssir.compilers.runtime.generate import Sampling, refused, sample, sampling
from ssir.compilers.runtime.model import Model
from ssir.compilers.runtime.state import State
from ssir.errors import EnvironmentLacks, UsageError

Replay = Callable[[], None]
Capture = Callable[[Callable[[], None], Callable[[], None]], Replay]
"""From a function, and one that brings what it changes back to where it began: it runs several times before it is captured."""
Call = Callable[[Model, Sequence[Tensor], State, Kept], tuple[Any, State]]
"""What is captured: from inputs and a state to outputs and the state after them."""
TOKENS = 16
"""Tokens that are drawn in one replay."""


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


def compile(
    model: Model,
    capacity: int = 2048,
    lengths: Sequence[int] | None = None,
    batches: Sequence[int] | None = None,
    capture: Capture | None = None,
) -> GraphModel:
    """A compiled model whose step is captured.

    ``capacity`` is how many steps registers without bound have room for. A sequence goes through in pieces of ``lengths``, the longest that
    fit first, and steps; left out, each length that is asked for has a graph of its own. So many sequences as the least of ``batches`` that
    holds all are computed; left out, each number that is asked for.
    """
    if capture is None:
        require_cuda()
        model = model.to("cuda")
    for name, sizes in (("lengths", lengths), ("batches", batches)):
        if sizes is not None and (not sizes or min(sizes) < 1):
            raise UsageError(f"`{name}` are numbers from 1 on, not {list(sizes)}")
    return GraphModel(model, capacity, lengths, batches, capture or on_cuda)


class GraphModel(torch.nn.Module):
    """Decoding without launch overhead. One state lives in it at a time, in place.

    ``step`` and ``forward`` take and return states as the model itself does; a state that came from here and is given back next is
    not copied. It changes with the next call: ``fork`` it to keep it.
    """

    def __init__(
        self,
        model: Model,
        capacity: int,
        lengths: Sequence[int] | None,
        batches: Sequence[int] | None,
        capture: Capture,
    ) -> None:
        super().__init__()
        self.model, self.capacity, self.capture = model, capacity, capture
        self.lengths = None if lengths is None else sorted(lengths, reverse=True)
        self.batches = None if batches is None else sorted(batches)
        self._captured: dict[tuple[Any, ...], _Captured] = {}
        self._rooms: dict[int, _Room] = {}
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
        """A sequence, [batch, time, *axes]."""
        steps = self.model.steps(inputs)
        if self.lengths is None or not steps or self.model.whole:
            return self._sequence(steps, inputs, state)
        found, at = [], 0
        for length in self._pieces(steps):
            piece = [x[:, at : at + length] for x in inputs]
            y, state = self._sequence(length, piece, state) if length > 1 else self._one(piece, state)
            found.append(y)
            at += length
        assert state is not None
        if isinstance(found[0], dict):
            return {name: torch.cat([one[name] for one in found], 1) for name in found[0]}, state
        return torch.cat(found, 1), state

    @torch.no_grad()
    def step(self, *inputs: Any, state: State | None = None) -> tuple[Any, State]:
        """One step, [batch, *axes], then the state, by position or by name."""
        wanted = len(self.model.inputs)
        given = inputs[wanted] if len(inputs) > wanted else state
        return self._sequence(None, inputs[:wanted], given)

    @torch.no_grad()
    def generate(
        self,
        tokens: Tensor,
        count: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        state: State | None = None,
    ) -> tuple[Tensor, State]:
        """As ``generate`` of a model; a replay draws TOKENS of them, and nobody waits for one."""
        why = refused(self.model)
        if why is not None:
            raise UsageError(why)
        if tokens.shape[1] > 1:
            _, state = self.forward(tokens[:, :-1], state=state)
        how = sampling(temperature, top_k, top_p, tokens.device)
        among = top_k is not None or top_p is not None
        token, found = tokens[:, -1], [tokens[:, :0]]
        while count > 0:
            many = TOKENS if count >= TOKENS else 1
            drawn, state = self._replay(("draw", many, among), partial(_drawn, many, among), many, (token,), how, state)
            found.append(drawn)
            token, count = drawn[:, -1], count - many
        return torch.cat(found, 1), self.initial_state(len(tokens)) if state is None else state

    def _pieces(self, steps: int) -> Iterator[int]:
        assert self.lengths is not None
        for length in (*self.lengths, 1):
            yield from [length] * (steps // length)
            steps %= length

    def _sequence(self, steps: int | None, inputs: Sequence[Tensor], state: State | None) -> tuple[Any, State]:
        """A sequence; a step, where there are no ``steps``."""
        lengths = (x.shape[1] for name, x in zip(self.model.inputs, inputs, strict=True) if name in self.model.whole)
        return self._replay(("steps", steps, *lengths), partial(_call, steps), steps or 1, inputs, (), state)

    def _one(self, piece: Sequence[Tensor], state: State | None) -> tuple[Any, State]:
        """A step, as a sequence of one."""
        y, after = self.step(*(x[:, 0] for x in piece), state=state)
        return {name: one[:, None] for name, one in y.items()} if isinstance(y, dict) else y[:, None], after

    def _replay(
        self,
        key: object,
        call: Call,
        steps: int,
        inputs: Sequence[Tensor],
        settings: Sequence[Tensor],
        state: State | None,
    ) -> tuple[Any, State]:
        """So many steps; ``settings``: inputs without a batch."""
        batch = inputs[0].shape[0]
        room = next((size for size in self.batches or [batch] if size >= batch), None)
        if room is None:
            raise UsageError(f"there is no room for {batch} sequences: compile with more `batches`")
        if self._constants is None or not self._constants.fits():
            self._captured.clear()
            self._constants = Kept(self.model, self.model.plain())
        if room not in self._rooms:
            self._rooms[room] = _Room(self.initial_state(room))
        at = (room, key)
        if at not in self._captured:
            every = [*(x[:1].expand(room, *x.shape[1:]) for x in inputs), *settings]
            run = partial(call, self.model)
            self._captured[at] = _Captured(run, self._constants, every, self._rooms[room].state, self.capture)
        self._rooms[room].enter(self.initial_state(batch) if state is None else state, batch, steps)
        return self._captured[at]([*inputs, *settings], batch), self._rooms[room].left(batch)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_captured": {}, "_rooms": {}, "_constants": None}


def _call(steps: int | None, model: Model, inputs: Sequence[Tensor], state: State, kept: Kept) -> tuple[Any, State]:
    return model.call(steps, inputs, state, kept=kept)


def _drawn(
    many: int, among: bool, model: Model, inputs: Sequence[Tensor], state: State, kept: Kept
) -> tuple[Any, State]:
    """So many steps, each of the token that the one before has drawn."""
    token, *rest = inputs
    found, how = [], Sampling(*rest)
    for _ in range(many):
        logits, state = model.call(None, (token,), state, kept=kept)
        token = sample(logits, how, among).to(token.dtype)
        found.append(token)
    return torch.stack(found, 1), state


class _Captured:
    """One graph: where its inputs and state stand, and how to run it."""

    def __init__(
        self,
        call: Callable[[Sequence[Tensor], State, Kept], tuple[Any, State]],
        constants: Kept,
        inputs: Sequence[Tensor],
        state: State,
        capture: Capture,
    ) -> None:
        self.call, self.constants, self.state = call, constants, state
        self.inputs = tuple(value.clone(memory_format=torch.contiguous_format) for value in inputs)
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
            outputs, new = self.call(self.inputs, self.state, self.constants)
        if self.outputs is None:
            self.outputs = _each(torch.clone, outputs)
        else:
            _copied(self.outputs, outputs)
        for name, value in new.items():
            if value is not self.state[name]:
                self.state[name].copy_(value)

    def __call__(self, inputs: Sequence[Tensor], batch: int) -> Any:
        for mine, given in zip(self.inputs, inputs, strict=True):
            own = mine[:batch] if mine.dim() else mine
            if own.shape != given.shape:
                raise UsageError(f"captured for inputs of shape {list(own.shape)}, not {list(given.shape)}")
            own.copy_(given)
        self.replay()
        return _each(lambda value: value[:batch].clone(), self.outputs)


class _Room:
    """A state that stays where it is. ``used``: how many entries its registers without bound hold."""

    def __init__(self, state: State) -> None:
        self.state, self.used = state, 0
        memories = state.signature.memories if state.signature is not None else {}
        self.growing = [name for name, memory in memories.items() if None in memory.sizes]

    def enter(self, state: State, batch: int, steps: int) -> None:
        """Bring in a state of so many sequences, for so many steps more; what came from here is not copied."""
        parts = {
            name: (mine if name == "count" else mine[:batch], state.get(name)) for name, mine in self.state.items()
        }
        own = all(
            x is not None and x.data_ptr() == mine.data_ptr() and x.shape == mine.shape for mine, x in parts.values()
        )
        used = self.used if own else self._entries(state)
        room = min((self.state[name].shape[1] for name in self.growing), default=used + steps)
        if used + steps > room:
            raise UsageError(
                f"there is room for {room} steps, and there would be {used + steps}: compile with more `capacity`"
            )
        self.used = used + steps
        if own:
            return
        for name, (mine, given) in parts.items():
            if name == "count":
                mine.fill_(used)
            elif given is None:
                mine.zero_()
            elif name in self.growing:
                mine[:, : min(given.shape[1], room)].copy_(given[:, :room])
            else:
                mine.copy_(given)

    def left(self, batch: int) -> State:
        """The state of so many sequences, as it lies here."""
        tensors = {name: value if name == "count" else value[:batch] for name, value in self.state.items()}
        return State(tensors, self.state.signature)

    def _entries(self, state: State) -> int:
        """How many steps a state has seen, if its registers grow: one of fixed capacity says so."""
        if "count" in state:
            return int(state["count"]) if self.growing else 0
        return max((state[name].shape[1] for name in self.growing if name in state), default=0)


def _each(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    return {name: change(one) for name, one in value.items()} if isinstance(value, dict) else change(value)


def _copied(target: Any, source: Any) -> None:
    if isinstance(target, dict):
        for name, one in target.items():
            one.copy_(source[name])
    else:
        target.copy_(source)
