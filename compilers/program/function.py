"""One function of a program: what a graph does over a sequence, in a step, or before the first step.

Forms write what a system becomes with it: arithmetic by the builder ``b``, kernels, registers. What they return are values, never text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from ssir.analysis.facts import Facts, facts, is_complex, state_axes
from ssir.compilers.forms import Match
from ssir.compilers.program.dtypes import is_wide, memory_kind, wide
from ssir.compilers.program.entries import entry_axes
from ssir.compilers.program.systems import Systems
from ssir.errors import Span
from ssir.ir.builder import GraphBuilder, Value
from ssir.ir.graph import Axis, Dependence, Graph, Node, Type, attrs, parents
from ssir.ir.op import broadcast
from ssir.registry import registry

Mode = Literal["sequence", "step"]
Groups = Sequence[Sequence[str]]
How = Literal["full", "led", "still", "thin", "entries", "object"]


@dataclass(frozen=True)
class Taken:
    """An operand of a kernel, one axis for each group of axes, behind those for batch and time (``how``):

    full    [batch, steps, *groups], all written out
    led     [batch or 1, steps or 1, *groups], axes of size 1 where it does not vary
    still   [*groups], a constant, all written out
    thin    [*groups], a constant, axes of size 1 where it does not vary
    entries [batch, entries, *groups], a register as data
    object  as it is
    """

    value: Value
    how: How
    groups: tuple[tuple[str, ...], ...] = ()


def taken(how: How, value: Value, *groups: Sequence[str]) -> Taken:
    return Taken(value, how, tuple(tuple(group) for group in groups))


def written(node: Node) -> tuple[str, ...]:
    """The memories that a node of a program writes, as the states that they are."""
    match node.op:
        case "new" | "push" | "keep":
            return (node.attrs["memory"],)
        case "loop":
            return tuple(node.attrs["memories"])
        case "kernel":
            return tuple(name for names in node.attrs["memories"] for name in names)
        case "compiled_loop":
            return tuple(name for _, _, names, _ in node.attrs["memories"] for name in names)
    return ()


class Builder(GraphBuilder):
    """Values belong to the node of the graph that they are made for, and know whether they are wide."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.name)
        self.taken = graph.nodes
        self.wide = set(wide(graph))
        self._owner: tuple[str, Span | None] = ("", None)

    @contextmanager
    def owned(self, name: str, at: Span | None) -> Iterator[None]:
        """What is made meanwhile is called NAME/..., and is shared with nothing else."""
        before = self._owner, self._known
        self._owner, self._known = (name, at), {}
        try:
            yield
        finally:
            self._owner, self._known = before

    def free(self, hint: str) -> str:
        """A name for something of the owner."""
        owner, n = self._owner[0], 1
        base = f"{owner}/{hint}" if owner else hint
        name = base
        while name in self.nodes or name in self.taken:
            n += 1
            name = f"{base}_{n}"
        return name

    def _add(self, hint: str, op: str, inputs: tuple[str, ...], attributes: Mapping[str, Any], type: Type) -> Value:
        name = self.free(hint)
        node = Node(name, op, inputs, attrs(**attributes), type, self._owner[1])
        self.nodes[name] = node
        if is_wide(self.nodes, node, self.wide):
            self.wide.add(name)
        return Value(self, node)


class Function(Systems):
    """``match``: the form of each state. ``inside``: the nodes that it computes, if it is the body of a loop; what they need of those
    around them are its inputs."""

    def __init__(
        self, graph: Graph, match: Mapping[str, Match], mode: Mode, inside: frozenset[str] | None = None
    ) -> None:
        self.graph, self.match, self.mode, self.inside = graph, match, mode, inside
        self.b: Builder = Builder(graph)
        self.values: dict[str, Value] = {}
        self.bodies: dict[str, Graph] = {}
        self._memories: dict[str, Value] = {}
        self._pending: list[Callable[[], object]] = []
        if inside is None:
            # They are the signature, in this order.
            self.values |= {node.name: self._add(node) for node in graph.inputs}

    def made(self, outputs: Sequence[tuple[str, str]], bodies: Mapping[str, Graph] | None = None) -> Graph:
        """The function as a graph: what its outputs and the memories need."""
        ends = [(label, self.value(name).name) for label, name in outputs]
        while self._pending:
            self._pending.pop(0)()
        alive = _alive(self.b.nodes, [name for _, name in ends])
        kept = {
            n: node for n, node in self.b.nodes.items() if n in alive or (node.op == "input" and self.inside is None)
        }
        above = {parent for name in kept for parent in parents(name)}
        calls = {path: name for path, name in self.graph.calls.items() if path in above}
        return Graph(self.graph.name, kept, tuple(ends), {**(bodies or {}), **self.bodies}, calls)

    # Values of the graph.

    def node(self, name: str) -> Node:
        return self.graph[name]

    def value(self, name: str) -> Value:
        if name not in self.values:
            node = self.graph[name]
            if self.inside is not None and name not in self.inside and node.op != "const":
                self.values[name] = self._add(node.with_(op="input", inputs=(), attrs=attrs()))
            elif (cycle := self._cycle_with(name)) and self._cycle(cycle):
                pass
            elif node.op == "state":
                self._state(node)
            else:
                self.values[name] = self._plain(node)
        return self.values[name]

    def _add(self, node: Node) -> Value:
        self.b.nodes[node.name] = node
        return Value(self.b, node)

    def _plain(self, node: Node) -> Value:
        if self.mode == "sequence" and self.inside is None:
            for _, fusion in registry.all("fusion"):
                with self.b.owned(node.name, node.at):
                    found: Value | None = fusion.lower(self, node)
                    if found is not None:
                        return self._named(node, found)
        return self._add(node.with_(inputs=tuple(self.value(one).name for one in node.inputs)))

    def _state(self, node: Node) -> None:
        fact, match = facts(self.graph, node), self.match[node.name]
        with self.b.owned(node.name, node.at):
            if self.mode == "sequence":
                y = match.form.sequence(self, fact, match)
            else:
                step = None if self.inside is not None else getattr(match.form, "step", None)
                y = self.step(fact) if step is None else step(self, fact, match)
            self._known(node, y)

    def _known(self, node: Node, y: Value | Mapping[str, Value]) -> None:
        found = y if isinstance(y, Mapping) else {node.name: y}
        for name, value in found.items():
            self.values[name] = self._named(self.graph[name], value)

    def _named(self, node: Node, y: Value) -> Value:
        """A value as what a node is: its axes in order, as data or wide as said."""
        y = self.ordered(self.b.expand(y, node.type), node.type.names)
        to = "as it is"
        if node.type.dtype == "real":
            to = "wide" if node.name in self.wide else "data"
        return self._add(Node(node.name, "cast", (y.name,), attrs(to=to), node.type, node.at))

    def _cycle_with(self, name: str) -> frozenset[str] | None:
        """The cycle that a value is on, or with whose states a form gives it."""
        if self.inside is not None:
            return None
        return self.graph.cycle_of.get(name) or self._given.get(name)

    @cached_property
    def _given(self) -> Mapping[str, frozenset[str]]:
        return {name: self.graph.cycle_of[state] for state, match in self.match.items() for name in match.gives}

    def _cycle(self, cycle: frozenset[str]) -> bool:
        """Have the form that takes a cycle compute all that it gives to the outside. In a step a loop is nothing special."""
        first = next(node for node in self.graph.states if node.name in cycle)
        match, fact = self.match[first.name], facts(self.graph, first)
        write = match.form.sequence if self.mode == "sequence" else getattr(match.form, "step", None)
        if write is None:
            return False
        with self.b.owned(first.name, first.at):
            self._known(first, write(self, fact, match))
        return True

    @cached_property
    def wide(self) -> frozenset[str]:
        """The nodes of the graph whose values are float32 at least."""
        return wide(self.graph)

    def is_wide(self, value: Value) -> bool:
        """Whether a value is of float32 at least, whatever the data is."""
        return value.name in self.b.wide

    @cached_property
    def entries(self) -> Mapping[str, int]:
        """The slot axes laid out by entry, with the lag of their registers."""
        return entry_axes(self.graph, self.match)

    # Arithmetic.

    def ordered(self, x: Value, axes: Sequence[str]) -> Value:
        """A value with its axes in this order."""
        return x if x.type.names == tuple(axes) else self.b("order", x, axes=tuple(axes))

    def as_wide(self, x: Value) -> Value:
        same = x.type.dtype != "real" or self.is_wide(x) or x.number is not None
        return x if same else self.b("cast", x, to="wide")

    def as_data(self, x: Value) -> Value:
        return self.b("cast", x, to="data") if self.is_wide(x) else x

    def product(self, a: Value, b: Value, over: Sequence[str]) -> Value:
        if not over:
            return a * b
        if self.is_wide(a) or self.is_wide(b):
            a, b = self.as_wide(a), self.as_wide(b)
        return self.b("contract", a, b, over=tuple(over))

    def entering(self, node: Node) -> Value:
        into = super().entering(node)
        said = node.attrs["dtype"] if facts(self.graph, node).structure.kind in ("shift", "zero") else None
        if said is None or into.type.dtype != "real" or into.number is not None:
            return into
        return self.b("cast", into, to="data" if said == "data" else "wide")

    # Memories.

    def _memory(self, node: Node, **more: Any) -> dict[str, Any]:
        return {"memory": node.name, "kind": memory_kind(self.graph, node), **more}

    def _type(self, node: Node) -> Type:
        """The type of a memory itself."""
        kind = "complex" if is_complex(self.graph, node) else "real"
        return Type(state_axes(node), kind, Dependence.STATE)

    def start(self, node: Node) -> Value | None:
        """What a memory is before the first step, over all its axes, if the spec says it."""
        role = node.role("initial")
        if role is None:
            return None
        type = Type(state_axes(node))
        return self.ordered(self.b.expand(self.value(role), type), type.names)

    def _started(self, node: Node, *first: Value) -> list[Value]:
        start = self.start(node)
        return [*first, *([] if start is None else [start])]

    def old(self, node: Node) -> Value:
        """A memory before the step."""
        if node.name not in self._memories:
            about = self._memory(node, fill=fill(node))
            self._memories[node.name] = self.b.declared("old", "old", self._started(node), about, self._type(node))
        return self._memories[node.name]

    def new(self, node: Node, value: Value) -> None:
        """Keep a value as the memory after the step."""
        type = replace(self._type(node), dtype=value.type.dtype)
        value = self.ordered(self.b.expand(value, type), type.names)
        self.b.declared("new", "new", [value], {"memory": node.name}, type)

    def first(self, node: Node) -> None:
        """Keep a memory as it is before the first step."""
        slots = facts(self.graph, node).slots
        about = self._memory(node, fill=fill(node), slots=None if slots is None else slots.name)
        self.new(node, self.b.declared("first", "first", self._started(node), about, self._type(node)))

    def before(self, node: Node, h: Value) -> Value:
        """The memory before each step of a sequence, from that after each."""
        about = {"memory": node.name, "fill": fill(node)}
        h = self.ordered(h, self._type(node).names)
        return self.b.declared("before", "before", self._started(node, h), about, h.type)

    def read(self, node: Node, h: Value) -> Value:
        """The readout of a memory over a sequence, from what it is after each step."""
        return self.readout(node, h if node.attrs["read"] == "after" else self.before(node, h))

    def clear(self, node: Node, groups: Groups) -> Taken:
        """What a memory is after a reset, for a kernel that holds it: a number, if the spec says nothing."""
        start = self.start(node)
        return taken("object", self.b.number(fill(node))) if start is None else taken("still", start, *groups)

    def step(self, fact: Facts) -> Value:
        """One step of any memory: h = A h + B x, y = C h + D x."""
        node = fact.node
        if fact.slots is not None and node.attrs["algebra"] == "plus_times":
            return self.register(fact)
        h = self.old(node)
        after = node.attrs["read"] == "after"

        def following() -> Value:
            with self.b.owned(node.name, node.at):
                found = self.following(node, h, fact.structure.kind == "zero")
                self.new(node, found)
                return found

        if after:
            return self.readout(node, following())
        self._pending.append(following)
        return self.readout(node, h)

    # Registers.

    def seen(self, node: Node) -> Value:
        """A register with the input of this call entered: [batch, entries, *axes], oldest first. Read before, a step sees the old one."""
        if node.name not in self._memories:
            slots = facts(self.graph, node).slots
            assert slots is not None
            about = self._memory(node, axis=slots.name, size=slots.size)
            type = self._type(node)
            inside = tuple(axis for axis in type.axes if axis.name != slots.name)
            type = replace(type, axes=(slots, *inside))
            start = self._slots_first(node, slots.name)

            def write() -> Value:
                with self.b.owned(node.name, node.at):
                    into = self.b.expand(self.entering(node), Type(inside))
                    return self.b.declared("push", "push", [into, *start], about, type)

            with self.b.owned(node.name, node.at):
                if self.mode == "step" and node.attrs["read"] == "before":
                    self._memories[node.name] = self.b.declared("held", "held", start, about, type)
                    self._pending.append(write)
                else:
                    self._memories[node.name] = write()
        return self._memories[node.name]

    def _slots_first(self, node: Node, slots: str) -> list[Value]:
        start = self.start(node)
        if start is None:
            return []
        return [self.ordered(start, (slots, *(name for name in start.type.names if name != slots)))]

    def slots(self, fact: Facts) -> Value:
        """A register as a value: the window of its slots at each step."""
        node, slots = fact.node, fact.slots
        assert slots is not None
        lag = 0 if node.attrs["read"] == "after" else 1
        about = {"kind": memory_kind(self.graph, node), "axis": slots.name, "size": slots.size, "lag": lag}
        seen = self.seen(node)
        absent = tuple(pair for pair in node.type.absent if pair[0] == slots.name)
        type = replace(seen.type, dependence=node.type.dependence, absent=absent)
        return self.b.declared("slots", "slots", [seen, *self._slots_first(node, slots.name)], about, type)

    def register(self, fact: Facts) -> Value:
        """The readout of a register, over a sequence or in a step."""
        node, slots = fact.node, fact.slots
        assert slots is not None
        y, c = self.slots(fact), node.role("C")
        if c is None:
            return self.fed_through(node, y)
        used, weights = self.contracted(node), self.value(c)
        if not used:
            return self.fed_through(node, y * weights)
        rest = [axis for axis in node.type.axes if axis.name in {*y.type.names, *weights.type.names}]
        dtype = "complex" if "complex" in (y.type.dtype, weights.type.dtype) else "real"
        type = Type(tuple(rest), dtype, node.type.dependence, node.type.absent)
        return self.fed_through(node, self.b.declared("read", "weigh", [y, weights], {"over": tuple(used)}, type))

    def past(self, node: Node, entries: int | None) -> Value:
        """The last entries of a register (None: all) before a call."""
        slots = facts(self.graph, node).slots
        assert slots is not None
        about = self._memory(node, axis=slots.name, entries=entries)
        return self.b.declared("past", "past", [], about, self._type(node))

    def keep(self, node: Node, x: Value) -> None:
        """Keep the last inputs of a sequence as a register, without looking at it as a whole."""
        slots = facts(self.graph, node).slots
        assert slots is not None
        type = replace(x.type, dependence=Dependence.STATE)
        self.b.declared("keep", "keep", [x], {"memory": node.name, "size": slots.size}, type)

    def spread(self, x: Value, axes: Sequence[Axis], node: Node) -> Value:
        """A value as what enters a memory: written out over batch, time and these axes."""
        about = {"axes": tuple((axis.name, axis.size) for axis in axes), "kind": memory_kind(self.graph, node)}
        type = Type(tuple(axes), x.type.dtype, max(x.type.dependence, Dependence.INPUT))
        return self.b.declared("spread", "spread", [x], about, type)

    # Algorithms.

    def kernel(
        self,
        function: str,
        *operands: Taken | None,
        gives: Groups | None,
        memories: Sequence[Sequence[str]] = (),
        held: Groups = (),
        several: bool = False,
        given: Literal["reset", "time"] | None = None,
        behind: Sequence[Taken] = (),
        options: Sequence[Any] = (),
        dtype: str = "real",
        axes: Sequence[Axis] = (),
    ) -> Value:
        """The result of ``function``, MODULE.NAME: a kernel of the runtime, or a plugin's module. It is called with

            operands (None as it is), [memory before the call,] [reset or time,] what stands behind, options

        and gives y, with an axis for each group of ``gives`` behind batch and time (None: whatever it likes, for another kernel); or, where
        it is given a memory, y and the memory after the call. That has an axis for each group of ``held``, None if there is none yet; a kernel of
        ``several`` takes and gives a tuple of them. ``memories``: of each the states that it is, by name. ``axes``: such as no operand has, nor
        the memories.
        """
        values = [one for one in (*operands, *behind) if one is not None]
        nodes = [self.graph[name] for names in memories for name in names]
        known = [Type(tuple(axes)), *(one.value.type for one in values), *(node.type for node in nodes)]
        sizes = {axis.name: axis for axis in broadcast([*known, *(Type(state_axes(node)) for node in nodes)])}
        about = {
            "function": function,
            "takes": tuple(None if one is None else (one.how, one.groups) for one in (*operands, *behind)),
            "gives": None if gives is None else tuple(map(tuple, gives)),
            "memories": tuple(map(tuple, memories)),
            "held": tuple(map(tuple, held)),
            "several": several,
            "with": given,
            "behind": len(behind),
            "options": tuple(options),
        }
        named = {name for one in values for group in one.groups for name in group}
        about["sizes"] = tuple((axis.name, axis.size) for axis in sizes.values() if axis.name in named)
        given_axes = tuple(sizes[name] for group in gives or () for name in group)
        still = not memories and all(one.value.type.dependence is Dependence.CONSTANT for one in values)
        dependence = max((one.value.type.dependence for one in values), default=Dependence.INPUT)
        type = Type(given_axes, dtype, Dependence.CONSTANT if still else max(dependence, Dependence.INPUT))
        return self.b.declared(function.rpartition(".")[2], "kernel", [one.value for one in values], about, type)

    def loop(self, inside: frozenset[str]) -> Mapping[str, Value]:
        """What of some nodes is seen outside, computed one step after another."""
        wanted = self.graph.seen_outside(inside)
        body = Function(self.graph, self.match, "step", inside).made([(name, name) for name in wanted])
        states = tuple(node.name for node in self.graph.states if node.name in inside)
        given = [self.value(node.name) for node in body.inputs]
        name = self.b.free("loop")
        self.bodies[name] = body
        type = Type(dependence=Dependence.STATE)
        whole = self.b.declared("loop", "loop", given, {"body": name, "memories": states}, type)
        return {one: self.result(whole, i, self.graph[one].type) for i, one in enumerate(wanted)}

    def result(self, loop: Value, index: int, type: Type) -> Value:
        """One of the results of a loop."""
        return self.b.declared("result", "result", [loop], {"index": index}, type)


def begin(graph: Graph, match: Mapping[str, Match], bodies: Mapping[str, Graph]) -> Graph:
    """The function that writes every memory as it is before the first step."""
    function = Function(graph, match, "step")
    for node in graph.states:
        with function.b.owned(node.name, node.at):
            function.first(node)
    made = function.made([], bodies)
    return made.with_nodes([node for node in made if node.op != "input"])


def fill(node: Node) -> float:
    """What a memory is where nothing has entered."""
    return 0.0 if node.attrs["algebra"] == "plus_times" else -float("inf")


def _alive(nodes: Mapping[str, Node], ends: Sequence[str]) -> set[str]:
    alive: set[str] = set()
    todo = [*ends, *(node.name for node in nodes.values() if written(node))]
    while todo:
        name = todo.pop()
        if name not in alive:
            alive.add(name)
            todo += nodes[name].inputs
    return alive
