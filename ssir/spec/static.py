"""Arithmetic that is done once, when a spec is read: dims, constants, and numbers in calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ssir.errors import nearest
from ssir.ir.ops.elementwise import power
from ssir.spec import expr as syntax


class StaticError(Exception):
    """Arithmetic that cannot be done: a message and the offsets of the fault in the expression."""

    def __init__(self, code: str, message: str, start: int, end: int, help: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.start, self.end, self.help = code, message, start, end, help


FUNCTIONS: Mapping[str, tuple[int, Callable[..., float]]] = {
    "ceil": (1, math.ceil),
    "floor": (1, math.floor),
    "round": (1, round),
    "sqrt": (1, math.sqrt),
    "log2": (1, math.log2),
    "log": (1, math.log),
    "exp": (1, math.exp),
    "abs": (1, abs),
    "min": (2, min),
    "max": (2, max),
}
NUMBERS: Mapping[str, float] = {"pi": math.pi, "inf": math.inf}
"""Constants of the language; a node, an input, a dim or a constant of the same name stands before them."""
_LARGEST = 1e300


def is_static(expression: syntax.Expr, names: Mapping[str, float | None]) -> bool:
    """Whether only numbers and these names are used."""
    match expression:
        case syntax.Number():
            return True
        case syntax.Name(id=name):
            return names.get(name, NUMBERS.get(name)) is not None
        case syntax.Unary(operand=operand):
            return is_static(operand, names)
        case syntax.Binary(left=left, right=right):
            return is_static(left, names) and is_static(right, names)
        case syntax.Call(function=function, args=args, kwargs=()):
            return function in FUNCTIONS and all(is_static(arg, names) for arg in args)
    return False


def evaluate(expression: syntax.Expr, names: Mapping[str, float | None]) -> float:
    """The number that an expression stands for. Raises StaticError."""
    match expression:
        case syntax.Number(value=value):
            return value
        case syntax.Name(id=name, start=start, end=end):
            if name not in names and name in NUMBERS:
                return NUMBERS[name]
            if name not in names:
                near = nearest(name, names)
                raise StaticError(
                    "SSIR011",
                    f"no dim or constant is called `{name}`",
                    start,
                    end,
                    f"the nearest is `{near}`" if near else None,
                )
            known = names[name]
            if known is None:
                raise StaticError("SSIR018", f"`{name}` is unbounded: it has no size to reckon with", start, end)
            return known
        case syntax.Unary(operand=operand):
            return -evaluate(operand, names)
        case syntax.Binary(op=op, left=left, right=right, start=start, end=end):
            return _binary(op, evaluate(left, names), evaluate(right, names), start, end)
        case syntax.Call(function=function, args=args, kwargs=kwargs, start=start, end=end):
            if function not in FUNCTIONS:
                raise StaticError(
                    "SSIR012",
                    f"`{function}` is not a function of numbers",
                    start,
                    end,
                    f"there are {', '.join(FUNCTIONS)}",
                )
            count, call = FUNCTIONS[function]
            if kwargs or len(args) != count:
                raise StaticError("SSIR013", f"`{function}` takes {count} numbers", start, end)
            try:
                return call(*(evaluate(arg, names) for arg in args))
            except (ValueError, OverflowError) as error:
                raise StaticError("SSIR018", f"`{function}` of this has no value: {error}", start, end) from None
    raise StaticError("SSIR019", "a number is needed here", expression.start, expression.end)


def _binary(op: str, a: float, b: float, start: int, end: int) -> float:
    try:
        match op:
            case "+":
                value: float = a + b
            case "-":
                value = a - b
            case "*":
                value = a * b
            case "/":
                value = a // b if isinstance(a, int) and isinstance(b, int) and b and a % b == 0 else a / b
            case "%":
                value = a % b
            case _:
                value = power(a, b)
        if isinstance(value, complex) or not math.isfinite(value) or abs(value) > _LARGEST:
            raise OverflowError
    except ZeroDivisionError:
        raise StaticError("SSIR018", "division by zero", start, end, "give the dims other sizes") from None
    except OverflowError:
        raise StaticError("SSIR018", "the number is too large, or not real", start, end, "sizes end at 2**31") from None
    return value
