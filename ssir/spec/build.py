"""What the functions of the language build with: a growing list of nodes, and the place in the spec that they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ssir.errors import Diagnostic, Span, SpecError
from ssir.ir.graph import Axis, Graph, Node, Type, attrs
from ssir.ir.op import UNKNOWN, TypeFault, check_finite, check_over
from ssir.ir.ops import operation
from ssir.spec.expr import parse
from ssir.spec.init import unfit

MOST_NODES = 10_000
_OWNED = ("state", "param")


def is_unknown(*nodes: Node) -> bool:
    """Whether any of these stands on a cycle whose axes are still being inferred."""
    return any(node.type.dtype == UNKNOWN for node in nodes)


@dataclass
class Builder:
    """The nodes of one graph as they are made. Names are unique; parameters are made once a key.

    A memory, a parameter and the value of a node are called by their path (``s.A``), for good. What else an expression needs is
    called after its path and what it does (``s.A/exp``, ``s.A/exp_2``), so that it is in nobody's way.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    bodies: dict[str, Graph] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    keys: dict[str, Node] = field(default_factory=dict)

    def refuse_more(self, at: Span | None) -> None:
        """Raise SpecError once the graph is as large as a graph may be."""
        if len(self.nodes) >= MOST_NODES:
            words = f"the graph has more than {MOST_NODES} nodes here"
            raise SpecError([Diagnostic("SSIR004", words, at, (), "repeat components with a stack")])

    def fresh(self, name: str) -> str:
        taken, n = name, 1
        while taken in self.nodes:
            n += 1
            taken = f"{name}_{n}"
        return taken

    def add(self, name: str, op: str, inputs: Sequence[Node], type: Type, at: Span | None, **values: Any) -> Node:
        self.refuse_more(at)
        for i, axis in enumerate(type.axes):
            if axis.name in type.names[:i]:
                words = f"the result would have the axis `{axis.name}` twice"
                raise SpecError(
                    [Diagnostic("SSIR014", words, at, (), "call one of them otherwise, or use it up first")]
                )
        node = Node(self.fresh(name), op, tuple(n.name for n in inputs), attrs(**values), type, at)
        self.nodes[node.name] = node
        return node


@dataclass(frozen=True)
class Site:
    """Where in a spec a function is called: makes nodes under the right name, and errors at the right place.

    ``name`` is what a node made here is called; ``path`` where the parameters and memories of the call belong, None if it is not
    one that owns any; ``spans`` the places of the arguments.
    """

    builder: Builder
    name: str
    path: str | None
    shared: str | None
    span: Span | None
    spans: dict[str, Span]
    elaborator: Any

    def emit(self, op: str, inputs: Sequence[Node], name: str | None = None, **values: Any) -> Node:
        """A new node, of the type that its operation gives it. Its name is that of the place, or of the place and ``name``; that of a
        memory its path. Raises SpecError where operands or attributes do not fit."""
        with self.checked():
            type = operation(op).result([node.type for node in inputs], values)
        if op == "state":
            own = self._owned(name or "")
            if own in self.builder.nodes:
                self.fail("SSIR024", f"two memories are called `{own}`", help="give each call a `name=` of its own")
        elif name is None:
            first = self.builder.nodes.get(self.name)
            own = (
                self.name
                if first is None
                else f"{self.name}/{'value' if first.op in _OWNED else op.removeprefix('op.')}"
            )
        else:
            own = f"{self.name}/{name}"
        return self.builder.add(own, op, inputs, type, self.span, **values)

    def later(self, *axes: Axis, operator: bool = False) -> Node:
        """What stands for a node whose operands are not known yet: of these axes if there are any, whatever they will be."""
        type = Type(axes, "real" if axes else UNKNOWN, operator=operator)
        # Not `later`: what the elaborator puts off is found again by that name, and must be called the same in every attempt.
        return self.builder.add(f"{self.name}/unknown", "later", (), type, self.span)

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Inside, what a rule refuses is told as a fault of the call, or of the argument that it names."""
        try:
            yield
        except TypeFault as fault:
            self.fail(fault.code, fault.message, fault.argument, fault.help)

    def _owned(self, leaf: str) -> str:
        if self.path is None:
            raise TypeError("a function that makes parameters or memories is registered with owns=True")
        return f"{self.path}.{leaf}" if leaf else self.path

    def fail(
        self, code: str, message: str, argument: str | None = None, help: str | None = None, notes: Sequence[str] = ()
    ) -> NoReturn:
        """Report a fault, underlining an argument or the whole call."""
        span = self.spans.get(argument or "", self.span)
        raise SpecError([Diagnostic(code, message, span, tuple(notes), help)])

    def number(self, value: float) -> Node:
        return self.emit("const", (), "const", value=value)

    def param(
        self,
        leaf: str,
        axes: Sequence[Axis],
        init: str,
        decay: bool = True,
        lr: float = 1.0,
        dtype: str | None = None,
        draws: str | None = None,
        learned: bool = True,
    ) -> Node:
        """A parameter, or a buffer that is not ``learned``, at ``<path of the call>.<leaf>``."""
        key = path = self._owned(leaf)
        if self.shared is not None:
            root, _, prefix = self.shared.partition("=")
            key = f"{root}{path[len(prefix) :]}"
        type, seen = Type(tuple(axes)), self.builder.keys.get(key)
        if (words := unfit(parse(init), type.names)) is not None:
            has = f"its axes are {', '.join(type.names)}" if type.names else "it is one number"
            self.fail("SSIR013", words, "init", has)
        if seen is not None:
            if self.shared is None or not seen.attrs["shared"]:
                own = "give each call a `name=` of its own" if self.shared is None else "give share= another name"
                self.fail("SSIR024", f"two parameters are called `{key}`", help=own)
            if seen.type == type:
                return seen
            self.fail(
                "SSIR023",
                f"calls that share `{root}` give `{key}` different axes",
                help="give shared calls inputs of the same axes",
            )
        values = {"key": key, "shared": self.shared is not None, "init": init, "decay": decay, "lr": lr, "dtype": dtype}
        values["learned"] = learned
        if draws is not None:
            values["draws"] = draws
        apart = leaf or not f"{self.name}/".startswith(f"{path}/")
        node = self.builder.add(path if apart else self.name, "param", (), type, self.span, **values)
        self.builder.keys[key] = node
        return node

    def is_whole(self, node: Node) -> bool:
        """Whether a value is a whole number by the way it is written, so that something can be looked up by it."""
        whole = operation(node.op).whole
        if node.type.dtype == "int" or whole == "always":
            return True
        if node.op == "const":
            return float(node.attrs["value"]).is_integer()
        if node.op == "clamp" and any(bound is not None and bound != int(bound) for bound in node.attrs.values()):
            return False
        operands = node.inputs[1:] if node.op == "where" else node.inputs
        return whole == "kept" and all(self.is_whole(self.builder.nodes[name]) for name in operands)

    def over(self, node: Node, axes: Sequence[Axis | str], argument: str = "over") -> None:
        """Check that a value has these axes, as far as its axes are known."""
        if not is_unknown(node):
            with self.checked():
                check_over(node.type, axes, argument)

    def finite(self, axes: Sequence[Axis], argument: str, what: str) -> None:
        """Check that these axes have sizes."""
        with self.checked():
            check_finite(axes, argument, what)
