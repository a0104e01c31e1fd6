"""Finds out what every value may change with: constant < position < input < state.

A value on a cycle depends on the state. Off a cycle, what a memory gives is a signal like any other: it changes with whatever
its coefficients and its input change with, and at least with the position. A body is done with what its stack gives it; what it is
given is a signal there, even if it is constant outside.
"""

from __future__ import annotations

from dataclasses import replace

from ssir.ir.graph import Dependence, Graph, Node

_OF_POSITION = frozenset({"position", "start", "state", "context"})


def infer_dependence(graph: Graph) -> Graph:
    return _infer(graph, {node.name: Dependence.INPUT for node in graph.inputs})


def _infer(graph: Graph, given: dict[str, Dependence]) -> Graph:
    found = {node.name: given.get(node.name, _own(node)) for node in graph}
    if graph.cycles:
        found |= dict.fromkeys(graph.cycle_of, Dependence.STATE)
    todo = list(graph.nodes)
    while todo:
        name = todo.pop(0)
        for user in graph.users[name]:
            signal = min(found[name], Dependence.INPUT)
            if found[user] < signal:
                found[user] = signal
                todo.append(user)
    changed = False
    nodes: list[Node] = []
    bodies = dict(graph.bodies)
    for node in graph:
        dependence = found[node.name]
        if node.type.dependence != dependence:
            node = node.with_(type=replace(node.type, dependence=dependence))
            changed = True
        nodes.append(node)
        if node.op == "stack":
            for name in set(node.attrs["pattern"]):
                body = graph.bodies[name]
                labels = [*node.attrs["carried"], *node.attrs["given"]]
                arguments = dict(zip(labels, node.inputs[1:], strict=True))
                first, *rest = body.inputs
                outer = {
                    first.name: Dependence.INPUT,
                    **{n.name: _argument(found, node, arguments, n.name) for n in rest},
                }
                bodies[name] = _infer(body, outer)
                changed = changed or bodies[name] is not body
    return replace(graph.with_nodes(nodes), bodies=bodies) if changed else graph


def _own(node: Node) -> Dependence:
    """What a node changes with whatever its operands do. How many slots there are changes with the position; a mask is one of each sequence."""
    if node.op == "kept":
        return Dependence.INPUT
    moves = node.op in _OF_POSITION or (node.op == "arange" and node.type.axes[0].size is None)
    return Dependence.POSITION if moves else Dependence.CONSTANT


def _argument(found: dict[str, Dependence], stack: Node, arguments: dict[str, str], name: str) -> Dependence:
    if name in stack.attrs["carried"]:
        return Dependence.INPUT
    return max(min(found[arguments[name]], Dependence.INPUT), Dependence.POSITION)
