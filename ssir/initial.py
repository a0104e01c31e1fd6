"""Evaluates the initialisers of parameters (the vocabulary is in ssir.spec.init). Every parameter draws from a generator of its
own, seeded by the seed and its name, so that what is added elsewhere changes nothing here."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ssir.ir.graph import Graph, Node
from ssir.reference.ops import FUNCTIONS
from ssir.registry import registry
from ssir.spec import expr as syntax

_LARGE = 1 << 16


@dataclass(frozen=True)
class Draw:
    """What an initialiser knows: the sizes and axes of the parameter, its layer, its number of inputs, how many maps it holds (one
    for each entry of ``per``), and a source of chance."""

    sizes: tuple[int, ...]
    axes: tuple[str, ...]
    layer: int
    fan_in: int
    maps: int
    generator: torch.Generator

    @property
    def dtype(self) -> torch.dtype:
        """Of what is drawn: in float64 large parameters take five times as long."""
        return torch.float64 if math.prod(self.sizes) <= _LARGE else torch.float32

    def uniform(self) -> Tensor:
        return torch.rand(self.sizes, generator=self.generator, dtype=self.dtype)

    def normal(self) -> Tensor:
        return torch.randn(self.sizes, generator=self.generator, dtype=self.dtype)


def initialise(graph: Graph, node: Node, name: str, layer: int, seed: int) -> Tensor:
    """The first value of a parameter, over its axes: float64 or complex128, or, where it is large, of half that size."""
    sizes = tuple(axis.size or 0 for axis in node.type.axes)
    source = name.removesuffix(node.attrs["key"]) + node.attrs.get("draws", node.attrs["key"])
    digest = hashlib.sha256(f"{seed}:{source}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    draw = Draw(sizes, node.type.names, layer, *_map(graph, node), generator)
    value = evaluate(syntax.parse(node.attrs["init"]), draw)
    tensor = value if isinstance(value, Tensor) else torch.full((), float(value), dtype=torch.float64)
    return tensor.expand(sizes).contiguous()


def _map(graph: Graph, node: Node) -> tuple[int, int]:
    """The number of inputs of a learned map, and how many maps there are."""
    for user in graph.users[node.name]:
        if graph[user].op == "linear" and graph[user].inputs[1] == node.name:
            sizes, per = [axis.size or 1 for axis in node.type.axes], len(graph[user].attrs["per"])
            return math.prod(sizes[per + len(graph[user].attrs["out"]) :]), math.prod(sizes[:per])
    return (node.type.axes[-1].size or 1 if node.type.axes else 1), 1


def evaluate(tree: syntax.Expr, draw: Draw) -> Tensor:
    """The value of an initialiser, broadcastable to the parameter."""
    match tree:
        case syntax.Number(value=value):
            return torch.tensor(float(value), dtype=torch.float64)
        case syntax.Name(id=name):
            return _word(name, draw)
        case syntax.Unary(operand=operand):
            return -evaluate(operand, draw)
        case syntax.Binary(op=op, left=left, right=right) | syntax.Compare(op=op, left=left, right=right):
            return FUNCTIONS[syntax.OPERATIONS[op]](evaluate(left, draw), evaluate(right, draw))
        case syntax.Call(function="arange", args=(syntax.Name(id=axis),)):
            return _arange(axis, draw)
        case syntax.Call(function=function, args=args):
            return _called(function, [evaluate(arg, draw) for arg in args], draw)
    raise AssertionError("an initialiser is checked when the spec is read")


def _arange(axis: str, draw: Draw) -> Tensor:
    at = draw.axes.index(axis) if axis in draw.axes else draw.axes.index(axis.rstrip("_"))
    shape = [size if i == at else 1 for i, size in enumerate(draw.sizes)]
    return torch.arange(draw.sizes[at], dtype=torch.float64).reshape(shape)


def _word(name: str, draw: Draw) -> Tensor:
    match name:
        case "zeros":
            return torch.zeros((), dtype=torch.float64)
        case "ones":
            return torch.ones((), dtype=torch.float64)
        case "layer":
            return torch.tensor(float(draw.layer), dtype=torch.float64)
        case "log_arange":
            return torch.log(1 + torch.arange(draw.sizes[-1], dtype=torch.float64))
        case "eye":
            return torch.eye(draw.sizes[-2], draw.sizes[-1], dtype=torch.float64)
    return _called(name, [], draw)


def _called(name: str, args: list[Tensor], draw: Draw) -> Tensor:
    match name:
        case "normal":
            mean, std = (torch.zeros(()), args[0]) if len(args) == 1 else args
            return mean + std * draw.normal()
        case "truncated_normal":
            return args[0] * torch.nn.init.trunc_normal_(
                torch.empty(draw.sizes, dtype=draw.dtype), generator=draw.generator
            )
        case "uniform":
            return args[0] + (args[1] - args[0]) * draw.uniform()
        case "log_uniform":
            return torch.exp(torch.log(args[0]) + (torch.log(args[1]) - torch.log(args[0])) * draw.uniform())
        case "fan_in":
            bound = (args[0] if args else 1.0) / math.sqrt(max(draw.fan_in, 1))
            return (2 * draw.uniform() - 1) * bound
        case "orthogonal":
            gain = args[0] if args else torch.ones(())
            maps = torch.empty(
                draw.maps, math.prod(draw.sizes) // (draw.maps * draw.fan_in), draw.fan_in, dtype=draw.dtype
            )
            for one in maps:
                torch.nn.init.orthogonal_(one, generator=draw.generator)
            return gain * maps.reshape(draw.sizes)
        case "softplus_inverse":
            return args[0] + torch.log(-torch.expm1(-args[0]))
    if name in FUNCTIONS:
        return FUNCTIONS[name](*args)
    result: Tensor = registry.require("initializer", name)(draw, *args)
    return result
