"""Functions that use up axes, and normalisations along them. Absent slots of a memory add nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ssir.functions.kinds import Init
from ssir.ir.graph import Axis, Node, Type
from ssir.ir.ops import AxesError, absent, broadcast, promote
from ssir.spec.build import UNKNOWN, Site, is_unknown

if TYPE_CHECKING:
    from ssir.registry import Registry


def _names(axes: tuple[Axis, ...]) -> tuple[str, ...]:
    return tuple(axis.name for axis in axes)


def _reduce(op: str) -> Callable[..., Node]:
    def call(cx: Site, a: Node, over: tuple[Axis, ...]) -> Node:
        if is_unknown(a):
            return cx.emit(op, (a,), Type(dtype=UNKNOWN), over=_names(over))
        cx.over(a, over)
        if op in ("max", "min"):
            cx.real(op, [a.type])
        names = _names(over)
        axes = tuple(axis for axis in a.type.axes if axis.name not in names)
        return cx.emit(op, (a,), Type(axes, promote([a.type]), absent=absent([a.type], names)), over=names)

    call.__name__ = op
    call.__doc__ = f"The {op} along the axes named; they are used up."
    return call


def dot(cx: Site, a: Node, b: Node, over: tuple[Axis, ...]) -> Node:
    """The sum of a * b along the axes named, which both have; the other axes broadcast by name."""
    names = _names(over)
    if is_unknown(a, b):
        return cx.emit("dot", (a, b), Type(dtype=UNKNOWN), over=names)
    cx.over(a, over, "a")
    cx.over(b, over, "b")
    try:
        axes = tuple(axis for axis in broadcast([a.type, b.type]) if axis.name not in names)
    except AxesError as error:
        cx.fail("SSIR015", str(error))
    return cx.emit(
        "dot", (a, b), Type(axes, promote([a.type, b.type]), absent=absent([a.type, b.type], names)), over=names
    )


def softmax(cx: Site, a: Node, over: tuple[Axis, ...]) -> Node:
    """exp(a) / sum(exp(a)) along the axes named."""
    if is_unknown(a):
        return cx.emit("softmax", (a,), a.type, over=_names(over))
    cx.over(a, over)
    cx.real("softmax", [a.type])
    return cx.emit("softmax", (a,), a.type, over=_names(over))


def _norm(
    cx: Site,
    op: str,
    a: Node,
    over: tuple[Axis, ...],
    eps: float,
    affine: tuple[Axis, ...],
    scale: bool,
    bias: bool,
    init: Init = Init("ones"),
) -> Node:
    names = _names(over)
    if not is_unknown(a):
        cx.over(a, over)
    operands = [a]
    if scale:
        operands.append(cx.param("weight", affine, init, decay=False))
    if bias:
        operands.append(cx.param("bias", affine, "zeros", decay=False))
    type = Type(
        a.type.axes, a.type.dtype if a.type.dtype == UNKNOWN else promote([a.type]), absent=absent([a.type], names)
    )
    return cx.emit(op, operands, type, over=names, eps=eps, scale=scale, bias=bias)


def rms_norm(
    cx: Site, a: Node, over: tuple[Axis, ...], eps: float = 1e-5, scale: bool = True, init: Init = Init("ones")
) -> Node:
    """weight * a / sqrt(mean(a^2) + eps) along the axes named (arXiv:1910.07467). init is that of the weight."""
    return _norm(cx, "rms_norm", a, over, eps, over, scale, False, init)


def layer_norm(
    cx: Site,
    a: Node,
    over: tuple[Axis, ...],
    eps: float = 1e-5,
    scale: bool = True,
    bias: bool = True,
    init: Init = Init("ones"),
) -> Node:
    """weight * (a - mean(a)) / sqrt(var(a) + eps) + bias along the axes named (arXiv:1607.06450)."""
    return _norm(cx, "layer_norm", a, over, eps, over, scale, bias, init)


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


def l2_norm(cx: Site, a: Node, over: tuple[Axis, ...], eps: float = 1e-12) -> Node:
    """a / max(sqrt(sum(a^2)), eps) along the axes named."""
    return _norm(cx, "l2_norm", a, over, eps, over, False, False)


def register(registry: Registry) -> None:
    for op in ("sum", "mean", "max", "min"):
        registry.function(_reduce(op))
    for call in (dot, softmax, l2_norm):
        registry.function(call)
    for call in (rms_norm, layer_norm, group_norm):
        registry.function(call, owns=True)
