"""Scans that were compiled for a model: loops over time of one memory that becomes gate * memory + into, or max(gate + memory, into).

The C goes through them step by step. The twin computes gate and into for many steps at once, scans in few operations, and computes for
all these steps what is read.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from . import native, tritons
from .loops import Compiled, Plain, before, kind_of
from .scan import blocked_scan
from .support import Kept

EVERY = 16  # steps between memories that are kept, in the C too
CHUNK = 256  # steps of which the twin has a memory that is not handed out


class Tiling(NamedTuple):
    """What the C functions of a scan take and give, by number.

    memory, fill: the sizes of the memory, and what it is where nothing has entered; maximum: whether it is the larger of two
    complex: whether the last axis of the memory is that of the parts of complex numbers; gates: of how many parts the gate is, if there is one
    results: sizes of what is handed out for every step; new: which of it is the memory, if it is handed out
    kept: the numbers that are kept, every few steps, of a memory that is not handed out
    deltas: sizes of what the backward pass gives for every step, and of how many parts, by tiles, it is the sum; sums: of what it sums up
    columns, constants: of each, the delta, or sum, that is its gradient, if it has one
    """

    memory: tuple[int, ...]
    fill: float
    maximum: bool
    complex: bool
    gates: int
    results: tuple[tuple[int, ...], ...]
    new: int | None
    kept: int
    deltas: tuple[tuple[tuple[int, ...], int], ...]
    sums: tuple[tuple[int, ...], ...]
    columns: tuple[int | None, ...]
    constants: tuple[int | None, ...]


Values = Callable[..., tuple[Tensor, ...]]


class Scan(Compiled):
    """``gates(time, *columns, *constants)`` computes gate and into of all steps, without a gate into alone; ``reads(time, memory, *columns,
    *constants)`` the results but the memory, from what all steps see of it. The last memory is the last result, if it is none of the others."""

    def __init__(
        self,
        tiling: Tiling,
        source: str,
        signatures: tuple[str, str],
        gates: Values,
        reads: Values,
        kernels: str = "",
    ) -> None:
        self.tiling, self.gates, self.reads = tiling, gates, reads
        results = len(tiling.results) + (tiling.new is None)
        counts = 1, len(tiling.columns), len(tiling.constants), results
        super().__init__(source, signatures, counts, repr(tiling), kernels)

    def _is_column(self, k: int) -> bool:
        return k < len(self.tiling.results)

    def _empty(self, like: Tensor, lead: Sequence[int], kind: torch.dtype) -> list[Tensor]:
        found = [like.new_empty(*lead, *sizes, dtype=kind) for sizes in self.tiling.results]
        last = [like.new_empty(lead[0], *self.tiling.memory, dtype=kind)] if self.tiling.new is None else []
        return found + last

    def _nothing(self, *given: Any) -> tuple[Tensor, ...]:
        _, (start,), (clear,), columns, _ = self._parts((None, *given))
        *results, last = super()._nothing(*given)
        if self.tiling.new is None:
            last = self._cleared(clear, columns[0]).expand(last.shape) if start is None else start
        return *results, last

    def _unkept(self) -> list[None]:
        return [None] if self.tiling.new is None else []

    def _cleared(self, clear: Tensor | None, like: Tensor) -> Tensor:
        return like.new_full(self.tiling.memory, self.tiling.fill) if clear is None else clear

    def _run_forward(self, keep: bool, *given: Any) -> tuple[tuple[Tensor, ...], Kept]:
        reset, (start,), (clear,), columns, constants = self._parts(given)
        x = columns[0].new_empty(0, dtype=kind_of(given))
        batch, steps = columns[0].shape[:2]
        results = self._empty(x, (batch, steps), x.dtype)
        kept: list[Tensor | None] = list(self._unkept())
        in_c = self._in_c(x)
        if kept and keep:
            numbers = self.tiling.kept if in_c else prod(self.tiling.memory)
            kept = [x.new_empty(batch, -(-steps // EVERY), numbers)]
        ends, behind = (start, clear), (*constants, reset, *results, *kept)
        if in_c:
            native.call(self.forward, x.dtype, *ends, *columns, *behind, batch, steps, 1)
            return tuple(results), tuple(kept) if keep else ()
        piece = self._piece(batch, steps, x.device)
        ended, *factors = self._early(piece, x, clear, columns, constants, reset)
        behind = (*behind, ended, *factors)
        tritons.call(self.kernels, self.forward, batch, steps, x, ends, columns, behind, piece)
        return tuple(results), (*kept, *factors) if keep else ()

    def _piece(self, batch: int, steps: int, device: torch.device) -> int:
        """The steps of a program of the kernels."""
        programs = -(-batch // tritons.rows(batch, device)) * tritons.functions(self.kernels)[f"{self.forward}_parts"]
        return tritons.piece(programs, steps, EVERY, device)

    def _early(
        self,
        piece: int,
        x: Tensor,
        clear: Tensor | None,
        columns: Sequence[Tensor],
        constants: Sequence[Tensor],
        reset: Tensor | None,
    ) -> list[Tensor | None]:
        """What becomes of the memory over each piece of the steps [B,N,*axes], by what it is multiplied, and where there was a reset [B,N]."""
        batch, steps = columns[0].shape[:2]
        sizes, gates = self.tiling.memory, self.tiling.gates
        if piece == steps:
            return [None] * (2 + gates)
        lead = batch, -(-steps // piece)
        entries = sizes[:-1] if self.tiling.complex else sizes
        found = [x.new_empty(*lead, *sizes), *(x.new_empty(*lead, *entries) for _ in range(gates))]
        found.append(x.new_empty(lead, dtype=torch.bool))
        behind = (*constants, reset, *found)
        tritons.call(self.kernels, f"{self.forward}_ends", batch, steps, x, (clear,), columns, behind, piece)
        return [*found]

    def _run_backward(
        self, inputs: Sequence[Any], results: Sequence[Tensor], kept: Kept, grads: Sequence[Tensor]
    ) -> tuple[Tensor | None, ...]:
        tiling = self.tiling
        reset, (start,), (clear,), columns, constants = self._parts(inputs)
        x = columns[0].new_empty(0, dtype=kind_of(inputs))
        batch, steps = columns[0].shape[:2]
        in_c = self._in_c(x)
        cleared = self._cleared(clear, x)
        last: Tensor | None = None
        if tiling.new is None:
            *grads, last = grads
        piece, factors = steps, list[Tensor | None]()
        if in_c:
            blocks, shares = torch.get_num_threads(), [tiles for _, tiles in tiling.deltas]
            copies = [1] * len(tiling.sums)
            flow = x.new_empty(batch, *tiling.memory) if last is None else last.clone()
            seen: tuple[Tensor | None, ...] = (cleared, *kept)
            if tiling.new is not None:
                first = cleared.expand(batch, *tiling.memory).contiguous() if start is None else start
                seen = (cleared, results[tiling.new], first)
        else:
            every, factors = kept[: len(self._unkept())], [*kept[len(self._unkept()) :]]
            if f"{self.backward}_ends" in tritons.functions(self.kernels):
                piece = self._piece(batch, steps, x.device)
            shares, copies = self._shares()
            pieces = -(-steps // piece)
            blocks = -(-batch // tritons.rows(batch, x.device)) * pieces
            flow = x.new_empty(batch, pieces, *tiling.memory)
            seen = (clear, *every, None if last is None else last.contiguous())
            if tiling.new is not None:
                seen = (before(results[tiling.new], start, cleared, reset),)
        deltas = [
            x.new_empty(share, batch, steps, *sizes) for (sizes, _), share in zip(tiling.deltas, shares, strict=True)
        ]
        sums = [x.new_zeros(blocks * n, *sizes) for sizes, n in zip(tiling.sums, copies, strict=True)]
        anew = None if clear is None else x.new_zeros(blocks, *clear.shape)
        ends, behind = (flow, anew, *grads), (*constants, reset, *seen, *deltas, *sums)
        if in_c:
            native.call(self.backward, x.dtype, *ends, *columns, *behind, batch, steps, blocks)
        else:
            ended = None
            if piece < steps:
                ended = torch.empty_like(flow)
                old = seen if tiling.new is not None else ()
                given = (x, (None, *grads), columns, (*constants, reset, *old, ended))
                tritons.call(self.kernels, f"{self.backward}_ends", batch, steps, *given, piece)
            behind = (*behind, ended, *factors)
            tritons.call(self.kernels, self.backward, batch, steps, x, ends, columns, behind, piece)
            flow = flow[:, 0]
        whole = [delta.sum(0) if len(delta) > 1 else delta[0] for delta in deltas]
        dclear = None if anew is None else anew.sum(0) + (flow.sum(0) if start is None else 0)
        found = [None, None if start is None else flow, dclear]
        found += [None if k is None else whole[k] for k in tiling.columns]
        return (*found, *(None if k is None else sums[k].sum(0) for k in tiling.constants))

    def _shares(self) -> tuple[list[int], list[int]]:
        """In how many parts the kernels hand out each delta, and each sum."""
        found = tritons.functions(self.kernels)
        parts, partial = found[f"{self.backward}_parts"], found[f"{self.backward}_partial"]
        lists = self.tiling.deltas, self.tiling.sums
        one, other = (
            [parts if k in those else 1 for k in range(len(all_of))]
            for those, all_of in zip(partial, lists, strict=True)
        )
        return one, other

    def _twin(self, *given: Any) -> tuple[Tensor, ...]:
        reset, (start,), (clear,), columns, constants = self._parts(given)
        batch, steps = columns[0].shape[:2]
        clear = self._cleared(clear, columns[0])
        memory = clear.expand(batch, *self.tiling.memory) if start is None else start
        if self.tiling.new is not None:
            return self._part(memory, clear, reset, columns, constants)[:-1]
        found = []
        for t in range(0, steps, CHUNK):
            now = slice(t, t + CHUNK)
            piece = memory, clear, None if reset is None else reset[:, now], [x[:, now] for x in columns], constants
            if torch.is_grad_enabled() and steps > CHUNK and not native.tracing():
                *ys, memory = checkpoint(self._part, *piece, use_reentrant=False)
            else:
                *ys, memory = self._part(*piece)
            found.append(ys)
        return *(torch.cat(one, 1) for one in zip(*found, strict=True)), memory

    def _part(
        self,
        memory: Tensor,
        clear: Tensor,
        reset: Tensor | None,
        columns: Sequence[Tensor],
        constants: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """The results of some steps, and the memory after them."""
        x = columns[0]
        batch, steps = x.shape[:2]
        found, some = self.gates(Plain(x), *columns, *constants), self.tiling.gates
        into, sizes = _joined(found[some:]), self.tiling.memory
        gate = _joined(found[:some]) if some else x.new_full((), 0.0 if self.tiling.maximum else 1.0)
        start, cleared = memory, clear
        if self.tiling.complex:
            start, cleared = (torch.view_as_complex(one.contiguous()) for one in (memory, clear))
            gate, into, sizes = gate.to(start.dtype), into.to(start.dtype), sizes[:-1]
        gate = gate if gate.dim() > len(sizes) else gate.expand(1, 1, *sizes)  # it may be constant
        h = blocked_scan(gate, into.expand(batch, steps, *sizes), start, reset, cleared, self.tiling.maximum)
        h = torch.view_as_real(h) if self.tiling.complex else h
        results = list(self.reads(Plain(x), before(h, memory, clear, reset), *columns, *constants))
        if self.tiling.new is not None:
            results.insert(self.tiling.new, h)
        return *results, h[:, -1]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Numbers from their parts, of which real ones have one."""
    return torch.complex(*torch.broadcast_tensors(*parts)) if len(parts) == 2 else parts[0]
