"""An expression of a spec in its place: what it is as values, as a number, as a component."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ssir.errors import Span, nearest, together
from ssir.functions.operators import combine, turn
from ssir.ir.graph import Node
from ssir.ir.ops.elementwise import COMPARE
from ssir.registry import registry
from ssir.spec import expr as syntax
from ssir.spec.arguments import Arguments
from ssir.spec.build import Site, is_unknown
from ssir.spec.calls import Layer, Path, fail, unified
from ssir.spec.elsewhere import meant
from ssir.spec.module import Module, constants_of, sized
from ssir.spec.paths import NAME, given_name, paths
from ssir.spec.static import StaticError, evaluate, is_static

if TYPE_CHECKING:
    from ssir.spec.instance import Instance

BUILT_IN = ("position", "start", "layer")
Values = dict[str, Node]
_ONLY_A = "an operator can only be the A of a state"


class Text:
    """An expression of the spec and the instance that it belongs to."""

    def __init__(self, instance: Instance, path: Path) -> None:
        self.instance, self.path = instance, path
        self.document = instance.module.document
        self.tree = instance.module.expression(path)
        self.paths: dict[int, str] | None = None

    def span(self, tree: syntax.Expr | None = None) -> Span:
        if tree is None:
            return self.document.span(self.path)
        return self.document.locate(self.path, tree.start, tree.end)

    def place(self, start: int, end: int) -> Span:
        return self.document.locate(self.path, start, end)

    # What an expression can be asked for: values, numbers, axes, a component.

    def results(self, name: str) -> Values:
        """The values of a root expression: several, if it calls a component with several outputs."""
        if isinstance(self.tree, syntax.Call) and (callee := self.instance.module.callee(self.tree.function)):
            return self._component(self.tree, callee, name)
        return {"": self.value_of(self.tree, name, root=True)}

    def value(self, name: str) -> Node:
        return next(iter(self.results(name).values()))

    def integer(self, what: str, at_least: int = 0) -> int:
        value = self.number(self.tree)
        if not math.isfinite(value) or value != int(value) or value < at_least:
            help = "write a number, or arithmetic over dims"
            fail("SSIR018", f"{what} is a whole number of at least {at_least}, not {value:g}", self.span(), help)
        return int(value)

    def component_call(self) -> Layer:
        """A component named, or called with dims alone."""
        tree, instance = self.tree, self.instance
        name = tree.id if isinstance(tree, syntax.Name) else tree.function if isinstance(tree, syntax.Call) else None
        callee = instance.module.callee(name) if name else None
        if name is None or callee is None:
            known = instance.module.callable_names()
            near = nearest(name or "", known)
            fail(
                "SSIR020",
                f"no component is called `{name}`" if name else "a component is named here",
                self.span(),
                f"the nearest is `{near}`" if near else f"there are {', '.join(known)}",
            )
        module, component = callee
        overrides: dict[str, float] = {}
        if isinstance(tree, syntax.Call):
            if tree.args:
                fail(
                    "SSIR013",
                    "a layer is given only dims: its inputs come from the stack",
                    self.span(tree.args[0]),
                    "give further inputs to every layer: with: {name: ...}",
                )
            overrides = self._overrides(module, component, tree.kwargs)
        borrowed = module is not instance.module
        base = sized(module, {}, self.span()) if borrowed else instance.dims
        dims = (
            sized(module, {**module.overrides_of(base), **overrides}, self.span(), whole=not borrowed)
            if overrides
            else dict(base)
        )
        return Layer(module, component, dims, self._constants(module, overrides), overrides)

    # The walk over the tree.

    def _statics(self) -> dict[str, float | None]:
        instance = self.instance
        names: dict[str, float | None] = {**instance.dims, **instance.constants}
        known = {name: value for name, value in names.items() if name not in (*instance.targets, *instance.inputs)}
        return {**dict.fromkeys([*instance.targets, *instance.inputs]), **known}

    def _is_static(self, tree: syntax.Expr) -> bool:
        """Whether an expression is a number known beforehand; a component may be called as one of their functions."""
        own = self.instance.module.callable_names()
        return is_static(tree, self._statics()) and not any(name in own for name in syntax.called(tree))

    def number(self, tree: syntax.Expr) -> float:
        names: dict[str, float | None] = {**self.instance.dims, **self.instance.constants}
        for used in sorted(syntax.names(tree) - names.keys()):
            if used in self.instance.targets or used in self.instance.inputs or used in BUILT_IN:
                fail(
                    "SSIR019",
                    f"`{used}` is a value of the graph, and this number has to be known beforehand",
                    self.span(tree),
                    "write arithmetic over dims, constants and numbers",
                )
        try:
            return evaluate(tree, names)
        except StaticError as error:
            fail(error.code, error.message, self.place(error.start, error.end), error.help)

    def _site(self, tree: syntax.Expr, name: str, label: str, root: bool, spans: dict[str, Span] | None = None) -> Site:
        builder, path = self.instance.graph.builder, self._path(tree, name)
        own = f"{name}/{label}"
        if root:
            own = name if name not in builder.nodes else f"{name}/value"
        return Site(
            builder, builder.fresh(own), path, self.instance.shared, self.span(tree), spans or {}, self.instance
        )

    def _path(self, tree: syntax.Expr, name: str) -> str | None:
        """Where the parameters and memories of a call belong that stands in the expression of this name."""
        if not isinstance(tree, syntax.Call):
            return None
        if self.paths is None:
            self.paths = paths(self.instance.module, self.tree, name, self.instance.scope)
        return self.paths.get(tree.function_start)

    def value_of(self, tree: syntax.Expr, name: str, root: bool = False) -> Node:
        if not isinstance(tree, syntax.Name | syntax.Number) and self._is_static(tree):
            value = self.number(tree)
            return self._site(tree, name, "const", root).emit("const", (), value=value)
        match tree:
            case syntax.Number(value=number):
                return self._site(tree, name, "const", root).emit("const", (), value=number)
            case syntax.Name(id=identifier):
                return self.instance.named(identifier, self.span(tree), name)
            case syntax.Unary(operand=operand):
                return self._operation(tree, "neg", (operand,), name, root)
            case syntax.Binary(op=op, left=left, right=right) | syntax.Compare(op=op, left=left, right=right):
                return self._operation(tree, syntax.OPERATIONS[op], (left, right), name, root)
            case syntax.Call(function=function):
                callee = self.instance.module.callee(function)
                if callee is not None:
                    return next(iter(self._component(tree, callee, name).values()))
                return self._call(tree, name, root)
            case syntax.Bool():
                fail("SSIR019", "`true` and `false` are only arguments, not values", self.span(tree), "use 1 and 0")
            case syntax.List():
                fail(
                    "SSIR019",
                    "a list is only an argument, not a value",
                    self.span(tree),
                    "join values with pack or concat, or write array([...], axes)",
                )

    def _operation(
        self,
        tree: syntax.Expr,
        op: str,
        operands: tuple[syntax.Expr, ...],
        name: str,
        root: bool,
    ) -> Node:
        nodes = together(partial(self.value_of, operand, name) for operand in operands)
        for node, operand in zip(nodes, operands, strict=True):
            self.refuse_condition(node, operand)
            if node.op == "input" and node.type.dtype == "int" and op not in COMPARE:
                fail("SSIR019", "a token is only looked up", self.span(operand), "write embed(tokens, vocab, model)")
        site = self._site(tree, name, op, root)
        if any(node.type.operator for node in nodes):
            if op not in ("add", "sub", "mul", "neg"):
                help = "multiply by a number" if op == "div" else "write the operator with +, - and *"
                fail("SSIR019", f"operators have sums, differences and products, but no `{op}`", self.span(tree), help)
            return combine(site, op, *nodes)
        return site.emit(op, nodes)

    def refuse_condition(self, node: Node, tree: syntax.Expr) -> None:
        """A comparison is no number."""
        if node.type.dtype == "bool":
            fail("SSIR019", "this is a condition, and a number is needed", self.span(tree), "write where(..., 1, 0)")

    def _call(self, tree: syntax.Call, name: str, root: bool) -> Node:
        function = registry.get("function", tree.function)
        span = self.place(tree.function_start, tree.function_end)
        if tree.function == "rotate" and len(tree.args) == 1:
            function = turn
        if function is None:
            known = [*registry.names("function"), *self.instance.module.callable_names()]
            near = nearest(tree.function, known)
            other = f"the nearest is `{near}`" if near else "docs/functions.md has all functions"
            fail(
                "SSIR012",
                f"there is no function or component `{tree.function}`",
                span,
                meant(tree.function) or _in_the_zoo(tree.function) or other,
                registry.faults,
            )
        if (given := given_name(self.instance.module, tree)) is not None:
            self._name(given)
        plain = tree if given is None else replace(tree, kwargs=tuple(one for one in tree.kwargs if one[0] != NAME))
        first, arguments, spans = Arguments(self, plain, name).bound(function)
        return function(self._site(tree, name, tree.function, root, spans), *first, **arguments)  # type: ignore[no-any-return]

    def _name(self, tree: syntax.Expr) -> None:
        if not isinstance(tree, syntax.Name):
            fail("SSIR013", "a name is needed", self.span(tree), "write name=some_name")

    # Calls of components.

    def _overrides(
        self, module: Module, component: str, kwargs: Sequence[tuple[str, syntax.Expr, int, int]]
    ) -> dict[str, float]:
        """Dims and constants that a call sets."""
        found: dict[str, float] = {}
        for key, value, start, end in kwargs:
            if key not in module.file.dims and key not in module.file.constants:
                settable = [
                    *module.component(component).input,
                    *module.file.dims,
                    *module.file.constants,
                    "share",
                    NAME,
                ]
                near = nearest(key, settable)
                fail(
                    "SSIR013",
                    f"`{component}` has no input or dim `{key}`",
                    self.place(start, end),
                    f"the nearest is `{near}`" if near else f"there are {', '.join(settable)}",
                )
            found[key] = self.number(value)
        return found

    def _constants(self, module: Module, overrides: Mapping[str, float]) -> dict[str, float]:
        """The constants of a called component: those of the caller, if it is of the same file, and what the call sets."""
        changed = {key: value for key, value in overrides.items() if key in module.file.constants}
        own = self.instance.constants if module is self.instance.module else module.constants
        written = {key: value for key, value in own.items() if not isinstance(module.file.constants[key], str)}
        return constants_of(module, {**written, **changed}) if changed else dict(own)

    def _component(self, tree: syntax.Call, callee: tuple[Module, str], name: str) -> Values:
        module, component = callee
        instance, definition = self.instance, module.component(component)
        place = self.place(tree.function_start, tree.function_end)
        callers = instance.callers_of(module, component, place)
        names = list(definition.input)
        usage = f"its inputs are {', '.join(names)}" if names else "it takes none"
        if len(tree.args) > len(names):
            fail("SSIR013", f"`{component}` takes {counted(names, 'input')}", self.span(tree.args[len(names)]), usage)
        given = dict(zip(names, tree.args, strict=False))
        others: list[tuple[str, syntax.Expr, int, int]] = []
        shared = instance.shared
        share: str | None = None
        for key, value, start, end in tree.kwargs:
            if key in given:
                fail("SSIR013", f"`{key}` is given twice", self.place(start, end), usage)
            if key in definition.input:
                given[key] = value
            elif key == NAME:
                self._name(value)
            elif key == "share":
                share, shared = self._share(value), None
            else:
                others.append((key, value, start, end))
        overrides = self._overrides(module, component, others)
        for key in names:
            if key not in given:
                fail("SSIR013", f"`{component}` lacks its input `{key}`", place, usage)
        scope = self._path(tree, name)
        assert scope is not None
        instance.graph.builder.calls[scope] = tree.function
        inputs = dict(
            zip(given, together(partial(self.value_of, value, name) for value in given.values()), strict=True)
        )
        for key, node in inputs.items():
            if node.type.operator:
                fail("SSIR019", "this is an operator, and a value is needed", self.span(given[key]), _ONLY_A)
        borrowed = module is not instance.module
        dims = unified(
            module,
            component,
            sized(module, {}, place) if borrowed else instance.dims,
            overrides,
            {key: node.type for key, node in inputs.items() if not is_unknown(node)},
            {key: self.span(value) for key, value in given.items()},
            place,
            borrowed,
        )
        shared = f"{share}={scope}" if share is not None else shared
        return instance.called(
            module, component, dims, self._constants(module, overrides), inputs, scope, shared, callers
        )

    def _share(self, tree: syntax.Expr) -> str | None:
        """The name under which calls share their parameters; None where each is to have its own."""
        if isinstance(tree, syntax.Name):
            return tree.id
        if isinstance(tree, syntax.Bool) and not tree.value:
            return None
        help = (
            "calls with the same name share their weights; with share=false each has its own, in a shared component too"
        )
        fail("SSIR013", "share is a name, or false", self.span(tree), help)


def counted(things: Sequence[object], noun: str) -> str:
    """1 input, 2 inputs"""
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"


def _in_the_zoo(name: str) -> str | None:
    """How a spec that is called so is used."""
    from ssir.spec.load import zoo

    found = next((known for known, _ in zoo() if known == name.casefold().removesuffix("cell")), None)
    words = "is a spec: write `imports: {{cell: {0}.COMPONENT}}` above, and cell(x) here; `ssir show {0}` names its components"
    return found and f"`{found}` {words.format(found)}"
