"""How operations are spelled in C."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isinf, isnan

from ssir.ir.ops import TABLE
from ssir.registry import registry


class Unfit(Exception):
    """Why something cannot be written as loops, in words."""


SPELLED: Mapping[str, str] = {  # elementwise operations of the core
    "neg": "(-{0})",
    "square": "({0} * {0})",
    "rsqrt": "((REAL)1 / sqrt_({0}))",
    "silu": "({0} * sigmoid_({0}))",
    "relu": "maximum_({0}, 0)",
    "elu": "({0} > 0 ? {0} : expm1_({0}))",
    "reciprocal": "((REAL)1 / {0})",
    "detach": "{0}",
    "float32": "{0}",
    "final": "{0}",
    "real": "{0}",
    **{
        name: f"{name}_({{0}})"
        for name in "exp expm1 log log1p sqrt abs sign floor ceil round sin cos tan tanh arctan sigmoid logsigmoid gelu gelu_tanh softplus erf".split()
    },
    "add": "({0} + {1})",
    "sub": "({0} - {1})",
    "mul": "({0} * {1})",
    "div": "({0} / {1})",
    "pow": "pow_({0}, {1})",
    "mod": "({0} - {1} * floor_({0} / {1}))",
    "maximum": "maximum_({0}, {1})",
    "minimum": "minimum_({0}, {1})",
    "lt": "(REAL)({0} < {1})",
    "le": "(REAL)({0} <= {1})",
    "gt": "(REAL)({0} > {1})",
    "ge": "(REAL)({0} >= {1})",
    "eq": "(REAL)({0} == {1})",
    "ne": "(REAL)({0} != {1})",
    "where": "({0} != 0 ? {1} : {2})",
}
REDUCED: Mapping[str, tuple[str, str]] = {
    "sum": ("0", "{0} + {1}"),
    "mean": ("0", "{0} + {1}"),
    "dot": ("0", "{0} + {1}"),
    "max": ("-INFINITY", "maximum_({0}, {1})"),
    "min": ("INFINITY", "minimum_({0}, {1})"),
}
"""By operation that runs over axes, what it starts from, and how one more joins."""
JOINED = frozenset({"clamp", "concat", "pack", "embed"})
"""What is written out by itself."""
CHOSEN = "dot of chosen"
"""matrix, operand, choice {over, axis}: a dot, wanted only where the choice along an axis of the matrix is not zero; zero elsewhere."""
LEAVES = frozenset({"input", "const", "arange"})
"""What is not computed."""
VIEWS = frozenset({"rename", "expand", "split", "merge", "slice", "select"})
"""What is read from where its operand lies, at another index."""


def spelled(op: str) -> str | None:
    """An elementwise operation, the core's or a plugin's; None if it has no spelling."""
    if op in TABLE:
        return SPELLED.get(op)
    return getattr(registry.get("op", op), "c", None)


def literal(value: float) -> str:
    """A number as C."""
    if isnan(value):
        return "(REAL)NAN"
    if isinf(value):
        return "(REAL)INFINITY" if value > 0 else "(-(REAL)INFINITY)"
    return f"(REAL){float(value)!r}" if value >= 0 else f"((REAL){float(value)!r})"


def indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
