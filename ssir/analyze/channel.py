"""One input and one output of a constant system, cut out of the whole by the reference's own A, B, C and D.

An output is one entry of the readout; its input are the entries of x at the same place (along axes that B uses up, all at once); its state
are the entries that it reads or is fed by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssir.analyze.poles import Array, coupled, eigenvalues, half_lives, outside
from ssir.analyze.subject import Place
from ssir.reference.interpreter import FrameStep
from ssir.reference.ops import fit

LAGS = 1024  # at most, of an impulse response that has no end
_LATE = 1 << 40  # a position at which every slot of a register is there
_AT_ONCE = 1 << 22  # numbers
_ENOUGH = 6  # half-lives after which an impulse response is cut off


@dataclass(frozen=True, eq=False)
class Channel:
    """h = a h + b x, y = c h + d x, with a [n, n], b [n], c [n], complex; of a register a is None, and c b its taps, the newest first.
    ``before``: y reads h of a step before. ``real``: only the real part of y is used. ``at``: the entry of the readout, by axis."""

    place: Place
    at: dict[str, int]
    a: Array | None
    b: Array
    c: Array
    d: complex
    before: bool
    real: bool

    @cached_property
    def _poles(self) -> Array:
        return np.zeros(1, complex) if self.a is None else eigenvalues(torch.from_numpy(self.a))

    @property
    def half_life(self) -> float:
        """Of its slowest pole."""
        return float(half_lives(self._poles).max())

    @property
    def stable(self) -> bool:
        """Whether no pole lies outside the unit circle; else there is no frequency response."""
        return not outside(self._poles).any()

    @property
    def lags(self) -> int:
        """Of a register all that it has; else so many that nearly all of the response is among them, a power of two of at most LAGS."""
        if self.a is None:
            return len(self.c) + self.before
        wanted = 1 + len(self.c) + _ENOUGH * self.half_life
        return LAGS if wanted >= LAGS else max(16, 1 << int(np.ceil(np.log2(wanted))))

    def impulse(self, lags: int) -> Array:
        """K[0], ..., K[lags - 1]."""
        first = 1 if self.before else 0
        found = np.zeros(max(lags, first + len(self.c)), complex)
        if self.a is None:
            found[first : first + len(self.c)] = self.c * self.b
        else:
            h = self.b
            with np.errstate(over="ignore", invalid="ignore"):
                for lag in range(first, lags):
                    found[lag] = self.c @ h
                    h = self.a @ h
        found[0] += self.d
        return found[:lags].real.astype(complex) if self.real else found[:lags]

    def frequency(self, at: Array) -> Array:
        """c (1 - a / z)^-1 b + d at z = exp(2 pi i f), exactly; not finite where a pole lies, nor anywhere if it is not stable."""
        if not self.stable:
            return np.full(len(at), np.nan, complex)
        found = self._response(at)
        return (found + self._response(-at).conj()) / 2 if self.real else found

    def _response(self, at: Array) -> Array:
        back = np.exp(-2j * np.pi * at)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.a is None:
                found: Array = back[:, None] ** np.arange(len(self.c)) @ (self.c * self.b)
            elif not (self.a - np.diag(self.a.diagonal())).any():
                found = self.b / (1 - back[:, None] * self.a.diagonal()) @ self.c
            else:
                found = np.array([self._solved(one) for one in back])
            whole: Array = found * (back if self.before else 1) + self.d
        return whole

    def _solved(self, back: complex) -> complex:
        assert self.a is not None
        try:
            return complex(self.c @ np.linalg.solve(np.eye(len(self.b)) - back * self.a, self.b))
        except np.linalg.LinAlgError:  # a pole lies there
            return complex("nan")


def channel(place: Place, at: dict[str, int]) -> Channel:
    """The system of one entry of the readout."""
    with torch.no_grad():
        return _cut(place, at)


def inner(place: Place) -> list[int]:
    """The size of each axis of the state within one channel: 1 where a channel has one place."""
    free = _free(place)
    return [(axis.size or 1) if axis.name in free else 1 for axis in place.facts.axes]


def _free(place: Place) -> set[str]:
    along = coupled(place.graph, place.a) if place.a is not None else ()
    return {axis.name for axis in place.facts.axes if axis.name in along or axis.name not in place.node.type.names}


def _cut(place: Place, at: dict[str, int]) -> Channel:
    step, node = place.at(0), place.node
    sizes = inner(place)
    users = place.graph.users[node.name]
    real = bool(users) and all(place.graph[user].op == "real" for user in users)
    before = node.attrs["read"] == "before"
    d = 0j
    if node.role("D") is not None:
        _feed(step, place, at)
        nothing = torch.zeros(1, *sizes, dtype=torch.float64)
        d = complex(_readout(step, place, nothing, at)[0])
    if place.facts.slots is not None:
        return Channel(place, at, None, np.ones(1), taps(step, place, at), d, before, real)
    b = _fed(step, place, at)
    basis = torch.eye(prod(sizes), dtype=torch.float64).reshape(prod(sizes), *sizes)
    parts = list(basis.split(max(1, _AT_ONCE // prod(axis.size or 1 for axis in place.facts.axes))))
    c = np.concatenate([_readout(step, place, part, at) for part in parts]) - d
    a = np.concatenate(list(_applied(step, place, parts, at))).T.copy()
    return Channel(place, at, a, b, c, d, before, real)


def taps(step: FrameStep, place: Place, at: dict[str, int]) -> Array:
    """K of a register without D, slot by slot: what C weighs, along what B x feeds."""
    slots, c_name = place.facts.slots, place.node.role("C")
    assert slots is not None and c_name is not None
    sizes, names = inner(place), [axis.name for axis in place.facts.axes]
    c = step.real(c_name)
    types = place.graph[c_name].type.names
    picked = c[(slice(None), *(_place(name, at, place) for name in types))]
    weights = fit(picked, types, names).expand(1, *sizes)[0]
    fed = [1 if name == slots.name else size for name, size in zip(names, sizes, strict=True)]
    weighed = weights.to(torch.complex128).numpy() * _fed(step, place, at).reshape(fed)
    found: Array = weighed.sum(tuple(i for i, name in enumerate(names) if name != slots.name))
    return found


def _place(axis: str, at: dict[str, int], place: Place) -> slice[Any, Any, Any]:
    """All of an axis along which a channel has several places; else its place."""
    return slice(None) if axis in _free(place) or axis not in at else slice(at[axis], at[axis] + 1)


def _feed(step: FrameStep, place: Place, at: dict[str, int]) -> None:
    """Let x be 1 at the channel: along axes that A mixes, there alone."""
    name, free = place.node.role("x"), _free(place)
    assert name is not None
    axes = place.graph[name].type.axes
    x = torch.ones(1, *(axis.size or 1 for axis in axes), dtype=torch.float64)
    for i, axis in enumerate(axes):
        if axis.name in at and axis.name in free:
            x = x * (torch.arange(axis.size or 1) == at[axis.name]).reshape(-1, *[1] * (len(axes) - i - 1))
    step.values[name] = x


def _fed(step: FrameStep, place: Place, at: dict[str, int]) -> Array:
    """B x at the channel, [entries]; of a register those of its first slot."""
    _feed(step, place, at)
    entering = step.entering(place.node, tuple(axis.name for axis in place.facts.axes))
    slots = place.facts.slots
    found: Array = _at_channel(place, entering, at, 1 if slots is not None else None)[0]
    return found


def _at_channel(place: Place, x: Tensor, at: dict[str, int], slots: int | None = None) -> Array:
    """[batch, *axes] at a channel: [batch, entries]; of a register with so many slots."""
    names = [axis.name for axis in place.facts.axes]
    own = place.facts.slots.name if place.facts.slots is not None else None
    sizes = [slots if slots and axis.name == own else axis.size or 1 for axis in place.facts.axes]
    found: Tensor = x.expand(-1, *sizes)[(slice(None), *(_place(name, at, place) for name in names))]
    values: Array = found.reshape(len(x), -1).to(torch.complex128).numpy()
    return values


def _applied(step: FrameStep, place: Place, parts: list[Tensor], at: dict[str, int]) -> Iterator[Array]:
    names = tuple(axis.name for axis in place.facts.axes)
    for part in parts:
        yield _at_channel(place, part if place.a is None else step.apply(place.a, part, names), at)


def _readout(step: FrameStep, place: Place, h: Tensor, at: dict[str, int]) -> Array:
    """C h + D x of memories [batch, *axes] at a channel, long after the start: [batch]."""
    node, late = place.node, place.at(_LATE)
    late.values = {name: value for name, value in step.values.items() if name != node.name}
    late.memory = {place.path: late.kept(node, h)} if node.attrs["read"] == "before" else {}
    late.fresh[place.path] = h
    y = late.value(node.name).expand(-1, *(axis.size or 1 for axis in node.type.axes))
    for name in node.type.names:
        y = y[:, at[name]]
    found: Array = y.to(torch.complex128).numpy()
    return found
