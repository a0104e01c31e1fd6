"""Products and powers as a person writes them: a / √d for a · d^−0.5, nothing between a number and a vector."""

from __future__ import annotations

from collections.abc import Collection

from ssir.draw import maths
from ssir.draw.maths import Maths, Negative, Number, Power, Product, Quotient, Root, Series, Sign, Sum
from ssir.ir.graph import Type

IDENTITY = Sign("I")


def less(when: Maths, by: Maths) -> Maths:
    """t − 1 less 1 is t − 2."""
    terms = when.terms if isinstance(when, Sum) else (when,)
    last = maths.negative(terms[-1])
    if isinstance(by, Number) and isinstance(last, Number) and len(terms) > 1:
        return Sum((*terms[:-1], Negative(Number(last.value + by.value))))
    if isinstance(when, Number) and isinstance(by, Number):
        return Number(when.value - by.value)
    return when if by == Number(0) else Sum((*terms, Negative(by)))


def minus(tree: Maths) -> Maths:
    """−(a − b) is b − a."""
    match tree:
        case Sum((first, Negative(second))):
            return Sum((second, Negative(first)))
    return maths.negative(tree)


def plus(terms: tuple[Maths, ...]) -> Maths:
    return terms[0] if len(terms) == 1 else Sum(terms)


def over(above: Maths, below: Maths) -> Maths:
    """A minus goes in front of a fraction."""
    if isinstance(above, Negative):
        return Negative(Quotient(above.value, below))
    return Quotient(above, below)


def power(base: Maths, exponent: Maths) -> Maths:
    match exponent:
        case Number(value) if value == 0.5:
            return Root(base)
        case Number(value) if value == -0.5:
            return Quotient(Number(1), Root(base))
        case Number(value) if value < 0:
            return Quotient(Number(1), base if value == -1 else Power(base, Number(-value)))
    return Power(base, exponent)


def between(left: Type | None, right: Type | None, indexed: Collection[str] = ()) -> str:
    """The sign of a product: nothing beside a number, ⊙ where entries meet, ⊗ where each side has axes that the other lacks. Along the axes
    that are ``indexed`` there is one entry."""
    if left is None or right is None:
        return "⊙"
    a, b = ({axis.name for axis in kind.axes} - set(indexed) for kind in (left, right))
    if not a or not b:
        return ""
    return "⊗" if a - b and b - a else "⊙"


def times(left: Maths, sign: str, right: Maths) -> Maths:
    """A product; 1 / x among the factors goes below."""
    if IDENTITY in (left, right):
        sign = ""
    if isinstance(right, Quotient) and right.above == Number(1):
        return over(left, right.below)
    if isinstance(left, Quotient) and left.above == Number(1) and not sign and not isinstance(right, Series):
        return over(right, left.below)
    if isinstance(left, Negative) and isinstance(left.value, Product):
        return maths.negative(times(left.value, sign, right))
    if isinstance(left, Product) and set(left.signs) <= {sign, ""} and left != right:
        return maths.product((*left.factors, right), (*left.signs, sign))
    return maths.product((left, right), (sign,))


def applied(operator: Maths, value: Maths) -> Maths:
    """What a matrix makes of a value."""
    return Product((operator, value), ("",))
