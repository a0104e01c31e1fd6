"""Functions that use up axes, and normalisations along them. Absent slots of a memory add nothing."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Literal

from ssir.functions.kinds import Init
from ssir.ir.graph import Axis, Node
from ssir.ir.op import names
from ssir.ir.ops.sums import REDUCE
from ssir.spec.build import Site, is_unknown

if TYPE_CHECKING:
    from ssir.registry import Registry


def _reduce(op: str) -> Callable[..., Node]:
    def call(cx: Site, a: Node, over: tuple[Axis, ...]) -> Node:
        cx.over(a, over)
        return cx.emit(op, (a,), over=names(over))

    call.__name__ = op
    call.__doc__ = f"The {op} along the axes named; they are used up."
    return call


def dot(cx: Site, a: Node, b: Node, over: tuple[Axis, ...]) -> Node:
    """The sum of a * b along the axes named, which both have; the other axes broadcast by name."""
    cx.over(a, over, "a")
    cx.over(b, over, "b")
    return cx.emit("dot", (a, b), over=names(over))


def softmax(cx: Site, a: Node, over: tuple[Axis, ...]) -> Node:
    """exp(a) / sum(exp(a)) along the axes named."""
    cx.over(a, over)
    return cx.emit("softmax", (a,), over=names(over))


def _norm(
    cx: Site,
    op: str,
    a: Node,
    over: tuple[Axis, ...] | None,
    eps: float,
    affine: tuple[Axis, ...] | None,
    scale: bool,
    bias: bool,
    init: Init = Init("ones"),
) -> Node:
    if over is None:
        if is_unknown(a):
            return a
        over = a.type.axes
        if not over:
            cx.fail("SSIR014", "there is no axis to normalise along", "a", help="give it a value that has one")
    affine = over if affine is None else affine
    cx.over(a, over)
    operands = [a]
    if scale:
        operands.append(cx.param("weight", affine, init, decay=False))
    if bias:
        operands.append(cx.param("bias", affine, "zeros", decay=False))
    return cx.emit(op, operands, over=names(over), eps=eps, scale=scale, bias=bias)


def rms_norm(
    cx: Site,
    a: Node,
    over: tuple[Axis, ...] | None = None,
    eps: float = 1e-5,
    scale: bool = True,
    init: Init = Init("ones"),
) -> Node:
    """weight * a / sqrt(mean(a^2) + eps) along the axes named, or all (arXiv:1910.07467). The weight has these axes alone; init is its."""
    return _norm(cx, "rms_norm", a, over, eps, None, scale, False, init)


def layer_norm(
    cx: Site,
    a: Node,
    over: tuple[Axis, ...] | None = None,
    eps: float = 1e-5,
    scale: bool = True,
    bias: bool = True,
    init: Init = Init("ones"),
) -> Node:
    """weight * (a - mean(a)) / sqrt(var(a) + eps) + bias along the axes named, or all, which alone weight and bias have (arXiv:1607.06450)."""
    return _norm(cx, "layer_norm", a, over, eps, None, scale, bias, init)


def group_norm(
    cx: Site,
    a: Node,
    over: tuple[Axis, ...],
    eps: float = 1e-5,
    scale: bool = True,
    bias: bool = True,
    init: Init = Init("ones"),
) -> Node:
    """layer_norm along the axes named, with a weight and a bias for every entry of all axes: the others are the groups."""
    return _norm(cx, "layer_norm", a, over, eps, a.type.axes, scale, bias, init)


def l2_norm(
    cx: Site, a: Node, over: tuple[Axis, ...] | None = None, eps: float = 1e-12, within: Literal["max", "root"] = "max"
) -> Node:
    """a / max(sqrt(sum(a^2)), eps) along the axes named, or all; with within=root a / sqrt(sum(a^2) + eps)."""
    if within == "max":
        return _norm(cx, "l2_norm", a, over, eps, None, False, False)
    size = prod(axis.size or 1 for axis in (a.type.axes if over is None else over))
    scaled = _norm(cx, "rms_norm", a, over, eps / size, None, False, False)
    return cx.emit("mul", (scaled, cx.number(size**-0.5)))


def register(registry: Registry) -> None:
    for op in sorted(REDUCE):
        registry.function(_reduce(op))
    for call in (dot, softmax, l2_norm):
        registry.function(call)
    for call in (rms_norm, layer_norm, group_norm):
        registry.function(call, owns=True)
