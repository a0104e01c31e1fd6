"""From chunk to chunk: the memories, and their gradients."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import triton
import triton.language as tl

from .parts import (
    bad,
    bad_rows,
    carried,
    entry,
    finite,
    marked,
    of_head,
    of_row,
    place,
    product,
    put_square,
    since,
    square,
    tile,
    total,
    until,
)


@triton.jit
def states(
    columns, values, g, start, before, last, B, T, N, gb, gt, gh, RT, RH, CT, CH, VT, VH,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr,
    KB: tl.constexpr, WV: tl.constexpr, WB: tl.constexpr, BG: tl.constexpr, GK: tl.constexpr,
    DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """The memory before every chunk, and after the last."""
    head, kb, wb = place(KB, WB)
    at, to = kb * BK, wb * WV
    columns, values = of_row(columns, head, T, CT, CH, H, G), of_row(values, head, T, VT, VH, H, H)
    if g is not None:
        g += head // H * gb + head % H * gh
    s, spoiled = tl.zeros((BK, WV), REAL), tl.zeros((1, WV), tl.int32)
    if start is not None:
        begin = square(start + head * K * V, K, V, at, to, BK, WV).to(REAL)
        spoiled = tl.max(bad(begin), axis=0, keep_dims=True)
        s += finite(begin)
    for n in range(N):
        put_square(before + (head * N + n) * K * V, marked(s, spoiled).to(DATA), K, V, at, to, BK, WV)
        t = n * C + tl.arange(0, C)
        keys, given = tile(columns, CT, t, T, at, K, BK), tile(values, VT, t, T, to, V, WV)
        spoiled = carried(spoiled, tl.maximum(bad_rows(keys), bad(given)), g, gt, t, T, at, GK, BG)
        keys = finite(keys)
        if g is not None:
            keys = keys * tl.exp(until(g, gt, t, min(n * C + C, T), at, GK, BG, REAL))
            s *= tl.trans(tl.exp(total(g, gt, t, T, at, GK, BG, REAL)))
        s += product(tl.trans(keys), finite(given), DATA, REAL)
    put_square(last + head * K * V, marked(s, spoiled), K, V, at, to, BK, WV)


@triton.jit
def ends(
    rows, dread, g, dlast, after, dstart, B, T, N, gb, gt, gh, RT, RH, CT, CH, VT, VH,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, SHIFT: tl.constexpr, C: tl.constexpr,
    BK: tl.constexpr, KB: tl.constexpr, WV: tl.constexpr, WB: tl.constexpr, BG: tl.constexpr, GK: tl.constexpr,
    DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """The gradient of the memory after every chunk, and of that before the first."""
    head, kb, wb = place(KB, WB)
    at, to = kb * BK, wb * WV
    rows, dread = of_row(rows, head, T, RT, RH, H, G), of_head(dread, head, T, H, H, V)
    if g is not None:
        g += head // H * gb + head % H * gh
    ds = square(dlast + head * K * V, K, V, at, to, BK, WV).to(REAL)
    for back in range(N):
        n = N - 1 - back
        put_square(after + (head * N + n) * K * V, ds.to(DATA), K, V, at, to, BK, WV)
        t = n * C + tl.arange(0, C)
        seen = entry(rows, RT, t, T, at, K, BK)
        if g is not None:
            seen = seen * tl.exp(since(g, gt, t, n * C, T, at, GK, SHIFT, BG, REAL))
            ds *= tl.trans(tl.exp(total(g, gt, t, T, at, GK, BG, REAL)))
        ds += product(tl.trans(seen), tile(dread, H * V, t, T, to, V, WV), DATA, REAL)
    put_square(dstart + head * K * V, ds, K, V, at, to, BK, WV)
