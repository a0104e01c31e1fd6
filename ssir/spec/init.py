"""The initialisers of parameters: a small vocabulary, checked here, evaluated by ssir.initial.

An initialiser is arithmetic over numbers, ``layer``, ``arange(axis)`` and draws, closed over dims and constants:
``log(1 + arange(state))``, ``softplus_inverse(log_uniform(0.001, 0.1))``, ``normal(0.02)``, ``zeros``.
"""

from __future__ import annotations

from ssir.ir.ops import UNARY

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
    **dict.fromkeys(UNARY, (1, 1)),
    "softplus_inverse": (1, 1),
    "maximum": (2, 2),
    "minimum": (2, 2),
    "where": (3, 3),
    "arange": (1, 1),
}
