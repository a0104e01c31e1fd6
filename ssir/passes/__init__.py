"""The passes: functions from IR to IR, in the one order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from ssir.ir.graph import Graph
from ssir.ir.verifier import verify
from ssir.passes.affine import find_affine
from ssir.passes.dead import drop_dead
from ssir.passes.dependence import infer_dependence
from ssir.passes.dropout import has_dropout, leave_out, write_out
from ssir.passes.fold import fold_constants
from ssir.passes.gates import find_log_gates
from ssir.passes.merge import merge_equal
from ssir.passes.readout import move_readouts

Pass = Callable[[Graph], Graph]

PASSES: tuple[tuple[str, Pass], ...] = (
    ("fold constants", fold_constants),
    ("merge equal nodes", merge_equal),
    ("leave out dropout", leave_out),
    ("find affine cycles", find_affine),
    ("move readouts into memories", move_readouts),
    ("infer dependence", infer_dependence),
    ("find log A", find_log_gates),
    ("drop dead nodes", drop_dead),
)


def trained(graph: Graph) -> Graph | None:
    """The graph after all passes as it is while training, if that is another than what is evaluated."""
    return run(graph, training=True) if has_dropout(graph) else None


def run(graph: Graph, until: str | None = None, check: bool = False, training: bool = False) -> Graph:
    """The graph after all passes, or after the one named; ``check`` runs the verifier after each."""
    for name, one in PASSES:
        if training and one is leave_out:
            one = write_out
        graph = one(graph)
        if check:
            verify(graph, after=name)
        if name == until:
            break
    return graph
