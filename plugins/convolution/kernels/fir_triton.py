"""Short filters on a GPU, in Triton: forward, and all gradients in one pass over the inputs.

Shapes: x, y, grad, dx [B,T,D], the rows of x XT apart; w [W,D], the taps WW, the channels WD apart, WR of which are alike; bias [D]; history, dhistory [B,W-1,D], the
inputs before x; last, dlast [B,W-1,D], those that are remembered; reset [B,T]; partial [B*TB,W+1,D], the gradients of w, and behind them of
the bias, by block. Sums are of REAL numbers.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def inputs(x, history, b, t, i, XT, T, D, W: tl.constexpr, REAL: tl.constexpr):
    """x of some steps [steps, channels]; before the first it is history."""
    own = ((t >= 0) & (t < T))[:, None] & (i < D)[None, :]
    found = tl.load(x + (b * T + t)[:, None] * XT + i[None, :], own, 0.0).to(REAL)
    if W > 1 and history is not None:
        old = ((t < 0) & (t >= 1 - W))[:, None] & (i < D)[None, :]
        found += tl.load(history + (b * (W - 1) + t + W - 1)[:, None] * D + i[None, :], old, 0.0).to(REAL)
    return found


@triton.jit
def cut(reset, b, t, T):
    """Where memory is cleared before a step."""
    return tl.load(reset + b * T + t, (t >= 0) & (t < T), 0).to(tl.int1)


@triton.jit
def remembered(reset, b, t, T, W: tl.constexpr):
    """Whether no memory is cleared between one of the last W-1 inputs and the end."""
    alive = t < T
    if reset is not None:
        for j in tl.static_range(1, W):
            alive &= ~cut(reset, b, t + j, T)
    return alive


@triton.jit
def filtered(
    x, w, bias, history, reset, y, last, XT, WW, WD, WR, T, D,
    W: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    b, t, i = place(T, D, BT, BD)
    there = i < D
    found = tl.zeros((BT, BD), REAL)
    if bias is not None:
        found += tl.load(bias + i, there, 0.0).to(REAL)[None, :]
    alive = t < T
    for j in tl.static_range(W):
        if j > 0 and reset is not None:
            alive &= ~cut(reset, b, t - j + 1, T)
        seen = tl.where(alive[:, None], inputs(x, history, b, t - j, i, XT, T, D, W, REAL), 0.0)
        found += tl.load(w + j * WW + i // WR * WD, there, 0.0).to(REAL)[None, :] * seen
    tl.store(y + (b * T + t)[:, None] * D + i[None, :], found, (t < T)[:, None] & there[None, :])
    if last is not None:
        kept = (b * (W - 1) + t - (T - W + 1))[:, None] * D + i[None, :]
        seen = tl.where(remembered(reset, b, t, T, W)[:, None], inputs(x, history, b, t, i, XT, T, D, W, REAL), 0.0)
        tl.store(last + kept, seen, ((t > T - W) & (t < T))[:, None] & there[None, :])


@triton.jit
def filtered_back(
    x, w, history, reset, grad, dlast, dx, dhistory, partial, XT, WW, WD, WR, T, D,
    W: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """A block has inputs, the first W-1 of which are history."""
    b, s, i = place(T + W - 1, D, BT, BD)
    s -= W - 1
    there = i < D
    block = (tl.program_id(0) // tl.cdiv(D, BD)).to(tl.int64) * (W + 1)
    seen = inputs(x, history, b, s, i, XT, T, D, W, REAL)
    found = tl.zeros((BT, BD), REAL)
    alive = s < T
    for j in tl.static_range(W):
        if j > 0 and reset is not None:
            alive &= ~cut(reset, b, s + j, T)
        t = s + j
        given = (alive & (t >= 0) & (t < T))[:, None] & there[None, :]
        g = tl.load(grad + (b * T + t)[:, None] * D + i[None, :], given, 0.0).to(REAL)
        found += tl.load(w + j * WW + i // WR * WD, there, 0.0).to(REAL)[None, :] * g
        tl.store(partial + (block + j) * D + i, tl.sum(tl.where(given, seen * g, 0.0), axis=0), there)
        if j == 0:
            tl.store(partial + (block + W) * D + i, tl.sum(g, axis=0), there)
    if dlast is not None:
        kept = (b * (W - 1) + s - (T - W + 1))[:, None] * D + i[None, :]
        given = (remembered(reset, b, s, T, W) & (s > T - W) & (s < T))[:, None] & there[None, :]
        found += tl.load(dlast + kept, given, 0.0).to(REAL)
    tl.store(dx + (b * T + s)[:, None] * D + i[None, :], found, ((s >= 0) & (s < T))[:, None] & there[None, :])
    if W > 1 and dhistory is not None:
        old = (s < 0)[:, None] & there[None, :]
        tl.store(dhistory + (b * (W - 1) + s + W - 1)[:, None] * D + i[None, :], found, old)


@triton.jit
def place(T, D, BT: tl.constexpr, BD: tl.constexpr):
    """The sequence, steps and channels of a program."""
    program, blocks, parts = tl.program_id(0), tl.cdiv(T, BT), tl.cdiv(D, BD)
    b = (program // (blocks * parts)).to(tl.int64)
    return b, program // parts % blocks * BT + tl.arange(0, BT), program % parts * BD + tl.arange(0, BD)
