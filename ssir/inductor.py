"""What Inductor would launch for a model on a GPU that is not here (`ssir.compile(..., fuse=True)`): its own scheduler decides, on tensors without
numbers. It reads the internals of torch 2.13, and nothing else of SSIR needs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from ssir.compilers.runtime import tritons

_CARD: dict[str, Any] = {
    "name": "NVIDIA H100",
    "gcnArchName": "",
    "major": 9,
    "minor": 0,
    "total_memory": 80 << 30,
    "multi_processor_count": 132,
    "warp_size": 32,
    "regs_per_multiprocessor": 65536,
    "max_threads_per_multi_processor": 2048,
    "shared_memory_per_block": 49152,
    "shared_memory_per_block_optin": 232448,
    "L2_cache_size": 50 << 20,
}


def launches(model: nn.Module, given: Sequence[Tensor], inside: Callable[[Callable[[], Any]], int]) -> Counter[str]:
    """The launches of a sequence forward: model and inputs on the device meta, their plan for CUDA. ``inside`` counts those of a call. In a
    process that has not asked torch for a GPU, or for Triton, yet: it remembers the answer."""
    from torch._inductor.debug import DebugContext
    from torch._inductor.graph import GraphLowering
    from torch._inductor.scheduler import Scheduler
    from torch._inductor.virtualized import V
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode, blocks = FakeTensorMode(allow_non_fake_inputs=True), model.blocks()  # type: ignore[operator]
    with _card(), mode:
        traced, inputs = _traced(model, given, blocks, mode)
        graph = GraphLowering(traced)
        with V.set_graph_handler(graph), V.set_fake_mode(mode), V.set_debug_handler(DebugContext()):
            graph.run(*inputs)
            nodes = Scheduler(graph.operations).nodes
    found = Counter(filter(None, map(_kind, nodes)))
    for node in traced.graph.nodes:
        name = str(node.target)
        if name.startswith("ssir"):
            args, kwargs = (tree_map_only(torch.fx.Node, _meta, x) for x in (node.args, node.kwargs))
            found[name.split(".")[1]] += inside(partial(node.target, *args, **kwargs))
    return found


def _traced(model: nn.Module, given: Sequence[Tensor], blocks: Any, mode: Any) -> tuple[GraphModule, list[Tensor]]:
    """The model as operations of torch, and inputs for them, as if on CUDA. (Traced on the processor: fake CUDA tensors cannot be indexed.)"""
    from torch._inductor.decomposition import select_decomp_table
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.passes.fake_tensor_prop import FakeTensorProp

    def here(x: Tensor) -> Tensor:
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cpu")

    def there(x: Tensor) -> Tensor:
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cuda")

    places: list[tuple[dict[str, Any], str]] = [
        (home, name)  # by name there may be something else: a spec may call a part as it likes
        for module in model.modules()
        for home in (module._parameters, module._buffers)
        for name, x in home.items()
        if x is not None
    ]
    values = [home[name] for home, name in places]
    first, model.like = model.like, here(model.like)  # type: ignore[arg-type]

    found, shape = tree_flatten(blocks)
    tensors = [i for i, x in enumerate(found) if x is not None]

    def run(inputs: Sequence[Tensor], values: Sequence[Tensor], joined: Sequence[Tensor]) -> Any:
        there = dict(zip(tensors, joined, strict=True))
        laid = tree_unflatten([there.get(i) for i in range(len(found))], shape)
        with patch.object(model, "_blocks", lambda: laid):
            for (home, name), x in zip(places, values, strict=True):
                home[name] = x
            return model(*inputs)[0]

    with torch.no_grad(), tritons.noted():
        every = [*given], values, [found[i] for i in tensors]
        traced = make_fx(run, decomposition_table=select_decomp_table())(*([*map(here, one)] for one in every))
    model.like = first
    for (home, name), x in zip(places, values, strict=True):
        home[name] = x
    inputs = [there(x) for part in every for x in part]
    *_, last = (node for node in traced.graph.nodes if node.op == "placeholder")
    for node in list(traced.graph.nodes):
        if node.op == "get_attr":  # a constant is an input, as it lies on the card
            with traced.graph.inserting_after(last):
                last = traced.graph.placeholder(node.name)
            node.replace_all_uses_with(last)
            traced.graph.erase_node(node)
            inputs.append(there(getattr(traced, node.target)))
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": torch.device("cuda:0")}
    traced.recompile()
    FakeTensorProp(traced, mode).propagate_dont_convert_inputs(*inputs)
    return traced, inputs


def _kind(node: Any) -> str | None:
    """What a node of the schedule launches."""
    from torch._inductor import ir, scheduler

    if isinstance(node, scheduler.NopKernelSchedulerNode) or isinstance(node.node, ir.MultiOutput):
        return None
    if not isinstance(node, scheduler.ExternKernelSchedulerNode):
        return "fused"
    name = str(getattr(node.node, "python_kernel_name", None) or type(node.node).__name__)
    if "ssir" in name or _is_view(getattr(node.node, "op_overload", None)):
        return None
    return "products" if name.split(".")[-1] in ("mm", "addmm", "bmm", "baddbmm") else name.split(".")[-2]


def _is_view(operation: Any) -> bool:
    """Whether an operation hands out what it is given."""
    return operation is not None and any(
        one.alias_info and not one.alias_info.is_write for one in operation._schema.returns
    )


def _meta(node: torch.fx.Node) -> Any:
    x = node.meta["val"]
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta") if isinstance(x, Tensor) else x


@contextmanager
def _card() -> Iterator[None]:
    """A card that only says what it is."""
    from torch._dynamo import device_interface
    from torch._inductor.runtime.hints import DeviceProperties

    card = SimpleNamespace(**_CARD)
    known = {name: value for name, value in _CARD.items() if name in DeviceProperties._fields}
    properties = DeviceProperties(type="cuda", index=0, cc=90, max_threads_per_block=1024, **known)
    says: Mapping[tuple[Any, str], Any] = {
        (torch.cuda, "is_available"): lambda: True,
        (torch.cuda, "device_count"): lambda: 1,
        (torch.cuda, "current_device"): lambda: 0,
        (torch.cuda, "get_device_properties"): lambda device=None: card,
        (torch.cuda, "get_device_capability"): lambda device=None: (9, 0),
        (torch.version, "cuda"): "12.8",
        (device_interface.CudaInterface.Worker, "get_device_properties"): staticmethod(lambda device=None: card),
        (DeviceProperties, "create"): classmethod(lambda cls, device: properties),
    }
    with ExitStack() as stack:
        for (owner, name), value in says.items():
            stack.enter_context(patch.object(owner, name, value))
        yield
