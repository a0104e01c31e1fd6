"""One entry of the result from one entry of each operand, broadcast by name."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from ssir.ir import intervals
from ssir.ir.graph import Type
from ssir.ir.intervals import Interval
from ssir.ir.op import UNKNOWN, Bounds, Op, Rule, Use, Whole, absent, broadcast, check_real, promote, unknown


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
) -> Op:
    """``dtype``: of the result, where it is not that of arithmetic; ``real``: not defined for complex numbers."""
    return Op(name, operands or ("a",), attributes, _rule(dtype, real), _of_the_known, bounds, number, whole)


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
_POSITIVE: Interval = (0.0, math.inf)
_UNIT: Interval = (-1.0, 1.0)

_ONE = (
    _op("neg", bounds=intervals.neg, number=operator.neg, whole="kept"),
    _op("exp", bounds=intervals.exp, number=math.exp),
    _op("expm1"),
    _op("log", bounds=intervals.log, number=math.log),
    _op("log1p"),
    _op("sqrt", bounds=_POSITIVE, number=math.sqrt),
    _op("rsqrt", bounds=_POSITIVE),
    _op("square", bounds=_POSITIVE, number=lambda a: a * a, whole="kept"),
    _op("abs", bounds=_POSITIVE, number=abs, whole="kept", dtype="real"),
    _op("sign", real=True),
    _op("floor", bounds=intervals.rising(math.floor), whole="always", real=True),
    _op("ceil", bounds=intervals.rising(math.ceil), whole="always", real=True),
    _op("round", bounds=intervals.rising(round), whole="always", real=True),
    _op("sin", bounds=_UNIT),
    _op("cos", bounds=_UNIT),
    _op("tan"),
    _op("tanh", bounds=_UNIT),
    _op("arctan", real=True),
    _op("sigmoid", bounds=(0.0, 1.0)),
    _op("logsigmoid", bounds=(-math.inf, 0.0), real=True),
    _op("silu"),
    _op("gelu", real=True),
    _op("gelu_tanh", real=True),
    _op("relu", bounds=_POSITIVE, real=True),
    _op("elu", real=True),
    _op("softplus", bounds=_POSITIVE, real=True),
    _op("reciprocal"),
    _op("erf", real=True),
    _op("real", dtype="real"),
    _op("imag", dtype="real"),
    _op("conj"),
    _op("detach", bounds=lambda a: a, whole="kept"),
)
_COMPARISONS = (
    _two("lt", dtype="bool", real=True),
    _two("le", dtype="bool", real=True),
    _two("gt", dtype="bool", real=True),
    _two("ge", dtype="bool", real=True),
    _two("eq", dtype="bool"),
    _two("ne", dtype="bool"),
)
OPS = (
    *_ONE,
    _two("add", bounds=intervals.add, number=operator.add, whole="kept"),
    _two("sub", bounds=intervals.sub, number=operator.sub, whole="kept"),
    _two("mul", bounds=intervals.mul, number=operator.mul, whole="kept"),
    _two("div", bounds=intervals.div, number=operator.truediv),
    _two("pow", bounds=intervals.power, number=power),
    _two("mod", bounds=intervals.mod, whole="kept", real=True),
    _two("maximum", bounds=intervals.larger, number=max, whole="kept", real=True),
    _two("minimum", bounds=intervals.smaller, number=min, whole="kept", real=True),
    _two("complex", dtype="complex", real=True),
    _two("polar", dtype="complex", real=True),
    *_COMPARISONS,
    _op("where", "condition", "a", "b", bounds=lambda condition, a, b: intervals.union(a, b), whole="kept"),
    _op("clamp", attributes=("low", "high"), bounds=_clamped, whole="kept", real=True),
)
UNARY = frozenset(op.name for op in _ONE)
COMPARE = frozenset(op.name for op in _COMPARISONS)
