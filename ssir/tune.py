"""Measures the forms that fit each state of a spec, on this machine, and chooses the fastest: forwards and backwards, by turns."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssir import passes
from ssir.api import to_torch
from ssir.compilers.forms import Setting
from ssir.compilers.plan import Plan, plan
from ssir.compilers.runtime.model import Model
from ssir.errors import UsageError
from ssir.files import replace
from ssir.ir.text import digest
from ssir.proof.meaning import inputs
from ssir.proof.shrink import cut
from ssir.spec.load import Spec

_HOPELESS = 30.0  # a form of which so many times the least is expected is not measured


@dataclass(frozen=True)
class Tuned:
    """``measured``: by state and form, seconds of a model whose other states are computed as planned; ``forms``: by state, the fastest."""

    spec: str
    digest: str
    at: Setting
    forms: Mapping[str, str]
    measured: Mapping[str, Mapping[str, float]]

    def write(self, path: Path) -> None:
        """As a file that `ssir plan` and `ssir compile` take as --forms."""
        replace(path, (json.dumps(asdict(self), indent=1) + "\n").encode())


def tune(spec: Spec, at: Setting, seconds: float = 1.0, progress: Callable[[str], None] = lambda words: None) -> Tuned:
    """Measure every form that fits, for at least so many seconds each; layers and tables that change no form are left out."""
    graph = passes.run(spec.graph)
    whole = plan(graph, at)
    wanted = _signature(whole)
    small = cut(spec, lambda trial: _signature(plan(passes.run(trial.graph), at)) == wanted)
    measured: dict[str, dict[str, float]] = {}
    chosen: dict[str, str] = {}
    for entry in whole.entries:
        least = min(entry.seconds.values())
        forms = [form for form, expected in entry.seconds.items() if expected <= _HOPELESS * least]
        if not entry.chosen or len(forms) < 2 or entry.path in measured:
            continue
        progress(f"{entry.path}: {', '.join(forms)}")
        samplers = {}
        for form in forms:
            try:
                samplers[form] = _sampler(small, at, {entry.path: form})
            except UsageError:
                continue  # another state needs this one as it is planned
        measured[entry.path] = _by_turns(samplers, seconds)
        chosen[entry.path] = min(measured[entry.path], key=lambda form: measured[entry.path][form])
    return Tuned(spec.name, digest(graph), at, chosen, measured)


def _signature(found: Plan) -> list[tuple[object, ...]]:
    return [(entry.path, entry.facts.axes, tuple(entry.seconds)) for entry in found.entries]


def _sampler(spec: Spec, at: Setting, forms: Mapping[str, str]) -> Callable[[], None]:
    """A pass forwards and backwards."""
    model = to_torch(spec, at.device, getattr(torch, at.dtype), forms=forms, batch=at.batch, steps=at.steps)
    generator = torch.Generator().manual_seed(0)
    given = [
        x.to(at.device, getattr(torch, at.dtype)) if x.is_floating_point() else x.to(at.device)
        for x in inputs(model.graph, at.batch, at.steps, generator)
    ]

    def once() -> None:
        model.zero_grad(set_to_none=True)
        torch.autograd.backward([y.sum() for y in _outputs(model, given)])
        if at.device == "cuda":
            torch.cuda.synchronize()

    return once


def _outputs(model: Model, given: list[Tensor]) -> list[Tensor]:
    found: Any = model(*given)[0]
    outputs = list(found.values()) if isinstance(found, Mapping) else [found]
    return [y for y in outputs if y.requires_grad]


def _by_turns(samplers: Mapping[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    """The median time of each, one after another again and again."""
    times: dict[str, list[float]] = {name: [] for name in samplers}
    for once in samplers.values():
        once()
    end = time.perf_counter() + seconds * len(samplers)
    while time.perf_counter() < end or len(next(iter(times.values()))) < 3:
        for name, once in samplers.items():
            gc.collect()
            start = time.perf_counter()
            once()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}
