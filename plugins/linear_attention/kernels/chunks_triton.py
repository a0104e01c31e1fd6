"""The algebra of `chunked` and `rank_one`, which see, on a GPU: kernels of Triton.

In a chunk of steps, rows (queries) meet columns (keys), and each column brings values. There are one or two sorts of both: q meets k with its v,
and where the transition has rank one, b meets too, and a brings what b has met, z. What is read, y, is that of q; z is that of b. Backward
each row brings a gradient: q that of y, b that of z.

Forward: `states` walks over the chunks and writes the memory before each. Where there is z, `pairs_by_head` or `pairs_by_key` first write what
rows and columns of a chunk see of each other, `solve` the solution of its triangular system, and `walk` goes in the place of `states`. `outputs`
reads all of it. Backward: `ends` or `walk_back` walk the other way, with the gradient of the memory after each chunk; `weights` are the
gradients of the pairs; `outer_grads` are those by way of the memories, `inner_grads_by_head` and `inner_grads_by_key` add those inside a chunk,
and `value_grads` are those of v.

Gates are only ever added, as in `chunked`, and what they share of the gradient is only ever added too: that of a gate is a sum over all pairs
of an earlier column and a later row, none of which is taken off again. With a gate per key a chunk is cut into blocks of SUB steps: a
pair in two blocks meets by way of the start of the later one, in products of matrices; a pair in one block is computed by itself.

What is not finite reaches all later steps up to the next at which nothing of the memory stays, and no other: it is left out of all products, and
marked at the end. Backward it is only left out.

Shapes: rows [R,B,T,G,K]; columns [S,B,T,G,K]; values [S,B,T,H,V]; gradients of what rows read [R,B,T,H,V]; all contiguous; g with strides of
its own, one number for each head or K of them; memories [B*H,N,K,V]; pairs [B*H,N,R,S,C,C]. SHIFT is 1 where q reads before its step's input has
entered, as b always does. DATA is the type that matrices are multiplied in, REAL that of sums.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def product(a, b, DATA: tl.constexpr, REAL: tl.constexpr):
    """a b. What is float32 stays so: it is given in three parts to units that round."""
    if tl.float32 == DATA:
        return tl.dot(a.to(DATA), b.to(DATA), out_dtype=REAL, input_precision="tf32x3")
    else:
        return tl.dot(a.to(DATA), b.to(DATA), out_dtype=REAL)


# Places.


@triton.jit
def tile(x, base, stride, t, T, at, size, BLOCK: tl.constexpr):
    """[steps, BLOCK] of x, zero beyond both ends."""
    i = at + tl.arange(0, BLOCK)
    there = (t >= 0) & (t < T)
    return tl.load(
        x + base + t[:, None].to(tl.int64) * stride + i[None, :], mask=there[:, None] & (i < size)[None, :], other=0.0
    )


@triton.jit
def put(x, value, base, stride, t, T, at, size, BLOCK: tl.constexpr):
    i = at + tl.arange(0, BLOCK)
    tl.store(
        x + base + t[:, None].to(tl.int64) * stride + i[None, :], value, mask=(t < T)[:, None] & (i < size)[None, :]
    )


@triton.jit
def square(x, base, rows, columns, at, to, BR: tl.constexpr, BC: tl.constexpr):
    """[BR, BC] of a matrix [rows, columns]."""
    i, j = at + tl.arange(0, BR), to + tl.arange(0, BC)
    there = (i < rows)[:, None] & (j < columns)[None, :]
    return tl.load(x + base + i[:, None] * columns + j[None, :], mask=there, other=0.0)


@triton.jit
def put_square(x, value, base, rows, columns, at, to, BR: tl.constexpr, BC: tl.constexpr):
    i, j = at + tl.arange(0, BR), to + tl.arange(0, BC)
    there = (i < rows)[:, None] & (j < columns)[None, :]
    tl.store(x + base + i[:, None] * columns + j[None, :], value, mask=there)


# What is not finite.


@triton.jit
def finite(x):
    """Numbers as they are, zero for what is none."""
    return tl.where(tl.abs(x) < float("inf"), x, 0.0)


@triton.jit
def entry(x, base, stride, t, T, at, size, BLOCK: tl.constexpr):
    """As `tile`, of what may not get anywhere else where it is not finite."""
    return finite(tile(x, base, stride, t, T, at, size, BLOCK))


@triton.jit
def bad(x):
    """One where something is no number."""
    return tl.where(tl.abs(x) < float("inf"), 0, 1)


@triton.jit
def bad_rows(x, base, stride, t, T, at, size, BLOCK: tl.constexpr):
    """[steps, 1], one where something along a row is no number."""
    return tl.max(bad(tile(x, base, stride, t, T, at, size, BLOCK)), axis=1, keep_dims=True)


@triton.jit
def bad_gates(g, base, stride, t, T, at, size, BLOCK: tl.constexpr):
    """[steps, 1], one where a gate is no number, nor minus infinity."""
    found = tile(g, base, stride, t, T, at, size, BLOCK)
    return tl.max(tl.where(found < float("inf"), 0, 1), axis=1, keep_dims=True)


@triton.jit
def cuts(g, base, stride, t, T, at, size, BLOCK: tl.constexpr):
    """[steps, 1], one where nothing of the memory stays."""
    i = at + tl.arange(0, BLOCK)
    found = tile(g, base, stride, t, T, at, size, BLOCK)
    return tl.min(tl.where((found == -float("inf")) | (i >= size)[None, :], 1, 0), axis=1, keep_dims=True)


@triton.jit
def marked(x, spoiled):
    return tl.where(spoiled > 0, float("nan"), x)


@triton.jit
def carried(spoiled, enters, g, base, stride, t, T, at, size, BLOCK: tl.constexpr):
    """[1, values]: what is spoiled after a chunk, from what was before it and what enters [steps, 1 or values]."""
    if g is not None:
        enters = tl.maximum(enters, bad_gates(g, base, stride, t, T, at, size, BLOCK))
        cut = cuts(g, base, stride, t, T, at, size, BLOCK)
        enters = tl.where(tl.cumsum(cut, axis=0, reverse=True) - cut == 0, enters, 0)
        spoiled = tl.where(tl.max(cut, axis=0, keep_dims=True) > 0, 0, spoiled)
    return tl.maximum(spoiled, tl.max(enters, axis=0, keep_dims=True))


# Gates.


@triton.jit
def gates(g, base, stride, t, low, high, at, size, BLOCK: tl.constexpr, REAL: tl.constexpr):
    """[steps, BLOCK] of the gates in [low, high), none elsewhere."""
    i = at + tl.arange(0, BLOCK)
    there = (t >= low) & (t < high)
    place = g + base + t[:, None].to(tl.int64) * stride + i[None, :]
    found = tl.load(place, mask=there[:, None] & (i < size)[None, :], other=0.0).to(REAL)
    return tl.where(found < float("inf"), found, 0.0)


@triton.jit
def since(g, base, stride, t, first, T, at, size, SHIFT: tl.constexpr, BLOCK: tl.constexpr, REAL: tl.constexpr):
    """Sums of the gates from ``first`` to what each row sees."""
    return tl.cumsum(gates(g, base, stride, t - SHIFT, first, T, at, size, BLOCK, REAL), axis=0)


@triton.jit
def until(g, base, stride, t, end, at, size, BLOCK: tl.constexpr, REAL: tl.constexpr):
    """Sums of the gates after each step and before ``end``."""
    return tl.cumsum(gates(g, base, stride, t + 1, 0, end, at, size, BLOCK, REAL), axis=0, reverse=True)


@triton.jit
def total(g, base, stride, t, T, at, size, BLOCK: tl.constexpr, REAL: tl.constexpr):
    """The sum of the gates of all steps [1, BLOCK]."""
    return tl.sum(gates(g, base, stride, t, 0, T, at, size, BLOCK, REAL), axis=0, keep_dims=True)


@triton.jit
def between(g, base, stride, first, T, SHIFT: tl.constexpr, C: tl.constexpr, REAL: tl.constexpr):
    """exp of the sums of the gates between a column and a row of a chunk [C, C], zero where they do not meet."""
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    meet = j + SHIFT <= i
    if g is None:
        return tl.where(meet, 1.0, 0.0).to(REAL)
    else:
        own = gates(g, base, stride, first + tl.arange(0, C) - SHIFT, first, T, 0, 1, 1, REAL)
        sums = tl.cumsum(tl.where(j < i - SHIFT, own, 0.0), axis=0)
        return tl.where(meet, tl.exp(tl.where(meet, sums, 0.0)), 0.0)


@triton.jit
def later(SHIFT: tl.constexpr, C: tl.constexpr, REAL: tl.constexpr):
    """[C, C], one where a row has a gate before it: to sum over all later rows."""
    gate, i = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    return tl.where(gate + SHIFT <= i, 1.0, 0.0).to(REAL)


@triton.jit
def earlier(C: tl.constexpr, REAL: tl.constexpr):
    """[C, C], one where a column has a gate after it."""
    gate, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    return tl.where(j < gate, 1.0, 0.0).to(REAL)


# What rows and columns of a chunk see of each other.


@triton.jit
def pairs_by_head(
    rows, columns, g, found, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, R: tl.constexpr, S: tl.constexpr, SHIFT: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    head, n = (program // N).to(tl.int64), program % N
    b, h = head // H, head % H
    t = n * C + tl.arange(0, C)
    for r in tl.static_range(R):
        damped = between(g, b * gb + h * gh, gt, n * C, T, SHIFT if r == 0 else 1, C, REAL)
        for s in tl.static_range(S):
            met = tl.zeros((C, C), REAL)
            for kb in range((K + BK - 1) // BK):
                seen = tile(rows, ((r * B + b) * T * G + h // (H // G)) * K, G * K, t, T, kb * BK, K, BK)
                given = entry(columns, ((s * B + b) * T * G + h // (H // G)) * K, G * K, t, T, kb * BK, K, BK)
                met += product(seen if r == 0 else finite(seen), tl.trans(given), DATA, REAL)
            put_square(found, met * damped, (((head * N + n) * R + r) * S + s) * C * C, C, C, 0, 0, C, C)


@triton.jit
def pairs_by_key(
    rows, columns, g, found, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, R: tl.constexpr, S: tl.constexpr, SHIFT: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, SUB: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """The rows of a block."""
    BLOCKS: tl.constexpr = C // SUB
    program = tl.program_id(0)
    head, n, block = (program // (N * BLOCKS)).to(tl.int64), program // BLOCKS % N, program % BLOCKS
    b, h = head // H, head % H
    g_base = b * gb + h * gh
    first = n * C + block * SUB
    t, whole = first + tl.arange(0, SUB), n * C + tl.arange(0, C)
    i, j = block * SUB + tl.arange(0, SUB), tl.arange(0, C)
    for r in tl.static_range(R):
        base = ((r * B + b) * T * G + h // (H // G)) * K
        for s in tl.static_range(S):
            other = ((s * B + b) * T * G + h // (H // G)) * K
            met = tl.zeros((SUB, C), REAL)
            for kb in range((K + BK - 1) // BK):
                at = kb * BK
                seen = tile(rows, base, G * K, t, T, at, K, BK).to(REAL)
                seen = seen if r == 0 else finite(seen)
                if block > 0:
                    ahead = entry(columns, other, G * K, whole, min(first, T), at, K, BK)
                    ahead = ahead * tl.exp(until(g, g_base, gt, whole, min(first, T), at, K, BK, REAL))
                    damped = tl.exp(since(g, g_base, gt, t, first, T, at, K, SHIFT if r == 0 else 1, BK, REAL))
                    met += product(seen * damped, tl.trans(ahead), DATA, REAL)
                sums = tl.zeros((SUB, BK), REAL)
                for back in range(SUB):
                    place = block * SUB + SUB - 1 - back
                    step = n * C + place + tl.zeros((1,), tl.int32)
                    given = entry(columns, other, G * K, step, T, at, K, BK).to(REAL)
                    gate = gates(g, g_base, gt, step + 1, first, min(first + SUB, T), at, K, BK, REAL)
                    sums += tl.where((i > place + (SHIFT if r == 0 else 1))[:, None], gate, 0.0)
                    one = tl.sum(seen * given * tl.exp(sums), axis=1)
                    meet = i >= place + (SHIFT if r == 0 else 1)
                    met += tl.where((j == place)[None, :] & meet[:, None], one[:, None], 0.0)
            put_square(found, met, (((head * N + n) * R + r) * S + s) * C * C, C, C, block * SUB, 0, SUB, C)


@triton.jit
def weights(
    dread, values, dfound, B, T, N,
    H: tl.constexpr, V: tl.constexpr, R: tl.constexpr, S: tl.constexpr, SHIFT: tl.constexpr,
    C: tl.constexpr, BV: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """The gradients of the pairs of a chunk, zero where they do not meet."""
    program = tl.program_id(0)
    head, n, pair = (program // (N * R * S)).to(tl.int64), program // (R * S) % N, program % (R * S)
    base, other = (pair // S * B + head // H) * T * H + head % H, (pair % S * B + head // H) * T * H + head % H
    t = n * C + tl.arange(0, C)
    met = chunk_weights(dread, values, base * V, other * V, t, T, H, V, C, BV, DATA, REAL)
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    met = tl.where(j + tl.where(pair < S, SHIFT, 1) <= i, met, 0.0)
    put_square(dfound, met, ((head * N + n) * R * S + pair) * C * C, C, C, 0, 0, C, C)


@triton.jit
def chunk_weights(
    dread, values, base, other, t, T, H: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BV: tl.constexpr,
    DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """The gradients of all pairs of a chunk [C, C], whether they meet or not."""
    met = tl.zeros((C, C), REAL)
    for vb in range((V + BV - 1) // BV):
        dreads = tile(dread, base, H * V, t, T, vb * BV, V, BV)
        given = entry(values, other, H * V, t, T, vb * BV, V, BV)
        met += product(dreads, tl.trans(given), DATA, REAL)
    return met


# From chunk to chunk.


@triton.jit
def states(
    columns, values, g, start, before, last, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, BY_KEY: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, WV: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """The memory before every chunk, and after the last."""
    KB: tl.constexpr = (K + BK - 1) // BK
    VB: tl.constexpr = (V + WV - 1) // WV
    BG: tl.constexpr = BK if BY_KEY else 1
    GK: tl.constexpr = K if BY_KEY else 1
    program = tl.program_id(0)
    head, at, to = (program // (KB * VB)).to(tl.int64), program // VB % KB * BK, program % VB * WV
    b, h = head // H, head % H
    base, v_base, g_base = (b * T * G + h // (H // G)) * K, (b * T * H + h) * V, b * gb + h * gh
    g_at = at if BY_KEY else 0
    s, spoiled = tl.zeros((BK, WV), REAL), tl.zeros((1, WV), tl.int32)
    if start is not None:
        begin = square(start, head * K * V, K, V, at, to, BK, WV).to(REAL)
        spoiled = tl.max(bad(begin), axis=0, keep_dims=True)
        s += finite(begin)
    for n in range(N):
        put_square(before, marked(s, spoiled).to(DATA), (head * N + n) * K * V, K, V, at, to, BK, WV)
        t = n * C + tl.arange(0, C)
        keys, given = tile(columns, base, G * K, t, T, at, K, BK), tile(values, v_base, H * V, t, T, to, V, WV)
        enters = tl.maximum(tl.max(bad(keys), axis=1, keep_dims=True), bad(given))
        spoiled = carried(spoiled, enters, g, g_base, gt, t, T, g_at, GK, BG)
        keys = finite(keys)
        if g is not None:
            keys = keys * tl.exp(until(g, g_base, gt, t, min(n * C + C, T), g_at, GK, BG, REAL))
            s *= tl.trans(tl.exp(total(g, g_base, gt, t, T, g_at, GK, BG, REAL)))
        s += product(tl.trans(keys), finite(given), DATA, REAL)
    put_square(last, marked(s, spoiled), head * K * V, K, V, at, to, BK, WV)


@triton.jit
def ends(
    rows, dread, g, dlast, after, dstart, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, SHIFT: tl.constexpr, BY_KEY: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, WV: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """The gradient of the memory after every chunk, and of that before the first."""
    KB: tl.constexpr = (K + BK - 1) // BK
    VB: tl.constexpr = (V + WV - 1) // WV
    BG: tl.constexpr = BK if BY_KEY else 1
    GK: tl.constexpr = K if BY_KEY else 1
    program = tl.program_id(0)
    head, at, to = (program // (KB * VB)).to(tl.int64), program // VB % KB * BK, program % VB * WV
    b, h = head // H, head % H
    base, v_base, g_base = (b * T * G + h // (H // G)) * K, (b * T * H + h) * V, b * gb + h * gh
    g_at = at if BY_KEY else 0
    ds = square(dlast, head * K * V, K, V, at, to, BK, WV).to(REAL)
    for back in range(N):
        n = N - 1 - back
        put_square(after, ds.to(DATA), (head * N + n) * K * V, K, V, at, to, BK, WV)
        t = n * C + tl.arange(0, C)
        seen = entry(rows, base, G * K, t, T, at, K, BK)
        if g is not None:
            seen = seen * tl.exp(since(g, g_base, gt, t, n * C, T, g_at, GK, SHIFT, BG, REAL))
            ds *= tl.trans(tl.exp(total(g, g_base, gt, t, T, g_at, GK, BG, REAL)))
        ds += product(tl.trans(seen), tile(dread, v_base, H * V, t, T, to, V, WV), DATA, REAL)
    put_square(dstart, ds, head * K * V, K, V, at, to, BK, WV)


# What b meets.


@triton.jit
def inverse(found, base, C: tl.constexpr, SUB: tl.constexpr, REAL: tl.constexpr):
    """(1 - A)^-1 for a matrix [C, C] whose entries are below the diagonal: row by row in blocks of SUB, then block by block."""
    BLOCKS: tl.constexpr = C // SUB
    block, i, j = tl.arange(0, BLOCKS), tl.arange(0, SUB), tl.arange(0, SUB)
    own = tl.where((i[:, None] == j[None, :])[None, :, :], 1.0, 0.0).to(REAL)
    own = tl.broadcast_to(own, (BLOCKS, SUB, SUB))
    for row in range(1, SUB):
        # What a row has of the rows above it in its block.
        place = found + base + (block[:, None] * SUB + row) * C + block[:, None] * SUB + j[None, :]
        given = tl.load(place)[:, :, None]
        own += tl.where((i == row)[None, :, None], tl.sum(given * own, axis=1, keep_dims=True), 0.0)
    apart = tl.where((block[:, None] == block[None, :])[:, None, :, None], own[:, :, None, :], 0.0)
    diagonal = tl.reshape(apart, (C, C))
    at, to = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    outside = tl.where(at // SUB == to // SUB, 0.0, square(found, base, C, C, 0, 0, C, C))
    one = tl.where(at == to, 1.0, 0.0).to(REAL)
    solved = diagonal
    for _ in range(BLOCKS - 1):
        # Each time one more block of rows is as it will stay.
        solved = product(diagonal, one + product(outside, solved, REAL, REAL), REAL, REAL)
    return solved


@triton.jit
def solve(
    rows, values, g, found, solved, met, fresh, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    BY_KEY: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, SUB: tl.constexpr,
    DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """z = met S + fresh, for S before the chunk: the inverse [B*H,N,C,C], met [B,T,H,K] and fresh [B,T,H,V]."""
    BG: tl.constexpr = BK if BY_KEY else 1
    GK: tl.constexpr = K if BY_KEY else 1
    program = tl.program_id(0)
    head, n = (program // N).to(tl.int64), program % N
    b, h = head // H, head % H
    own, g_base = b * T * H + h, b * gb + h * gh
    t = n * C + tl.arange(0, C)
    pair = ((head * N + n) * R + 1) * S * C * C
    whole = inverse(found, pair + C * C, C, SUB, REAL)
    put_square(solved, whole, (head * N + n) * C * C, C, C, 0, 0, C, C)
    for kb in range((K + BK - 1) // BK):
        at = kb * BK
        seen = entry(rows, ((B + b) * T * G + h // (H // G)) * K, G * K, t, T, at, K, BK)
        if g is not None:
            seen = seen * tl.exp(since(g, g_base, gt, t, n * C, T, at if BY_KEY else 0, GK, 1, BG, REAL))
        put(met, product(whole, seen, DATA, REAL), own * K, H * K, t, T, at, K, BK)
    others = product(whole, square(found, pair, C, C, 0, 0, C, C), REAL, REAL)
    for vb in range((V + BV - 1) // BV):
        given = entry(values, own * V, H * V, t, T, vb * BV, V, BV)
        put(fresh, product(others, given, DATA, REAL), own * V, H * V, t, T, vb * BV, V, BV)


@triton.jit
def walk(
    rows, columns, values, g, met, fresh, start, before, z, last, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, BY_KEY: tl.constexpr,
    C: tl.constexpr, WK: tl.constexpr, WV: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """As `states`, with all keys in one program; and z [B,T,H,V]."""
    VB: tl.constexpr = (V + WV - 1) // WV
    BG: tl.constexpr = WK if BY_KEY else 1
    GK: tl.constexpr = K if BY_KEY else 1
    program = tl.program_id(0)
    head, to = (program // VB).to(tl.int64), program % VB * WV
    b, h = head // H, head % H
    key, other = (b * T * G + h // (H // G)) * K, ((B + b) * T * G + h // (H // G)) * K
    own, g_base = b * T * H + h, b * gb + h * gh
    s, spoiled = tl.zeros((WK, WV), REAL), tl.zeros((1, WV), tl.int32)
    if start is not None:
        begin = square(start, head * K * V, K, V, 0, to, WK, WV).to(REAL)
        spoiled = tl.max(bad(begin), axis=0, keep_dims=True)
        s += finite(begin)
    for n in range(N):
        put_square(before, marked(s, spoiled).to(DATA), (head * N + n) * K * V, K, V, 0, to, WK, WV)
        t = n * C + tl.arange(0, C)
        keys, given = tile(columns, key, G * K, t, T, 0, K, WK), tile(values, own * V, H * V, t, T, to, V, WV)
        lefts = tile(columns, other, G * K, t, T, 0, K, WK)
        enters = tl.maximum(tl.max(tl.maximum(bad(keys), bad(lefts)), axis=1, keep_dims=True), bad(given))
        enters = tl.maximum(enters, bad_rows(rows, other, G * K, t, T, 0, K, WK))
        spoiled = carried(spoiled, enters, g, g_base, gt, t, T, 0, GK, BG)
        keys, lefts = finite(keys), finite(lefts)
        found = product(tile(met, own * K, H * K, t, T, 0, K, WK), s, DATA, REAL)
        found += tile(fresh, own * V, H * V, t, T, to, V, WV)
        put(z, found, own * V, H * V, t, T, to, V, WV)
        if g is not None:
            stays = tl.exp(until(g, g_base, gt, t, min(n * C + C, T), 0, GK, BG, REAL))
            keys, lefts = keys * stays, lefts * stays
            s *= tl.trans(tl.exp(total(g, g_base, gt, t, T, 0, GK, BG, REAL)))
        s += product(tl.trans(keys), finite(given), DATA, REAL) + product(tl.trans(lefts), found, DATA, REAL)
    put_square(last, marked(s, spoiled), head * K * V, K, V, 0, to, WK, WV)


@triton.jit
def solve_back(
    columns, dread, g, found, solved, met, fresh, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    BY_KEY: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """dz = met dS + fresh, for dS after the chunk: met [B,T,H,K] and fresh [B,T,H,V]."""
    BG: tl.constexpr = BK if BY_KEY else 1
    GK: tl.constexpr = K if BY_KEY else 1
    program = tl.program_id(0)
    head, n = (program // N).to(tl.int64), program % N
    b, h = head // H, head % H
    own, g_base = b * T * H + h, b * gb + h * gh
    t = n * C + tl.arange(0, C)
    whole = tl.trans(square(solved, (head * N + n) * C * C, C, C, 0, 0, C, C))
    for kb in range((K + BK - 1) // BK):
        at = kb * BK
        given = entry(columns, ((B + b) * T * G + h // (H // G)) * K, G * K, t, T, at, K, BK)
        if g is not None:
            g_at = at if BY_KEY else 0
            given = given * tl.exp(until(g, g_base, gt, t, min(n * C + C, T), g_at, GK, BG, REAL))
        put(met, product(whole, given, DATA, REAL), own * K, H * K, t, T, at, K, BK)
    seen = finite(square(found, ((head * N + n) * R * S + 1) * C * C, C, C, 0, 0, C, C))
    others = product(whole, tl.trans(seen), REAL, REAL)
    for vb in range((V + BV - 1) // BV):
        dreads = tile(dread, own * V, H * V, t, T, vb * BV, V, BV)
        put(fresh, product(others, dreads, DATA, REAL), own * V, H * V, t, T, vb * BV, V, BV)


@triton.jit
def walk_back(
    rows, dread, g, met, fresh, dlast, after, dz, dstart, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, SHIFT: tl.constexpr, BY_KEY: tl.constexpr,
    C: tl.constexpr, WK: tl.constexpr, WV: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """As `ends`, with all keys in one program; and dz [B,T,H,V]."""
    VB: tl.constexpr = (V + WV - 1) // WV
    BG: tl.constexpr = WK if BY_KEY else 1
    GK: tl.constexpr = K if BY_KEY else 1
    program = tl.program_id(0)
    head, to = (program // VB).to(tl.int64), program % VB * WV
    b, h = head // H, head % H
    query, other = (b * T * G + h // (H // G)) * K, ((B + b) * T * G + h // (H // G)) * K
    own, g_base = b * T * H + h, b * gb + h * gh
    ds = square(dlast, head * K * V, K, V, 0, to, WK, WV).to(REAL)
    for back in range(N):
        n = N - 1 - back
        put_square(after, ds.to(DATA), (head * N + n) * K * V, K, V, 0, to, WK, WV)
        t = n * C + tl.arange(0, C)
        found = product(tile(met, own * K, H * K, t, T, 0, K, WK), ds, DATA, REAL)
        found += tile(fresh, own * V, H * V, t, T, to, V, WV)
        put(dz, found, own * V, H * V, t, T, to, V, WV)
        seen, rights = entry(rows, query, G * K, t, T, 0, K, WK), entry(rows, other, G * K, t, T, 0, K, WK)
        if g is not None:
            seen = seen * tl.exp(since(g, g_base, gt, t, n * C, T, 0, GK, SHIFT, BG, REAL))
            rights = rights * tl.exp(since(g, g_base, gt, t, n * C, T, 0, GK, 1, BG, REAL))
            ds *= tl.trans(tl.exp(total(g, g_base, gt, t, T, 0, GK, BG, REAL)))
        ds += product(tl.trans(seen), tile(dread, own * V, H * V, t, T, to, V, WV), DATA, REAL)
        ds += product(tl.trans(rights), found, DATA, REAL)
    put_square(dstart, ds, head * K * V, K, V, 0, to, WK, WV)


# What is read, and gradients.


@triton.jit
def outputs(
    rows, columns, values, g, before, found, y, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    SHIFT: tl.constexpr, BY_KEY: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """What q reads in a chunk."""
    VB: tl.constexpr = (V + BV - 1) // BV
    BG: tl.constexpr = BK if BY_KEY else 1
    GK: tl.constexpr = K if BY_KEY else 1
    program = tl.program_id(0)
    head, n, to = (program // (N * VB)).to(tl.int64), program // VB % N, program % VB * BV
    b, h = head // H, head % H
    g_base = b * gb + h * gh
    t = n * C + tl.arange(0, C)
    y_base = (b * T * H + h) * V
    enters = bad(tile(values, y_base, H * V, t, T, to, V, BV))
    spoiled, cut = tl.zeros((1, BV), tl.int32), tl.zeros((C, 1), tl.int32) + 1
    read, met = tl.zeros((C, BV), REAL), tl.zeros((C, C), REAL)
    for kb in range((K + BK - 1) // BK):
        at = kb * BK
        queries = tile(rows, (b * T * G + h // (H // G)) * K, G * K, t, T, at, K, BK)
        for s in tl.static_range(S):
            keys = tile(columns, ((s * B + b) * T * G + h // (H // G)) * K, G * K, t, T, at, K, BK)
            enters = tl.maximum(enters, tl.max(bad(keys), axis=1, keep_dims=True))
            if found is None:
                met += product(queries, tl.trans(finite(keys)), DATA, REAL)
        for r in tl.static_range(1, R):
            base = ((r * B + b) * T * G + h // (H // G)) * K
            enters = tl.maximum(enters, bad_rows(rows, base, G * K, t, T, at, K, BK))
        if g is not None:
            g_at = at if BY_KEY else 0
            enters = tl.maximum(enters, bad_gates(g, g_base, gt, t, T, g_at, GK, BG))
            cut = tl.minimum(cut, cuts(g, g_base, gt, t, T, g_at, GK, BG))
            queries = queries * tl.exp(since(g, g_base, gt, t, n * C, T, g_at, GK, SHIFT, BG, REAL))
        memory = square(before, (head * N + n) * K * V, K, V, at, to, BK, BV)
        spoiled = tl.maximum(spoiled, tl.max(bad(memory), axis=0, keep_dims=True))
        read += product(queries, finite(memory), DATA, REAL)
    if found is None:
        met *= between(g, g_base, gt, n * C, T, SHIFT, C, REAL)
    for s in tl.static_range(S):
        if found is not None:
            met = square(found, ((head * N + n) * R * S + s) * C * C, C, C, 0, 0, C, C)
        given = entry(values, ((s * B + b) * T * H + h) * V, H * V, t, T, to, V, BV)
        read += product(met, given, DATA, REAL)
    if tl.max(tl.max(enters, axis=1), axis=0) + tl.max(tl.max(spoiled, axis=1), axis=0) > 0:
        part = tl.cumsum(cut, axis=0) if g is not None else tl.zeros((C, 1), tl.int32)
        i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
        meet = (part == tl.trans(part)) & (j + SHIFT <= i)
        reached = tl.dot(tl.where(meet, 1.0, 0.0).to(tl.float16), enters.to(tl.float16))
        read = marked(read, tl.where((reached > 0) | ((spoiled > 0) & (part == 0)), 1, 0))
    put(y, read, y_base, H * V, t, T, to, V, BV)


@triton.jit
def value_grads(
    rows, columns, g, dread, after, found, dv, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    SHIFT: tl.constexpr, BY_KEY: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """The gradients of v in a chunk."""
    VB: tl.constexpr = (V + BV - 1) // BV
    BG: tl.constexpr = BK if BY_KEY else 1
    GK: tl.constexpr = K if BY_KEY else 1
    program = tl.program_id(0)
    head, n, to = (program // (N * VB)).to(tl.int64), program // VB % N, program % VB * BV
    b, h = head // H, head % H
    base, g_base = (b * T * G + h // (H // G)) * K, b * gb + h * gh
    t = n * C + tl.arange(0, C)
    sums, met = tl.zeros((C, BV), REAL), tl.zeros((C, C), REAL)
    for kb in range((K + BK - 1) // BK):
        at = kb * BK
        keys = entry(columns, base, G * K, t, T, at, K, BK)
        if found is None:
            met += product(entry(rows, base, G * K, t, T, at, K, BK), tl.trans(keys), DATA, REAL)
        if g is not None:
            keys = keys * tl.exp(until(g, g_base, gt, t, min(n * C + C, T), at if BY_KEY else 0, GK, BG, REAL))
        sums += product(keys, square(after, (head * N + n) * K * V, K, V, at, to, BK, BV), DATA, REAL)
    if found is None:
        met *= between(g, g_base, gt, n * C, T, SHIFT, C, REAL)
    for r in tl.static_range(R):
        if found is not None:
            met = finite(square(found, ((head * N + n) * R + r) * S * C * C, C, C, 0, 0, C, C))
        dreads = tile(dread, ((r * B + b) * T * H + h) * V, H * V, t, T, to, V, BV)
        sums += product(tl.trans(met), dreads, DATA, REAL)
    put(dv, sums, (b * T * H + h) * V, H * V, t, T, to, V, BV)


@triton.jit
def outer_grads(
    rows, columns, values, g, dread, before, after, drows, dcolumns, dg, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    SHIFT: tl.constexpr, BY_KEY: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Gradients by way of the memories at both ends of a chunk: of rows [R,B,T,H,K], columns [S,B,T,H,K] and g, [B,T,H,K] or in parts
    [B,T,H,KB]."""
    KB: tl.constexpr = (K + BK - 1) // BK
    BG: tl.constexpr = BK if BY_KEY else 1
    GK: tl.constexpr = K if BY_KEY else 1
    program = tl.program_id(0)
    head, n, kb = (program // (N * KB)).to(tl.int64), program // KB % N, program % KB
    at = kb * BK
    b, h = head // H, head % H
    g_base, g_at = b * gb + h * gh, at if BY_KEY else 0
    t = n * C + tl.arange(0, C)
    memory = (head * N + n) * K * V
    dgates = tl.zeros((C, BG), REAL)
    if g is not None:
        kept = tl.zeros((1, BK), REAL)
        for vb in range((V + BV - 1) // BV):
            begin = finite(square(before, memory, K, V, at, vb * BV, BK, BV)).to(REAL)
            end = square(after, memory, K, V, at, vb * BV, BK, BV).to(REAL)
            kept += tl.sum(begin * end, axis=1)[None, :]
        kept *= tl.exp(total(g, g_base, gt, t, T, g_at, GK, BG, REAL))
        dgates += by_gate(kept, BY_KEY)
    for r in tl.static_range(R):
        found = tl.zeros((C, BK), REAL)
        for vb in range((V + BV - 1) // BV):
            begin = finite(square(before, memory, K, V, at, vb * BV, BK, BV))
            dreads = tile(dread, ((r * B + b) * T * H + h) * V, H * V, t, T, vb * BV, V, BV)
            found += product(dreads, tl.trans(begin), DATA, REAL)
        if g is not None:
            found *= tl.exp(since(g, g_base, gt, t, n * C, T, g_at, GK, SHIFT if r == 0 else 1, BG, REAL))
            seen = entry(rows, ((r * B + b) * T * G + h // (H // G)) * K, G * K, t, T, at, K, BK)
            dgates += over(later(SHIFT if r == 0 else 1, C, REAL), by_gate(found * seen, BY_KEY), BY_KEY, REAL)
        put(drows, found, ((r * B + b) * T * H + h) * K, H * K, t, T, at, K, BK)
    for s in tl.static_range(S):
        found = tl.zeros((C, BK), REAL)
        for vb in range((V + BV - 1) // BV):
            end = square(after, memory, K, V, at, vb * BV, BK, BV)
            given = entry(values, ((s * B + b) * T * H + h) * V, H * V, t, T, vb * BV, V, BV)
            found += product(given, tl.trans(end), DATA, REAL)
        if g is not None:
            found *= tl.exp(until(g, g_base, gt, t, min(n * C + C, T), g_at, GK, BG, REAL))
            keys = entry(columns, ((s * B + b) * T * G + h // (H // G)) * K, G * K, t, T, at, K, BK)
            dgates += over(earlier(C, REAL), by_gate(found * keys, BY_KEY), BY_KEY, REAL)
        put(dcolumns, found, ((s * B + b) * T * H + h) * K, H * K, t, T, at, K, BK)
    if g is not None:
        if BY_KEY:
            put(dg, dgates, (b * T * H + h) * K, H * K, t, T, at, K, BK)
        else:
            put(dg, dgates, (b * T * H + h) * KB, H * KB, t, T, kb, KB, 1)


@triton.jit
def by_gate(x, BY_KEY: tl.constexpr):
    """[steps, keys], summed over the keys that share a gate."""
    if BY_KEY:
        return x
    else:
        return tl.sum(x, axis=1, keep_dims=True)


@triton.jit
def over(which, x, BY_KEY: tl.constexpr, REAL: tl.constexpr):
    """Sums over the steps of x [steps, keys or 1] that are chosen for each gate [gates, steps]."""
    if BY_KEY:
        return product(which, x, REAL, REAL)
    else:
        return tl.sum(which * tl.trans(x), axis=1, keep_dims=True)


@triton.jit
def inner_grads_by_head(
    rows, columns, values, g, dread, drows, dcolumns, parts, dg, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, V: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    SHIFT: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Adds the gradients of rows and columns inside a chunk, and sums those of g [B,T,H]."""
    KB: tl.constexpr = (K + BK - 1) // BK
    program = tl.program_id(0)
    head, n = (program // N).to(tl.int64), program % N
    b, h = head // H, head % H
    g_base = b * gb + h * gh
    t = n * C + tl.arange(0, C)
    dgates = tl.zeros((C, 1), REAL)
    for r in tl.static_range(R):
        row, drow = ((r * B + b) * T * G + h // (H // G)) * K, ((r * B + b) * T * H + h) * K
        damped = between(g, g_base, gt, n * C, T, SHIFT if r == 0 else 1, C, REAL)
        for s in tl.static_range(S):
            column, dcolumn = ((s * B + b) * T * G + h // (H // G)) * K, ((s * B + b) * T * H + h) * K
            v_base = ((s * B + b) * T * H + h) * V
            dmet = damped * chunk_weights(
                dread, values, ((r * B + b) * T * H + h) * V, v_base, t, T, H, V, C, BV, DATA, REAL
            )
            if g is not None:
                met = tl.zeros((C, C), REAL)
                for kb in range(KB):
                    seen = entry(rows, row, G * K, t, T, kb * BK, K, BK)
                    keys = entry(columns, column, G * K, t, T, kb * BK, K, BK)
                    met += product(seen, tl.trans(keys), DATA, REAL)
                shared = product(later(SHIFT if r == 0 else 1, C, REAL), dmet * met, REAL, REAL)
                dgates += tl.sum(shared * earlier(C, REAL), axis=1, keep_dims=True)
            for kb in range(KB):
                at = kb * BK
                seen, keys = entry(rows, row, G * K, t, T, at, K, BK), entry(columns, column, G * K, t, T, at, K, BK)
                dseen = tile(drows, drow, H * K, t, T, at, K, BK) + product(dmet, keys, DATA, REAL)
                dkeys = tile(dcolumns, dcolumn, H * K, t, T, at, K, BK) + product(tl.trans(dmet), seen, DATA, REAL)
                put(drows, dseen, drow, H * K, t, T, at, K, BK)
                put(dcolumns, dkeys, dcolumn, H * K, t, T, at, K, BK)
            if R * S > 1:
                tl.debug_barrier()
    if g is not None:
        for kb in range(KB):
            dgates += tile(parts, (b * T * H + h) * KB, H * KB, t, T, kb, KB, 1)
        put(dg, dgates, b * T * H + h, H, t, T, 0, 1, 1)


@triton.jit
def inner_grads_by_key(
    rows, columns, g, dfound, drows, dcolumns, dg, B, T, N, gb, gt, gh,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, R: tl.constexpr, S: tl.constexpr, SHIFT: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, SUB: tl.constexpr, DATA: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Adds the gradients inside a chunk that a block of steps has."""
    KB: tl.constexpr = (K + BK - 1) // BK
    BLOCKS: tl.constexpr = C // SUB
    program = tl.program_id(0)
    head, n = (program // (N * BLOCKS * KB)).to(tl.int64), program // (BLOCKS * KB) % N
    block, at = program // KB % BLOCKS, program % KB * BK
    b, h = head // H, head % H
    g_base = b * gb + h * gh
    first = n * C + block * SUB
    end = min(first + SUB, T)
    t, whole = first + tl.arange(0, SUB), n * C + tl.arange(0, C)
    i = tl.arange(0, SUB)
    dgates = tile(dg, (b * T * H + h) * K, H * K, t, T, at, K, BK)
    for r in tl.static_range(R):
        row, drow = ((r * B + b) * T * G + h // (H // G)) * K, ((r * B + b) * T * H + h) * K
        seen = entry(rows, row, G * K, t, T, at, K, BK).to(REAL)
        dseen = tile(drows, drow, H * K, t, T, at, K, BK)
        for s in tl.static_range(S):
            column, dcolumn = ((s * B + b) * T * G + h // (H // G)) * K, ((s * B + b) * T * H + h) * K
            met = (((head * N + n) * R + r) * S + s) * C * C
            keys = entry(columns, column, G * K, t, T, at, K, BK).to(REAL)
            dkeys = tile(dcolumns, dcolumn, H * K, t, T, at, K, BK)
            if C > SUB:
                # Columns before the block, as they are at its start, and rows after it, as they see its end.
                ahead = entry(columns, column, G * K, whole, min(first, T), at, K, BK)
                ahead = ahead * tl.exp(until(g, g_base, gt, whole, min(first, T), at, K, BK, REAL))
                behind = entry(rows, row, G * K, tl.where(whole < first + SUB, -1, whole), T, at, K, BK)
                low = first + SUB
                behind = behind * tl.exp(since(g, g_base, gt, whole, low, T, at, K, SHIFT if r == 0 else 1, BK, REAL))
                from_ahead = product(square(dfound, met, C, C, block * SUB, 0, SUB, C), ahead, DATA, REAL)
                from_ahead *= tl.exp(since(g, g_base, gt, t, first, T, at, K, SHIFT if r == 0 else 1, BK, REAL))
                from_behind = product(tl.trans(square(dfound, met, C, C, 0, block * SUB, C, SUB)), behind, DATA, REAL)
                from_behind *= tl.exp(until(g, g_base, gt, t, end, at, K, BK, REAL))
                across = behind * product(square(dfound, met, C, C, 0, 0, C, C), ahead, DATA, REAL)
                kept = tl.exp(total(g, g_base, gt, t, T, at, K, BK, REAL))
                dgates += tl.sum(across, axis=0, keep_dims=True) * kept
                dgates += product(later(SHIFT if r == 0 else 1, SUB, REAL), seen * from_ahead, REAL, REAL)
                dgates += product(earlier(SUB, REAL), keys * from_behind, REAL, REAL)
                dseen += from_ahead
                dkeys += from_behind
            sums = tl.zeros((SUB, BK), REAL)
            for back in range(SUB):
                j = SUB - 1 - back
                step = first + j + tl.zeros((1,), tl.int32)
                key = entry(columns, column, G * K, step, T, at, K, BK).to(REAL)
                gate = gates(g, g_base, gt, step + 1, first, end, at, K, BK, REAL)
                sums += tl.where((i > j + (SHIFT if r == 0 else 1))[:, None], gate, 0.0)
                met_by = tl.load(dfound + met + (block * SUB + i) * C + block * SUB + j)[:, None] * tl.exp(sums)
                dseen += met_by * key
                shared = met_by * seen
                dkeys += tl.where((i == j)[:, None], tl.sum(shared, axis=0, keep_dims=True), 0.0)
                summed = product(later(SHIFT if r == 0 else 1, SUB, REAL), shared * key, REAL, REAL)
                dgates += tl.where((i > j)[:, None], summed, 0.0)
            put(dcolumns, dkeys, dcolumn, H * K, t, T, at, K, BK)
            if R > 1:
                tl.debug_barrier()
        put(drows, dseen, drow, H * K, t, T, at, K, BK)
    put(dg, dgates, (b * T * H + h) * K, H * K, t, T, at, K, BK)
