"""Checks that a graph is well formed:

1. every operand and every output is a node of the graph; names are keys; operands, attributes and types are those that the table of
   operations says, the dependence aside;
2. operators are used only by operators and as the A of a state, and every state has known roles, one operand each;
3. a cycle passes through a memory read before its input arrives;
4. a stack's pattern names bodies, whose inputs and outputs fit;
5. a loop's body is there, and is given what its inputs are; a kernel has as many operands as it takes;
6. no dependence is smaller than an operand's (once dependences are inferred).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import networkx as nx

from ssir.errors import SSIRError
from ssir.ir.graph import Graph, Node
from ssir.ir.op import TypeFault
from ssir.ir.ops import operation
from ssir.ir.ops.systems import ROLES


class IllFormed(SSIRError):
    """A graph that no spec gives: a fault of a pass or a plugin."""


def verify(graph: Graph, after: str | None = None) -> None:
    """Raise IllFormed with the first fault, naming the pass it came after."""
    where = f" after the pass `{after}`" if after else ""
    for one in graph.walk():
        fault = _fault(one)
        if fault:
            raise IllFormed(f"ill-formed graph `{one.name}`{where}: {fault}")


def _fault(graph: Graph) -> str | None:
    for name, node in graph.nodes.items():
        if name != node.name:
            return f"`{node.name}` is filed as `{name}`"
        for operand in node.inputs:
            if operand not in graph.nodes:
                return f"`{name}` uses `{operand}`, which is not there"
        fault = (
            _roles(graph, node)
            or _operators(graph, node)
            or _stack(graph, node)
            or _program(graph, node)
            or _type(graph, node)
        )
        if fault:
            return fault
    for label, name in graph.outputs:
        if name not in graph.nodes:
            return f"the output `{label}` is `{name}`, which is not there"
    return _memoryless_cycle(graph)


def _roles(graph: Graph, node: Node) -> str | None:
    if node.op != "state":
        return None
    roles = node.attrs["roles"]
    if len(roles) != len(node.inputs) or len(set(roles)) != len(roles) or not set(roles) <= set(ROLES):
        return f"`{node.name}` has roles {roles} for {len(node.inputs)} operands"
    a = node.role("A")
    return f"the A of `{node.name}` is no operator" if a and not graph[a].type.operator else None


def _type(graph: Graph, node: Node) -> str | None:
    op = operation(node.op)
    misfit = op.misfit(len(node.inputs), node.attrs)
    if misfit is not None:
        return f"`{node.name}` {misfit}"
    if op.declared:
        return None
    try:
        found = op.result([operand.type for operand in graph.operands(node)], node.attrs)
    except TypeFault as fault:
        return f"`{node.name}`: {fault.message}"
    if replace(found, dependence=node.type.dependence) == node.type:
        return None
    return f"`{node.name}` is {node.type}, but {node.op} gives {found}"


def _operators(graph: Graph, node: Node) -> str | None:
    for operand in graph.operands(node):
        fits = node.op.startswith("op.") or (node.op == "state" and node.role("A") == operand.name)
        if operand.type.operator and not fits:
            return f"`{node.name}` uses the operator `{operand.name}` as a value"
    return None


def _stack(graph: Graph, node: Node) -> str | None:
    if node.op != "stack":
        return None
    labels = (*node.attrs["carried"], *node.attrs["given"])
    if len(node.inputs) != 1 + len(labels):
        return f"`{node.name}` has {len(node.inputs)} operands for {1 + len(labels)} inputs"
    for name in set(node.attrs["pattern"]):
        if name not in graph.bodies:
            return f"`{node.name}` repeats `{name}`, which is not there"
        missing = {n.name for n in graph.bodies[name].inputs[1:]} - set(labels)
        if missing:
            return f"`{name}` needs {sorted(missing)}, which `{node.name}` does not give"
    return None


def _program(graph: Graph, node: Node) -> str | None:
    count = len(node.inputs)
    if node.op == "kernel":
        takes = sum(one is not None for one in node.attrs["takes"])
        return None if takes == count else f"`{node.name}` has {count} operands for {takes} that it takes"
    if node.op == "result" and not graph[node.inputs[0]].op.endswith("loop"):
        return f"`{node.name}` is a result of `{node.inputs[0]}`, which is no loop"
    if node.op not in ("loop", "compiled_loop"):
        return None
    body = graph.bodies.get(node.attrs["body"])
    if body is None:
        return f"`{node.name}` repeats `{node.attrs['body']}`, which is not there"
    wanted = len(body.inputs)
    if node.op == "compiled_loop":
        wanted -= len(node.attrs["memories"])
        count -= sum(node.attrs["started"])
    return None if count == wanted else f"`{node.name}` gives its body {count} values for {wanted}"


def remembered_edges(graph: Graph) -> set[tuple[str, str]]:
    """The edges that reach into the next step: what a state read `before` keeps."""
    edges = set()
    for node in graph.states:
        if node.attrs["read"] == "before":
            now = {node.role("C"), node.role("initial")} | (
                {node.role("D"), node.role("x")} if node.role("D") else set()
            )
            edges |= {(name, node.name) for name in node.inputs if name not in now}
    return edges


def in_step(graph: Graph, inside: Collection[str]) -> Iterator[str]:
    """Some nodes of a graph, each after those that it needs within the same step."""
    later = remembered_edges(graph)
    instant: nx.DiGraph[str] = nx.DiGraph()
    instant.add_nodes_from(node.name for node in graph if node.name in inside)
    edges = ((one, name) for name in list(instant) for one in graph[name].inputs if one in inside)
    instant.add_edges_from(edge for edge in edges if edge not in later)
    yield from nx.topological_sort(instant)


def _memoryless_cycle(graph: Graph) -> str | None:
    instant = nx.DiGraph(graph.nx)
    instant.remove_edges_from(remembered_edges(graph))
    if nx.is_directed_acyclic_graph(instant):
        return None
    cycle = nx.find_cycle(instant)
    return "a cycle without memory: " + " -> ".join(edge[0] for edge in cycle)
