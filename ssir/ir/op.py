"""What an operation of the IR is: its operands and attributes, and the rule that gives the type of its result.

The rule says axes, sizes, dtype and which slots may be absent; the dependence is inferred for a graph as a whole. ``partial`` is the
rule where an operand stands on a cycle whose axes are still being inferred: what can be said all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf, isnan, prod
from typing import Any, Literal

from ssir.ir.graph import Axis, Type
from ssir.ir.intervals import ANYTHING, Interval

UNKNOWN = "unknown"
"""The dtype of a value on a cycle whose axes are still being inferred."""


class TypeFault(ValueError):
    """Operands or attributes that do not fit: what a spec is told, and the argument that is at fault, if it is one."""

    def __init__(self, code: str, message: str, argument: str | None = None, help: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.argument, self.help = code, message, argument, help


class AxesError(TypeFault):
    """Axes of one name and two sizes."""

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__("SSIR015", message, argument, "rename one of the axes, or give both the same size")


@dataclass(frozen=True)
class Use:
    """An operation with what it is used on: the types of its operands, its attributes."""

    op: Op
    types: tuple[Type, ...]
    attrs: Mapping[str, Any]

    def __getitem__(self, attribute: str) -> Any:
        return self.attrs[attribute]

    def of(self, operand: str) -> Type:
        return self.types[self.op.operands.index(operand)]

    def axes(self, attribute: str) -> tuple[Axis, ...]:
        """The axes that an attribute makes: pairs of name and size."""
        return tuple(Axis(*pair) for pair in self.attrs[attribute])

    def has(self, operand: str, axes: Iterable[Axis | str], argument: str) -> None:
        """Check that an operand has these axes, of these sizes."""
        check_over(self.of(operand), axes, argument)


Rule = Callable[[Use], Type]
Bounds = Interval | Callable[..., Interval]
Whole = Literal["never", "kept", "always"]
Gradient = Callable[..., Sequence[Any]]
Log = Callable[..., Any]


def unknown(use: Use) -> Type:
    return Type(dtype=UNKNOWN)


def same(use: Use) -> Type:
    """The type of the first operand."""
    return use.types[0]


def DECLARED(use: Use) -> Type:
    """The rule of what says its own type."""
    raise AssertionError(f"the type of a `{use.op.name}` is declared")


@dataclass(frozen=True)
class Op:
    """``operands`` and ``attributes``: their names, with ``?`` behind what may be missing, and ``*`` behind operands of any number.

    What is known of the values: ``bounds``, where they lie, by themselves or given where the operands do (attributes go by name);
    ``number``, the value for operands that are numbers; ``whole``, whether they are whole numbers, always or where the operands are.

    ``gradient(y, g, *operands)``: from the result and the gradient with respect to it, as values of a graph that is being built
    (ssir.ir.builder), those with respect to the operands: None where it is zero everywhere; one that an operand is broadcast from may
    have more axes than the operand. An operation without it cannot be differentiated in the IR.

    ``log(log, *operands)``: the logarithm of a result that is not negative, as a value of a graph that is being built; ``log`` gives that of
    an operand. None where these operands do not allow it.

    ``elementwise``: one entry of the result from one entry of each operand, broadcast by name. ``work``: floating-point operations an entry.
    """

    name: str
    operands: tuple[str, ...]
    attributes: tuple[str, ...]
    rule: Rule
    partial: Rule = unknown
    bounds: Bounds | None = None
    number: Callable[..., float] | None = None
    whole: Whole = "never"
    gradient: Gradient | None = None
    log: Log | None = None
    elementwise: bool = False
    work: int = 1

    @property
    def declared(self) -> bool:
        """Whether a node of it says its own type."""
        return self.rule is DECLARED

    def __str__(self) -> str:
        """name{attributes}(operands)"""
        attributes = f"{{{', '.join(self.attributes)}}}" if self.attributes else ""
        return f"{self.name}{attributes}" + (f"({', '.join(self.operands)})" if self.operands else "")

    def misfit(self, count: int, attributes: Iterable[str]) -> str | None:
        """What is wrong with so many operands and these attributes."""
        most = inf if any(name.endswith("*") for name in self.operands) else len(self.operands)
        least = sum(name[-1] not in "*?" for name in self.operands)
        if not least <= count <= most:
            return f"has {count} operands for {self}"
        given = set(attributes)
        missing = [name for name in self.attributes if name[-1] != "?" and name not in given]
        foreign = given - {name.removesuffix("?") for name in self.attributes}
        if missing or foreign:
            return f"has the attributes {', '.join(sorted(given)) or 'none'} for {self}"
        return None

    def interval(self, attrs: Mapping[str, Any], operands: Sequence[Interval]) -> Interval:
        """Where the result lies if the operands lie in these intervals."""
        if not callable(self.bounds):
            return self.bounds or ANYTHING
        found = self.bounds(*operands, **attrs)
        return ANYTHING if any(isnan(x) for x in found) else found

    def result(self, types: Sequence[Type], attrs: Mapping[str, Any]) -> Type:
        """The type of the result. Raises TypeFault."""
        use = Use(self, tuple(types), attrs)
        return self.partial(use) if any(type.dtype == UNKNOWN for type in types) else self.rule(use)


# What rules are made of.


def shown(axis: Axis) -> str:
    return "unbounded" if axis.size is None else str(axis.size)


def listed(axes: Iterable[Axis]) -> str:
    return ", ".join(map(str, axes))


def product(axes: Iterable[Axis]) -> str:
    """a * b is 2 * 3 = 6"""
    axes = tuple(axes)
    words = f"{' * '.join(names(axes))} is {' * '.join(map(shown, axes))}"
    return words + (f" = {prod(axis.size or 0 for axis in axes)}" if len(axes) > 1 else "")


def names(axes: Iterable[Axis]) -> tuple[str, ...]:
    return tuple(axis.name for axis in axes)


def pairs(axes: Iterable[Axis]) -> tuple[tuple[str, int | None], ...]:
    """Axes as an attribute that makes them has them."""
    return tuple((axis.name, axis.size) for axis in axes)


def called(names: Sequence[str], axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """The first of these axes, by these names."""
    return tuple(Axis(name, axis.size) for name, axis in zip(names, axes, strict=False))


def broadcast(types: Iterable[Type], argument: str | None = None) -> tuple[Axis, ...]:
    """The axes of an elementwise result: those of the operand with most, then what the others add.

    Raises AxesError, at an argument, if an axis has two sizes.
    """
    ranked = sorted(types, key=lambda t: -len(t.axes))
    result: dict[str, Axis] = {}
    for axis in chain.from_iterable(t.axes for t in ranked):
        known = result.setdefault(axis.name, axis)
        if known.size != axis.size:
            words = f"axis `{axis.name}` has size {shown(known)} on one side and {shown(axis)} on the other"
            raise AxesError(words, argument)
    return tuple(result.values())


def absent(types: Iterable[Type], without: Sequence[str] = ()) -> tuple[tuple[str, int], ...]:
    """The axes of a result whose slots may be absent: the later arrival counts."""
    lags: dict[str, int] = {}
    for name, lag in chain.from_iterable(t.absent for t in types):
        if name not in without:
            lags[name] = max(lag, lags.get(name, lag))
    return tuple(sorted(lags.items()))


def promote(types: Iterable[Type]) -> str:
    """The dtype of arithmetic: complex if any operand is, else real."""
    return "complex" if any(t.dtype == "complex" for t in types) else "real"


def without(type: Type, gone: Iterable[str]) -> tuple[Axis, ...]:
    taken = set(gone)
    return tuple(axis for axis in type.axes if axis.name not in taken)


def check_real(op: str, types: Iterable[Type]) -> None:
    if any(type.dtype == "complex" for type in types):
        help = "take real(...), imag(...) or abs(...) of it first"
        raise TypeFault("SSIR019", f"`{op}` is not defined for complex numbers", None, help)


def check_finite(axes: Iterable[Axis], argument: str, what: str) -> None:
    for axis in axes:
        if axis.size is None:
            words = f"{what} needs a finite axis, and `{axis.name}` is unbounded"
            raise TypeFault("SSIR018", words, argument, "name one that has a size")


def check_over(type: Type, axes: Iterable[Axis | str], argument: str) -> None:
    """Check that a value has these axes; those that are given with a size, of that size."""
    for axis in axes:
        name = axis if isinstance(axis, str) else axis.name
        if name not in type.names:
            has = f"[{listed(type.axes)}]" if type.axes else "no axes"
            help = f"name one of its axes: {', '.join(type.names)}" if type.axes else None
            raise TypeFault("SSIR014", f"there is no axis `{name}` here: the value has {has}", argument, help)
        found = type.axis(name)
        if isinstance(axis, Axis) and found.size != axis.size:
            words = f"axis `{name}` is {shown(found)} here, not {shown(axis)}"
            raise TypeFault("SSIR015", words, argument, "name the axis that the value has")
