"""Poles and half-lives: the eigenvalues of A, at each step at which it may be another, by the reference's own A."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssir.analyze.jacobian import Jacobian, Jacobians
from ssir.analyze.subject import Place, Subject
from ssir.ir.graph import Dependence, Graph, Node
from ssir.reference.interpreter import FrameStep

LARGEST = 512  # rows of a matrix of which eigenvalues are found
_NUMBERS = 1 << 18  # poles of a state that are kept, over all steps
_WORK = 2**27  # multiplications for the eigenvalues of a state, of all its matrices at all steps
_ROUND = 1e-12  # a magnitude so near 1 is 1: eigenvalues are not found more exactly
_SHOWN = 512  # poles of a state in the record

Array = np.ndarray[Any, np.dtype[Any]]
QUANTILES = {"min": 0.0, "q1": 0.25, "median": 0.5, "q3": 0.75, "max": 1.0}


@dataclass(frozen=True, eq=False)
class Poles:
    """The poles of a state of a layer. ``values``: complex, of all entries and steps that were looked at; ``entries``: of A at one step, of
    which ``looked`` were; ``steps``: at which A was looked at; ``window``: a register forgets after so many steps; ``unknown``: why there are
    none, or not at every step."""

    place: Place
    values: Array
    entries: int = 0
    looked: int = 0
    steps: int = 0
    window: int | None = None
    unknown: str | None = None
    jacobian: Jacobian | None = None

    @property
    def grows(self) -> bool:
        """Whether it is a register that forgets nothing."""
        return self.place.facts.grows

    @property
    def magnitude(self) -> Array:
        return np.abs(self.values)

    @property
    def frequency(self) -> Array:
        """Cycles a step, from 0 to 0.5."""
        turn: Array = np.abs(np.angle(self.values)) / (2 * np.pi)
        return np.where(turn > _ROUND, turn, 0.0)

    @property
    def half_life(self) -> Array:
        return half_lives(self.values)

    @property
    def unstable(self) -> float:
        """The share of poles outside the unit circle."""
        return float(outside(self.values).mean()) if self.values.size else 0.0

    def record(self) -> dict[str, Any]:
        facts = self.place.facts
        known = self.values.size > 0
        return {
            "state": self.place.kind,
            "path": self.place.path,
            "structure": str(facts.structure),
            "depends_on": str(facts.dependence["A"]),
            "algebra": self.place.node.attrs["algebra"],
            "steps": self.steps,
            "entries": self.entries,
            "looked_at": self.looked,
            "window": self.window,
            "grows": self.grows,
            "magnitude": five(self.magnitude) if known else None,
            "frequency": five(self.frequency) if known else None,
            "half_life": five(self.half_life) if known else None,
            "unstable": self.unstable if known else None,
            "poles": [[float(z.real), float(z.imag)] for z in spread(self.values, _SHOWN)],
            "unknown": self.unknown,
            "jacobian": None if self.jacobian is None else self.jacobian.record(),
        }


def half_lives(poles: Array) -> Array:
    """Steps after which half is left: infinite on the unit circle and outside, 0 at 0."""
    size = np.abs(poles)
    with np.errstate(divide="ignore"):
        return np.where(size >= 1 - _ROUND, np.inf, np.log(0.5) / np.log(np.minimum(size, 1 - _ROUND)))


def outside(poles: Array) -> Array:
    """Which lie outside the unit circle."""
    found: Array = np.abs(poles) > 1 + _ROUND
    return found


def five(values: Array) -> dict[str, float | None]:
    """Least, quartiles and greatest, each one of the values; what is infinite is None."""
    ordered = np.sort(values)
    at = {name: ordered[round(share * (len(ordered) - 1))] for name, share in QUANTILES.items()}
    return {name: float(value) if np.isfinite(value) else None for name, value in at.items()}


def spread(values: Array, count: int) -> Array:
    """At most so many of the values, evenly spaced."""
    if len(values) <= count:
        return values
    found: Array = values[np.linspace(0, len(values) - 1, count).round().astype(int)]
    return found


def poles(subject: Subject, progress: Callable[[str], None] = lambda words: None) -> tuple[Poles, ...]:
    """Those of every state, layer by layer."""
    known = {place.path: _simple(place) for place in subject.places}
    seen = {place.path: _Seen(place, subject.steps) for place in subject.places if known[place.path] is None}
    jacobians = Jacobians(subject.steps)

    def look(place: Place, step: FrameStep) -> None:
        if place.path in seen:
            seen[place.path].look(step)
        jacobians.look(place, step)

    places = [place for place in subject.places if place.path in seen or place.facts.cycle is not None]
    subject.look(places, look, progress)
    found = (known[place.path] or seen[place.path].poles() for place in subject.places)
    return tuple(replace(one, jacobian=jacobians.of(one.place)) for one in found)


def _simple(place: Place) -> Poles | None:
    """What is known of A without a look at numbers."""
    kind, slots = place.facts.structure.kind, place.facts.slots
    zero, one = np.zeros(1, complex), np.ones(1, complex)
    if kind == "shift":
        return Poles(place, zero, 1, 1, 1, slots.size if slots else None)
    if kind == "zero":
        return Poles(place, zero, 1, 1, 1, 1)
    if place.a is None or kind == "identity":
        return Poles(place, one, 1, 1, 1)
    axes = coupled(place.graph, place.a)
    sizes = [axis.size for axis in place.a.type.axes]
    if None in sizes:
        return Poles(place, zero[:0], unknown="A acts along an axis without a size")
    rows = prod(axis.size or 1 for axis in place.a.type.axes if axis.name in axes)
    if rows > LARGEST:
        return Poles(
            place, zero[:0], unknown=f"A is a matrix of {rows} rows; of more than {LARGEST} no eigenvalues are found"
        )
    return None


def coupled(graph: Graph, a: Node) -> tuple[str, ...]:
    """The axes along which A mixes entries, in the order of its type."""
    found: set[str] = set()
    todo = [a]
    while todo:
        one = todo.pop()
        along = one.attrs.get("axis" if one.op == "op.shift" else "over") if one.op.startswith("op.") else None
        if along is not None:
            found.add(along)
        todo += [graph[name] for name in one.inputs if graph[name].type.operator]
    return tuple(name for name in a.type.names if name in found)


def matrices(step: FrameStep, a: Node, graph: Graph) -> Tensor:
    """A as the reference applies it, as matrices along the axes that it mixes: [*rest, rows, rows], rest in the order of its type; where it
    mixes none, the diagonal: [*axes]."""
    names, sizes = a.type.names, [axis.size or 1 for axis in a.type.axes]
    along = coupled(graph, a)
    if not along:
        return step.apply(a, torch.ones(1, *sizes, dtype=step.dtype), names).expand(1, *sizes)[0]
    inner = [size if name in along else 1 for name, size in zip(names, sizes, strict=True)]
    rows = prod(inner)
    basis = torch.eye(rows, dtype=step.dtype).reshape(rows, *inner)
    at_once = max(1, (1 << 22) // (prod(sizes) * rows))
    columns = torch.cat([step.apply(a, part, names).expand(-1, *sizes) for part in basis.split(at_once)])
    front = [i + 1 for i, name in enumerate(names) if name not in along]
    last = [i + 1 for i, name in enumerate(names) if name in along]
    return columns.permute(*front, *last, 0).reshape(*(sizes[i - 1] for i in front), rows, rows)


def eigenvalues(matrix: Tensor) -> Array:
    """Of matrices [..., rows, rows]: [..., rows]. What is triangular but for rounding is read off: there eigenvalues that are
    equal would come out far apart."""
    size = matrix.abs().amax((-2, -1), keepdim=True)
    clean = torch.where(matrix.abs() <= 1e-14 * size, torch.zeros((), dtype=matrix.dtype), matrix)
    if not (clean.triu(1).any() and clean.tril(-1).any()):
        found = clean.diagonal(dim1=-2, dim2=-1)
    else:
        found = torch.linalg.eigvals(matrix)
    values: Array = found.to(torch.complex128).numpy()
    return values


@dataclass(eq=False)
class _Seen:
    """What was seen of one A."""

    place: Place
    steps: int
    found: list[Array] = field(default_factory=list)
    entries: int = 0
    looked: int = 0
    window: int | None = None
    broken: int = 0

    def look(self, step: FrameStep) -> None:
        a, constant = self.place.a, self.place.facts.dependence["A"] is Dependence.CONSTANT
        assert a is not None
        if constant and self.found:
            return
        with torch.no_grad():
            values, along = matrices(step, a, self.place.graph), coupled(self.place.graph, a)
            rows = values.shape[-1] if along else 1
            values = values.reshape(-1, rows, rows) if along else values.reshape(-1)
            times = 1 if constant else self.steps
            most = _NUMBERS // (rows * times) if rows == 1 else _WORK // (10 * rows**3 * times)
            chosen = values[_evenly(len(values), max(most, 2))]
            if not torch.isfinite(torch.view_as_real(chosen) if chosen.is_complex() else chosen).all():
                self.broken += 1
                return
            if self.place.node.attrs["algebra"] == "max_plus":
                chosen = chosen.exp()
            self.entries, self.looked = len(values) * rows, len(chosen) * rows
            self.found.append((eigenvalues(chosen) if along else chosen.to(torch.complex128).numpy()).reshape(-1))
            if along and rows > 1:
                self.window = _forgets(chosen)

    def poles(self) -> Poles:
        steps = len(self.found)
        why = f"A is not finite at {self.broken} of {steps + self.broken} steps" if self.broken else None
        values = np.concatenate([*self.found, np.zeros(0, complex)])
        return Poles(self.place, values, self.entries, self.looked, steps, self.window, why)


def _evenly(size: int, most: int) -> Tensor:
    count = min(size, most)
    return torch.linspace(0, size - 1, count).round().long()


def _forgets(matrix: Tensor) -> int | None:
    """After how many steps nothing is left, if that is so for all: the least power that is zero."""
    if eigenvalues(matrix[:1]).any():
        return None
    power = matrix
    for count in range(1, matrix.shape[-1] + 1):
        if not power.any():
            return count
        power = power @ matrix
    return None


def layers(found: Sequence[Poles]) -> Iterator[tuple[str, list[Poles]]]:
    """By state, those of all its layers."""
    kinds: dict[str, list[Poles]] = {}
    for one in found:
        kinds.setdefault(one.place.kind, []).append(one)
    yield from kinds.items()
