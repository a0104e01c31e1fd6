"""Which parameters of a graph are those of torch's own kinds of layer (a projection, a table, a norm), and which stand by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from ssir.ir.graph import Graph, Node


@dataclass(frozen=True)
class Part:
    """A submodule. ``arguments`` are those of its kind, a class of the runtime's ``layers``; ``shared``: it is the whole model's."""

    path: str
    kind: str
    arguments: tuple[Any, ...]
    shared: bool


class Parts:
    """The submodules of one graph. A parameter called `PATH.weight` that a map, a lookup or a norm uses makes a part at PATH, if all that
    use it there agree on what the part is; where a weight is tied, the part is that of the table.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @cached_property
    def _found(self) -> dict[str, Part]:
        """By node, the part that computes it."""
        claims: dict[str, dict[str, Part]] = {}
        for node in self.graph:
            part = self._claim(node)
            if part is not None:
                claims.setdefault(part.path, {})[node.name] = part
        found: dict[str, Part] = {}
        for of_path in claims.values():
            tables = {name: part for name, part in of_path.items() if part.kind == "Embedding"}
            agreed = tables or of_path
            if len(set(agreed.values())) == 1:
                found |= agreed
        return found

    def _claim(self, node: Node) -> Part | None:
        operands = self.graph.operands(node)
        weights = [one for one in operands[1:] if one.op == "param"]
        if not weights or len(weights) != len(operands) - 1 or not all(_ordinary(one) for one in weights):
            return None
        weight, *biases = weights
        path, dot, leaf = weight.attrs["key"].rpartition(".")
        if not dot or leaf != "weight" or any(one.attrs["key"] != f"{path}.bias" for one in biases):
            return None
        shared = bool(weight.attrs["shared"])
        sizes = [axis.size or 0 for axis in weight.type.axes]
        match node.op:
            case "linear":
                per, out = len(node.attrs["per"]), len(node.attrs["out"])
                ways = (prod(sizes[per : per + out]), prod(sizes[per + out :]), bool(biases))
                if per:
                    return Part(path, "BlockLinear", (tuple(sizes[:per]), *ways), shared)
                return Part(path, "Linear", ways, shared)
            case "embed" if not biases:
                return Part(path, "Embedding", (sizes[0], prod(sizes[1:])), shared)
            case "rms_norm" | "layer_norm" if node.attrs["scale"] and _last(node, operands[0], weights):
                if node.op == "rms_norm":
                    return None if biases else Part(path, "RMSNorm", (sizes[0], node.attrs["eps"]), shared)
                return Part(path, "LayerNorm", (sizes[0], node.attrs["eps"], bool(biases)), shared)
        return None

    def of(self, node: Node) -> Part | None:
        """The part that computes a node."""
        return self._found.get(node.name)

    @property
    def all(self) -> list[Part]:
        """Every part once, outer ones first."""
        return sorted(dict.fromkeys(self._found.values()), key=lambda part: part.path.count("."))

    @cached_property
    def _held(self) -> dict[str, tuple[int, ...]]:
        """The sizes of parameters that are held by a part, by key."""
        found: dict[str, tuple[int, ...]] = {}
        for part in self.all:
            weight, *more = part.arguments
            match part.kind:
                case "Linear":
                    found[f"{part.path}.weight"] = (weight, more[0])
                    found[f"{part.path}.bias"] = (weight,)
                case "BlockLinear":
                    found[f"{part.path}.weight"] = (*weight, *more[:2])
                    found[f"{part.path}.bias"] = (*weight, more[0])
                case "Embedding":
                    found[f"{part.path}.weight"] = (weight, more[0])
                case _:
                    found[f"{part.path}.weight"] = found[f"{part.path}.bias"] = (weight,)
        return found

    def values(self) -> Iterator[Node]:
        """The parameters that no part holds."""
        yield from (node for node in self.graph.params if node.attrs["key"] not in self._held)

    def sizes(self, param: Node) -> tuple[int, ...]:
        """The sizes that a parameter has in the module."""
        own = tuple(axis.size or 0 for axis in param.type.axes)
        return self._held.get(param.attrs["key"], own)


def _ordinary(param: Node) -> bool:
    """Whether a parameter is learned, and of the model's dtype."""
    return param.attrs["dtype"] is None and param.attrs.get("learned", True) and param.type.dtype == "real"


def _last(node: Node, source: Node, weights: list[Node]) -> bool:
    over = tuple(node.attrs["over"])
    return source.type.names[-1:] == over and all(one.type.names == over for one in weights)
