"""What becomes of dropout: nothing in what is evaluated; in what is trained a product.   dropout(x, 0.1)   ->   x   or   x * kept(0.1)

Comes behind the merging of equal nodes, so that what differs in training (memories above all) is not one in what is evaluated either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ssir.analysis.whole import Wholly, wholly
from ssir.ir.answers import answers
from ssir.ir.graph import Dependence, Graph, Node, Type, attrs
from ssir.passes.rewrite import bottom_up, swapped


def has_dropout(graph: Graph) -> bool:
    return any(node.op == "dropout" for one in graph.walk() for node in one)


def leave_out(graph: Graph) -> Graph:
    return bottom_up(graph, _left_out)


def _left_out(graph: Graph) -> Graph:
    """What is made for a node of the spec, and was only to be dropped, takes its name."""
    dropped = {node.name: node.inputs[0] for node in graph if node.op == "dropout"}
    other = {}
    for name in dropped:
        source = name
        while source in dropped:
            source = dropped[source]
        if source.partition("/")[0] == name:
            other[source] = name
    graph = swapped(graph, dropped)
    if not other:
        return graph
    nodes = [node.with_(name=other.get(node.name, node.name), inputs=_named(node.inputs, other)) for node in graph]
    labels, ends = zip(*graph.outputs, strict=True)
    return graph.with_nodes(nodes, tuple(zip(labels, _named(ends, other), strict=True)))


def _named(names: Iterable[str], other: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(other.get(name, name) for name in names)


def write_out(graph: Graph) -> Graph:
    whole = wholly(graph, graph.whole) if graph.whole else None
    return _written_out(graph, whole, answers(graph))


def _written_out(graph: Graph, whole: Wholly | None, answers: frozenset[str] = frozenset()) -> Graph:
    """Of what whole sequences decide there is one value for all steps, as of answers: masks too."""
    bodies = {
        name: _written_out(body, whole.bodies.get(name) if whole else None) for name, body in graph.bodies.items()
    }
    once = answers | (whole.values if whole else frozenset())
    nodes: list[Node] = []
    for node in graph:
        if node.op == "dropout":
            x, rate = node.inputs
            each = "sequence" if node.name in once else node.attrs["each"]
            axes = tuple(axis for axis in node.type.axes if axis.name not in node.attrs["over"])
            type = Type(axes, dependence=Dependence.INPUT)
            kept = Node(f"{node.name}/kept", "kept", (rate,), attrs(mask=node.name, each=each), type, node.at)
            nodes += [kept, node.with_(op="mul", inputs=(x, kept.name), attrs=attrs())]
        else:
            nodes.append(node)
    return replace(graph.with_nodes(nodes), bodies=bodies)
