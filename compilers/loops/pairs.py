"""Complex numbers as pairs of real ones: a builder that takes both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ssir.compilers.loops.spelling import Unfit
from ssir.ir.builder import GraphBuilder, Operand, Value
from ssir.ir.graph import Axis, Type

PARTS = "re_im"
"""The axis along which the parts of a complex number lie in memory."""


def lying(type: Type) -> Type:
    """The type of complex numbers as they lie in memory."""
    return replace(type, axes=(*type.axes, Axis(PARTS, 2)), dtype="real")


class Pair(Value):
    """A complex value. Its parts may lack axes that the other has."""

    __slots__ = ("im", "re")

    def __init__(self, builder: GraphBuilder, re: Value, im: Value) -> None:
        super().__init__(builder, re.node)
        self.re, self.im = re, im

    @property
    def type(self) -> Type:
        whole = self.builder("add", self.re, self.im).type
        return replace(whole, dtype="complex")

    @property
    def number(self) -> float | None:
        return None


class PairBuilder(GraphBuilder):
    """A builder whose operations are defined for pairs too."""

    def __call__(self, op: str, *operands: Operand, name: str | None = None, **attributes: Any) -> Value:
        if op == "complex":
            return Pair(self, *(one if isinstance(one, Value) else self.number(one) for one in operands))
        if op == "polar":
            size, angle = operands
            return Pair(self, self("mul", size, self("cos", angle)), self("mul", size, self("sin", angle)))
        if not any(isinstance(one, Pair) for one in operands):
            return super().__call__(op, *operands, name=name, **attributes)
        if op in _PARTWISE:
            parts = [self(op, *(_part(self, one, k) for one in operands), **attributes) for k in (0, 1)]
            return Pair(self, *parts)
        if op in ("select", "where"):
            return self._chosen(op, operands, attributes)
        if op not in _RULES:
            raise Unfit(f"`{op}` is not spelled for complex numbers")
        return _RULES[op](self, *operands, **attributes)

    def _chosen(self, op: str, operands: tuple[Operand, ...], attributes: Mapping[str, Any]) -> Value:
        """What an operand that is real, the index or the condition, chooses of each part."""
        at = 1 if op == "select" else 0
        parts = []
        for k in (0, 1):
            given = [one if i == at else _part(self, one, k) for i, one in enumerate(operands)]
            parts.append(self(op, *given, **attributes))
        return Pair(self, *parts)

    def lain(self, pair: Value) -> Value:
        """A value as it lies in memory."""
        return self("pack", pair.re, pair.im, axis=PARTS) if isinstance(pair, Pair) else pair

    def read(self, raw: Value) -> Pair:
        """The complex value that lies in memory so."""
        return Pair(self, *(self("select", raw, k, axis=PARTS) for k in (0, 1)))


_PARTWISE = frozenset("add sub neg rename expand split merge slice concat pack sum mean detach".split())


def _part(b: GraphBuilder, one: Operand, k: int) -> Operand:
    if isinstance(one, Pair):
        return one.im if k else one.re
    return 0 if k else one


def _times(b: PairBuilder, x: Operand, y: Operand) -> Value:
    return _product(b, x, y, lambda one, other: b("mul", one, other))


def _dot(b: PairBuilder, x: Value, y: Value, over: tuple[str, ...]) -> Value:
    return _product(b, x, y, lambda one, other: b.dot(one, other, over))


def _product(b: PairBuilder, x: Any, y: Any, times: Callable[[Any, Any], Value]) -> Value:
    """The product of two numbers, one of which may be real."""
    if not isinstance(x, Pair):
        return Pair(b, times(x, y.re), times(x, y.im))
    if not isinstance(y, Pair):
        return Pair(b, times(x.re, y), times(x.im, y))
    return Pair(b, times(x.re, y.re) - times(x.im, y.im), times(x.re, y.im) + times(x.im, y.re))


def _divided(b: PairBuilder, x: Any, y: Any) -> Value:
    if isinstance(y, Pair):
        return b("mul", x, b("reciprocal", y))
    return Pair(b, b("div", x.re, y), b("div", x.im, y))


def _inverse(b: PairBuilder, x: Any) -> Value:
    size = x.re * x.re + x.im * x.im
    return Pair(b, x.re / size, -x.im / size)


def _exp(b: PairBuilder, x: Any) -> Value:
    size = b("exp", x.re)
    return Pair(b, size * b("cos", x.im), size * b("sin", x.im))


_RULES: Mapping[str, Callable[..., Value]] = {
    "mul": _times,
    "div": _divided,
    "dot": _dot,
    "square": lambda b, x: _times(b, x, x),
    "reciprocal": _inverse,
    "exp": _exp,
    "real": lambda b, x: x.re,
    "imag": lambda b, x: x.im,
    "conj": lambda b, x: Pair(b, x.re, -x.im),
    "abs": lambda b, x: b("sqrt", x.re * x.re + x.im * x.im),
}
COMPLEX = frozenset({*_PARTWISE, *_RULES, "complex", "polar"})
"""The operations on complex numbers that a pair has."""
