"""What becomes of memories in the passes, which make equal ones one. An analysis: the meaning runs the graph as it is written, and
takes and gives the states of what runs the graph after the passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from ssir import passes
from ssir.analysis.facts import facts
from ssir.ir.graph import Graph, Node

T = TypeVar("T")


def kept_in(graph: Graph) -> dict[str, str]:
    """For every memory of a graph, by path (that of its layer included), the memory that holds it after the passes."""
    if "kept in" not in graph.known:
        graph.known["kept in"] = dict(_pairs(graph, passes.run(_shown(graph)), passes.run(graph), ""))
    return dict(graph.known["kept in"])


def merged(graph: Graph, state: Mapping[str, T]) -> dict[str, T]:
    """A state of a graph as that of the graph after the passes; names that are no memories stay."""
    kept = kept_in(graph)
    return {name: value for name, value in state.items() if kept.get(name, name) == name}


def unmerged(graph: Graph, state: Mapping[str, T]) -> dict[str, T]:
    """A state of the graph after the passes as that of the graph."""
    return {**state, **{name: state[holder] for name, holder in kept_in(graph).items() if holder in state}}


def _shown(graph: Graph) -> Graph:
    """The graph with every memory an output, so that passes say where it went."""
    outputs = (*graph.outputs, *((f"memory {node.name}", node.name) for node in graph.states))
    return replace(graph, outputs=outputs, bodies={name: _shown(body) for name, body in graph.bodies.items()})


def _pairs(graph: Graph, done: Graph, alive: Graph, at: str) -> Iterator[tuple[str, str]]:
    """done: after the passes, every memory being shown; alive: after the passes, nothing being shown."""
    shown = dict(done.outputs)
    for node in graph.states:
        holder = done[shown[f"memory {node.name}"]]
        if holder.op == "state" and holder.name not in alive.nodes:
            holder = _delayed(done, holder)
        if holder.op == "state":
            yield at + node.name, at + holder.name
    for node in graph:
        if node.op == "stack" and node.name in done.nodes and node.name in alive.nodes:
            for layer, body in enumerate(node.attrs["pattern"]):
                inner = done.bodies[body], alive.bodies[body]
                yield from _pairs(graph.bodies[body], *inner, f"{at}{node.name}.{layer}.")


def _delayed(done: Graph, node: Node) -> Node:
    """The state that a memory is the value of a step before of, if it is one's; else the memory."""
    x = node.role("x")
    if facts(done, node).structure.kind != "zero" or node.attrs["read"] != "before" or x is None:
        return node
    plain = done[x].op == "state" and done[x].attrs["read"] == "after" and not {"C", "D"} & set(done[x].attrs["roles"])
    return done[x] if plain else node
