"""The functions that a spec may call. Each turns arguments into IR nodes; its annotations say what the arguments are.

Node: a value · Operator: a value or an operator · Axis, tuple[Axis, ...]: dims · int, float: arithmetic over dims and constants · bool · Symbol: a bare word ·
Init: an initialiser (ssir.spec.init) · list[Node]: values in brackets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssir.registry import Registry


def register(registry: Registry) -> None:
    from ssir.functions import algebra, elementwise, learned, operators, random, reductions, shapes, systems

    for module in (algebra, elementwise, reductions, learned, shapes, systems, operators, random):
        module.register(registry)
