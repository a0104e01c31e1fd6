"""Small dims for a spec, so that checking it is quick: every literal dim made as small as the spec allows, with all its parts left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from math import prod

from ssir import passes
from ssir.errors import SSIRError
from ssir.ir.graph import Dependence, Graph
from ssir.ir.ops import NORM
from ssir.passes.ranges import interval
from ssir.spec.load import Spec

LONGEST = 300  # steps that a table of positions must have room for
_FEW = 4
_SMALL = ((2, 3, 4, 5, 6, 8, 12, 16, 32, 64), (3, 2, 4, 5, 6, 8, 12, 16, 32, 64))


def shrunk(spec: Spec) -> Spec:
    """The spec with dims that its user did not set made small; the same spec if that cannot be done."""
    file = spec.module.file
    literal = [name for name, value in file.dims.items() if not isinstance(value, str) and name not in spec.overrides]
    parts = _parts(spec.graph)
    current = dict(spec.overrides)
    best = spec
    for _ in range(3):
        before = dict(current)
        for i, name in enumerate(literal):
            for candidate in _candidates(i, current.get(name, float(best.dims[name] or 0))):
                trial = Spec(spec.module, spec.component, {**current, name: candidate})
                if _fits(trial, parts):
                    current, best = dict(trial.overrides), trial
                    break
        if current == before:
            break
    return best


def _candidates(place: int, now: float) -> Iterator[int]:
    """Small sizes to try, in an order that makes neighbouring dims differ."""
    for size in _SMALL[place % len(_SMALL)]:
        if size < now:
            yield size
    if now > LONGEST:
        yield LONGEST


def _parts(graph: Graph) -> list[str]:
    return [one.name for one in graph.walk()]


def _fits(spec: Spec, parts: list[str]) -> bool:
    try:
        graph = spec.graph
    except SSIRError:
        return False
    return _parts(graph) == parts and _uses_all(graph) and _has_room(passes.run(graph)) and _is_tame(graph)


def _is_tame(graph: Graph) -> bool:
    """Whether no norm is taken over so few entries that little but their signs is left, and rounding decides the rest."""
    for one in graph.walk():
        for node in one:
            if node.op in NORM and node.inputs:
                type = one[node.inputs[0]].type
                if prod(type.axis(name).size or _FEW for name in node.attrs["over"]) < _FEW:
                    return False
    return True


def _uses_all(graph: Graph) -> bool:
    """Whether every body of a stack is run."""
    used = {name for node in graph if node.op == "stack" for name in node.attrs["pattern"]}
    return used == set(graph.bodies) and all(_uses_all(body) for body in graph.bodies.values())


def _has_room(graph: Graph) -> bool:
    """Whether tables that are indexed by position, or up to a known number, are long enough."""
    for one in graph.walk():
        for node in one:
            if node.op == "embed":
                index, rows = one[node.inputs[0]], one[node.inputs[1]].type.axes[0].size or 0
            elif node.op == "select":
                index, rows = one[node.inputs[1]], one[node.inputs[0]].type.axis(node.attrs["axis"]).size or 0
            else:
                continue
            top = interval(one, index.name)[1]
            known = math.isfinite(top)
            by_position = index.type.dependence is Dependence.POSITION
            if (known and rows <= top) or (by_position and not known and rows < LONGEST):
                return False
    return True
