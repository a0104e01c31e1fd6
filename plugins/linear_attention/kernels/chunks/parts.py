"""What all kernels are made of: places, products, what is not finite, and gates."""

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
def place(N, PARTS: tl.constexpr):
    """The head, the chunk and the part of it that a program has."""
    program = tl.program_id(0)
    return (program // (N * PARTS)).to(tl.int64), program // PARTS % N, program % PARTS


@triton.jit
def of_head(x, head, T, H: tl.constexpr, SHARED: tl.constexpr, SIZE: tl.constexpr):
    """Where a head begins in x [B,T,SHARED,SIZE], of which H/SHARED heads have the same."""
    return x + (head // H * T * SHARED + head % H // (H // SHARED)) * SIZE


@triton.jit
def of_row(x, head, T, step, apart, H: tl.constexpr, SHARED: tl.constexpr):
    """Where a head begins in x [B,T,SHARED,...], whose steps lie ``step`` and whose heads lie ``apart`` from each other."""
    return x + head // H * T * step + head % H // (H // SHARED) * apart


@triton.jit
def sort(x, which, B, T, SHARED: tl.constexpr, SIZE: tl.constexpr):
    """Where the same place of another sort is in x [sorts,B,T,SHARED,SIZE]."""
    return x + tl.cast(T, tl.int64) * B * SHARED * SIZE * which


@triton.jit
def tile(x, stride, t, T, at, size, BLOCK: tl.constexpr):
    """[steps, BLOCK] of x, zero beyond both ends."""
    i = at + tl.arange(0, BLOCK)
    there = (t >= 0) & (t < T)
    return tl.load(x + t[:, None].to(tl.int64) * stride + i[None, :], there[:, None] & (i < size)[None, :], 0.0)


@triton.jit
def put(x, value, stride, t, T, at, size, BLOCK: tl.constexpr):
    i = at + tl.arange(0, BLOCK)
    tl.store(x + t[:, None].to(tl.int64) * stride + i[None, :], value, (t < T)[:, None] & (i < size)[None, :])


@triton.jit
def square(x, rows, columns, at, to, BR: tl.constexpr, BC: tl.constexpr):
    """[BR, BC] of a matrix [rows, columns]."""
    i, j = at + tl.arange(0, BR), to + tl.arange(0, BC)
    return tl.load(x + i[:, None] * columns + j[None, :], (i < rows)[:, None] & (j < columns)[None, :], 0.0)


@triton.jit
def put_square(x, value, rows, columns, at, to, BR: tl.constexpr, BC: tl.constexpr):
    i, j = at + tl.arange(0, BR), to + tl.arange(0, BC)
    tl.store(x + i[:, None] * columns + j[None, :], value, (i < rows)[:, None] & (j < columns)[None, :])


# What is not finite.


@triton.jit
def finite(x):
    """Numbers as they are, zero for what is none."""
    return tl.where(tl.abs(x) < float("inf"), x, 0.0)


@triton.jit
def entry(x, stride, t, T, at, size, BLOCK: tl.constexpr):
    """As `tile`, of what may not get anywhere else where it is not finite."""
    return finite(tile(x, stride, t, T, at, size, BLOCK))


@triton.jit
def bad(x):
    """One where something is no number."""
    return tl.where(tl.abs(x) < float("inf"), 0, 1)


@triton.jit
def bad_rows(x):
    """[steps, 1], one where something along a row is no number."""
    return tl.max(bad(x), axis=1, keep_dims=True)


@triton.jit
def marked(x, spoiled):
    return tl.where(spoiled > 0, float("nan"), x)


@triton.jit
def carried(spoiled, enters, g, stride, t, T, at, size, BG: tl.constexpr):
    """[1, values]: what is spoiled after a chunk, from what was before it and what enters [steps, 1 or values]."""
    if g is not None:
        enters = tl.maximum(enters, bad_gates(g, stride, t, T, at, size, BG))
        cut = cuts(g, stride, t, T, at, size, BG)
        enters = tl.where(tl.cumsum(cut, axis=0, reverse=True) - cut == 0, enters, 0)
        spoiled = tl.where(tl.max(cut, axis=0, keep_dims=True) > 0, 0, spoiled)
    return tl.maximum(spoiled, tl.max(enters, axis=0, keep_dims=True))


# Gates, from key ``at`` on; BG is one where a head has one gate.


@triton.jit
def gate_of(at, BG: tl.constexpr):
    """The first gate of the keys from ``at`` on."""
    if BG == 1:
        return 0
    else:
        return at


@triton.jit
def gates(g, stride, t, low, high, at, size, BG: tl.constexpr, REAL: tl.constexpr):
    """[steps, BG] of the gates in [low, high), none elsewhere."""
    i = gate_of(at, BG) + tl.arange(0, BG)
    there = (t >= low) & (t < high)
    found = tl.load(g + t[:, None].to(tl.int64) * stride + i[None, :], there[:, None] & (i < size)[None, :], 0.0)
    return tl.where(found < float("inf"), found.to(REAL), 0.0)


@triton.jit
def bad_gates(g, stride, t, T, at, size, BG: tl.constexpr):
    """[steps, 1], one where a gate is no number, nor minus infinity."""
    found = tile(g, stride, t, T, gate_of(at, BG), size, BG)
    return tl.max(tl.where(found < float("inf"), 0, 1), axis=1, keep_dims=True)


@triton.jit
def cuts(g, stride, t, T, at, size, BG: tl.constexpr):
    """[steps, 1], one where nothing of the memory stays."""
    i = gate_of(at, BG) + tl.arange(0, BG)
    found = tile(g, stride, t, T, gate_of(at, BG), size, BG)
    return tl.min(tl.where((found == -float("inf")) | (i >= size)[None, :], 1, 0), axis=1, keep_dims=True)


@triton.jit
def since(g, stride, t, first, T, at, size, SHIFT: tl.constexpr, BG: tl.constexpr, REAL: tl.constexpr):
    """Sums of the gates from ``first`` to what each row sees."""
    return tl.cumsum(gates(g, stride, t - SHIFT, first, T, at, size, BG, REAL), axis=0)


@triton.jit
def until(g, stride, t, end, at, size, BG: tl.constexpr, REAL: tl.constexpr):
    """Sums of the gates after each step and before ``end``."""
    return tl.cumsum(gates(g, stride, t + 1, 0, end, at, size, BG, REAL), axis=0, reverse=True)


@triton.jit
def total(g, stride, t, T, at, size, BG: tl.constexpr, REAL: tl.constexpr):
    """The sum of the gates of all steps [1, BG]."""
    return tl.sum(gates(g, stride, t, 0, T, at, size, BG, REAL), axis=0, keep_dims=True)


@triton.jit
def between(g, stride, first, T, SHIFT: tl.constexpr, C: tl.constexpr, REAL: tl.constexpr):
    """exp of the sums of a head's gates between a column and a row of a chunk [C, C], zero where they do not meet."""
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    meet = j + SHIFT <= i
    if g is None:
        return tl.where(meet, 1.0, 0.0).to(REAL)
    else:
        own = gates(g, stride, first + tl.arange(0, C) - SHIFT, first, T, 0, 1, 1, REAL)
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
