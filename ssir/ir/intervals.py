"""Arithmetic of intervals: where a result lies, both ends included, if its operands lie in theirs."""

from __future__ import annotations

import math
from collections.abc import Callable

Interval = tuple[float, float]
ANYTHING: Interval = (-math.inf, math.inf)


def rising(call: Callable[[float], float]) -> Callable[[Interval], Interval]:
    """The rule of a function that never falls."""
    return lambda a: (a[0] if math.isinf(a[0]) else call(a[0]), a[1] if math.isinf(a[1]) else call(a[1]))


def union(*parts: Interval) -> Interval:
    return min(part[0] for part in parts), max(part[1] for part in parts)


def exp(a: Interval) -> Interval:
    low, high = (math.inf if x > 700 else math.exp(x) for x in a)
    return low, high


def log(a: Interval) -> Interval:
    return rising(lambda x: math.log(x) if x > 0 else -math.inf)(a)


def neg(a: Interval) -> Interval:
    return -a[1], -a[0]


def add(a: Interval, b: Interval) -> Interval:
    return a[0] + b[0], a[1] + b[1]


def sub(a: Interval, b: Interval) -> Interval:
    return a[0] - b[1], a[1] - b[0]


def mul(a: Interval, b: Interval) -> Interval:
    corners = [0.0 if x == 0 or y == 0 else x * y for x in a for y in b]
    return min(corners), max(corners)


def div(a: Interval, b: Interval) -> Interval:
    if b[0] <= 0:
        return (0.0, math.inf) if a[0] >= 0 and b[0] == 0 else ANYTHING
    corners = [0.0 if math.isinf(y) else x / y for x in a for y in b]
    return min(corners), max(corners)


def power(a: Interval, b: Interval) -> Interval:
    if a[0] < 0:
        return ANYTHING
    if a[0] > 0:
        corners = [_power(x, y) for x in a for y in b]
        return min(corners), max(corners)
    return (0.0, 1.0) if a[1] <= 1 and b[0] >= 0 else (0.0, math.inf)


def _power(x: float, y: float) -> float:
    try:
        return float(float(x) ** y)
    except (OverflowError, ZeroDivisionError):
        return math.inf


def mod(a: Interval, b: Interval) -> Interval:
    return (0.0, b[1]) if b[0] > 0 else ANYTHING


def larger(a: Interval, b: Interval) -> Interval:
    return max(a[0], b[0]), max(a[1], b[1])


def smaller(a: Interval, b: Interval) -> Interval:
    return min(a[0], b[0]), min(a[1], b[1])
