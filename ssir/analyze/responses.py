"""Impulse and frequency responses of systems whose A, B and C are constant: K[0] = C B + D, K[l] = C A^l B.

A channel is one entry of the readout. Which it is said to have the shortest or the longest memory goes by its slowest pole, and in a register by
the middle of what C weighs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import numpy as np
import torch

from ssir.analyze.channel import Channel, channel, inner, taps
from ssir.analyze.poles import Array, coupled, eigenvalues, half_lives, matrices
from ssir.analyze.subject import Place, Subject
from ssir.ir.graph import Dependence

LARGEST = 256  # entries of the state that a channel reads
FREQUENCIES: Array = np.geomspace(1e-4, 0.5, 501)  # cycles a step
_SEARCHED = 32  # channels of a layer among which those to show are chosen


@dataclass(frozen=True, eq=False)
class Response:
    """Some channels of a state, over all its layers, by what they are; ``unknown``: why there are none."""

    kind: str
    channels: dict[str, Channel]
    unknown: str | None = None

    def record(self) -> dict[str, Any]:
        return {
            "state": self.kind,
            "frequencies": [float(f) for f in FREQUENCIES],
            "channels": [_record(name, one) for name, one in self.channels.items()],
            "unknown": self.unknown,
        }


def _record(name: str, one: Channel) -> dict[str, Any]:
    impulse, response = one.impulse(one.lags), one.frequency(FREQUENCIES)
    return {
        "memory": name,
        "path": one.place.path,
        "at": one.at,
        "half_life": _finite(one.half_life),
        "stable": one.stable,
        "impulse": [_finite(x) for x in impulse.real],
        "impulse_imag": [_finite(x) for x in impulse.imag] if impulse.imag.any() else None,
        "decibels": [_finite(x) for x in decibels(response)],
        "phase": [_finite(x) for x in np.angle(response)],
    }


def decibels(response: Array) -> Array:
    with np.errstate(divide="ignore"):
        found: Array = 20 * np.log10(np.abs(response))
    return found


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def responses(subject: Subject) -> tuple[Response, ...]:
    """Those of all states that have one."""
    kinds: dict[str, list[Place]] = {}
    for place in subject.places:
        if _has_one(place):
            kinds.setdefault(place.kind, []).append(place)
    with torch.no_grad():
        return tuple(_response(kind, places) for kind, places in kinds.items())


def _has_one(place: Place) -> bool:
    """Whether a state is a constant system with an input that does more than wait: no delay, and no register that is read whole."""
    kind, depends = place.facts.structure.kind, place.facts.dependence
    fixed = all(depends.get(role, Dependence.CONSTANT) is Dependence.CONSTANT for role in "ABCD")
    moved = depends.get("x", Dependence.CONSTANT) > Dependence.POSITION
    read = place.node.role("C") is not None or kind not in ("shift", "zero")
    return fixed and moved and read and place.node.attrs["algebra"] == "plus_times" and not place.facts.grows


def _response(kind: str, places: Sequence[Place]) -> Response:
    size = prod(inner(places[0]))
    if size > LARGEST and places[0].facts.slots is None:
        words = f"a channel reads {size} entries of the state; of more than {LARGEST} no response is found"
        return Response(kind, {}, words)
    found = [(memory, place, at) for place in places for memory, at in _memories(place)]
    found.sort(key=lambda one: one[0])
    if found[0][0] < found[-1][0]:
        chosen = {"shortest": 0, "median": (len(found) - 1) // 2, "longest": -1}
    else:
        chosen = {"first": 0, "last": -1}
    made = {name: channel(*found[i][1:]) for name, i in chosen.items()}
    if "last" in made and np.array_equal(made["first"].impulse(64), made["last"].impulse(64)):
        made = {"every": made["first"]}
    return Response(kind, made)


def _memories(place: Place) -> Iterator[tuple[float, dict[str, int]]]:
    """Some channels, evenly spaced, with how long each remembers."""
    names, sizes = place.node.type.names, [axis.size or 1 for axis in place.node.type.axes]
    every = np.linspace(0, prod(sizes) - 1, min(prod(sizes), _SEARCHED)).round().astype(int)
    memory = _slowest(place) if place.facts.slots is None else _middle(place)
    for i in every:
        at = dict(zip(names, map(int, np.unravel_index(i, sizes)), strict=True))
        yield memory(at), at


def _middle(place: Place) -> Callable[[dict[str, int]], float]:
    """The slot in the middle of the taps of a channel."""
    step = place.at(0)

    def middle(at: dict[str, int]) -> float:
        weights = np.abs(taps(step, place, at))
        total = weights.sum()
        return float((weights * np.arange(len(weights))).sum() / total) if total else 0.0

    return middle


def _slowest(place: Place) -> Callable[[dict[str, int]], float]:
    """The half-life of the slowest pole of a channel."""
    if place.a is None:
        return lambda at: inf
    along = coupled(place.graph, place.a)
    names = [name for name in place.a.type.names if name not in along]
    values = matrices(place.at(0), place.a, place.graph)
    known: dict[tuple[int | None, ...], float] = {}

    def slowest(at: dict[str, int]) -> float:
        key = tuple(at.get(name) for name in names)
        if key not in known:
            part = values[tuple(slice(None) if i is None else i for i in key)]
            poles = eigenvalues(part) if along else part.to(torch.complex128).numpy()
            known[key] = float(half_lives(poles).max())
        return known[key]

    return slowest
