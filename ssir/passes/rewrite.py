"""What passes share: rewriting bodies before the graph that holds them, and swapping nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ssir.ir.graph import Graph


def bottom_up(graph: Graph, one: Callable[[Graph], Graph]) -> Graph:
    """Apply a rewrite to every body, then to the graph itself. Returns the same object if nothing changed."""
    bodies = {name: bottom_up(body, one) for name, body in graph.bodies.items()}
    same = all(bodies[name] is body for name, body in graph.bodies.items())
    return one(graph if same else replace(graph, bodies=bodies))


def swapped(graph: Graph, other: Mapping[str, str]) -> Graph:
    """Every use of a name replaced by its ``other``; the replaced nodes themselves are dropped."""
    if not other:
        return graph

    def follow(name: str) -> str:
        while name in other:
            name = other[name]
        return name

    nodes = [node.with_(inputs=tuple(map(follow, node.inputs))) for node in graph if node.name not in other]
    return graph.with_nodes(nodes, tuple((label, follow(name)) for label, name in graph.outputs))
