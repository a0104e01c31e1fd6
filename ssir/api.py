"""Compiling, and the meaning of a compiled model. This is where torch comes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssir import passes
from ssir.compilers.kernels.module import Model
from ssir.compilers.plan import plan as make_plan
from ssir.compilers.torch.lower import build, write
from ssir.errors import EnvironmentLacks, UsageError, nearest
from ssir.initial import initialise
from ssir.ir.graph import Graph, Node, owners
from ssir.passes.memories import merged, unmerged
from ssir.reference.interpreter import Interpreter
from ssir.registry import registry
from ssir.spec.load import Spec, load


def compile(
    spec: Spec | str,
    backend: str = "torch",
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    forms: Mapping[str, str] | None = None,
) -> Any:
    """A torch module that computes a spec: over a sequence (``model(x)``) and step by step (``model.step(x_t, state)``).

    forms forces a form on a state, by path. The same seed gives the same parameters. Raises SpecError, UsageError, and
    EnvironmentLacks if the backend cannot run here.
    """
    spec = load(spec) if isinstance(spec, str) else spec
    make = registry.get("backend", backend)
    if make is None:
        near = nearest(backend, registry.names("backend"))
        known = f"the nearest is `{near}`" if near else f"there are {', '.join(registry.names('backend'))}"
        raise UsageError(f"there is no backend `{backend}`; {known}")
    model: nn.Module = make(spec, device=device, dtype=dtype, seed=seed, forms=forms)
    return model


def to_torch(
    spec: Spec,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    forms: Mapping[str, str] | None = None,
) -> Model:
    """The backend `torch`: an eager module."""
    graph = passes.run(spec.graph)
    where = torch.device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise EnvironmentLacks("there is no CUDA device here; compile for the device `cpu`")
    plan = make_plan(graph, where.type, str(dtype).removeprefix("torch."), forms)
    source = write(graph, plan, f"{spec.name}, written by SSIR")
    model = build(source, dtype)
    model.plan, model.spec, model.graph, model.source = plan, spec, graph, source
    with torch.no_grad():
        known = dict(model.named_parameters())
        for name, node, owner, layer in parameters(graph):
            known[name].copy_(initialise(owner, node, name, layer, seed))
    return model.to(where)


def to_cuda_graph(spec: Spec, device: str | torch.device = "cuda", **options: Any) -> nn.Module:
    """The backend `cuda-graph`: the step, and sequences, captured."""
    from ssir.compilers import cuda_graph

    cuda_graph.require_cuda()
    place = device if torch.device(device).type == "cuda" else "cuda"
    return cuda_graph.compile(to_torch(spec, place, **options))


def parameters(graph: Graph) -> Iterator[tuple[str, Node, Graph, int]]:
    """Every parameter once: its full name, its node, the graph that it is in, and its layer."""
    seen: set[str] = set()

    def walk(one: Graph, at: str, layer: int) -> Iterator[tuple[str, Node, Graph, int]]:
        for node in one.params:
            name = node.attrs["key"] if node.attrs["shared"] else at + node.attrs["key"]
            if name not in seen:
                seen.add(name)
                yield name, node, one, layer
        for node in one:
            if node.op == "stack":
                for i, body in zip(owners(node), node.attrs["pattern"], strict=True):
                    yield from walk(one.bodies[body], f"{at}{node.name}.{i}.", i)

    yield from walk(graph, "", 0)


def meaning_parameters(model: Model) -> dict[str, Tensor]:
    """The parameters of a model by their full names, in the sizes that the spec gives them."""
    found = dict(model.named_parameters())
    return {
        name: found[name].reshape([size or 1 for size in node.type.sizes])
        for name, node, _, _ in parameters(model.graph)
    }


def reference(
    model: Model, *inputs: Tensor, state: Mapping[str, Tensor] | None = None, reset: Tensor | None = None
) -> tuple[Any, dict[str, Tensor]]:
    """The meaning of a model with its parameters: the spec as it is written, one step after another, in float64.

    inputs: [batch, time, *axes]; reset: [batch, time] bool. Returns what the model itself would.
    """
    params = {
        name: value.to(torch.complex128 if value.is_complex() else torch.float64)
        for name, value in meaning_parameters(model).items()
    }
    graph: Graph = model.spec.graph
    before = None if state is None else unmerged(graph, state)
    outputs, after = Interpreter(graph, params).run(dict(zip(model.inputs, inputs, strict=True)), before, reset)
    return (next(iter(outputs.values())) if len(outputs) == 1 else outputs), merged(graph, after)


def parameter_groups(model: Model, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimizer of torch, as the spec has it: ``decay=false`` takes no weight decay, ``lr=`` multiplies the rate."""
    nodes = {name: node for name, node, _, _ in parameters(model.graph)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        node = nodes[name]
        key = (lr * node.attrs["lr"], weight_decay if node.attrs["decay"] else 0.0)
        groups.setdefault(key, []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
