"""How each operation is written in torch. The meaning is in ssir.reference.ops; the two share nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ssir.compilers.torch.code import Code
from ssir.compilers.torch.elementwise import elementwise
from ssir.compilers.torch.products import PRODUCTS
from ssir.compilers.torch.shapes import SHAPES
from ssir.compilers.torch.sources import SOURCES
from ssir.ir.graph import Node
from ssir.ir.ops import is_elementwise
from ssir.registry import registry

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter


def emit(e: Emitter, node: Node) -> Code:
    """Write a node; its expression."""
    if is_elementwise(node.op):
        return elementwise(e, node)
    if node.op in OTHER:
        return OTHER[node.op](e, node)
    return registry.require("op", node.op).emit(e, node)  # type: ignore[no-any-return]


OTHER: Mapping[str, Callable[[Emitter, Node], Code]] = {**PRODUCTS, **SHAPES, **SOURCES}
