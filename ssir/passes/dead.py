"""Drops what no output needs.   a = f(x); b = g(x); out b   ->   b = g(x); out b

Inputs stay, since they are the signature; so do bodies that a remaining stack uses.
"""

from __future__ import annotations

from dataclasses import replace

from ssir.ir.graph import Graph
from ssir.passes.rewrite import bottom_up


def drop_dead(graph: Graph) -> Graph:
    return bottom_up(graph, _one)


def _one(graph: Graph) -> Graph:
    alive: set[str] = set()
    todo = [name for _, name in graph.outputs]
    while todo:
        name = todo.pop()
        if name not in alive:
            alive.add(name)
            todo.extend(graph[name].inputs)
    kept = [node for node in graph if node.name in alive or node.op == "input"]
    used = {name for node in kept if node.op == "stack" for name in node.attrs["pattern"]}
    if len(kept) == len(graph.nodes) and used == set(graph.bodies):
        return graph
    return replace(graph.with_nodes(kept), bodies={name: body for name, body in graph.bodies.items() if name in used})
