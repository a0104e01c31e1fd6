"""Systems that do not change with time.

    h[t] = A h[t-1] + B x[t]        y[t] = C h[t]        so        y = K * x        K[l] = C A^l B

A is a diagonal or a matrix. Where C sums over the state, the state is never written out: inside a chunk of steps y is x times the
Toeplitz matrix of K, and what lies before the chunk comes in by way of the state at its start (`System.run`). Where the state
itself is wanted, it is found by a scan whose operator is the same at every step (`System.scan`), so that only its powers A^2, A^4,
... are needed. Powers are found by squaring, which needs no logarithm and no division, so that A may be 0, negative or complex.

Shapes: B batch, T time, E systems side by side (1 where they are alike), S states, I inputs, O outputs of each, Q steps in a chunk.
"""

from functools import cached_property
from math import nan

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ....compilers.runtime import native
from ....compilers.runtime.custom_ops import operator
from ....compilers.runtime.support import Read, data_type, finite, of_type, reached, state_type, without_autocast

CHUNK = 64


class System:
    """A, B and C, with what follows from them, found when it is first wanted.

    a: [E,S], a diagonal, or [E,S,S]; b: [E,S,I]; c: [E,O,S], both None for `scan` alone; E may be 1 in any of them.
    read="before": y[t] = C h[t-1]. real: only the real part of y is wanted, and x is real.
    """

    def __init__(
        self, a: Tensor, b: Tensor | None = None, c: Tensor | None = None, read: Read = "after", real: bool = False
    ) -> None:
        self.given = (a, b, c)
        self.real = real
        kind = state_type(data_type(a, b))
        if c is not None:
            c = c.real if real and not kind.is_complex and c.is_complex() else c
            c = _for_each(c.to(state_type(data_type(a, b, c))), a)
        self.read = read
        self.a, self.b, self.c = of_type(a, kind), None if b is None else _for_each(of_type(b, kind), a), c
        self.halves = (
            real and kind.is_complex
        )  # the two parts of the state count as states of their own in what leaves it
        self.powers: list[Tensor] = []  # A^1, A^2, A^4, ...: squaring doubles the error of what it squares

    def power(self, i: int) -> Tensor:
        """A^(2^i), in float64."""
        if not self.powers:
            self.powers.append(_wide(self.a))
        while len(self.powers) <= i:
            last = self.powers[-1]
            self.powers.append(last * last if last.dim() == 2 else last @ last)
        return self.powers[i]

    @cached_property
    def grown(self) -> Tensor:
        """A^(Q-1-j) B, what the input j steps after the start of a chunk adds to the state at its end: [E,S,Q,I]."""
        assert self.b is not None
        grown = _wide(self.b)[:, :, None]
        for i in range(CHUNK.bit_length() - 1):
            power = self.power(i)
            later = power[:, :, None, None] * grown if power.dim() == 2 else _columns(power, grown)
            grown = torch.cat([later, grown], 2)
        return grown.to(self.b.dtype)

    @cached_property
    def entering(self) -> Tensor:
        """`grown` as [E,Q*I,S]; [E,Q*I,2*S] if the parts of the state are apart."""
        grown = self.grown.permute(0, 2, 3, 1).flatten(1, 2)
        return torch.view_as_real(grown).flatten(2) if self.halves else grown

    @cached_property
    def leaving(self) -> Tensor:
        """C A^(t+1), read before C A^t, what each output of a chunk takes from the state before it: [E,S or 2*S,Q*O]."""
        assert self.c is not None
        seen = _wide(self.c)[:, None]
        if self.read == "after":
            seen = _rows(seen, self.power(0))
        for i in range(CHUNK.bit_length() - 1):
            seen = torch.cat([seen, _rows(seen, self.power(i))], 1)
        seen = seen.flatten(1, 2).to(self.c.dtype)
        return (torch.view_as_real(seen.conj().resolve_conj()).flatten(2) if self.halves else seen).mT.contiguous()

    @cached_property
    def toeplitz(self) -> Tensor:
        """K[t-j], what each output of a chunk takes from each input: [E,Q*I,Q*O]."""
        assert self.c is not None
        kernel = _columns(self.c, self.grown.to(self.c.dtype))  # [E,O,Q,I], the newest last
        kernel = (kernel.real if self.halves else kernel).transpose(2, 3)
        late = 1 if self.read == "before" else 0
        rows = F.pad(kernel[..., late:], (0, CHUNK - 1 + late)).unfold(-1, CHUNK, 1)  # [E,O,I,Q,Q], the last row first
        return rows.flip(3).permute(0, 4, 2, 3, 1).flatten(3, 4).flatten(1, 2)

    def run(
        self, x: Tensor, h0: Tensor | None = None, reset: Tensor | None = None, clear: Tensor | float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """x: [B,T,E,I]; h0: [B,E,S]; reset: [B,T] bool; clear: [E,S], the memory at the start and after a reset.

        Returns y [B,T,E,O] and the last h [B,E,S], in float32 at least.
        """
        if native.watched():
            return _system(*self.given, x, h0, reset, *_split(clear), self.read, self.real, False)
        with without_autocast():
            return self._run(x, h0, reset, clear)

    def _run(self, x: Tensor, h0: Tensor | None, reset: Tensor | None, clear: Tensor | float) -> tuple[Tensor, Tensor]:
        assert self.c is not None
        x, h, cleared = self._given(x, x.shape[2], h0, clear)
        if x.numel() == 0:
            kind = data_type(x, self.c, h)
            kind = kind.to_real() if self.halves else kind
            return x.new_zeros(*x.shape[:3], self.c.shape[1], dtype=kind), h
        if reset is not None:
            return self._with_resets(x, h, reset, cleared)
        y, last = self._whole(x, h)
        if finite(y, last):
            return y, last
        # A product over a chunk meets every step with every other: what is not finite is taken out, and put back where it reaches.
        entering, start = ~x.isfinite().all(-1), ~h.isfinite()
        after = seen = reached(entering, None, start.any(-1))
        if self.read == "before":
            seen = torch.cat([start.any(-1)[:, None], after[:, :-1]], 1)
        spoiled = after[:, -1, :, None]
        if self.a.dim() == 2:
            spoiled = reached(entering, None)[:, -1, :, None] | start
        y, last = self._whole(torch.where(x.isfinite(), x, 0), torch.where(start, 0, h))
        return torch.where(seen[..., None], nan, y), torch.where(spoiled, nan, last)

    def _whole(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        whole = x.shape[1] // CHUNK * CHUNK
        ys = []
        if whole:
            y, h = self._chunks(x[:, :whole], h)
            ys.append(y)
        if x.shape[1] > whole:
            y, h = self._rest(x[:, whole:], h)
            ys.append(y)
        return torch.cat(ys, 1) if len(ys) > 1 else ys[0], h

    def scan(
        self, u: Tensor, h0: Tensor | None = None, reset: Tensor | None = None, clear: Tensor | float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """h[t] = A h[t-1] + u[t], u: [B,T,E,S]. Returns h [B,T,E,S] and the last h [B,E,S], in float32 at least."""
        if native.watched():
            a, b, _ = self.given
            return _system(a, b, None, u, h0, reset, *_split(clear), self.read, self.real, True)
        with without_autocast():
            return self._scan_all(u, h0, reset, clear)

    def _scan_all(
        self, u: Tensor, h0: Tensor | None, reset: Tensor | None, clear: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        u, h, cleared = self._given(u, u.shape[2], h0, clear)
        u = u.to(h.dtype)
        if u.numel() == 0:
            return u, h
        alive = None
        if reset is not None:
            alive = ~reset[..., None, None]
            h = torch.where(alive[:, 0], h, 0)  # what is cleared at once gets into no product, nor into its gradient
            u = torch.where(alive, u, u + self._move(0, cleared[None, None].to(h.dtype)))
        h = self._scan(u, h, alive, 0)
        return h, h[:, -1]

    def _given(self, x: Tensor, groups: int, h0: Tensor | None, clear: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """x, the memory before it [B,E,S], and what it is after a reset [E,S]."""
        starts = [one for one in (h0, clear) if isinstance(one, Tensor)]
        kind = state_type(data_type(x, self.a, self.b, *starts))
        one = clear.to(kind) if isinstance(clear, Tensor) else x.new_full((), clear, dtype=kind)
        cleared = one.expand(groups, self.a.shape[-1])
        h = cleared.expand(x.shape[0], -1, -1) if h0 is None else of_type(h0, kind)
        return x.to(state_type(x.dtype)), h, cleared

    def _scan(self, u: Tensor, h: Tensor, alive: Tensor | None, i: int) -> Tensor:
        """A scan whose operator is A^(2^i): two steps are one with the operator squared, which gives every second h."""
        time = u.shape[1]
        if time == 1:
            moved = self._move(i, h[:, None])
            return u + (moved if alive is None else torch.where(alive, moved, 0))
        if time % 2:
            u = F.pad(u, (0, 0, 0, 0, 0, 1))
            alive = None if alive is None else F.pad(alive, (0, 0, 0, 0, 0, 1), value=True)
        early, late = u.unflatten(1, (-1, 2)).unbind(2)
        moved = self._move(i, early)
        if alive is None:
            ends = self._scan(moved + late, h, None, i + 1)
            begins = early + self._move(i, torch.cat([h[:, None], ends[:, :-1]], 1))
        else:
            first, second = alive.unflatten(1, (-1, 2)).unbind(2)
            ends = self._scan(torch.where(second, moved, 0) + late, h, first & second, i + 1)
            begins = self._move(i, torch.cat([h[:, None], ends[:, :-1]], 1))
            begins = early + torch.where(first, begins, 0)
        return torch.stack([begins, ends], 2).flatten(1, 2)[:, :time]

    def _move(self, i: int, h: Tensor) -> Tensor:
        """A^(2^i) h, for h [B,T,E,S]."""
        power = self.power(i).to(h.dtype)
        if power.dim() == 2:
            return power * h
        return h @ power[0].mT if power.shape[0] == 1 else torch.einsum("ers,btes->bter", power, h)

    def _with_resets(self, x: Tensor, h: Tensor, reset: Tensor, clear: Tensor) -> tuple[Tensor, Tensor]:
        """Chunk after chunk with the state written out, each recomputed in the backward pass."""
        ys = []
        self.power(
            CHUNK.bit_length() - 1
        )  # all that a chunk needs, found where no backward pass will look for it again
        for t in range(0, x.shape[1], CHUNK):
            pieces = (x[:, t : t + CHUNK], h, reset[:, t : t + CHUNK], clear)
            if torch.is_grad_enabled() and x.shape[1] > CHUNK and not native.transformed():
                y, h = checkpoint(self._piece, *pieces, use_reentrant=False)
            else:
                y, h = self._piece(*pieces)
            ys.append(y)
        return torch.cat(ys, 1), h

    def _piece(self, x: Tensor, h: Tensor, reset: Tensor, clear: Tensor) -> tuple[Tensor, Tensor]:
        assert self.b is not None and self.c is not None
        u = _each(self.b, x)
        states, last = self._scan_all(u, h, reset, clear)
        if self.read == "before":
            states = torch.cat([h[:, None], states[:, :-1]], 1)
            states = torch.where(reset[..., None, None], clear, states)
        y = _each(self.c, states)
        return y.real if self.halves else y, last

    def _chunks(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Whole chunks, all at once; the states between them by a scan."""
        batch, inputs = x.shape[0], x.unflatten(1, (-1, CHUNK)).permute(3, 1, 0, 2, 4)  # [E,N,B,Q,I]
        rows = inputs.flatten(3).flatten(1, 2).contiguous()  # a product of many matrices is slow without
        entered = self._enter(rows, h).unflatten(1, (-1, batch)).permute(2, 1, 0, 3)  # [B,N,E,S]
        ends = self._ends(entered, h)
        starts = torch.cat([h[:, None], ends[:, :-1]], 1).permute(2, 1, 0, 3).flatten(1, 2)
        y = self._leave(rows, starts, CHUNK)
        y = y.unflatten(2, (CHUNK, -1)).unflatten(1, (-1, batch)).permute(2, 1, 3, 0, 4).flatten(1, 2)
        return y, ends[:, -1]

    def _ends(self, entered: Tensor, h: Tensor) -> Tensor:
        """The states [B,N,E,S] after each chunk, from what enters in it."""
        if not h.is_cpu:  # operations are few but large
            return self._scan(entered, h, None, CHUNK.bit_length() - 1)
        ends = []
        for new in entered.unbind(1):
            h = new + self._move(CHUNK.bit_length() - 1, h[:, None])[:, 0]
            ends.append(h)
        return torch.stack(ends, 1)

    def _rest(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Less than a chunk."""
        steps = x.shape[1]
        rows = x.permute(2, 0, 1, 3).flatten(2).contiguous()
        state = h.transpose(0, 1)
        y = self._leave(rows, state, steps).unflatten(2, (steps, -1)).permute(1, 2, 0, 3)
        for i in range(steps.bit_length()):
            if steps >> i & 1:
                state = _moved(state, self.power(i).to(h.dtype))
        return y, (self._enter(rows, h) + state).transpose(0, 1)

    def _enter(self, rows: Tensor, like: Tensor) -> Tensor:
        """What inputs [E,M,steps*I] add to the state [E,M,S]."""
        added = _times(rows, self.entering[:, -rows.shape[2] :])
        return torch.view_as_complex(added.unflatten(-1, (-1, 2))) if self.halves else added.to(like.dtype)

    def _leave(self, rows: Tensor, state: Tensor, steps: int) -> Tensor:
        """Outputs [E,M,steps*O] from inputs [E,M,steps*I] and the state [E,M,S] before them."""
        out = self.leaving.shape[2] // CHUNK * steps
        state = torch.view_as_real(state.resolve_conj()).flatten(2) if self.halves else state
        return _times(rows, self.toeplitz[:, : rows.shape[2], :out]) + _times(state, self.leaving[..., :out])


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float64))


def _for_each(x: Tensor, a: Tensor) -> Tensor:
    """x [E,...] once for each system that a tells apart."""
    return x.expand(max(x.shape[0], a.shape[0]), -1, -1)


def _split(clear: Tensor | float) -> tuple[Tensor | None, float]:
    return (clear, 0.0) if isinstance(clear, Tensor) else (None, clear)


def _shapes(
    a: Tensor,
    b: Tensor | None,
    c: Tensor | None,
    x: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    clear: Tensor | None,
    fill: float,
    read: Read,
    real: bool,
    scan: bool,
) -> tuple[Tensor, Tensor]:
    system = System(a, b, c, read, real)
    x, h, _ = system._given(x, x.shape[2], h0, fill if clear is None else clear)
    last = x.new_empty(x.shape[0], x.shape[2], a.shape[1], dtype=h.dtype)
    if scan:
        return x.new_empty(x.shape, dtype=h.dtype), last
    assert system.c is not None
    kind = data_type(x, system.c, h)
    return x.new_empty(*x.shape[:3], system.c.shape[1], dtype=kind.to_real() if system.halves else kind), last


@operator(
    "system(Tensor a, Tensor? b, Tensor? c, Tensor x, Tensor? h0, Tensor? reset, Tensor? clear, float fill, str read,"
    " bool real, bool scan) -> (Tensor, Tensor)",
    _shapes,
)
def _system(
    a: Tensor,
    b: Tensor | None,
    c: Tensor | None,
    x: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    clear: Tensor | None,
    fill: float,
    read: Read,
    real: bool,
    scan: bool,
) -> tuple[Tensor, Tensor]:
    """``System.run`` or ``System.scan`` as a function of tensors."""
    system = System(a, b, c, read, real)
    return (system.scan if scan else system.run)(x, h0, reset, fill if clear is None else clear)


def invariant(
    a: Tensor, b: Tensor | None = None, c: Tensor | None = None, read: Read = "after", real: bool = False
) -> System:
    """A `System`."""
    return System(a, b, c, read, real)


def convolved(
    system: System, x: Tensor, h0: Tensor | None, reset: Tensor | None, clear: Tensor | float
) -> tuple[Tensor, Tensor]:
    """``System.run``."""
    return system.run(x, h0, reset, clear)


def scanned(
    system: System, x: Tensor, h0: Tensor | None, reset: Tensor | None, clear: Tensor | float
) -> tuple[Tensor, Tensor]:
    """``System.scan``."""
    return system.scan(x, h0, reset, clear)


def _times(x: Tensor, a: Tensor) -> Tensor:
    """The rows x [E,M,S] times a matrix [E,S,R]; one matrix for all systems makes one product."""
    kind = data_type(a, x)
    return of_type(x, kind) @ (of_type(a, kind) if a.shape[0] == x.shape[0] else a[0].to(kind))


def _moved(x: Tensor, power: Tensor) -> Tensor:
    """A power of A times every state of x [E,M,S]."""
    return power[:, None] * x if power.dim() == 2 else _times(x, power.mT)


def _columns(a: Tensor, x: Tensor) -> Tensor:
    """A matrix [E,R,S] times every column of x [E,S,Q,I]."""
    y: Tensor = (a @ x.flatten(2)).unflatten(2, x.shape[2:])
    return y


def _rows(x: Tensor, a: Tensor) -> Tensor:
    """Every row of x [E,Q,O,S] times A."""
    if a.dim() == 2:
        return x * a[:, None, None]
    y: Tensor = (x.flatten(1, 2) @ a.to(x.dtype)).unflatten(1, x.shape[1:3])
    return y


def _each(a: Tensor, x: Tensor) -> Tensor:
    """A matrix [E,R,S] times every x [B,T,E,S]: [B,T,E,R]."""
    kind = data_type(a, x)
    return torch.einsum("ers,btes->bter", of_type(a, kind).expand(x.shape[2], -1, -1), of_type(x, kind))
