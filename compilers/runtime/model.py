"""What generated modules are made of: bodies (a graph each) of parts that own parameters, and the model around the outermost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from . import native
from .clock import Time
from .frozen import Kept
from .layers import Linear, Values, bound, owned, plain
from .linear import linear
from .memory import Memories
from .ragged import by_lengths
from .release import release
from .state import Course, Memory, Signature, State, StateError, States
from .step import ROWS, Own, Step, bind


class Run:
    """One call of a body. ``at`` is the path that its memories are filed under, ``layer`` its index in a stack; ``plain`` says whether
    weights may be used without calling the parts that own them."""

    __slots__ = ("at", "kept", "layer", "new", "old", "plain", "root", "time")

    def __init__(
        self,
        root: Model,
        time: Time,
        old: Mapping[str, Tensor],
        new: Memories,
        plain: bool,
        kept: Kept | None,
        at: str = "",
        layer: int = 0,
    ) -> None:
        self.root, self.time, self.old, self.new = root, time, old, new
        self.plain, self.kept, self.at, self.layer = plain, kept, at, layer

    def constants(self, make: Callable[[Run], tuple[Any, ...]]) -> tuple[Any, ...]:
        """What only parameters decide, made by a method of the body."""
        if self.kept is None:
            return make(self)
        return self.kept.once((self.at, make), make, self)

    def part(self, body: Body, path: str) -> Callable[..., Any]:
        """What computes a part or a component: the module, or, where nobody watches and it is kept, its code."""
        kept = self.kept
        if kept is None or not kept.quiet:
            return body.part(path)
        return kept.once((body, path, self.time.steps is None, self.time.each), self._part_code, body, path)

    def layers(self, body: Body, path: str) -> Iterable[tuple[int, str, Callable[..., Any]]]:
        """The layers of a stack: index, kind, and what computes it."""
        kept = self.kept
        if kept is None or not kept.quiet:
            return body.layers(path)
        return kept.once((body, path, self.time.steps is None, self.time.each), self._layer_codes, body, path)

    def _part_code(self, body: Body, path: str) -> Callable[..., Any]:
        return self._code(body.part(path))

    def _layer_codes(self, body: Body, path: str) -> list[tuple[int, str, Callable[..., Any]]]:
        return [(i, kind, self._code(layer)) for i, kind, layer in body.layers(path)]

    def _code(self, module: nn.Module) -> Callable[..., Any]:
        """What a module runs in this call, its hooks apart."""
        if isinstance(module, Body) and type(module).forward is Body.forward:
            return module.code(self)
        return bound(module)

    def inside(self, path: str, layer: int) -> Run:
        """The call of a layer of a stack."""
        at = f"{self.at}{path}.{layer}."
        return Run(self.root, self.time, self.old, self.new, self.plain, self.kept, at, layer)


class Body(nn.Module):
    """A graph: its parts, layers and values under their paths, the code in a subclass.

    Paths come from a spec, so parts are looked up among the submodules, never as attributes.
    """

    PARTS: tuple[tuple[Any, ...], ...] = ()  # path, kind, arguments of the kind
    VALUES: tuple[
        tuple[str, tuple[int, ...], str | None, bool], ...
    ] = ()  # path, sizes, own dtype, whether it is learned
    SHARED: tuple[str, ...] = ()  # the paths, of parts and values, that are those of the whole model
    CALLS: tuple[tuple[str, type[Body]], ...] = ()  # path and class of each component in it
    STACKS: tuple[tuple[str, str, tuple[tuple[str, type[Body]], ...], bool], ...] = ()
    # path, path of its memories, the kind and class of each layer, whether layers of a kind are one
    MEMORIES: tuple[
        tuple[str, tuple[int | None, ...], str], ...
    ] = ()  # path, sizes, "data", "wide", "rounded" or "complex"
    OWN: Own | None = None  # what the native step of this body keeps
    LAYERS: tuple[str, ...] = ()  # its stacks, in the order of that step
    GROUPED: tuple[str, ...] = ()  # the parts whose weights may be used without calling them
    FUSED = False  # whether a memory is computed together with parts around it

    def __init__(self, dtype: torch.dtype, device: torch.device | None = None, root: Body | None = None) -> None:
        super().__init__()
        top = self if root is None else root
        for path, kind, *arguments in self.PARTS:
            home = top if path in self.SHARED else self
            home.enter(path, partial(kind, dtype, device, *arguments))
        for path, sizes, own, learned in self.VALUES:
            home = top if path in self.SHARED else self
            empty = torch.empty(sizes, dtype=dtype if own is None else getattr(torch, own), device=device)
            home.enter_value(path, empty, learned)
        for path, body in self.CALLS:
            self.enter(path, partial(body, dtype, device, top))
        self._stacks: dict[str, list[tuple[int, str, str]]] = {}
        for path, _, layers, share in self.STACKS:
            container = self.enter(path, nn.ModuleList)
            rows = self._stacks[path] = []
            for i, (kind, body) in enumerate(layers):
                key = str(_first(layers, kind) if share else i)
                rows.append((i, kind, key))
                if key not in container._modules:
                    container._modules[key] = body(dtype, device, top)

    def __setattr__(self, name: str, value: Any) -> None:
        """What a body keeps for itself stays apart from the modules of a spec that are called alike."""
        if isinstance(value, nn.Module | nn.Parameter):
            super().__setattr__(name, value)
        else:
            self.__dict__[name] = value

    def enter(self, path: str, make: Callable[[], nn.Module]) -> nn.Module:
        """The part at a path, made if there is none yet, and everything on the way to it."""
        *outer, leaf = path.split(".")
        module: nn.Module = self
        for name in outer:
            module = _child(module, name, Values)
        return _child(module, leaf, make)

    def enter_value(self, path: str, value: Tensor, learned: bool) -> None:
        """File a parameter, or a buffer, under a path; one that is there already stays."""
        *outer, leaf = path.split(".")
        module = self.enter(".".join(outer), Values) if outer else self
        if learned:
            module._parameters.setdefault(leaf, nn.Parameter(value))
        else:
            module._buffers.setdefault(leaf, value)

    def part(self, path: str) -> nn.Module:
        found = self._modules.get(path)
        if found is not None:
            return found
        module: nn.Module = self
        for name in path.split("."):
            module = module._modules[name]  # type: ignore[assignment]
        return module

    def value(self, path: str) -> Tensor:
        """A parameter or buffer."""
        outer, _, leaf = path.rpartition(".")
        module = self.part(outer) if outer else self
        found: Tensor = module(leaf) if isinstance(module, Values) else owned(module, leaf)
        return found

    def layers(self, path: str) -> Iterator[tuple[int, str, nn.Module]]:
        """The layers of a stack, here or in a component: index, kind and body."""
        home, rows = self._rows(path)
        container = home._modules
        for i, kind, key in rows:
            yield i, kind, container[key]  # type: ignore[misc]

    def _rows(self, path: str) -> tuple[nn.Module, list[tuple[int, str, str]]]:
        """The container of a stack; for each layer its index, its kind, and what it is called there."""
        for call, _ in self.CALLS:
            if path.startswith(f"{call}."):
                inner = self.part(call)
                assert isinstance(inner, Body)
                return inner._rows(path.removeprefix(f"{call}."))
        return self.part(path), self._stacks[path]

    def together(self, run: Run, x: Tensor, *paths: str) -> Sequence[Tensor]:
        """Projections of one input: one product where nobody watches and the weights in one piece are kept, else one by one. (To lay them
        side by side in every call takes longer than it saves.)"""
        if run.kept is None or not run.plain:
            return [self.part(path)(x) for path in paths]
        weight, bias, sizes = run.kept.once((self, paths), self._join, paths)
        found: Sequence[Tensor] = linear(x, weight, bias).split(sizes, -1)
        return found

    def _join(self, paths: tuple[str, ...]) -> tuple[Tensor, Tensor | None, list[int]]:
        parts = [self.part(path) for path in paths]
        weights = [owned(part, "weight") for part in parts]
        biases: list[Tensor | None] = [part._parameters["bias"] for part in parts]
        sizes = [weight.shape[0] for weight in weights]
        bias = None
        if any(one is not None for one in biases):
            whole = zip(weights, biases, strict=True)
            bias = torch.cat([w.new_zeros(w.shape[0]) if one is None else one for w, one in whole])
        return torch.cat(weights), bias, sizes

    def _natives(self, run: Run) -> tuple[Tensor | float, ...]:
        """What the native step of this body is given of what only parameters decide."""
        raise NotImplementedError

    def _begin(self, run: Run) -> None:
        """Write every memory as it is before the first step."""
        raise NotImplementedError

    def _sequence(self, run: Run, *inputs: Tensor) -> Any:
        raise NotImplementedError

    _apart: Any = None  # ``_sequence``, memories step by step, and every part called by itself

    def _step(self, run: Run, *inputs: Tensor) -> Any:
        raise NotImplementedError("no step form: `context` reads the whole sequence")

    _step_apart: Any = None

    def forward(self, run: Run, *inputs: Tensor) -> Any:
        """Called by the body around it: a sequence [batch, time, *axes], or one step [batch, *axes]."""
        return self.code(run)(run, *inputs)

    def code(self, run: Run) -> Callable[..., Any]:
        """The method for this call."""
        watched = self.FUSED and not run.plain
        found: Callable[..., Any]
        if run.time.steps is None:
            found = self._step_apart if watched else self._step
        else:
            found = self._apart if self._apart is not None and (run.time.each or watched) else self._sequence
        return found

    def plain(self) -> bool:
        """Whether nobody would notice if parts were not called."""
        inner = [self.part(path) for path, _ in self.CALLS]
        inner += [body for path, *_ in self.STACKS for _, _, body in self.layers(path)]
        return all(plain(self.part(path), Linear) for path in self.GROUPED) and all(
            isinstance(body, Body) and body.plain() for body in inner
        )

    def untouched(self, root: Body | None = None) -> bool:
        """Whether everything in it is what it was made as: nobody would notice if no part of it were called."""
        top = self if root is None else root
        for path, kind, *_ in self.PARTS:
            if not plain((top if path in self.SHARED else self).part(path), kind):
                return False
        for path, *_ in self.VALUES:
            outer, _, leaf = path.rpartition(".")
            home = top if path in self.SHARED else self
            owner = home.part(outer) if outer else home
            value = owner._parameters.get(leaf, owner._buffers.get(leaf))
            if value is None or not native.plain(value):
                return False
        inner = [(body, self.part(path)) for path, body in self.CALLS]
        for path, _, layers, _ in self.STACKS:
            inner += [(body, layer) for (_, body), (_, _, layer) in zip(layers, self.layers(path), strict=True)]
        return "forward" not in self.__dict__ and all(type(one) is body and one.untouched(top) for body, one in inner)

    @classmethod
    def memories(cls, at: str = "") -> Iterator[tuple[str, tuple[int | None, ...], str]]:
        """Every memory of this body and its layers: path, sizes, kind of dtype."""
        for name, sizes, kind in cls.MEMORIES:
            yield at + name, sizes, kind
        for _, inner in cls.CALLS:
            yield from inner.memories(at)
        for _, path, layers, _ in cls.STACKS:
            for i, (_, body) in enumerate(layers):
                yield from body.memories(f"{at}{path}.{i}.")


def _first(layers: Sequence[tuple[str, Any]], kind: str) -> int:
    return next(i for i, (other, _) in enumerate(layers) if other == kind)


def _child(module: nn.Module, name: str, make: Callable[[], nn.Module]) -> nn.Module:
    found = module._modules.get(name)
    if found is None:
        module._modules[name] = found = make()
    return found


_FROZEN: ContextVar[frozenset[int]] = ContextVar("frozen", default=frozenset())


_FRONT = ("batch", "time")


class InputError(ValueError):
    """An input that the model cannot read."""


class Model(Body):
    """A compiled model: ``forward`` takes a sequence, ``step`` one time step; both return the outputs and the new state.

    Inputs that are whole sequences are [batch, *axes] in either; where there are no others, so are the outputs, of one step.
    """

    INPUTS: tuple[
        tuple[str, tuple[int | None, ...], str, bool], ...
    ] = ()  # name, sizes, dtype, whether it is a whole sequence
    OUTPUTS: tuple[tuple[str, tuple[int | None, ...], str], ...] = ()  # label, sizes, dtype
    POSITION = False  # whether a state must say how many steps lie behind it
    STEPS = True  # whether the model can run one step at a time
    TITLE = "the model"
    NATIVE: Step | None = None  # the step in one call

    plan: Any = None
    spec: Any = None
    graph: Any = None
    source: Any = None
    recipe: tuple[Callable[..., Any], tuple[Any, ...]] | None = None  # what makes an empty model of this class anew

    def __init__(self, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> None:
        super().__init__(dtype, device)
        self.like = torch.zeros((), dtype=dtype, device=device)
        self._kept: Kept | None = None
        self._known: Signature | None = None

    def step(self, *inputs: Any, **named: Any) -> tuple[Any, State]:
        """Written for each model, as is ``forward``: one step, [batch, *axes]; then state and reset [batch]."""
        raise NotImplementedError

    # What it is.

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name, *_ in self.INPUTS)

    @property
    def whole(self) -> tuple[str, ...]:
        """The inputs that are whole sequences."""
        return tuple(name for name, *_, whole in self.INPUTS if whole)

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(label for label, *_ in self.OUTPUTS)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the data; states are float32 at least."""
        return self.like.dtype

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), self.like.device)

    @property
    def has_step(self) -> bool:
        """Whether the model can run one step at a time: it does not if it reads the future."""
        return self.STEPS

    @property
    def signature(self) -> Signature:
        """What a state of this model holds."""
        if self._known is None:
            wide = torch.promote_types(self.dtype, torch.float32)
            kinds = {
                "data": self.dtype,
                "wide": wide,
                "rounded": self.dtype,
                "complex": torch.complex128 if wide == torch.float64 else torch.complex64,
            }
            table = {name: Memory(sizes, kinds[kind], kind == "rounded") for name, sizes, kind in self.memories()}
            if self.POSITION:
                table["position"] = Memory((), torch.long)
            self._known = Signature(self.TITLE, table)
        return self._known

    # Modules are copied, moved and pickled.

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.like = fn(self.like)
        self._kept = self._known = None
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        shared = ("plan", "spec", "graph", "source", "recipe")
        own = {key: value for key, value in self.__getstate__().items() if key not in shared}
        made.__dict__.update(deepcopy(own, memo))
        made.__dict__.update({key: self.__dict__[key] for key in shared if key in self.__dict__})
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.recipe is None:
            return super().__reduce_ex__(protocol)
        again = ("plan", "spec", "graph", "source", "recipe")
        return (*self.recipe, {key: value for key, value in self.__getstate__().items() if key not in again})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @contextmanager
    def frozen(self) -> Iterator[Model]:
        """Inside, and without gradients, what only parameters decide is computed once and kept for the calls that follow, as decoding wants
        it. It is computed anew when a parameter is another tensor, or was changed in place; changes behind autograd's back (``p.data``)
        and hooks that are added meanwhile are not seen.
        """
        if id(self) not in _FROZEN.get():
            self._kept = None  # hooks may have come since the last time
        token = _FROZEN.set(_FROZEN.get() | {id(self)})
        try:
            yield self
        finally:
            _FROZEN.reset(token)

    def _constant(self) -> Kept | None:
        """What is kept from call to call, if anything may be."""
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or id(self) not in _FROZEN.get():
            return None
        if not native.alone():
            return None
        kept = self._kept
        if kept is None or not kept.fits():
            self._kept = kept = Kept(self, self.plain())
        return kept

    # Calls.

    def initial_state(self, batch: int = 1, capacity: int | None = None) -> State:
        """The state before the first step.

        With a capacity, registers that grow have room for so many steps from the start and are written in place, so that
        every tensor keeps its address and size: what a captured graph needs.
        """
        time = Time(batch, None, None, None, self.dtype, self.device)
        found: Memories = {}
        self._begin(Run(self, time, {}, found, False, self._constant()))
        if self.POSITION:
            found["position"] = torch.zeros(batch, dtype=torch.long, device=time.device)
        self._round(found)
        state = State({name: value.contiguous() for name, value in found.items()}, self.signature)
        if capacity is not None:
            for name, memory in self.signature.memories.items():
                if None in memory.sizes:
                    state[name] = state[name].new_zeros(batch, capacity, *state[name].shape[2:])
            state["count"] = torch.zeros(1, dtype=torch.long, device=time.device)
        return state

    def over(
        self,
        values: Sequence[Tensor],
        state: Mapping[str, Tensor] | None,
        reset: Tensor | None,
        lengths: Tensor | None,
        states: str | None,
    ) -> tuple[Any, Any]:
        """``forward``: a sequence, [batch, time, *axes]."""
        if states not in (None, "each"):
            raise InputError(f'states is "each" or left out, not {states!r}')
        values = self._checked(values, 2)
        if lengths is not None:
            if states is not None:
                raise InputError(
                    "`lengths` and `states` exclude each other: the states after each step are of rows of one length"
                )
            return by_lengths(self, values, state, reset, lengths)
        return self.call(self.steps(values), values, state, reset, states == "each")

    def one(
        self, values: Sequence[Tensor], state: Mapping[str, Tensor] | None, reset: Tensor | None
    ) -> tuple[Any, State]:
        """``step``: one step, [batch, *axes]."""
        return self.call(None, self._checked(values, 1), state, reset)

    def steps(self, values: Sequence[Tensor]) -> int | None:
        """How many steps these inputs of ``forward`` have; None where all are whole sequences."""
        timed = (value.shape[1] for (*_, whole), value in zip(self.INPUTS, values, strict=True) if not whole)
        return next(timed, None)

    def _checked(self, values: Sequence[Any], lead: int) -> Sequence[Tensor]:
        """The inputs, if they are what the spec says: raises InputError in its names."""
        counts: dict[str, tuple[int, str]] = {}
        for (name, sizes, dtype, whole), value in zip(self.INPUTS, values, strict=True):
            front = _FRONT[: 1 if whole else lead]
            self._check(value, name, (*front, *sizes), dtype)
            for axis, size in zip(front, value.shape, strict=False):
                first, who = counts.setdefault(axis, (size, name))
                if first != size:
                    raise InputError(f"`{name}` has {axis} {size}, and `{who}` {first}")
        return values

    def _check(self, value: Any, name: str, axes: Sequence[str | int | None], dtype: str) -> None:
        """Raise InputError unless a value has these axes (numbers are sizes, all else may have any), and this dtype."""
        wrong = ""
        if not isinstance(value, Tensor):
            wrong = f"; got {type(value).__name__}"
        elif value.dim() != len(axes) or any(
            isinstance(size, int) and size != own for size, own in zip(axes, value.shape, strict=True)
        ):
            wrong = f"; got {list(value.shape)}"
        elif dtype == "int" and value.dtype not in (torch.int64, torch.int32):
            wrong = f" of whole numbers, int64 or int32; got {value.dtype}"
        elif dtype == "real" and value.dtype != self.dtype and not torch.is_autocast_enabled(value.device.type):
            wrong = f" of {self.dtype}, the dtype of the model; got {value.dtype}"
        if wrong:
            shown = ", ".join("*" if axis is None else str(axis) for axis in axes)
            raise InputError(f"`{name}` must be [{shown}]{wrong}")

    def _checked_reset(self, reset: Any, batch: int, steps: int | None) -> None:
        shape = (batch,) if steps is None else (batch, steps)
        if not isinstance(reset, Tensor) or reset.dtype != torch.bool or tuple(reset.shape) != shape:
            front = "[batch]" if steps is None else "[batch, time]"
            got = f"{list(reset.shape)} {reset.dtype}" if isinstance(reset, Tensor) else type(reset).__name__
            raise InputError(f"`reset` must be {front} of bool, here {list(shape)}; got {got}")

    def call(
        self,
        steps: int | None,
        values: Sequence[Tensor],
        state: Mapping[str, Tensor] | None = None,
        reset: Tensor | None = None,
        each: bool = False,
        kept: Kept | None = None,
    ) -> tuple[Any, Any]:
        """A sequence of so many steps, or (None) one step, of inputs that were checked. kept: what only parameters decide, if it is given."""
        batch, device = values[0].shape[0], values[0].device
        old: Mapping[str, Tensor] = state or {}
        if old and not (isinstance(old, State) and old.signature is self.signature and old.batch == batch):
            self.signature.check(old, batch, device)
        if reset is not None:
            self._checked_reset(reset, batch, steps)
        if steps == 0 or batch == 0:
            return self.nothing(batch, steps, state, each)
        if each and "count" in old:
            raise StateError(
                "a state of fixed capacity is written in place, so there is only the one after the last step"
            )
        kept = self._constant() if kept is None else kept
        if steps is None and kept is not None and reset is None and batch <= ROWS:
            done = self._native(kept, values, old)
            if done is not None:
                return done
        time = Time(batch, steps, old.get("position"), reset, self.dtype, device)
        time.fresh, time.count, time.each = not old, old.get("count"), each
        if self.signature.rounded and old:
            old = {name: time.as_wide(x) if name in self.signature.rounded else x for name, x in old.items()}
        new: Memories = {}
        plain = steps is not None and self.plain() if kept is None else kept.plain
        with nullcontext() if kept is None else native.settled():
            found = Body.forward(self, Run(self, time, old, new, plain, kept), *values)
        if self.POSITION:
            new["position"] = Course(time.after) if each else time.after()
        self._round(new)
        result = found if len(self.OUTPUTS) == 1 else dict(zip(self.outputs, found, strict=True))
        if each:
            return result, States(steps or 1, new, self.signature)
        if reset is not None:
            memories = self.signature.memories
            release(new, [name for name, memory in memories.items() if None in memory.sizes])
        if time.count is not None:
            new["count"] = time.count + (steps or 1)
        return result, State(new, self.signature)

    def _native(self, kept: Kept, values: Sequence[Tensor], old: Mapping[str, Tensor]) -> tuple[Any, State] | None:
        """One step as one call, if it can be."""
        bound = kept.once("native step", lambda: (bind(self, kept),))[0]
        if bound is None or torch.is_autocast_enabled("cpu"):
            return None
        done = bound(values, old)
        if done is None:
            return None
        results, state = done
        return results[0] if len(results) == 1 else dict(zip(self.outputs, results, strict=True)), state

    def _round(self, memories: Memories) -> None:
        """Memories as they are kept from call to call."""
        for name, dtype in self.signature.rounded.items():
            value = memories[name]
            if isinstance(value, Course):
                memories[name] = Course(lambda t, at=value.at, dtype=dtype: at(t).to(dtype))  # type: ignore[misc]
            else:
                memories[name] = value.to(dtype)

    def nothing(
        self, batch: int, steps: int | None, state: Mapping[str, Tensor] | None, each: bool = False
    ) -> tuple[Any, Any]:
        """No steps, or of no sequences: no outputs, and the state as it was."""
        lead = (batch,) if steps is None else (batch, steps)
        kinds = {"int": torch.long, "bool": torch.bool, "complex": torch.promote_types(self.dtype, torch.complex64)}
        found = {
            label: torch.empty(
                *lead, *(size or 0 for size in sizes), dtype=kinds.get(dtype, self.dtype), device=self.device
            )
            for label, sizes, dtype in self.OUTPUTS
        }
        after: Any = State(state, self.signature) if state else self.initial_state(batch)
        result = next(iter(found.values())) if len(found) == 1 else found
        return result, (States(0, {}, self.signature) if each else after)
