"""The initialisers of parameters: a small vocabulary, checked here, evaluated by ssir.initial.

An initialiser is arithmetic over numbers, ``layer``, ``arange(axis)`` and draws, closed over dims and constants:
``log(1 + arange(state))``, ``softplus_inverse(log_uniform(0.001, 0.1))``, ``normal(0.02)``, ``zeros``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ssir.ir.ops.elementwise import UNARY
from ssir.spec import expr as syntax

WORDS = frozenset({"zeros", "ones", "fan_in", "log_arange", "layer", "orthogonal", "eye"})
DRAWS = {
    "normal": (1, 2),
    "uniform": (2, 2),
    "log_uniform": (2, 2),
    "orthogonal": (0, 1),
    "truncated_normal": (1, 1),
    "fan_in": (0, 1),
}
FUNCTIONS = {
    **dict.fromkeys(UNARY - {"conj", "real", "imag", "detach", "float32", "final"}, (1, 1)),
    "softplus_inverse": (1, 1),
    "maximum": (2, 2),
    "minimum": (2, 2),
    "where": (3, 3),
    "arange": (1, 1),
}


def unfit(tree: syntax.Expr, axes: Sequence[str]) -> str | None:
    """What an initialiser asks of a parameter that these axes do not give; None if all is there."""
    match tree:
        case syntax.Call(function="arange", args=(syntax.Name(id=axis),)):
            known = axis in axes or axis.rstrip("_") in axes
            return None if known else f"`arange({axis})` counts along an axis that the parameter lacks"
        case syntax.Name(id="eye") if len(axes) < 2:
            return "`eye` needs a parameter of two axes"
        case syntax.Name(id="log_arange") if not axes:
            return "`log_arange` counts along the last axis, and the parameter has none"
        case syntax.Unary(operand=operand):
            return unfit(operand, axes)
        case syntax.Binary(left=left, right=right) | syntax.Compare(left=left, right=right):
            return unfit(left, axes) or unfit(right, axes)
        case syntax.Call(args=args):
            return next((words for arg in args if (words := unfit(arg, axes))), None)
    return None
