"""The step of a whole model as one call of a C function, on what only parameters decide, laid out once.

A state lies packed: all memories one after another in one tensor, registers that are long or grow in buffers with room behind them. Its
tensors are made when somebody asks for them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from . import native
from .state import State

if TYPE_CHECKING:
    from .body import Body, Run
    from .frozen import Kept
    from .model import Model

ROWS = 8
"""More sequences than that go through torch: there a weight is read once for all of them."""
_LEAST = 64  # entries that a register has room for


class Own(NamedTuple):
    """What the step of one graph keeps. memories: of each the names of its states and its sizes; rooms: of each register that is written
    in place its name, its group and the sizes of an entry."""

    memories: tuple[tuple[tuple[str, ...], tuple[int, ...]], ...]
    rooms: tuple[tuple[str, int, tuple[int, ...]], ...]


class Step:
    """The C text of a step. groups: how many entries the registers of each group keep (None: all); shared, own: numbers of scratch, and
    those more for every entry that there is room for in the group that grows."""

    def __init__(
        self,
        name: str,
        groups: tuple[int | None, ...],
        position: bool,
        shared: tuple[int, int],
        own: tuple[int, int],
        source: str,
    ) -> None:
        self.name, self.groups, self.position, self.source = name, groups, position, source
        self.shared, self.own = shared, own

    def function(self, dtype: torch.dtype) -> Any:
        """The compiled function for one real type; None where there can be none."""
        if dtype not in native.REAL:
            return None
        library = native.library(dtype, self.source)
        if library is None:
            return None
        found = getattr(library, self.name)
        found.restype = ctypes.c_int64
        return found


class Rooms:
    """The buffers of registers that are written in place: [B, room, *axes] each, for every group from ``first`` entries on. Entries are never
    written twice: who takes the only token may write the entries of that step; another continuation of the same state copies."""

    def __init__(self, buffers: list[Tensor], first: tuple[int, ...], room: tuple[int, ...]) -> None:
        self.buffers, self.first, self.room = buffers, first, room
        self.table = torch.tensor([buffer.data_ptr() for buffer in buffers], dtype=torch.int64)
        self.at = self.table.data_ptr()
        self.tokens = [0]

    def claim(self, n: int) -> bool:
        """Whether the caller, and nobody else, may write the entries of step n."""
        try:
            free = self.tokens.pop()
        except IndexError:
            return False
        if free == n:
            return True
        self.tokens.append(free)
        return False


class Packed:
    """A state as the native step has it: after ``n`` steps in its rooms."""

    __slots__ = ("arena", "batch", "bound", "n", "position", "rooms")

    def __init__(
        self, bound: Bound, batch: int, arena: Tensor, position: Tensor | None, rooms: Rooms | None, n: int
    ) -> None:
        self.bound, self.batch, self.arena, self.position = bound, batch, arena, position
        self.rooms, self.n = rooms, n

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The state as it is read."""
        layout = self.bound.layout
        for names, sizes, at in layout.memories:
            whole = layout.view(self.arena, self.batch, sizes, at)
            for name in names:
                yield name, torch.view_as_complex(whole) if name in layout.complex else whole
        for k, (name, group, _) in enumerate(layout.rooms):
            assert self.rooms is not None
            size, used = self.bound.step.groups[group], self.rooms.first[group] + self.n
            yield name, self.rooms.buffers[k][:, 0 if size is None else used - size : used]
        if self.position is not None:
            yield "position", self.position


class Layout:
    """Where the memories of a model lie: names, sizes and place of each, and all registers with room for more."""

    def __init__(self, model: Model, calls: Sequence[tuple[Body, Run]]) -> None:
        self.memories: list[tuple[tuple[str, ...], tuple[int, ...], int]] = []
        self.rooms: list[tuple[str, int, tuple[int, ...]]] = []
        self.complex = {name for name, memory in model.signature.memories.items() if memory.dtype.is_complex}
        self.numbers = 0
        for body, run in calls:
            assert body.OWN is not None
            for names, sizes in body.OWN.memories:
                self.memories.append((tuple(run.at + name for name in names), sizes, self.numbers))
                self.numbers += prod(sizes)
            self.rooms += [(run.at + name, group, sizes) for name, group, sizes in body.OWN.rooms]

    def view(self, arena: Tensor, batch: int, sizes: tuple[int, ...], at: int) -> Tensor:
        """A memory among all: [B, *sizes]."""
        return arena[at * batch : (at + prod(sizes)) * batch].view(batch, *sizes)


class Bound:
    """A step with the constants of a model, as long as its parameters are what they are."""

    def __init__(self, model: Model, step: Step, function: Any, kept: Kept) -> None:
        from .body import Run
        from .clock import Time

        self.step, self.model, self._function = step, model, function
        count = 8 + len(model.INPUTS) + len(model.OUTPUTS) + 2 * len(step.groups)
        function.argtypes = [ctypes.c_int64] * count
        self.dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
        run = Run(model, Time(1, None, None, None, model.dtype, model.device), {}, {}, True, kept)
        calls = list(_calls(model, run))
        self.layout = Layout(model, calls)
        self._constants = [plain(x, self.dtype) for body, one in calls for x in body._natives(one)]
        table = torch.tensor([x.data_ptr() for x in self._constants], dtype=torch.int64)
        self._table, self._at = table, table.data_ptr()
        self._scratch: list[Tensor] = []
        self._results = [tuple(size or 0 for size in sizes) for _, sizes, _ in model.OUTPUTS]
        self._kinds = [torch.int64 if kind == "int" else self.dtype for *_, kind, _ in model.INPUTS]

    def __call__(self, values: Sequence[Tensor], state: Mapping[str, Tensor]) -> tuple[list[Tensor], State] | None:
        """The outputs of a step and the state after it; None if these inputs, or this state, are for torch. Raises IndexError."""
        if not all(map(native.plain, values)):
            return None
        batch = values[0].shape[0]
        packed = state.packed if isinstance(state, State) else None
        if packed is None or packed.bound.layout is not self.layout:
            packed = self.pack(state, batch)
            if packed is None:
                return None
        rooms, n = packed.rooms, packed.n
        sizes: list[int] = []
        if rooms is not None:
            if not rooms.claim(n) or any(
                first + n >= room for first, room in zip(rooms.first, rooms.room, strict=True)
            ):
                rooms, n = self._copied(rooms, n, batch), 0
                rooms.claim(0)
            for first, room in zip(rooms.first, rooms.room, strict=True):
                sizes += (first + n, room)
        arena = packed.arena.new_empty(self.layout.numbers * batch)
        given = [
            x if x.dtype is kind and x.is_contiguous() else x.to(kind).contiguous()
            for x, kind in zip(values, self._kinds, strict=True)
        ]
        results = [arena.new_empty(batch, *axes) for axes in self._results]
        grows = None in self.step.groups
        scratch = self._room(rooms.room[self.step.groups.index(None)] if rooms is not None and grows else 0)
        position = packed.position
        fault = self._function(
            self._at,
            packed.arena.data_ptr(),
            arena.data_ptr(),
            0 if rooms is None else rooms.at,
            0 if position is None else position.data_ptr(),
            *(x.data_ptr() for x in given),
            *(x.data_ptr() for x in results),
            scratch.data_ptr(),
            *sizes,
            batch,
            torch.get_num_threads(),
        )
        self._scratch.append(scratch)
        if rooms is not None:
            rooms.tokens.append(n if fault else n + 1)
        if fault:
            raise IndexError("a token is not in the table that it is looked up in")
        after = Packed(self, batch, arena, None if position is None else position + 1, rooms, n + 1)
        return results, State.of(after, self.model.signature)

    def _room(self, entries: int) -> Tensor:
        """Scratch that nobody else uses."""
        (fixed, grown), (own, own_grown) = self.step.shared, self.step.own
        threads = torch.get_num_threads()
        needed = ROWS * (fixed + grown * entries + threads * (own + own_grown * entries)) + 16
        try:
            scratch = self._scratch.pop()
        except IndexError:
            scratch = None
        return torch.empty(needed, dtype=self.dtype) if scratch is None or scratch.numel() < needed else scratch

    def pack(self, state: Mapping[str, Tensor], batch: int) -> Packed | None:
        """A state laid out for the step; None if registers of a group do not hold as many entries."""
        if "count" in state:
            return None
        if not state:
            state = self.model.initial_state(batch)
        layout = self.layout
        arena = torch.empty(layout.numbers * batch, dtype=self.dtype)
        for names, sizes, at in layout.memories:
            x = state[names[0]]
            own = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
            layout.view(arena, batch, sizes, at).copy_(own)
        rooms = None
        if layout.rooms:
            used = [-1] * len(self.step.groups)
            for name, group, _ in layout.rooms:
                entries = state[name].shape[1]
                if used[group] not in (-1, entries):
                    return None
                used[group] = entries
            rooms = self._roomy(batch, used, (state[name] for name, _, _ in layout.rooms))
        position = None
        if self.step.position:
            position = state["position"].clone()
        return Packed(self, batch, arena, position, rooms, 0)

    def _copied(self, rooms: Rooms, n: int, batch: int) -> Rooms:
        """The same entries in buffers of their own, with room for as many again."""
        used = [first + n for first in rooms.first]
        kept = [have if size is None else min(have, size) for have, size in zip(used, self.step.groups, strict=True)]
        ends = ((kept[group], used[group]) for _, group, _ in self.layout.rooms)
        entries = (old[:, end - some : end] for old, (some, end) in zip(rooms.buffers, ends, strict=True))
        return self._roomy(batch, kept, entries)

    def _roomy(self, batch: int, used: Sequence[int], entries: Iterable[Tensor]) -> Rooms:
        """Buffers that hold these entries, of each group so many, with room for as many again."""
        room = tuple(max(_LEAST, 2 * count) for count in used)
        buffers = []
        for kept, (_, group, sizes) in zip(entries, self.layout.rooms, strict=True):
            buffer = torch.empty(batch, room[group], *sizes, dtype=self.dtype)
            buffer[:, : used[group]] = kept
            buffers.append(buffer)
        return Rooms(buffers, tuple(used), room)


def bind(model: Model, kept: Kept) -> Bound | None:
    """The native step of a model, if there is one here."""
    step = model.NATIVE
    own = "NATIVE" in type(model).__dict__  # else a parametrisation, or somebody else, has made another class of it
    if step is None or not own or model.dtype not in native.REAL or not kept.quiet or not model.untouched():
        return None
    if not all(map(native.plain, model.parameters())):
        return None
    function = step.function(model.dtype)
    return None if function is None else Bound(model, step, function, kept)


def _calls(body: Body, run: Run) -> Iterator[tuple[Body, Run]]:
    """A body and all layers in it, each with the call that computes it, in the order of the C function."""
    yield body, run
    for path in body.LAYERS:
        for i, _, layer in body.layers(path):
            yield from _calls(layer, run.inside(path, i))  # type: ignore[arg-type]


def plain(x: Tensor | float, dtype: torch.dtype) -> Tensor:
    """A constant as C reads it: in one piece, complex numbers as pairs."""
    x = torch.as_tensor(x).detach()
    return (torch.view_as_real(x.resolve_conj()) if x.is_complex() else x).to(dtype).contiguous()
