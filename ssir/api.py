"""Compiling, and the meaning of a compiled model. This is where torch comes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssir import passes
from ssir.compilers.kernels.memory import State
from ssir.compilers.kernels.module import Model
from ssir.compilers.plan import plan as make_plan
from ssir.compilers.torch.lower import build, write
from ssir.errors import EnvironmentLacks, UsageError, nearest
from ssir.initial import initialise
from ssir.ir.graph import parameters as parameters
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
            known[name].requires_grad_(node.attrs["learned"])
    return model.to(where)


def to_cuda_graph(spec: Spec, device: str | torch.device = "cuda", **options: Any) -> nn.Module:
    """The backend `cuda-graph`: the step, and sequences, captured."""
    from ssir.compilers import cuda_graph

    cuda_graph.require_cuda()
    place = device if torch.device(device).type == "cuda" else "cuda"
    return cuda_graph.compile(to_torch(spec, place, **options))


def reference(
    model: Model, *inputs: Tensor, state: State | None = None, reset: Tensor | None = None
) -> tuple[Any, State]:
    """The meaning of a model with its parameters: the spec, one step after another, in float64.

    inputs: [batch, time, *axes]; reset: [batch, time] bool. Returns what the model itself would.
    """
    params = {
        name: value.to(torch.complex128 if value.is_complex() else torch.float64)
        for name, value in model.named_parameters()
    }
    interpreter = Interpreter(model.graph, params)
    outputs, after = interpreter.run(dict(zip(model.inputs, inputs, strict=True)), state, reset)
    return (next(iter(outputs.values())) if len(outputs) == 1 else outputs), after


def parameter_groups(model: Model, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimizer of torch, as the spec has it: ``decay=false`` takes no weight decay, ``lr=`` multiplies the rate."""
    nodes = {name: node for name, node, _, _ in parameters(model.graph)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        node = nodes[name]
        if not node.attrs["learned"]:
            continue
        key = (lr * node.attrs["lr"], weight_decay if node.attrs["decay"] else 0.0)
        groups.setdefault(key, []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
