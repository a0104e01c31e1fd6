"""What generated modules are made of: bodies with parameters and layers, the model around them, and its weights on disk."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .clock import Time
from .memory import State


class Body(nn.Module):
    """A graph: parameters and layers under their paths, the code in a subclass.

    ``at`` is the path of this body in the model, which its memories are filed under; ``layer`` its index in a stack; ``kind`` which
    of the bodies of the stack it is. Paths come from a spec, so they are looked up among modules, never as attributes.
    """

    GROWS: tuple[str, ...] = ()  # the registers without bound
    PARAMETERS: tuple[tuple[str, tuple[int, ...], str | None, bool], ...] = ()  # path, sizes, own dtype, shared
    STACKS: tuple[tuple[str, tuple[tuple[str, type[Body]], ...], bool], ...] = ()
    # path, the kind and class of each layer, whether layers of a kind have the parameters of the first

    root: Body
    owner: Body  # whose parameters these are
    like: Tensor

    def __init__(
        self,
        dtype: torch.dtype,
        at: str = "",
        layer: int = 0,
        kind: str = "",
        root: Body | None = None,
        owner: Body | None = None,
    ) -> None:
        super().__init__()
        self.at, self.layer, self.kind = at, layer, kind
        self.__dict__["owner"] = self if owner is None else owner
        self.__dict__["root"] = top = self if root is None else root
        self.kept: tuple[Any, ...] | None = None
        self.stacks: dict[str, tuple[Body, ...]] = {}
        if root is None:
            self.like = torch.zeros((), dtype=dtype)
        for path, sizes, own, shared in self.PARAMETERS if owner is None else ():
            empty = torch.empty(sizes, dtype=dtype if own is None else getattr(torch, own))
            (top if shared else self).enter(path, nn.Parameter(empty))
        for path, layers, share in self.STACKS:
            made: list[Body] = []
            for i, (name, body) in enumerate(layers):
                theirs = None if owner is None else owner.stacks[path][i].owner
                if share:
                    theirs = next((layer.owner for layer in made if layer.kind == name), theirs)
                made.append(body(dtype, f"{at}{path}.{i}.", i, name, top, theirs))
            self.enter_layers(path, made)

    def __setattr__(self, name: str, value: Any) -> None:
        """What a body keeps for itself stays apart from the modules of a spec that are called alike."""
        if isinstance(value, nn.Module | nn.Parameter):
            super().__setattr__(name, value)
        else:
            self.__dict__[name] = value

    def _inside(self, path: str, make: bool = False) -> tuple[nn.Module, str]:
        *outer, leaf = path.split(".")
        module: nn.Module = self
        for name in outer:
            if make and name not in module._modules:
                module._modules[name] = nn.Module()
            module = module._modules[name]  # type: ignore[assignment]
        return module, leaf

    def enter(self, path: str, parameter: nn.Parameter) -> None:
        """File a parameter under a path; one that is there already stays."""
        module, leaf = self._inside(path, make=True)
        module._parameters.setdefault(leaf, parameter)

    def enter_layers(self, path: str, layers: Sequence[Body]) -> None:
        """File the layers of a stack under its path, as 0, 1, 2, ...; those without parameters of their own are none of the modules."""
        container, _ = self._inside(f"{path}.0", make=True)
        for i, layer in enumerate(layers):
            if layer.owner is layer:
                container._modules[str(i)] = layer
        self.stacks[path] = tuple(layers)

    def bodies(self) -> Iterator[Body]:
        """This body, then those of its layers."""
        yield self
        for layers in self.stacks.values():
            for layer in layers:
                yield from layer.bodies()

    def param(self, path: str) -> nn.Parameter:
        module, leaf = self.owner._inside(path)
        return module._parameters[leaf]  # type: ignore[return-value]

    def layers(self, path: str) -> tuple[Body, ...]:
        return self.stacks[path]

    @property
    def real(self) -> torch.dtype:
        """The dtype of real numbers that only sizes decide."""
        return torch.float64 if self.root.like.dtype == torch.float64 else torch.float32

    @property
    def device(self) -> torch.device:
        return self.root.like.device

    def prepare(self) -> tuple[Any, ...]:
        """What only parameters decide."""
        raise NotImplementedError

    def constants(self) -> tuple[Any, ...]:
        """``prepare``: computed anew wherever a gradient may flow, else kept until a parameter changes."""
        return self.prepare() if self.kept is None else self.kept

    def begin(self, time: Time, new: State) -> None:
        """Write every memory as it is before the first step."""
        raise NotImplementedError

    def sequence(self, time: Time, old: State, new: State, *inputs: Tensor) -> Any:
        raise NotImplementedError

    def step(self, time: Time, old: State, new: State, *inputs: Tensor) -> Any:
        raise NotImplementedError("no step form: `context` reads the whole sequence")


class Model(nn.Module):
    """A compiled model: ``forward`` takes a sequence, ``step`` one time step; both return the outputs and the new state.

    A state is a flat dict of tensors, [batch, ...], by the path of the memory; ``position`` says how many steps lie behind it.
    Inputs that are whole sequences are [batch, *axes] in either; where there are no others, so are the outputs, of one step.
    """

    body: Body
    plan: Any = None
    spec: Any = None
    graph: Any = None
    source: Any = None

    def __init__(
        self,
        body: Body,
        inputs: tuple[str, ...],
        whole: tuple[str, ...],
        outputs: tuple[str, ...],
        needs_position: bool,
    ) -> None:
        super().__init__()
        self._modules, self._parameters = body._modules, body._parameters
        self.__dict__["body"] = body
        self.inputs, self.whole, self.outputs, self.needs_position = inputs, whole, outputs, needs_position
        self._seen: int | None = None
        self._bodies = list(body.bodies())
        self._watched = list(self.parameters())

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._forget()
        self.body.like = fn(self.body.like)
        self._watched = list(self.parameters())
        return result

    def _forget(self) -> None:
        self._seen = None
        for body in self._bodies:
            body.kept = None

    def _ready(self) -> None:
        if torch.is_grad_enabled():
            if self._seen is not None:
                self._forget()
            return
        version = sum(p._version for p in self._watched)
        if version != self._seen:
            self._forget()
            for body in self._bodies:
                body.kept = body.prepare()
            self._seen = version

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the data; states are float32 at least."""
        return self.body.like.dtype

    @property
    def device(self) -> torch.device:
        return self.body.like.device

    @property
    def has_step(self) -> bool:
        """Whether the model can run one step at a time: it does not if it reads the future."""
        return all(type(body).step is not Body.step for body in self._bodies)

    def initial_state(self, batch: int = 1, capacity: int | None = None) -> State:
        """The state before the first step.

        With a capacity, registers that grow have room for so many steps from the start and are written in place, so that
        every tensor keeps its address and size: what a captured graph needs.
        """
        self._ready()
        time = Time(batch, None, None, None, self.dtype, self.device)
        state: State = {}
        self.body.begin(time, state)
        if self.needs_position:
            state["position"] = torch.zeros(batch, dtype=torch.long, device=self.device)
        state = {name: value.contiguous() for name, value in state.items()}
        if capacity is not None:
            for body in self._bodies:
                for name in body.GROWS:
                    grown = state[body.at + name]
                    state[body.at + name] = grown.new_zeros(batch, capacity, *grown.shape[2:])
            state["count"] = torch.zeros(1, dtype=torch.long, device=self.device)
        return state

    def _arguments(
        self, inputs: tuple[Any, ...], state: State | None, reset: Tensor | None
    ) -> tuple[tuple[Tensor, ...], State | None, Tensor | None]:
        wanted = len(self.inputs)
        if len(inputs) < wanted or len(inputs) > wanted + 2:
            raise TypeError(f"takes {', '.join(self.inputs)}, then state and reset; {len(inputs)} arguments were given")
        rest = inputs[wanted:]
        return inputs[:wanted], rest[0] if rest else state, rest[1] if len(rest) > 1 else reset

    def forward(self, *inputs: Any, state: State | None = None, reset: Tensor | None = None) -> tuple[Any, State]:
        """inputs: [batch, time, *axes] (tokens: [batch, time]), then state and reset [batch, time] (bool), by position or by name."""
        values, state, reset = self._arguments(inputs, state, reset)
        return self.call(self.steps(values), values, state, reset)

    def steps(self, values: Sequence[Tensor]) -> int | None:
        """How many steps these inputs of ``forward`` have; None where all are whole sequences."""
        timed = (value.shape[1] for name, value in zip(self.inputs, values, strict=True) if name not in self.whole)
        return next(timed, None)

    def step(self, *inputs: Any, state: State | None = None, reset: Tensor | None = None) -> tuple[Any, State]:
        """inputs: [batch, *axes] (tokens: [batch]), then state and reset [batch] (bool), by position or by name."""
        values, state, reset = self._arguments(inputs, state, reset)
        return self.call(None, values, state, reset)

    def call(
        self, steps: int | None, values: Sequence[Tensor], state: State | None, reset: Tensor | None
    ) -> tuple[Any, State]:
        """A sequence of so many steps, or (None) one step."""
        self._ready()
        old: State = state or {}
        time = Time(values[0].shape[0], steps, old.get("position"), reset, self.dtype, values[0].device)
        time.fresh, time.count = not old, old.get("count")
        new: State = {}
        found = (self.body.step if steps is None else self.body.sequence)(time, old, new, *values)
        if self.needs_position:
            new["position"] = time.after()
        if time.count is not None:
            new["count"] = time.count + (steps or 1)
        return found if len(self.outputs) == 1 else dict(zip(self.outputs, found, strict=True)), new


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, read with torch alone."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        dtype = _SAFETENSORS[entry["dtype"]]
        flat = (
            torch.frombuffer(data, dtype=dtype, count=(end - start) // dtype.itemsize, offset=start)
            if end > start
            else torch.empty(0, dtype=dtype)
        )
        found[name] = flat.reshape(entry["shape"]).clone()
    return found


_SAFETENSORS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def with_weights(model: Model, path: str | os.PathLike[str]) -> Model:
    """A model whose parameters are those of a file; complex ones are stored as pairs of reals. Raises KeyError if one is missing."""
    weights = read_weights(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = weights[name]
            parameter.copy_(torch.view_as_complex(value) if parameter.is_complex() else value)
    return model
