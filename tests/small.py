"""Small dims for the zoo: every axis that can differ does, so that a mistaken axis shows. And inputs for any model."""

import torch
from torch import Tensor

from ssir.ir.answers import answers
from ssir.ir.graph import Graph
from ssir.spec.load import Spec, load, loads

SMALL: dict[str, dict[str, float]] = {
    "mamba": {"model": 8, "layers": 2, "vocab": 11},
    "mamba2": {"model": 8, "layers": 2, "vocab": 11, "group": 2, "value": 4, "state": 3},
    "s4d": {"model": 6, "layers": 2, "colour": 2, "class": 5, "order": 8, "vocab": 11},
    "lru": {"model": 6, "layers": 2, "colour": 2, "class": 5, "hidden": 4, "vocab": 11},
    "dss": {"model": 6, "layers": 2, "colour": 2, "class": 5, "state": 4, "length": 12, "vocab": 11},
    "gss": {"model": 6, "layers": 2, "hidden": 8, "width": 5, "state": 3, "vocab": 11},
    "h3": {
        "model": 6,
        "layers": 4,
        "run": 2,
        "key": 2,
        "order": 8,
        "tap": 5,
        "query_head": 3,
        "hidden": 7,
        "vocab": 11,
    },
    "hyena": {"model": 6, "layers": 2, "length": 12, "band": 2, "width": 4, "hidden": 7, "vocab": 11},
    "s4": {"model": 6, "layers": 2, "colour": 2, "class": 5, "order": 8, "hidden": 7, "vocab": 11},
    "lstm": {"model": 6, "layers": 2, "vocab": 11},
    "gru": {"model": 6, "layers": 2, "vocab": 11},
    "bilstm": {"model": 5, "layers": 2, "vocab": 11, "label": 7},
    "transformer": {"model": 16, "layers": 2, "vocab": 11, "kv": 2, "group": 2, "hidden": 12},
    "gpt2": {"model": 12, "layers": 2, "vocab": 11, "head": 3, "length": 300},
    "sliding_window": {"model": 16, "layers": 2, "vocab": 11, "kv": 2, "group": 2, "hidden": 12, "window": 4},
    "bert": {"model": 12, "layers": 2, "vocab": 11, "types": 7, "head": 3, "length": 300, "hidden": 10},
    "vit": {"model": 12, "layers": 2, "classes": 7, "pixel": 5, "head": 3, "length": 300, "hidden": 10},
    "vision_mamba": {"model": 6, "layers": 2, "classes": 7, "pixel": 5, "length": 300, "middle": 4, "state": 3},
    "distilbert": {"model": 12, "layers": 2, "vocab": 11, "head": 3, "length": 300, "hidden": 10},
    "albert": {"narrow": 5, "model": 12, "layers": 3, "vocab": 11, "types": 7, "head": 3, "length": 300, "hidden": 10},
    "gmlp": {"model": 6, "layers": 2, "vocab": 11, "length": 300, "hidden": 8},
    "gau": {"model": 6, "layers": 2, "vocab": 11, "key": 4, "length": 9},
    "cat": {"model": 12, "layers": 2, "vocab": 11, "head": 3, "hidden": 10, "tap": 3},
    "infini_attention": {"model": 5, "layers": 2, "vocab": 11, "head": 2, "key": 4, "hidden": 6, "segment": 3},
    "perceiver_io": {
        "model": 12,
        "latent": 5,
        "width": 8,
        "head": 2,
        "key": 3,
        "blocks": 2,
        "layers": 2,
        "vocab": 11,
        "length": 300,
    },
    "perceiver": {"classes": 7, "model": 6, "latent": 5, "width": 8, "head": 2, "blocks": 3, "layers": 2},
    "glu": {"model": 5, "hidden": 7},
    "lce": {"many": 4, "few": 3, "model": 5},
    "hawk": {"model": 12, "layers": 2, "vocab": 11, "head": 3},
    "griffin": {"model": 16, "layers": 3, "vocab": 11, "head": 2, "window": 4},
    "jamba": {
        "model": 64,
        "layers": 8,
        "vocab": 11,
        "state": 5,
        "kv": 2,
        "group": 3,
        "key": 4,
        "hidden": 12,
        "expert": 5,
    },
    "inception": {"channel": 2, "filter": 3, "narrow": 4, "long": 5, "middle": 4, "short": 3, "pool": 2},
    "pyramid": {"model": 6, "width": 5, "vocab": 11},
    "dhen": {"vocab": 11, "dense": 3, "feature": 2, "width": 6, "layers": 2, "head": 2, "hidden": 5},
    "t5": {"model": 12, "layers": 2, "vocab": 11, "head": 3, "key": 4, "hidden": 10, "bucket": 8, "farthest": 20},
    "vaswani": {"model": 12, "layers": 2, "vocab": 11, "head": 3, "hidden": 10},
    "samba": {"model": 16, "layers": 2, "vocab": 11, "kv": 2, "group": 2, "window": 5, "hidden": 12},
    "zamba": {"model": 12, "layers": 9, "vocab": 11, "state": 5, "rank": 4, "head": 3, "part": 2},
    "rwkv4": {"model": 6, "layers": 2, "vocab": 11},
    "rwkv6": {"model": 8, "layers": 2, "vocab": 11, "key": 4, "rank": 2, "decay_rank": 3, "hidden": 12},
    "rwkv7": {
        "model": 16,
        "layers": 3,
        "vocab": 11,
        "key": 8,
        "hidden": 20,
        "decay_rank": 2,
        "rate_rank": 3,
        "value_rank": 4,
        "gate_rank": 5,
    },
    "gated_delta_net": {"model": 12, "layers": 2, "vocab": 11, "head": 2, "key": 4, "value": 6, "hidden": 10},
    "delta_net": {"model": 8, "layers": 2, "vocab": 11, "key": 4, "hidden": 10},
    "gla": {"model": 12, "layers": 2, "vocab": 11, "head": 2, "rank": 4, "hidden": 10},
    "mlstm": {"model": 16, "layers": 2, "vocab": 11, "head": 2, "hidden": 10},
    "slstm": {"model": 8, "layers": 2, "vocab": 11, "head": 2, "tap": 3, "hidden": 10},
    "linear_attention": {"model": 16, "layers": 2, "vocab": 11, "head": 2, "hidden": 10},
    "rwkv5": {"model": 8, "layers": 2, "vocab": 11, "key": 4, "hidden": 12},
    "retnet": {"model": 16, "layers": 2, "vocab": 11, "head": 2, "width": 12, "hidden": 10},
    "hgrn2": {"model": 8, "layers": 2, "vocab": 11, "key": 4, "hidden": 10},
    "one_pole": {"model": 6, "layers": 2, "vocab": 11},
    "integrator": {"model": 6, "layers": 2, "vocab": 11},
    "gated_memory": {"model": 6, "layers": 2, "vocab": 11},
    "gated_rnn": {"model": 6, "layers": 2, "vocab": 11},
    "channel_mixing_rnn": {"model": 6, "layers": 2, "vocab": 11},
    "output_gated_rnn": {"model": 6, "layers": 2, "vocab": 11},
    "state_expansion": {"model": 6, "layers": 2, "vocab": 11, "pole": 3},
    "perceptron_memory": {"model": 6, "layers": 2, "vocab": 11, "pole": 3, "perceptron": 5},
    "fir_attention": {"model": 6, "layers": 2, "vocab": 11, "slot": 4},
    "dot_product_attention": {"model": 6, "layers": 2, "vocab": 11, "slot": 4, "sought": 2},
    "multi_head_attention": {"model": 6, "layers": 2, "vocab": 11, "head": 3, "value": 5, "slot": 4},
    "transmamba": {
        "model": 8,
        "layers": 2,
        "vocab": 11,
        "head": 2,
        "key": 5,
        "value": 6,
        "slot": 4,
        "pole": 3,
        "length": 9,
    },
    "mambax": {
        "model": 8,
        "layers": 2,
        "vocab": 11,
        "head": 2,
        "key": 5,
        "value": 6,
        "slot": 4,
        "pole": 3,
        "length": 9,
    },
    "rope": {"model": 16, "layers": 2, "vocab": 11, "kv": 2, "group": 2, "hidden": 12},
    "wrope": {"model": 12, "layers": 2, "vocab": 11, "head": 3, "key": 6, "hidden": 10, "length": 5},
    "wrope_blend": {"model": 16, "layers": 2, "vocab": 11, "kv": 2, "group": 2, "hidden": 12, "length": 5},
    "trape": {"model": 16, "layers": 2, "vocab": 11, "kv": 2, "group": 2, "hidden": 10, "length": 9},
    "quaternion": {"model": 32, "layers": 2, "vocab": 11, "kv": 2, "group": 2, "hidden": 12},
    "sinusoidal": {"model": 12, "layers": 2, "vocab": 11, "head": 3, "hidden": 10},
    "amplitude_decay": {"model": 12, "layers": 2, "vocab": 11, "head": 3, "hidden": 10},
    "mass_spring": {"channel": 3},
    "hippo_legs": {"channel": 3, "order": 5},
    "hippo_legt": {"channel": 3, "order": 5},
    "hippo_lagt": {"channel": 3, "order": 5},
    "hippo_fourier": {"channel": 3, "order": 5},
}


def small(name: str) -> Spec:
    """A spec of the zoo, or at a path, at small dims."""
    return load(name, None, **SMALL.get(name, {}))


def inputs(graph: Graph, batch: int, steps: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    """A random value [batch, steps, *axes] for every input of a graph, [batch, *axes] for a whole sequence; tokens lie below 7."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for node in graph.inputs:
        sizes = [batch, *([] if node.name in graph.whole else [steps]), *(n or 6 for n in node.type.sizes)]
        if node.type.dtype == "int":
            found.append(torch.randint(7, sizes, generator=generator))
        else:
            found.append(torch.randn(sizes, generator=generator, dtype=torch.float64).to(dtype))
    return found


def at(graph: Graph, xs: list[Tensor], steps: int | slice) -> list[Tensor]:
    """The inputs of some steps; whole sequences whole."""
    return [x if node.name in graph.whole else x[:, steps] for node, x in zip(graph.inputs, xs, strict=True)]


def first(y: Tensor | dict[str, Tensor]) -> Tensor:
    """The first output of a model."""
    return next(iter(y.values())) if isinstance(y, dict) else y


def last(graph: Graph, y: Tensor) -> Tensor:
    """The first output of a model at the last step, [batch, *axes]: that of a sequence, or an answer."""
    return y if graph.outputs[0][1] in answers(graph) else y[:, -1]


def component(graph: str, inputs: str, dims: str, output: str = "y") -> Spec:
    """A spec of one component with this graph."""
    lines = "\n".join(f"      {line}" for line in graph.strip().splitlines())
    return loads(
        f"ssir: 1\nname: one\ndims: {dims}\ncomponents:\n  main:\n    input: {inputs}\n    graph:\n{lines}\n    output: {output}\nmain: main\n"
    )
