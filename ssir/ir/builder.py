"""Builds a graph value by value: types are computed, equal values are one, and arithmetic that changes nothing is not written.

b = GraphBuilder("cell")
h = b.input("h", Type((Axis("n", 4),), dependence=Dependence.INPUT))
y = (1 - h) * b("tanh", h)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ssir.errors import Span
from ssir.ir.graph import Graph, Node, Type, attrs
from ssir.ir.op import TypeFault, pairs
from ssir.ir.ops import operation

_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1}


class Value:
    """A node of a graph that is being built. Arithmetic on it, and on numbers, makes further ones."""

    __slots__ = ("builder", "node")

    def __init__(self, builder: GraphBuilder, node: Node) -> None:
        self.builder, self.node = builder, node

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def type(self) -> Type:
        return self.node.type

    def __getitem__(self, attribute: str) -> Any:
        return self.node.attrs[attribute]

    def __neg__(self) -> Value:
        return self.builder("neg", self)

    def __add__(self, other: Operand) -> Value:
        return self.builder("add", self, other)

    def __radd__(self, other: Operand) -> Value:
        return self.builder("add", other, self)

    def __sub__(self, other: Operand) -> Value:
        return self.builder("sub", self, other)

    def __rsub__(self, other: Operand) -> Value:
        return self.builder("sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return self.builder("mul", self, other)

    def __rmul__(self, other: Operand) -> Value:
        return self.builder("mul", other, self)

    def __truediv__(self, other: Operand) -> Value:
        return self.builder("div", self, other)

    def __rtruediv__(self, other: Operand) -> Value:
        return self.builder("div", other, self)

    def __pow__(self, other: Operand) -> Value:
        return self.builder("pow", self, other)

    def __lt__(self, other: Operand) -> Value:
        return self.builder("lt", self, other)

    def __le__(self, other: Operand) -> Value:
        return self.builder("le", self, other)

    def __gt__(self, other: Operand) -> Value:
        return self.builder("gt", self, other)

    def __ge__(self, other: Operand) -> Value:
        return self.builder("ge", self, other)

    @property
    def operands(self) -> list[Value]:
        return [Value(self.builder, self.builder.nodes[name]) for name in self.node.inputs]

    @property
    def number(self) -> float | None:
        """Its value, if it is a written number."""
        return self.node.attrs["value"] if self.node.op == "const" else None


Operand = Value | float | int


class GraphBuilder:
    """A growing graph. Calling it with an operation and its operands gives the result."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: dict[str, Node] = {}
        self._known: dict[Any, Value] = {}
        self._called: tuple[str, Span | None] | None = None

    @classmethod
    def of(cls, graph: Graph) -> GraphBuilder:
        """A graph to go on from: what is in it already is not made again."""
        b = cls(graph.name)
        b.nodes.update(graph.nodes)
        for node in graph:
            if not operation(node.op).declared and node.op != "state":
                b._known.setdefault(_key(node.op, node.inputs, node.attrs), Value(b, node))
        return b

    @contextmanager
    def called(self, name: str, at: Span | None) -> Iterator[None]:
        """What is made meanwhile has this name, or one like it, and this place in the spec."""
        before, self._called = self._called, (name, at)
        try:
            yield
        finally:
            self._called = before

    def input(self, name: str, type: Type) -> Value:
        """An input, under this name or one like it."""
        return self._add(name, "input", (), {}, type)

    def declared(
        self, name: str, op: str, operands: Iterable[Value], attributes: Mapping[str, Any], type: Type
    ) -> Value:
        """A node that says its own type."""
        return self._add(name, op, tuple(value.name for value in operands), attributes, type)

    def number(self, value: float) -> Value:
        return self._once("const", (), {"value": value}, "number")

    def __call__(self, op: str, *operands: Operand, name: str | None = None, **attributes: Any) -> Value:
        """The result of an operation; ``name``: what to call it if it is new. Raises TypeFault where operands do not fit."""
        values = [one if isinstance(one, Value) else self.number(one) for one in operands]
        same = self._same(op, values)
        return same if same is not None else self._once(op, values, attributes, name or op.removeprefix("op."))

    def rename(self, a: Value, names: Mapping[str, str]) -> Value:
        """a with some of its axes called otherwise."""
        changed = {old: new for old, new in names.items() if old in a.type.names and old != new}
        return self("rename", a, axes=tuple(changed.items())) if changed else a

    def sum(self, a: Value, over: Iterable[str]) -> Value:
        """The sum over those of these axes that a has."""
        own = tuple(name for name in a.type.names if name in set(over))
        return self("sum", a, over=own) if own else a

    def dot(self, a: Value, b: Value, over: Iterable[str]) -> Value:
        """The sum of a b over axes that either has; a product if there are none."""
        wanted = set(over)
        both = tuple(name for name in a.type.names if name in wanted and name in b.type.names)
        a, b = (self.sum(x, wanted - set(both)) for x in (a, b))
        return self("dot", a, b, over=both) if both else a * b

    def expand(self, a: Value, like: Type) -> Value:
        """a with the axes of a type that it lacks."""
        missing = [axis for axis in like.axes if axis.name not in a.type.names]
        return self("expand", a, axes=pairs(missing)) if missing else a

    def graph(self, outputs: Iterable[tuple[str, Value]]) -> Graph:
        """The graph with these outputs: what they need, and all inputs."""
        ends = tuple((label, value.name) for label, value in outputs)
        alive, todo = set[str](), [name for _, name in ends]
        while todo:
            name = todo.pop()
            if name not in alive:
                alive.add(name)
                todo += self.nodes[name].inputs
        kept = {name: node for name, node in self.nodes.items() if name in alive or node.op == "input"}
        return Graph(self.name, kept, ends)

    def _same(self, op: str, values: Sequence[Value]) -> Value | None:
        """An operand, or a number, that is the result already."""
        numbers = [value.number for value in values]
        compute = operation(op).number
        if compute is not None and None not in numbers:
            try:
                return self.number(compute(*numbers))
            except (ArithmeticError, ValueError):
                return None
        if op in _NEUTRAL:
            for i in (1, 0) if op in ("add", "mul") else (1,):
                kept = values[1 - i]
                if numbers[i] == _NEUTRAL[op] and kept.type.dtype == "real":
                    return kept
        return None

    def _once(self, op: str, values: Sequence[Value], attributes: Mapping[str, Any], hint: str) -> Value:
        inputs = tuple(value.name for value in values)
        key = _key(op, inputs, attributes)
        if key not in self._known:
            self._known[key] = self._add(hint, op, inputs, attributes, self._type(op, values, attributes))
        return self._known[key]

    def _type(self, op: str, values: Sequence[Value], attributes: Mapping[str, Any]) -> Type:
        found = operation(op).result([value.type for value in values], attributes)
        if len(set(found.names)) < len(found.names):
            raise TypeFault("SSIR014", f"the result of {op} would have an axis twice")
        dependence = max((value.type.dependence for value in values), default=found.dependence)
        return Type(found.axes, found.dtype, dependence, found.absent, found.operator)

    def _add(self, hint: str, op: str, inputs: tuple[str, ...], attributes: Mapping[str, Any], type: Type) -> Value:
        hint, at = self._called or (hint, None)
        name, n = hint, 1
        while name in self.nodes:
            n += 1
            name = f"{hint}_{n}"
        self.nodes[name] = Node(name, op, inputs, attrs(**attributes), type, at)
        return Value(self, self.nodes[name])


def _key(op: str, inputs: tuple[str, ...], attributes: Mapping[str, Any]) -> tuple[Any, ...]:
    """The same for equal nodes."""
    return op, inputs, tuple(sorted((name, repr(value)) for name, value in attributes.items()))
