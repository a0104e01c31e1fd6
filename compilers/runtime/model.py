"""A compiled model: the body of the outermost graph, and around it what is checked at the door, states, and steps in one call."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from copy import deepcopy
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from . import joined, native
from .body import Body, Run
from .clock import Time
from .frozen import Kept
from .fused import Sequenced, compiled
from .generate import generate, refused, sampling
from .masks import Given, Masks
from .memory import Memories
from .ragged import by_lengths
from .release import release
from .state import Course, Memory, Signature, State, StateError, States
from .step import ROWS, Step, bind

_FROZEN: ContextVar[frozenset[int]] = ContextVar("frozen", default=frozenset())


_FRONT = ("batch", "time")


class InputError(ValueError):
    """An input that the model cannot read."""


class Model(Body):
    """A compiled model: ``forward`` takes a sequence, ``step`` one time step; both return the outputs and the new state.

    Inputs that are whole sequences are [batch, *axes] in either; where there are no others, so are the outputs, of one step, and so are
    answers, of the last.
    """

    INPUTS: tuple[
        tuple[str, tuple[int | None, ...], str, bool], ...
    ] = ()  # name, sizes, dtype, whether it is a whole sequence
    OUTPUTS: tuple[tuple[str, tuple[int | None, ...], str], ...] = ()  # label, sizes, dtype
    ANSWERS: tuple[str, ...] = ()  # the outputs of which a sequence has one, [batch, *axes]
    POSITION = False  # whether a state must say how many steps lie behind it
    STEPS = True  # whether the model can run one step at a time
    DROPS = False  # whether entries are dropped while training
    TITLE = "the model"
    NATIVE: Step | None = None  # the step in one call

    plan: Any = None
    spec: Any = None
    graph: Any = None
    source: Any = None
    recipe: tuple[Callable[..., Any], tuple[Any, ...]] | None = None  # what makes an empty model of this class anew
    fused = False  # whether sequences run by torch.compile

    def __init__(self, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> None:
        super().__init__(dtype, device)
        self.like = torch.zeros((), dtype=dtype, device=device)
        self._kept: Kept | None = None
        self._known: Signature | None = None
        self._compiled: Sequenced | None = None

    def step(self, *inputs: Any, **named: Any) -> tuple[Any, State]:
        """Written for each model, as is ``forward``: one step, [batch, *axes]; then state and reset [batch]."""
        raise NotImplementedError

    # What it is.

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """In a notebook: the picture of its spec, and the modules that it is made of."""
        kinds = {"image/svg+xml", "text/html"}
        wanted = kinds if include is None else {kind for kind in kinds if kind in include}
        shown = self.spec._repr_mimebundle_(wanted, exclude) if self.spec is not None else {}
        return {**shown, "text/plain": repr(self)}

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
        result = super()._apply(fn, recurse)
        self.like = fn(self.like)
        self._kept = self._known = None
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None, "_compiled": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        shared = ("plan", "spec", "graph", "source", "recipe")
        own = {key: value for key, value in self.__getstate__().items() if key not in shared}
        made.__dict__.update(deepcopy(own, memo))
        made.__dict__.update({key: self.__dict__[key] for key in shared if key in self.__dict__})
        made.lay_all()
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.recipe is None:
            return super().__reduce_ex__(protocol)
        again = ("plan", "spec", "graph", "source", "recipe")
        return (*self.recipe, {key: value for key, value in self.__getstate__().items() if key not in again})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.lay_all()

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

    def generate(
        self,
        tokens: Tensor,
        count: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        state: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, State]:
        """So many tokens behind a prompt [batch, time], or behind what ``state`` has seen and the prompt; and the state after all but the last.

        Each is drawn from the logits divided by ``temperature`` (0: the likeliest), among the ``top_k`` likeliest, and the likeliest that have
        ``top_p`` of the probability together, by torch's generator. Raises InputError if the model gives no logits of tokens, ValueError
        where a setting makes no sense.
        """
        why = refused(self)
        if why is not None:
            raise InputError(why)
        (tokens,) = self._checked((tokens,), 2)
        if tokens.shape[1] == 0:
            raise InputError(f"`{self.inputs[0]}` holds no token to go on from")
        how = sampling(temperature, top_k, top_p, tokens.device)
        return generate(self, tokens, count, how, top_k is not None or top_p is not None, state)

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
        masks: Given | None = None,
    ) -> tuple[Any, Any]:
        """``forward``: a sequence, [batch, time, *axes]."""
        if masks is not None and not self.training:
            raise InputError(
                "`masks` say what is dropped while training, and the model is evaluated; call train() first"
            )
        if masks is not None and lengths is not None:
            raise InputError("`lengths` and `masks` exclude each other: masks are of rows of one length")
        if states not in (None, "each"):
            raise InputError(f'states is "each" or left out, not {states!r}')
        values = self._checked(values, 2)
        if lengths is not None:
            if states is not None:
                raise InputError(
                    "`lengths` and `states` exclude each other: the states after each step are of rows of one length"
                )
            return by_lengths(self, values, state, reset, lengths)
        found = Masks(masks) if masks is not None else None
        result = self.sequence(values, state, reset, states == "each", found)
        if found is not None and (unknown := found.unknown()):
            near = get_close_matches(unknown[0], found.used, 1, 0.0)
            raise InputError(f"nothing is dropped at `{unknown[0]}`; the nearest is `{near[0]}`")
        return result

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

    def sequence(
        self,
        values: Sequence[Tensor],
        state: Mapping[str, Tensor] | None,
        reset: Tensor | None,
        each: bool = False,
        masks: Masks | None = None,
    ) -> tuple[Any, Any]:
        """A sequence of inputs that were checked."""
        steps = self.steps(values)
        if not self.fused or not steps or masks is not None or torch.compiler.is_compiling():
            return self.call(steps, values, state, reset, each, training=self.dropping, masks=masks)
        if self._compiled is None:
            self._compiled = compiled(self)
        return self._compiled(values, state, reset, each, self._blocks())

    @property
    def dropping(self) -> bool:
        """Whether sequences have entries dropped."""
        return self.training and self.DROPS

    def _blocks(self) -> Sequence[joined.Block | None]:
        return self.blocks() if joined.pays(self.device) else ()

    def call(
        self,
        steps: int | None,
        values: Sequence[Tensor],
        state: Mapping[str, Tensor] | None = None,
        reset: Tensor | None = None,
        each: bool = False,
        kept: Kept | None = None,
        blocks: Sequence[joined.Block | None] | None = None,
        training: bool = False,
        masks: Masks | None = None,
    ) -> tuple[Any, Any]:
        """A sequence of so many steps, or (None) one step, of inputs that were checked. kept: what only parameters decide, if it is given;
        blocks: what ``blocks`` gave; training: whether entries are dropped, and masks which, if that is given."""
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
        kept = self._constant() if kept is None and not training else kept
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
            if blocks is None:
                blocks = self._blocks() if plain and kept is None else ()
            run = Run(self, time, old, new, plain, kept, blocks=blocks, training=training, masks=masks)
            found = Body.forward(self, run, *values)
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
        if self.ANSWERS and steps == 0 and batch:
            raise InputError(f"`{self.ANSWERS[0]}` is an answer to a sequence, and there is no step here")
        kinds = {"int": torch.long, "bool": torch.bool, "complex": torch.promote_types(self.dtype, torch.complex64)}
        found = {
            label: torch.empty(
                *((batch,) if steps is None or label in self.ANSWERS else (batch, steps)),
                *(size or 0 for size in sizes),
                dtype=kinds.get(dtype, self.dtype),
                device=self.device,
            )
            for label, sizes, dtype in self.OUTPUTS
        }
        after: Any = State(state, self.signature) if state else self.initial_state(batch)
        result = next(iter(found.values())) if len(found) == 1 else found
        return result, (States(0, {}, self.signature) if each else after)
