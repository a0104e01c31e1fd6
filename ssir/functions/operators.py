"""Operators: what A of a state may be besides a value, which acts elementwise. Sums, differences and products of operators
are operators; a product acts from right to left.

``absent`` of an operator's type names the axes that it shifts along, with 0 if it does nothing else, and 1 if it does more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssir.ir.graph import Axis, Node, Type
from ssir.ir.ops import absent, broadcast, promote
from ssir.spec.build import UNKNOWN, Site, is_unknown

if TYPE_CHECKING:
    from ssir.registry import Registry


def shift(cx: Site, axis: Axis) -> Node:
    """Moves every slot one place along the axis; the input enters slot 0, and the last slot is lost."""
    return cx.emit("op.shift", (), Type((axis,), absent=((axis.name, 0),), operator=True), "shift", axis=axis.name)


def outer(cx: Site, a: Node, b: Node, over: Axis) -> Node:
    """Rank one along an axis: h -> a * dot(b, h, over)."""
    if is_unknown(a, b):
        return cx.emit("op.outer", (a, b), Type((over,), operator=True), over=over.name)
    cx.over(a, (over,), "a")
    cx.over(b, (over,), "b")
    return cx.emit(
        "op.outer", (a, b), Type(broadcast([a.type, b.type]), promote([a.type, b.type]), operator=True), over=over.name
    )


def dense(cx: Site, m: Node, over: Axis) -> Node:
    """A full matrix m[n, n_] along the axis n: h -> m h."""
    double = Axis(f"{over.name}_", over.size)
    if is_unknown(m):
        return cx.emit("op.dense", (m,), Type((over,), operator=True), over=over.name)
    cx.over(m, (over, double), "m")
    axes = tuple(axis for axis in m.type.axes if axis != double)
    return cx.emit("op.dense", (m,), Type(axes, m.type.dtype, operator=True), over=over.name)


def turn(cx: Site, angle: Node, over: Axis) -> Node:
    """Rotates neighbouring pairs (0, 1), (2, 3), ... along an axis by an angle, which has an axis half as long."""
    if is_unknown(angle):
        return cx.emit("op.rotate", (angle,), Type((over,), operator=True), over=over.name, half="")
    half = [x for x in angle.type.axes if over.size == 2 * (x.size or 0)]
    if len(half) != 1:
        has = ", ".join(map(str, angle.type.axes)) or "none"
        words = f"the angle needs one axis half as long as `{over.name}`; its axes: {has}"
        cx.fail("SSIR014", words, "angle", f"give it an axis of size {(over.size or 0) // 2}")
    axes = tuple(over if x == half[0] else x for x in angle.type.axes)
    return cx.emit("op.rotate", (angle,), Type(axes, operator=True), over=over.name, half=half[0].name)


def lifted(cx: Site, a: Node) -> Node:
    """The operator that a value is: elementwise multiplication."""
    if a.type.operator:
        return a
    return cx.emit("op.diag", (a,), Type(a.type.axes, a.type.dtype, operator=True), "diag")


def combine(cx: Site, op: str, *operands: Node) -> Node:
    """A sum, difference, product or negation of operators; values among them are lifted."""
    if is_unknown(*operands):
        return cx.emit(f"op.{op}", operands, Type(dtype=UNKNOWN, operator=True))
    nodes = [lifted(cx, node) for node in operands]
    shifts = tuple((name, 1) for name, _ in absent([n.type for n in nodes]))
    return cx.emit(
        f"op.{op}",
        nodes,
        Type(broadcast([n.type for n in nodes]), promote([n.type for n in nodes]), absent=shifts, operator=True),
    )


def register(registry: Registry) -> None:
    for call in (shift, outer, dense):
        registry.function(call)
