"""What b meets, z, and the memories that it enters; and the gradients of both."""

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
    place,
    product,
    put,
    put_square,
    since,
    sort,
    square,
    tile,
    total,
    until,
)


@triton.jit
def inverse(found, C: tl.constexpr, SUB: tl.constexpr, REAL: tl.constexpr):
    """(1 - A)^-1 for a matrix [C, C] whose entries are below the diagonal: row by row in blocks of SUB, then block by block."""
    BLOCKS: tl.constexpr = C // SUB
    block, i, j = tl.arange(0, BLOCKS), tl.arange(0, SUB), tl.arange(0, SUB)
    own = tl.where((i[:, None] == j[None, :])[None, :, :], 1.0, 0.0).to(REAL)
    own = tl.broadcast_to(own, (BLOCKS, SUB, SUB))
    for row in range(1, SUB):
        # What a row has of the rows above it in its block.
        given = tl.load(found + (block[:, None] * SUB + row) * C + block[:, None] * SUB + j[None, :])[:, :, None]
        own += tl.where((i == row)[None, :, None], tl.sum(given * own, axis=1, keep_dims=True), 0.0)
    apart = tl.where((block[:, None] == block[None, :])[:, None, :, None], own[:, :, None, :], 0.0)
    diagonal = tl.reshape(apart, (C, C))
    at, to = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    outside = tl.where(at // SUB == to // SUB, 0.0, square(found, C, C, 0, 0, C, C))
    one = tl.where(at == to, 1.0, 0.0).to(REAL)
    solved = diagonal
    for _ in range(BLOCKS - 1):
        # Each time one more block of rows is as it will stay.
        solved = product(diagonal, one + product(outside, solved, REAL, REAL), REAL, REAL)
    return solved


@triton.jit
def solve(
    rows, values, g, found, solved, met, fresh, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, S: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, KB: tl.constexpr, BV: tl.constexpr, VB: tl.constexpr,
    BG: tl.constexpr, GK: tl.constexpr, SUB: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """z = met S + fresh, for S before the chunk: the inverse [B*H,N,C,C], met [B,T,H,K] and fresh [B,T,H,V]."""
    head, n, _ = place(N, 1)
    t = n * C + tl.arange(0, C)
    row = sort(of_head(rows, head, T, H, G, K), 1, B, T, G, K)
    values = of_head(values, head, T, H, H, V)
    met, fresh = of_head(met, head, T, H, H, K), of_head(fresh, head, T, H, H, V)
    found += ((head * N + n) * 2 + 1) * S * C * C
    if g is not None:
        g += head // H * gb + head % H * gh
    whole = inverse(found + C * C, C, SUB, REAL)
    put_square(solved + (head * N + n) * C * C, whole, C, C, 0, 0, C, C)
    for kb in range(KB):
        at = kb * BK
        seen = entry(row, G * K, t, T, at, K, BK)
        if g is not None:
            seen = seen * tl.exp(since(g, gt, t, n * C, T, at, GK, 1, BG, REAL))
        put(met, product(whole, seen, DATA, REAL), H * K, t, T, at, K, BK)
    others = product(whole, square(found, C, C, 0, 0, C, C), REAL, REAL)
    for vb in range(VB):
        given = entry(values, H * V, t, T, vb * BV, V, BV)
        put(fresh, product(others, given, DATA, REAL), H * V, t, T, vb * BV, V, BV)


@triton.jit
def walk(
    rows, columns, values, g, met, fresh, start, before, z, last, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, WK: tl.constexpr,
    WV: tl.constexpr, WB: tl.constexpr, WG: tl.constexpr, GK: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """As `states`, with all keys in one program; and z [B,T,H,V]."""
    head, _, wb = place(1, WB)
    to = wb * WV
    row = sort(of_head(rows, head, T, H, G, K), 1, B, T, G, K)
    column = of_head(columns, head, T, H, G, K)
    other = sort(column, 1, B, T, G, K)
    values, z = of_head(values, head, T, H, H, V), of_head(z, head, T, H, H, V)
    met, fresh = of_head(met, head, T, H, H, K), of_head(fresh, head, T, H, H, V)
    if g is not None:
        g += head // H * gb + head % H * gh
    s, spoiled = tl.zeros((WK, WV), REAL), tl.zeros((1, WV), tl.int32)
    if start is not None:
        begin = square(start + head * K * V, K, V, 0, to, WK, WV).to(REAL)
        spoiled = tl.max(bad(begin), axis=0, keep_dims=True)
        s += finite(begin)
    for n in range(N):
        put_square(before + (head * N + n) * K * V, marked(s, spoiled).to(DATA), K, V, 0, to, WK, WV)
        t = n * C + tl.arange(0, C)
        keys, lefts = tile(column, G * K, t, T, 0, K, WK), tile(other, G * K, t, T, 0, K, WK)
        given = tile(values, H * V, t, T, to, V, WV)
        enters = tl.maximum(tl.maximum(bad_rows(keys), bad_rows(lefts)), bad_rows(tile(row, G * K, t, T, 0, K, WK)))
        spoiled = carried(spoiled, tl.maximum(enters, bad(given)), g, gt, t, T, 0, GK, WG)
        keys, lefts = finite(keys), finite(lefts)
        found = product(tile(met, H * K, t, T, 0, K, WK), s, DATA, REAL)
        found += tile(fresh, H * V, t, T, to, V, WV)
        put(z, found, H * V, t, T, to, V, WV)
        if g is not None:
            stays = tl.exp(until(g, gt, t, min(n * C + C, T), 0, GK, WG, REAL))
            keys, lefts = keys * stays, lefts * stays
            s *= tl.trans(tl.exp(total(g, gt, t, T, 0, GK, WG, REAL)))
        s += product(tl.trans(keys), finite(given), DATA, REAL) + product(tl.trans(lefts), found, DATA, REAL)
    put_square(last + head * K * V, marked(s, spoiled), K, V, 0, to, WK, WV)


@triton.jit
def solve_back(
    columns, dread, g, found, solved, met, fresh, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, KB: tl.constexpr, BV: tl.constexpr, VB: tl.constexpr,
    BG: tl.constexpr, GK: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """dz = met dS + fresh, for dS after the chunk: met [B,T,H,K] and fresh [B,T,H,V]."""
    head, n, _ = place(N, 1)
    t = n * C + tl.arange(0, C)
    column = sort(of_head(columns, head, T, H, G, K), 1, B, T, G, K)
    dread = of_head(dread, head, T, H, H, V)
    met, fresh = of_head(met, head, T, H, H, K), of_head(fresh, head, T, H, H, V)
    if g is not None:
        g += head // H * gb + head % H * gh
    whole = tl.trans(square(solved + (head * N + n) * C * C, C, C, 0, 0, C, C))
    for kb in range(KB):
        at = kb * BK
        given = entry(column, G * K, t, T, at, K, BK)
        if g is not None:
            given = given * tl.exp(until(g, gt, t, min(n * C + C, T), at, GK, BG, REAL))
        put(met, product(whole, given, DATA, REAL), H * K, t, T, at, K, BK)
    seen = finite(square(found + ((head * N + n) * R * S + 1) * C * C, C, C, 0, 0, C, C))
    others = product(whole, tl.trans(seen), REAL, REAL)
    for vb in range(VB):
        dreads = tile(dread, H * V, t, T, vb * BV, V, BV)
        put(fresh, product(others, dreads, DATA, REAL), H * V, t, T, vb * BV, V, BV)


@triton.jit
def walk_back(
    rows, dread, g, met, fresh, dlast, after, dz, dstart, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, SHIFT: tl.constexpr, C: tl.constexpr,
    WK: tl.constexpr, WV: tl.constexpr, WB: tl.constexpr, WG: tl.constexpr, GK: tl.constexpr,
    DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """As `ends`, with all keys in one program; and dz [B,T,H,V]."""
    head, _, wb = place(1, WB)
    to = wb * WV
    row = of_head(rows, head, T, H, G, K)
    other = sort(row, 1, B, T, G, K)
    dread, dz = of_head(dread, head, T, H, H, V), of_head(dz, head, T, H, H, V)
    met, fresh = of_head(met, head, T, H, H, K), of_head(fresh, head, T, H, H, V)
    if g is not None:
        g += head // H * gb + head % H * gh
    ds = square(dlast + head * K * V, K, V, 0, to, WK, WV).to(REAL)
    for back in range(N):
        n = N - 1 - back
        put_square(after + (head * N + n) * K * V, ds.to(DATA), K, V, 0, to, WK, WV)
        t = n * C + tl.arange(0, C)
        found = product(tile(met, H * K, t, T, 0, K, WK), ds, DATA, REAL)
        found += tile(fresh, H * V, t, T, to, V, WV)
        put(dz, found, H * V, t, T, to, V, WV)
        seen, rights = entry(row, G * K, t, T, 0, K, WK), entry(other, G * K, t, T, 0, K, WK)
        if g is not None:
            seen = seen * tl.exp(since(g, gt, t, n * C, T, 0, GK, SHIFT, WG, REAL))
            rights = rights * tl.exp(since(g, gt, t, n * C, T, 0, GK, 1, WG, REAL))
            ds *= tl.trans(tl.exp(total(g, gt, t, T, 0, GK, WG, REAL)))
        ds += product(tl.trans(seen), tile(dread, H * V, t, T, to, V, WV), DATA, REAL)
        ds += product(tl.trans(rights), found, DATA, REAL)
    put_square(dstart + head * K * V, ds, K, V, 0, to, WK, WV)
