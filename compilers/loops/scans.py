"""A loop over time with one memory, as Triton kernels: as `tiled`, on a GPU.

A program has a part of an axis along which nothing in the step runs; what a sum over it gives is known in parts, one for each program. What
steps have seen of the memory is read from the results, where it is among them; else the first kernel keeps it before every `EVERY`-th step,
and the second computes the steps between again, into scratch memory, block after block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from types import MappingProxyType

from ssir.compilers.loops.adjoint import Adjoint
from ssir.compilers.loops.c import Loop
from ssir.compilers.loops.region import Region, Result
from ssir.compilers.loops.spelling import indented
from ssir.compilers.loops.tiled import Tiled, pruned
from ssir.compilers.loops.tiles import EVERY, Cut, partial
from ssir.compilers.loops.triton import GONE, Kernel

_BLOCKS = f"((T + {EVERY - 1}) // {EVERY})"


def print_scans(region: Region, cut: Cut, tiled: Tiled, name: str) -> str:
    """Both kernels of a scan. Raises Unfit where something has no place in them."""
    back, columns, constants = tiled.adjoint, tuple(region.columns), tuple(region.constants)
    forward = Loop(
        f"{name}_forward", region.body, region.memories, columns, constants, tiled.results, (), (), backwards=False
    )
    taken = (*back.grads, *back.columns, *back.olds, *back.values)
    backward = Loop(
        f"{name}_backward", back.body, back.memories, taken, tuple(back.constants), tiled.deltas, (), tiled.sums, True
    )
    return "\n\n".join([_Forward(forward, cut, tiled.again).text(), _Backward(backward, cut, region, tiled).text()])


class _Scan(Kernel):
    def __init__(self, loop: Loop, cut: Cut, given: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(loop, cut.parallel, given)
        shared = partial(loop.body, frozenset() if self.shared is None else frozenset({self.shared}))
        self.partial = frozenset(shared) if self._parts() > 1 else frozenset()

    @property
    def axes(self) -> tuple[str, ...]:
        """Those of the memory."""
        (memory,) = self.loop.memories
        return self.body[memory.old].type.names

    def size(self, axes: Sequence[str]) -> int:
        return prod(self.sizes[axis] for axis in axes)

    def waiting(self) -> list[str]:
        """Before what lies in scratch memory is overwritten."""
        return ["tl.debug_barrier()"] if self.spilled else []


class _Forward(_Scan):
    def __init__(self, loop: Loop, cut: Cut, hidden: bool) -> None:
        self.hidden = hidden
        super().__init__(loop, cut)

    def _arguments(self) -> list[str]:
        return [*super()._arguments(), *(["last", "every"] if self.hidden else [])]

    def _clear(self) -> list[str]:
        keep = self._store("every", "m0", self.axes, f"(rows * {_BLOCKS} + t // {EVERY})")
        kept = ["if every is not None:", f"    if t % {EVERY} == 0:", f"        {keep}"]
        return [*super()._clear(), *(kept if self.hidden else [])]

    def _after(self) -> list[str]:
        return [*super()._after(), *([self._store("last", "m0", self.axes, "rows")] if self.hidden else [])]


class _Again(_Scan):
    """The steps of a block: the memory that each has seen, and some of its values, go to scratch memory."""

    value, memory = "w", "h"


class _Backward(_Scan):
    def __init__(self, loop: Loop, cut: Cut, region: Region, tiled: Tiled) -> None:
        self.region, self.results, self.hidden = region, tiled.results, tiled.again
        back = tiled.adjoint
        given = {name: f"grad{self.results.index(one)}" for name, one in back.grads.items()}
        given |= {name: f"column{[*region.columns].index(one)}" for name, one in back.columns.items()}
        given |= {name: f"constant{[*region.constants].index(one)}" for name, one in back.constants.items()}
        given |= dict.fromkeys(back.olds, "old0")
        self.room: dict[str, str] = {}
        super().__init__(loop, cut, given)
        if self.hidden:
            self.again = self._made_again(back, cut)

    def _made_again(self, back: Adjoint, cut: Cut) -> _Again:
        (memory,) = self.region.memories
        wanted = tuple(dict.fromkeys(back.values.values()))
        body = pruned(self.region.body, (memory.new, *wanted))
        columns, constants = (
            [one for one in names if one in body.nodes] for names in (self.region.columns, self.region.constants)
        )
        given = {one: f"column{k}" for k, one in enumerate(self.region.columns)}
        given |= {one: f"constant{k}" for k, one in enumerate(self.region.constants)}
        results = tuple(Result(one, body[one].type.names) for one in wanted)
        loop = Loop("", body, self.region.memories, tuple(columns), tuple(constants), results, (), (), backwards=False)
        again = _Again(loop, cut, given)
        for axis, size in again.sizes.items():
            if axis not in self.sizes:
                self.sizes[axis], self.blocks[axis] = size, again.blocks[axis]
                self.index[axis] = f"i{len(self.index)}"
        again.sizes, again.index, again.blocks, again.shared = self.sizes, self.index, self.blocks, self.shared
        for one in (memory.old, *wanted):
            size = self.size(body[one].type.names)
            self.room[one] = f"(s * {size} + {self.scratch})"
            self.scratch += EVERY * size
        again.scratch = self.scratch
        self.local = {name: self.room[one] for name, one in (*back.olds.items(), *back.values.items())}
        return again

    def _arguments(self) -> list[str]:
        found = ["dstart0", "dclear0", *(f"grad{k}" for k in range(len(self.results)))]
        found += [f"column{k}" for k in range(len(self.region.columns))]
        found += [f"constant{k}" for k in range(len(self.region.constants))]
        found += ["reset", *(["clear0", "every"] if self.hidden else ["old0"])]
        found += [f"result{k}" for k in range(len(self.loop.results))]
        return found + [f"sum{k}" for k in range(len(self.loop.sums))]

    def _step(self) -> None:
        if self.hidden:
            (memory,) = self.again.loop.memories
            self.again.names[memory.old] = "h0"
            self.again._step()
            self.before += self.again.before
            self.scratch = self.again.scratch
        super()._step()

    def text(self) -> str:
        whole = super().text()
        deltas = tuple(k for k, one in enumerate(self.loop.results) if one.value in self.partial)
        sums = tuple(k for k, one in enumerate(self.loop.sums) if one.value in self.partial)
        return f"{self.loop.name}_partial = {deltas!r}, {sums!r}\n{whole}"

    def _begin(self) -> list[str]:
        lines = super()._begin()
        if self.hidden:  # the gradient of the last memory is handed over where that of the first will be
            lines += [
                f"m0 = {self._load('dstart0', self.axes, 'rows')}",
                *self._cleared(0, self.axes, self.region.memories[0].fill),
            ]
        return lines

    def _steps(self) -> list[str]:
        if not self.hidden:
            return super()._steps()
        (memory,) = self.region.memories
        again = self.again
        gone = again._lead("gone", len(again.axes))
        forth = [*again.waiting(), "t = first + s", "at = rows * T + t"]
        forth += [*GONE, f"    h0 = tl.where({gone}, c0, h0)", self._keep(memory.old, "h0"), *again.inside]
        forth += [self._keep(one.value, again._whole(one.value, one.axes)) for one in again.loop.results]
        forth += [f"h0 = {again._whole(memory.new, again.axes)}"]
        back = [
            *self.waiting(),
            "s = steps - 1 - back",
            "t = first + s",
            "at = rows * T + t",
            *self.inside,
            *self._end(),
        ]
        block = [
            f"first = ({_BLOCKS} - 1 - block_back) * {EVERY}",
            f"steps = tl.minimum({EVERY}, T - first)",
            "tl.debug_barrier()",
            f"h0 = {again._load('every', again.axes, f'(rows * {_BLOCKS} + first // {EVERY})')}",
            "for s in range(steps):",
            *indented(forth),
            "tl.debug_barrier()",
            "for back in range(steps):",
            *indented(back),
        ]
        return [f"for block_back in range({_BLOCKS}):", *indented(block)]

    def _keep(self, name: str, value: str) -> str:
        """Write a value of the step to scratch memory."""
        axes = self.region.body[name].type.names
        place, mask = self._scratch(self.room[name], axes, axes, self._indices(axes)), self._masked(axes, "place")
        return f"tl.store({place}, {value}, mask={mask})"
