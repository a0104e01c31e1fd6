"""Compiling, and the meaning of a compiled model. This is where torch comes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from ssir import passes
from ssir.analysis.memories import merged, unmerged
from ssir.compilers.forms import Setting
from ssir.compilers.plan import plan as make_plan
from ssir.compilers.runtime import fused
from ssir.compilers.runtime.model import Model
from ssir.compilers.runtime.state import State
from ssir.compilers.torch.lower import build, write
from ssir.errors import EnvironmentLacks, UsageError, nearest
from ssir.initial import initialise
from ssir.ir.graph import Graph
from ssir.ir.graph import parameters as parameters
from ssir.reference.interpreter import Interpreter
from ssir.registry import registry
from ssir.spec.load import Spec, given
from ssir.spec.record import from_texts, texts


def compile(
    spec: Spec | str | PathLike[str],
    backend: str = "torch",
    device: str | torch.device | None = None,
    dtype: torch.dtype | str = torch.float32,
    seed: int = 0,
    forms: Mapping[str, str] | None = None,
    batch: int = 1,
    steps: int = 1024,
    fuse: bool = False,
    **options: Any,
) -> Any:
    """A torch module that computes a spec: over a sequence (``model(x)``) and step by step (``model.step(x_t, state)``).

    device: torch's default one, if left out. dtype: of torch, or its name. forms forces a form on a state, by path; batch and steps are the
    sizes of sequences that forms are chosen for (others work too). The same seed gives the same parameters. fuse: sequences run by torch.compile,
    which compiles at the first call of a kind. options: those of a backend; `cuda-graph` has capacity, lengths and batches (see
    ssir.compilers.cuda_graph.compile). Raises SpecError, UsageError, and EnvironmentLacks if the backend cannot run here.
    """
    dtype = _dtype(dtype)
    spec = given(spec)
    make = registry.get("backend", backend)
    if make is None:
        near = nearest(backend, registry.names("backend"))
        known = f"the nearest is `{near}`" if near else f"there are {', '.join(registry.names('backend'))}"
        raise UsageError(f"there is no backend `{backend}`; {known}")
    common = {"device": device, "dtype": dtype, "seed": seed, "forms": forms, "batch": batch, "steps": steps}
    model: nn.Module = make(spec, **common, **options)
    if fuse:
        if not isinstance(model, Model):
            raise UsageError(f"the backend `{backend}` has nothing to fuse; `torch` has")
        lacks = fused.lacking(model.device)
        if lacks is not None:
            raise EnvironmentLacks(f"`fuse` needs {lacks}, and there is none here; install it, or leave `fuse` out")
        model.fused = True
    return model


_DTYPES = ("float32", "float64", "bfloat16", "float16")


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        near = nearest(name, _DTYPES)
        help = f"the nearest is `{near}`" if near else f"there are {', '.join(_DTYPES)}"
        raise UsageError(f"a model cannot be of dtype `{name}`; {help}")
    found: torch.dtype = getattr(torch, name)
    return found


def to_torch(
    spec: Spec,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    forms: Mapping[str, str] | None = None,
    batch: int = 1,
    steps: int = 1024,
) -> Model:
    """The backend `torch`: an eager module. On the device `meta` its parameters have no values."""
    where = torch.get_default_device() if device is None else torch.device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise EnvironmentLacks("there is no CUDA device here; compile for the device `cpu`")
    made = torch.device("meta" if where.type == "meta" else "cpu")
    with torch.inference_mode(False), torch.no_grad(), made:
        at = Setting(batch, steps, str(dtype).removeprefix("torch."), "cpu" if where.type == "meta" else where.type)
        model = empty(spec, at, forms, made)
        if made.type != "meta":
            known: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
            for name, node, owner, layer in parameters(model.graph):
                value = initialise(owner, node, name, layer, seed)
                known[name].copy_(value.reshape(known[name].shape))
    return model if where.type == "meta" else model.to(where)


def empty(spec: Spec, at: Setting, forms: Mapping[str, str] | None, made: torch.device | None) -> Model:
    """A model of a spec, its parameters without values."""
    graph, dtype = passes.run(spec.graph), _dtype(at.dtype)
    plan = make_plan(graph, at, forms, passes.trained(spec.graph))
    source = write(graph, plan, f"{spec.name}, written by SSIR")
    model = build(source, dtype, made).eval()
    model.plan, model.spec, model.graph, model.source = plan, spec, graph, source
    model.recipe = (again, (texts(spec), at, dict(forms or {})))
    return model


def again(record: Mapping[str, Any], at: Setting, forms: Mapping[str, str]) -> Model:
    """The model of a pickle, before its weights are put in."""
    return empty(from_texts(record), at, forms, torch.device("meta"))


def to_cuda_graph(
    spec: Spec,
    device: str | torch.device = "cuda",
    capacity: int = 2048,
    lengths: Sequence[int] | None = None,
    batches: Sequence[int] | None = None,
    **common: Any,
) -> nn.Module:
    """The backend `cuda-graph`: the step, and sequences, captured."""
    from ssir.compilers import cuda_graph

    cuda_graph.require_cuda()
    place = device if torch.device(device).type == "cuda" else "cuda"
    return cuda_graph.compile(to_torch(spec, place, **common), capacity, lengths, batches)


def reference(
    model: Model,
    *inputs: Tensor,
    state: Mapping[str, Tensor] | None = None,
    reset: Tensor | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> tuple[Any, State]:
    """The meaning of a model with its parameters: the spec as it is written, one step after another, in float64.

    inputs: [batch, time, *axes]; reset: [batch, time] bool; masks: what dropout keeps, as the model was given them. Returns what the model
    itself would.
    """
    graph: Graph = model.spec.graph
    before = None if state is None else unmerged(graph, state)
    named = dict(zip(model.inputs, inputs, strict=True))
    outputs, after = Interpreter(graph, meaning_parameters(model), masks=masks).run(named, before, reset)
    return (next(iter(outputs.values())) if len(outputs) == 1 else outputs), State(merged(graph, after))


def meaning_parameters(model: Model) -> dict[str, Tensor]:
    """The parameters and buffers of a model as the interpreter takes them: in float64."""
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: x.to(torch.complex128 if x.is_complex() else torch.float64) for name, x in own.items()}


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
