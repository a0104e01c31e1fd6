"""What a plan makes of systems: memories that are read and written by name, kernels, loops.

These stand in programs (ssir.compilers.program), never in the graph of a spec. ``memory`` is the state that a memory is of; ``kind`` how its
numbers are kept: ``data`` in the dtype of the data, ``wide`` in float32 at least, ``complex``.
"""

from __future__ import annotations

from ssir.ir.graph import Type
from ssir.ir.op import DECLARED, Op, TypeFault, Use, absent, broadcast, promote, same, without


def _order(use: Use) -> Type:
    a, axes = use.of("a"), use["axes"]
    if sorted(axes) != sorted(a.names):
        raise TypeFault("SSIR014", f"the value has the axes {', '.join(a.names)}, not {', '.join(axes)}", "axes")
    return Type(tuple(a.axis(name) for name in axes), a.dtype, absent=a.absent)


def _contract(use: Use) -> Type:
    over = use["over"]
    use.has("a", over, "a")
    use.has("b", over, "b")
    return Type(without(Type(broadcast(use.types)), over), promote(use.types), absent=absent(use.types, over))


OPS = (
    # Values.
    Op("cast", ("a",), ("to",), same),
    Op("order", ("a",), ("axes",), _order),
    Op("spread", ("a",), ("axes", "kind"), DECLARED),
    Op("contract", ("a", "b"), ("over",), _contract),  # as a dot, in the widest dtype of the two
    # Memories. In a step, or before the first.
    Op("old", ("start?",), ("memory", "kind", "fill"), DECLARED),
    Op("new", ("a",), ("memory",), DECLARED),
    Op("first", ("start?",), ("memory", "kind", "fill", "slots"), DECLARED),
    # Over a sequence: the memory before each step.
    Op("before", ("h", "start?"), ("memory", "fill"), DECLARED),
    # Registers: entries, oldest first, with what a call enters, or without; a window of slots at each step; how
    # long ago each entry came; their sum, weighed.
    Op("push", ("x", "start?"), ("memory", "kind", "axis", "size"), DECLARED),
    Op("held", ("start?",), ("memory", "kind", "axis", "size"), DECLARED),
    Op("past", (), ("memory", "kind", "axis", "entries"), DECLARED),
    Op("keep", ("x",), ("memory", "size"), DECLARED),
    Op("slots", ("entries", "start?"), ("kind", "axis", "size", "lag"), DECLARED),
    Op("distances", ("entries",), ("kind",), DECLARED),
    Op("weigh", ("slots", "weights"), ("over",), DECLARED),
    # Algorithms.
    Op(
        "kernel",
        ("operands*",),
        ("function", "takes", "gives", "sizes", "memories", "held", "several", "with", "behind", "options"),
        DECLARED,
    ),
    Op("loop", ("values*",), ("body", "memories"), DECLARED),
    Op(
        "compiled_loop",
        ("values*",),
        ("body", "memories", "started", "columns", "constants", "results", "affine", "newton"),
        DECLARED,
    ),
    Op("result", ("loop",), ("index",), DECLARED),
)
PROGRAM = frozenset(op.name for op in OPS)
