"""The gradients of rows, columns and gates."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import triton
import triton.language as tl

from .pairs import chunk_weights
from .parts import (
    between,
    earlier,
    entry,
    finite,
    gates,
    later,
    of_head,
    of_row,
    place,
    product,
    put,
    since,
    sort,
    square,
    tile,
    total,
    until,
)


@triton.jit
def outer_grads(
    rows, columns, values, g, dread, before, after, drows, dcolumns, dg, B, T, N, gb, gt, gh, RT, RH, CT, CH, VT, VH,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    SHIFT: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, KB: tl.constexpr, BV: tl.constexpr, VB: tl.constexpr,
    BG: tl.constexpr, GK: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Gradients by way of the memories at both ends of a chunk: of rows [R,B,T,H,K], columns [S,B,T,H,K] and g, [B,T,H,K] or in parts
    [B,T,H,KB]."""
    head, n, kb = place(N, KB)
    at, t = kb * BK, n * C + tl.arange(0, C)
    rows, columns = of_row(rows, head, T, RT, RH, H, G), of_row(columns, head, T, CT, CH, H, G)
    drows, dcolumns = of_head(drows, head, T, H, H, K), of_head(dcolumns, head, T, H, H, K)
    values, dread = of_row(values, head, T, VT, VH, H, H), of_head(dread, head, T, H, H, V)
    before += (head * N + n) * K * V
    after += (head * N + n) * K * V
    dgates = tl.zeros((C, BG), REAL)
    if g is not None:
        g += head // H * gb + head % H * gh
        kept = tl.zeros((1, BK), REAL)
        for vb in range(VB):
            begin = finite(square(before, K, V, at, vb * BV, BK, BV)).to(REAL)
            kept += tl.sum(begin * square(after, K, V, at, vb * BV, BK, BV).to(REAL), axis=1)[None, :]
        kept *= tl.exp(total(g, gt, t, T, at, GK, BG, REAL))
        dgates += by_gate(kept, BG)
    for r in tl.static_range(R):
        found = tl.zeros((C, BK), REAL)
        for vb in range(VB):
            begin = finite(square(before, K, V, at, vb * BV, BK, BV))
            dreads = tile(sort(dread, r, B, T, H, V), H * V, t, T, vb * BV, V, BV)
            found += product(dreads, tl.trans(begin), DATA, REAL)
        if g is not None:
            found *= tl.exp(since(g, gt, t, n * C, T, at, GK, SHIFT if r == 0 else 1, BG, REAL))
            seen = entry(sort(rows, r, B, T, G, K), RT, t, T, at, K, BK)
            dgates += over(later(SHIFT if r == 0 else 1, C, REAL), by_gate(found * seen, BG), BG, REAL)
        put(sort(drows, r, B, T, H, K), found, H * K, t, T, at, K, BK)
    for s in tl.static_range(S):
        found = tl.zeros((C, BK), REAL)
        for vb in range(VB):
            end = square(after, K, V, at, vb * BV, BK, BV)
            given = entry(sort(values, s, B, T, H, V), VT, t, T, vb * BV, V, BV)
            found += product(given, tl.trans(end), DATA, REAL)
        if g is not None:
            found *= tl.exp(until(g, gt, t, min(n * C + C, T), at, GK, BG, REAL))
            keys = entry(sort(columns, s, B, T, G, K), CT, t, T, at, K, BK)
            dgates += over(earlier(C, REAL), by_gate(found * keys, BG), BG, REAL)
        put(sort(dcolumns, s, B, T, H, K), found, H * K, t, T, at, K, BK)
    if g is not None:
        if BG == 1:
            put(of_head(dg, head, T, H, H, KB), dgates, H * KB, t, T, kb, KB, 1)
        else:
            put(of_head(dg, head, T, H, H, K), dgates, H * K, t, T, at, K, BK)


@triton.jit
def by_gate(x, BG: tl.constexpr):
    """[steps, keys], summed over the keys that share a gate."""
    if BG == 1:
        return tl.sum(x, axis=1, keep_dims=True)
    else:
        return x


@triton.jit
def over(which, x, BG: tl.constexpr, REAL: tl.constexpr):
    """Sums over the steps of x [steps, BG] that are chosen for each gate [gates, steps]."""
    if BG == 1:
        return tl.sum(which * tl.trans(x), axis=1, keep_dims=True)
    else:
        return product(which, x, REAL, REAL)


@triton.jit
def inner_grads_by_head(
    rows, columns, values, g, dread, drows, dcolumns, parts, dg, B, T, N, gb, gt, gh, RT, RH, CT, CH, VT, VH,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    SHIFT: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, KB: tl.constexpr, BV: tl.constexpr, VB: tl.constexpr,
    DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Adds the gradients of rows and columns inside a chunk, and sums those of g [B,T,H]."""
    head, n, _ = place(N, 1)
    t = n * C + tl.arange(0, C)
    rows, columns = of_row(rows, head, T, RT, RH, H, G), of_row(columns, head, T, CT, CH, H, G)
    drows, dcolumns = of_head(drows, head, T, H, H, K), of_head(dcolumns, head, T, H, H, K)
    values, dread = of_row(values, head, T, VT, VH, H, H), of_head(dread, head, T, H, H, V)
    if g is not None:
        g += head // H * gb + head % H * gh
    dgates = tl.zeros((C, 1), REAL)
    for r in tl.static_range(R):
        row, drow, dreads = sort(rows, r, B, T, G, K), sort(drows, r, B, T, H, K), sort(dread, r, B, T, H, V)
        damped = between(g, gt, n * C, T, SHIFT if r == 0 else 1, C, REAL)
        for s in tl.static_range(S):
            column, dcolumn = sort(columns, s, B, T, G, K), sort(dcolumns, s, B, T, H, K)
            given = sort(values, s, B, T, H, V)
            dmet = damped * chunk_weights(dreads, given, t, T, H * V, VT, V, C, BV, VB, DATA, REAL)
            if g is not None:
                met = tl.zeros((C, C), REAL)
                for kb in range(KB):
                    seen = entry(row, RT, t, T, kb * BK, K, BK)
                    met += product(seen, tl.trans(entry(column, CT, t, T, kb * BK, K, BK)), DATA, REAL)
                shared = product(later(SHIFT if r == 0 else 1, C, REAL), dmet * met, REAL, REAL)
                dgates += tl.sum(shared * earlier(C, REAL), axis=1, keep_dims=True)
            for kb in range(KB):
                at = kb * BK
                seen, keys = entry(row, RT, t, T, at, K, BK), entry(column, CT, t, T, at, K, BK)
                dseen = tile(drow, H * K, t, T, at, K, BK) + product(dmet, keys, DATA, REAL)
                dkeys = tile(dcolumn, H * K, t, T, at, K, BK) + product(tl.trans(dmet), seen, DATA, REAL)
                put(drow, dseen, H * K, t, T, at, K, BK)
                put(dcolumn, dkeys, H * K, t, T, at, K, BK)
            if R * S > 1:
                tl.debug_barrier()
    if g is not None:
        for kb in range(KB):
            dgates += tile(of_head(parts, head, T, H, H, KB), H * KB, t, T, kb, KB, 1)
        put(of_head(dg, head, T, H, H, 1), dgates, H, t, T, 0, 1, 1)


@triton.jit
def inner_grads_by_key(
    rows, columns, g, dfound, drows, dcolumns, dg, B, T, N, gb, gt, gh, RT, RH, CT, CH, VT, VH,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, R: tl.constexpr, S: tl.constexpr, SHIFT: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, KB: tl.constexpr, SUB: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Adds the gradients inside a chunk that a block of steps has."""
    head, n, part = place(N, C // SUB * KB)
    block, at = part // KB, part % KB * BK
    first = n * C + block * SUB
    end = min(first + SUB, T)
    t, whole = first + tl.arange(0, SUB), n * C + tl.arange(0, C)
    i = tl.arange(0, SUB)
    rows, columns = of_row(rows, head, T, RT, RH, H, G), of_row(columns, head, T, CT, CH, H, G)
    drows, dcolumns = of_head(drows, head, T, H, H, K), of_head(dcolumns, head, T, H, H, K)
    dg = of_head(dg, head, T, H, H, K)
    dfound += (head * N + n) * R * S * C * C
    g += head // H * gb + head % H * gh
    dgates = tile(dg, H * K, t, T, at, K, BK)
    for r in tl.static_range(R):
        row, drow = sort(rows, r, B, T, G, K), sort(drows, r, B, T, H, K)
        seen = entry(row, RT, t, T, at, K, BK).to(REAL)
        dseen = tile(drow, H * K, t, T, at, K, BK)
        for s in tl.static_range(S):
            column, dcolumn = sort(columns, s, B, T, G, K), sort(dcolumns, s, B, T, H, K)
            dmet = dfound + (r * S + s) * C * C
            keys = entry(column, CT, t, T, at, K, BK).to(REAL)
            dkeys = tile(dcolumn, H * K, t, T, at, K, BK)
            if C > SUB:
                # Columns before the block, as they are at its start, and rows after it, as they see its end.
                ahead = entry(column, CT, whole, min(first, T), at, K, BK)
                ahead = ahead * tl.exp(until(g, gt, whole, min(first, T), at, K, BK, REAL))
                behind = entry(row, RT, tl.where(whole < first + SUB, -1, whole), T, at, K, BK)
                low = first + SUB
                behind = behind * tl.exp(since(g, gt, whole, low, T, at, K, SHIFT if r == 0 else 1, BK, REAL))
                from_ahead = product(square(dmet, C, C, block * SUB, 0, SUB, C), ahead, DATA, REAL)
                from_ahead *= tl.exp(since(g, gt, t, first, T, at, K, SHIFT if r == 0 else 1, BK, REAL))
                from_behind = product(tl.trans(square(dmet, C, C, 0, block * SUB, C, SUB)), behind, DATA, REAL)
                from_behind *= tl.exp(until(g, gt, t, end, at, K, BK, REAL))
                across = behind * product(square(dmet, C, C, 0, 0, C, C), ahead, DATA, REAL)
                kept = tl.exp(total(g, gt, t, T, at, K, BK, REAL))
                dgates += tl.sum(across, axis=0, keep_dims=True) * kept
                dgates += product(later(SHIFT if r == 0 else 1, SUB, REAL), seen * from_ahead, REAL, REAL)
                dgates += product(earlier(SUB, REAL), keys * from_behind, REAL, REAL)
                dseen += from_ahead
                dkeys += from_behind
            sums = tl.zeros((SUB, BK), REAL)
            for back in range(SUB):
                j = SUB - 1 - back
                step = first + j + tl.zeros((1,), tl.int32)
                key = entry(column, CT, step, T, at, K, BK).to(REAL)
                gate = gates(g, gt, step + 1, first, end, at, K, BK, REAL)
                sums += tl.where((i > j + (SHIFT if r == 0 else 1))[:, None], gate, 0.0)
                met_by = tl.load(dmet + (block * SUB + i) * C + block * SUB + j)[:, None] * tl.exp(sums)
                dseen += met_by * key
                shared = met_by * seen
                dkeys += tl.where((i == j)[:, None], tl.sum(shared, axis=0, keep_dims=True), 0.0)
                summed = product(later(SHIFT if r == 0 else 1, SUB, REAL), shared * key, REAL, REAL)
                dgates += tl.where((i > j)[:, None], summed, 0.0)
            put(dcolumn, dkeys, H * K, t, T, at, K, BK)
            if R > 1:
                tl.debug_barrier()
        put(drow, dseen, H * K, t, T, at, K, BK)
    put(dg, dgates, H * K, t, T, at, K, BK)
