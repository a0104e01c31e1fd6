"""One entry of the result from one entry of each operand, broadcast by name.

A function is one entry here and one spelling each in ssir.reference.ops, ssir.compilers.torch.elementwise, ssir.compilers.loops.spelling (C) and
ssir.compilers.loops.triton; one of a plugin brings its spellings with it (``Elementwise``)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssir.ir import intervals
from ssir.ir.graph import Type
from ssir.ir.intervals import Interval
from ssir.ir.op import (
    UNKNOWN,
    Bounds,
    Gradient,
    Log,
    Op,
    Rule,
    Use,
    Whole,
    absent,
    broadcast,
    check_real,
    promote,
    unknown,
)

if TYPE_CHECKING:
    from torch import Tensor


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


def elementwise(
    name: str,
    *operands: str,
    bounds: Bounds | None = None,
    number: Callable[..., float] | None = None,
    whole: Whole = "never",
    attributes: tuple[str, ...] = (),
    dtype: str | None = None,
    real: bool = False,
    gradient: Gradient | None = None,
    log: Log | None = None,
    work: int = 1,
) -> Op:
    """An operation on entries. ``dtype``: of the result, where it is not that of arithmetic; ``real``: not defined for complex numbers; the
    rest as Op has it."""
    rule = _rule(dtype, real)
    operands = operands or ("a",)
    return Op(name, operands, attributes, rule, _of_the_known, bounds, number, whole, gradient, log, True, work)


@dataclass(frozen=True)
class Elementwise:
    """A function of a plugin: what the table says of it, and how each consumer spells it."""

    op: Op
    reference: Callable[..., Tensor]
    """Its meaning, of tensors that broadcast."""
    torch: str
    """An expression of torch and F (torch.nn.functional), operands as {0}, {1}."""
    c: str
    """An expression of C, of numbers of type REAL: float or double."""
    triton: str | None = None
    """An expression of Triton, of tl; without it, loops that have it go step by step in torch on a GPU."""


def _two(name: str, **said: Any) -> Op:
    return elementwise(name, "a", "b", **said)


def _clamped(a: Interval, low: float | None, high: float | None) -> Interval:
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    return min(max(a[0], least), most), min(max(a[1], least), most)


def power(a: float, b: float) -> float:
    """a ** b, where that is a number of a size that can be reckoned with. Raises OverflowError."""
    if abs(a) > 1 and b * math.log2(abs(a)) > _MOST_BITS:
        raise OverflowError
    return float(a) ** b if abs(b) > _MOST_BITS else a**b  # type: ignore[no-any-return]


_MOST_BITS = 1000


def apply(op: str, *operands: Any) -> Any:
    """A function of values of a graph that is being built: what gradients and logarithms are made of."""
    return next(x for x in operands if not isinstance(x, int | float)).builder(op, *operands)


def _flat(y: Any, g: Any, *operands: Any) -> tuple[None, ...]:
    """The gradient of what has steps, or none."""
    return (None,) * len(operands)


def _bell(a: Any) -> Any:
    """2 / sqrt(pi) exp(-a^2), the slope of erf."""
    return 2 / math.sqrt(math.pi) * apply("exp", -a * a)


def _silu(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    s = apply("sigmoid", a)
    return (g * (s + y * (1 - s)),)


def _gelu(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    b = a * math.sqrt(0.5)
    return (g * (0.5 * (1 + apply("erf", b)) + 0.5 * b * _bell(b)),)


def _gelu_tanh(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    t = apply("tanh", scale * (a + cubic * a * a * a))
    return (g * (0.5 * (1 + t) + 0.5 * a * (1 - t * t) * scale * (1 + 3 * cubic * a * a)),)


def _shared(y: Any, g: Any, a: Any, b: Any) -> tuple[Any, ...]:
    """To the operand that the result is, to each half where both are."""
    half = apply("where", apply("eq", a, b), 0.5 * g, 0.0)
    return tuple(apply("where", apply("eq", one, y), g - half, 0.0) for one in (a, b))


def _chosen(y: Any, g: Any, condition: Any, a: Any, b: Any) -> tuple[Any, ...]:
    return None, apply("where", condition, g, 0.0), apply("where", condition, 0.0, g)


def _within(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    for bound, inside in ((y["low"], "ge"), (y["high"], "le")):
        if bound is not None:
            g = apply("where", apply(inside, a, bound), g, 0.0)
    return (g,)


def _power(exponent: float) -> Log:
    """The logarithm of what is its operand to some power."""
    return lambda y, log, a: log(a) * exponent


def _log_of_the_rest(y: Any, log: Any, a: Any, b: Any) -> Any:
    """1 - sigmoid(z) is sigmoid(-z)."""
    return apply("logsigmoid", -b.operands[0]) if a.number == 1 and b.node.op == "sigmoid" else None


_POSITIVE: Interval = (0.0, math.inf)
_UNIT: Interval = (-1.0, 1.0)

_ONE = (
    elementwise("neg", bounds=intervals.neg, number=operator.neg, whole="kept", gradient=lambda y, g, a: (-g,)),
    elementwise(
        "exp",
        bounds=intervals.exp,
        number=math.exp,
        gradient=lambda y, g, a: (g * y,),
        log=lambda y, log, a: a,
        work=12,
    ),
    elementwise("expm1", bounds=(-1.0, math.inf), gradient=lambda y, g, a: (g * (y + 1),)),
    elementwise("log", bounds=intervals.log, number=math.log, gradient=lambda y, g, a: (g / a,)),
    elementwise("log1p", gradient=lambda y, g, a: (g / (1 + a),)),
    elementwise("sqrt", bounds=_POSITIVE, number=math.sqrt, gradient=lambda y, g, a: (0.5 * g / y,), log=_power(0.5)),
    elementwise("rsqrt", bounds=_POSITIVE, gradient=lambda y, g, a: (-0.5 * g * y / a,), log=_power(-0.5)),
    elementwise(
        "square",
        bounds=_POSITIVE,
        number=lambda a: a * a,
        whole="kept",
        gradient=lambda y, g, a: (2 * g * a,),
        log=_power(2.0),
    ),
    elementwise(
        "abs",
        bounds=_POSITIVE,
        number=abs,
        whole="kept",
        dtype="real",
        gradient=lambda y, g, a: (g * apply("sign", a),),
    ),
    elementwise("sign", bounds=_UNIT, real=True, gradient=_flat),
    elementwise("floor", bounds=intervals.rising(math.floor), whole="always", real=True, gradient=_flat),
    elementwise("ceil", bounds=intervals.rising(math.ceil), whole="always", real=True, gradient=_flat),
    elementwise("round", bounds=intervals.rising(round), whole="always", real=True, gradient=_flat),
    elementwise("sin", bounds=_UNIT, gradient=lambda y, g, a: (g * apply("cos", a),)),
    elementwise("cos", bounds=_UNIT, gradient=lambda y, g, a: (-g * apply("sin", a),)),
    elementwise("tan", gradient=lambda y, g, a: (g * (1 + y * y),)),
    elementwise("tanh", bounds=_UNIT, gradient=lambda y, g, a: (g * (1 - y * y),), work=20),
    elementwise("arctan", bounds=(-math.pi / 2, math.pi / 2), real=True, gradient=lambda y, g, a: (g / (1 + a * a),)),
    elementwise(
        "sigmoid",
        bounds=(0.0, 1.0),
        gradient=lambda y, g, a: (g * y * (1 - y),),
        log=lambda y, log, a: apply("logsigmoid", a),
        work=16,
    ),
    elementwise("logsigmoid", bounds=(-math.inf, 0.0), real=True, gradient=lambda y, g, a: (g * apply("sigmoid", -a),)),
    elementwise("silu", bounds=(-0.2785, math.inf), gradient=_silu),
    elementwise("gelu", bounds=(-0.17, math.inf), real=True, gradient=_gelu),
    elementwise("gelu_tanh", bounds=(-0.1701, math.inf), real=True, gradient=_gelu_tanh),
    elementwise("relu", bounds=_POSITIVE, real=True, gradient=lambda y, g, a: (apply("where", a > 0, g, 0.0),)),
    elementwise(
        "elu", bounds=(-1.0, math.inf), real=True, gradient=lambda y, g, a: (apply("where", a > 0, g, g * (y + 1)),)
    ),
    elementwise("softplus", bounds=_POSITIVE, real=True, gradient=lambda y, g, a: (g * apply("sigmoid", a),)),
    elementwise("reciprocal", gradient=lambda y, g, a: (-g * y * y,), log=_power(-1.0)),
    elementwise("erf", bounds=_UNIT, real=True, gradient=lambda y, g, a: (g * _bell(a),)),
    elementwise("real", dtype="real"),
    elementwise("imag", dtype="real"),
    elementwise("conj"),
    elementwise("detach", bounds=lambda a: a, whole="kept", gradient=_flat),
    elementwise(
        "float32",
        bounds=lambda a: a,
        number=lambda a: a,
        dtype="real",
        real=True,
        gradient=lambda y, g, a: (g,),
        log=lambda y, log, a: log(a),
    ),
    elementwise(
        "final",
        bounds=lambda a: a,
        number=lambda a: a,
        whole="kept",
        gradient=lambda y, g, a: (g,),
        log=lambda y, log, a: log(a),
    ),
)
_COMPARISONS = (
    _two("lt", bounds=(0.0, 1.0), dtype="bool", real=True, gradient=_flat),
    _two("le", bounds=(0.0, 1.0), dtype="bool", real=True, gradient=_flat),
    _two("gt", bounds=(0.0, 1.0), dtype="bool", real=True, gradient=_flat),
    _two("ge", bounds=(0.0, 1.0), dtype="bool", real=True, gradient=_flat),
    _two("eq", bounds=(0.0, 1.0), dtype="bool", gradient=_flat),
    _two("ne", bounds=(0.0, 1.0), dtype="bool", gradient=_flat),
)
OPS = (
    *_ONE,
    _two("add", bounds=intervals.add, number=operator.add, whole="kept", gradient=lambda y, g, a, b: (g, g)),
    _two(
        "sub",
        bounds=intervals.sub,
        number=operator.sub,
        whole="kept",
        gradient=lambda y, g, a, b: (g, -g),
        log=_log_of_the_rest,
    ),
    _two(
        "mul",
        bounds=intervals.mul,
        number=operator.mul,
        whole="kept",
        gradient=lambda y, g, a, b: (g * b, g * a),
        log=lambda y, log, a, b: log(a) + log(b),
    ),
    _two(
        "div",
        bounds=intervals.div,
        number=operator.truediv,
        gradient=lambda y, g, a, b: (g / b, -g * y / b),
        log=lambda y, log, a, b: log(a) - log(b),
    ),
    _two(
        "pow",
        bounds=intervals.power,
        number=power,
        gradient=lambda y, g, a, b: (g * b * a ** (b - 1), g * y * apply("log", a)),
        log=lambda y, log, a, b: log(a) * b,
    ),
    _two(
        "mod",
        bounds=intervals.mod,
        whole="kept",
        real=True,
        gradient=lambda y, g, a, b: (g, -g * apply("floor", a / b)),
    ),
    _two("maximum", bounds=intervals.larger, number=max, whole="kept", real=True, gradient=_shared),
    _two("minimum", bounds=intervals.smaller, number=min, whole="kept", real=True, gradient=_shared),
    _two("complex", dtype="complex", real=True),
    _two("polar", dtype="complex", real=True),
    *_COMPARISONS,
    elementwise(
        "where",
        "condition",
        "a",
        "b",
        bounds=lambda condition, a, b: intervals.union(a, b),
        whole="kept",
        gradient=_chosen,
    ),
    elementwise("clamp", attributes=("low", "high"), bounds=_clamped, whole="kept", real=True, gradient=_within),
)
UNARY = frozenset(op.name for op in _ONE)
COMPARE = frozenset(op.name for op in _COMPARISONS)
