"""Makes equal nodes one: same operation, same operands, same attributes. Four reads of delay(h) become one memory.

Of equal memories the one stays whose name comes first, so that no order of the nodes decides it. Parameters are equal only to themselves, and so is what is dropped. A layer's stack is never merged with another: it owns parameters.
"""

from __future__ import annotations

from typing import Any

from ssir.ir.graph import Graph, Node
from ssir.passes.rewrite import bottom_up, swapped

_APART = frozenset({"input", "param", "stack", "dropout"})  # each draws for itself


def merge_equal(graph: Graph) -> Graph:
    return bottom_up(graph, _one)


def _one(graph: Graph) -> Graph:
    while True:
        equal: dict[Any, list[Node]] = {}
        for node in graph:
            if node.op not in _APART:
                equal.setdefault(_key(node), []).append(node)
        other: dict[str, str] = {}
        for nodes in equal.values():
            kept = min(nodes, key=_rank) if nodes[0].op == "state" else nodes[0]
            other |= {node.name: kept.name for node in nodes if node is not kept}
        if not other:
            return graph
        graph = swapped(graph, other)


def _rank(state: Node) -> tuple[int, str]:
    return state.name.count("."), state.name


def _key(node: Node) -> Any:
    # By their text, because 0.0 == -0.0 and 1 == True.
    return node.op, node.inputs, tuple(sorted((name, repr(value)) for name, value in node.attrs.items())), node.type
