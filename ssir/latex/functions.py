"""The functions of the language as mathematics: linear(x, n) is W x, delay(x) is x at t − 1, window(x, slot) is x at t − j."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ssir.draw import maths
from ssir.draw.maths import (
    Apply,
    At,
    Cases,
    Decorated,
    Entry,
    Inner,
    Listed,
    Maths,
    Number,
    Power,
    Quotient,
    Root,
    Series,
    Sign,
    Sum,
)
from ssir.draw.words import FUNCTIONS
from ssir.functions.kinds import Later, Nested, Operator
from ssir.ir.graph import Node, Type
from ssir.latex import weights
from ssir.latex.arithmetic import IDENTITY, applied, between, over, times
from ssir.latex.called import Called
from ssir.latex.scope import NOW, Where
from ssir.registry import registry
from ssir.spec import expr as syntax
from ssir.spec.arguments import signature

if TYPE_CHECKING:
    from ssir.latex.expressions import Expression

_I = Sign("i")
_NORMS = {"rms_norm": "RMSNorm", "layer_norm": "LayerNorm", "group_norm": "GroupNorm", "l2_norm": "L2Norm"}


def call(expression: Expression, tree: syntax.Call, where: Where) -> Maths:
    """A call of a function of the language, or of a plugin; one that nothing is said of here stands under its name."""
    function = registry.get("function", tree.function)
    parameters, _ = signature(function) if function else ((), None)
    given = dict(zip([one.name for one in parameters], tree.args, strict=False))
    given |= {key: value for key, value, _, _ in tree.kwargs}
    one = Called(expression, tree, given, where)
    if tree.function in _SAID:
        return _SAID[tree.function](one)
    kinds = {one.name: one.annotation for one in parameters}
    values = [value for key, value in given.items() if kinds.get(key) in (Node, Operator, Later, Nested, list[Node])]
    name = FUNCTIONS.get(tree.function, tree.function)
    return Apply(name, tuple(expression.of(value, where) for value in values), _along(one, one.axes("over"), where))


def _through(one: Called) -> Maths:
    return one.expression.of(one.call.args[0], one.where)


def _along(one: Called, axes: tuple[str, ...], where: Where) -> Maths | None:
    """The index, or the names, of the axes that a function acts along."""
    if not axes:
        return None
    return where.index[axes[0]] if len(axes) == 1 and axes[0] in where.index else one.expression.scope.axes(axes)


def _norm(one: Called) -> Maths:
    axes, kind = one.axes("over"), one.expression.type(one.given["a"])
    whole = kind is not None and set(kind.names) <= set(axes)
    return Apply(_NORMS[one.call.function], (one.of("a"),), None if whole else _along(one, axes, one.where))


# Maps, tables, parameters.


def _linear(one: Called) -> Maths:
    kind, kept = one.expression.type(one.given["a"]), one.axes("per")
    whole = [axis for axis in one.where.index if axis not in kept and (kind is None or axis in kind.names)]
    gone = one.axes("over") or tuple(whole)
    mapped = applied(weights.of_call(one.expression, one.call), one.of("a", one.where.without(*gone)))
    if one.given.get("bias") is not None and getattr(one.given["bias"], "value", False):
        mapped = Sum((mapped, weights.bias(one.expression, one.call)))
    return At(mapped, one.places("out")) if one.places("out") else mapped


def _embed(one: Called) -> Maths:
    entry = Entry(weights.of_call(one.expression, one.call), one.of("tokens"))
    return At(entry, one.places("out")) if one.places("out") else entry


def _param(one: Called) -> Maths:
    return replace(weights.parameter(one.expression, one.call), at=one.places("axes"))


# Sums along axes.


def _bound(one: Called) -> tuple[tuple[str, ...], tuple[str, ...], Where]:
    """Of the axes summed over those that have an index, the others, and where the terms are read."""
    axes = one.axes("over")
    counted = tuple(axis for axis in axes if axis in one.letters)
    inside = replace(one.where, index={**one.where.index, **{axis: one.letters[axis] for axis in counted}})
    return counted, tuple(axis for axis in axes if axis not in counted), inside


def _summed(one: Called, axes: tuple[str, ...], value: Maths) -> Maths:
    for axis in reversed(axes):
        value = Series("sum", one.letters[axis], None, None, value)
    return value


def _dot(one: Called) -> Maths:
    counted, others, inside = _bound(one)
    left, right = one.of("a", inside), one.of("b", inside)
    if others:
        return _summed(one, counted, Inner(left, right, one.expression.scope.axes(others)))
    kinds = [one.expression.type(one.given[key]) for key in "ab"]
    sign = between(kinds[0], kinds[1], inside.index)
    return _summed(one, counted, times(left, "" if _reaches(kinds[0], kinds[1], inside) else sign, right))


def _reaches(left: Type | None, right: Type | None, where: Where) -> bool:
    """Whether one side is a weight for several entries of the other."""
    a, b = (set(kind.names) - set(where.index) if kind is not None else set() for kind in (left, right))
    return a < b or b < a


def _sum(one: Called) -> Maths:
    counted, others, inside = _bound(one)
    value = one.of("a", inside)
    if others:
        value = Series("sum", one.expression.scope.axes(others), None, None, value)
    return _summed(one, counted, value)


def _reduced(one: Called) -> Maths:
    _, _, inside = _bound(one)
    return Apply(one.call.function, (one.of("a", inside),), _along(one, one.axes("over"), inside))


# What remembers, and what sees everything.


def _delay(one: Called) -> Maths:
    steps = one.of("steps") if "steps" in one.given else Number(1)
    if "initial" in one.given and one.where.when == NOW:
        first = one.of("x", replace(one.where, when=Number(-1)))
        one.expression.begins.append((first, one.of("initial")))
    return one.of("x", one.where.earlier(steps))


def _slots(one: Called, at: Callable[[Maths], Where]) -> Maths:
    axis = one.axis("slot")
    if axis in one.where.index:
        return one.of("x", at(one.where.index[axis]).without(axis))
    letter = one.letters[axis]
    return At(Listed((one.of("x", at(letter)),)), (letter,))


def _window(one: Called) -> Maths:
    return _slots(one, one.where.earlier)


def _context(one: Called) -> Maths:
    return _slots(one, lambda place: replace(one.where, when=place))


def _hold(one: Called) -> Maths:
    every = one.of("every")
    begun = times(every, "", Decorated("floor", Quotient(one.where.when, every)))
    return one.of("x", replace(one.where, when=begun))


def _cumulated(one: Called) -> Maths:
    index = one.expression.scope.spare()
    value = one.of("x", replace(one.where, when=index))
    series = Series("max" if one.call.function == "cummax" else "sum", index, Number(0), one.where.when, value)
    return (
        times(Quotient(Number(1), Sum((one.where.when, Number(1)))), "⊙", series)
        if one.call.function == "cummean"
        else series
    )


# Shapes.


def _rename(one: Called) -> Maths:
    index = dict(one.where.index)
    for old, new, _, _ in one.call.kwargs:
        place = one.where.index.get(new.id) if isinstance(new, syntax.Name) else None
        index.pop(old, None)
        if place is not None:
            index[old] = place
    return one.expression.of(one.call.args[0], replace(one.where, index=index))


def _arange(one: Called) -> Maths:
    axis = one.axis("axis")
    return one.where.index.get(axis) or one.letters.get(axis) or Sign(axis)


def _select(one: Called) -> Maths:
    axis, index = one.axis("axis"), one.of("index")
    if axis in one.letters:
        return one.of("a", replace(one.where, index={**one.where.index, axis: index}))
    return Entry(one.of("a"), index)


def _slice(one: Called) -> Maths:
    start = one.of("start") if "start" in one.given else Number(0)
    stop = one.of("stop") if "stop" in one.given else one.expression.scope.axes(one.axes("axis"))
    return Entry(one.of("a"), start, stop)


def _joined(one: Called) -> Maths:
    values = one.given["values"]
    items = values.items if isinstance(values, syntax.List) else (values,)
    between_them = ";" if one.call.function == "concat" else ","
    return Listed(tuple(one.expression.of(item, one.where) for item in items), "[]", between_them)


def _array(one: Called) -> Maths:
    def rows(tree: syntax.Expr) -> tuple[syntax.Expr, ...]:
        return tree.items if isinstance(tree, syntax.List) else ()

    lines = rows(one.given["values"])
    if lines and all(rows(line) and not any(map(rows, rows(line))) for line in lines):
        return maths.Matrix(tuple(tuple(one.expression.of(cell, one.where) for cell in rows(line)) for line in lines))
    return one.of("values")


# Single functions.


def _where(one: Called) -> Maths:
    return Cases(one.of("condition"), one.of("a"), one.of("b"))


def _rotate(one: Called) -> Maths:
    if len(one.call.args) == 1 and "angle" not in one.given:  # the operator
        return Apply("R", (_through(one),))
    return applied(Apply("R", (one.of("angle", one.where.without(*one.where.index)),)), one.of("a"))


def _complex(one: Called) -> Maths:
    return Sum((one.of("re"), times(_I, "", one.of("im"))))


def _polar(one: Called) -> Maths:
    return times(one.of("r"), "", Power(Sign("e"), times(_I, "", one.of("angle"))))


def _clamp(one: Called) -> Maths:
    value = one.of("a")
    if "low" in one.given:
        value = Apply("max", (value, one.of("low")))
    return Apply("min", (value, one.of("high"))) if "high" in one.given else value


def _expm1(one: Called) -> Maths:
    return maths.difference(Apply("exp", (_through(one),)), Number(1))


def _eye(one: Called) -> Maths:
    return IDENTITY


def _matmul(one: Called) -> Maths:
    return applied(one.of("a"), one.of("b"))


def _solve(one: Called) -> Maths:
    return applied(Decorated("inverse", one.of("a")), one.of("b"))


def _named(name: str) -> Callable[[Called], Maths]:
    return lambda one: Apply(name, (_through(one),))


def _decorated(how: str) -> Callable[[Called], Maths]:
    return lambda one: Decorated(how, _through(one))


_SAID: dict[str, Callable[[Called], Maths]] = {
    **dict.fromkeys(("split", "merge", "expand", "float32", "stop_gradient"), _through),
    **dict.fromkeys(_NORMS, _norm),
    **dict.fromkeys(("mean", "max", "min", "softmax"), _reduced),
    **dict.fromkeys(("cumsum", "cummean", "cummax"), _cumulated),
    **dict.fromkeys(("param", "buffer"), _param),
    **dict.fromkeys(("concat", "pack"), _joined),
    "linear": _linear,
    "embed": _embed,
    "dot": _dot,
    "sum": _sum,
    "delay": _delay,
    "window": _window,
    "context": _context,
    "hold": _hold,
    "rename": _rename,
    "arange": _arange,
    "select": _select,
    "slice": _slice,
    "array": _array,
    "where": _where,
    "rotate": _rotate,
    "clamp": _clamp,
    "complex": _complex,
    "polar": _polar,
    "eye": _eye,
    "matmul": _matmul,
    "solve": _solve,
    "expm": _named("exp"),
    "real": _named("Re"),
    "imag": _named("Im"),
    "abs": _decorated("abs"),
    "floor": _decorated("floor"),
    "ceil": _decorated("ceil"),
    "conj": _decorated("bar"),
    "sqrt": lambda one: Root(_through(one)),
    "rsqrt": lambda one: Quotient(Number(1), Root(_through(one))),
    "square": lambda one: Power(_through(one), Number(2)),
    "reciprocal": lambda one: over(Number(1), _through(one)),
    "neg": lambda one: maths.negative(_through(one)),
    "expm1": _expm1,
    "log1p": lambda one: Apply("log", (Sum((Number(1), _through(one))),)),
}
