"""Other dims for a spec, at which it can be checked: small ones, ones a little past a block, or the real ones as far as a plan needs them.

Whatever the dims, all parts are left, and what makes an op an op: an axis that is longer than one entry stays so (heads, groups of
queries, pairs to rotate), and a number that is smaller than an axis stays smaller (the experts that are chosen, where a slice ends).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from ssir import passes
from ssir.analysis.ranges import interval
from ssir.errors import SSIRError
from ssir.ir.graph import Dependence, Graph, Node
from ssir.ir.ops.sums import NORM
from ssir.spec.load import Spec

LONGEST = 512  # steps that a table of positions must have room for, if the spec's own has
_OFFSET = 8  # by which what looks a position up may be past it
_FEW = 4
_SMALL = ((2, 3, 4, 5, 6, 8, 12, 16, 32, 64), (3, 2, 4, 5, 6, 8, 12, 16, 32, 64))
_PAST = (
    37,
    35,
    21,
    19,
    36,
    34,
    38,
    22,
    18,
    20,
    33,
    66,
    72,
)  # more than a vector, more than two: never a whole number of them
_PARAMETERS = 300_000  # of a spec whose dims are past a block

Accepts = Callable[[Spec], bool]


def shrunk(spec: Spec) -> Spec:
    """The spec with dims that its user did not set made small; the same spec if that cannot be done."""
    kinds = _kinds(spec.graph)
    best = _settled(spec, spec, _smaller, lambda trial: _fits(trial, kinds), rounds=3)
    layers = _layers(best.graph)
    # Where one dim could as well be another, a mistaken axis shows only if the two differ.
    return _settled(spec, best, _apart, lambda trial: _fits(trial, kinds) and _layers(trial.graph) == layers)


def past_a_block(spec: Spec) -> Spec:
    """The spec with dims that are not the multiple of any block, and longer than one wherever that leaves a small model."""
    kinds, layers = _kinds(spec.graph), _layers(shrunk(spec).graph)

    def fits(trial: Spec) -> bool:
        return _fits(trial, kinds) and _layers(trial.graph) == layers and count(trial.graph) <= _PARAMETERS

    return _settled(spec, shrunk(spec), lambda place, now, taken: _rolled(place), fits)


def cut(spec: Spec, same: Accepts, sizes: Sequence[int] = (2, 3, 4, 8, 12), rounds: int = 1) -> Spec:
    """The spec with as many dims made as small as leaves what ``same`` looks at as it is: layers, rows of a table."""
    kinds = _kinds(spec.graph)
    return _settled(
        spec, spec, lambda place, now, taken: sizes, lambda trial: _fits(trial, kinds) and same(trial), rounds
    )


def count(graph: Graph) -> int:
    """The number of parameters of a graph, as if no layers shared any."""
    return sum(sum(node.type.numel() for node in one.params) * times for one, times in _repeated(graph, 1))


def _repeated(graph: Graph, times: int) -> Iterator[tuple[Graph, int]]:
    yield graph, times
    for node in graph:
        if node.op == "stack":
            for name in dict.fromkeys(node.attrs["pattern"]):
                yield from _repeated(graph.bodies[name], times * node.attrs["pattern"].count(name))


def changed(spec: Spec, other: Spec) -> dict[str, float | None]:
    """The dims of the file in which another size of a spec differs from it, as they are there."""
    return {name: size for name, size in other.dims.items() if spec.dims[name] != size and name in _literal(spec)}


def _literal(spec: Spec) -> list[str]:
    dims = spec.module.file.dims
    return [name for name, value in dims.items() if not isinstance(value, str) and name not in spec.overrides]


Candidates = Callable[[int, float, set[float]], Iterable[int]]


def _settled(spec: Spec, best: Spec, candidates: Candidates, fits: Accepts, rounds: int = 1) -> Spec:
    """The spec with the first candidate that fits for each literal dim, until nothing changes."""
    literal = _literal(spec)
    current = dict(best.overrides)
    for _ in range(rounds):
        before = dict(current)
        for i, name in enumerate(literal):
            taken = {float(best.dims[other] or 0) for other in literal if other != name}
            now = float(best.dims[name] or 0)
            for candidate in candidates(i, now, taken):
                trial = Spec(spec.module, spec.component, {**current, name: candidate})
                if candidate < float(spec.dims[name] or 0) and fits(trial):
                    current, best = dict(trial.overrides), trial
                    break
        if current == before:
            break
    return best


def _smaller(place: int, now: float, taken: set[float]) -> Iterator[int]:
    """Small sizes to try, in an order that makes neighbouring dims differ."""
    for size in _SMALL[place % len(_SMALL)]:
        if size < now:
            yield size
    if now > LONGEST + _OFFSET:
        yield LONGEST + _OFFSET


def _apart(place: int, now: float, taken: set[float]) -> Iterator[int]:
    """Sizes near to a small one that no other dim has."""
    if now in taken and now <= _SMALL[0][-1]:
        yield from (size for size in range(int(now) + 1, int(now) + _FEW + 1) if size not in taken)


def _rolled(place: int) -> tuple[int, ...]:
    """The sizes past a block, from another one on for each dim."""
    start = place % 4
    return (*_PAST[start:4], *_PAST[:start], *_PAST[4:])


@dataclass(frozen=True)
class _Kinds:
    """What must stay as it is: the parts; for each node which of its axes are longer than one and which numbers are smaller; how many
    steps there is room for."""

    parts: list[str]
    orders: dict[str, list[bool]]
    room: float


def _kinds(graph: Graph) -> _Kinds:
    return _Kinds([one.name for one in graph.walk()], _orders(graph), min(room(graph), LONGEST))


def _orders(graph: Graph) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {}
    for i, one in enumerate(graph.walk()):
        for node in one:
            found[f"{i} {node.name}"] = list(_order(one, node))
    return found


def _order(graph: Graph, node: Node) -> Iterator[bool]:
    for size in node.type.sizes:
        yield size is None or size > 1
    numbers = [value for value in node.attrs.values() if isinstance(value, int) and not isinstance(value, bool)]
    sizes = [size for operand in graph.operands(node) for size in operand.type.sizes if size is not None]
    for number in numbers if node.op not in ("const", "pow") else ():
        for size in sizes:
            yield number < size


def _fits(spec: Spec, kinds: _Kinds) -> bool:
    try:
        graph = spec.graph
    except SSIRError:
        return False
    return (
        [one.name for one in graph.walk()] == kinds.parts
        and _keeps(_orders(graph), kinds.orders)
        and _uses_all(graph)
        and _has_room(graph, kinds.room)
        and _is_tame(graph)
    )


def _keeps(found: dict[str, list[bool]], wanted: dict[str, list[bool]]) -> bool:
    """Whether nothing that was longer, or smaller, has ceased to be."""
    return all(
        len(found[name]) != len(orders)
        or all(now or not before for now, before in zip(found[name], orders, strict=True))
        for name, orders in wanted.items()
        if name in found
    )


def _layers(graph: Graph) -> int:
    return sum(len(node.attrs["pattern"]) for one in graph.walk() for node in one if node.op == "stack")


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


def room(graph: Graph) -> float:
    """How many steps the tables that are indexed by position have room for."""
    return _room(passes.run(graph))


def _room(done: Graph) -> float:
    steps = math.inf
    for one, index, rows in _tables(done):
        if index.type.dependence is Dependence.POSITION and not math.isfinite(interval(one, index.name)[1]):
            steps = min(steps, rows if index.op == "position" else rows - _OFFSET)
    return max(steps, 1)


def _has_room(graph: Graph, steps: float) -> bool:
    """Whether tables that are indexed by position, or up to a known number, are long enough."""
    done = passes.run(graph)
    known = ((interval(one, index.name)[1], rows) for one, index, rows in _tables(done))
    return _room(done) >= steps and all(rows > top for top, rows in known if math.isfinite(top))


def _tables(graph: Graph) -> Iterator[tuple[Graph, Node, int]]:
    """What is looked up by a whole number: that number, and how many rows there are."""
    for one in graph.walk():
        for node in one:
            if node.op == "embed":
                yield one, one[node.inputs[0]], one[node.inputs[1]].type.axes[0].size or 0
            elif node.op == "select":
                yield one, one[node.inputs[1]], one[node.inputs[0]].type.axis(node.attrs["axis"]).size or 0
