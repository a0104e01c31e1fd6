"""A loop over time with one memory, as Triton kernels: as `tiled`, on a GPU.

A program has a part of an axis along which nothing in the step runs; what a sum over it gives is known in parts, one for each program. What
steps have seen of the memory is read from the results, where it is among them; else the first kernel keeps it before every `EVERY`-th step,
and the second computes the steps between again, into scratch memory, block after block.

Where programs are few, steps are parted too. Kernels before the two find what becomes of the memory over each piece of them, from nothing, and
by what it would be multiplied; each program then begins with what the pieces before its own have left (in the backward pass, those behind it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import prod
from types import MappingProxyType

from ssir.compilers.loops.adjoint import Adjoint, adjoint
from ssir.compilers.loops.c import Loop
from ssir.compilers.loops.pairs import PARTS
from ssir.compilers.loops.region import Region, Result
from ssir.compilers.loops.spelling import Unfit, indented
from ssir.compilers.loops.tiled import Tiled, pruned
from ssir.compilers.loops.tiles import EVERY, Cut, partial
from ssir.compilers.loops.triton import GONE, Kernel
from ssir.ir.graph import Graph

_BLOCKS = f"((T + {EVERY - 1}) // {EVERY})"


def print_scans(region: Region, cut: Cut, tiled: Tiled, name: str) -> str:
    """The kernels of a scan. Raises Unfit where something has no place in them."""
    back, columns, constants = tiled.adjoint, tuple(region.columns), tuple(region.constants)
    forward = Loop(
        f"{name}_forward", region.body, region.memories, columns, constants, tiled.results, (), (), backwards=False
    )
    taken = (*back.grads, *back.columns, *back.olds, *back.values)
    backward = Loop(
        f"{name}_backward", back.body, back.memories, taken, tuple(back.constants), tiled.deltas, (), tiled.sums, True
    )
    kernels = [_Ends(region, cut, name), _Forward(forward, cut, region, tiled.again)]
    with suppress(Unfit):  # the backward pass goes through all steps one after another then
        kernels.append(_EndsBackward(region, cut, tiled, name))
    return "\n\n".join(kernel.text() for kernel in (*kernels, _Backward(backward, cut, region, tiled)))


class _Scan(Kernel):
    """A program takes a piece of `L` steps, the first and the last of which it knows."""

    since, until = "since", "until"

    def __init__(self, loop: Loop, cut: Cut, region: Region, given: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(loop, cut.parallel, given)
        shared = partial(loop.body, frozenset() if self.shared is None else frozenset({self.shared}))
        self.partial = frozenset(shared) if self._parts() > 1 else frozenset()
        assert region.affine is not None
        self.region, self.affine = region, region.affine
        self.factors = [f"factor{k}" for k in range(len(self.affine.gate))]

    def _head(self) -> list[str]:
        return [
            "block, pieces = tl.program_id(0), tl.cdiv(T, L)",
            "piece = block % pieces",
            "rows = (block // pieces * ROWS + tl.arange(0, ROWS)).to(tl.int64)",
            "own = rows * pieces + piece",
            "since, until = piece * L, tl.minimum(T, piece * L + L)",
        ]

    @property
    def axes(self) -> tuple[str, ...]:
        """Those of the memory."""
        (memory,) = self.loop.memories
        return self.body[memory.old].type.names

    @property
    def entries(self) -> tuple[str, ...]:
        """Those of its numbers, which may be complex."""
        return tuple(axis for axis in self.axes if axis != PARTS)

    @property
    def nothing(self) -> str:
        """What a memory is that adds nothing to another."""
        return '-float("inf")' if self.affine.maximum else "0.0"

    def size(self, axes: Sequence[str]) -> int:
        return prod(self.sizes[axis] for axis in axes)

    def waiting(self) -> list[str]:
        """Before what lies in scratch memory is overwritten."""
        return ["tl.debug_barrier()"] if self.spilled else []

    def _entered(self, pieces: str, number: str) -> list[str]:
        """What other pieces have made of the memory: so many, by number, the farthest first."""
        gone = self._lead("gone", len(self.axes))
        each = [
            f"there = rows * pieces + {number}",
            "gone = tl.load(dead + there, mask=alive, other=1) != 0",
            *(f"f{k} = {self._load(name, self.entries, 'there')}" for k, name in enumerate(self.factors)),
            *self._moved(),
            f"moved = tl.where({gone}, {self.nothing}, moved)",
            f"ends = {self._load('ended', self.axes, 'there')}",
            "m0 = largest(moved, ends)" if self.affine.maximum else "m0 = moved + ends",
        ]
        return ["if ended is not None:", f"    for k in range({pieces}):", *indented(indented(each))]

    def _moved(self) -> list[str]:
        """What becomes of the memory over a piece; backwards, of its gradient."""
        if self.affine.maximum:
            return [f"moved = {' + '.join(['m0', *(f'f{k}' for k in range(len(self.factors)))])}"]
        if len(self.factors) < 2:
            apart = f"f0[{', '.join([':'] * (1 + len(self.entries)))}, None]" if self.entries != self.axes else "f0"
            return [f"moved = {apart} * m0" if self.factors else "moved = m0"]
        turned = ["f1 = -f1"] if self.loop.backwards else []
        return [*turned, "re, im = tl.split(m0)", "moved = tl.join(f0 * re - f1 * im, f0 * im + f1 * re)"]


class _Ends(_Scan):
    """What becomes of the memory over a piece of the steps, from nothing; the product of the gates; and whether there was a reset."""

    def __init__(self, region: Region, cut: Cut, name: str) -> None:
        (memory,) = region.memories
        assert region.affine is not None
        body = pruned(region.body, (memory.new, *region.affine.gate))
        columns, constants, given = _taken(region, body)
        loop = Loop(f"{name}_forward_ends", body, region.memories, columns, constants, (), (), (), backwards=False)
        super().__init__(loop, cut, region, given)

    def _arguments(self) -> list[str]:
        return ["clear0", *_given(self.region), "reset", "ended", *self.factors, "dead"]

    def _begin(self) -> list[str]:
        one = "0.0" if self.affine.maximum else "1.0"
        return [
            *self._cleared(0, self.axes, self.region.memories[0].fill),
            f"m0 = {self._full(self.axes, self.nothing)}",
            *(f"f{k} = {self._full(self.entries, '0.0' if k else one)}" for k in range(len(self.factors))),
            "over = tl.zeros((ROWS,), tl.int1)",
        ]

    def _clear(self) -> list[str]:
        return [*super()._clear(), "    over = over | gone"]

    def _end(self) -> list[str]:
        gates = [self._whole(gate, self.entries) for gate in self.affine.gate]
        if len(gates) < 2:
            factors = [f"f{k} = f{k} {'+' if self.affine.maximum else '*'} {gate}" for k, gate in enumerate(gates)]
        else:
            re, im = gates
            factors = [f"g0, g1 = {re}, {im}", "f0, f1 = f0 * g0 - f1 * g1, f0 * g1 + f1 * g0"]
        return [*super()._end(), *factors]

    def _after(self) -> list[str]:
        factors = [self._store(name, f"f{k}", self.entries, "own") for k, name in enumerate(self.factors)]
        return [
            self._store("ended", "m0", self.axes, "own"),
            *factors,
            "tl.store(dead + own, over, mask=alive & (tl.program_id(1) == 0))",
        ]


class _Forward(_Scan):
    def __init__(self, loop: Loop, cut: Cut, region: Region, hidden: bool) -> None:
        self.hidden = hidden
        super().__init__(loop, cut, region)

    def _arguments(self) -> list[str]:
        hidden = ["last", "every"] if self.hidden else []
        return [*super()._arguments(), *hidden, "ended", *self.factors, "dead"]

    def _begin(self) -> list[str]:
        return [*super()._begin(), *self._entered("piece", "k")]

    def _clear(self) -> list[str]:
        keep = self._store("every", "m0", self.axes, f"(rows * {_BLOCKS} + t // {EVERY})")
        kept = ["if every is not None:", f"    if t % {EVERY} == 0:", f"        {keep}"]
        return [*super()._clear(), *(kept if self.hidden else [])]

    def _after(self) -> list[str]:
        last = ["if until == T:", f"    {self._store('last', 'm0', self.axes, 'rows')}"]
        return [*super()._after(), *(last if self.hidden else [])]


def _taken(region: Region, body: Graph) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
    """The columns and constants that a part of the step takes, and what those of the region are called among the arguments."""
    columns, constants = (
        tuple(one for one in names if one in body.nodes) for names in (region.columns, region.constants)
    )
    return columns, constants, dict(zip((*region.columns, *region.constants), _given(region), strict=True))


def _given(region: Region) -> list[str]:
    """The arguments of kernels that the region is given."""
    return [f"column{k}" for k in range(len(region.columns))] + [f"constant{k}" for k in range(len(region.constants))]


def _named(region: Region, tiled: Tiled, back: Adjoint) -> dict[str, str]:
    """What the inputs of the derivative are called among the arguments."""
    given = {name: f"grad{tiled.results.index(one)}" for name, one in back.grads.items()}
    given |= {name: f"column{[*region.columns].index(one)}" for name, one in back.columns.items()}
    given |= {name: f"constant{[*region.constants].index(one)}" for name, one in back.constants.items()}
    return given | dict.fromkeys(back.olds, "old0")


class _EndsBackward(_Scan):
    """What becomes of the gradient of the memory over a piece of the steps, from nothing. Raises Unfit if that is not known without the memory, or
    if it is not multiplied by the gates."""

    def __init__(self, region: Region, cut: Cut, tiled: Tiled, name: str) -> None:
        assert region.affine is not None
        back = adjoint(region, (), tiled.results) if tiled.adjoint.values else tiled.adjoint
        (flow,) = back.memories
        body = pruned(back.body, (flow.old, flow.new))
        used = {flow.old, *(name for node in body for name in node.inputs)}
        body = body.with_nodes(node for node in body if node.op != "input" or node.name in used)
        if region.affine.maximum or (tiled.again and any(one in body.nodes for one in back.olds)):
            raise Unfit("the gradient of a memory that depends on it")
        columns = tuple(one for one in (*back.grads, *back.columns, *back.olds) if one in body.nodes)
        constants = tuple(one for one in back.constants if one in body.nodes)
        self.results = len(tiled.results)
        self.hidden = tiled.again
        loop = Loop(f"{name}_backward_ends", body, back.memories, columns, constants, (), (), (), backwards=True)
        super().__init__(loop, cut, region, _named(region, tiled, back))

    def _arguments(self) -> list[str]:
        old = [] if self.hidden else ["old0"]
        grads = (f"grad{k}" for k in range(self.results))
        return ["dclear0", *grads, *_given(self.region), "reset", *old, "ended"]

    def _after(self) -> list[str]:
        return [self._store("ended", "m0", self.axes, "own")]


class _Again(_Scan):
    """The steps of a block: the memory that each has seen, and some of its values, go to scratch memory."""

    value, memory = "w", "h"


class _Backward(_Scan):
    def __init__(self, loop: Loop, cut: Cut, region: Region, tiled: Tiled) -> None:
        self.results, self.hidden = tiled.results, tiled.again
        back = tiled.adjoint
        self.room: dict[str, str] = {}
        super().__init__(loop, cut, region, _named(region, tiled, back))
        if self.hidden:
            self.again = self._made_again(back, cut)

    def _made_again(self, back: Adjoint, cut: Cut) -> _Again:
        (memory,) = self.region.memories
        wanted = tuple(dict.fromkeys(back.values.values()))
        body = pruned(self.region.body, (memory.new, *wanted))
        columns, constants, given = _taken(self.region, body)
        results = tuple(Result(one, body[one].type.names) for one in wanted)
        loop = Loop("", body, self.region.memories, columns, constants, results, (), (), backwards=False)
        again = _Again(loop, cut, self.region, given)
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
        found = ["dstart0", "dclear0", *(f"grad{k}" for k in range(len(self.results))), *_given(self.region)]
        found += ["reset", *(["clear0", "every", "flow"] if self.hidden else ["old0"])]
        found += [f"result{k}" for k in range(len(self.loop.results))]
        return [*found, *(f"sum{k}" for k in range(len(self.loop.sums))), "ended", *self.factors, "dead"]

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
        if self.hidden:
            lines += [
                f"m0 = {self._load('flow', self.axes, 'rows')}",
                *self._cleared(0, self.axes, self.region.memories[0].fill),
            ]
        return [*lines, *self._entered("pieces - 1 - piece", "pieces - 1 - k")]

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
            f"first = since + (blocks - 1 - block_back) * {EVERY}",
            f"steps = tl.minimum({EVERY}, until - first)",
            "tl.debug_barrier()",
            f"h0 = {again._load('every', again.axes, f'(rows * {_BLOCKS} + first // {EVERY})')}",
            "for s in range(steps):",
            *indented(forth),
            "tl.debug_barrier()",
            "for back in range(steps):",
            *indented(back),
        ]
        return [f"blocks = tl.cdiv(until - since, {EVERY})", "for block_back in range(blocks):", *indented(block)]

    def _keep(self, name: str, value: str) -> str:
        """Write a value of the step to scratch memory."""
        axes = self.region.body[name].type.names
        place, mask = self._scratch(self.room[name], axes, axes, self._indices(axes)), self._masked(axes, "place")
        return f"tl.store({place}, {value}, mask={mask})"
