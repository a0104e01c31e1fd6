"""What is read in a chunk, and what is read backward: the gradients of the values."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import triton
import triton.language as tl

from .parts import (
    bad,
    bad_gates,
    bad_rows,
    between,
    cuts,
    entry,
    finite,
    marked,
    of_head,
    of_row,
    place,
    product,
    put,
    since,
    sort,
    square,
    tile,
    until,
)


@triton.jit
def outputs(
    rows, columns, values, g, before, found, y, B, T, N, gb, gt, gh, RT, RH, CT, CH, VT, VH,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    SHIFT: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, KB: tl.constexpr, BV: tl.constexpr, VB: tl.constexpr,
    BG: tl.constexpr, GK: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """What q reads in a chunk."""
    head, n, vb = place(N, VB)
    to, t = vb * BV, n * C + tl.arange(0, C)
    rows, columns = of_row(rows, head, T, RT, RH, H, G), of_row(columns, head, T, CT, CH, H, G)
    values, y = of_row(values, head, T, VT, VH, H, H), of_head(y, head, T, H, H, V)
    before += (head * N + n) * K * V
    if g is not None:
        g += head // H * gb + head % H * gh
    enters = bad(tile(values, VT, t, T, to, V, BV))
    spoiled, cut = tl.zeros((1, BV), tl.int32), tl.zeros((C, 1), tl.int32) + 1
    read, met = tl.zeros((C, BV), REAL), tl.zeros((C, C), REAL)
    for kb in range(KB):
        at = kb * BK
        queries = tile(rows, RT, t, T, at, K, BK)
        for s in tl.static_range(S):
            keys = tile(sort(columns, s, B, T, G, K), CT, t, T, at, K, BK)
            enters = tl.maximum(enters, bad_rows(keys))
            if found is None:
                met += product(queries, tl.trans(finite(keys)), DATA, REAL)
        for r in tl.static_range(1, R):
            enters = tl.maximum(enters, bad_rows(tile(sort(rows, r, B, T, G, K), RT, t, T, at, K, BK)))
        if g is not None:
            enters = tl.maximum(enters, bad_gates(g, gt, t, T, at, GK, BG))
            cut = tl.minimum(cut, cuts(g, gt, t, T, at, GK, BG))
            queries = queries * tl.exp(since(g, gt, t, n * C, T, at, GK, SHIFT, BG, REAL))
        memory = square(before, K, V, at, to, BK, BV)
        spoiled = tl.maximum(spoiled, tl.max(bad(memory), axis=0, keep_dims=True))
        read += product(queries, finite(memory), DATA, REAL)
    if found is None:
        met *= between(g, gt, n * C, T, SHIFT, C, REAL)
    for s in tl.static_range(S):
        if found is not None:
            met = square(found + ((head * N + n) * R * S + s) * C * C, C, C, 0, 0, C, C)
        given = entry(sort(values, s, B, T, H, V), VT, t, T, to, V, BV)
        read += product(met, given, DATA, REAL)
    if tl.max(tl.max(enters, axis=1), axis=0) + tl.max(tl.max(spoiled, axis=1), axis=0) > 0:
        part = tl.cumsum(cut, axis=0) if g is not None else tl.zeros((C, 1), tl.int32)
        i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
        meet = (part == tl.trans(part)) & (j + SHIFT <= i)
        reached = tl.dot(tl.where(meet, 1.0, 0.0).to(tl.float16), enters.to(tl.float16))
        read = marked(read, tl.where((reached > 0) | ((spoiled > 0) & (part == 0)), 1, 0))
    put(y, read, H * V, t, T, to, V, BV)


@triton.jit
def value_grads(
    rows, columns, g, dread, after, found, dv, B, T, N, gb, gt, gh, RT, RH, CT, CH, VT, VH,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    SHIFT: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, KB: tl.constexpr, BV: tl.constexpr, VB: tl.constexpr,
    BG: tl.constexpr, GK: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """The gradients of v in a chunk."""
    head, n, vb = place(N, VB)
    to, t = vb * BV, n * C + tl.arange(0, C)
    row, column = of_row(rows, head, T, RT, RH, H, G), of_row(columns, head, T, CT, CH, H, G)
    dread, dv = of_head(dread, head, T, H, H, V), of_head(dv, head, T, H, H, V)
    after += (head * N + n) * K * V
    if g is not None:
        g += head // H * gb + head % H * gh
    sums, met = tl.zeros((C, BV), REAL), tl.zeros((C, C), REAL)
    for kb in range(KB):
        at = kb * BK
        keys = entry(column, CT, t, T, at, K, BK)
        if found is None:
            met += product(entry(row, RT, t, T, at, K, BK), tl.trans(keys), DATA, REAL)
        if g is not None:
            keys = keys * tl.exp(until(g, gt, t, min(n * C + C, T), at, GK, BG, REAL))
        sums += product(keys, square(after, K, V, at, to, BK, BV), DATA, REAL)
    if found is None:
        met *= between(g, gt, n * C, T, SHIFT, C, REAL)
    for r in tl.static_range(R):
        if found is not None:
            met = finite(square(found + ((head * N + n) * R + r) * S * C * C, C, C, 0, 0, C, C))
        dreads = tile(sort(dread, r, B, T, H, V), H * V, t, T, to, V, BV)
        sums += product(tl.trans(met), dreads, DATA, REAL)
    put(dv, sums, H * V, t, T, to, V, BV)
