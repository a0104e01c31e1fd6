"""Expressions of a spec as trees of mathematics; what the functions in them become stands in ssir.latex.functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ssir.draw import maths
from ssir.draw.maths import Apply, At, Decorated, Listed, Maths, Number, Sign, Sum
from ssir.draw.words import FUNCTIONS
from ssir.ir.graph import Type
from ssir.latex.arithmetic import IDENTITY, applied, between, minus, over, power, times
from ssir.latex.functions import call
from ssir.latex.scope import Scope, Where, path_of
from ssir.spec import expr as syntax
from ssir.spec import static
from ssir.spec.calls import Path
from ssir.spec.paths import paths
from ssir.spec.schema import REST

_RELATIONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
_BUILT_IN = {"layer": Sign("ℓ"), "pi": Sign("π"), "inf": Sign("∞")}
_SCALES = (Number, Sign, maths.Root, maths.Power)
_OPERATORS = frozenset({"outer", "dense", "shift"})


class Expression:
    """The expression at a path of a spec. ``begins``: what stands in a delay before the first step, once ``of`` has met it."""

    def __init__(self, scope: Scope, path: Path) -> None:
        self.scope, self.path, self.at = scope, path, path_of(path)
        self.tree = scope.module.expression(path)
        self.owned = paths(scope.module, self.tree, self.at, "")
        self.begins: list[tuple[Maths, Maths]] = []

    def maths(self, where: Where) -> Maths:
        return self.of(self.tree, where)

    def of(self, tree: syntax.Expr, where: Where) -> Maths:
        """A part of the expression."""
        match tree:
            case syntax.Number(value):
                return Number(value)
            case syntax.Name(name):
                return self._name(name, where)
            case syntax.Unary(operand=operand):
                return minus(self.of(operand, where))
            case syntax.Compare(op, left, right):
                return maths.Compare(_RELATIONS[op], self.of(left, where), self.of(right, where))
            case syntax.Binary():
                return self._binary(tree, where)
            case syntax.List(items):
                return Listed(tuple(self.of(item, where) for item in items))
            case syntax.Call(function):
                if self.scope.module.callee(function) is not None:
                    return self._component(tree, where)
                return self._of_numbers(tree, where) if self._is_static(tree) else call(self, tree, where)
            case syntax.Bool(value):
                return Sign("true" if value else "false")

    def _name(self, name: str, where: Where) -> Maths:
        scope = self.scope
        if name in scope.nodes or name in scope.definition.input:
            return value(scope, name, where)
        if name in scope.module.file.dims or name in scope.module.constants:
            return Sign(scope.sign(name))
        if name == "position":
            return where.when
        if name == "start":
            return maths.Compare("eq", where.when, Number(0))
        return _BUILT_IN.get(name) or Sign(name)

    def _binary(self, tree: syntax.Binary, where: Where) -> Maths:
        left, right = self.of(tree.left, where), self.of(tree.right, where)
        match tree.op:
            case "+" | "-":
                terms = left.terms if isinstance(left, Sum) else (left,)
                return Sum((*terms, maths.negative(right) if tree.op == "-" else right))
            case "/":
                return over(left, right)
            case "%":
                return maths.Product((left, right), ("mod",))
            case "**":
                return power(left, right)
        kinds = (self.type(tree.left), self.type(tree.right))
        if (
            kinds[0] is not None
            and kinds[1] is not None
            and kinds[0].axes
            and not kinds[1].axes
            and isinstance(right, _SCALES)
        ):
            left, right = right, left
        return times(left, between(*kinds, where.index), right)

    def _is_static(self, tree: syntax.Expr) -> bool:
        """Whether this is arithmetic of numbers that are known beforehand."""
        known = dict.fromkeys((*self.scope.module.file.dims, *self.scope.module.constants), 1.0)
        values = {*self.scope.nodes, *self.scope.definition.input}
        return static.is_static(tree, known) and not syntax.names(tree) & values

    def _of_numbers(self, tree: syntax.Call, where: Where) -> Maths:
        values = tuple(self.of(arg, where) for arg in tree.args)
        match tree.function:
            case "log2":
                return Apply("log", values, Number(2))
            case "ceil" | "floor" | "abs":
                return Decorated(tree.function, values[0])
            case "sqrt":
                return maths.Root(values[0])
        return Apply(FUNCTIONS.get(tree.function, tree.function), values)

    def type(self, tree: syntax.Expr) -> Type | None:
        """The type of a part of the expression, if one is known."""
        match tree:
            case syntax.Call() | syntax.Binary() if self._is_static(tree):
                return Type()
            case syntax.Unary(operand=operand):
                return self.type(operand)
            case syntax.Name(name) if name not in self.scope.nodes and name not in self.scope.definition.input:
                return Type()
        found = self.scope.type_of(self.path, tree)
        if found is None and isinstance(tree, syntax.Binary):
            left, right = self.type(tree.left), self.type(tree.right)
            if left is not None and right is not None:
                return Type(tuple(dict.fromkeys((*left.axes, *right.axes))))
        return found

    # Operators: what can be the A of a state.

    def operator(self, tree: syntax.Expr, where: Where) -> Maths:
        """A sum or product of operators; a value among them is a diagonal, 1 the identity."""
        if not self.is_operator(tree):
            kind = self.type(tree)
            if isinstance(tree, syntax.Number) and tree.value == 1:
                return IDENTITY
            value = self.of(tree, where)
            return Apply("diag", (value,)) if kind is None or kind.axes else times(value, "", IDENTITY)
        match tree:
            case syntax.Unary(operand=operand):
                return maths.negative(self.operator(operand, where))
            case syntax.Binary(op, left, right) if op in "+-":
                second = self.operator(right, where)
                return Sum((self.operator(left, where), maths.negative(second) if op == "-" else second))
            case syntax.Binary(_, left, right):
                return applied(self._factor(left, where), self._factor(right, where))
            case syntax.Call("outer", args):
                return applied(self.of(args[0], where), Decorated("transpose", self.of(args[1], where)))
            case syntax.Call("dense", args):
                return self.of(args[0], where)
            case syntax.Call("shift"):
                return Sign("shift")
        return self.of(tree, where)

    def _factor(self, tree: syntax.Expr, where: Where) -> Maths:
        kind = self.type(tree)
        alone = not self.is_operator(tree) and kind is not None and not kind.axes
        return self.of(tree, where) if alone else self.operator(tree, where)

    def is_operator(self, tree: syntax.Expr) -> bool:
        match tree:
            case syntax.Unary(operand=operand):
                return self.is_operator(operand)
            case syntax.Binary(left=left, right=right):
                return self.is_operator(left) or self.is_operator(right)
            case syntax.Call(function, args):
                turns = function == "rotate" and len(args) == 1
                return (function in _OPERATORS or turns) and self.scope.module.callee(function) is None
            case syntax.Name(name):
                kind = self.scope.type(name) if name in self.scope.nodes else None
                return kind is not None and kind.operator
        return False

    # Components.

    def _component(self, call: syntax.Call, where: Where) -> Maths:
        callee = self.scope.module.callee(call.function)
        assert callee is not None
        module, name = callee
        definition = module.component(name)
        by_name = {key: tree for key, tree, _, _ in call.kwargs}
        given: Mapping[str, syntax.Expr] = {**dict(zip(definition.input, call.args, strict=False)), **by_name}
        values: list[Maths] = []
        kept: set[str] = set()
        for key in definition.input:
            declared = definition.axes(key)
            dropped = [axis for axis in where.index if axis in declared or REST not in declared]
            values.append(self.of(given[key], where.without(*dropped)))
            kept |= where.index.keys() - set(dropped)
        values += list(self._set(by_name, {*module.file.dims, *module.file.constants} - set(definition.input)))
        kind = self.scope.type_at(self.path) if call is self.tree else None
        free = [axis for axis in (kind.names if kind else ()) if axis in where.index and axis not in kept]
        at: tuple[Maths, ...] = tuple(where.index[axis] for axis in free)
        if not values:
            at = (where.when, *at) if self.scope.makes_varying(self.owned[call.function_start]) else at
            return Sign(call.function, at)
        found = Apply(call.function, tuple(values))
        return At(found, at) if at else found

    def _set(self, given: Mapping[str, syntax.Expr], settable: set[str]) -> Iterator[Maths]:
        """What a call sets; a size that it hands on under its own name goes without saying."""
        for key, tree in given.items():
            if key in settable and not (isinstance(tree, syntax.Name) and tree.id == key):
                yield maths.Compare("eq", Sign(key), self.of(tree, Where()))


def value(scope: Scope, name: str, where: Where) -> Sign:
    """A named value at a step and at places."""
    kind = scope.type(name)
    time = (where.when,) if scope.varies(name) else ()
    places = tuple(where.index[axis] for axis in (kind.names if kind else ()) if axis in where.index)
    return Sign(scope.sign(name), (*time, *places))
