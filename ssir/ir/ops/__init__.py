"""The table of the core's operations."""

from __future__ import annotations

from ssir.ir.op import Op
from ssir.ir.ops import axes, elementwise, program, random, sources, sums, systems

MODULES = (elementwise, sums, axes, systems, random, sources, program)
TABLE: dict[str, Op] = {op.name: op for module in MODULES for op in module.OPS}


def operation(name: str) -> Op:
    """What an operation is, the core's or a plugin's."""
    if name in TABLE:
        return TABLE[name]
    from ssir.registry import registry

    found: Op = registry.require("op", name).op
    return found


def is_elementwise(name: str) -> bool:
    """Whether an operation, if it is one, makes each entry from one entry of each operand."""
    if name in TABLE:
        return TABLE[name].elementwise
    from ssir.registry import registry

    plugin = registry.get("op", name)
    return plugin is not None and plugin.op.elementwise
