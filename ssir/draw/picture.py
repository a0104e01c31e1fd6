"""A picture before it is DOT: rows of boxes and wires, in the one notation. It knows neither the IR nor Graphviz."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Shade(Enum):
    """What a value depends on, as colour and border say it."""

    FIXED = "constant"
    LEARNED = "learned"
    POSITION = "position"
    INPUT = "input"
    STATE = "state"


class Kind(Enum):
    """One shape a kind."""

    PORT = "input or output"
    PROJECTION = "projection"
    FUNCTION = "function"
    OPERATOR = "operator"
    CONSTANT = "constant"
    MEMORY = "memory"
    DELAY = "delay"
    COMPONENT = "component"


@dataclass(frozen=True)
class Cell:
    """A coefficient of a memory: its letter, its formula, what it is in words. ``differs`` is None where nothing is compared.
    ``stands``: the nodes that it stands for."""

    letter: str
    formula: str
    words: tuple[str, ...]
    shade: Shade | None
    differs: bool | None = None
    stands: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Box:
    """``stands`` are the nodes of the graph that it stands for; ``opens`` is the call that a component is, or with a / behind it the
    body of a layer. ``note`` stands under the label in small letters, ``name = `` before it.
    ``widths`` are the least widths of a memory's two columns, in points, where memories stand under one another. A memory has cells, and its size in words."""

    key: str
    kind: Kind
    label: str
    note: str = ""
    shade: Shade = Shade.INPUT
    name: str = ""
    cells: tuple[Cell, ...] = ()
    size: str = ""
    size_differs: bool | None = None
    widths: tuple[float, float] | None = None
    stands: frozenset[str] = frozenset()
    opens: str = ""

    @property
    def wired(self) -> bool:
        """Whether signals feed the coefficients of a memory; then x has a cell too."""
        return any(cell.letter == "x" for cell in self.cells)


@dataclass(frozen=True)
class Wire:
    """From a box to a box, or to the cell of a memory. ``label`` are its axes, ``way`` what happens on it, ``sign`` stands at the
    head: the − of a difference. ``stands`` are the nodes of the graph that it stands for."""

    tail: str
    head: str
    cell: str = ""
    label: str = ""
    way: str = ""
    sign: str = ""
    stands: frozenset[str] = frozenset()
    main: bool = False
    back: bool = False

    @property
    def said(self) -> str:
        """The words on it."""
        return "  ".join(filter(None, (self.way, self.label)))


@dataclass(frozen=True)
class Group:
    """Boxes in a frame, with how often they repeat."""

    label: str
    keys: tuple[str, ...]


@dataclass
class Row:
    """One system, from its inputs to its outputs. ``where`` says what the names in its formulas mean, and stands for the nodes
    ``meant``. ``aligned`` is the memory that stands in the common column; ``axes`` are
    those that it speaks of, with their sizes; ``cuts`` counts the signals that go on in a further line."""

    title: str
    subtitle: str = ""
    boxes: dict[str, Box] = field(default_factory=dict)
    wires: list[Wire] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    axes: dict[str, int | None] = field(default_factory=dict)
    aligned: str | None = None
    cuts: int = 0
    where: tuple[str, ...] = ()
    meant: frozenset[str] = frozenset()

    @property
    def stands(self) -> frozenset[str]:
        """All nodes that something in the picture stands for."""
        parts = [cell.stands for box in self.boxes.values() for cell in box.cells]
        return self.meant.union(*(box.stands for box in self.boxes.values()), *(w.stands for w in self.wires), *parts)

    def add(self, box: Box) -> None:
        self.boxes[box.key] = box


def sized(row: Row) -> str:
    """The axes that a row speaks of, with their sizes: model 768, slot ∞."""
    return ", ".join(f"{name} {'∞' if size is None else size}" for name, size in row.axes.items())
