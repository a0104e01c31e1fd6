"""Which values of a graph are signals, and which memories are delays and filters."""

from __future__ import annotations

import networkx as nx

from ssir.ir.graph import Dependence, Graph, Node


def is_filter(graph: Graph, node: Node) -> bool:
    """Whether a state is a shift register with constant taps."""
    a, c = node.role("A"), node.role("C")
    return (
        a is not None
        and c is not None
        and graph[a].op == "op.shift"
        and graph[c].type.dependence == Dependence.CONSTANT
    )


def is_delay(graph: Graph, node: Node) -> bool:
    a = node.role("A")
    if (
        a is None
        or node.attrs["read"] != "before"
        or set(node.attrs["roles"]) - {"A", "x", "initial"}
        or graph[a].op != "op.diag"
    ):
        return False
    value = graph[graph[a].inputs[0]]
    return value.op == "const" and value.attrs["value"] == 0


def delayed_by(graph: Graph, node: Node) -> int | None:
    """The number of steps of a delay; None for another memory, and for what is none."""
    if node.op != "state":
        return None
    if is_delay(graph, node):
        return 1
    a = node.role("A")
    plain = not set(node.attrs["roles"]) - {"A", "x", "initial"} and node.attrs["read"] == "before"
    if not plain or a is None or graph[a].op != "op.shift":
        return None
    readers = [graph[user] for user in graph.users[node.name]]
    if len(readers) == 1 and readers[0].op == "select" and graph[readers[0].inputs[1]].op == "const":
        return int(graph[readers[0].inputs[1]].attrs["value"]) + 1
    return None


def live(graph: Graph) -> set[str]:
    """The values that are worth a wire: what the input decides, what is remembered, and what is made of that."""
    states = [node.name for node in graph.states]
    found = {*states, *(node.name for node in graph if node.type.dependence >= Dependence.INPUT)}
    for name in states:
        found |= nx.descendants(graph.nx, name)
    return {name for name in found if not graph[name].type.operator}
