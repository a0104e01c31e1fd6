"""The arguments of a call: by name, and each as the annotation of the function asks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from ssir.errors import Span, nearest, together
from ssir.functions.kinds import Init, Later, Nested, Operator, Symbol
from ssir.ir.graph import Axis, Node
from ssir.registry import registry
from ssir.spec import expr as syntax
from ssir.spec import init as initial
from ssir.spec.calls import axis_of, fail
from ssir.spec.static import is_static

if TYPE_CHECKING:
    from ssir.spec.written import Text


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call of a function; ``name`` is the path of the node that it is in."""

    text: Text
    tree: syntax.Call
    name: str

    def bound(self, function: Callable[..., Node]) -> tuple[list[Any], dict[str, Any], dict[str, Span]]:
        """The arguments that go by place, those by name, each as its annotation asks, and their places. Raises SpecError for those that do not fit."""
        tree = self.tree
        parameters, rest = signature(function)
        given: dict[str, syntax.Expr] = {}
        usage = _usage(tree.function, parameters)
        positional = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        for i, arg in enumerate(tree.args):
            if i >= len(positional):
                fail(
                    "SSIR013",
                    f"`{tree.function}` takes at most {len(positional)} argument{'s' * (len(positional) != 1)}",
                    self.text.span(arg),
                    usage,
                )
            given[positional[i].name] = arg
        extra: dict[str, syntax.Expr] = {}
        for key, value, start, end in tree.kwargs:
            named = next((p for p in parameters if p.name == key), None)
            by_place = named is not None and named.kind is inspect.Parameter.POSITIONAL_ONLY
            if key in extra or (key in given and not by_place):
                fail("SSIR013", f"`{key}` is given twice", self.text.place(start, end), usage)
            if named is not None and not by_place:
                given[key] = value
            elif rest is not None:
                extra[key] = value
            else:
                near = nearest(key, [p.name for p in parameters])
                fail(
                    "SSIR013",
                    f"`{tree.function}` has no argument `{key}`",
                    self.text.place(start, end),
                    f"the nearest is `{near}`" if near else usage,
                )
        for parameter in parameters:
            if parameter.default is inspect.Parameter.empty and parameter.name not in given:
                fail(
                    "SSIR013",
                    f"`{tree.function}` lacks the argument `{parameter.name}`",
                    self.text.place(tree.function_start, tree.function_end),
                    usage,
                )
        spans = {key: self.text.span(value) for key, value in {**given, **extra}.items()}
        kinds = {p.name: p.annotation for p in parameters}
        if tree.function == "param":
            self._param_axes(given)
        made = together(partial(self._argument, value, kinds[key], key) for key, value in given.items())
        values = dict(zip(given, made, strict=True))
        first = [values.pop(p.name) for p in parameters if p.kind is inspect.Parameter.POSITIONAL_ONLY]
        values.update({key: self._argument(value, rest, key) for key, value in extra.items()})
        return first, values, spans

    def _param_axes(self, given: dict[str, syntax.Expr]) -> None:
        axes = given.get("axes")
        if isinstance(axes, syntax.Number | syntax.Bool):
            fail(
                "SSIR014",
                "the axes of a parameter are named",
                self.text.span(axes),
                "write param([axis, ...]), or param([]) for one number",
            )

    def _argument(self, tree: syntax.Expr, kind: Any, key: str) -> Any:
        options = (
            [option for option in get_args(kind) if option is not NoneType]
            if get_origin(kind) not in (None, tuple, list, Literal)
            else [kind]
        )
        kind = options[0]
        if kind is Node:
            return self._plain(tree, condition=key == "condition")
        if kind is Operator:
            node = self.text.value_of(tree, self.name)
            self.text.refuse_condition(node, tree)
            return node
        if kind is Later:
            return self.text.instance.graph.later(self.name, self.text.span(tree), lambda: self._plain(tree))
        if kind is Axis:
            return self._axis(tree)
        if get_origin(kind) is tuple:
            return self._axes(tree)
        if get_origin(kind) is list:
            if not isinstance(tree, syntax.List) or not tree.items:
                fail("SSIR013", "values in brackets are needed: [a, b]", self.text.span(tree))
            return [self._plain(item) for item in tree.items]
        if kind is Nested:
            return self._nested(tree)
        if kind is Init:
            return syntax.unparse(self._initialiser(tree))
        if kind is Symbol:
            if not isinstance(tree, syntax.Name):
                fail("SSIR013", "a bare word is needed", self.text.span(tree), f"write {key}=word")
            return tree.id
        if get_origin(kind) is Literal:
            if not isinstance(tree, syntax.Name) or tree.id not in get_args(kind):
                choices = ", ".join(map(str, get_args(kind)))
                fail(
                    "SSIR013", f"`{key}` is one of {choices}", self.text.span(tree), f"write {key}={get_args(kind)[0]}"
                )
            return tree.id
        if kind is bool:
            if not isinstance(tree, syntax.Bool):
                fail("SSIR013", f"`{key}` is true or false", self.text.span(tree), f"write {key}=true")
            return tree.value
        if kind is str:
            if not isinstance(tree, syntax.Name):
                fail("SSIR013", "a name is needed", self.text.span(tree), f"write {key}=some_name")
            return tree.id
        number = self.text.number(tree)
        if kind is int:
            if not float(number).is_integer():
                help = "round it: ceil(...)"
                fail("SSIR018", f"`{key}` is a whole number, not {number:g}", self.text.span(tree), help)
            return int(number)
        return float(number)

    def _axis(self, tree: syntax.Expr) -> Axis:
        if not isinstance(tree, syntax.Name):
            fail(
                "SSIR014",
                "an axis is named by a dim",
                self.text.span(tree),
                "declare the size under `dims:` and name it here",
            )
        instance = self.text.instance
        if tree.id not in instance.dims and (tree.id in instance.targets or tree.id in instance.inputs):
            fail(
                "SSIR014",
                f"`{tree.id}` is a value, and an axis is named by a dim",
                self.text.span(tree),
                "name one of the axes of the value",
            )
        return axis_of(instance.module, instance.dims, tree.id, self.text.span(tree))

    def _plain(self, tree: syntax.Expr, condition: bool = False) -> Node:
        """A value: no operator, and a condition only where one is asked for."""
        node = self.text.value_of(tree, self.name)
        if node.type.operator:
            help = "an operator can only be the A of a state"
            fail("SSIR019", "this is an operator, and a value is needed", self.text.span(tree), help)
        if not condition:
            self.text.refuse_condition(node, tree)
        return node

    def _axes(self, tree: syntax.Expr) -> tuple[Axis, ...]:
        found: list[Axis] = []
        for item in tree.items if isinstance(tree, syntax.List) else (tree,):
            axis = self._axis(item)
            if axis in found:
                fail("SSIR014", f"the axis `{axis.name}` is named twice", self.text.span(item), "name each axis once")
            found.append(axis)
        return tuple(found)

    def _nested(self, tree: syntax.Expr) -> Nested:
        if not isinstance(tree, syntax.List):
            fail("SSIR013", "values in brackets are needed: [[0, 1], [1, 0]]", self.text.span(tree))
        return Nested(
            [self._nested(item) if isinstance(item, syntax.List) else self._plain(item) for item in tree.items]
        )

    def _initialiser(self, tree: syntax.Expr) -> syntax.Expr:
        """Close an initialiser over dims and constants, and check its words."""
        statics = {**self.text.instance.dims, **self.text.instance.constants}
        match tree:
            case syntax.Number():
                return tree
            case _ if not isinstance(tree, syntax.Name) and is_static(tree, statics):
                value = self.text.number(tree)
                return (
                    syntax.Number(value, tree.start, tree.end)
                    if value >= 0
                    else syntax.Unary("-", syntax.Number(-value, tree.start, tree.end), tree.start, tree.end)
                )
            case syntax.Name(id=name):
                if name in initial.WORDS or registry.get("initializer", name):
                    return tree
                if name not in statics:
                    near = nearest(name, [*initial.WORDS, *initial.DRAWS, *statics])
                    help = f"the nearest is `{near}`" if near else f"there are {', '.join(sorted(initial.WORDS))}"
                    fail("SSIR012", f"`{name}` is no initialiser", self.text.span(tree), help, registry.faults)
                return syntax.Number(self.text.number(tree), tree.start, tree.end)
            case syntax.Unary(operand=operand):
                return replace(tree, operand=self._initialiser(operand))
            case syntax.Binary(left=left, right=right) | syntax.Compare(left=left, right=right):
                return replace(tree, left=self._initialiser(left), right=self._initialiser(right))
            case syntax.Call(function="arange", args=(syntax.Name() as axis,), kwargs=()):
                self._axis(axis)
                return tree
            case syntax.Call(function=function, args=args, kwargs=()):
                bounds = initial.DRAWS.get(function) or initial.FUNCTIONS.get(function)
                if bounds is None and registry.get("initializer", function) is None:
                    near = nearest(function, [*initial.DRAWS, *initial.FUNCTIONS, *initial.WORDS])
                    fail(
                        "SSIR012",
                        f"`{function}` is no initialiser",
                        self.text.place(tree.function_start, tree.function_end),
                        f"the nearest is `{near}`" if near else f"there are {', '.join(initial.DRAWS)}",
                        registry.faults,
                    )
                if bounds and not bounds[0] <= len(args) <= bounds[1]:
                    count = str(bounds[0]) if bounds[0] == bounds[1] else f"{bounds[0]} to {bounds[1]}"
                    help = "they are numbers, dims, constants, or initialisers again"
                    fail(
                        "SSIR013",
                        f"`{function}` takes {count} arguments here, not {len(args)}",
                        self.text.span(tree),
                        help,
                    )
                return replace(tree, args=tuple(self._initialiser(arg) for arg in args))
        fail(
            "SSIR013",
            "this is no initialiser",
            self.text.span(tree),
            "write zeros, ones, normal(0.02), uniform(a, b), or arithmetic over arange(axis)",
        )


@cache
def signature(function: Callable[..., Node]) -> tuple[tuple[inspect.Parameter, ...], Any]:
    """The parameters after the site, and the kind of further keywords."""
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    rest = next((p.annotation for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD), None)
    return tuple(p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD), rest


def _usage(name: str, parameters: Sequence[inspect.Parameter]) -> str:
    shown = [p.name if p.default is inspect.Parameter.empty else f"{p.name}=..." for p in parameters]
    return f"write {name}({', '.join(shown)})"
