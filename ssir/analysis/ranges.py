"""Where values lie, as far as it can be proved: an interval for each node. An analysis, used by the gates and the plan."""

from __future__ import annotations

from ssir.ir.graph import Graph
from ssir.ir.intervals import ANYTHING, Interval
from ssir.ir.ops import operation


def interval(graph: Graph, name: str) -> Interval:
    """The interval that a real value lies in, both ends included."""
    found: dict[str, Interval] = {}
    path = dict.fromkeys([name])
    while path:
        node = graph[next(reversed(path))]
        op = operation(node.op)
        real = node.type.dtype != "complex"
        needed = node.inputs if callable(op.bounds) and real else ()
        missing = next((other for other in needed if other not in found and other not in path), None)
        if missing is not None:
            path[missing] = None
            continue
        # What is still on the path lies on a cycle: nothing is proved of it.
        operands = [found.get(other, ANYTHING) for other in needed]
        found[node.name] = op.interval(node.attrs, operands) if real else ANYTHING
        del path[node.name]
    return found[name]
