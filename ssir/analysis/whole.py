"""What of a graph whole sequences alone decide: it does not change from step to step, and is computed once, before the first."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum

from ssir.ir.graph import Dependence, Graph, Node


class _By(IntEnum):
    """What decides a value; a larger one includes the smaller."""

    NOTHING = 0  # but parameters, and places along axes
    WHOLE = 1
    MOMENT = 2


@dataclass(frozen=True)
class Wholly:
    """``values``: what whole sequences decide, and nothing of the moment; ``plain``: what varies along axes, and nothing given decides. ``all``:
    whether ``values`` are all that the graph gives. ``bodies``: the same of the graphs that stacks repeat, by name."""

    values: frozenset[str]
    plain: frozenset[str]
    all: bool
    bodies: Mapping[str, Wholly]


def wholly(graph: Graph, inputs: Collection[str]) -> Wholly:
    """What of a graph some of its inputs decide, which are whole sequences or were made of them."""
    by: dict[str, _By] = {}
    bodies: dict[str, Wholly] = {}
    todo = [node.name for node in graph]
    while todo:
        name = todo[-1]
        node = graph[name]
        missing = [one for one in node.inputs if one not in by]
        if name in by:
            todo.pop()
        elif name in graph.cycle_of or node.op in ("state", "position", "start"):
            by[name] = _By.MOMENT
        elif missing:
            todo += missing
        elif node.op == "input":
            by[name] = _By.WHOLE if name in inputs else _By.MOMENT
        else:
            by[name] = max((by[one] for one in node.inputs), default=_By.NOTHING)
            if node.op == "stack":
                by[name] = max(by[name], _By.WHOLE if _stacked(graph, node, by, bodies) else _By.MOMENT)
    plain = (node.name for node in graph if by[node.name] is _By.NOTHING and varies(node))
    values = frozenset(name for name, one in by.items() if one is _By.WHOLE)
    return Wholly(values, frozenset(plain), all(name in values for _, name in graph.outputs), bodies)


def _stacked(graph: Graph, node: Node, by: Mapping[str, _By], bodies: dict[str, Wholly]) -> bool:
    """Whether all that layers give is decided so: what runs through them is not if anything of the moment enters it."""
    moved, given = 1 + len(node.attrs["carried"]), node.attrs["given"]
    whole = all(by[one] is not _By.MOMENT for one in node.inputs)
    for name in dict.fromkeys(node.attrs["pattern"]):
        inputs = [one.name for one in graph.bodies[name].inputs]
        found = wholly(graph.bodies[name], inputs) if whole else None
        whole = found is not None and found.all
    for name in dict.fromkeys(node.attrs["pattern"]):
        inputs = [one.name for one in graph.bodies[name].inputs]
        if not whole:
            inputs = [label for label, one in zip(given, node.inputs[moved:], strict=True) if by[one] is _By.WHOLE]
        bodies[name] = wholly(graph.bodies[name], inputs)
    return whole


def varies(node: Node) -> bool:
    """Whether parameters alone do not decide a value, laid out over its axes."""
    return node.type.dependence is not Dependence.CONSTANT or any(axis.size is None for axis in node.type.axes)
