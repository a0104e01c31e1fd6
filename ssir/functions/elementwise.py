"""Elementwise functions: one entry of the result from one entry of each operand, broadcast by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ssir.errors import SSIRError
from ssir.ir.graph import Node
from ssir.ir.op import Op
from ssir.ir.ops import TABLE
from ssir.ir.ops.elementwise import UNARY
from ssir.spec.build import Site, is_unknown

if TYPE_CHECKING:
    from ssir.registry import Registry


def calling(op: Op) -> Callable[..., Node]:
    """The function of the language that is an operation of one or two operands, and no attributes."""

    def one(cx: Site, a: Node) -> Node:
        return cx.emit(op.name, (a,))

    def two(cx: Site, a: Node, b: Node) -> Node:
        return cx.emit(op.name, (a, b))

    known: dict[int, Callable[..., Node]] = {1: one, 2: two}
    call = known.get(len(op.operands))
    if call is None or op.attributes:
        raise SSIRError(f"`{op}` has no function of its own: register one that emits it")
    call.__name__ = op.name
    call.__doc__ = f"{op.name} of every entry; the axes stay."
    return call


def where(cx: Site, condition: Node, a: Node, b: Node) -> Node:
    """a where the condition holds, else b."""
    if condition.type.dtype != "bool" and not is_unknown(condition):
        cx.fail("SSIR019", "the condition is not a comparison", "condition", help="write where(a > b, ...)")
    return cx.emit("where", (condition, a, b))


def maximum(cx: Site, a: Node, b: Node) -> Node:
    """The larger of a and b, entry by entry."""
    return cx.emit("maximum", (a, b))


def minimum(cx: Site, a: Node, b: Node) -> Node:
    """The smaller of a and b, entry by entry."""
    return cx.emit("minimum", (a, b))


def clamp(cx: Site, a: Node, low: float | None = None, high: float | None = None) -> Node:
    """a kept between low and high."""
    if low is None and high is None:
        cx.fail("SSIR013", "`clamp` has no bound", help="write clamp(a, low=0), clamp(a, high=1) or both")
    return cx.emit("clamp", (a,), low=low, high=high)


def complex_(cx: Site, re: Node, im: Node) -> Node:
    """re + i im."""
    return cx.emit("complex", (re, im))


def polar(cx: Site, r: Node, angle: Node) -> Node:
    """r e^(i angle); the angle is in radians."""
    return cx.emit("polar", (r, angle))


def stop_gradient(cx: Site, a: Node) -> Node:
    """a, through which no gradient flows."""
    return cx.emit("detach", (a,))


def float32(cx: Site, a: Node) -> Node:
    """a in float32 at least, and all that is made of it entry by entry, until a product, a norm or a memory takes it; in a model of
    float32 or float64 nothing changes."""
    return cx.emit("float32", (a,))


def register(registry: Registry) -> None:
    for op in sorted(UNARY - {"detach", "float32", "final", "exp", "expm1"}):  # exponentials are of operators too
        registry.function(calling(TABLE[op]))
    for call in (where, maximum, minimum, clamp, complex_, polar, stop_gradient, float32):
        registry.function(call)
