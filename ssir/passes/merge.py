"""Makes equal nodes one: same operation, same operands, same attributes. Four reads of delay(h) become one memory.

Parameters are equal only to themselves. A layer's stack is never merged with another: it owns parameters.
"""

from __future__ import annotations

from typing import Any

from ssir.ir.graph import Graph, Node
from ssir.passes.rewrite import bottom_up, swapped

_APART = frozenset({"input", "param", "stack"})


def merge_equal(graph: Graph) -> Graph:
    return bottom_up(graph, _one)


def _one(graph: Graph) -> Graph:
    while True:
        seen: dict[Any, str] = {}
        other: dict[str, str] = {}
        for node in graph:
            if node.op in _APART:
                continue
            first = seen.setdefault(_key(node), node.name)
            if first != node.name:
                other[node.name] = first
        if not other:
            return graph
        graph = swapped(graph, other)


def _key(node: Node) -> Any:
    # By their text, because 0.0 == -0.0 and 1 == True.
    return node.op, node.inputs, tuple(sorted((name, repr(value)) for name, value in node.attrs.items())), node.type
