"""What the kernels take on a GPU beside those that others wrote: `python -m tests.gpu [-o docs/benchmarks-gpu.md] [--minutes 7]`.

Chunked products at the six shapes that flash-linear-attention measures at, its functions beside them where it is installed; scans, beside mamba_ssm's
where it is; LSTM and GRU beside cuDNN; attention beside FlexAttention; decoding by a captured graph, where
*theirs* is what it takes to read the weights. bfloat16, random inputs, calls of
operators alone, both sides by turns. First each side must be right: what is off the other by more than two parts in a hundred is told, not timed. What is not reached
in the time that there is stands as such. Beside what is slower than theirs stands where the time goes, by the profiler. With `--device cpu` it runs anywhere, on shapes that say nothing, to see that it runs.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import ssir
from ssir.plugins.linear_attention.kernels.chunked import key_decay, scalar_decay
from ssir.plugins.linear_attention.kernels.rank_one import rank_one
from tests.compilers.loops.made import made_scan

SHAPES = (
    (1, 8192, 96, 128),
    (2, 16384, 16, 128),
    (4, 2048, 16, 128),
    (4, 4096, 64, 128),
    (8, 2048, 32, 256),
    (8, 1024, 8, 64),
)
"""Batch, steps, heads, numbers of a head."""
TOY = ((1, 70, 2, 16),)
TOLERANCE = 0.02  # of the larger entries, in bfloat16
AHEAD, BANDWIDTH = 1.0, 0.75  # what a cell is to reach; what decoding is to reach of the bandwidth
BUSY = 0.6  # of the time, from where it is not launches that it is spent on
Call = Callable[..., Any]


@dataclass(frozen=True)
class Cell:
    """``ours``, ``theirs``: milliseconds; ``note``: why there is none, or where the time goes."""

    what: str
    shape: str
    mode: str
    ours: float | None = None
    theirs: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return None if self.ours is None or self.theirs is None else self.theirs / self.ours


class Clock:
    """Times calls by turns, on the device."""

    def __init__(self, device: torch.device, end: float) -> None:
        self.device, self.end = device, end

    @property
    def over(self) -> bool:
        return time.monotonic() > self.end

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def medians(self, calls: Sequence[Call], seconds: float = 0.25) -> list[float]:
        """Milliseconds of each."""
        for call in calls:
            for _ in range(3):
                call()
        found: list[list[float]] = [[] for _ in calls]
        end = time.monotonic() + seconds * len(calls)
        while len(found[0]) < 5 or time.monotonic() < end:
            for call, times in zip(calls, found, strict=True):
                times.append(self.once(call))
        return [median(times) for times in found]

    def once(self, call: Call) -> float:
        if self.device.type != "cuda":
            start = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - start)
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        call()
        after.record()
        after.synchronize()
        return float(before.elapsed_time(after))


def told(clock: Clock, cell: Cell, ours: Call, least: float = AHEAD) -> Cell:
    """The cell, with where the time goes if it is slower than theirs: what takes longest, or how many launches it waits between."""
    if cell.ours is None or cell.ratio is None or cell.ratio >= least or cell.note:
        return cell
    on_card = clock.device.type == "cuda"
    with torch.profiler.profile() as seen:
        ours()
        clock.wait()

    def took(one: Any) -> float:
        return float(one.self_device_time_total if on_card else one.self_cpu_time_total) / 1e3

    ran = [one for one in seen.key_averages() if took(one) > 0 and (not on_card or one.device_type.name == "CUDA")]
    if not ran:
        return replace(cell, note="the profiler saw nothing")
    busy, launches, longest = sum(map(took, ran)), sum(one.count for one in ran), max(ran, key=took)
    if busy < BUSY * cell.ours:
        return replace(cell, note=f"{launches} launches, of which the card is busy for {busy:.3g} ms")
    note = f"{longest.key[:60]}: {took(longest):.3g} of {busy:.3g} ms, in {launches} launches"
    return replace(cell, note=note.replace("|", "/"))


def compared(
    clock: Clock, what: str, shape: str, given: Sequence[Tensor], ours: Call, theirs: Call | None, why: str = ""
) -> Iterator[Cell]:
    """Forward, and forward and backward, of two functions of the same inputs to one tensor."""
    modes = ("forward", "forward+backward")
    if clock.over:
        yield from (Cell(what, shape, mode, note="not reached") for mode in modes)
        return
    leaves = [x.requires_grad_() for x in given]

    def both(call: Call) -> list[Tensor]:
        y = call(*leaves)
        return [y.detach(), *torch.autograd.grad(y, leaves, torch.ones_like(y))]

    def forward(call: Call) -> Any:
        with torch.no_grad():
            return call(*leaves)

    try:
        calls = [ours]
        first = both(ours)
        if not all(x.isfinite().all() for x in first):
            why = "not finite"
        if theirs is not None:
            try:
                off = [_off(x, y) for x, y in zip(first, both(theirs), strict=True)]
                if max(off) > TOLERANCE:
                    why = "differ by " + ", ".join(f"{one:.3f}" for one in off)
                else:
                    calls.append(theirs)
            except Exception as error:  # what others wrote may not run here
                why = f"theirs: {_line(error)}"
        for mode, run in zip(modes, (forward, both), strict=True):
            ms = clock.medians([partial(run, call) for call in calls])
            cell = Cell(what, shape, mode, ms[0], ms[1] if len(ms) > 1 else None, why)
            yield told(clock, cell, partial(run, ours))
    except Exception as error:  # the others are to be seen all the same
        yield Cell(what, shape, "", note=_line(error))


def _off(x: Tensor, y: Tensor) -> float:
    scale = y.float().square().mean().sqrt().clamp(min=1e-6)
    return float((x.float() - y.float()).square().mean().sqrt() / scale)


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:120]}"


# Chunked products.


def _first(call: Call) -> Call:
    return lambda *given, **named: call(*given, **named)[0]


def _fla(path: str, name: str) -> Call:
    return _first(partial(getattr(import_module(f"fla.ops.{path}"), name), scale=1.0))


def _retention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads = torch.arange(q.shape[2], device=q.device, dtype=torch.float32)
    return scalar_decay(q, k, v, torch.log1p(-torch.exp2(-5 - heads)))[0]


OURS: dict[str, Call] = {
    "retention": _retention,
    "scalar decay (SSD)": lambda q, k, v, g: scalar_decay(q, k, v, g)[0],
    "decay by key (GLA)": lambda q, k, v, g: key_decay(q, k, v, g)[0],
    "delta rule": lambda q, k, v, beta: rank_one(q, k * beta[..., None], v, -k * beta[..., None], k)[0],
    "gated delta rule": lambda q, k, v, g, beta: rank_one(
        q, k * beta[..., None], v, -(k * (beta * g.exp())[..., None]).to(k), k, g
    )[0],
    "KDA": lambda q, k, v, g, beta: rank_one(q, k * beta[..., None], v, -k * beta[..., None], (k * g.exp()).to(k), g)[
        0
    ],
    "RWKV-7": lambda q, k, v, g, a, b: rank_one(q, k, v, b, a, g)[0],
}
THEIRS: dict[str, Callable[[], Call]] = {
    "retention": lambda: _fla("retention", "chunk_retention"),
    "scalar decay (SSD)": lambda: _fla("simple_gla", "chunk_simple_gla"),
    "decay by key (GLA)": lambda: _fla("gla", "chunk_gla"),
    "delta rule": lambda: _fla("delta_rule", "chunk_delta_rule"),
    "gated delta rule": lambda: _fla("gated_delta_rule", "chunk_gated_delta_rule"),
    "KDA": lambda: _fla("kda", "chunk_kda"),
    "RWKV-7": lambda: _rwkv7(import_module("fla.ops.rwkv7").chunk_rwkv7),
}


def _rwkv7(call: Call) -> Call:
    return lambda q, k, v, g, a, b: call(q, g, k, v, a, b, scale=1.0)[0]


def products(clock: Clock, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype) -> Iterator[Cell]:
    for shape in shapes:
        for what, ours in OURS.items():
            torch.manual_seed(0)
            theirs, why = None, ""
            try:
                theirs = THEIRS[what]()
            except (ImportError, AttributeError) as error:
                why = _line(error)
            yield from compared(clock, what, str(shape), _inputs(what, shape, dtype, clock.device), ours, theirs, why)


def _inputs(what: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    batch, steps, heads, size = shape
    q, k, v = (torch.randn(batch, steps, heads, size, device=device, dtype=dtype) for _ in range(3))
    by_head = torch.randn(batch, steps, heads, device=device)
    gate = F.logsigmoid(by_head)
    by_key = F.logsigmoid(torch.randn(batch, steps, heads, size, device=device)).clamp(min=-5)
    unit = F.normalize(k.float(), dim=-1).to(dtype)
    beta = by_head.sigmoid().to(dtype)
    return {
        "retention": [q, k, v],
        "scalar decay (SSD)": [q, k, v, gate],
        "decay by key (GLA)": [q, k, v, by_key],
        "delta rule": [q, unit, v, beta],
        "gated delta rule": [q, unit, v, gate, beta],
        "KDA": [q, unit, v, by_key, beta],
        "RWKV-7": [q, k, v, by_key.to(dtype), -unit, (unit * beta[..., None]).to(dtype)],
    }[what]


# Scans, cells, attention.


def scans(clock: Clock, toy: bool, dtype: torch.dtype) -> Iterator[Cell]:
    """The selective scan at the sizes of Mamba, and a gated memory of as many channels."""
    batch, steps, width, states = (1, 40, 8, 4) if toy else (8, 2048, 2048, 16)
    device = clock.device
    torch.manual_seed(0)
    size = f"({batch}, {steps}, {width}, {states})"
    made, scan = made_scan(
        "y: {state: [d, n], A: 'exp(g * param([d, n]))', B: 'g * b', input: u, C: c}",
        "{g: [d], u: [d], b: [n], c: [n]}",
        f"{{d: {width}, n: {states}}}",
        True,
    )
    g = F.softplus(torch.randn(batch, steps, width, device=device) - 4).to(dtype)
    u, (b, c) = torch.randn_like(g), (torch.randn(batch, steps, states, device=device, dtype=dtype) for _ in range(2))
    rates = -torch.arange(1.0, states + 1, device=device).expand(width, states).contiguous()
    named = {"g": g, "u": u, "b": b, "c": c}

    def ours(*given: Tensor) -> Tensor:
        here = dict(zip((*named, "rates"), given, strict=True))
        columns = [here[name.split(".")[-1]] for name in made.region.columns]
        return scan(None, [None], [None], columns, [here["rates"]])[0]

    def selective() -> Call:
        call = import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn

        def run(g: Tensor, u: Tensor, b: Tensor, c: Tensor, rates: Tensor) -> Tensor:
            turned = (x.transpose(1, 2).contiguous() for x in (u, g, b, c))
            u, g, b, c = turned
            return call(u, g, rates, b, c).transpose(1, 2)  # type: ignore[no-any-return]

        return run

    theirs, why = None, ""
    try:
        theirs = selective()
    except ImportError as error:
        why = _line(error)
    yield from compared(clock, "selective scan", size, [*named.values(), rates], ours, theirs, why)


def cells(clock: Clock, toy: bool) -> Iterator[Cell]:
    """LSTM and GRU, whole layers with their projections, float32, beside torch's (cuDNN)."""
    for name, peer in (("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU)):
        for batch, width in ((2, 8),) if toy else ((1, 512), (32, 512), (64, 1024)):
            steps = 20 if toy else 1024
            shape = f"({batch}, {steps}, {width})"
            if clock.over:
                yield Cell(name, shape, "", note="not reached")
                continue
            theirs = peer(width, width, batch_first=True).to(clock.device)
            model = ssir.compile(ssir.loads(_layer(name, width)), device=clock.device)
            x = torch.randn(batch, steps, width, device=clock.device)
            with torch.no_grad():
                ms = clock.medians([partial(model, x), partial(theirs, x)])
                yield told(clock, Cell(name, shape, "forward", ms[0], ms[1]), partial(model, x))

            def both(model: torch.nn.Module, x: Tensor) -> None:
                y = model(x)[0]
                torch.autograd.grad(y.sum(), list(model.parameters()))

            ms = clock.medians([partial(both, one, x) for one in (model, theirs)])
            yield told(clock, Cell(name, shape, "forward+backward", ms[0], ms[1]), partial(both, model, x))


def _layer(name: str, width: int) -> str:
    return f"""
ssir: 1
name: layer
dims: {{model: {width}}}
imports: {{cell: {name}.mixer}}
components:
  layer:
    input: {{x: [model]}}
    graph: {{y: cell(x)}}
    output: y
main: layer
"""


def attention(clock: Clock, toy: bool, dtype: torch.dtype) -> Iterator[Cell]:
    """A window, by the form of a spec and by FlexAttention as a user would write it."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    from ssir.plugins.attention.kernels.attention import attention as ours

    batch, steps, heads, size, window = (1, 60, 2, 16, 8) if toy else (1, 8192, 16, 128, 1024)
    q, k, v = (torch.randn(batch, steps, heads, size, device=clock.device, dtype=dtype) for _ in range(3))
    mask = create_block_mask(
        lambda b, h, i, j: (i >= j) & (i - j < window), None, None, steps, steps, device=clock.device.type
    )
    flex = flex_attention if toy else torch.compile(flex_attention)

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y: Any = flex(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), block_mask=mask, scale=size**-0.5)
        return y.transpose(1, 2)  # type: ignore[no-any-return]

    first = (torch.arange(steps, device=clock.device) - window + 1).clamp(min=0)[None]
    last = torch.arange(steps, device=clock.device)[None]

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return ours(q.unsqueeze(3), k, v, size**-0.5, first, last).squeeze(3)

    yield from compared(clock, "attention, window", f"({batch}, {steps}, {heads}, {size})", [q, k, v], run, theirs)


def decoding(clock: Clock, toy: bool, dtype: torch.dtype) -> Iterator[Cell]:
    """A token by a captured graph, batch 1; beside it, what reading the weights alone takes at the bandwidth that was measured."""
    dims = {"model": 16, "layers": 2, "vocab": 50} if toy else {"model": 2048, "layers": 24, "vocab": 32000}
    for name in ("mamba", "transformer"):
        if clock.over:
            yield Cell(f"decoding {name}", str(dims["model"]), "a token", note="not reached")
            continue
        try:
            more = (
                {"kv": 2 if toy else 4, "group": 2 if toy else 4, "hidden": 4 * dims["model"]}
                if name == "transformer"
                else {}
            )
            spec = ssir.load(name, None, **dims, **more)
            model = ssir.compile(spec, "torch" if toy else "cuda-graph", device=clock.device, dtype=dtype)
            size = sum(p.numel() * p.element_size() for p in model.parameters())
            token = torch.zeros(1, dtype=torch.long, device=clock.device)
            state = model.initial_state(1)

            def step(model: Any = model, token: Tensor = token) -> None:
                nonlocal state
                _, state = model.step(token, state=state)

            wide = torch.empty(size // 4, device=clock.device)
            with torch.no_grad():
                ms = clock.medians([step, wide.sum])
                cell = Cell(f"decoding {name}", str(dims["model"]), "a token", ms[0], ms[1])
                yield told(clock, cell, step, BANDWIDTH)
        except Exception as error:  # the others are to be seen all the same
            yield Cell(f"decoding {name}", str(dims["model"]), "a token", note=_line(error))


# The page.


def page(found: Sequence[Cell], machine: str) -> str:
    rows = [
        f"| {one.what} | {one.shape} | {one.mode} | {_ms(one.ours)} | {_ms(one.theirs)} | {_ms(one.ratio)} | {one.note} |"
        for one in found
    ]
    ratios = [one.ratio for one in found if one.ratio is not None and not one.what.startswith("decoding")]
    mean = (
        f"geometric mean {geometric_mean(ratios):.2f} over {len(ratios)} cells, {sum(r < AHEAD for r in ratios)} of them below {AHEAD}"
        if ratios
        else "no peer was there"
    )
    text = (__doc__ or "").split("\n\n", 1)[1].strip()
    nl = "\n"
    return f"""# On a GPU, measured

`python -m tests.gpu -o docs/benchmarks-gpu.md` on {machine}; {mean}.

{text}

| what | shape | | ours, ms | theirs, ms | ratio | |
|---|---|---|---:|---:|---:|---|
{nl.join(rows)}
"""


def _ms(x: float | None) -> str:
    return "" if x is None else f"{x:.3g}"


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("-o", dest="out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=7)
    options = parser.parse_args()
    device = torch.device(options.device)
    toy, dtype = device.type != "cuda", torch.bfloat16
    clock = Clock(device, time.monotonic() + 60 * options.minutes)
    sections = (
        decoding(clock, toy, dtype),
        scans(clock, toy, dtype),
        cells(clock, toy),
        attention(clock, toy, dtype),
        products(clock, TOY if toy else SHAPES, dtype),
    )
    found: list[Cell] = []
    for section in sections:
        for cell in section:
            found.append(cell)
            sys.stderr.write(f"{cell.what} {cell.shape} {cell.mode}: {_ms(cell.ours)} {_ms(cell.theirs)} {cell.note}\n")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "a processor, to see that it runs"
    text = page(found, f"{name}, torch {torch.__version__}")
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
