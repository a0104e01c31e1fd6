"""The equations of a component, node by node: an expression is one, a state is its update and its readout, a stack is a recursion over layers."""

from __future__ import annotations

from collections.abc import Iterator

from ssir.draw.maths import Listed
from ssir.latex import stacks, states
from ssir.latex.expressions import Expression, value
from ssir.latex.scope import Equation, Scope
from ssir.spec import expr as syntax
from ssir.spec.schema import Stack, State


def equations(scope: Scope) -> Iterator[Equation]:
    """Those of a component, in the order of the spec. A parameter is none."""
    for key, body in scope.definition.graph.items():
        if isinstance(body, State):
            yield from states.equations(scope, key, body)
        elif isinstance(body, Stack):
            yield from stacks.equations(scope, key, body)
        else:
            yield from _expression(scope, key)


def _expression(scope: Scope, key: str) -> Iterator[Equation]:
    names = [name.strip() for name in key.split(",")]
    one = Expression(scope, ("components", scope.name, "graph", key))
    if isinstance(one.tree, syntax.Call) and one.tree.function in ("param", "buffer"):
        return
    right = one.maths(scope.here)
    left = tuple(value(scope, name, scope.here) for name in names)
    yield Equation(left[0] if len(left) == 1 else Listed(left), right)
    yield from (Equation(first, given) for first, given in one.begins)
