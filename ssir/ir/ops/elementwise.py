"""One entry of the result from one entry of each operand, broadcast by name."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from ssir.ir import intervals
from ssir.ir.graph import Type
from ssir.ir.intervals import Interval
from ssir.ir.op import UNKNOWN, Bounds, Gradient, Op, Rule, Use, Whole, absent, broadcast, check_real, promote, unknown


def _rule(dtype: str | None, real: bool) -> Rule:
    def rule(use: Use) -> Type:
        if real:
            check_real(use.op.name, use.types)
        return Type(broadcast(use.types), dtype or promote(use.types), absent=absent(use.types))

    return rule


def _of_the_known(use: Use) -> Type:
    """The other operand will hardly have more axes than these: it is a memory of the result."""
    known = tuple(type for type in use.types if type.dtype != UNKNOWN)
    return use.op.rule(Use(use.op, known, use.attrs)) if known else unknown(use)


def _op(
    name: str,
    *operands: str,
    bounds: Bounds | None = None,
    number: Callable[..., float] | None = None,
    whole: Whole = "never",
    attributes: tuple[str, ...] = (),
    dtype: str | None = None,
    real: bool = False,
    gradient: Gradient | None = None,
) -> Op:
    """``dtype``: of the result, where it is not that of arithmetic; ``real``: not defined for complex numbers."""
    return Op(name, operands or ("a",), attributes, _rule(dtype, real), _of_the_known, bounds, number, whole, gradient)


def _two(name: str, **said: Any) -> Op:
    return _op(name, "a", "b", **said)


def _clamped(a: Interval, low: float | None, high: float | None) -> Interval:
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    return min(max(a[0], least), most), min(max(a[1], least), most)


def power(a: float, b: float) -> float:
    """a ** b, where that is a number of a size that can be reckoned with. Raises OverflowError."""
    if abs(a) > 1 and b * math.log2(abs(a)) > _MOST_BITS:
        raise OverflowError
    return float(a) ** b if abs(b) > _MOST_BITS else a**b  # type: ignore[no-any-return]


_MOST_BITS = 1000


def _f(op: str, *operands: Any) -> Any:
    """A function of values of a graph that is being built."""
    return next(x for x in operands if not isinstance(x, int | float)).builder(op, *operands)


def _flat(y: Any, g: Any, *operands: Any) -> tuple[None, ...]:
    """The gradient of what has steps, or none."""
    return (None,) * len(operands)


def _bell(a: Any) -> Any:
    """2 / sqrt(pi) exp(-a^2), the slope of erf."""
    return 2 / math.sqrt(math.pi) * _f("exp", -a * a)


def _silu(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    s = _f("sigmoid", a)
    return (g * (s + y * (1 - s)),)


def _gelu(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    b = a * math.sqrt(0.5)
    return (g * (0.5 * (1 + _f("erf", b)) + 0.5 * b * _bell(b)),)


def _gelu_tanh(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    t = _f("tanh", scale * (a + cubic * a * a * a))
    return (g * (0.5 * (1 + t) + 0.5 * a * (1 - t * t) * scale * (1 + 3 * cubic * a * a)),)


def _shared(y: Any, g: Any, a: Any, b: Any) -> tuple[Any, ...]:
    """To the operand that the result is, to each half where both are."""
    half = _f("where", _f("eq", a, b), 0.5 * g, 0.0)
    return tuple(_f("where", _f("eq", one, y), g - half, 0.0) for one in (a, b))


def _chosen(y: Any, g: Any, condition: Any, a: Any, b: Any) -> tuple[Any, ...]:
    return None, _f("where", condition, g, 0.0), _f("where", condition, 0.0, g)


def _within(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    for bound, inside in ((y["low"], "ge"), (y["high"], "le")):
        if bound is not None:
            g = _f("where", _f(inside, a, bound), g, 0.0)
    return (g,)


_POSITIVE: Interval = (0.0, math.inf)
_UNIT: Interval = (-1.0, 1.0)

_ONE = (
    _op("neg", bounds=intervals.neg, number=operator.neg, whole="kept", gradient=lambda y, g, a: (-g,)),
    _op("exp", bounds=intervals.exp, number=math.exp, gradient=lambda y, g, a: (g * y,)),
    _op("expm1", gradient=lambda y, g, a: (g * (y + 1),)),
    _op("log", bounds=intervals.log, number=math.log, gradient=lambda y, g, a: (g / a,)),
    _op("log1p", gradient=lambda y, g, a: (g / (1 + a),)),
    _op("sqrt", bounds=_POSITIVE, number=math.sqrt, gradient=lambda y, g, a: (0.5 * g / y,)),
    _op("rsqrt", bounds=_POSITIVE, gradient=lambda y, g, a: (-0.5 * g * y / a,)),
    _op("square", bounds=_POSITIVE, number=lambda a: a * a, whole="kept", gradient=lambda y, g, a: (2 * g * a,)),
    _op("abs", bounds=_POSITIVE, number=abs, whole="kept", dtype="real", gradient=lambda y, g, a: (g * _f("sign", a),)),
    _op("sign", real=True, gradient=_flat),
    _op("floor", bounds=intervals.rising(math.floor), whole="always", real=True, gradient=_flat),
    _op("ceil", bounds=intervals.rising(math.ceil), whole="always", real=True, gradient=_flat),
    _op("round", bounds=intervals.rising(round), whole="always", real=True, gradient=_flat),
    _op("sin", bounds=_UNIT, gradient=lambda y, g, a: (g * _f("cos", a),)),
    _op("cos", bounds=_UNIT, gradient=lambda y, g, a: (-g * _f("sin", a),)),
    _op("tan", gradient=lambda y, g, a: (g * (1 + y * y),)),
    _op("tanh", bounds=_UNIT, gradient=lambda y, g, a: (g * (1 - y * y),)),
    _op("arctan", real=True, gradient=lambda y, g, a: (g / (1 + a * a),)),
    _op("sigmoid", bounds=(0.0, 1.0), gradient=lambda y, g, a: (g * y * (1 - y),)),
    _op("logsigmoid", bounds=(-math.inf, 0.0), real=True, gradient=lambda y, g, a: (g * _f("sigmoid", -a),)),
    _op("silu", gradient=_silu),
    _op("gelu", real=True, gradient=_gelu),
    _op("gelu_tanh", real=True, gradient=_gelu_tanh),
    _op("relu", bounds=_POSITIVE, real=True, gradient=lambda y, g, a: (_f("where", a > 0, g, 0.0),)),
    _op("elu", real=True, gradient=lambda y, g, a: (_f("where", a > 0, g, g * (y + 1)),)),
    _op("softplus", bounds=_POSITIVE, real=True, gradient=lambda y, g, a: (g * _f("sigmoid", a),)),
    _op("reciprocal", gradient=lambda y, g, a: (-g * y * y,)),
    _op("erf", real=True, gradient=lambda y, g, a: (g * _bell(a),)),
    _op("real", dtype="real"),
    _op("imag", dtype="real"),
    _op("conj"),
    _op("detach", bounds=lambda a: a, whole="kept", gradient=_flat),
)
_COMPARISONS = (
    _two("lt", dtype="bool", real=True, gradient=_flat),
    _two("le", dtype="bool", real=True, gradient=_flat),
    _two("gt", dtype="bool", real=True, gradient=_flat),
    _two("ge", dtype="bool", real=True, gradient=_flat),
    _two("eq", dtype="bool", gradient=_flat),
    _two("ne", dtype="bool", gradient=_flat),
)
OPS = (
    *_ONE,
    _two("add", bounds=intervals.add, number=operator.add, whole="kept", gradient=lambda y, g, a, b: (g, g)),
    _two("sub", bounds=intervals.sub, number=operator.sub, whole="kept", gradient=lambda y, g, a, b: (g, -g)),
    _two("mul", bounds=intervals.mul, number=operator.mul, whole="kept", gradient=lambda y, g, a, b: (g * b, g * a)),
    _two("div", bounds=intervals.div, number=operator.truediv, gradient=lambda y, g, a, b: (g / b, -g * y / b)),
    _two(
        "pow",
        bounds=intervals.power,
        number=power,
        gradient=lambda y, g, a, b: (g * b * a ** (b - 1), g * y * _f("log", a)),
    ),
    _two(
        "mod", bounds=intervals.mod, whole="kept", real=True, gradient=lambda y, g, a, b: (g, -g * _f("floor", a / b))
    ),
    _two("maximum", bounds=intervals.larger, number=max, whole="kept", real=True, gradient=_shared),
    _two("minimum", bounds=intervals.smaller, number=min, whole="kept", real=True, gradient=_shared),
    _two("complex", dtype="complex", real=True),
    _two("polar", dtype="complex", real=True),
    *_COMPARISONS,
    _op(
        "where",
        "condition",
        "a",
        "b",
        bounds=lambda condition, a, b: intervals.union(a, b),
        whole="kept",
        gradient=_chosen,
    ),
    _op("clamp", attributes=("low", "high"), bounds=_clamped, whole="kept", real=True, gradient=_within),
)
UNARY = frozenset(op.name for op in _ONE)
COMPARE = frozenset(op.name for op in _COMPARISONS)
