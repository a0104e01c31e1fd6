"""The step of a whole model as one call of a C function, on what only parameters decide, laid out once.

A state lies packed: all memories one after another in one tensor, registers that are long or grow in buffers with room behind them. Its
tensors are made when somebody asks for them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from operator import mul
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
_ELSEWHERE = "a token is not in the table that it is looked up in"
_LEAST = 64  # entries that a register has room for


class Own(NamedTuple):
    """What the step of one graph keeps. memories: of each the names of its states and its sizes; rooms: of each register that is written
    in place its name, its group and the sizes of an entry; wholes: of each value that whole sequences decide its numbers, and along how many
    axes there are so many for each entry."""

    memories: tuple[tuple[tuple[str, ...], tuple[int, ...]], ...]
    rooms: tuple[tuple[str, int, tuple[int, ...]], ...]
    wholes: tuple[tuple[int, int], ...]


Scratch = tuple[tuple[int, int, int, int], tuple[int, int, int, int]]


class Step:
    """The C text of a step. groups: how many entries the registers of each group keep (None: all); scratch, of the step, and of what whole
    sequences decide if they decide anything: the numbers that a team shares, and that each member has: some, and more for every entry that
    there is room for in the group that grows, every entry of whole sequences, every two of those."""

    def __init__(
        self, name: str, groups: tuple[int | None, ...], position: bool, scratch: tuple[Scratch, ...], source: str
    ) -> None:
        self.name, self.groups, self.position, self.source = name, groups, position, source
        self.scratch = scratch

    def functions(self, dtype: torch.dtype) -> list[Any] | None:
        """The compiled functions for one real type, as many as have scratch; None where there can be none."""
        if dtype not in native.REAL:
            return None
        library = native.library(dtype, self.source)
        if library is None:
            return None
        names = (self.name, f"{self.name}_whole")
        found = [getattr(library, name) for name, _ in zip(names, self.scratch, strict=False)]
        for one in found:
            one.restype = ctypes.c_int64
        return found


def _numbers(scratch: Scratch, room: int, length: int, threads: int) -> int:
    shared, own = (sum(map(mul, part, (1, room, length, length * length))) for part in scratch)
    found: int = ROWS * (shared + threads * own) + 16
    return found


class Whole:
    """What some whole sequences decide, in buffers."""

    def __init__(self, given: Sequence[Tensor], buffers: list[Tensor]) -> None:
        self.given = [x.clone() for x in given]
        self.buffers = buffers
        self.table = torch.tensor([buffer.data_ptr() for buffer in buffers], dtype=torch.int64)
        self.at = self.table.data_ptr()

    def fits(self, given: Sequence[Tensor]) -> bool:
        """Whether other sequences are the same."""
        return all(map(torch.equal, self.given, given))


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
    """A state as the native step has it: after ``n`` steps in its rooms, and what the whole sequences of the last one decide."""

    __slots__ = ("arena", "batch", "bound", "n", "position", "rooms", "whole")

    def __init__(
        self,
        bound: Bound,
        batch: int,
        arena: Tensor,
        position: Tensor | None,
        rooms: Rooms | None,
        n: int,
        whole: Whole | None = None,
    ) -> None:
        self.bound, self.batch, self.arena, self.position = bound, batch, arena, position
        self.rooms, self.n, self.whole = rooms, n, whole

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The state as it is read."""
        layout = self.bound.layout
        for names, sizes, at in layout.memories:
            whole = layout.view(self.arena, self.batch, sizes, at)
            if names[0] in layout.complex:
                # Torch looks at pairs as complex numbers from even places on.
                whole = torch.view_as_complex(whole.clone() if whole.storage_offset() % 2 else whole)
            for name in names:
                yield name, whole
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
        self.wholes: list[tuple[int, int]] = []
        self.complex = {name for name, memory in model.signature.memories.items() if memory.dtype.is_complex}
        self.numbers = 0
        for body, run in calls:
            assert body.OWN is not None
            for names, sizes in body.OWN.memories:
                self.memories.append((tuple(run.at + name for name in names), sizes, self.numbers))
                self.numbers += prod(sizes)
            self.rooms += [(run.at + name, group, sizes) for name, group, sizes in body.OWN.rooms]
            self.wholes += body.OWN.wholes

    def view(self, arena: Tensor, batch: int, sizes: tuple[int, ...], at: int) -> Tensor:
        """A memory among all: [B, *sizes]."""
        return arena[at * batch : (at + prod(sizes)) * batch].view(batch, *sizes)


class Bound:
    """A step with the constants of a model, as long as its parameters are what they are."""

    def __init__(self, model: Model, step: Step, functions: Sequence[Any], kept: Kept) -> None:
        from .body import Run
        from .clock import Time

        self.step, self.model = step, model
        self._function, *self._before = functions
        self._whole = [whole for *_, whole in model.INPUTS]
        moments = len(model.INPUTS) - sum(self._whole)
        self._function.argtypes = [ctypes.c_int64] * (10 + moments + len(model.OUTPUTS) + 2 * len(step.groups))
        for one in self._before:
            one.argtypes = [ctypes.c_int64] * (6 + sum(self._whole))
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
        every = [
            x if x.dtype is kind and x.is_contiguous() else x.to(kind).contiguous()
            for x, kind in zip(values, self._kinds, strict=True)
        ]
        given, sequences = (
            [x for x, one in zip(every, self._whole, strict=True) if one is kind] for kind in (False, True)
        )
        packed = state.packed if isinstance(state, State) else None
        if packed is None or packed.bound.layout is not self.layout:
            packed = self.pack(state, batch)
            if packed is None:
                return None
        rooms, n, whole, length = packed.rooms, packed.n, packed.whole, 0
        if self._before:
            length = sequences[0].shape[1]
            if whole is None or not whole.fits(sequences):
                whole = self._decided(sequences, batch, length)
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
        results = [arena.new_empty(batch, *axes) for axes in self._results]
        grows = None in self.step.groups
        scratch = self._room(rooms.room[self.step.groups.index(None)] if rooms is not None and grows else 0, length)
        position = packed.position
        fault = self._function(
            self._at,
            packed.arena.data_ptr(),
            arena.data_ptr(),
            0 if rooms is None else rooms.at,
            0 if whole is None else whole.at,
            0 if position is None else position.data_ptr(),
            *(x.data_ptr() for x in given),
            *(x.data_ptr() for x in results),
            scratch.data_ptr(),
            *sizes,
            length,
            batch,
            torch.get_num_threads(),
        )
        self._scratch.append(scratch)
        if rooms is not None:
            rooms.tokens.append(n if fault else n + 1)
        if fault:
            raise IndexError(_ELSEWHERE)
        after = Packed(self, batch, arena, None if position is None else position + 1, rooms, n + 1, whole)
        return results, State.of(after, self.model.signature)

    def _decided(self, sequences: Sequence[Tensor], batch: int, length: int) -> Whole:
        """What whole sequences decide. Raises IndexError."""
        wholes = [torch.empty(batch * numbers * length**long, dtype=self.dtype) for numbers, long in self.layout.wholes]
        found = Whole(sequences, wholes)
        threads = torch.get_num_threads()
        scratch = torch.empty(_numbers(self.step.scratch[1], 0, length, threads), dtype=self.dtype)
        (function,) = self._before
        pointers = (x.data_ptr() for x in (*sequences, scratch))
        if function(self._at, found.at, *pointers, length, batch, threads):
            raise IndexError(_ELSEWHERE)
        return found

    def _room(self, entries: int, length: int) -> Tensor:
        """Scratch that nobody else uses."""
        needed = _numbers(self.step.scratch[0], entries, length, torch.get_num_threads())
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
    functions = step.functions(model.dtype)
    return None if functions is None else Bound(model, step, functions, kept)


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
