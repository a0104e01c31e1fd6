"""Loops over time that were compiled for a model: the C text runs them forwards and backwards, a step in torch says the same.

    old memories, columns, constants  ->  results of every step, among them the new memories

Shapes: memories [B,*axes], columns and results [B,T,*axes], constants [*axes].
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import native, tritons
from .clock import Time
from .custom_ops import operator
from .linear import outer_sums
from .support import Kept, Native, data_type, of_type, state_type

ROWS = 8  # sequences that go through the steps together, in loops.h too


class Layout(NamedTuple):
    """What the C functions of a loop take and give, by number.

    memories: of each, the result that it becomes, what it is where nothing has entered, its sizes
    results, kept, deltas, sums: sizes of what the forward pass gives and, to be used by the backward pass, keeps; of what that gives for
        every step, and of what it sums up
    backward: the columns of the backward pass: ("grad", result), ("old", memory), ("column", column) or ("product", product)
    constant: the constants of the backward pass
    columns, constants: of each, the delta, or sum, that is its gradient, if it has one
    products: of each, its constant, its delta, and how the gradient of the constant is made of delta and operand, as an einsum (None: the
        plain product over all steps)
    """

    memories: tuple[tuple[int, float, tuple[int, ...]], ...]
    results: tuple[tuple[int, ...], ...]
    kept: tuple[tuple[int, ...], ...]
    deltas: tuple[tuple[int, ...], ...]
    sums: tuple[tuple[int, ...], ...]
    backward: tuple[tuple[str, int], ...]
    constant: tuple[int, ...]
    columns: tuple[int | None, ...]
    constants: tuple[int | None, ...]
    products: tuple[tuple[int, int, str | None], ...]


class Plain:
    """What the written steps ask of the time: everything is of one dtype."""

    def __init__(self, like: Tensor) -> None:
        self.dtype, self.device = like.dtype, like.device

    def as_data(self, x: Tensor) -> Tensor:
        return x

    as_wide = as_data


Step = Callable[..., tuple[Tensor, ...]]


class Compiled(ABC):
    """A loop that was compiled: calling it with (reset, starts, clears, columns, constants) gives the results. ``counts``: of memories, columns,
    constants and results; ``text``: all that tells it from others. ``kernels``: the loop in Triton, if it can be."""

    def __init__(
        self, source: str, signatures: tuple[str, str], counts: tuple[int, int, int, int], text: str, kernels: str
    ) -> None:
        self.source, self.counts, self.kernels = source, counts, kernels
        self.forward, self.backward = (signature.split()[0] for signature in signatures)
        native.declare(*signatures, source=source)
        self._native = Native(self._run_forward, self._run_backward, self._alike, self._able)
        memories, columns, constants, results = counts
        takes = [f"Tensor? {name}{k}" for name in ("start", "clear") for k in range(memories)]
        takes += [f"Tensor column{k}" for k in range(columns)] + [f"Tensor constant{k}" for k in range(constants)]
        gives = ", ".join(["Tensor"] * results)
        digest = hashlib.sha256((text + source).encode()).hexdigest()[:16]
        schema = f"loop_{digest}(Tensor? reset, {', '.join(takes)}) -> {gives if results == 1 else f'({gives})'}"
        self._door = operator(schema, self._shapes)(self._whole)

    def __call__(
        self,
        reset: Tensor | None,
        starts: Sequence[Tensor | None],
        clears: Sequence[Tensor | None],
        columns: Sequence[Tensor],
        constants: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """The results, in float32 at least. clears: what the memories are after a reset, and where there is no start."""
        if native.watched():  # whoever compiles this can have them written so at once
            columns = [self._laid(x) for x in columns]
        found = self._door(reset, *starts, *clears, *columns, *constants)
        return (found,) if isinstance(found, Tensor) else tuple(found)

    def once(
        self,
        time: Time,
        starts: Sequence[Tensor | None],
        clears: Sequence[Tensor | None],
        columns: Sequence[Tensor],
        constants: Sequence[Tensor],
    ) -> list[Tensor]:
        """One step: columns and results [B,*axes]."""
        if not (columns[0].is_cpu and native.ready(time.dtype) and native.library(time.dtype, self.source) is not None):
            found = self(resets(time), starts, clears, [x.unsqueeze(1) for x in columns], constants)
            return [x[:, 0] if self._is_column(k) else x for k, x in enumerate(found)]
        # Nobody watches, and the call checks what it is given.
        kind, batch = time.dtype, time.batch
        ends = [one for pair in zip(starts, clears, strict=True) for one in pair]
        given = [
            x if x is None or (x.dtype is kind and x.is_contiguous()) else of_type(x, kind).contiguous()
            for x in (*ends, *columns, *constants)
        ]
        results = self._empty(columns[0], (batch,), kind)
        reset = None if time.reset is None else time.reset.expand(batch).contiguous()
        native.call(self.forward, kind, *given, reset, *results, *self._unkept(), batch, 1, 1)
        return results

    def _parts(self, given: Sequence[Any]) -> tuple[Any, list[Any], list[Any], list[Any], list[Any]]:
        reset, *rest = given
        memories, columns, constants, _ = self.counts
        found, at = [], 0
        for count in (memories, memories, columns, constants):
            found.append(rest[at : at + count])
            at += count
        return (reset, *found)

    def _shapes(self, *given: Any) -> Any:
        x = self._parts(given)[3][0]
        found = self._empty(x, x.shape[:2], kind_of(given))
        return tuple(found) if len(found) > 1 else found[0]

    def _whole(self, *given: Any) -> Any:
        # Kernels read what they are given as it is.
        reaches = self._reaches(*given)
        reset, *rest = given if reaches else self._of_one_type(given)
        x = self._parts((reset, *rest))[3][0]
        if x.shape[0] * x.shape[1] == 0:
            found = self._nothing(*self._of_one_type(given)[1:])
        elif reaches or self._able(x, reset, *rest):
            _, starts, clears, columns, constants = self._parts((reset, *rest))
            ends, others = (
                [None if x is None else x.contiguous() for x in xs] for xs in ((reset, *starts, *clears), constants)
            )
            found = self._native(*ends, *map(self._laid, columns), *others)
        else:
            found = self._twin(reset, *rest)
        return found if len(found) > 1 else found[0]

    def _of_one_type(self, given: Sequence[Any]) -> tuple[Any, ...]:
        reset, *rest = given
        kind = kind_of(given)
        return reset, *(None if x is None else of_type(x, kind) for x in rest)

    def _alike(self, *given: Any) -> tuple[Tensor, ...]:
        return self._twin(*self._of_one_type(given))

    def _able(self, like: Tensor, *others: Tensor | None) -> bool:
        """Whether these tensors are such that something else than the twin computes with them."""
        return (native.usable(like, *others) and self._in_c(like)) or self._reaches(like, *others)

    def _in_c(self, like: Tensor) -> bool:
        """Whether what computes with such tensors is C."""
        return like.is_cpu and native.library(like.dtype, self.source) is not None

    def _laid(self, x: Tensor) -> Tensor:
        """A column as it is read."""
        return tritons.spaced(x) if self.kernels and tritons.reaches(x.device) else x.contiguous()

    # Said by each kind.

    def _is_column(self, k: int) -> bool:
        """Whether a result is handed out for every step."""
        return True

    @abstractmethod
    def _empty(self, like: Tensor, lead: Sequence[int], kind: torch.dtype) -> list[Tensor]:
        """Room for the results."""

    def _nothing(self, *given: Any) -> tuple[Tensor, ...]:
        """The results where there are no steps, or no sequences."""
        x = self._parts((None, *given))[3][0]
        return tuple(self._empty(x, x.shape[:2], x.dtype))

    @abstractmethod
    def _unkept(self) -> list[None]:
        """What the forward pass is given for what it shall not keep."""

    def _reaches(self, *tensors: Tensor | None) -> bool:
        """Whether something else than C computes with these tensors, and not the twin."""
        return bool(self.kernels) and tritons.takes(*tensors)

    @abstractmethod
    def _run_forward(self, keep: bool, *given: Any) -> tuple[tuple[Tensor, ...], Kept]: ...

    def _run_backward(
        self, inputs: Sequence[Any], results: Sequence[Tensor], kept: Kept, grads: Sequence[Tensor]
    ) -> tuple[Tensor | None, ...]:
        raise NotImplementedError

    @abstractmethod
    def _twin(self, *given: Any) -> tuple[Tensor, ...]: ...


class Loop(Compiled):
    """A loop over whatever steps. ``step(time, *olds, *columns, *constants)`` computes the results of one; ``operands``, from the same values
    of all steps and the products, what the matrices are multiplied by."""

    def __init__(
        self, layout: Layout, source: str, signatures: tuple[str, str], step: Step, operands: Step, kernels: str = ""
    ) -> None:
        self.layout, self.step, self.operands = layout, step, operands
        counts = len(layout.memories), len(layout.columns), len(layout.constants), len(layout.results)
        super().__init__(source, signatures, counts, repr(layout), kernels)

    def _empty(self, like: Tensor, lead: Sequence[int], kind: torch.dtype) -> list[Tensor]:
        return [like.new_empty(*lead, *sizes, dtype=kind) for sizes in self.layout.results]

    def _unkept(self) -> list[None]:
        return [None] * len(self.layout.kept)

    # The twin.

    def _twin(self, *given: Any) -> tuple[Tensor, ...]:
        reset, starts, clears, columns, constants = self._parts(given)
        batch, steps = columns[0].shape[:2]
        time = Plain(columns[0])
        filled = self._cleared(clears, columns[0])
        olds = [
            filled[k].expand(batch, *sizes) if start is None else start
            for k, (start, (_, _, sizes)) in enumerate(zip(starts, self.layout.memories, strict=True))
        ]
        found: list[tuple[Tensor, ...]] = []
        for t in range(steps):
            if reset is not None:
                olds = [where(reset[:, t], clear, old) for clear, old in zip(filled, olds, strict=True)]
            results = self.step(time, *olds, *(x[:, t] for x in columns), *constants)
            found.append(results)
            olds = [results[new] for new, _, _ in self.layout.memories]
        return tuple(torch.stack(one, 1) for one in zip(*found, strict=True))

    def _cleared(self, clears: Sequence[Tensor | None], like: Tensor) -> list[Tensor]:
        """What each memory is after a reset: [*axes]."""
        return [
            like.new_full(sizes, fill) if clear is None else clear
            for clear, (_, fill, sizes) in zip(clears, self.layout.memories, strict=True)
        ]

    # Native code.

    def _blocks(self, batch: int, like: Tensor) -> int:
        """How many blocks of sequences there are, each of which sums by itself."""
        return -(-batch // (ROWS if self._in_c(like) else tritons.rows(batch, like.device)))

    def _call(
        self,
        name: str,
        lead: Sequence[int],
        like: Tensor,
        before: Sequence[Tensor | None],
        columns: Sequence[Tensor],
        behind: Sequence[Tensor | None],
    ) -> None:
        batch, steps = lead
        if self._in_c(like):
            native.call(name, like.dtype, *before, *columns, *behind, batch, steps, self._blocks(batch, like))
        else:
            tritons.call(self.kernels, name, batch, steps, like, before, columns, behind)

    def _run_forward(self, keep: bool, *given: Any) -> tuple[tuple[Tensor, ...], Kept]:
        reset, starts, clears, columns, constants = self._parts(given)
        lead, x = columns[0].shape[:2], columns[0].new_empty(0, dtype=kind_of(given))
        results = tuple(x.new_empty(*lead, *sizes) for sizes in self.layout.results)
        kept = tuple(x.new_empty(*lead, *sizes) if keep else None for sizes in self.layout.kept)
        ends = [one for pair in zip(starts, clears, strict=True) for one in pair]
        self._call(self.forward, lead, x, ends, columns, (*constants, reset, *results, *kept))
        return results, kept if keep else ()

    def _run_backward(
        self, inputs: Sequence[Any], results: Sequence[Tensor], kept: Kept, grads: Sequence[Tensor]
    ) -> tuple[Tensor | None, ...]:
        layout = self.layout
        reset, starts, clears, columns, constants = self._parts(self._of_one_type(inputs))
        x = columns[0]
        batch, steps = x.shape[:2]
        olds = [
            before(results[new], start, clear, reset)
            for (new, _, _), start, clear in zip(layout.memories, starts, self._cleared(clears, x), strict=True)
        ]
        operands = self.operands(Plain(x), *olds, *columns, *constants, *kept)
        sources: dict[str, Sequence[Any]] = {"grad": grads, "old": olds, "column": columns, "product": kept}
        taken = [self._laid(sources[kind][k]) for kind, k in layout.backward]
        parts = self._blocks(batch, x)
        deltas = [x.new_empty(batch, steps, *sizes) for sizes in layout.deltas]
        sums = [x.new_zeros(parts, *sizes) for sizes in layout.sums]
        dstarts = [x.new_empty(batch, *sizes) for _, _, sizes in layout.memories]
        dclears = [None if clear is None else clear.new_zeros(parts, *clear.shape) for clear in clears]
        ends = [one for pair in zip(dstarts, dclears, strict=True) for one in pair]
        constant = [constants[k] for k in layout.constant]
        self._call(self.backward, (batch, steps), x, ends, taken, (*constant, reset, *deltas, *sums))
        found: list[Tensor | None] = [None]
        found += [None if start is None else d for start, d in zip(starts, dstarts, strict=True)]
        for clear, start, d, whole in zip(clears, starts, dstarts, dclears, strict=True):
            found.append(None if clear is None else whole.sum(0) + (0 if start is not None else d.sum(0)))  # type: ignore[union-attr]
        found += [None if k is None else deltas[k] for k in layout.columns]
        matrices: dict[int, Tensor] = {}
        alike: dict[int, list[tuple[int, int]]] = {}
        for (k, delta, equation), operand in zip(layout.products, operands, strict=True):
            if equation is None:
                alike.setdefault(id(operand), []).append((k, delta))
            else:
                one = torch.einsum(equation, deltas[delta], operand)
                matrices[k] = matrices[k] + one if k in matrices else one
        for operand in {id(one): one for one in operands if id(one) in alike}.values():
            places = alike[id(operand)]
            flat = [deltas[delta].flatten(2).flatten(0, 1) for _, delta in places]
            for (k, _), one in zip(places, outer_sums(flat, operand.flatten(2).flatten(0, 1)), strict=True):
                one = one.view(constants[k].shape)
                matrices[k] = matrices[k] + one if k in matrices else one
        for k, place in enumerate(layout.constants):
            parts_of = [*([] if place is None else [sums[place].sum(0)]), *([matrices[k]] if k in matrices else [])]
            found.append(sum(parts_of[1:], parts_of[0]) if parts_of else None)
        return tuple(found)


def kind_of(given: Sequence[Tensor | None]) -> torch.dtype:
    """The type that a loop computes in, from what it is given behind the resets: float32 at least."""
    return state_type(data_type(*given[1:]))


def column(x: Tensor, time: Time, sizes: tuple[int, ...]) -> Tensor:
    """A value of every step, whatever it varies with: [B,T,*sizes], or in a single step [B,*sizes]."""
    shape = (time.batch, *sizes) if time.steps is None else (time.batch, time.steps, *sizes)
    return x if x.shape == shape else x.expand(shape)


def parts(x: Tensor | None, time: Time) -> Tensor | None:
    """Complex numbers, or real ones where they are expected, as pairs: [..., 2]."""
    if x is None:
        return None
    return torch.view_as_real((x if x.is_complex() else x.to(time.complex)).resolve_conj())


def resets(time: Time) -> Tensor | None:
    """Where memory is cleared before a step: [B,T]."""
    reset = time.reset
    if reset is None:
        return None
    return reset.expand(time.batch)[:, None] if time.steps is None else reset.expand(time.batch, time.steps)


def before(new: Tensor, start: Tensor | None, clear: Tensor, reset: Tensor | None) -> Tensor:
    """What every step saw of a memory: [B,T,*axes]."""
    first = clear.expand(new.shape[0], *clear.shape) if start is None else start
    old = torch.cat([first[:, None], new[:, :-1]], 1)
    return old if reset is None else where(reset, clear, old)


def where(reset: Tensor, clear: Tensor, old: Tensor) -> Tensor:
    return torch.where(reset.view(*reset.shape, *[1] * clear.dim()), clear, old)
