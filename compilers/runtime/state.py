"""The memory of a model between two calls: named tensors, and what they are the memory of."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from .step import Packed

_EVERYWHERE = ("position", "count")  # what any state may hold, needed or not


class StateError(ValueError):
    """A state that a model cannot go on from."""


@dataclass(frozen=True)
class Memory:
    """What a model knows of one of its memories: the sizes after the batch (None: the entries of a register that grows), and its dtype."""

    sizes: tuple[int | None, ...]
    dtype: torch.dtype
    rounded: bool = False  # whether it is wider within a call

    def __str__(self) -> str:
        return f"[{', '.join(['batch', *('*' if size is None else str(size) for size in self.sizes)])}]"


@dataclass(frozen=True)
class Signature:
    """Which memories a state holds, by name. Two models of one signature can go on from each other's states. ``rounded``: those that are
    kept narrower than they are computed."""

    model: str
    memories: Mapping[str, Memory]
    rounded: dict[str, torch.dtype] = field(init=False)

    def __post_init__(self) -> None:
        found = {name: memory.dtype for name, memory in self.memories.items() if memory.rounded}
        object.__setattr__(self, "rounded", found)

    def check(self, state: Mapping[str, Tensor], batch: int, device: torch.device) -> None:
        """Raise StateError unless this is a state of the model for so many sequences."""
        for name in state:
            if name not in self.memories and name not in _EVERYWHERE:
                known = ", ".join(self.memories) or "none"
                raise StateError(f"`{name}` is no memory of {self.model}; it has {known}")
        for name, memory in self.memories.items():
            if name not in state:
                raise StateError(f"the state lacks `{name}` {memory}, a memory of {self.model}")
            found = state[name]
            sizes = zip(memory.sizes, found.shape[1:], strict=False)
            if found.dim() != 1 + len(memory.sizes) or any(size not in (None, own) for size, own in sizes):
                raise StateError(f"`{name}` is {memory} in {self.model}, and {list(found.shape)} in the state")
            if found.shape[0] != batch:
                raise StateError(f"the state holds {found.shape[0]} sequences, and the input has {batch}")
            if found.dtype != memory.dtype:
                raise StateError(
                    f"`{name}` is {_named(memory.dtype)} in {self.model}, and {_named(found.dtype)} in the state"
                )
            if found.device != device:
                raise StateError(
                    f"`{name}` is on {found.device}, and the input on {device}: move it with `state.to(...)`"
                )


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class State(MutableMapping[str, Tensor]):
    """A mapping from the path of a memory to a tensor [batch, *axes]; ``position`` [batch] counts the steps since the start or the last
    reset. It is a value: a step leaves the state that it was given as it was.
    """

    def __init__(self, tensors: Mapping[str, Tensor] | None = None, signature: Signature | None = None) -> None:
        self._tensors: dict[str, Tensor] | None = dict(tensors or {})
        self.packed: Packed | None = None
        self.signature = signature

    @classmethod
    def of(cls, packed: Packed, signature: Signature) -> State:
        """What a native step has left, its tensors made when they are asked for."""
        made = cls(None, signature)
        made._tensors, made.packed = None, packed
        return made

    def _all(self) -> dict[str, Tensor]:
        if self._tensors is None:
            assert self.packed is not None
            self._tensors = dict(self.packed.tensors())
        return self._tensors

    def __getitem__(self, name: str) -> Tensor:
        return self._all()[name]

    def __setitem__(self, name: str, value: Tensor) -> None:
        self._all()[name] = value
        self.packed = None

    def __delitem__(self, name: str) -> None:
        del self._all()[name]
        self.packed = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __bool__(self) -> bool:
        return self._tensors is None or bool(self._tensors)

    @property
    def batch(self) -> int:
        """How many sequences."""
        if self.packed is not None:
            return self.packed.batch
        return next((value.shape[0] for name, value in self.items() if name != "count"), 0)

    @property
    def bytes(self) -> int:
        """Of all tensors together."""
        return sum(value.numel() * value.element_size() for value in self.values())

    def each(self, change: Callable[[Tensor], Tensor]) -> State:
        """A state of the changed tensors."""
        return State({name: change(value) for name, value in self.items()}, self.signature)

    def fork(self) -> State:
        """A copy that shares nothing."""
        return self.each(torch.clone)

    def detach(self) -> State:
        """Without the history of gradients: truncated backpropagation through time."""
        return self.each(Tensor.detach)

    def to(self, device: torch.device | str) -> State:
        """On another device."""
        return self.each(lambda value: value.to(device))

    def select(self, rows: Tensor | Sequence[int]) -> State:
        """The state of some of the sequences, in any order, any of them several times: beam search, or a batch that changes."""
        index = torch.as_tensor(rows, dtype=torch.long)
        return State(
            {
                name: value if name == "count" else value.index_select(0, index.to(value.device))
                for name, value in self.items()
            },
            self.signature,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as safetensors, all or nothing."""
        from safetensors.torch import save_file

        plain = {name: torch.view_as_real(x) if x.is_complex() else x for name, x in self.items()}
        about = {"complex": [name for name, x in self.items() if x.is_complex()]}
        made = f"{os.fspath(path)}.part"
        try:
            save_file(
                {name: x.detach().cpu().contiguous().clone() for name, x in plain.items()},
                made,
                {"state": json.dumps(about)},
            )
            os.replace(made, path)
        finally:
            if os.path.exists(made):
                os.remove(made)

    @staticmethod
    def load(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> State:
        """A state that was saved; the model that it is given to checks that it is one of its own."""
        from safetensors import safe_open

        with safe_open(path, "pt", device=str(device)) as file:
            known = json.loads((file.metadata() or {}).get("state", "{}"))
            names = set(known.get("complex", []))
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return State({name: torch.view_as_complex(x) if name in names else x for name, x in found.items()})

    def __repr__(self) -> str:
        return "\n".join(
            [
                f"State of {self.batch} sequences, {self.bytes} bytes",
                *(f"  {k}: {list(v.shape)} {_named(v.dtype)}" for k, v in self.items()),
            ]
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        return self.fork()

    def __reduce__(self) -> tuple[Any, ...]:
        return State, (dict(self), self.signature)


pytree.register_pytree_node(
    State,
    lambda state: (list(state.values()), (tuple(state), state.signature)),
    lambda values, context: State(dict(zip(context[0], values, strict=True)), context[1]),
    serialized_type_name="ssir.State",
    to_dumpable_context=lambda context: json.dumps(context[0]),
    from_dumpable_context=lambda text: (tuple(json.loads(text)), None),
)


class Course:
    """A memory over the steps of a call; ``at`` gives it as it is after one of them."""

    def __init__(self, at: Callable[[int], Tensor]) -> None:
        self.at = at


class States(Sequence[State]):
    """The state after each of the steps of a call: verify a draft, and go on from the last step that was right."""

    def __init__(self, steps: int, courses: Mapping[str, Course], signature: Signature) -> None:
        self._steps, self._courses, self._signature = steps, courses, signature

    def __len__(self) -> int:
        return self._steps

    @overload
    def __getitem__(self, step: int) -> State: ...

    @overload
    def __getitem__(self, step: slice) -> list[State]: ...

    def __getitem__(self, step: int | slice) -> State | list[State]:
        if isinstance(step, slice):
            return [self[i] for i in range(*step.indices(len(self)))]
        if not -len(self) <= step < len(self):
            raise IndexError(f"there are {len(self)} states, one after each step")
        return State({name: course.at(step % len(self)) for name, course in self._courses.items()}, self._signature)

    def __iter__(self) -> Iterator[State]:
        return (self[i] for i in range(len(self)))
