"""Gives a state whose A is diagonal, a product of diagonals plus rank one, or a damped rotation, the logarithm of the diagonal as a further operand,
the role ``logA``, where the diagonal is provably not negative (and not 1). It is found by rewriting: exp(z) gives z, sigmoid(z) gives logsigmoid(z), a
product gives a sum. The chunked forms need it exactly.

    s = state(A = op.diag(exp(z)))   ->   s = state(A = op.diag(exp(z)), logA = z)

Non-goals: other operators; complex A.
"""

from __future__ import annotations

import math
from functools import reduce

from ssir.ir.graph import Graph, Node, Type, attrs
from ssir.ir.op import broadcast
from ssir.passes.operators import rank_ones, rotation
from ssir.passes.ranges import interval
from ssir.passes.rewrite import bottom_up

_DEEPEST = 32
_EXPONENTS = {"sqrt": 0.5, "rsqrt": -0.5, "reciprocal": -1.0, "square": 2.0}
_THROUGH = frozenset({"rename", "split", "merge", "slice", "select", "expand"})


def find_log_gates(graph: Graph) -> Graph:
    return bottom_up(graph, _one)


def _one(graph: Graph) -> Graph:
    nodes = dict(graph.nodes)
    for node in graph.states:
        a = node.role("A")
        if a is None or node.role("logA") or node.attrs["algebra"] != "plus_times":
            continue
        gates = _diagonal(graph, graph[a])
        if not gates or any(gate.type.dtype == "complex" or interval(graph, gate.name)[0] < 0 for gate in gates):
            continue
        logs = _Log(graph, nodes)
        log = reduce(logs.total, [logs.of(gate, _DEEPEST) for gate in gates])
        nodes[node.name] = node.with_(
            inputs=(*node.inputs, log.name), attrs=attrs(**{**node.attrs, "roles": (*node.attrs["roles"], "logA")})
        )
    return (
        graph
        if len(nodes) == len(graph.nodes) and all(nodes[n.name] is n for n in graph)
        else graph.with_nodes(nodes.values())
    )


def _diagonal(graph: Graph, a: Node) -> list[Node]:
    """The factors of the diagonal of A; none where it has no diagonal with a sign that can be known."""
    if a.op == "op.diag":
        gate = graph[a.inputs[0]]
        return [] if gate.op == "const" else [gate]
    turned = rotation(graph, a)
    if turned is not None:
        return [] if turned.minus else [graph[name] for name in turned.decays]
    return [graph[name] for one in rank_ones(graph, a) for name in one.diagonal]


class _Log:
    def __init__(self, graph: Graph, nodes: dict[str, Node]) -> None:
        self.graph, self.nodes = graph, nodes
        self.known: dict[str, Node] = {}

    def make(self, like: Node, op: str, *inputs: Node, **values: object) -> Node:
        same = next(
            (
                n
                for n in self.nodes.values()
                if n.op == op and n.inputs == tuple(i.name for i in inputs) and n.attrs == values
            ),
            None,
        )
        if same is not None and op != "const":
            return same
        name, n = f"{like.name}/log", 1
        while name in self.nodes:
            n += 1
            name = f"{like.name}/log_{n}"
        node = Node(name, op, tuple(i.name for i in inputs), attrs(**values), like.type if inputs else Type(), like.at)
        self.nodes[name] = node
        return node

    def total(self, left: Node, right: Node) -> Node:
        """The sum of two logarithms."""
        axes = broadcast([left.type, right.type])
        dependence = max(left.type.dependence, right.type.dependence)
        return self.make(left.with_(type=Type(axes, dependence=dependence)), "add", left, right)

    def of(self, node: Node, depth: int) -> Node:
        """The logarithm of a value that is not negative; rewritten no deeper than that."""
        if node.name not in self.known:
            self.known[node.name] = self._of(node, depth - 1) if depth else self.make(node, "log", node)
        return self.known[node.name]

    def _of(self, node: Node, depth: int) -> Node:
        operands = self.graph.operands(node)
        positive = [interval(self.graph, operand.name)[0] >= 0 for operand in operands]
        match node.op:
            case "const" if node.attrs["value"] > 0:
                return self.make(node, "const", value=math.log(node.attrs["value"]))
            case "exp":
                return operands[0] if operands[0].type.axes == node.type.axes else self.make(node, "log", node)
            case "sigmoid":
                return self.make(node, "logsigmoid", operands[0])
            case "mul" | "div" if all(positive):
                left, right = self.of(operands[0], depth), self.of(operands[1], depth)
                return self.make(node, "add" if node.op == "mul" else "sub", left, right)
            case "pow" if positive[0]:
                return self.make(node, "mul", self.of(operands[0], depth), operands[1])
            case op if op in _EXPONENTS and positive[0]:
                exponent = self.make(node, "const", value=_EXPONENTS[op])
                return self.make(node, "mul", self.of(operands[0], depth), exponent)
            case "sub" if operands[0].op == "const" and operands[0].attrs["value"] == 1 and operands[1].op == "sigmoid":
                inner = self.graph[operands[1].inputs[0]]
                return self.make(operands[1], "logsigmoid", self.make(inner, "neg", inner))
            case op if op in _THROUGH and len(operands) == 1:
                return self.make(node, op, self.of(operands[0], depth), **node.attrs)
        return self.make(node, "log", node)
