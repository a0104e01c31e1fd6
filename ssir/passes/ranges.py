"""Where values lie, as far as it can be proved: an interval for each node. An analysis, used by the gates and the plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ssir.ir.graph import Graph, Node

Interval = tuple[float, float]
ANYTHING: Interval = (-math.inf, math.inf)

_FIXED: Mapping[str, Interval] = {
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softmax": (0.0, 1.0),
    "softplus": (0.0, math.inf),
    "relu": (0.0, math.inf),
    "square": (0.0, math.inf),
    "sqrt": (0.0, math.inf),
    "rsqrt": (0.0, math.inf),
    "abs": (0.0, math.inf),
    "logsigmoid": (-math.inf, 0.0),
    "sin": (-1.0, 1.0),
    "cos": (-1.0, 1.0),
    "l2_norm": (-1.0, 1.0),
    "position": (0.0, math.inf),
    "start": (0.0, 1.0),
    "layer": (0.0, math.inf),
}
_SAME = frozenset({"rename", "split", "merge", "slice", "select", "expand", "detach"})


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def _mul(a: Interval, b: Interval) -> Interval:
    corners = [_times(x, y) for x in a for y in b]
    return min(corners), max(corners)


def _power(x: float, y: float) -> float:
    try:
        return float(float(x) ** y)
    except (OverflowError, ZeroDivisionError):
        return math.inf


def _pow(a: Interval, b: Interval) -> Interval:
    if a[0] < 0:
        return ANYTHING
    if a[0] > 0:
        corners = [_power(x, y) for x in a for y in b]
        return min(corners), max(corners)
    return (0.0, 1.0) if a[1] <= 1 and b[0] >= 0 else (0.0, math.inf)


def _div(a: Interval, b: Interval) -> Interval:
    if b[0] <= 0:
        return (0.0, math.inf) if a[0] >= 0 and b[0] == 0 else ANYTHING
    corners = [0.0 if math.isinf(y) else x / y for x in a for y in b]
    return min(corners), max(corners)


def _exp(x: float) -> float:
    return math.inf if x > 700 else math.exp(x)


def _rising(call: Callable[[float], float]) -> Callable[[Interval], Interval]:
    """The rule of a function that never falls."""
    return lambda a: (a[0] if math.isinf(a[0]) else call(a[0]), a[1] if math.isinf(a[1]) else call(a[1]))


_RULES: Mapping[str, Callable[..., Interval]] = {
    "floor": _rising(math.floor),
    "ceil": _rising(math.ceil),
    "round": _rising(round),
    "log": _rising(lambda x: math.log(x) if x > 0 else -math.inf),
    "neg": lambda a: (-a[1], -a[0]),
    "exp": lambda a: (_exp(a[0]), _exp(a[1])),
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "mod": lambda a, b: (0.0, b[1]) if b[0] > 0 else ANYTHING,
    "maximum": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "minimum": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
}


def interval(graph: Graph, name: str) -> Interval:
    """The interval that a real value lies in, both ends included."""
    found: dict[str, Interval] = {}
    path = dict.fromkeys([name])
    while path:
        node = graph[next(reversed(path))]
        known = ANYTHING if node.type.dtype == "complex" else _known(node)
        needed = () if known is not None or not _bounded(node) else node.inputs
        missing = next((other for other in needed if other not in found and other not in path), None)
        if missing is not None:
            path[missing] = None
            continue
        # What is still on the path lies on a cycle: nothing is proved of it.
        operands = [found.get(other, ANYTHING) for other in needed]
        found[node.name] = known if known is not None else _from(node, operands)
        del path[node.name]
    return found[name]


def _bounded(node: Node) -> bool:
    return node.op in _SAME or node.op in _RULES or node.op in ("where", "concat", "pack", "clamp")


def _from(node: Node, operands: list[Interval]) -> Interval:
    """The interval of a node from those of its operands."""
    if node.op in _SAME:
        return operands[0]
    if node.op in ("where", "concat", "pack"):
        parts = operands[1:] if node.op == "where" else operands
        return min(part[0] for part in parts), max(part[1] for part in parts)
    if node.op == "clamp":
        low, high = node.attrs["low"], node.attrs["high"]
        a = operands[0]
        return max(a[0], -math.inf if low is None else low), min(a[1], math.inf if high is None else high)
    if node.op in _RULES:
        found = _RULES[node.op](*operands)
        return ANYTHING if any(math.isnan(x) for x in found) else found
    return ANYTHING


def _known(node: Node) -> Interval | None:
    if node.op == "const":
        return float(node.attrs["value"]), float(node.attrs["value"])
    if node.op == "arange":
        size = node.type.axes[0].size
        return 0.0, math.inf if size is None else size - 1.0
    return _FIXED.get(node.op)
