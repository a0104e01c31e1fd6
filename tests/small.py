"""Small dims for the zoo: every axis that can differ does, so that a mistaken axis shows. And inputs for any model."""

import torch
from torch import Tensor

from ssir.ir.graph import Graph
from ssir.spec.load import Spec, load

SMALL: dict[str, dict[str, float]] = {
    "mamba": {"model": 8, "layers": 2, "vocab": 11},
    "lstm": {"model": 6, "layers": 2, "vocab": 11},
    "gru": {"model": 6, "layers": 2, "vocab": 11},
    "transformer": {"model": 16, "layers": 2, "vocab": 11, "kv": 2, "group": 2, "hidden": 12},
    "gpt2": {"model": 12, "layers": 2, "vocab": 11, "head": 3, "length": 300},
    "hawk": {"model": 12, "layers": 2, "vocab": 11, "head": 3},
    "griffin": {"model": 16, "layers": 3, "vocab": 11, "head": 2, "window": 4},
    "rwkv4": {"model": 6, "layers": 2, "vocab": 11},
    "rwkv6": {"model": 8, "layers": 2, "vocab": 11, "key": 4, "rank": 2, "decay_rank": 3, "hidden": 12},
    "hgrn2": {"model": 8, "layers": 2, "vocab": 11, "key": 4, "hidden": 10},
}


def small(name: str) -> Spec:
    """A spec of the zoo, or at a path, at small dims."""
    return load(name, None, **SMALL.get(name, {}))


def inputs(graph: Graph, batch: int, steps: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    """A random value [batch, steps, *axes] for every input of a graph; tokens lie below 7."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(7, (batch, steps), generator=generator)
        if node.type.dtype == "int"
        else torch.randn(batch, steps, *[n or 1 for n in node.type.sizes], generator=generator, dtype=torch.float64).to(
            dtype
        )
        for node in graph.inputs
    ]


def first(y: Tensor | dict[str, Tensor]) -> Tensor:
    """The first output of a model."""
    return next(iter(y.values())) if isinstance(y, dict) else y
