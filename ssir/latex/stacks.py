"""A stack as a recursion over layers: x^(ℓ + 1) = block(x^(ℓ))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ssir.draw import maths
from ssir.draw.maths import Apply, Listed, Maths, Number, Sign, Sum
from ssir.latex.arithmetic import less
from ssir.latex.expressions import Expression, value
from ssir.latex.scope import Equation, Scope, Where
from ssir.spec import expr as syntax
from ssir.spec.calls import Path
from ssir.spec.schema import Stack

_LAYER = Sign("ℓ")
_MORE = Sign("…")


def equations(scope: Scope, key: str, body: Stack) -> Iterator[Equation]:
    """Where the layers begin, what each does, and what comes out."""
    path: Path = ("components", scope.name, "graph", key)
    names = [name.strip() for name in key.split(",")]
    through = [names[0], *body.carry]

    def given(*rest: str) -> Maths:
        return Expression(scope, (*path, *rest)).maths(scope.here)

    def at(layer: Maths) -> tuple[Sign, ...]:
        first = value(scope, names[0], scope.here)
        return tuple(replace(first, text=scope.sign(name), up=layer) for name in through)

    for sign, start in zip(
        at(Number(0)), [given("input"), *(given("carry", name) for name in body.carry)], strict=True
    ):
        yield Equation(sign, start)
    layers = _times(scope, path, body)
    pattern = [_kind(scope, (*path, "stack", i)) for i in range(len(body.stack))]
    same = len(set(pattern)) == 1
    called = pattern[0] if same else Apply("f", ())
    inputs = (*at(_LAYER), *(given("with", name) for name in body.with_), *called.values)
    runs = Listed((Number(0), _MORE, less(layers, Number(1))), "", ",")
    along = None if body.share and same else _LAYER
    left = at(Sum((_LAYER, Number(1))))
    yield Equation(_one(left), Apply(called.function, inputs, along), maths.Compare("eq", _LAYER, runs))
    if not same:
        kinds = [Sign(one.function, of=one.values) for one in pattern]
        functions = [Sign("f", of=(Number(i),)) for i in range(len(pattern))]
        yield Equation(Listed((*functions, _MORE), "", ","), Listed((*kinds, _MORE), "", ","))
    for name, sign in zip(names, at(layers), strict=False):
        yield Equation(value(scope, name, scope.here), sign)


def _one(signs: tuple[Sign, ...]) -> Maths:
    return signs[0] if len(signs) == 1 else Listed(signs)


def _kind(scope: Scope, path: Path) -> Apply:
    """A layer of the pattern, with what is set for it."""
    tree = scope.module.expression(path)
    if isinstance(tree, syntax.Call):
        one = Expression(scope, path)
        dims = (maths.Compare("eq", Sign(key), one.of(value, Where())) for key, value, _, _ in tree.kwargs)
        return Apply(tree.function, tuple(dims))
    assert isinstance(tree, syntax.Name)
    return Apply(tree.id, ())


def _times(scope: Scope, path: Path, body: Stack) -> Maths:
    if "times" not in body.model_fields_set:
        return Number(len(body.stack))
    return Expression(scope, (*path, "times")).maths(Where())
