"""Launches the kernels, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .....compilers.runtime import tritons
from .....compilers.runtime.support import Kept, Native, Read, of_type
from .tuning import Kernels, Twin, tuned_blocks

SUB = 16
"""Steps in a block of a chunk."""
MOST_KEYS = 256  # that one program has, where there is z
_FULL = frozenset({"pairs_by_key", "walk", "walk_back", "outer_grads", "inner_grads_by_head", "inner_grads_by_key"})
_ROOMS = {
    **dict.fromkeys(("pairs_by_head", "pairs_by_key", "weights"), "pairs"),
    **dict.fromkeys(("states", "ends"), "memories"),
    **dict.fromkeys(("solve", "walk", "solve_back", "walk_back"), "rank_one"),
    **dict.fromkeys(("outputs", "value_grads"), "reads"),
    **dict.fromkeys(("outer_grads", "inner_grads_by_head", "inner_grads_by_key"), "grads"),
}
"""The file of each kernel."""
_LEAST = 16  # what a product of matrices needs along each side
_WALKED = 4096  # numbers of a memory that one program walks with


class Blocks(NamedTuple):
    """Steps in a chunk; keys and values in a tile; groups of 32 threads in a program, and in one of those that hold most."""

    steps: int
    keys: int
    values: int
    warps: int
    most_warps: int


def blocks(sorts: int, steps: int, keys: int, values: int, by_key: bool, wide: bool) -> Blocks:
    """What fits the registers: with a gate per key there is an exponent beside each key, where there is z a program has all keys, and
    ``wide`` numbers, of 4 bytes or more, take twice the room."""
    chunk = (32 if wide else 64) if sorts == 1 else max(SUB, min(32, 4096 // _padded(keys)))
    least, most = 32 if by_key or wide else 64, 32 if wide else 64
    few, many = 4 if keys > _LEAST else 8, 8 if wide else 4 * sorts
    return Blocks(
        min(chunk, _padded(steps)), min(least, _padded(keys)), min(most, _padded(values)), few, max(few, many)
    )


class Given(NamedTuple):
    """What kernels are given: rows [R,B,T,G,K], columns [S,B,T,G,K] and values [B,T,H,V] of one type; g [B,T,H] or [B,T,H,K]; h0 [B,H,K,V];
    where q reads; whether there is a gate per key; the types of y and of the last memory."""

    rows: Tensor
    columns: Tensor
    values: Tensor
    g: Tensor | None
    h0: Tensor | None
    read: Read
    by_key: bool
    dtype: torch.dtype
    kind: torch.dtype

    def laid(self) -> Given:
        """All as the kernels read it: side by side, but a gate that is one for all steps, and rows, columns and values of one sort, which may be
        parts of something wider."""
        g = self.g
        if g is not None and g.dim() == 4 and g.stride(3) != 1:
            g = g.contiguous()
        h0 = None if self.h0 is None else self.h0.contiguous()
        if len(self.rows) > 1:
            rows, columns, values = (x.contiguous() for x in self[:3])
        else:
            rows, columns = (_laid(x[0])[None] for x in (self.rows, self.columns))
            values = _laid(self.values)
        return self._replace(rows=rows, columns=columns, values=values, g=g, h0=h0)


def _strides(x: Tensor) -> tuple[int, int] | None:
    """How far apart steps and heads lie in x [B,T,G,K]; None if kernels cannot read it so."""
    batch, steps, _, keys = x.shape
    apart = x.stride(1) if steps > 1 else x.stride(0)
    whole = batch == 1 or steps == 1 or x.stride(0) == steps * apart
    return (apart, x.stride(2)) if whole and (keys == 1 or x.stride(3) == 1) else None


def _laid(x: Tensor) -> Tensor:
    return x.contiguous() if _strides(x) is None else x


def kernels(twin: Callable[[Given], tuple[Tensor, ...]]) -> Native:
    """The kernels as a function of what is `Given` that autograd knows."""

    def start(given: Given) -> _Run:
        return _Run(given, known, twin)

    known: Native = Native(
        partial(forward, start), partial(backward, start), lambda *inputs: twin(Given(*inputs)), tritons.takes
    )
    return known


def begun(h0: Tensor | None, k: Tensor, v: Tensor, kind: torch.dtype) -> Tensor:
    """The memory before the first step [B,H,K,V]; k: [B,T,G,K], v: [B,T,H,V]."""
    return v.new_zeros(v.shape[0], v.shape[2], k.shape[3], v.shape[3]) if h0 is None else of_type(h0, kind)


class _Run:
    """The kernels at the sizes of one call."""

    def __init__(self, given: Given, kernels: Kernels, twin: Twin) -> None:
        self.given = given
        sorts, batch, steps, groups, keys = given.rows.shape
        heads, values = given.values.shape[2:]
        first = blocks(sorts, steps, keys, values, given.by_key, given.values.element_size() > 2)
        chunk, wide, tall, self.warps, self.most_warps = tuned_blocks(given, first, kernels, twin)
        self.chunks, self.heads = -(-steps // chunk), batch * heads
        self.blocks, self.by_keys, self.by_values = chunk // SUB, -(-keys // wide), -(-values // tall)
        most = _padded(keys)
        walked = min(tall, max(_LEAST, _WALKED // (most if sorts > 1 else 2 * wide)))
        walks = -(-values // walked)
        self.walks = self.heads * walks * (1 if sorts > 1 else self.by_keys)
        self.memory = (self.heads, self.chunks, keys, values)
        self.pair = (self.heads, self.chunks, chunk, chunk)
        self.wide = (batch, steps, heads, keys)
        strides = (0, 0, 0) if given.g is None else given.g.stride()[:3]
        apart = (one for x in (given.rows[0], given.columns[0], given.values) for one in _strides(x) or ())
        names = ("B", "T", "N", "gb", "gt", "gh", "RT", "RH", "CT", "CH", "VT", "VH")
        self.sizes = dict(zip(names, (batch, steps, self.chunks, *strides, *apart), strict=True))
        by_key = given.by_key
        self.fixed = {
            "H": heads, "G": groups, "K": keys, "V": values, "GK": keys if by_key else 1, "R": sorts, "S": sorts,
            "SHIFT": int(given.read == "before"), "C": chunk, "SUB": SUB,
            "BK": wide, "KB": self.by_keys, "BV": tall, "VB": self.by_values, "BG": wide if by_key else 1,
            "WK": most, "WV": walked, "WB": walks, "WG": most if by_key else 1,
            "DATA": tritons.spelled(given.values.dtype), "REAL": tritons.spelled(given.kind),
        }  # fmt: skip

    def __call__(self, name: str, programs: int, *tensors: Tensor | None) -> None:
        kernel = getattr(import_module(f"{__package__}.{_ROOMS[name]}"), name)
        sizes = [size for one, size in self.sizes.items() if one in kernel.arg_names]
        fixed = {one: value for one, value in self.fixed.items() if one in kernel.arg_names}
        warps = self.most_warps if name in _FULL else self.warps
        tritons.launch(kernel, (programs,), *tensors, *sizes, warps=warps, stages=1, **fixed)

    def real(self, *shape: int) -> Tensor:
        return self.given.rows.new_empty(shape, dtype=self.given.kind)

    def pairs(self) -> Tensor | None:
        """What rows and columns of a chunk see of each other [B*H,N,R,S,C,C]; None where other kernels find it out on their way."""
        given, sorts = self.given, self.given.rows.shape[0]
        if sorts == 1 and not given.by_key:
            return None
        found = self.real(*self.pair[:2], sorts, sorts, *self.pair[2:])
        if given.by_key:
            self("pairs_by_key", self.heads * self.chunks * self.blocks, given.rows, given.columns, given.g, found)
        else:
            self("pairs_by_head", self.heads * self.chunks, given.rows, given.columns, given.g, found)
        return found

    def walk(self, found: Tensor | None) -> _Walked:
        """From chunk to chunk."""
        given = self.given
        rows, columns, values, g, h0 = given[:5]
        before = values.new_empty(self.memory)
        last = self.real(values.shape[0], values.shape[2], *self.memory[2:])
        if rows.shape[0] == 1:
            self("states", self.walks, columns, values, g, h0, before, last)
            return _Walked(before, last, values[None], None)
        solved, met = self.real(*self.pair), values.new_empty(self.wide)
        both = values.new_empty(2, *values.shape)
        both[0] = values
        fresh = values.new_empty(values.shape)
        self("solve", self.heads * self.chunks, rows, values, g, found, solved, met, fresh)
        self("walk", self.walks, rows, columns, values, g, met, fresh, h0, before, both[1], last)
        return _Walked(before, last, both, solved)


class _Walked(NamedTuple):
    """The memory before each chunk; that after the last; values [S,B,T,H,V]; the inverses."""

    before: Tensor
    last: Tensor
    values: Tensor
    solved: Tensor | None


def _padded(size: int) -> int:
    return max(_LEAST, 1 << (size - 1).bit_length())


def forward(start: Callable[[Given], _Run], keep: bool, *inputs: Any) -> tuple[tuple[Tensor, ...], Kept]:
    """y [B,T,H,V] and the last S [B,H,K,V], of what is `Given`."""
    given = Given(*inputs).laid()
    run = start(given)
    y = given.values.new_empty(given.values.shape, dtype=given.dtype)
    found = run.pairs()
    walked = run.walk(found)
    programs = run.heads * run.chunks * run.by_values
    run("outputs", programs, given.rows, given.columns, walked.values, given.g, walked.before, found, y)
    return (y, walked.last), ()


def backward(
    start: Callable[[Given], _Run],
    inputs: Sequence[Any],
    results: Sequence[Tensor],
    kept: Kept,
    grads: Sequence[Tensor],
) -> tuple[Tensor | None, ...]:
    """The memories are computed again."""
    given = Given(*inputs).laid()
    rows, columns, values, g, h0 = given[:5]
    dy, dlast = grads
    run = start(given)
    sorts, groups = rows.shape[0], rows.shape[3]
    found = run.pairs()
    before, _, both, solved = run.walk(found)
    after, dstart = values.new_empty(run.memory), torch.empty_like(dlast)
    dread = dy[None]
    if solved is None:
        run("ends", run.walks, rows, dy, g, dlast, after, dstart)
    else:
        dread = dy.new_empty(2, *dy.shape)
        dread[0] = dy
        met, fresh = values.new_empty(run.wide), torch.empty_like(values)
        run("solve_back", run.heads * run.chunks, columns, dy, g, found, solved, met, fresh)
        run("walk_back", run.walks, rows, dy, g, met, fresh, dlast, after, dread[1], dstart)
    dv = values.new_empty(values.shape)
    run("value_grads", run.heads * run.chunks * run.by_values, rows, columns, g, dread, after, found, dv)
    drows, dcolumns = (run.real(sorts, *run.wide) for _ in range(2))
    dg = None if g is None else run.real(*(run.wide if given.by_key else (*run.wide[:3], run.by_keys)))
    programs = run.heads * run.chunks * run.by_keys
    run("outer_grads", programs, rows, columns, both, g, dread, before, after, drows, dcolumns, dg)
    if given.by_key:
        dfound = run.real(*run.pair[:2], sorts, sorts, *run.pair[2:])
        run("weights", run.heads * run.chunks * sorts * sorts, dread, both, dfound)
        run("inner_grads_by_key", programs * run.blocks, rows, columns, g, dfound, drows, dcolumns, dg)
    else:
        parts, dg = dg, None if g is None else run.real(*run.wide[:3])
        tensors = (rows, columns, both, g, dread, drows, dcolumns, parts, dg)
        run("inner_grads_by_head", run.heads * run.chunks, *tensors)
    if groups < values.shape[2]:
        drows, dcolumns = (x.unflatten(3, (groups, -1)).sum(4) for x in (drows, dcolumns))
    dg = None if dg is None or g is None else dg.to(g.dtype)
    dh0 = None if h0 is None else dstart.to(h0.dtype)
    return drows.to(rows.dtype), dcolumns.to(columns.dtype), dv, dg, dh0, None, None, None, None
