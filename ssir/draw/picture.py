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
    MEMORY = "memory"
    DELAY = "delay"
    COMPONENT = "component"


@dataclass(frozen=True)
class Cell:
    """A coefficient of a memory: its letter, its formula, what it is in words. ``differs`` is None where nothing is compared."""

    letter: str
    formula: str
    words: tuple[str, ...]
    shade: Shade | None
    differs: bool | None = None


@dataclass(frozen=True)
class Box:
    """``note`` stands under the label in small letters, ``name = `` before it.
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

    @property
    def wired(self) -> bool:
        """Whether signals feed the coefficients of a memory; then x has a cell too."""
        return any(cell.letter == "x" for cell in self.cells)


@dataclass(frozen=True)
class Wire:
    """From a box to a box, or to the cell of a memory. ``sign`` stands at the head: the − of a difference."""

    tail: str
    head: str
    cell: str = ""
    label: str = ""
    sign: str = ""
    main: bool = False
    back: bool = False


@dataclass(frozen=True)
class Group:
    """Boxes in a frame, with how often they repeat."""

    label: str
    keys: tuple[str, ...]


@dataclass
class Row:
    """One system, from its inputs to its outputs. ``aligned`` is the memory that stands in the common column; ``axes`` are
    those that it speaks of, with their sizes; ``cuts`` counts the signals that go on in a further line."""

    title: str
    subtitle: str = ""
    boxes: dict[str, Box] = field(default_factory=dict)
    wires: list[Wire] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    axes: dict[str, int | None] = field(default_factory=dict)
    aligned: str | None = None
    cuts: int = 0

    def add(self, box: Box) -> None:
        self.boxes[box.key] = box
