"""A recurrence whose transition is a diagonal plus rank one, in chunks (the WY representation, arXiv:2406.06484).

    S[t] = exp(g[t]) S[t-1] + a[t] (b[t]^T S[t-1]) + k[t] v[t]^T        y[t] = q[t]^T S[t]

Were z[t] = b[t]^T S[t-1] known, this would be linear attention with two sorts of keys, a with values z and k with values v.
Within a chunk z is linear in itself at earlier steps, so it is the solution of a triangular system, for all chunks at once.
The decays are those of `chunked`: sums of gates by pairs, no division, no positive exponent.

Shapes: B batch, N chunks, H heads, C steps in a chunk, K keys, V values.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ....compilers.runtime import tritons
from ....compilers.runtime.custom_ops import operator
from ....compilers.runtime.support import Read, data_type, of_type, state_type
from .chunked import CHUNK, contained, pair_products, pair_sums, split
from .chunks import launches


def _shapes(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    g: Tensor | None = None,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    read: str = "after",
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    kind = state_type(data_type(q, k, v, a, b, g, h0))
    y = v.new_empty(v.shape, dtype=kind if wide else data_type(q, k, v, a, b, g))
    return y, v.new_empty(v.shape[0], v.shape[2], k.shape[3], v.shape[3], dtype=kind)


@operator(
    "rank_one(Tensor q, Tensor k, Tensor v, Tensor a, Tensor b, Tensor? g=None, Tensor? h0=None, Tensor? reset=None,"
    " str read='after', bool wide=False) -> (Tensor, Tensor)",
    _shapes,
)
def rank_one(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    g: Tensor | None = None,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    read: Read = "after",
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    """S[t] = diag(exp(g[t])) S[t-1] + a[t] b[t]^T S[t-1] + k[t] v[t]^T, y[t] = q[t]^T S[t] (read="before": q[t]^T S[t-1]).

    q, k, a, b: [B,T,H,K]; v: [B,T,H,V]; g: [B,T,H] or [B,T,H,K], None for no decay, B or T of size 1 where it is constant;
    h0: [B,H,K,V]; reset: [B,T] bool. Returns y [B,T,H,V] and the last S [B,H,K,V], that in float32 at least;
    ``wide``: y too.
    """
    dtype = data_type(q, k, v, a, b, g)
    kind = state_type(data_type(q, k, v, a, b, g, h0))
    batch, time = v.shape[:2]
    if g is not None:
        g = of_type(g if g.dim() == 4 else g[..., None], kind).expand(batch, time, -1, -1)
    if v.numel() and time > 1 and q.shape[3] <= launches.MOST_KEYS and tritons.takes(q, k, v, a, b, g, h0):
        return _on_gpu(q, k, v, a, b, g, h0, reset, read, kind if wide else dtype, kind)
    q, k, v, a, b = (of_type(x, kind) for x in (q, k, v, a, b))
    state = launches.begun(h0, k, v, kind)
    if v.numel() == 0:
        y = v
    elif time == 1:
        if reset is not None:
            state = torch.where(reset[..., None, None], 0, state)
        y, state = _step(q, k, v, a, b, g, state, read)
    else:

        def run(q: Tensor, keys: Sequence[Tensor], v: Tensor, g: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
            k, a, b = keys
            return _whole(q, k, a, b, v, g, state, reset, read)

        y, state = contained(run, q, (k, a, b), v, g, state, reset, read)
    return y if wide else of_type(y, dtype), state


def _whole(
    q: Tensor,
    k: Tensor,
    a: Tensor,
    b: Tensor,
    v: Tensor,
    g: Tensor | None,
    state: Tensor,
    reset: Tensor | None,
    read: Read,
) -> tuple[Tensor, Tensor]:
    if reset is not None:
        q, b, g = _cut(q, b, g, reset, read)
    return _chunks(q, k, v, a, b, g, state, read)


def _cut(q: Tensor, b: Tensor, g: Tensor | None, reset: Tensor, read: Read) -> tuple[Tensor, Tensor, Tensor]:
    """Memory that is cleared before a step is memory that decays to nothing in it, and nothing of it is read."""
    cut = reset[..., None, None]
    g = torch.where(cut, -math.inf, q.new_zeros(1) if g is None else g).expand(-1, -1, q.shape[2], -1)
    return torch.where(cut, 0, q) if read == "before" else q, torch.where(cut, 0, b), g


def _on_gpu(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    g: Tensor | None,
    h0: Tensor | None,
    reset: Tensor | None,
    read: Read,
    dtype: torch.dtype,
    kind: torch.dtype,
) -> tuple[Tensor, Tensor]:
    data = kind if kind == torch.float64 else data_type(q, k, v, a, b)
    if reset is not None:
        q, b, g = _cut(q, b, g, reset, read)
    by_key = g is not None and g.shape[3] > 1
    g = g if g is None or by_key else g.squeeze(3)
    rows, columns = (torch.stack([of_type(x, data) for x in pair]) for pair in ((q, b), (k, a)))
    y, last = _GPU(rows, columns, of_type(v, data), g, h0, read, by_key, dtype, kind)
    return y, last


def _twin(given: launches.Given) -> tuple[Tensor, ...]:
    (q, b), (k, a), v = (of_type(x, given.kind) for x in given[:3])
    g = given.g if given.g is None or given.by_key else given.g[..., None]
    y, last = _chunks(q, k, v, a, b, g, launches.begun(given.h0, k, v, given.kind), given.read)
    return of_type(y, given.dtype), last


_GPU = launches.kernels(_twin)


def _step(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, g: Tensor | None, state: Tensor, read: Read
) -> tuple[Tensor, Tensor]:
    """One step, as in the equation."""
    q, k, v, a, b = (x.squeeze(1) for x in (q, k, v, a, b))
    z = b[..., None, :] @ state
    kept = state if g is None else g[:, 0, :, :, None].exp() * state
    new = kept + a[..., None] * z + k[..., None] * v[..., None, :]
    y = q[..., None, :] @ (new if read == "after" else state)
    return y.transpose(1, 2), new


def _chunks(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, g: Tensor | None, state: Tensor, read: Read
) -> tuple[Tensor, Tensor]:
    time, heads, values = v.shape[1:]
    size = min(CHUNK, 1 << (time - 1).bit_length())
    q, k, v, a, b = (split(x, size, (heads, 1)) for x in (q, k, v, a, b))  # [B,N,H,1,C,K or V]
    grow = None if g is None else split(g, size, (heads, 1)).squeeze(3)  # [B,N,H,C,K or 1]
    # Read before, a step sees what its own gate has not damped yet; read after, q meets that gate first.
    seeing = q if grow is None or read == "before" else q * grow.exp()[..., None, :, :]
    rows, columns = torch.cat([b, seeing], 3), torch.cat([a, k], 3)
    pairs, since, until, total = _pairs(rows, columns, grow)
    if since is not None and until is not None:
        rows, columns = rows * since.exp()[..., None, :, :], columns * until.exp()[..., None, :, :]
    v = v.squeeze(3)
    eye = torch.eye(size, dtype=v.dtype, device=v.device)
    known = torch.cat([rows[..., 0, :, :], pairs[..., 0, :, 1, :] @ v], -1)
    solved = torch.linalg.solve_triangular(eye - pairs[..., 0, :, 0, :], known, upper=False, unitriangular=True)
    carried, own = solved.split((k.shape[-1], values), -1)  # z = carried S0 + own, for S0 before the chunk
    both = columns.flatten(3, 4).mT  # [B,N,H,K,2C]
    added = both @ torch.cat([own, v], 3)
    moved = columns[..., 0, :, :].mT @ carried
    moved = moved + (torch.eye(k.shape[-1], dtype=v.dtype, device=v.device) if total is None else total)
    before = []
    for move, new in zip(moved.unbind(1), added.unbind(1), strict=True):
        before.append(state)
        state = new + move @ state
    start = torch.stack(before, 1)
    z = own + carried @ start
    y = rows[..., 1, :, :] @ start + pairs[..., 1, :, :, :].flatten(-2) @ torch.cat([z, v], 3)
    if read == "after":
        met = (q * torch.cat([a, k], 3)).sum(-1)[..., None]  # [B,N,H,2,C,1]
        y = y + met[:, :, :, 0] * z + met[:, :, :, 1] * v
    return y.transpose(2, 3).flatten(1, 2)[:, :time], state


def _pairs(
    rows: Tensor, columns: Tensor, g: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """What each row sees of each earlier column [B,N,H,2,C,2,C]; the sums of gates since the start and until the end of the chunk
    [B,N,H,C,K or 1]; its whole decay as a matrix [B,N,H,K,K]."""
    size, keys = rows.shape[-2:]
    if g is not None and g.shape[-1] == keys > 1:
        pairs, since, until, total = pair_products(rows, columns, g, "before")
        return pairs, since, until, torch.diag_embed(total.exp())
    products = (rows.flatten(3, 4) @ columns.flatten(3, 4).mT).unflatten(-1, (2, size)).unflatten(-3, (2, size))
    if g is None:
        earlier = torch.ones(size, size, dtype=rows.dtype, device=rows.device).tril(-1)
        return products * earlier[:, None], None, None, None
    since, until, total, between = pair_sums(g.squeeze(-1), "before")
    whole = total.exp()[..., None, None] * torch.eye(keys, dtype=g.dtype, device=g.device)
    return products * between.exp()[..., None, :, None, :], since[..., None], until[..., None], whole


def rank_ones(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    g: Tensor | None,
    h0: Tensor | None,
    reset: Tensor | None,
    read: Read,
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    """As `rank_one` with N outer products a step, which act one after another: a, b: [B,T,N,H,K]; g: [B,T,H]. N steps of which the first
    decays and the last takes in k v^T; what is read stands at one end."""
    count = a.shape[2]
    first, last = 0, count - 1

    def at(x: Tensor, place: int) -> Tensor:
        """x [B,T,...] at one of the steps, zero at the others: [B,T*N,...]."""
        before, after = (x.new_zeros(*x.shape[:2], n, *x.shape[2:]) for n in (place, last - place))
        return torch.cat([before, x.unsqueeze(2), after], 2).flatten(1, 2)

    gate = None if g is None else at(g.expand(-1, q.shape[1], -1), first)
    cleared = None if reset is None else at(reset.expand(q.shape[:2]), first)
    read_at = first if read == "before" else last
    queries, keys, values = at(q, read_at), at(k, last), at(v, last)
    y, state = rank_one(queries, keys, values, a.flatten(1, 2), b.flatten(1, 2), gate, h0, cleared, read, wide)
    return y.unflatten(1, (-1, count))[:, :, read_at], state
