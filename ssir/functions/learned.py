"""Parameters, and the functions that own some."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Literal

from ssir.functions.kinds import Init
from ssir.ir.graph import Axis, Node
from ssir.ir.op import names
from ssir.spec.build import Site, is_unknown

if TYPE_CHECKING:
    from ssir.registry import Registry


def param(
    cx: Site,
    axes: tuple[Axis, ...],
    init: Init = Init("zeros"),
    decay: bool = True,
    lr: float = 1.0,
    dtype: Literal["float32", "float64"] | None = None,
    draws: Node | None = None,
) -> Node:
    """A learned constant over these axes. decay and lr are its weight decay and its learning-rate factor in training. Where init
    draws, draws= names a parameter whose random numbers it draws again, so that the two fit each other."""
    cx.finite(axes, "axes", "a parameter")
    if draws is not None and draws.op != "param":
        cx.fail("SSIR023", "this is no parameter, so it draws nothing", "draws", "name a node that is a `param`")
    return cx.param("", axes, init, decay, lr, dtype, draws.attrs["key"] if draws is not None else None)


def buffer(
    cx: Site,
    axes: tuple[Axis, ...],
    init: Init = Init("zeros"),
    dtype: Literal["float32", "float64"] | None = None,
) -> Node:
    """A constant over these axes that a checkpoint carries beside the parameters, and that no training changes."""
    cx.finite(axes, "axes", "a buffer")
    return cx.param("", axes, init, False, 1.0, dtype, learned=False)


def _weight_of(cx: Site, tied: Node) -> Node:
    weight = next((n for name in tied.inputs if (n := cx.builder.nodes[name]).op == "param"), tied)
    if weight.op != "param":
        cx.fail("SSIR023", "there is no weight to tie to here", "tie", help="name a node that is an embed or a linear")
    return weight


def linear(
    cx: Site,
    a: Node,
    out: tuple[Axis, ...],
    over: tuple[Axis, ...] | None = None,
    per: tuple[Axis, ...] = (),
    bias: bool = False,
    tie: Node | None = None,
    init: Init = Init("fan_in"),
    bias_init: Init = Init("zeros"),
    decay: bool = True,
    lr: float = 1.0,
) -> Node:
    """A learned linear map from the axes ``over`` of a (all, if left out) to the axes ``out``.

    Along the axes ``per`` each entry has a weight of its own; along the rest the same weight serves. The weight has axes
    [per..., out..., over...]. The fan_in of a bias is that of its map.
    """
    if is_unknown(a):
        return cx.later() if over or per else cx.later(*out)
    if over is not None:
        cx.over(a, over)
    cx.over(a, per, "per")
    kept = {axis.name for axis in per}
    contracted = over if over is not None else tuple(axis for axis in a.type.axes if axis.name not in kept)
    if not contracted:
        cx.fail(
            "SSIR014",
            "there is no axis to contract",
            help="name the axes with `over=`, or multiply by a `param` instead",
        )
    for axis in contracted:
        if axis.size is None:
            help = "use it up first: dot(weights, value, over=axis), mean(value, over=axis)"
            cx.fail("SSIR014", f"a learned map needs a finite axis, and `{axis.name}` is unbounded", "a", help)
    gone = {axis.name for axis in contracted}
    rest = tuple(axis for axis in a.type.axes if axis.name not in gone)
    for axis in out:
        if axis.name in {r.name for r in rest}:
            cx.fail(
                "SSIR014",
                f"the value keeps an axis `{axis.name}`, so it cannot be made again",
                "out",
                help=f"rename it first, or contract it: over={axis.name}",
            )
    taken = {axis.name for axis in (*per, *out)}
    inner = tuple(Axis(_apart(axis.name, taken), axis.size) for axis in contracted)
    weight_axes = (*per, *out, *inner)
    if tie is not None:
        weight = _weight_of(cx, tie)
        if weight.type.sizes != tuple(axis.size for axis in weight_axes):
            has, needs = (", ".join(map(str, axes)) for axes in (weight.type.axes, weight_axes))
            cx.fail(
                "SSIR023", f"the tied weight is [{has}], but [{needs}] is needed", "tie", "tie maps of the same sizes"
            )
    else:
        weight = cx.param("weight", weight_axes, init, decay, lr)
    operands = [a, weight]
    if bias:
        if bias_init == "fan_in":
            bound = prod(axis.size or 1 for axis in contracted) ** -0.5
            bias_init = Init(f"uniform({-bound}, {bound})")
        operands.append(cx.param("bias", (*per, *out), bias_init, False, lr))
    return cx.emit("linear", operands, over=names(contracted), out=names(out), per=names(per), bias=bias)


def _apart(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def embed(
    cx: Site,
    tokens: Node,
    vocab: Axis,
    out: tuple[Axis, ...],
    init: Init = Init("normal(1)"),
    decay: bool = False,
    tie: Node | None = None,
) -> Node:
    """The row of a learned table [vocab, out...] for each token (or other whole number)."""
    if not is_unknown(tokens) and not cx.is_whole(tokens):
        cx.fail(
            "SSIR019",
            "only tokens, `position` and other whole numbers can be looked up",
            "tokens",
            help="declare the input as `token`, or look up round(...)",
        )
    if tie is not None:
        weight = _weight_of(cx, tie)
        if weight.type.sizes != tuple(axis.size for axis in (vocab, *out)):
            has, needs = (", ".join(map(str, axes)) for axes in (weight.type.axes, (vocab, *out)))
            cx.fail(
                "SSIR023", f"the tied weight is [{has}], but [{needs}] is needed", "tie", "tie maps of the same sizes"
            )
    else:
        weight = cx.param("weight", (vocab, *out), init, decay)
    return cx.emit("embed", (tokens, weight), out=names(out))


def register(registry: Registry) -> None:
    for call in (param, buffer, linear, embed):
        registry.function(call, owns=True)
