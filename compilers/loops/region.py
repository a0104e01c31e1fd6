"""A region: what a loop over time computes in each step, as a graph without memories.

    old memories, columns (values of the step), constants   ->   new memories, outputs of the step

Memories, columns and constants are the inputs of the graph. Everything that a memory does is written out as arithmetic: its
operator, what enters it, its readout. Norms, softmax and learned maps are written out too, so that few operations remain.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from ssir.analysis.facts import facts, is_complex, state_axes
from ssir.compilers.loops.pairs import COMPLEX, PARTS, Pair, PairBuilder, lying
from ssir.compilers.loops.spelling import Unfit
from ssir.compilers.program.systems import Systems, UnknownOperator
from ssir.ir.builder import Value
from ssir.ir.graph import Axis, Dependence, Graph, Node, Type
from ssir.ir.op import TypeFault
from ssir.ir.ops import operation
from ssir.ir.verifier import in_step


@dataclass(frozen=True)
class Result:
    """A value of a body that is handed out, its axes in this order."""

    value: str
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """``old``: the input that holds the memory before the step; ``new``: the value that it becomes; ``states``: the states of the graph
    that it is; ``fill``: what it is where nothing has entered, unless they say it; ``slots``: the axis of a register, kept oldest first."""

    old: str
    new: str
    states: tuple[str, ...]
    fill: float = 0.0
    slots: str | None = None


@dataclass(frozen=True)
class Room:
    """A register with room for more entries. ``slots``: the input that is its slots along ``axis``, newest first; ``entering``: the value
    that the step enters; ``lag``: 0 if that is among the slots, 1 if not; ``state``: the state of the graph that it is."""

    slots: str
    axis: str
    entering: str
    lag: int
    state: str


@dataclass(frozen=True)
class Affine:
    """A memory becomes gate * memory + into, or max(gate + memory, into), where gate and into are over all its axes; without a gate it is
    left as it is. Two values are the parts of complex numbers."""

    gate: tuple[str, ...]
    into: tuple[str, ...]
    maximum: bool


@dataclass(frozen=True)
class Region:
    """``columns`` and ``constants``: by input of the body, the node of the graph around it. ``outputs``: what the nodes of the graph around
    it are. What is complex has its parts along an axis of its own, the last. ``rooms``: memories that are written in place. ``affine``: what
    the only memory becomes, if a scan can say it. ``wholes``: by input of the body, the node of the graph that whole sequences decide."""

    body: Graph
    memories: tuple[Memory, ...]
    columns: Mapping[str, str]
    constants: Mapping[str, str]
    outputs: Mapping[str, Result]
    rooms: tuple[Room, ...] = ()
    affine: Affine | None = None
    wholes: Mapping[str, str] = field(default_factory=dict)

    @property
    def results(self) -> tuple[Result, ...]:
        """What a loop hands out for every step: new memories, and what else is asked for."""
        return tuple(dict.fromkeys([*map(self.kept, self.memories), *self.outputs.values()]))

    def kept(self, memory: Memory) -> Result:
        """What a memory becomes."""
        return Result(memory.new, self.body[memory.old].type.names)


def by_matrix(node: Node, constants: Collection[str]) -> tuple[str, str] | None:
    """The constant matrix and the operand, if a node is a product of the two."""
    if node.op != "dot":
        return None
    pairs = (node.inputs, node.inputs[::-1])
    return next(((one, other) for one, other in pairs if one in constants and other not in constants), None)


def region(graph: Graph, inside: frozenset[str], wanted: Sequence[str]) -> Region:
    """The region of some nodes of a graph whose memories are all among them. Raises Unfit."""
    try:
        return Maker(graph, inside).made(wanted)
    except TypeFault as fault:
        raise Unfit(fault.message) from None
    except UnknownOperator as unknown:
        raise Unfit(str(unknown)) from None


class Maker(Systems):
    """Makes the region of some nodes of a graph."""

    b: PairBuilder

    def __init__(self, graph: Graph, inside: frozenset[str]) -> None:
        self.graph, self.inside = graph, inside
        self.b = PairBuilder(graph.name)
        self.values: dict[str, Value] = {}
        self.columns: dict[str, str] = {}
        self.constants: dict[str, str] = {}
        self.old: dict[str, Value] = {}
        self.raw: dict[str, str] = {}  # the input that each memory is
        self.new: dict[str, Value] = {}
        self.given: set[str] = set()  # inputs that stay, used or not
        self.slots: dict[str, str] = {}  # the axis of each register among the memories
        self.rooms: dict[str, tuple[Value, Room]] = {}  # of each register with room for more, what enters it
        self.wholes: dict[str, str] = {}
        self.done: list[Value] = []  # what is to be done, and gives nothing
        self.states = [node for node in graph.states if node.name in inside]
        for node in self.states:
            self._begin(node)

    def _begin(self, node: Node) -> None:
        """Take a memory in, as it is before the step."""
        fact = facts(self.graph, node)
        if fact.structure.kind == "shift":
            raise Unfit(f"`{node.name}` is a register")
        if any(axis.size is None for axis in fact.axes):
            raise Unfit(f"`{node.name}` grows")
        self._remember(node, Type(fact.axes, dependence=Dependence.STATE))

    def _remember(self, node: Node, type: Type) -> None:
        complex = is_complex(self.graph, node)
        raw = self.b.input(f"{short_name(node.name)}.old", lying(type) if complex else type)
        self.old[node.name] = self.b.read(raw) if complex else raw
        self.raw[node.name] = raw.name

    def made(self, wanted: Sequence[str]) -> Region:
        for name in in_step(self.graph, self.inside):
            if not self.graph[name].type.operator and name not in self.values:
                self.values[name] = self._inside(self.graph[name])
        for node in self.states:
            self._next(node)
        outputs = {name: self.b.lain(self.value(name)) for name in wanted}
        kept = [node for node in self.states if node.name in self.new]
        news = {node.name: self._full(self.new[node.name], node) for node in kept}
        memories: dict[tuple[str, str | None, float], Memory] = {}
        same: dict[str, str] = {}
        for node in kept:
            fill = -float("inf") if node.attrs["algebra"] == "max_plus" else 0.0
            key = (news[node.name].name, node.role("initial"), fill)
            old = self.raw[node.name]
            if key in memories:  # two names of one memory
                twin = memories[key]
                same[old] = twin.old
                memories[key] = Memory(twin.old, twin.new, (*twin.states, node.name), fill)
            else:
                memories[key] = Memory(old, key[0], (node.name,), fill, self.slots.get(node.name))
        entering = [value for value, _ in self.rooms.values()]
        ends = {value.name: value for value in (*news.values(), *entering, *outputs.values(), *self.done)}
        body = _with_one(self.b.graph(ends.items()), same)
        used = {name for node in body for name in node.inputs} | {name for _, name in body.outputs} | self.given
        used |= {memory.old for memory in memories.values()}
        body = Graph(
            body.name,
            {n: x for n, x in body.nodes.items() if x.op != "input" or n in used},
            body.outputs,
        )
        return Region(
            body,
            tuple(memories.values()),
            {name: node for name, node in self.columns.items() if name in body.nodes},
            {name: node for name, node in self.constants.items() if name in body.nodes},
            {name: Result(value.name, self._laid(name)) for name, value in outputs.items()},
            tuple(room for _, room in self.rooms.values() if room.slots in body.nodes),
            wholes={name: node for name, node in self.wholes.items() if name in body.nodes},
        )

    def _laid(self, name: str) -> tuple[str, ...]:
        """The axes of a node of the graph, as it lies."""
        type = self.graph[name].type
        return (*type.names, PARTS) if type.dtype == "complex" else type.names

    def _full(self, value: Value, node: Node) -> Value:
        """A new memory over all its axes, as it lies."""
        if is_complex(self.graph, node) and not isinstance(value, Pair):
            value = Pair(self.b, value, self.b.number(0.0))
        return self.b.lain(self.b.expand(value, Type(state_axes(node))))

    # Values.

    def value(self, name: str) -> Value:
        if name not in self.values:
            self.values[name] = self._outside(name, None)
        return self.values[name]

    def _outside(self, name: str, axes: Sequence[Axis] | None) -> Value:
        """A value from around the region; ``axes``: under these names."""
        node = self.graph[name]
        if node.op == "const":
            return self.b.number(node.attrs["value"])
        if node.type.absent:
            raise Unfit(f"slots of `{name}` may be absent")
        if any(axis.size is None for axis in node.type.axes):
            raise Unfit(f"`{name}` has no fixed size")
        constant = node.type.dependence is Dependence.CONSTANT
        own = node.type.axes if axes is None else tuple(axes)
        dependence = Dependence.CONSTANT if constant else Dependence.INPUT
        type = Type(own, dependence=dependence)
        value = self.b.input(short_name(name), lying(type) if node.type.dtype == "complex" else type)
        (self.constants if constant else self.columns)[value.name] = name
        if node.type.dtype == "complex":
            return self.b.read(value)
        return self.b("ne", value, 0) if node.type.dtype == "bool" else value

    def _inside(self, node: Node) -> Value:
        if node.type.absent:
            raise Unfit(f"slots of `{node.name}` may be absent")
        return self._written(node, operation(node.op).gradient is not None or node.op in COMPLEX)

    def _written(self, node: Node, known: bool) -> Value:
        """A node in few operations; ``known``: whether its own is one of them."""
        match node.op:
            case "state":
                return self.readout(node, self._seen(node))
            case "linear":
                return self._linear(node)
            case "rms_norm" | "layer_norm" | "l2_norm":
                return self._norm(node)
            case "softmax":
                return self._softmax(node)
        if not known:
            raise Unfit(f"`{node.name}` is a `{node.op}`")
        return self.b(node.op, *map(self.value, node.inputs), name=short_name(node.name), **node.attrs)

    def _linear(self, node: Node) -> Value:
        over, out, per = node.attrs["over"], node.attrs["out"], node.attrs["per"]
        weight = self.graph[node.inputs[1]]
        if weight.name in self.inside or weight.type.dependence is not Dependence.CONSTANT:
            raise Unfit(f"the weight of `{node.name}` changes")
        x = self.b.rename(self.value(node.inputs[0]), {name: f"{name}_in" for name in over})
        names = [*per, *out, *(f"{name}_in" for name in over)]
        axes = [Axis(name, axis.size) for name, axis in zip(names, weight.type.axes, strict=True)]
        y = self.b.dot(self._outside(weight.name, axes), x, names[len(per) + len(out) :])
        if node.attrs["bias"]:
            bias = self.graph[node.inputs[2]]
            y = y + self._outside(bias.name, [Axis(n, a.size) for n, a in zip(names, bias.type.axes, strict=False)])
        return y

    def _norm(self, node: Node) -> Value:
        x, over, b = self.value(node.inputs[0]), node.attrs["over"], self.b
        if node.op == "l2_norm":
            return x * b("rsqrt", b("maximum", b.dot(x, x, over), node.attrs["eps"] ** 2))
        if node.op == "layer_norm":
            x = x - b("mean", x, over=over)
        # As a sum of products it needs no value of its own for each square.
        square = b.dot(x, x, over) / prod(x.type.axis(name).size or 1 for name in over)
        y = x * b("rsqrt", square + node.attrs["eps"])
        rest = list(node.inputs[1:])
        if node.attrs["scale"]:
            y = y * self.value(rest.pop(0))
        return y + self.value(rest.pop(0)) if node.attrs["bias"] else y

    def _softmax(self, node: Node) -> Value:
        x, over, b = self.value(node.inputs[0]), node.attrs["over"], self.b
        e = b("exp", x - b("detach", b("max", x, over=over)))
        return e / b.sum(e, over)

    # Memories.

    def _next(self, node: Node) -> Value:
        """h[t] = A h[t-1] + B x."""
        if node.name not in self.new:
            zero = facts(self.graph, node).structure.kind == "zero"
            self.new[node.name] = self.following(node, self.old[node.name], zero)
        return self.new[node.name]

    def matrix(self, name: str, axes: Sequence[Axis]) -> Value:
        return super().matrix(name, axes) if name in self.inside else self._outside(name, axes)

    def _seen(self, node: Node) -> Value:
        """The memory that a step reads."""
        return self._next(node) if node.attrs["read"] == "after" else self.old[node.name]


def _with_one(body: Graph, other: Mapping[str, str]) -> Graph:
    """The body with inputs that are always equal made one."""
    if not other:
        return body
    nodes = {
        name: node.with_(inputs=tuple(other.get(one, one) for one in node.inputs))
        for name, node in body.nodes.items()
        if name not in other
    }
    return Graph(body.name, nodes, tuple((label, other.get(name, name)) for label, name in body.outputs))


def short_name(name: str) -> str:
    """The last part of a path."""
    return name.rpartition(".")[2] or name
