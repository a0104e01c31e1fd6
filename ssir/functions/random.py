"""What is random while training, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ssir.ir.graph import Axis, Node
from ssir.ir.op import names
from ssir.ir.ops import is_elementwise
from ssir.spec.build import Site

if TYPE_CHECKING:
    from ssir.registry import Registry


def dropout(
    cx: Site, a: Node, rate: Node, over: tuple[Axis, ...] = (), each: Literal["step", "sequence"] = "step"
) -> Node:
    """While training each entry of a is zero with the probability rate, and divided by 1 - rate otherwise (arXiv:1207.0580); else a as it is.

    Along the axes ``over`` all entries share their fate. each=sequence draws once for all steps of a call: of a state (arXiv:1512.05287), or,
    over all axes, of a branch (arXiv:1603.09382). rate is a number, or made of numbers and `layer`.
    """
    if not _is_rate(cx, rate):
        cx.fail("SSIR019", "a rate is made of numbers and `layer`", "rate", help="write a number from 0 up to 1")
    if rate.op == "const":
        value = rate.attrs["value"]
        if not 0 <= value < 1:
            cx.fail("SSIR018", f"a rate is a probability below 1, not {value:g}", "rate", help="write 0.1, say")
        if value == 0:
            return a
    return cx.emit("dropout", (a, rate), over=names(over), each=each)


def _is_rate(cx: Site, node: Node) -> bool:
    if node.op in ("const", "layer"):
        return True
    return is_elementwise(node.op) and all(_is_rate(cx, cx.builder.nodes[name]) for name in node.inputs)


def register(registry: Registry) -> None:
    registry.function(dropout)
