"""What parameters are called in equations: W and b after the node that they are in, unless the spec names them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ssir.draw.maths import Number, Sign
from ssir.ir.graph import Node
from ssir.latex.scope import Scope
from ssir.spec import expr as syntax
from ssir.spec.paths import owning
from ssir.spec.schema import State

if TYPE_CHECKING:
    from ssir.latex.expressions import Expression

_ROLES = 2


def _given(call: syntax.Call, key: str) -> str | None:
    return next((tree.id for name, tree, _, _ in call.kwargs if name == key and isinstance(tree, syntax.Name)), None)


def of_call(expression: Expression, call: syntax.Call) -> Sign:
    """The weight of a linear or an embed: its own, or the one that it is tied to."""
    tied = _given(call, "tie")
    return _of_node(expression, tied) if tied is not None else _weight(expression, call, "W")


def bias(expression: Expression, call: syntax.Call) -> Sign:
    return _weight(expression, call, "b")


def parameter(expression: Expression, call: syntax.Call) -> Sign:
    """A param or a buffer; one that is a coefficient as it stands is called by that letter."""
    named = _given(call, "name")
    if named is not None:
        return Sign(expression.scope.sign(named))
    state, _, role = expression.at.rpartition(".")
    if call is expression.tree:
        if state and isinstance(expression.scope.definition.graph.get(state), State):
            return coefficient(expression.scope, state, role)
        if not state:
            return Sign(expression.scope.sign(role))
    return _weight(expression, call, "w")


def coefficient(scope: Scope, state: str, role: str) -> Sign:
    """A, B, C or D of a state."""
    return Sign(role, up=scope.whose(state, role))


def _weight(expression: Expression, call: syntax.Call, letter: str) -> Sign:
    scope, named = expression.scope, _given(call, "name")
    if named is not None:
        base = named.partition("_")[0]
        own = letter == "W" and len(base) == 1 and base.isupper()
        sign = Sign(scope.sign(named))
        return sign if own else Sign(letter, of=(sign,))
    parts = expression.at.split(".")
    if len(parts) == _ROLES and parts[0] in scope.states and scope.whose(parts[0], parts[1]) is None:
        parts = parts[1:]
    alike = [
        one
        for one in owning(scope.module, expression.tree)
        if one.function == call.function and not _given(one, "name")
    ]
    number = (Number(alike.index(call) + 1),) if len(alike) > 1 else ()
    return Sign(letter, of=(*(Sign(scope.sign(part)) for part in parts), *number))


def _of_node(expression: Expression, node: str) -> Sign:
    """The weight of another node."""
    from ssir.latex.expressions import Expression

    body = expression.scope.definition.graph.get(node)
    if isinstance(body, str):
        other = Expression(expression.scope, ("components", expression.scope.name, "graph", node))
        for call in owning(expression.scope.module, other.tree):
            if call.function in ("linear", "embed"):
                return of_call(other, call)
    return Sign("W", of=(Sign(expression.scope.sign(node)),))


def shapes(expression: Expression) -> Iterator[tuple[Sign, Node]]:
    """The parameters of an expression with their nodes."""
    nodes = {node.attrs["key"]: node for node in expression.scope.graph.params}
    for call in owning(expression.scope.module, expression.tree):
        path = expression.owned[call.function_start]
        if call.function in ("linear", "embed"):
            owned = (("weight", of_call), ("bias", bias))
            yield from (
                (sign(expression, call), nodes[f"{path}.{key}"]) for key, sign in owned if f"{path}.{key}" in nodes
            )
        elif call.function in ("param", "buffer") and path in nodes:
            yield replace(parameter(expression, call), at=()), nodes[path]
