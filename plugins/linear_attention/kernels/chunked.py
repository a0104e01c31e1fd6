"""Linear attention with decay, in chunks: matmuls inside a chunk of steps, one small recurrence over the chunks.

    S[t] = exp(g[t]) S[t-1] + k[t] v[t]^T        y[t] = q[t]^T S[t]      (read="before": q[t]^T S[t-1])

with one gate per head (`scalar_decay`) or per head and key (`key_decay`).

What step j gives to step i is damped by exp(g[j+1] + ... + g[i]). These sums are built by doubling: two neighbouring
blocks of s steps make one of 2s, where a pair (i in the second, j in the first) meets in the middle: (sum from j to the
end of the first) + (sum from the start of the second to i). Gates are only ever added, never subtracted, so one very
negative gate spoils no other sum, no exponent is positive unless a gate is, and a reset is one more gate: -inf.

A product over a chunk meets every step with every other, and NaN times the zero of a mask is NaN. So what is not finite is taken out
before (`contained`), and the results that it would have reached are made NaN.

Shapes: B batch, N chunks, G groups of heads with the same q and k, R heads in a group, C steps in a chunk, K keys,
V values.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ....compilers.runtime import tritons
from ....compilers.runtime.custom_ops import operator
from ....compilers.runtime.pointwise import turn_by
from ....compilers.runtime.support import Read, data_type, finite, of_type, reached, state_type
from .chunks import launches

CHUNK = 64


def scalar_decay(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    read: Read = "after",
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    """S[t] = exp(g[t]) S[t-1] + k[t] v[t]^T, y[t] = q[t]^T S[t].

    q, k: [B,T,G,K], where G divides H; v: [B,T,H,V]; g: [B,T,H], or [H] where it is constant, or None for no decay, at
    most 0; h0: [B,H,K,V]; reset: [B,T] bool. Returns y [B,T,H,V] and the last S [B,H,K,V], that in float32 at least;
    ``wide``: y too.
    """
    return _decay(q, k, v, g, h0, reset, read, False, wide)


def key_decay(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    read: Read = "after",
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    """S[t] = diag(exp(g[t])) S[t-1] + k[t] v[t]^T, y[t] = q[t]^T S[t]; as `scalar_decay` with g: [B,T,H,K] or [H,K]."""
    return _decay(q, k, v, g, h0, reset, read, g is not None, wide)


def _turned_shapes(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    angle: Tensor,
    g: Tensor | None = None,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    read: str = "after",
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    return _shapes(q, k, v, g, h0, reset, read, False, wide)


def _shapes(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    h0: Tensor | None,
    reset: Tensor | None,
    read: str,
    by_key: bool,
    wide: bool,
) -> tuple[Tensor, Tensor]:
    kind = state_type(data_type(q, k, v, g, h0))
    y = v.new_empty(v.shape, dtype=kind if wide else data_type(q, k, v, g))
    return y, v.new_empty(v.shape[0], v.shape[2], k.shape[3], v.shape[3], dtype=kind)


@operator(
    "turned_decay(Tensor q, Tensor k, Tensor v, Tensor angle, Tensor? g=None, Tensor? h0=None, Tensor? reset=None,"
    " str read='after', bool wide=False) -> (Tensor, Tensor)",
    _turned_shapes,
)
def turned_decay(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    angle: Tensor,
    g: Tensor | None = None,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    read: Read = "after",
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    """S[t] = exp(g[t]) R(angle[t]) S[t-1] + k[t] v[t]^T, where R turns neighbouring pairs of keys; as `scalar_decay` with angle:
    [B,T,G,K/2], G of size 1 where it is one for all.

    In a frame that turns along, q and k are turned back by all angles so far, and S only decays.
    """
    dtype, kind = data_type(q, k, v, g), state_type(data_type(q, k, v, g, h0))
    if v.numel() == 0:
        return _decay(q, k, v, g, h0, reset, read, False, wide)
    q, k = of_type(q, kind), of_type(k, kind)
    if not finite(angle):
        # One that is not finite would spoil all that follow; it stands for what enters with it.
        k = torch.where(angle.isfinite().all(-1, keepdim=True), k, math.nan)
        angle = torch.where(angle.isfinite(), angle, 0)
    whole = angle.to(torch.float64).cumsum(1)  # only differences matter, so that whole turns may go
    turned = (whole - 2 * math.pi * (whole.detach() / (2 * math.pi)).round()).to(kind)
    c, s = turned.cos(), turned.sin()
    k = turn_by(k, c, -s, False)
    if read == "before":
        c0, s0 = (F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0), value=start) for x, start in ((c, 1.0), (s, 0.0)))
        q = turn_by(q, c0, -s0, False)
    else:
        q = turn_by(q, c, -s, False)
    y, last = _decay(q, k, v, g, h0, reset, read, False, True)
    heads = 1 if c.shape[2] == 1 else v.shape[2] // c.shape[2]
    c, s = (x[:, -1].repeat_interleave(heads, 1)[:, :, None] for x in (c, s))
    last = turn_by(last.mT, c, s, False).mT
    return y if wide else of_type(y, dtype), last


@operator(
    "decay(Tensor q, Tensor k, Tensor v, Tensor? g, Tensor? h0, Tensor? reset, str read, bool by_key, bool wide)"
    " -> (Tensor, Tensor)",
    _shapes,
)
def _decay(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    h0: Tensor | None,
    reset: Tensor | None,
    read: Read,
    by_key: bool,
    wide: bool,
) -> tuple[Tensor, Tensor]:
    dtype = data_type(q, k, v, g)
    kind = state_type(data_type(q, k, v, g, h0))
    if v.numel() and v.shape[1] > 1 and tritons.takes(q, k, v, g, h0):
        return _on_gpu(q, k, v, g, h0, reset, read, by_key, kind if wide else dtype)
    q, k, v = of_type(q, kind), of_type(k, kind), of_type(v, kind)
    state = launches.begun(h0, k, v, kind)
    g = None if g is None else of_type(g, kind)
    if v.numel() == 0:
        y = v
    elif v.shape[1] == 1:
        if reset is not None:
            state = torch.where(reset[..., None, None], 0, state)
        y, state = _step(q, k, v, g, state, read, by_key)
    else:

        def run(q: Tensor, keys: Sequence[Tensor], v: Tensor, g: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
            return _whole(q, keys[0], v, g, state, reset, read, by_key)

        y, state = contained(run, q, (k,), v, g, state, reset, read)
    return y if wide else of_type(y, dtype), state


Run = Callable[[Tensor, Sequence[Tensor], Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor]]


def contained(
    run: Run,
    q: Tensor,
    keys: Sequence[Tensor],
    v: Tensor,
    g: Tensor | None,
    state: Tensor,
    reset: Tensor | None,
    read: Read,
) -> tuple[Tensor, Tensor]:
    """run(q, keys, v, g, state), where nothing that is not finite gets into another document, or back in time.

    keys: [B,T,G,K] each; else as in `scalar_decay`. A key or a gate that is not finite spoils all values of its head, a value itself.
    """
    y, last = run(q, keys, v, g, state)
    if finite(y, last):
        return y, last
    batch, time, heads = v.shape[:3]

    def spread(bad: Tensor) -> Tensor:
        """[B,T,G or 1] as [B,T,H,1]."""
        return bad.repeat_interleave(heads // bad.shape[2], 2)[..., None]

    entering = ~v.isfinite()
    for x in keys:
        entering = entering | spread(~x.isfinite().all(-1))
    if g is not None:
        bad = ~(g < math.inf)
        whole = bad.expand(batch, time, *(bad.shape[2:] if bad.dim() > 2 else bad.shape))
        entering = entering | whole.reshape(batch, time, whole.shape[2], -1).any(-1, keepdim=True)
        g = torch.where(bad, 0, g)
    start = ~state.isfinite().all(-2)
    after = seen = reached(entering, reset, start)
    if read == "before":
        seen = torch.cat([start[:, None], after[:, :-1]], 1)
        seen = seen if reset is None else seen & ~reset[..., None, None]
    seen = seen | spread(~q.isfinite().all(-1))
    y, last = run(cleared(q), [cleared(x) for x in keys], cleared(v), g, cleared(state))
    return torch.where(seen, math.nan, y), torch.where(after[:, -1, :, None], math.nan, last)


def cleared(x: Tensor) -> Tensor:
    return torch.where(x.isfinite(), x, 0)


def _whole(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    state: Tensor,
    reset: Tensor | None,
    read: Read,
    by_key: bool,
) -> tuple[Tensor, Tensor]:
    batch, time = v.shape[:2]
    if reset is not None:
        q, g = _cut(q, v, g, reset, read, by_key)
    if g is None or g.dim() > (2 if by_key else 1):
        return _chunks(q, k, v, g, state, read, by_key)
    # A chunk that is filled up with empty steps must not decay in them, so the rest has gates of its own.
    whole = time - time % CHUNK
    rest = g.expand(batch, time - whole, *g.shape)
    ys = []
    if whole:
        y, state = _chunks(q[:, :whole], k[:, :whole], v[:, :whole], g, state, read, by_key)
        ys.append(y)
    if time > whole:
        y, state = _chunks(q[:, whole:], k[:, whole:], v[:, whole:], rest, state, read, by_key)
        ys.append(y)
    return torch.cat(ys, 1), state


def _cut(q: Tensor, v: Tensor, g: Tensor | None, reset: Tensor, read: Read, by_key: bool) -> tuple[Tensor, Tensor]:
    """Memory that is cleared before a step is memory that decays to nothing in it, and read before, nothing is read of it."""
    g = v.new_zeros(v.shape[2]) if g is None else g
    g = torch.where(reset[..., None, None] if by_key else reset[..., None], -math.inf, g)
    return (torch.where(reset[..., None, None], 0, q) if read == "before" else q), g


def _on_gpu(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    h0: Tensor | None,
    reset: Tensor | None,
    read: Read,
    by_key: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    kind = state_type(data_type(q, k, v, g, h0))
    data = kind if kind == torch.float64 else data_type(q, k, v)
    if reset is not None:
        q, g = _cut(q, v, g, reset, read, by_key)
    if g is not None:
        g = g.expand(*v.shape[:3], *g.shape[-1:] if by_key else ())
    y, last = _GPU(of_type(q, data)[None], of_type(k, data)[None], of_type(v, data), g, h0, read, by_key, dtype, kind)
    return y, last


def _twin(given: launches.Given) -> tuple[Tensor, ...]:
    kind, g = given.kind, given.g
    (q,), (k,), v = (of_type(x, kind) for x in given[:3])
    state = launches.begun(given.h0, k, v, kind)
    y, last = _whole(q, k, v, None if g is None else of_type(g, kind), state, None, given.read, given.by_key)
    return of_type(y, given.dtype), last


_GPU = launches.kernels(_twin)


def _step(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, state: Tensor, read: Read, by_key: bool
) -> tuple[Tensor, Tensor]:
    """One step, as in the equation."""
    shape, sizes = state.shape, (k.shape[2], v.shape[2] // k.shape[2])
    state = state.unflatten(1, sizes)  # [B,G,R,K,V]
    new = k[:, 0, :, None, :, None] * v[:, 0].unflatten(1, sizes)[..., None, :]
    if g is None:
        new = new + state
    else:
        gate = (g if g.dim() == (2 if by_key else 1) else g[:, 0]).exp()
        gate = gate.unflatten(-2 if by_key else -1, sizes)[..., None]
        new = torch.addcmul(new, gate if by_key else gate[..., None], state)
    y = q[:, 0, :, None, None] @ (new if read == "after" else state)
    return y.view(v.shape), new.view(shape)


def _chunks(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, state: Tensor, read: Read, by_key: bool
) -> tuple[Tensor, Tensor]:
    batch, time, heads, values = v.shape
    groups, keys = k.shape[2:]
    size = min(CHUNK, 1 << (time - 1).bit_length())
    sizes = (groups, heads // groups)
    q, k = split(q, size, (groups, 1)), split(k, size, (groups, 1))  # [B,N,G,1,C,K]
    v = split(v, size, sizes)  # [B,N,G,R,C,V]
    if g is not None and g.dim() > (2 if by_key else 1):
        g = split(g if by_key else g[..., None], size, sizes)  # [B,N,G,R,C,K or 1]
    elif g is not None:
        g = g.view(1, 1, *sizes, 1, -1).expand(-1, -1, -1, -1, size, -1)
    state = state.unflatten(1, sizes)  # [B,G,R,K,V]
    if g is None:
        pairs = (q @ k.mT).tril(0 if read == "after" else -1)
        y, state = _without_decay(q, k, v, pairs, state)
    elif by_key:
        y, state = _by_key(q, k, v, g, state, read)
    else:
        y, state = _by_head(q, k, v, g.squeeze(-1), state, read)
    y = y.permute(0, 1, 4, 2, 3, 5).reshape(batch, -1, heads, values)[:, :time]
    return y, state.reshape(batch, heads, keys, values)


def _without_decay(q: Tensor, k: Tensor, v: Tensor, pairs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    before, state = _carry(_unfold(k.mT @ _fold(v), v), None, state)
    return pairs @ v + _unfold(q @ _fold(before), v), state


def _by_head(q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor, read: Read) -> tuple[Tensor, Tensor]:
    """g: [B,N,G,R,C]. The heads of a group stand side by side as columns wherever they meet the same q or k."""
    since, until, total, between = pair_sums(g, read)
    added = _unfold(k.mT @ _fold(v * until.exp()[..., None]), v)
    before, state = _carry(added, total.exp()[..., None, None], state)
    y = ((q @ k.mT) * between.exp()) @ v
    return y + _unfold(q @ _fold(before), v) * since.exp()[..., None], state


def _by_key(q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor, read: Read) -> tuple[Tensor, Tensor]:
    """g: [B,N,G,R,C,K]."""
    pairs, since, until, total = pair_products(q[..., None, :, :], k[..., None, :, :], g, read)
    pairs = pairs[..., 0, :, 0, :]
    before, state = _carry((k * until.exp()).mT @ v, total.exp()[..., None], state)
    return pairs @ v + (q * since.exp()) @ before, state


def pair_sums(g: Tensor, read: Read) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums of g [...,C]: from the start to i [...,C], after j to the end [...,C], all [...], after j to i [...,C,C].

    With read="before" step i itself does not count. Pairs that must not meet have -inf.
    """
    total = g[..., None]  # per block: [...,blocks,1]
    since = total if read == "after" else torch.zeros_like(total)
    until = torch.zeros_like(total)
    between = torch.full_like(g, 0.0 if read == "after" else -math.inf)[..., None, None]
    while total.shape[-2] > 1:
        (since0, since1), (until0, until1), (total0, total1) = _halves(since), _halves(until), _halves(total)
        between0, between1 = between.unflatten(-3, (-1, 2)).unbind(-3)
        meeting = since1[..., None] + until0[..., None, :]
        above = torch.cat([between0, torch.full_like(meeting, -math.inf)], -1)
        between = torch.cat([above, torch.cat([meeting, between1], -1)], -2)
        since = torch.cat([since0, since1 + total0], -1)
        until = torch.cat([until0 + total1, until1], -1)
        total = total0 + total1
    return since[..., 0, :], until[..., 0, :], total[..., 0, 0], between[..., 0, :, :]


def pair_products(q: Tensor, k: Tensor, g: Tensor, read: Read) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """sum_k q[i] k[j] exp(g after j to i) [...,M,C,N,C], then three sums of g [...,C,K] as in `pair_sums`.

    q: [...,M,C,K] and k: [...,N,C,K], M sorts of the one and N of the other that share g [...,C,K].
    """
    total = g[..., None, :]  # per block: [...,blocks,1,K]
    since = total if read == "after" else torch.zeros_like(total)
    until = torch.zeros_like(total)
    q, k = (x.transpose(-3, -2)[..., None, :] for x in (q, k))  # [...,blocks,M or N,1,K]
    own = (q[..., None, None, :] * k[..., None, None, :, :, :]).sum(-1)  # [...,blocks,M,1,N,1]
    pairs = own if read == "after" else torch.zeros_like(own)
    pairs = pairs.expand(torch.broadcast_shapes(pairs.shape, (*g.shape[:-1], 1, 1, 1, 1)))
    while total.shape[-3] > 1:
        (since0, since1), (until0, until1), (total0, total1) = (blocks(x, 2) for x in (since, until, total))
        (_, q1), (k0, _), (pairs0, pairs1) = blocks(q, 3), blocks(k, 3), blocks(pairs, 4)
        late, early = q1 * since1.exp()[..., None, :, :], k0 * until0.exp()[..., None, :, :]
        meeting = late.flatten(-3, -2) @ early.flatten(-3, -2).mT
        meeting = meeting.unflatten(-1, early.shape[-3:-1]).unflatten(-3, late.shape[-3:-1])
        above = torch.cat([pairs0, torch.zeros_like(meeting)], -1)
        pairs = torch.cat([above, torch.cat([meeting, pairs1], -1)], -3)
        since = torch.cat([since0, since1 + total0], -2)
        until = torch.cat([until0 + total1, until1], -2)
        total = total0 + total1
        q, k = (x.unflatten(-4, (-1, 2)).transpose(-4, -3).flatten(-3, -2) for x in (q, k))
    return pairs[..., 0, :, :, :, :], since[..., 0, :, :], until[..., 0, :, :], total[..., 0, 0, :]


def _halves(x: Tensor) -> tuple[Tensor, ...]:
    """[...,blocks,s] as the even and the odd blocks."""
    return x.reshape(*x.shape[:-2], -1, 2, x.shape[-1]).unbind(-2)


def blocks(x: Tensor, inside: int) -> tuple[Tensor, ...]:
    """[...,blocks,*inside] as the even and the odd blocks."""
    halves: tuple[Tensor, ...] = x.unflatten(-1 - inside, (-1, 2)).unbind(-1 - inside)
    return halves


def _carry(added: Tensor, decay: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
    """The state before every chunk and after the last, from what each adds [B,N,G,R,K,V] and how it damps."""
    chunks = added.shape[1]
    damping = [None] * chunks if decay is None else decay.expand(-1, chunks, *decay.shape[2:]).unbind(1)
    before = []
    for new, damp in zip(added.unbind(1), damping, strict=True):
        before.append(state)
        state = state + new if damp is None else torch.addcmul(new, state, damp)
    return torch.stack(before, 1), state


def split(x: Tensor, size: int, heads: tuple[int, int]) -> Tensor:
    """[B,T,H,K] as [B,N,G,R,C,K], with empty steps at the end."""
    missing = -x.shape[1] % size
    if missing:
        x = F.pad(x, (0, 0, 0, 0, 0, missing))
    return x.reshape(x.shape[0], -1, size, *heads, x.shape[3]).permute(0, 1, 3, 4, 2, 5)


def _fold(x: Tensor) -> Tensor:
    """[...,R,C,V] as [...,1,C,R*V]: the heads of a group as columns of one matrix."""
    return x.transpose(-3, -2).flatten(-2)[..., None, :, :] if x.shape[-3] > 1 else x


def _unfold(x: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_fold`, for the heads of `like`."""
    heads, values = like.shape[-3], like.shape[-1]
    return x.squeeze(-3).unflatten(-1, (heads, values)).transpose(-3, -2) if heads > 1 else x
