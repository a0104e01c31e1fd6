"""The IR: an immutable graph of typed nodes.

    graph   ::= inputs, outputs, nodes, bodies, calls   bodies: the graphs that a stack repeats; calls: path of a component, its name
    node    ::= name op(input names) {attributes} : type @ source position
    type    ::= [axis:size, ...] dtype dependence       the batch and time axes are never written

Nodes refer to each other by name, so a cycle through a memory needs no special node. What operations there are, with their operands, attributes
and types, is said once, in ssir.ir.ops; plugins add others through ssir.registry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any

import networkx as nx

from ssir.errors import Span

WHOLE = -1
"""The lag, in ``Type.absent``, of the slots of a whole sequence: there are those of the document that a step belongs to."""


class Dependence(IntEnum):
    """What a value may change with; a larger one includes the smaller."""

    CONSTANT = 0
    POSITION = 1
    INPUT = 2
    STATE = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Axis:
    """A named axis; size None is unbounded (the slots of a memory that grows, or a whole sequence)."""

    name: str
    size: int | None

    def __str__(self) -> str:
        return f"{self.name}:{'*' if self.size is None else self.size}"


@dataclass(frozen=True, slots=True)
class Type:
    """Axes in physical order (batch and time in front are implied), dtype and dependence.

    ``absent`` names the axes whose slots may not have been reached by an input yet, with the number of
    inputs by which they lag (0: slot s is there when s <= position; 1: when s < position; WHOLE: see there).
    """

    axes: tuple[Axis, ...] = ()
    dtype: str = "real"  # real, complex, bool, int
    dependence: Dependence = Dependence.CONSTANT
    absent: tuple[tuple[str, int], ...] = ()
    operator: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    @property
    def sizes(self) -> tuple[int | None, ...]:
        return tuple(axis.size for axis in self.axes)

    def axis(self, name: str) -> Axis:
        return next(axis for axis in self.axes if axis.name == name)

    def numel(self) -> int:
        """The number of entries per batch entry and time step; an unbounded axis counts as one."""
        n = 1
        for axis in self.axes:
            n *= axis.size or 1
        return n

    def __str__(self) -> str:
        marks = "".join(f" absent({name}, {'whole' if lag == WHOLE else lag})" for name, lag in self.absent)
        kind = " operator" if self.operator else ""
        return f"[{', '.join(map(str, self.axes))}] {self.dtype} {self.dependence}{marks}{kind}"


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. ``attrs`` holds hashable values only; ``at`` is where the spec says it."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    type: Type
    at: Span | None = field(default=None, compare=False)

    def role(self, role: str) -> str | None:
        """The node that plays a role (A, B, x, C, D, initial) of a state."""
        roles: tuple[str, ...] = self.attrs["roles"]
        return self.inputs[roles.index(role)] if role in roles else None

    def with_(self, **changes: Any) -> Node:
        return replace(self, **changes)


def owners(stack: Node) -> tuple[int, ...]:
    """For each layer of a stack the one whose parameters it has: its own, or the first of its kind where layers share them."""
    pattern: tuple[str, ...] = stack.attrs["pattern"]
    return tuple(pattern.index(body) if stack.attrs["share"] else i for i, body in enumerate(pattern))


def parents(path: str) -> Iterator[str]:
    """The paths above a node, the outermost first: a, a.b of a.b.c and of a.b.c/exp."""
    parts = path.partition("/")[0].split(".")
    for i in range(1, len(parts)):
        yield ".".join(parts[:i])


def attrs(**values: Any) -> Mapping[str, Any]:
    return MappingProxyType(values)


@dataclass(frozen=True)
class Graph:
    """A component with everything inlined but its stacks.

    ``outputs`` pairs a label with a node. ``bodies`` holds, by name, the graphs that stacks repeat: their inputs are the value that
    runs through the stack, the carried ones, then those given ``with:``; their outputs are the first and the carried ones. ``calls`` says for the path of each
    component that was inlined what it was called as: what is below that path is in it.
    """

    name: str
    nodes: Mapping[str, Node]
    outputs: tuple[tuple[str, str], ...]
    bodies: Mapping[str, Graph] = field(default_factory=dict)
    calls: Mapping[str, str] = field(default_factory=dict)

    def __deepcopy__(self, memo: object) -> Graph:
        return self  # nothing in it changes

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    @property
    def inputs(self) -> tuple[Node, ...]:
        return tuple(node for node in self if node.op == "input")

    @property
    def whole(self) -> tuple[str, ...]:
        """The inputs that are whole sequences: an axis of theirs is unbounded. A model is given them once, [batch, *axes]."""
        return tuple(node.name for node in self.inputs if any(axis.size is None for axis in node.type.axes))

    @property
    def has_time(self) -> bool:
        """Whether the graph, as a model, goes through time: it does not if all that it reads are whole sequences."""
        return len(self.whole) < len(self.inputs)

    @property
    def states(self) -> tuple[Node, ...]:
        return tuple(node for node in self if node.op == "state")

    @property
    def params(self) -> tuple[Node, ...]:
        return tuple(node for node in self if node.op == "param")

    def operands(self, node: Node) -> tuple[Node, ...]:
        return tuple(self.nodes[name] for name in node.inputs)

    @cached_property
    def nx(self) -> nx.DiGraph[str]:
        """The networkx view: an edge for each use, from operand to user."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        for node in self:
            graph.add_node(node.name, node=node)
        for node in self:
            graph.add_edges_from((name, node.name) for name in node.inputs)
        return graph

    @cached_property
    def users(self) -> Mapping[str, tuple[str, ...]]:
        return {name: tuple(self.nx.successors(name)) for name in self.nodes}

    @cached_property
    def cycles(self) -> tuple[frozenset[str], ...]:
        """The groups of nodes that lie on a common cycle (strongly connected, more than one node or a self-loop)."""
        found = [
            frozenset(group)
            for group in nx.strongly_connected_components(self.nx)
            if len(group) > 1 or self.nx.has_edge(*(2 * tuple(group)))
        ]
        order = {name: i for i, name in enumerate(self.nodes)}
        return tuple(sorted(found, key=lambda group: min(order[name] for name in group)))

    @cached_property
    def cycle_of(self) -> Mapping[str, frozenset[str]]:
        """For each node on a cycle, the nodes on it."""
        return {name: group for group in self.cycles for name in group}

    def seen_outside(self, inside: Collection[str]) -> list[str]:
        """The values among ``inside`` that something else uses, in order."""
        ends = {name for _, name in self.outputs}
        return [
            node.name
            for node in self
            if node.name in inside
            and not node.type.operator
            and (node.name in ends or any(user not in inside for user in self.users[node.name]))
        ]

    @cached_property
    def known(self) -> dict[Any, Any]:
        """What analyses have found out about the graph, kept with it."""
        return {}

    def with_nodes(self, nodes: Iterable[Node], outputs: tuple[tuple[str, str], ...] | None = None) -> Graph:
        return replace(
            self, nodes={node.name: node for node in nodes}, outputs=self.outputs if outputs is None else outputs
        )

    def walk(self) -> Iterator[Graph]:
        """This graph, then every body below it."""
        yield self
        for body in self.bodies.values():
            yield from body.walk()

    @property
    def has_step(self) -> bool:
        """Whether the graph can run one step at a time: it does not if it reads the future."""
        return not any(node.op == "context" for one in self.walk() for node in one)


def parameters(graph: Graph) -> Iterator[tuple[str, Node, Graph, int]]:
    """Every parameter once: its full name, its node, the graph that it is in, and its layer."""
    seen: set[str] = set()

    def walk(one: Graph, at: str, layer: int) -> Iterator[tuple[str, Node, Graph, int]]:
        for node in one.params:
            name = node.attrs["key"] if node.attrs["shared"] else at + node.attrs["key"]
            if name not in seen:
                seen.add(name)
                yield name, node, one, layer
        for node in one:
            if node.op == "stack":
                for i, body in zip(owners(node), node.attrs["pattern"], strict=True):
                    yield from walk(one.bodies[body], f"{at}{node.name}.{i}.", i)

    yield from walk(graph, "", 0)
