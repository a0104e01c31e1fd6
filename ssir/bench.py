"""Measuring compiled models, beside a peer of the same size where a plugin brings one (the kind ``peer``).

Both sides run by turns in one process, so that what else the machine does meets both. ``python -m ssir.bench`` measures the
zoo and writes docs/benchmarks.md and docs/benchmarks.json.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import geometric_mean
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ssir import api
from ssir.compilers.runtime import native
from ssir.compilers.runtime.model import Model
from ssir.errors import UsageError
from ssir.limits import Limits
from ssir.registry import registry
from ssir.spec.load import Spec, load, zoo

MODES = ("forward", "forward+backward", "decode")
DIMS = (256, 768)
SHAPES: Mapping[int, Sequence[tuple[int, int]]] = {256: ((1, 1024), (8, 1024), (1, 8192)), 768: ((1, 1024),)}
"""By width, batch and steps: more at a width at which a whole run takes an hour, not a day."""
_SHORT = ((1, 1024),)
PROMPT = 512
AHEAD = 1.1  # a ratio below which a cell says why
_SAMPLE = 0.05  # seconds that one sample takes at least
_DECODED = 32  # tokens in one sample of decoding, at least
_MOST_PAIRS = 200


class Side(Protocol):
    """A language model to be timed. Nothing but these calls is inside the clock."""

    @property
    def module(self) -> nn.Module: ...

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, time] to the logits of every step."""

    def prompt(self, tokens: Tensor) -> Any:
        """What decoding goes on from after [batch, time]."""

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """[batch] and what was before to logits and what is after."""


class Peer(Protocol):
    """What a user would take instead of a spec. Registered under the name of the spec."""

    @property
    def title(self) -> str: ...

    @property
    def packages(self) -> Sequence[str]:
        """The distributions that it is made of, besides torch."""

    @property
    def bound(self) -> str:
        """What holds both sides back where neither is ahead."""

    def dims(self, model: int) -> Mapping[str, float]:
        """The dims of the spec at which both are of one size and shape."""

    def build(self, dims: Mapping[str, float | None], mode: str) -> Side:
        """The peer at the dims of the spec, set up as is best for one mode. Raises ImportError where its package is missing."""


@dataclass(frozen=True)
class Spread:
    """The median and the quartiles of some samples."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        if len(samples) < 2:
            return cls(samples[0], samples[0], samples[0])
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Cell:
    """One model in one mode. ``tokens``: per second; ``ratio``: of ours to the peer's, pair by pair; ``share``: of what the
    machine could do, pair by pair, if it did nothing but multiply (in decoding, nothing but read the weights)."""

    name: str
    model: int
    mode: str
    batch: int
    steps: int
    peer: str | None
    parameters: int
    peer_parameters: int | None
    tokens: Spread
    peer_tokens: Spread | None
    ratio: Spread | None
    share: float
    pairs: int
    forms: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """What was measured, where, and how. ``notes``: peers that could not be had, and why."""

    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    cells: tuple[Cell, ...]
    notes: Mapping[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self)


@dataclass
class _Ours:
    module: Model

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.module(tokens)[0]
        return y

    def prompt(self, tokens: Tensor) -> Any:
        return self.module(tokens)[1]

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, state = self.module.step(tokens, state)
        return y, state


def run(
    names: Sequence[str] = (),
    dims: Sequence[int] = DIMS,
    layers: int = 4,
    shapes: Sequence[tuple[int, int]] | None = None,
    vocab: int = 256,
    dtype: torch.dtype = torch.float32,
    threads: int | None = None,
    repeats: int = 5,
    seconds: float = 10.0,
    modes: Sequence[str] = MODES,
    forms: Mapping[str, str] | None = None,
    overrides: Mapping[str, float] | None = None,
    peers: bool = True,
    tell: Callable[[Cell], None] | None = None,
) -> Report:
    """Measure specs (none named: all that have a peer) at every size in ``dims`` and in every mode.

    shapes: batch and steps (of prompts, in decoding: batch alone counts); left out, those of SHAPES. A cell takes at least ``repeats``
    pairs of samples and at least ``seconds``. forms: by state, as for `compile`;
    overrides: further dims of the specs; tell: called with every cell as it is done. Raises UsageError and SpecError.
    """
    for mode in modes:
        if mode not in MODES:
            raise UsageError(f"there is no mode `{mode}`; there are {', '.join(MODES)}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        limits = Limits(dtype)
        reached: dict[str, list[float]] = {"matmul_gflops": [], "read_gbs": []}
        cells: list[Cell] = []
        notes: dict[str, str] = {}
        packages: set[str] = set()
        chosen = names or _with_peers()
        if not chosen:
            raise UsageError("no spec has a peer: `ssir plugins` shows what is installed, and what failed")
        for name in chosen:
            peer: Peer | None = registry.get("peer", name) if peers else None
            for size in dims:
                for batch, steps, mode in _cells(shapes or SHAPES.get(size, _SHORT), modes):
                    wanted = {"model": size, "layers": layers, "vocab": vocab, "length": max(steps, 2 * PROMPT)}
                    spec = _sized(name, wanted, {**(peer.dims(size) if peer else {}), **(overrides or {})})
                    ours = _Ours(api.compile(spec, dtype=dtype, forms=forms, batch=batch, steps=steps))
                    theirs = None
                    if peer is not None:
                        try:
                            theirs = peer.build(spec.dims, mode)
                        except ImportError as error:
                            notes[name] = f"{peer.title} is not installed ({error.name})"
                    if peer and theirs:
                        theirs.module.to(dtype)
                        packages.update(peer.packages)
                    limit = limits.read if mode == "decode" else limits.multiply
                    timed = _time(ours, theirs, limit, mode, batch, steps, vocab, repeats, seconds)
                    reached["read_gbs" if mode == "decode" else "matmul_gflops"] += [pair[0] for pair in timed]
                    cells.append(_cell(name, size, mode, batch, steps, peer, ours, theirs, timed))
                    ratio = cells[-1].ratio
                    if peer and ratio and ratio.median < AHEAD:
                        where = f"{name}, d = {size}, batch {batch}, {steps} steps, {mode}"
                        notes[where] = f"below {AHEAD}: {peer.bound or 'not yet explained'}"
                    if tell:
                        tell(cells[-1])
        settings = {
            "layers": layers,
            "prompt": PROMPT,
            "vocab": vocab,
            "dtype": str(dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "repeats": repeats,
            "seconds": seconds,
        }
        best = {name: statistics.median(found) if found else None for name, found in reached.items()}
        return Report(_machine(packages) | best, settings, tuple(cells), notes)
    finally:
        torch.set_num_threads(before)


def _cells(shapes: Sequence[tuple[int, int]], modes: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Batch, steps and mode of each cell; decoding once for each batch."""
    for batch, steps in shapes:
        yield from ((batch, steps, mode) for mode in modes if mode != "decode")
    if "decode" in modes:
        yield from ((batch, PROMPT, "decode") for batch in dict.fromkeys(batch for batch, _ in shapes))


def _with_peers() -> list[str]:
    known = registry.names("peer")
    return [name for name, _ in zoo() if name in known]


def _sized(name: str, wanted: Mapping[str, float], given: Mapping[str, float]) -> Spec:
    """The spec with those of the wanted dims that it has, and all that are given."""
    has = load(name).module.file.dims
    dims = {key: value for key, value in wanted.items() if key in has} | dict(given)
    return load(name, None, **dims)


# Timing.


def _time(
    ours: Side,
    theirs: Side | None,
    limit: Callable[[float], float],
    mode: str,
    batch: int,
    steps: int,
    vocab: int,
    repeats: int,
    seconds: float,
) -> list[tuple[float, ...]]:
    """The limit, and tokens per second of every side, by turns."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocab, (batch, steps), generator=generator)
    samplers: list[Callable[[], float]] = [partial(limit, _SAMPLE)]
    samplers += [_sampler(side, mode, tokens) for side in (ours, theirs) if side is not None]
    found: list[tuple[float, ...]] = []
    with _quiet():
        for sample in samplers:
            sample()
        start = time.perf_counter()
        while len(found) < _MOST_PAIRS:
            order = range(len(samplers)) if len(found) % 2 == 0 else reversed(range(len(samplers)))
            pair = {which: samplers[which]() for which in order}
            found.append(tuple(pair[which] for which in range(len(samplers))))
            gc.collect()
            if len(found) >= repeats and time.perf_counter() - start >= seconds:
                break
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """No garbage collection but between samples."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _sampler(side: Side, mode: str, tokens: Tensor) -> Callable[[], float]:
    """Takes one sample: tokens per second."""
    if mode == "decode":
        return _decoder(side, tokens)
    once = _forward(side, tokens) if mode == "forward" else _backward(side, tokens)
    once()
    start = time.perf_counter()
    once()
    times = max(1, round(_SAMPLE / (time.perf_counter() - start)))

    def sample() -> float:
        start = time.perf_counter()
        for _ in range(times):
            once()
        return times * tokens.numel() / (time.perf_counter() - start)

    return sample


def _forward(side: Side, tokens: Tensor) -> Callable[[], None]:
    def once() -> None:
        with torch.no_grad():
            side.forward(tokens)

    return once


def _backward(side: Side, tokens: Tensor) -> Callable[[], None]:
    """Forward, and the gradients of all parameters for a gradient of the logits. The loss is no side's, so it is left out."""
    weights = list(side.module.parameters())
    with torch.no_grad():
        like = side.forward(tokens)
    gradient = torch.randn(like.shape, generator=torch.Generator().manual_seed(1)).to(like)

    def once() -> None:
        for weight in weights:
            weight.grad = None
        torch.autograd.backward(side.forward(tokens), gradient)

    return once


def _decoding(side: Side) -> AbstractContextManager[Any]:
    """Nobody changes weights while decoding: we keep what they decide, as the peers keep what they will."""
    return side.module.frozen() if isinstance(side.module, Model) else nullcontext()


def _decoder(side: Side, tokens: Tensor) -> Callable[[], float]:
    """Every sample starts from the same prompt, which is outside the clock, as are the first steps."""
    prompt = tokens[:, :PROMPT]
    following = [column.contiguous() for column in tokens.unbind(1)]
    warm, count = 4, _DECODED

    def sample() -> float:
        with torch.no_grad(), _decoding(side):
            state = side.prompt(prompt)
            for t in range(warm):
                _, state = side.step(following[t % len(following)], state)
            start = time.perf_counter()
            for t in range(count):
                _, state = side.step(following[t % len(following)], state)
            return count * tokens.shape[0] / (time.perf_counter() - start)

    for _ in range(2):
        rate = sample()
    count = min(max(_DECODED, round(_SAMPLE * rate / tokens.shape[0])), 8 * _DECODED)
    return sample


def _cell(
    name: str,
    size: int,
    mode: str,
    batch: int,
    steps: int,
    peer: Peer | None,
    ours: _Ours,
    theirs: Side | None,
    timed: list[tuple[float, ...]],
) -> Cell:
    plan = ours.module.plan
    count = _count(ours.module)
    if mode == "decode":
        width = next(iter(ours.module.parameters())).element_size()
        held = plan.state_bytes + plan.growth * (PROMPT + _DECODED // 2)
        each = count * width / batch + held
    else:
        each = plan.flops * (3 if mode == "forward+backward" else 1)
    return Cell(
        name,
        size,
        mode,
        batch,
        steps,
        peer.title if peer and theirs else None,
        count,
        _count(theirs.module) if theirs else None,
        Spread.of([pair[1] for pair in timed]),
        Spread.of([pair[2] for pair in timed]) if theirs else None,
        Spread.of([pair[1] / pair[2] for pair in timed]) if theirs else None,
        statistics.median(1e-9 * each * pair[1] / pair[0] for pair in timed),
        len(timed),
        {entry.path: entry.match.form.name for entry in plan.entries},
    )


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# The machine.


def _machine(packages: Iterable[str]) -> dict[str, Any]:
    """What may be told of it: neither its name nor its paths."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "native": native.available(),
        "packages": {name: version(name) for name in sorted(packages)},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


# Telling.


def render(report: Report) -> str:
    """The report as Markdown tables, one for every size."""
    parts = []
    for size in dict.fromkeys(cell.model for cell in report.cells):
        rows = [cell for cell in report.cells if cell.model == size]
        lines = [
            f"### d = {size}",
            "",
            "| spec (parameters) | peer (parameters) | mode | batch | steps | tokens/s | peer's tokens/s | ratio (quartiles) | of the limit |",
            "|---|---|---|---:|---:|---:|---:|---:|---:|",
        ]
        for cell in rows:
            peer = f"{cell.peer} ({_short(cell.peer_parameters)})" if cell.peer else "–"
            lines.append(
                f"| {cell.name} ({_short(cell.parameters)}) | {peer} | {cell.mode} | {cell.batch} | {'' if cell.mode == 'decode' else cell.steps} "
                f"| {_rate(cell.tokens)} | {_rate(cell.peer_tokens)} | {_times(cell.ratio)} | {cell.share:.0%} |"
            )
        parts.append("\n".join(lines))
    parts += [f"{name}: {note}." for name, note in report.notes.items()]
    return "\n\n".join(parts) + "\n"


def _short(count: int | None) -> str:
    return "–" if count is None else f"{count / 1e6:.2f} M" if count >= 1e5 else str(count)


def _rate(spread: Spread | None) -> str:
    return "–" if spread is None else f"{spread.median:,.0f}"


def _times(spread: Spread | None) -> str:
    return "–" if spread is None else f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"


def document(report: Report) -> str:
    """docs/benchmarks.md."""
    machine, settings = report.machine, report.settings
    packages = "".join(f", {name} {found}" for name, found in machine["packages"].items())
    return f"""# Benchmarks

Written by `make bench`; the raw numbers are in `benchmarks.json`.

{machine["cpu"]}, {machine["cores"]} cores, {machine["capability"]}; Python {machine["python"]}, torch {machine["torch"]}{packages}; {settings["dtype"]},
{settings["threads"]} threads, kernels {"compiled" if machine["native"] else "in PyTorch"}.

{settings["layers"]} layers, vocabulary {settings["vocab"]}, random weights. *forward* and *forward+backward* run over so many sequences of so many steps: the logits of every step, and the
gradients of all parameters for a random gradient of the logits, without loss and optimizer. *decode* goes on from a prompt of {settings["prompt"]} tokens (which is not in the time)
one token at a time, with caches. Both sides compute the same architecture at the same sizes.

Both sides run by turns in one process, in changing order, at least {settings["repeats"]} times each and for at least {settings["seconds"]:g} s. Rates are medians; the ratio is the median of the ratios of
neighbouring runs, with its quartiles: above 1, SSIR is faster. The peers are what a user would take instead, each set up as is best for it on a CPU.
The limit is what the machine reaches in between, by turns with both sides, by multiplying matrices ({_limit(machine["matmul_gflops"])} GFLOP/s), a backward pass counted as two forward passes; in decoding, by reading every
weight once a step and what each sequence holds once a token ({_limit(machine["read_gbs"])} GB/s from main memory; small models stay in the cache, which is faster).
The geometric mean of the ratios is {_mean(report):.2f}, over {sum(cell.ratio is not None for cell in report.cells)} cells; the least is {_least(report)}.

{render(report)}"""


def _limit(found: float | None) -> str:
    return "–" if found is None else f"{found:.0f}"


def _mean(report: Report) -> float:
    """The geometric mean of all ratios; 1 if there are none."""
    found = [cell.ratio.median for cell in report.cells if cell.ratio]
    return geometric_mean(found) if found else 1.0


def _least(report: Report) -> str:
    found = [(cell.ratio.median, cell) for cell in report.cells if cell.ratio]
    if not found:
        return "none"
    least, cell = min(found, key=lambda pair: pair[0])
    return f"{least:.2f} ({cell.name}, d = {cell.model}, {cell.mode}, batch {cell.batch})"


def write(report: Report, folder: Path) -> None:
    """Write benchmarks.md and benchmarks.json into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.json").write_text(json.dumps(report.record(), indent=1, allow_nan=False) + "\n")
    (folder / "benchmarks.md").write_text(document(report))


def _tell(cell: Cell) -> None:
    against = f", {_times(cell.ratio)} times {cell.peer}" if cell.peer else ""
    sys.stderr.write(
        f"{cell.name} d={cell.model} {cell.mode} {cell.batch}x{cell.steps}: {_rate(cell.tokens)} tokens/s{against}\n"
    )


if __name__ == "__main__":
    write(run(sys.argv[1:], tell=_tell), Path("docs"))
