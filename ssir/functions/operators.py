"""Operators: what A of a state may be besides a value, which acts elementwise. Sums, differences and products of operators
are operators; a product acts from right to left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssir.ir.graph import Axis, Node
from ssir.ir.op import listed
from ssir.spec.build import Site, is_unknown

if TYPE_CHECKING:
    from ssir.registry import Registry


def shift(cx: Site, axis: Axis) -> Node:
    """Moves every slot one place along the axis; the input enters slot 0, and the last slot is lost."""
    return cx.emit("op.shift", (), "shift", axis=axis.name, size=axis.size)


def outer(cx: Site, a: Node, b: Node, over: Axis) -> Node:
    """Rank one along an axis: h -> a * dot(b, h, over)."""
    cx.over(a, (over,), "a")
    cx.over(b, (over,), "b")
    if is_unknown(a, b):
        return cx.later(over, operator=True)
    return cx.emit("op.outer", (a, b), over=over.name)


def dense(cx: Site, m: Node, over: Axis) -> Node:
    """A full matrix m[n, n_] along the axis n: h -> m h."""
    cx.over(m, (over, Axis(f"{over.name}_", over.size)), "m")
    if is_unknown(m):
        return cx.later(over, operator=True)
    return cx.emit("op.dense", (m,), over=over.name)


def turn(cx: Site, angle: Node, over: Axis) -> Node:
    """Rotates neighbouring pairs (0, 1), (2, 3), ... along an axis by an angle, which has an axis half as long."""
    if is_unknown(angle):
        return cx.later(over, operator=True)
    half = [x for x in angle.type.axes if over.size == 2 * (x.size or 0)]
    if len(half) != 1:
        words = f"the angle needs one axis half as long as `{over.name}`; its axes: {listed(angle.type.axes) or 'none'}"
        cx.fail("SSIR014", words, "angle", f"give it an axis of size {(over.size or 0) // 2}")
    return cx.emit("op.rotate", (angle,), over=over.name, half=half[0].name)


def lifted(cx: Site, a: Node) -> Node:
    """The operator that a value is: elementwise multiplication."""
    return a if a.type.operator else cx.emit("op.diag", (a,), "diag")


def combine(cx: Site, op: str, *operands: Node) -> Node:
    """A sum, difference, product or negation of operators; values among them are lifted."""
    return cx.emit(f"op.{op}", operands if is_unknown(*operands) else [lifted(cx, node) for node in operands])


def register(registry: Registry) -> None:
    for call in (shift, outer, dense):
        registry.function(call)
