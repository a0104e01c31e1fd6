"""What would run on a GPU that is not here: the launches of every row of the zoo at its published dims, and its kernels as compiled for one.

``python -m ssir.ahead [NAME...] [-o docs/gpu.md]`` needs Triton, and no GPU: models lie on the device ``meta``, and kernels are written down
instead of run.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.attention import flex_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssir import api, inductor
from ssir.compilers.forms import Setting
from ssir.compilers.runtime import native, tritons
from ssir.files import replace
from ssir.ir.graph import Node
from ssir.spec.load import load, zoo

TARGET = 90
"""The compute capability that kernels are compiled for."""
STEPS = 8192


@dataclass(frozen=True)
class Compiled:
    """A kernel as it was compiled: registers of a thread, bytes of them that did not fit, bytes of shared memory of a program."""

    name: str
    registers: int
    spilled: int
    shared: int


@dataclass(frozen=True)
class Row:
    """What a model launches. ``forward``, ``backward``: kernels; ``torch``: operations beside them; ``fused``: all of a sequence forward with
    ``fuse=True``; ``layers``: how many it has; ``why``: why nothing is known."""

    name: str
    steps: int = 0
    layers: int = 1
    forward: Counter[str] = field(default_factory=Counter)
    backward: Counter[str] = field(default_factory=Counter)
    torch: tuple[int, int] = (0, 0)
    fused: Counter[str] = field(default_factory=Counter)
    kernels: tuple[tritons.Launch, ...] = ()
    why: str = ""


def row(name: str, steps: int = STEPS, dtype: torch.dtype = torch.bfloat16, fuse: bool = False, **dims: float) -> Row:
    """One sequence through the spec of the zoo, at its published dims but for ``dims``, forwards and backwards; and fused, in a process
    that has not looked for a GPU yet (torch asks once)."""
    spec = load(name, None, **dims)
    with pretended() as device:
        steps = min(steps, int(spec.dims.get("length") or steps))
        model = api.empty(spec, Setting(1, steps, str(dtype).removeprefix("torch."), "cuda"), None, device)
        given = [_input(node, node.name in model.graph.whole, steps, dtype, device) for node in model.graph.inputs]
        with tritons.noted() as kernels:
            with Launches() as forward:
                y = model(*given)[0]
            count = len(kernels)
            with Launches() as backward:
                sum(x.float().sum() for x in tree_leaves(y) if x.requires_grad).backward()
    fused = Counter[str]()
    if fuse:
        with _fused_attention():
            fused = inductor.launches(model, given, _inside)
    names = [launch.kernel.__name__ for launch in kernels]
    layers = int(spec.dims.get("layers") or 1)
    return Row(
        name,
        steps,
        layers,
        Counter(names[:count]),
        Counter(names[count:]),
        (forward.count, backward.count),
        fused,
        tuple(kernels),
    )


def _inside(call: Callable[[], Any]) -> int:
    """What an operator of SSIR launches."""
    with pretended(), tritons.noted() as kernels, Launches() as others:
        call()
    return len(kernels) + int(others.count)


def _input(node: Node, whole: bool, steps: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    sizes = [1, *([] if whole else [steps]), *(size or 1 for size in node.type.sizes)]
    if node.type.dtype == "int":
        return torch.empty(sizes, dtype=torch.int64, device=device)
    return torch.empty(sizes, dtype=dtype, device=device, requires_grad=True)


_NAMESPACE = "ssir_ahead"


def _attended(q: Tensor, v: Tensor) -> Tensor:
    """What attention gives, laid out as the fused kernels of CUDA do: [B,H,T,V], the heads of a step side by side."""
    batch, heads, steps, _ = q.shape
    return q.new_empty(batch, steps, heads, v.shape[-1]).transpose(1, 2)


@torch.library.custom_op(f"{_NAMESPACE}::attention", mutates_args=())
def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _attended(q, v)


@torch.library.custom_op(f"{_NAMESPACE}::attention_backward", mutates_args=())
def _attention_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
    return [torch.empty_like(x) for x in (q, k, v)]


_attention.register_fake(lambda q, k, v: _attended(q, v))
_attention_backward.register_fake(lambda grad, q, k, v: [torch.empty_like(x) for x in (q, k, v)])
_attention.register_autograd(
    lambda ctx, grad: tuple(_attention_backward(grad, *ctx.saved_tensors)),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


def _one_kernel(q: Tensor, k: Tensor, v: Tensor, *others: Any, **named: Any) -> Tensor:
    """Attention as CUDA has it: fused."""
    return _attention(q, k, v)  # type: ignore[no-any-return]


@contextmanager
def _fused_attention() -> Iterator[None]:
    with ExitStack() as stack:
        for owner, name in (
            (torch.nn.functional, "scaled_dot_product_attention"),
            (flex_attention, "flex_attention"),
        ):
            stack.enter_context(patch.object(owner, name, _one_kernel))
        yield


@contextmanager
def pretended() -> Iterator[torch.device]:
    """The device meta, as if kernels ran there, and nobody watched. It has no autocast; inside, it says so."""
    autocast, enabled, dtype = torch.autocast, torch.is_autocast_enabled, torch.get_autocast_dtype

    def nothing(device: str, *given: Any, **named: Any) -> AbstractContextManager[Any]:
        return nullcontext() if device == "meta" else autocast(device, *given, **named)

    with ExitStack() as stack:
        stack.enter_context(_fused_attention())
        for owner, name, value in (
            (torch, "autocast", nothing),
            (torch.amp, "autocast", nothing),
            (torch, "is_autocast_enabled", lambda device="cpu": device != "meta" and enabled(device)),
            (torch, "get_autocast_dtype", lambda device: dtype("cpu" if device == "meta" else device)),
            (native, "watched", lambda: False),
            (native, "alone", lambda: True),
        ):
            stack.enter_context(patch.object(owner, name, value))
        yield torch.device("meta")


def compiled(launch: tritons.Launch) -> Compiled:
    """The kernel of a launch, compiled for TARGET. Needs Triton as a compiler, not its interpreter."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    arguments = launch.kernel.arg_names
    given = dict(zip((name for name in arguments if name not in launch.fixed), launch.given, strict=True))
    fixed = launch.fixed | {name: None for name, value in given.items() if value is None}
    even = [name for name, x in given.items() if isinstance(x, Tensor) or (isinstance(x, int) and x % 16 == 0)]
    made = triton.compile(
        ASTSource(
            fn=launch.kernel,
            signature={name: "constexpr" if name in fixed else _type(given[name]) for name in arguments},
            constexprs={(arguments.index(name),): value for name, value in fixed.items()},
            attrs={(arguments.index(name),): [["tt.divisibility", 16]] for name in even},
        ),
        target=GPUTarget("cuda", TARGET, 32),
        options=launch.options,
    )
    told = _assembled(made.asm["ptx"])
    registers, spilled = (
        int(re.findall(pattern, told)[0]) for pattern in (r"Used (\d+) reg", r"(\d+) bytes spill stores")
    )
    return Compiled(launch.kernel.__name__, registers, spilled, made.metadata.shared)


def _assembled(ptx: str) -> str:
    """What the assembler tells of a kernel."""
    import triton

    assembler = next(Path(triton.__file__).parent.rglob("ptxas"))
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as text:
        text.write(ptx)
        text.flush()
        call = [str(assembler), f"-arch=sm_{TARGET}a", "-v", text.name, "-o", "/dev/null"]
        return subprocess.run(call, capture_output=True, text=True, check=True).stderr


def _type(value: Any) -> str:
    if isinstance(value, int):
        return "i32" if abs(value) < 1 << 31 else "i64"
    names = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64", "bool": "i1", "int64": "i64"}
    return f"*{names[str(value.dtype).removeprefix('torch.')]}"


class Launches(TorchDispatchMode):
    """Counts what torch would launch: all that makes or changes numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace.startswith("ssir") and func.namespace != _NAMESPACE:
            with self:  # an operator launches what it is made of
                return func._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, *args, **(kwargs or {}))
        found = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        made = [x for x in tree_leaves(found) if isinstance(x, Tensor)]
        fresh = any(x.untyped_storage()._cdata not in given for x in made)
        if "empty" not in func.__name__ and (fresh or func._schema.is_mutable):
            self.count += 1
        return found


def document(rows: Sequence[Row], kernels: Sequence[tuple[str, Compiled]]) -> str:
    """docs/gpu.md."""
    lines = []
    for one in rows:
        if one.why:
            lines.append(f"| {one.name} | – | | | | | | {one.why} |")
            continue
        every = sum(one.forward.values()) + one.torch[0]
        names = ", ".join(f"{count} {name}" for name, count in sorted((one.forward + one.backward).items()))
        back = sum(one.backward.values()) + one.torch[1]
        fused = sum(one.fused.values())
        counts = f"{every} | {every / one.layers:.1f} | {back} | {fused} | {fused / one.layers:.1f}"
        lines.append(f"| {one.name} | {one.steps} | {counts} | {names or 'none'} |")
    made = [
        f"| {name} | {one.name} | {one.registers} | {one.spilled} | {one.shared / 1024:.0f} |" for name, one in kernels
    ]
    nl = "\n"
    return f"""# On a GPU

What would run there: `python -m ssir.ahead -o docs/gpu.md`, written without one. **Nothing here has been measured.**

One sequence through each row of the zoo at its published dims, bfloat16, by its forms on CUDA: how often something is launched (views and fresh
memory are not), and the kernels among it. *Fused*: as Inductor's scheduler puts it together for an H100 (`ssir.compile(..., fuse=True)`). *A layer*: all of
it by the number of layers, with what is in front of the first and behind the last; what a spec calls a layer often has a feed-forward net behind the mixture
of steps, which is five of them.

| spec | steps | launches forward | a layer | backward | fused, forward | a layer | kernels |
|---|---:|---:|---:|---:|---:|---:|---|
{nl.join(lines)}

Each kernel, compiled for compute capability {TARGET // 10}.{TARGET % 10}: registers of a thread, bytes of them that did not fit, kB of shared memory of a program.

| spec | kernel | registers | spilled | shared |
|---|---|---:|---:|---:|
{nl.join(made)}
"""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m ssir.ahead", description="what would run on a GPU")
    parser.add_argument("names", nargs="*", help="rows of the zoo; all if none is named")
    parser.add_argument("-o", dest="out", help="where the page goes")
    given = parser.parse_args(arguments)
    rows, kernels, seen = [], [], set()
    for name in given.names or [name for name, _ in zoo()]:
        try:
            rows.append(row(name, fuse=True))
        except Exception as error:  # the others are to be seen all the same
            rows.append(Row(name, why=f"{type(error).__name__}: {str(error).splitlines()[0]}"))
        told = dict(rows[-1].forward + rows[-1].backward), dict(rows[-1].fused)
        sys.stderr.write(f"{name}: {rows[-1].torch} {told} {rows[-1].why}\n")
        for launch in rows[-1].kernels:
            key = launch.kernel.__name__, repr(sorted(launch.fixed.items(), key=str)), tuple(map(_kind, launch.given))
            if key not in seen:
                seen.add(key)
                kernels.append((name, compiled(launch)))
                sys.stderr.write(f"  {kernels[-1][1]}\n")
    page = document(rows, kernels)
    if given.out:
        replace(Path(given.out), page.encode())
    else:
        sys.stdout.write(page)


def _kind(value: Any) -> str:
    return "" if value is None else _type(value)


if __name__ == "__main__":
    main(sys.argv[1:])
