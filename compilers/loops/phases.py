"""What a body is computed in: nests of loops, products, systems of equations, layers; and the buffers between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import add
from typing import NamedTuple

from ssir.compilers.loops.spelling import REDUCED
from ssir.ir.graph import Graph, Node

Lags = tuple[tuple[str, int], ...]
"""By axis whose slots may be absent, the inputs by which they lag, as in a type."""


@dataclass
class Nest:
    """Loops over axes, the last of which may be summed ``over``. ``nodes``: what is computed inside, in order."""

    axes: tuple[str, ...]
    nodes: list[str] = field(default_factory=list)
    over: tuple[str, ...] = ()
    lags: Lags = ()
    partition: str | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        return self.axes[: len(self.axes) - len(self.over)]


@dataclass
class Product:
    """A product with a constant matrix: its axes in the result (``per`` and ``out``), and those summed over. ``strides``: of the matrix,
    along each of ``per``, all of ``out`` and all of ``over``; ``packed``: where it stands among the packed ones. ``chosen``: a value along the
    first of ``per``; where it is zero the result is, and the matrix is not read. ``along``: the axis of a whole sequence, each entry of which is
    multiplied."""

    node: str
    matrix: str
    operand: str
    per: tuple[str, ...]
    out: tuple[str, ...]
    over: tuple[str, ...]
    strides: tuple[list[int], int, int]
    results: int
    inner: int
    packed: int
    along: tuple[str, ...] = ()
    partition: str | None = None
    chosen: str | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        return (*self.along, *self.per, *self.out)


@dataclass
class Layers:
    """The layers of a stack, one after another. ``values``: what goes in; ``results``: what comes out, as nodes of the body."""

    node: str
    values: tuple[str, ...]
    results: tuple[str, ...]
    axes: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    partition: None = None


@dataclass
class Solve:
    """The solution of a system of equations, with a place to work on its matrix. Everyone computes all of it."""

    node: str
    matrix: str
    right: str
    size: int
    columns: int
    axes: tuple[str, ...]
    over: tuple[str, ...] = ()
    partition: None = None

    @property
    def values(self) -> tuple[str, str]:
        """What goes in."""
        return self.matrix, self.right

    @property
    def place(self) -> str:
        return f"{self.node}.work"


Phase = Nest | Product | Layers | Solve


@dataclass
class Buffer:
    """Where a value lies between phases: [ROWS][axes], per member of the team if it is private; twice if others read it. ``at``: where it
    begins, as C."""

    axes: tuple[str, ...]
    phase: int
    private: bool = False
    twice: bool = False
    at: str = "0"


class Extent(NamedTuple):
    """A count of numbers: some, and so many for every entry that registers have room for, every entry of a whole sequence, every two of those."""

    fixed: int = 0
    room: int = 0
    length: int = 0
    pairs: int = 0

    def plus(self, other: Extent) -> Extent:
        return Extent(*map(add, self, other))

    def times(self, by: int) -> Extent:
        return Extent(*(one * by for one in self))

    def either(self, other: Extent) -> Extent:
        """What is enough for one as for the other."""
        return Extent(*map(max, self, other))

    def __str__(self) -> str:
        """As C."""
        each = zip(self[1:], ("room", "length", "length * length"), strict=True)
        words = [str(self.fixed)] if self.fixed or not any(self) else []
        words += [f"{count} * {of}" for count, of in each if count]
        return words[0] if len(words) == 1 else f"({' + '.join(words)})"


def lags_of(body: Graph, node: Node) -> Lags:
    """The lags of the axes that a node is computed over, those that it sums up included."""
    found = dict(node.type.absent)
    if node.op in REDUCED:
        for one in node.inputs:
            for axis, lag in body[one].type.absent:
                found[axis] = max(lag, found.get(axis, lag))
    return tuple(sorted(found.items()))
