"""Mathematics as a tree, and as a line of text: 1 − exp(2·log_a), √(1 − a²), exp(−Δ·exp(A_log)).

What is said of a graph (ssir.draw.formula) and of the expressions of a spec (ssir.latex) is this tree; ssir.latex.typeset prints it as LaTeX.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ssir.draw.words import COMPARISONS, SUBSCRIPTS, SUPERSCRIPTS, number


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Sign:
    """A name, the paper's or the spec's. ``of``: what a weight or a coefficient is named after; ``at``: its indices; ``up``: the layer, or
    the state whose it is."""

    text: str
    at: tuple[Maths, ...] = ()
    of: tuple[Maths, ...] = ()
    up: Maths | None = None


@dataclass(frozen=True)
class Sum:
    """A ``Negative`` among the terms is subtracted."""

    terms: tuple[Maths, ...]


@dataclass(frozen=True)
class Negative:
    value: Maths


@dataclass(frozen=True)
class Product:
    """``signs`` stand between the factors: · (plain), ⊙ (entry by entry), ⊗ (outer), mod, or nothing."""

    factors: tuple[Maths, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True)
class Quotient:
    above: Maths
    below: Maths


@dataclass(frozen=True)
class Power:
    base: Maths
    exponent: Maths


@dataclass(frozen=True)
class Root:
    value: Maths


@dataclass(frozen=True)
class Apply:
    """A function of some values; ``along`` is the axis or the index that it acts along."""

    function: str
    values: tuple[Maths, ...]
    along: Maths | None = None


@dataclass(frozen=True)
class Compare:
    """``op`` is that of the IR: lt, le, ..."""

    op: str
    left: Maths
    right: Maths


@dataclass(frozen=True)
class Cases:
    condition: Maths
    then: Maths
    other: Maths


@dataclass(frozen=True)
class Entry:
    """An entry of a value, by its place along an axis; or those from it to ``stop``."""

    value: Maths
    index: Maths
    stop: Maths | None = None


@dataclass(frozen=True)
class At:
    """The indices of what is no name."""

    value: Maths
    at: tuple[Maths, ...]


@dataclass(frozen=True)
class Series:
    """A sum, or the largest, over an index from one place to another."""

    function: str
    index: Maths
    start: Maths | None
    stop: Maths | None
    value: Maths


@dataclass(frozen=True)
class Inner:
    """The sum of products of entries along axes."""

    left: Maths
    right: Maths
    along: Maths


@dataclass(frozen=True)
class Decorated:
    """``how``: bar, transpose, inverse, floor, ceil or abs."""

    how: str
    value: Maths


@dataclass(frozen=True)
class Listed:
    """Values side by side, in these brackets, with this between them."""

    values: tuple[Maths, ...]
    brackets: str = "()"
    between: str = ","


@dataclass(frozen=True)
class Matrix:
    rows: tuple[tuple[Maths, ...], ...]


Maths = (
    Number
    | Sign
    | Sum
    | Negative
    | Product
    | Quotient
    | Power
    | Root
    | Apply
    | Compare
    | Cases
    | Entry
    | At
    | Series
    | Inner
    | Decorated
    | Listed
    | Matrix
)

# How tightly a formula holds together: a sum, a product, a power, an atom.
SUM, PRODUCT, POWER, ATOM = range(4)
START = Sign("start")
_HOLE = Sign("·")


def tightness(tree: Maths) -> int:
    match tree:
        case Number(value):
            return ATOM if value >= 0 else SUM
        case Sum() | Compare():
            return SUM
        case Cases(condition):
            return SUM if condition == START else ATOM
        case Negative() | Product() | Quotient() | Series():
            return PRODUCT
        case Power() | Root():
            return POWER
    return ATOM


def negative(tree: Maths) -> Maths:
    match tree:
        case Negative(value):
            return value
        case Number(value) if value:
            return Number(-value)
    return Negative(tree)


def product(factors: Iterable[Maths], signs: tuple[str, ...] | None = None) -> Maths:
    """Signs go to the front: Δ·(−a) is written −Δ·a; x·x is written x²."""
    parts = list(factors)
    minus = False
    for i, part in enumerate(parts):
        if isinstance(part, Negative) or (i == 0 and isinstance(part, Number) and part.value < 0):
            parts[i], minus = negative(part), not minus
    if len(parts) == 2 and parts[0] == parts[1]:
        found: Maths = Power(parts[0], Number(2))
    else:
        found = Product(tuple(parts), signs or ("·",) * (len(parts) - 1))
    return Negative(found) if minus else found


def difference(left: Maths, right: Maths) -> Maths:
    return Sum((left, Negative(right)))


def text(tree: Maths) -> str:
    """A line of plain text."""
    match tree:
        case Number(value):
            return number(value)
        case Sign(name):
            return name
        case Sum(terms):
            parts = [within(terms[0], SUM)]
            for term in terms[1:]:
                parts.append(
                    f" − {within(term.value, PRODUCT)}" if isinstance(term, Negative) else f" + {within(term, SUM)}"
                )
            return "".join(parts)
        case Negative(value):
            return f"−{within(value, PRODUCT)}"
        case Product(factors, signs):
            tight = POWER if "⊗" in signs else PRODUCT
            texts = ["(·)" if factor == _HOLE else within(factor, tight) for factor in factors]
            return texts[0] + "".join(sign + one for sign, one in zip(signs, texts[1:], strict=True))
        case Quotient(above, below):
            return f"{within(above, PRODUCT)} / {within(below, POWER)}"
        case Power(base, Number(value)):
            return within(base, ATOM) + number(value).replace("−", "-").translate(SUPERSCRIPTS)
        case Power(base, exponent):
            return f"{within(base, ATOM)}^{within(exponent, ATOM)}"
        case Root(value):
            return f"√{within(value, ATOM)}"
        case Compare(op, left, right):
            return f"{within(left, SUM)} {COMPARISONS[op]} {within(right, SUM)}"
        case Cases(condition, then, other):
            if condition == START:
                return f"{text(other)}; {text(then)} at start"
            return f"where({text(condition)}, {text(then)}, {text(other)})"
        case Entry(value, Number(index), None):
            return within(value, ATOM) + str(int(index)).translate(SUBSCRIPTS)
        case Entry(value, index, stop):
            return f"{within(value, ATOM)}[{text(index)}{'' if stop is None else f':{text(stop)}'}]"
        case Apply(function, values):
            return f"{function}({', '.join(map(text, values))})"
    raise AssertionError(f"no graph is said as {type(tree).__name__}")


def within(tree: Maths, at_least: int) -> str:
    """``text``, in brackets if it holds together less tightly."""
    return text(tree) if tightness(tree) >= at_least else f"({text(tree)})"
