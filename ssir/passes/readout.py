"""Moves what reads a memory into the memory: a sum of products with all of h, where nothing else uses h, is its C.

    s = state(...);  y = dot(q, s, over=key)          ->   y = state(..., C=q)
    s = state(...);  y = sum(q * s, over=key)         ->   the same

    w = window(v, slot); y = dot(p, w, over=slot)     ->   y = state(..., C=p)

    s = state(x = k * v); y = dot(q, s, over=key)     ->   y = state(B=k, x=v, C=q)

The memory keeps its name, and so does what is kept. Non-goals: several readouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ssir.ir.graph import Graph, Node, attrs
from ssir.ir.op import TypeFault
from ssir.ir.ops import operation
from ssir.ir.ops.systems import ROLES
from ssir.passes.rewrite import bottom_up, swapped


def move_readouts(graph: Graph) -> Graph:
    return bottom_up(graph, _one)


def _one(graph: Graph) -> Graph:
    for node in graph.states:
        found = _read(graph, node)
        if found is not None:
            state, gone = found
            nodes = (state if one.name == node.name else one for one in graph)
            return _one(swapped(graph.with_nodes(nodes), dict.fromkeys(gone, node.name)))
    return graph


def _read(graph: Graph, node: Node) -> tuple[Node, list[str]] | None:
    """The memory with a readout of its own, and the nodes that it stands for then."""
    if node.role("C") or node.role("D") or node.attrs["algebra"] != "plus_times":
        return None
    product, last = _product(graph, node)
    if product is None or last is None:
        return None
    first, second = product.inputs
    c = second if first == node.name else first
    node = _apart(graph, node, last.attrs["over"])
    x = node.role("x")
    given = graph[x].type.names if x else ()
    inside = [name for name, _ in node.attrs["axes"]]
    used = {name for name in graph[c].type.names if name in inside and name not in given}
    if c == node.name or used != set(last.attrs["over"]):
        return None
    values = {**node.attrs, "roles": (*node.attrs["roles"], "C")}
    inputs = (*node.inputs, c)
    try:
        type = operation("state").result([graph[name].type for name in inputs], values)
    except TypeFault:
        return None
    ends = {name for _, name in graph.outputs}
    if set(type.names) != set(last.type.names) or (last.name in ends and type.names != last.type.names):
        return None  # an output lies in memory as its axes say
    read = node.with_(inputs=inputs, attrs=attrs(**values), type=replace(type, dependence=last.type.dependence))
    return read, list(dict.fromkeys([product.name, last.name]))


def _apart(graph: Graph, node: Node, over: Sequence[str]) -> Node:
    """A memory whose input is an outer product, of which one side alone has the axes named: that side as its B."""
    x = node.role("x")
    if x is None or node.role("B") or graph[x].op != "mul":
        return node
    for b, rest in (graph[x].inputs, graph[x].inputs[::-1]):
        one, other = set(graph[b].type.names), set(graph[rest].type.names)
        if one >= set(over) and other - one and not other & set(over):
            roles = dict(zip(node.attrs["roles"], node.inputs, strict=True)) | {"x": rest, "B": b}
            ordered = {role: roles[role] for role in ROLES if role in roles}
            return node.with_(inputs=tuple(ordered.values()), attrs=attrs(**{**node.attrs, "roles": tuple(ordered)}))
    return node


def _product(graph: Graph, node: Node) -> tuple[Node | None, Node | None]:
    """The product of the memory with something, and the sum over it: one node, or two."""
    user = _only_user(graph, node.name)
    if user is None or node.name not in user.inputs or len(user.inputs) != 2:
        return None, None
    if user.op == "dot":
        return user, user
    total = _only_user(graph, user.name) if user.op == "mul" else None
    return (user, total) if total is not None and total.op == "sum" else (None, None)


def _only_user(graph: Graph, name: str) -> Node | None:
    """What uses a value, if it is one node and the value is no output."""
    users = graph.users[name]
    if len(users) != 1 or any(name == end for _, end in graph.outputs):
        return None
    user = graph[users[0]]
    return user if user.inputs.count(name) == 1 else None
