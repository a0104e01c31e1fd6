"""Computes arithmetic on numbers, and drops arithmetic that changes nothing.   x * (2 * 0.5)   ->   x

What cannot be computed (a division by zero, a number too large) is an error of the spec. Non-goals: folding tensors, and anything that a parameter takes part in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ssir.errors import Diagnostic, SpecError
from ssir.ir.graph import Graph, Node, attrs
from ssir.ir.ops import operation
from ssir.passes.rewrite import bottom_up, swapped

_NEUTRAL = {"add": (0, (0, 1)), "sub": (0, (1,)), "mul": (1, (0, 1)), "div": (1, (1,)), "pow": (1, (1,))}


def fold_constants(graph: Graph) -> Graph:
    return bottom_up(graph, _one)


def _one(graph: Graph) -> Graph:
    changed = True
    while changed:
        changed = False
        nodes: dict[str, Node] = dict(graph.nodes)
        other: dict[str, str] = {}
        for node in graph:
            value = _value(node, nodes)
            if value is not None:
                nodes[node.name] = node.with_(op="const", inputs=(), attrs=attrs(value=value))
                changed = True
            elif (same := _neutral(node, nodes)) is not None:
                other[node.name] = same
                changed = True
        if changed:
            graph = swapped(graph.with_nodes(nodes.values()), other)
    return graph


def _value(node: Node, nodes: Mapping[str, Node]) -> float | None:
    compute = operation(node.op).number
    if compute is None:
        return None
    operands = [nodes[name] for name in node.inputs]
    if any(operand.op != "const" for operand in operands):
        return None
    numbers = [operand.attrs["value"] for operand in operands]
    try:
        result = compute(*numbers)
        float(result if isinstance(result, int) else 0)
    except ZeroDivisionError:
        raise _fault("division by zero", node) from None
    except OverflowError:
        raise _fault("the number is too large", node) from None
    except ValueError:
        return None
    return result if isinstance(result, int | float) and math.isfinite(result) else None


def _fault(message: str, node: Node) -> SpecError:
    return SpecError([Diagnostic("SSIR018", message, node.at, (), "choose other numbers")])


def _neutral(node: Node, nodes: Mapping[str, Node]) -> str | None:
    if node.op not in _NEUTRAL:
        return None
    number, places = _NEUTRAL[node.op]
    for place in places:
        constant, kept = nodes[node.inputs[place]], nodes[node.inputs[1 - place]]
        if (
            constant.op == "const"
            and constant.attrs["value"] == number
            and kept.type.dtype == node.type.dtype
            and kept.op != "const"
        ):
            return kept.name
    return None
