"""What an equation has to know of the component that it is of: what a name is called, whether it changes with time, which axes have an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import networkx as nx

from ssir.analysis.facts import facts
from ssir.draw.maths import Listed, Maths, Sign
from ssir.ir.graph import Node, Type
from ssir.latex.arithmetic import less
from ssir.spec import expr as syntax
from ssir.spec.calls import Path
from ssir.spec.elaborate import alone
from ssir.spec.module import Module
from ssir.spec.schema import State

NOW = Sign("t")
_LETTERS = "jikmnlpqrs"
_ALONG = frozenset({"dot", "sum", "mean", "max", "min", "softmax"})


_NODE = 4
"""The length of a path to a node."""


def path_of(path: Path) -> str:
    """Where the parameters of the expression at a path of a spec belong."""
    _, _, _, key, *rest = (str(part) for part in path)
    return ".".join([key.split(",")[0].strip(), *(part for part in rest if part != "discretize")])


@dataclass(frozen=True)
class Where:
    """The step at which a value is read, and the places along the axes that have an index."""

    when: Maths = NOW
    index: Mapping[str, Maths] = field(default_factory=dict)

    def without(self, *axes: str) -> Where:
        return replace(self, index={axis: one for axis, one in self.index.items() if axis not in axes})

    def earlier(self, by: Maths) -> Where:
        return replace(self, when=less(self.when, by))


@dataclass(frozen=True)
class Equation:
    """``note`` stands behind it: where an index runs."""

    left: Maths
    right: Maths
    note: Maths | None = None


class Scope:
    """A component of a spec. Raises SpecError if it is wrong."""

    def __init__(self, module: Module, name: str, overrides: Mapping[str, float], given: Mapping[str, str]) -> None:
        self.module, self.name = module, name
        self.definition = module.component(name)
        self.graph, self.nodes = alone(module, name, overrides)
        self.states = [key for key, body in self.definition.graph.items() if isinstance(body, State)]
        held = {
            key for key in self.states if self._is_read(key) and given.get(key, "").isupper() and len(given[key]) == 1
        }
        self.held = {key: given[key] for key in held}
        self.signs = {key: sign for key, sign in given.items() if key not in held}
        self.systems = [key for key in self.states if not self.is_register(key)]
        self.used = {one for path in self.paths for one in syntax.names(module.expression(path))}

    @property
    def paths(self) -> list[Path]:
        return [path for path in self.module.expressions() if path[1] == self.name]

    def node(self, name: str) -> Node | None:
        """The node that a name of the component stands for."""
        return self.graph.nodes.get(self.nodes.get(name, name))

    def type(self, name: str) -> Type | None:
        node = self.node(name)
        return node.type if node else None

    @cached_property
    def _varying(self) -> set[str]:
        whole = set(self.graph.whole)
        sources = {
            node.name
            for node in self.graph
            if node.op in ("position", "start", "state", "context") or (node.op == "input" and node.name not in whole)
        }
        found = set(sources)
        for source in sources:
            found |= nx.descendants(self.graph.nx, source)
        return found

    def varies(self, name: str) -> bool:
        """Whether a value changes from step to step."""
        return self.nodes.get(name, name) in self._varying

    def varies_at(self, path: Path) -> bool:
        """Whether the expression at a path does; of what is sampled, a value that it names, or something that it makes."""
        operand = self._operand(path)
        if operand is not None:
            return operand in self._varying
        used = syntax.names(self.module.expression(path))
        return self.makes_varying(path_of(path)) or any(
            one in ("position", "start") or self.varies(one) for one in used
        )

    def makes_varying(self, at: str) -> bool:
        """Whether something that belongs at a path of the graph changes from step to step."""
        return any(name == at or name.startswith((f"{at}/", f"{at}.")) for name in self._varying)

    def type_at(self, path: Path) -> Type | None:
        """The type of what the expression at a path gives; None for what is sampled."""
        operand = self._operand(path)
        if operand is not None:
            return self.graph[operand].type
        return self.type(str(path[3]).split(",")[0].strip()) if len(path) == _NODE else None

    def _operand(self, path: Path) -> str | None:
        """The node of a role of a state, as the spec writes it: none of what is sampled, nor of a step."""
        if len(path) != _NODE + 1:
            return None
        body, node, role = self.definition.graph.get(str(path[3])), self.node(str(path[3])), str(path[4])
        sampled = not isinstance(body, State) or (body.discretize is not None and role in ("A", "B"))
        return None if sampled or node is None else node.role("x" if role == "input" else role)

    @cached_property
    def _types(self) -> dict[tuple[int, int, int], Type]:
        source = self.module.document.source
        return {
            (node.at.line, node.at.column, node.at.end_column): node.type
            for node in self.graph
            if node.at is not None and node.at.source is source
        }

    def type_of(self, path: Path, tree: syntax.Expr) -> Type | None:
        """The type of a part of an expression, if one is known."""
        match tree:
            case syntax.Name(id=name) if name in self.nodes or name in self.definition.input:
                return self.type(name)
            case syntax.Name() | syntax.Number():
                return Type()
        span = self.module.document.locate(path, tree.start, tree.end)
        return self._types.get((span.line, span.column, span.end_column))

    def sign(self, name: str) -> str:
        """What a name is called."""
        return self.signs.get(name, name)

    def is_register(self, state: str) -> bool:
        """Whether a state is a shift register, whose equation says what came so many steps ago."""
        body, node = self.definition.graph[state], self.node(state)
        plain = isinstance(body, State) and body.initial is None and body.discretize is None
        return plain and node is not None and node.op == "state" and facts(self.graph, node).structure.kind == "shift"

    def whose(self, state: str, letter: str) -> Sign | None:
        """What tells a letter of a state from those of others, or from a value that is called so; None where nothing has to."""
        taken = {self.sign(name) for name in (*self.nodes, *self.definition.input)}
        alone = self.systems == [state] and letter not in taken
        return None if alone else Sign(self.sign(state))

    def axes(self, names: Sequence[str]) -> Maths:
        """Axes, by what they are called."""
        found = tuple(Sign(self.sign(name.rstrip("_"))) for name in names)
        return found[0] if len(found) == 1 else Listed(found, "", ",")

    def memory(self, state: str) -> Sign:
        """What a state holds: h, or the paper's sign for the state, if that is a capital; what is read of it keeps its name then."""
        return Sign(self.held[state]) if state in self.held else Sign("h", up=self.whose(state, "h"))

    def _is_read(self, state: str) -> bool:
        """Whether what a state gives is something else than what it holds."""
        body = self.definition.graph[state]
        return isinstance(body, State) and (body.C is not None or body.D is not None or body.read == "before")

    # Indices.

    @cached_property
    def letters(self) -> dict[str, Sign]:
        """The index of every axis that has one."""
        free = [letter for letter in _LETTERS if letter not in self._letters_taken] or ["iota"]
        found: dict[str, Sign] = {}
        for axis in self.indexed:
            fallback = Sign(f"{free[-1]}_{len(found)}")
            found[axis] = next((Sign(one) for one in free if Sign(one) not in found.values()), fallback)
        return found

    @property
    def here(self) -> Where:
        """This step, every index free."""
        return Where(NOW, dict(self.letters))

    def spare(self) -> Sign:
        """An index that no axis has."""
        taken = self._letters_taken | {one.text for one in self.letters.values()}
        return Sign(next((one for one in f"s{_LETTERS}" if one not in taken), "s'"))

    @cached_property
    def _letters_taken(self) -> set[str]:
        called = [self.sign(name) for name in {*self.nodes, *self.definition.input, *self.used}]
        return {part.rstrip("0123456789'") for sign in called for part in sign.split("_")}

    @cached_property
    def indexed(self) -> list[str]:
        """The slots of registers and of whole sequences, axes whose places are counted, and those that meet their doubles."""
        found: dict[str, None] = {}
        for path in self.paths:
            for axis in self._indexed(self.module.expression(path), path[-1] == "A"):
                found[axis] = None
        return list(found)

    def _indexed(self, tree: syntax.Expr, operator: bool) -> Iterator[str]:
        match tree:
            case syntax.Unary(operand=operand):
                yield from self._indexed(operand, operator)
            case syntax.Binary(left=left, right=right) | syntax.Compare(left=left, right=right):
                yield from self._indexed(left, operator)
                yield from self._indexed(right, operator)
            case syntax.List(items=items):
                for item in items:
                    yield from self._indexed(item, operator)
            case syntax.Call(function=function, args=args, kwargs=kwargs):
                if self.module.callee(function) is None:
                    yield from self._of_call(function, args, {key: value for key, value, _, _ in kwargs})
                if function not in ("concat", "pack", "param", "buffer"):
                    for value in [*args, *(value for key, value, _, _ in kwargs if key not in _OF_A_PARAMETER)]:
                        yield from self._indexed(value, operator)

    def _of_call(
        self, function: str, args: tuple[syntax.Expr, ...], by_name: Mapping[str, syntax.Expr]
    ) -> Iterator[str]:
        match function:
            case "shift" | "arange":
                yield from _names(args[:1])
            case "window" | "context":
                yield from _names(args[1:2] or [by_name.get("slot")])
            case "rename":
                for old, new in by_name.items():
                    double = new.id if isinstance(new, syntax.Name) and new.id.rstrip("_") == old else ""
                    if double.endswith("_"):
                        yield from (old, double)
            case _ if function in _ALONG:
                over = by_name.get("over") or (args[-1] if len(args) > (2 if function == "dot" else 1) else None)
                dims = self.module.file.dims
                yield from (axis for axis in _names([over]) if dims.get(axis.rstrip("_")) == "unbounded")


_OF_A_PARAMETER = frozenset({"init", "bias_init"})


def _names(trees: object) -> Iterator[str]:
    for tree in trees if isinstance(trees, list | tuple) else ():
        if isinstance(tree, syntax.Name):
            yield tree.id
        elif isinstance(tree, syntax.List):
            yield from _names(tree.items)


def axes_in(tree: syntax.Expr | None) -> tuple[str, ...]:
    """The axes that an argument names."""
    return tuple(_names([tree]))
