"""The one-step Jacobian of a memory that feeds back: how all states on a cycle together move the next ones, at some steps of a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssir.analyze.subject import Place
from ssir.reference.interpreter import FrameStep

LARGEST = 256  # numbers on a cycle whose Jacobian is found
_TIMES = 4  # steps of a sequence at which it is

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Jacobian:
    """Of the states on one cycle, ``size`` numbers: its eigenvalues [times, size], at the steps ``at``; ``unknown``: why there are none."""

    states: tuple[str, ...]
    size: int
    at: tuple[int, ...]
    values: Array
    unknown: str | None = None

    @property
    def radius(self) -> Array:
        """The spectral radius at each step."""
        found: Array = np.abs(self.values).max(1)
        return found

    def record(self) -> dict[str, Any]:
        return {
            "states": list(self.states),
            "size": self.size,
            "at": list(self.at),
            "radius": [] if self.unknown else [float(x) for x in self.radius],
            "unknown": self.unknown,
        }


class Jacobians:
    """Those of every cycle, from the steps that are shown."""

    def __init__(self, steps: int) -> None:
        self.at = {round(i * (steps - 1) / _TIMES) for i in range(1, _TIMES + 1)}
        self._found: dict[tuple[str, tuple[str, ...]], dict[int, Array]] = {}
        self._lacking: dict[tuple[str, tuple[str, ...]], tuple[int, str]] = {}

    def look(self, place: Place, step: FrameStep) -> None:
        states = _states(place)
        key = (place.frame.prefix, states)
        if not states or step.t not in self.at or key in self._lacking or step.t in self._found.get(key, {}):
            return
        before = {name: step.kept(place.graph[name], step.before(place.graph[name])) for name in states}
        size = sum(x.numel() for x in before.values())
        if size > LARGEST:
            self._lacking[key] = size, f"{size} numbers are on the cycle; of more than {LARGEST} no Jacobian is found"
        elif any(x.is_complex() for x in before.values()):
            self._lacking[key] = size, "complex numbers are on the cycle"
        else:
            matrix = _jacobian(step, before)
            if torch.isfinite(matrix).all():
                self._found.setdefault(key, {})[step.t] = torch.linalg.eigvals(matrix).numpy()

    def of(self, place: Place) -> Jacobian | None:
        """That of the cycle on which a place lies, if it lies on one."""
        states = _states(place)
        if not states:
            return None
        key = (place.frame.prefix, states)
        if key in self._lacking:
            size, why = self._lacking[key]
            return Jacobian(states, size, (), np.zeros((0, 0)), why)
        found = self._found.get(key, {})
        if not found:
            return Jacobian(states, 0, (), np.zeros((0, 0)), "no step that was looked at has a finite one")
        values = np.stack(list(found.values()))
        return Jacobian(states, values.shape[1], tuple(found), values)


def _states(place: Place) -> tuple[str, ...]:
    """The states on the cycle of a place; a register that grows is no part of it, for it has no size."""
    cycle = place.facts.cycle or ()
    return tuple(
        node.name
        for node in place.graph.states
        if node.name in cycle and all(size is not None for _, size in node.attrs["axes"])
    )


def _jacobian(step: FrameStep, before: dict[str, Tensor]) -> Tensor:
    """[size, size]: of the memories after a step with respect to those before it; all else stays as it was."""
    sizes = [x.numel() for x in before.values()]

    def after(flat: Tensor) -> Tensor:
        parts = dict(zip(before, flat.split(sizes), strict=True))
        memory = {step.frame.prefix + name: part.reshape(before[name].shape) for name, part in parts.items()}
        again = FrameStep(step.frame, step.inputs, step.memory | memory, step.moment, step.whole, step.t)
        nodes = [step.graph[name] for name in before]
        return torch.cat([again.kept(node, again.next(node)).reshape(-1) for node in nodes])

    with torch.enable_grad():
        flat = torch.cat([x.detach().reshape(-1) for x in before.values()])
        found: Tensor = torch.autograd.functional.jacobian(after, flat)
    return found.detach()
