"""What operators have beside sums and products: inverses, exponentials, and what they make of a value. Of values all of these act entry by entry.

Known are diagonals, diagonals plus one `outer`, and whatever a full matrix is part of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ssir.functions.kinds import Operator
from ssir.functions.operators import combine, lifted, outer
from ssir.functions.shapes import expm as matrix_exponential
from ssir.functions.shapes import eye, solve
from ssir.ir.graph import Axis, Node
from ssir.spec.build import Site

if TYPE_CHECKING:
    from ssir.registry import Registry


@dataclass(frozen=True)
class _RankOne:
    """diag(d) + outer(u, v, over), where either part may be missing."""

    d: Node | None = None
    u: Node | None = None
    v: Node | None = None
    over: Axis | None = None


def inverse(cx: Site, a: Operator) -> Node:
    """The inverse of an operator (of a diagonal plus rank one by the formula of Sherman and Morrison), 1 / a of a value."""
    one = cx.number(1)
    if not a.type.operator:
        return cx.emit("div", (one, a))
    if (n := _dense_axis(cx, a)) is not None:
        return _dense(cx, solve(cx, _matrix(cx, a, n), _unit(cx, n), n), n)
    parts = _rank_one(cx, a)
    if parts is None or parts.d is None:
        cx.fail("SSIR019", "this operator has no inverse here", "a", "diagonals, with one `outer`, and dense ones have")
    e = cx.emit("div", (one, parts.d))
    if parts.u is None or parts.v is None or parts.over is None:
        return lifted(cx, e)
    eu, ve = cx.emit("mul", (e, parts.u)), cx.emit("mul", (parts.v, e))
    along = cx.emit("dot", (parts.v, eu), over=(parts.over.name,))
    side = cx.emit("div", (eu, cx.emit("add", (one, along))))
    return combine(cx, "sub", e, outer(cx, side, ve, parts.over))


def apply(cx: Site, a: Operator, x: Node) -> Node:
    """What an operator makes of a value: a h for h = x; a * x of a value."""
    operands = [cx.builder.nodes[name] for name in a.inputs]
    if not a.type.operator:
        inverted = a.op == "div" and operands[0].op == "const" and operands[0].attrs["value"] == 1
        return cx.emit("div", (x, operands[1])) if inverted else cx.emit("mul", (a, x))
    match a.op:
        case "op.diag":
            return cx.emit("mul", (operands[0], x))
        case "op.outer":
            over = a.attrs["over"]
            _has(cx, x, over)
            return cx.emit("mul", (operands[0], cx.emit("dot", (operands[1], x), over=(over,))))
        case "op.dense":
            over = a.attrs["over"]
            _has(cx, x, over)
            m = operands[0]
            if m.op == "solve" and (unit := cx.builder.nodes[m.inputs[1]]).op == "eye":
                return solve(cx, cx.builder.nodes[m.inputs[0]], x, unit.type.axis(over))
            column = cx.emit("rename", (x,), axes=((over, f"{over}_"),))
            return cx.emit("dot", (operands[0], column), over=(f"{over}_",))
        case "op.add" | "op.sub":
            return cx.emit(a.op.removeprefix("op."), [apply(cx, Operator(one), x) for one in operands])
        case "op.neg":
            return cx.emit("neg", (apply(cx, Operator(operands[0]), x),))
        case "op.mul":
            return apply(cx, Operator(operands[0]), apply(cx, Operator(operands[1]), x))
    cx.fail("SSIR019", "this operator acts on memories alone", "a", "diagonals, `outer` and `dense` act on values too")


def exp(cx: Site, a: Operator) -> Node:
    """exp of every entry; of a diagonal or dense operator its exponential."""
    return _exponential(cx, a, "exp")


def expm1(cx: Site, a: Operator) -> Node:
    """exp(a) - 1, exact near 0; of a diagonal or dense operator too."""
    return _exponential(cx, a, "expm1")


def _exponential(cx: Site, a: Node, op: str) -> Node:
    if not a.type.operator:
        return cx.emit(op, (a,))
    if (n := _dense_axis(cx, a)) is not None:
        grown = matrix_exponential(cx, _matrix(cx, a, n), n)
        return _dense(cx, grown if op == "exp" else cx.emit("sub", (grown, _unit(cx, n))), n)
    parts = _rank_one(cx, a)
    if parts is None or parts.d is None or parts.u is not None:
        cx.fail(
            "SSIR019", "only a diagonal or a dense operator has an exponential", "a", "make it dense, or use bilinear"
        )
    return lifted(cx, cx.emit(op, (parts.d,)))


def settled(cx: Site, a: Node) -> Node:
    """An operator in its shortest form: one diagonal, one plus one `outer`, or one matrix; a value as it is."""
    if not a.type.operator:
        return a
    if (n := _dense_axis(cx, a)) is not None:
        return _dense(cx, _matrix(cx, a, n), n)
    parts = _rank_one(cx, a)
    if parts is None or parts.d is None:
        cx.fail("SSIR019", "only a diagonal, one plus an `outer`, or a dense A can be discretised", "A")
    if parts.u is None or parts.v is None or parts.over is None:
        return lifted(cx, parts.d)
    return combine(cx, "add", parts.d, outer(cx, parts.u, parts.v, parts.over))


def _has(cx: Site, x: Node, over: str) -> None:
    if over not in x.type.names:
        cx.fail("SSIR014", f"the value lacks the axis `{over}` of the operator", "x", "give it that axis")


def _unit(cx: Site, n: Axis) -> Node:
    return eye(cx, (n, Axis(f"{n.name}_", n.size)))


def _dense(cx: Site, m: Node, n: Axis) -> Node:
    return cx.emit("op.dense", (m,), over=n.name)


def _dense_axis(cx: Site, a: Node) -> Axis | None:
    """The axis of the first full matrix in an operator."""
    operands = [cx.builder.nodes[name] for name in a.inputs]
    if a.op == "op.dense":
        return operands[0].type.axis(a.attrs["over"])
    return next((n for one in operands if one.type.operator and (n := _dense_axis(cx, one)) is not None), None)


def _matrix(cx: Site, a: Node, n: Axis) -> Node:
    """An operator as a full matrix [n, n_]."""
    operands = [cx.builder.nodes[name] for name in a.inputs]
    match a.op:
        case "op.dense":
            return operands[0]
        case "op.diag":
            (d,) = operands
            plain = d.op == "const" and d.attrs["value"] == 1
            return _unit(cx, n) if plain else cx.emit("mul", (d, _unit(cx, n)))
        case "op.outer":
            u, v = operands
            return cx.emit("mul", (u, cx.emit("rename", (v,), axes=((n.name, f"{n.name}_"),))))
        case "op.neg":
            return cx.emit("neg", (_matrix(cx, operands[0], n),))
        case "op.add" | "op.sub":
            return cx.emit(a.op.removeprefix("op."), [_matrix(cx, one, n) for one in operands])
        case "op.mul":
            left, right = operands
            if left.op == "op.diag" and n.name not in left.type.names:
                return cx.emit("mul", (cx.builder.nodes[left.inputs[0]], _matrix(cx, right, n)))
            return cx.emit("matmul", (_matrix(cx, left, n), _matrix(cx, right, n)), over=n.name)
    cx.fail("SSIR019", "this operator is no full matrix, and is taken together with one", "a", "make all of it dense")


def _rank_one(cx: Site, a: Node) -> _RankOne | None:
    """A sum of diagonals and of at most one product of rank one, in its parts; None if it is anything else."""
    operands = [cx.builder.nodes[name] for name in a.inputs]
    match a.op:
        case "op.diag":
            return _RankOne(d=operands[0])
        case "op.outer":
            return _RankOne(u=operands[0], v=operands[1], over=operands[0].type.axis(a.attrs["over"]))
        case "op.neg":
            return _scaled(cx, _rank_one(cx, operands[0]), None)
        case "op.mul":
            left, right = (_rank_one(cx, one) for one in operands)
            if left is not None and left.u is None and left.d is not None:
                return _scaled(cx, right, left.d)
            if right is not None and right.u is None and right.d is not None:
                return _scaled(cx, left, right.d, behind=True)
        case "op.add" | "op.sub":
            first, last = (_rank_one(cx, one) for one in operands)
            if first is None or last is None or (first.u is not None and last.u is not None):
                return None
            d = None
            if first.d is not None and last.d is not None:
                d, last = cx.emit(a.op.removeprefix("op."), (first.d, last.d)), replace(last, d=None)
            last = _scaled(cx, last, None) if a.op == "op.sub" else last
            assert last is not None
            return _RankOne(d or first.d or last.d, first.u or last.u, first.v or last.v, first.over or last.over)
    return None


def _scaled(cx: Site, parts: _RankOne | None, by: Node | None, behind: bool = False) -> _RankOne | None:
    """A diagonal times an operator, or behind it; without one the operator negated."""
    if parts is None:
        return None

    def times(x: Node | None) -> Node | None:
        if x is None:
            return None
        return cx.emit("neg", (x,)) if by is None else cx.emit("mul", (by, x))

    u, v = (parts.u, times(parts.v)) if behind else (times(parts.u), parts.v)
    return _RankOne(times(parts.d), u, v, parts.over)


def register(registry: Registry) -> None:
    for call in (inverse, apply, exp, expm1):
        registry.function(call)
