"""What is known of a state: the structure of A, what each coefficient depends on, its size. An analysis: forms, the plan and the
pictures read it.

Structure is inferred from how A is written, never declared:
zero, identity, scalar, diagonal, rotation, diagonal plus rank one, product of such, shift, dense, and general for any other sum or product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ssir.analysis.ranges import interval
from ssir.ir.graph import Axis, Dependence, Graph, Node
from ssir.ir.intervals import Interval


@dataclass(frozen=True)
class Structure:
    """``axes``: the axes that a diagonal varies over. ``over``: the axis that a shift, rotation, matrix or rank one acts along."""

    kind: str
    axes: tuple[str, ...] = ()
    over: str | None = None

    def __str__(self) -> str:
        match self.kind:
            case "diagonal":
                return f"diagonal over {'×'.join(self.axes)}"
            case "shift" | "rotation" | "dense":
                return f"{self.kind} along {self.over}"
            case "diagonal plus rank one" | "product of rank ones":
                return f"{self.kind} along {self.over}"
        return self.kind


@dataclass(frozen=True)
class Facts:
    """``expansion``: the axes of the state that its input lacks. ``contracted``: those of them that C uses up.
    ``within``: where A lies, if it is diagonal and that can be proved. ``log``: the node that holds log A, or, where A is a diagonal
    plus rank one, the logarithm of the diagonal."""

    node: Node
    structure: Structure
    dependence: Mapping[str, Dependence]
    cycle: frozenset[str] | None
    expansion: tuple[Axis, ...]
    contracted: tuple[Axis, ...]
    within: Interval | None
    log: str | None

    @property
    def axes(self) -> tuple[Axis, ...]:
        return state_axes(self.node)

    @property
    def slots(self) -> Axis | None:
        """The axis of a shift register."""
        if self.structure.kind != "shift":
            return None
        return next(axis for axis in self.axes if axis.name == self.structure.over)

    @property
    def entries(self) -> int:
        """Numbers of state per sequence; of a register that grows, per token."""
        n = 1
        for axis in self.axes:
            n *= axis.size or 1
        return n

    @property
    def grows(self) -> bool:
        return any(axis.size is None for axis in self.axes)

    @property
    def diagonal(self) -> bool:
        return self.structure.kind in ("zero", "identity", "scalar", "diagonal")


def state_axes(node: Node) -> tuple[Axis, ...]:
    return tuple(Axis(name, size) for name, size in node.attrs["axes"])


def facts(graph: Graph, node: Node) -> Facts:
    """What is known of a state of a graph whose dependences are inferred."""
    axes = state_axes(node)
    a = node.role("A")
    structure = Structure("identity") if a is None else _structure(graph, graph[a])
    cycle = graph.cycle_of.get(node.name)
    dependence = {
        role: _relative(graph, node, operand, cycle)
        for role, operand in zip(node.attrs["roles"], node.inputs, strict=True)
    }
    dependence.setdefault("A", Dependence.CONSTANT)
    x, b, c = node.role("x"), node.role("B"), node.role("C")
    if structure.kind == "shift" and any(
        structure.over in graph[entering].type.names for entering in (x, b) if entering
    ):
        structure = Structure("general")  # no register: the input enters more than the first slot
    given = graph[x].type.names if x else ()
    expansion = tuple(axis for axis in axes if axis.name not in given)
    contracted = tuple(axis for axis in expansion if c is not None and axis.name in graph[c].type.names)
    within = None
    if structure.kind in ("scalar", "diagonal") and a is not None:
        within = interval(graph, graph[a].inputs[0])
    return Facts(node, structure, dependence, cycle, expansion, contracted, within, node.role("logA"))


def is_complex(graph: Graph, node: Node) -> bool:
    """Whether a state holds complex numbers: its readout aside, something that enters it is complex."""
    return any(
        graph[name].type.dtype == "complex"
        for role, name in zip(node.attrs["roles"], node.inputs, strict=True)
        if role in ("A", "B", "x", "initial")
    )


def _relative(graph: Graph, node: Node, operand: str, cycle: frozenset[str] | None) -> Dependence:
    """What a coefficient depends on, seen from the state: another state's cycle is a signal like any other."""
    if cycle is not None and operand in cycle:
        return Dependence.STATE
    return min(graph[operand].type.dependence, Dependence.INPUT)


def _structure(graph: Graph, a: Node) -> Structure:
    match a.op:
        case "op.diag":
            value = graph[a.inputs[0]]
            if value.op == "const" and value.attrs["value"] in (0, 1):
                return Structure("identity" if value.attrs["value"] else "zero")
            return Structure("diagonal", value.type.names) if value.type.axes else Structure("scalar")
        case "op.shift":
            return Structure("shift", over=a.attrs["axis"])
        case "op.dense":
            return Structure("dense", over=a.attrs["over"])
        case "op.rotate":
            return Structure("rotation", over=a.attrs["over"])
        case "op.outer":
            return Structure("diagonal plus rank one", over=a.attrs["over"])
        case "op.neg":
            inner = _structure(graph, graph[a.inputs[0]])
            return Structure("scalar") if inner.kind == "identity" else inner
        case "op.add" | "op.sub" | "op.mul":
            left, right = (_structure(graph, graph[name]) for name in a.inputs)
            return _combined(a.op, left, right)
    return Structure("general")


_RANK_ONES = {"diagonal plus rank one", "product of rank ones"}


def _combined(op: str, left: Structure, right: Structure) -> Structure:
    kinds = {left.kind, right.kind}
    plain = {"zero", "identity", "scalar", "diagonal"}
    axes = tuple(dict.fromkeys((*left.axes, *right.axes)))
    if kinds <= plain:
        return Structure("diagonal", axes) if axes else Structure("scalar")
    if op == "op.mul" and kinds == {"rotation"} and left.over == right.over:
        return Structure("rotation", axes, left.over)
    if op == "op.mul" and kinds <= _RANK_ONES and left.over == right.over:
        return Structure("product of rank ones", axes, left.over)
    special = left if right.kind in plain else right
    if special.kind in plain or len(kinds - plain) > 1 or not kinds & plain:
        return Structure("general")
    if special.kind == "diagonal plus rank one" or (special.kind == "product of rank ones" and op == "op.mul"):
        return Structure(special.kind, axes, special.over)
    if (special.kind == "rotation" and op == "op.mul") or special.kind == "dense":
        return Structure(special.kind, axes, special.over)
    return Structure("general")
