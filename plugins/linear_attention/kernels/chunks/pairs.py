"""What rows and columns of a chunk see of each other, and the gradients of that."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import triton
import triton.language as tl

from .parts import (
    between,
    entry,
    finite,
    gates,
    of_head,
    of_row,
    place,
    product,
    put_square,
    since,
    sort,
    tile,
    until,
)


@triton.jit
def pairs_by_head(
    rows, columns, g, found, B, T, N, gb, gt, gh, RT, RH, CT, CH, VT, VH,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, R: tl.constexpr, S: tl.constexpr, SHIFT: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, KB: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    head, n, _ = place(N, 1)
    t = n * C + tl.arange(0, C)
    rows, columns = of_row(rows, head, T, RT, RH, H, G), of_row(columns, head, T, CT, CH, H, G)
    found += (head * N + n) * R * S * C * C
    if g is not None:
        g += head // H * gb + head % H * gh
    for r in tl.static_range(R):
        row = sort(rows, r, B, T, G, K)
        damped = between(g, gt, n * C, T, SHIFT if r == 0 else 1, C, REAL)
        for s in tl.static_range(S):
            column = sort(columns, s, B, T, G, K)
            met = tl.zeros((C, C), REAL)
            for kb in range(KB):
                seen = tile(row, RT, t, T, kb * BK, K, BK)
                keys = entry(column, CT, t, T, kb * BK, K, BK)
                met += product(seen if r == 0 else finite(seen), tl.trans(keys), DATA, REAL)
            put_square(found + (r * S + s) * C * C, met * damped, C, C, 0, 0, C, C)


@triton.jit
def pairs_by_key(
    rows, columns, g, found, B, T, N, gb, gt, gh, RT, RH, CT, CH, VT, VH,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, R: tl.constexpr, S: tl.constexpr, SHIFT: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, KB: tl.constexpr, SUB: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """The rows of a block."""
    head, n, block = place(N, C // SUB)
    first = n * C + block * SUB
    t, whole = first + tl.arange(0, SUB), n * C + tl.arange(0, C)
    i, j = block * SUB + tl.arange(0, SUB), tl.arange(0, C)
    rows, columns = of_row(rows, head, T, RT, RH, H, G), of_row(columns, head, T, CT, CH, H, G)
    found += (head * N + n) * R * S * C * C
    g += head // H * gb + head % H * gh
    for r in tl.static_range(R):
        row = sort(rows, r, B, T, G, K)
        for s in tl.static_range(S):
            column = sort(columns, s, B, T, G, K)
            met = tl.zeros((SUB, C), REAL)
            for kb in range(KB):
                at = kb * BK
                seen = tile(row, RT, t, T, at, K, BK).to(REAL)
                seen = seen if r == 0 else finite(seen)
                if block > 0:
                    ahead = entry(column, CT, whole, min(first, T), at, K, BK)
                    ahead = ahead * tl.exp(until(g, gt, whole, min(first, T), at, K, BK, REAL))
                    damped = tl.exp(since(g, gt, t, first, T, at, K, SHIFT if r == 0 else 1, BK, REAL))
                    met += product(seen * damped, tl.trans(ahead), DATA, REAL)
                sums = tl.zeros((SUB, BK), REAL)
                for back in range(SUB):
                    own = block * SUB + SUB - 1 - back
                    step = n * C + own + tl.zeros((1,), tl.int32)
                    key = entry(column, CT, step, T, at, K, BK).to(REAL)
                    gate = gates(g, gt, step + 1, first, min(first + SUB, T), at, K, BK, REAL)
                    sums += tl.where((i > own + (SHIFT if r == 0 else 1))[:, None], gate, 0.0)
                    one = tl.sum(seen * key * tl.exp(sums), axis=1)
                    meet = i >= own + (SHIFT if r == 0 else 1)
                    met += tl.where((j == own)[None, :] & meet[:, None], one[:, None], 0.0)
            put_square(found + (r * S + s) * C * C, met, C, C, block * SUB, 0, SUB, C)


@triton.jit
def weights(
    dread, values, dfound, B, T, N, VT, VH,
    H: tl.constexpr, V: tl.constexpr, R: tl.constexpr, S: tl.constexpr, SHIFT: tl.constexpr,
    C: tl.constexpr, BV: tl.constexpr, VB: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """The gradients of the pairs of a chunk, zero where they do not meet."""
    head, n, pair = place(N, R * S)
    t = n * C + tl.arange(0, C)
    row = sort(of_head(dread, head, T, H, H, V), pair // S, B, T, H, V)
    column = sort(of_row(values, head, T, VT, VH, H, H), pair % S, B, T, H, V)
    met = chunk_weights(row, column, t, T, H * V, VT, V, C, BV, VB, DATA, REAL)
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    met = tl.where(j + tl.where(pair < S, SHIFT, 1) <= i, met, 0.0)
    put_square(dfound + ((head * N + n) * R * S + pair) * C * C, met, C, C, 0, 0, C, C)


@triton.jit
def chunk_weights(
    dread, values, t, T, stride, VT, V: tl.constexpr, C: tl.constexpr, BV: tl.constexpr, VB: tl.constexpr,
    DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """The gradients of all pairs of a chunk [C, C], whether they meet or not."""
    met = tl.zeros((C, C), REAL)
    for vb in range(VB):
        dreads, given = tile(dread, stride, t, T, vb * BV, V, BV), entry(values, VT, t, T, vb * BV, V, BV)
        met += product(dreads, tl.trans(given), DATA, REAL)
    return met
