"""Which slots of an axis without a size are there: a fact of the axis, whatever value lies along it."""

from __future__ import annotations

from collections.abc import Mapping

from ssir.ir.graph import WHOLE, Graph, Type


def gaps(graph: Graph) -> dict[str, int]:
    """The lag, as in ``Type.absent``, of every axis without a size along which something is remembered or read whole."""
    found: dict[str, int] = {}
    for node in graph:
        if node.op == "context":
            found[node.attrs["axis"]] = WHOLE
        elif node.op == "input":
            found |= {name: lag for name, lag in node.type.absent if node.type.axis(name).size is None}
        elif node.op == "state" and node.role("initial") is None:
            lag = 0 if node.attrs["read"] == "after" else 1
            found |= {name: lag for name, size in node.attrs["axes"] if size is None}
    for node in graph:
        if node.op == "rename":
            found |= {new: found[old] for old, new in node.attrs["axes"] if old in found}
    return found


def absent(type: Type, along: Mapping[str, int]) -> dict[str, int]:
    """The axes of a value of which slots may be absent, with their lags; also of one that indices alone gave."""
    return {name: lag for name, lag in along.items() if name in type.names} | dict(type.absent)
