"""Drops what no output needs.   a = f(x); b = g(x); out b   ->   b = g(x); out b

Inputs stay, since they are the signature; so do bodies that a remaining stack uses, and calls in which something remains.
"""

from __future__ import annotations

from dataclasses import replace

from ssir.ir.graph import Graph, parents
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
    above = {parent for node in kept for parent in parents(node.name)}
    calls = {path: name for path, name in graph.calls.items() if path in above}
    if len(kept) == len(graph.nodes) and used == set(graph.bodies) and calls == graph.calls:
        return graph
    bodies = {name: body for name, body in graph.bodies.items() if name in used}
    return replace(graph.with_nodes(kept), bodies=bodies, calls=calls)
