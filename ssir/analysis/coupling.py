"""How the states of a graph feed one another. An analysis: pictures read it.

Together the states of a graph are one state, whose transition is a matrix of blocks: each state's A on the diagonal, and beside it
what enters a state from the others in the same step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ssir.analysis.ranges import interval
from ssir.ir.graph import Dependence, Graph, Node

# Operations that are linear in some of their operands while the others are held: all of them, or those with these numbers.
_LINEAR: Mapping[str, tuple[int, ...] | None] = {
    **dict.fromkeys("add sub neg mul dot matmul sum mean concat pack real imag complex".split()),
    **dict.fromkeys("rename split merge expand slice detach float32 state".split()),
    "select": (0,),
    "linear": (0,),
    "div": (0,),
    "where": (1, 2),
}


@dataclass(frozen=True)
class Way:
    """From a source to the input of a state: the nodes between, the one nearest to the source first. ``linear``: what arrives is
    linear in the source, gates being held."""

    nodes: tuple[str, ...] = ()
    linear: bool = True

    def _then(self, node: Node, operand: int) -> Way:
        operands = _LINEAR.get(node.op, ())
        return Way((*self.nodes, node.name), self.linear and (operands is None or operand in operands))

    def _better(self, other: Way | None) -> bool:
        return other is None or (not self.linear, len(self.nodes)) < (not other.linear, len(other.nodes))


Entries = Mapping[str, Mapping[str, Way]]


def entries(graph: Graph) -> Entries:
    """For each state what enters it, and by which way: other states, or itself, by name; and the values that no state decides."""
    ways: dict[str, dict[str, Way]] = {}
    return {node.name: _reached(graph, entrance(node), ways) for node in graph.states}


def entrance(state: Node) -> str | None:
    """What drives a state: its input, or B alone."""
    return state.role("x") or state.role("B")


def coupled(graph: Graph) -> list[list[Node]]:
    """The groups of several states that feed one another, in the order of the graph; those of one group have one algebra."""
    algebra = {node.name: node.attrs["algebra"] for node in graph.states}
    names = [node.name for node in graph.states]
    group = {name: {name} for name in names}
    for target, sources in entries(graph).items():
        for source in sources:
            if algebra.get(source) == algebra[target] and group[source] is not group[target]:
                group[target] |= group[source]
                for name in group[source]:
                    group[name] = group[target]
    distinct = {id(members): members for members in group.values() if len(members) > 1}
    return [[graph[name] for name in names if name in members] for members in distinct.values()]


def _reached(graph: Graph, start: str | None, ways: dict[str, dict[str, Way]]) -> dict[str, Way]:
    """The sources of a value. ``ways`` is what is known already; a long chain of nodes is not to exhaust Python's stack."""
    todo = [start] if start else []
    entered: set[str] = set()
    while todo:
        node = graph[todo[-1]]
        if node.name not in ways and node.name not in entered:
            entered.add(node.name)
            todo += [name for name in _before(node) if name not in entered]
            continue
        todo.pop()
        if node.name not in ways:
            ways[node.name] = _sources(graph, node, ways)
    return ways[start] if start else {}


def _before(node: Node) -> tuple[str, ...]:
    """The values by which a node is decided in the same step: of a state, what its D lets through."""
    if node.op == "state":
        x = node.role("x")
        return (x,) if x and node.role("D") and node.attrs["algebra"] == "plus_times" else ()
    return () if node.op in ("stack", "context") else node.inputs


def _sources(graph: Graph, node: Node, ways: Mapping[str, Mapping[str, Way]]) -> dict[str, Way]:
    own = {node.name: Way()} if node.op == "state" or node.type.dependence >= Dependence.INPUT else {}
    found: dict[str, Way] = {}
    held = _held(graph, node, ways)
    for i, operand in enumerate(_before(node)):
        for source, way in ways.get(operand, {}).items() if i not in held else ():
            longer = way._then(node, i)
            if longer._better(found.get(source)):
                found[source] = longer
    if node.op == "state":
        return found | own
    return found if any(graph[source].op == "state" for source in found) else own


def _held(graph: Graph, node: Node, ways: Mapping[str, Mapping[str, Way]]) -> set[int]:
    """The operands of a product that count as coefficients: gates, which lie between 0 and 1, and where a state is among the
    factors, those that no state decides."""
    if node.op not in ("mul", "dot", "matmul"):
        return set()
    signals = {i for i, name in enumerate(node.inputs) if graph[name].type.dependence >= Dependence.INPUT}
    gates = {i for i in signals if _is_gate(graph, node.inputs[i])}
    held = gates if gates < signals else set()
    decided = {i for i in signals - held if any(graph[name].op == "state" for name in ways.get(node.inputs[i], ()))}
    return held | (signals - decided if decided else set())


def _is_gate(graph: Graph, name: str) -> bool:
    within = interval(graph, name)
    return within is not None and within[0] >= 0 and within[1] <= 1
