"""Sums of products, and what is taken along axes: reductions, norms, learned maps, matrices. Absent slots of a memory add nothing."""

from __future__ import annotations

from math import prod
from typing import Any

from ssir.ir.graph import Type
from ssir.ir.op import Op, TypeFault, Use, absent, broadcast, called, check_real, promote, same, shown, without

REDUCE = frozenset("sum mean max min".split())
NORM = frozenset("rms_norm layer_norm l2_norm".split())


def _reduce(use: Use) -> Type:
    a, over = use.of("a"), use["over"]
    use.has("a", over, "over")
    if use.op.name in ("max", "min"):
        check_real(use.op.name, [a])
    return Type(without(a, over), promote([a]), absent=absent([a], over))


def _softmax(use: Use) -> Type:
    a = use.of("a")
    use.has("a", use["over"], "over")
    check_real("softmax", [a])
    return Type(a.axes, a.dtype, absent=a.absent)


def _dot(use: Use) -> Type:
    over = use["over"]
    use.has("a", over, "a")
    use.has("b", over, "b")
    axes = without(Type(broadcast(use.types)), over)
    return Type(axes, promote(use.types), absent=absent(use.types, over))


def _norm(use: Use) -> Type:
    a, over = use.types[0], use["over"]
    use.has("a", over, "over")
    return Type(a.axes, promote([a]), absent=absent([a], over))


def _norm_of_the_unknown(use: Use) -> Type:
    return Type(use.types[0].axes, use.types[0].dtype)


def _linear(use: Use) -> Type:
    a, weight = use.types[:2]
    over, out, per = use["over"], use["out"], use["per"]
    use.has("a", (*over, *per), "over")
    wanted = (
        *(a.axis(name).size for name in per),
        *weight.sizes[len(per) :][: len(out)],
        *(a.axis(name).size for name in over),
    )
    if weight.sizes != wanted:
        words = f"the weight is [{', '.join(map(shown, weight.axes))}], and the map is from {', '.join(over)}"
        raise TypeFault("SSIR015", words, "a")
    return Type((*without(a, over), *called(out, weight.axes[len(per) :])), promote([a]), absent=absent([a], over))


def _embed(use: Use) -> Type:
    tokens, weight = use.types
    return Type((*tokens.axes, *called(use["out"], weight.axes[1:])), absent=tokens.absent)


def _matmul(use: Use) -> Type:
    square = (use["over"], f"{use['over']}_")
    use.has("a", square, "n")
    use.has("b", square, "n")
    return Type(broadcast(use.types), promote(use.types))


def _expm(use: Use) -> Type:
    use.has("a", (use["over"], f"{use['over']}_"), "n")
    return Type(use.of("a").axes, use.of("a").dtype, absent=use.of("a").absent)


def _solve(use: Use) -> Type:
    a, b, double = use.of("a"), use.of("b"), f"{use['over']}_"
    use.has("a", (use["over"], double), "n")
    use.has("b", (use["over"],), "n")
    inner = Type(a.axes if double in b.names else without(a, (double,)))
    return Type(broadcast([inner, b]), promote(use.types))


def _spread(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    return (g.builder.expand(g, a.type),)


def _averaged(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    return _spread(y, g / prod(a.type.axis(name).size for name in y["over"]), a)


def _to_the_extreme(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    """To each entry that is the largest, in equal parts."""
    b = g.builder
    there = b("where", b("eq", a, y), 1.0, 0.0)
    return (there * (g / b.sum(there, y["over"])),)


def _weighed(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    return (y * (g - g.builder.dot(y, g, y["over"])),)


def _factors(y: Any, g: Any, a: Any, b: Any) -> tuple[Any, ...]:
    build = g.builder
    return tuple(
        build.dot(g, other, {*g.type.names, *other.type.names} - {*one.type.names}) for one, other in ((a, b), (b, a))
    )


_SLOPES = {"sum": _spread, "mean": _averaged, "max": _to_the_extreme, "min": _to_the_extreme}

OPS = (
    *(
        Op(name, ("a",), ("over",), _reduce, whole="never" if name == "mean" else "kept", gradient=_SLOPES[name])
        for name in sorted(REDUCE)
    ),
    Op("softmax", ("a",), ("over",), _softmax, same, bounds=(0.0, 1.0), gradient=_weighed),
    Op("dot", ("a", "b"), ("over",), _dot, gradient=_factors),
    *(
        Op(
            name,
            ("a", "weight?", "bias?"),
            ("over", "eps", "scale", "bias"),
            _norm,
            _norm_of_the_unknown,
            bounds=(-1.0, 1.0) if name == "l2_norm" else None,
        )
        for name in sorted(NORM)
    ),
    Op("linear", ("a", "weight", "bias?"), ("over", "out", "per", "bias"), _linear),
    Op("embed", ("tokens", "weight"), ("out",), _embed),
    Op("matmul", ("a", "b"), ("over",), _matmul),
    Op("expm", ("a",), ("over",), _expm),
    Op("solve", ("a", "b"), ("over",), _solve),
)
