"""What is drawn anew in every call while training: the masks of dropout.

`dropout` is what a spec says. The passes leave it out of what is evaluated, and in what is trained write it as a product with `kept`: zero where
an entry is dropped, else 1 / (1 - rate).
"""

from __future__ import annotations

from ssir.ir.graph import Type
from ssir.ir.op import DECLARED, Op, TypeFault, Use


def _dropout(use: Use) -> Type:
    a = use.of("a")
    use.has("a", use["over"], "over")
    if a.dtype not in ("real", "complex"):
        raise TypeFault("SSIR019", "only real and complex numbers are dropped", "a", "drop what is made of it")
    return Type(a.axes, a.dtype, absent=a.absent)


OPS = (
    Op("dropout", ("a", "rate"), ("over", "each"), _dropout),
    Op("kept", ("rate",), ("mask", "each"), DECLARED),
)
