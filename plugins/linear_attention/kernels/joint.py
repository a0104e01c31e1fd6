"""Several states that are affine in one another, in chunks: a small matrix a step between them, plus rank one along the keys.

    S_i[t] = sum_j move[t,i,j] S_j[t-1] + sum_n into[t,n,i] keys[t,n] u[t,n]^T        y[t,r] = q[t,r]^T S_reads[r][t]
    u[t,0] = values[t,0] + b[t]^T S_source[t-1], the others are values[t,n]

As in `rank_one`: were u known, this would be linear attention; within a chunk u[.,0] is linear in itself at earlier steps, and so the solution of
a triangular system. What was a decay between two steps is a product of matrices, which both ends meet as a vector. These products are built by
doubling, as sums of gates are in `chunked`: nothing is divided by, so that any matrix will do, and a reset is one more: zero.

Shapes: B batch, N chunks, H heads, C steps in a chunk, S states, K keys, V values, R readouts, E what enters: `keys`, `into` and `values`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ....compilers.runtime.custom_ops import operator
from ....compilers.runtime.support import Read, data_type, finite, of_type, reached, state_type
from .chunked import CHUNK, blocks, cleared, split


def _shapes(
    move: Tensor,
    b: Tensor,
    keys: Tensor,
    into: Tensor,
    values: Tensor,
    q: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    read: str = "after",
    source: int = 0,
    reads: Sequence[int] = (0,),
) -> tuple[Tensor, Tensor]:
    batch, _, heads, states = move.shape[:4]
    y = q.new_empty(*q.shape[:4], values.shape[4], dtype=data_type(b, keys, values, q))
    kind = state_type(data_type(y, move, into, h0))
    return y, q.new_empty(batch, heads, states, keys.shape[4], values.shape[4], dtype=kind)


@operator(
    "joint(Tensor move, Tensor b, Tensor keys, Tensor into, Tensor values, Tensor q, Tensor? h0=None, Tensor? reset=None,"
    " str read='after', int source=0, int[] reads=[0]) -> (Tensor, Tensor)",
    _shapes,
)
def joint(
    move: Tensor,
    b: Tensor,
    keys: Tensor,
    into: Tensor,
    values: Tensor,
    q: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    read: Read = "after",
    source: int = 0,
    reads: Sequence[int] = (0,),
) -> tuple[Tensor, Tensor]:
    """The equations above (read="before": q meets S[t-1]).

    move: [B,T,H,S,S]; b: [B,T,H,K]; keys: [B,T,H,E,K]; into: [B,T,H,E,S]; values: [B,T,H,E,V]; q: [B,T,H,R,K]; h0: [B,H,S,K,V];
    reset: [B,T] bool. Returns y [B,T,H,R,V] and the last S [B,H,S,K,V], that in float32 at least.
    """
    dtype = data_type(b, keys, values, q)
    kind = state_type(data_type(b, keys, values, q, move, into, h0))
    move, b, keys, into, values, q = (of_type(x, kind) for x in (move, b, keys, into, values, q))
    shape = (*move.shape[:1], *move.shape[2:4], keys.shape[4], values.shape[4])
    state = move.new_zeros(shape) if h0 is None else of_type(h0, kind)
    given = _Given(move, b, keys, into, values, q, state)
    if not move.shape[0] * move.shape[1]:
        return of_type(values.new_zeros(*q.shape[:4], shape[4]), dtype), state
    y, last = _whole(given, source, reads, reset, read)
    if not finite(y, last):
        seen, after = _spoiled(given, reset, read)
        y, last = _whole(_Given._make(map(cleared, given)), source, reads, reset, read)
        y = torch.where(seen, math.nan, y)
        last = torch.where(after, math.nan, last)
    return of_type(y, dtype), last


class _Given(NamedTuple):
    """What is given, of one type; see `joint`."""

    move: Tensor
    b: Tensor
    keys: Tensor
    into: Tensor
    values: Tensor
    q: Tensor
    state: Tensor


def joint_states(
    move: Tensor,
    b: Tensor,
    keys: Tensor,
    into: Tensor,
    values: Tensor,
    q: Tensor,
    memories: Sequence[Tensor | None],
    reset: Tensor | None,
    read: Read,
    source: int,
    reads: Sequence[int],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`joint`, with each state [B,H,K,V] by itself; all are there before the call, or none."""
    there = [state for state in memories if state is not None]
    start = torch.stack(there, 2) if there else None
    y, last = joint(move, b, keys, into, values, q, start, reset, read, source, reads)
    return y, last.unbind(2)


def _spoiled(given: _Given, reset: Tensor | None, read: Read) -> tuple[Tensor, Tensor]:
    """What is not finite does not get into another document, or back in time: where it gets in y [B,T,H,R,V], and in the last state
    [B,H,1,1,V]. A value spoils itself, all else all values of its head."""
    entering = ~given.values.isfinite().all(3)
    for x in (given.move, given.b, given.keys, given.into):
        entering = entering | ~x.flatten(3).isfinite().all(-1, keepdim=True)
    start = ~given.state.isfinite().all((2, 3))
    after = seen = reached(entering, reset, start)
    if read == "before":
        seen = torch.cat([start[:, None], after[:, :-1]], 1)
        seen = seen if reset is None else seen & ~reset[..., None, None]
    return seen[..., None, :] | ~given.q.isfinite().all(-1, keepdim=True), after[:, -1, :, None, None]


def _whole(given: _Given, source: int, reads: Sequence[int], reset: Tensor | None, read: Read) -> tuple[Tensor, Tensor]:
    move, b, keys, into, values, q, state = given
    time, heads, states = move.shape[1:4]
    if reset is not None:
        # Memory that is cleared before a step is moved to nothing in it, and nothing of it is read.
        cut = reset[..., None, None, None]
        move, b = torch.where(cut, 0, move), torch.where(cut[..., 0], 0, b)
        q = torch.where(cut, 0, q) if read == "before" else q
    size = min(CHUNK, 1 << (time - 1).bit_length())
    still = torch.eye(states, dtype=move.dtype, device=move.device)
    move = torch.cat([move, still.expand(*move.shape[:1], -time % size, heads, -1, -1)], 1)
    move = split(move.flatten(3), size, (heads, 1)).squeeze(3).unflatten(-1, (states, states))  # [B,N,H,C,S,S]
    rows = torch.cat([b[:, :, :, None], q], 3)
    rows, keys, into, values = (
        split(x.flatten(2, 3), size, (heads, x.shape[3])) for x in (rows, keys, into, values)
    )  # [B,N,H,1+R or E,C,K, S or V]
    y, state = _chunks(move, rows, keys, into, values, state, source, reads, read)
    return y.permute(0, 1, 4, 2, 3, 5).flatten(1, 2)[:, :time], state


def _chunks(
    move: Tensor,
    rows: Tensor,
    keys: Tensor,
    into: Tensor,
    values: Tensor,
    state: Tensor,
    source: int,
    reads: Sequence[int],
    read: Read,
) -> tuple[Tensor, Tensor]:
    """y [B,N,H,R,C,V] and the last state."""
    sorts, entering, size, states = rows.shape[3], keys.shape[3], *move.shape[3:5]
    apart = size, size * (entering - 1)  # what enters first, and the others
    after = read == "after"
    unit = torch.eye(states, dtype=move.dtype, device=move.device).unbind(0)
    # What a row meets of the states before its step; read after, they go through the matrix of that step first.
    meets = [
        unit[source].expand(move.shape[:-1]),
        *(move[..., i, :] if after else unit[i].expand(move.shape[:-1]) for i in reads),
    ]
    nothing = torch.zeros_like(into[..., 0])
    own = [nothing, *(into[..., i] if after else nothing for i in reads)]
    pairs, since, until, total = _products(torch.stack(meets, 3), into, move, torch.stack(own, 3))
    met = (rows.flatten(3, 4) @ keys.flatten(3, 4).mT).unflatten(-1, (entering, size)).unflatten(-3, (sorts, size))
    inner, outer = (pairs * met).flatten(-2).split((1, sorts - 1), 3)  # [B,N,H,1 or R,C,E*C]
    within, from_others = inner.squeeze(3).split(apart, -1)
    first, seeing = (since[..., None] * rows[..., None, :]).flatten(-2).split((1, sorts - 1), 3)  # [B,N,H,1 or R,C,S*K]
    columns = (until[..., None] * keys[..., None, :]).flatten(-2).flatten(3, 4).mT  # [B,N,H,S*K,E*C]
    column, other = columns.split(apart, -1)
    value, others = values.flatten(3, 4).split(apart, 3)
    known = torch.cat([first.squeeze(3), value + from_others @ others], -1)
    eye = torch.eye(size, dtype=move.dtype, device=move.device)
    solved = torch.linalg.solve_triangular(eye - within, known, upper=False, unitriangular=True)
    # u = carried S0 + fresh, for S0 before the chunk
    carried, fresh = solved.split((first.shape[-1], values.shape[-1]), -1)
    added = other @ others
    shape, state, before, us = state.shape, state.flatten(2, 3), [], []
    for whole, new, taken, carry, own in zip(
        *(x.unbind(1) for x in (total, added, column, carried, fresh)), strict=True
    ):
        before.append(state)
        us.append(own + carry @ state)
        state = new + taken @ us[-1] + (whole @ state.view(*shape[:3], -1)).view_as(state)
    start, u = torch.stack(before, 1), torch.cat([torch.stack(us, 1), others], 3)
    y = seeing.flatten(3, 4) @ start + outer.flatten(3, 4) @ u
    return y.unflatten(3, (sorts - 1, size)), state.view(shape)


def _products(rows: Tensor, columns: Tensor, move: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What row i meets of column j, by way of the matrices between them: rows[i] move[i-1] ... move[j+1] columns[j], where i = j ``own``,
    [...,M,C,E,C]; rows by way of the matrices since the start [...,M,C,S]; columns by those until the end [...,E,C,S]; all matrices
    [...,S,S].

    rows: [...,M,C,S]; columns: [...,E,C,S]; move: [...,C,S,S]; own: [...,M,E,C].
    """
    total = move  # per block: [...,blocks,S,S]
    since, until = (x.transpose(-3, -2)[..., None, :] for x in (rows, columns))  # [...,blocks,M or E,1,S]
    pairs = own.movedim(-1, -3)[..., None, :, None]  # [...,blocks,M,1,E,1]
    while total.shape[-3] > 1:
        total0, total1 = blocks(total, 2)
        (since0, since1), (until0, until1), (pairs0, pairs1) = blocks(since, 3), blocks(until, 3), blocks(pairs, 4)
        late, early = since1.flatten(-3, -2), until0.flatten(-3, -2)
        meeting = (late @ early.mT).unflatten(-1, until0.shape[-3:-1]).unflatten(-3, since1.shape[-3:-1])
        above = torch.cat([pairs0, torch.zeros_like(meeting)], -1)
        pairs = torch.cat([above, torch.cat([meeting, pairs1], -1)], -3)
        since = torch.cat([since0, (late @ total0).view_as(since1)], -2)
        until = torch.cat([(early @ total1.mT).view_as(until0), until1], -2)
        total = total1 @ total0
    return pairs[..., 0, :, :, :, :], since[..., 0, :, :, :], until[..., 0, :, :, :], total[..., 0, :, :]
