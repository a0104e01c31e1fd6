"""Gives a state whose A is diagonal, a product of diagonals plus rank one, or a damped rotation, the logarithm of the diagonal as a further operand,
the role ``logA``, where the diagonal is provably not negative (and not 1). It is found by the rules of the operations: exp(z) gives z, sigmoid(z)
gives logsigmoid(z), a product gives a sum. The chunked forms need it exactly.

    s = state(A = op.diag(exp(z)))   ->   s = state(A = op.diag(exp(z)), logA = z)

Non-goals: other operators; complex A.
"""

from __future__ import annotations

from functools import reduce
from operator import add

from ssir.analysis.operators import rank_ones, rotation
from ssir.analysis.ranges import interval
from ssir.ir.builder import GraphBuilder, Value
from ssir.ir.graph import Graph, Node, attrs
from ssir.ir.ops import operation
from ssir.passes.rewrite import bottom_up

_DEEPEST = 32


def find_log_gates(graph: Graph) -> Graph:
    return bottom_up(graph, _one)


def _one(graph: Graph) -> Graph:
    found = [(node, gates) for node in graph.states if (gates := _gates(graph, node))]
    if not found:
        return graph
    logs = _Logs(graph)
    nodes = logs.b.nodes
    for node, gates in found:
        log = reduce(add, [logs.of(Value(logs.b, gate), _DEEPEST) for gate in gates])
        nodes[node.name] = node.with_(
            inputs=(*node.inputs, log.name), attrs=attrs(**{**node.attrs, "roles": (*node.attrs["roles"], "logA")})
        )
    return graph.with_nodes(nodes.values())


def _gates(graph: Graph, node: Node) -> list[Node]:
    """The factors of the diagonal of a state's A whose logarithms it is to be given."""
    a = node.role("A")
    if a is None or node.role("logA") or node.attrs["algebra"] != "plus_times":
        return []
    gates = _diagonal(graph, graph[a])
    known = all(gate.type.dtype != "complex" and interval(graph, gate.name)[0] >= 0 for gate in gates)
    return gates if known else []


def _diagonal(graph: Graph, a: Node) -> list[Node]:
    """The factors of the diagonal of A; none where it has no diagonal with a sign that can be known."""
    if a.op == "op.diag":
        gate = graph[a.inputs[0]]
        return [] if gate.op == "const" else [gate]
    turned = rotation(graph, a)
    if turned is not None:
        return [] if turned.minus else [graph[name] for name in turned.decays]
    return [graph[name] for one in rank_ones(graph, a) for name in one.diagonal]


class _Negative(Exception):
    """What has no logarithm, or may have none."""


class _Logs:
    """Logarithms of values of a graph that are not negative."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.b = graph, GraphBuilder.of(graph)
        self.known: dict[str, Value] = {}

    def of(self, value: Value, depth: int) -> Value:
        """The logarithm of a value; by rules no deeper than that."""
        if value.name not in self.known:
            with self.b.called(f"{value.name}/log", value.node.at):
                self.known[value.name] = self._by_rule(value, depth) or self.b("log", value)
        return self.known[value.name]

    def _by_rule(self, value: Value, depth: int) -> Value | None:
        rule = operation(value.node.op).log

        def log(operand: Value) -> Value:
            if interval(self.graph, operand.name)[0] < 0:
                raise _Negative
            return self.of(operand, depth - 1)

        try:
            found: Value | None = rule(value, log, *value.operands) if rule and depth else None
        except _Negative:
            return None
        return found
