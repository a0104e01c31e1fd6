"""Which values there is one of for a sequence, and not one for each step."""

from __future__ import annotations

from collections.abc import Iterable

from ssir.ir.graph import Graph, Node

_OF_TIME = frozenset({"input", "position", "start", "state", "context", "stack", "part"})


def answers(graph: Graph) -> frozenset[str]:
    """The values that are made of nothing but what is `final` and constants: each is what it is at the last step.

    Within a stack, and where it meets what goes through time, what is final is what it is so far.
    """
    if "answers" not in graph.known:
        timed = _reached(graph, (node for node in graph if _goes_through_time(node)))
        graph.known["answers"] = frozenset(_reached(graph, (n for n in graph if n.op == "final")) - timed)
    found: frozenset[str] = graph.known["answers"]
    return found


def _goes_through_time(node: Node) -> bool:
    return node.op in _OF_TIME or (node.op == "arange" and node.type.axes[0].size is None)


def _reached(graph: Graph, nodes: Iterable[Node]) -> set[str]:
    """These, and what is made of them without becoming final on the way."""
    todo = [node.name for node in nodes]
    found = set(todo)
    while todo:
        for user in graph.users[todo.pop()]:
            if user not in found and graph[user].op != "final":
                found.add(user)
                todo.append(user)
    return found
