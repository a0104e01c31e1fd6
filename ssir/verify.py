"""The proof: every form that computes a state, forward and backward, against the meaning.

For each form: the whole sequence, pieces with the state carried from one to the next, steps one by one, each also with resets,
in float64 and float32. Errors are relative to the largest entry; those of a parameter's gradient to the largest of that
parameter, or to a hundredth of the largest of all where its own is smaller (a gradient that is zero by symmetry is all rounding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ssir.api import to_torch
from ssir.compilers.kernels.memory import State
from ssir.compilers.kernels.module import Model
from ssir.reference.interpreter import Interpreter
from ssir.shrink import shrunk
from ssir.spec.load import Spec, load

STEPS = (1, 2, 63, 257)
LIMITS = {torch.float64: 1e-9, torch.float32: 1e-4}
BATCH = 3
_LONGEST = 9  # of whole sequences beside what goes through time
_SMALLEST = 1e-2  # of the largest gradient


@dataclass(frozen=True)
class Row:
    """One comparison: ``state`` is computed by ``form``, all others as the plan says."""

    state: str
    form: str
    dtype: str
    steps: int
    case: str
    forward: float
    gradient: float | None
    limit: float

    @property
    def ok(self) -> bool:
        return self.forward <= self.limit and (self.gradient is None or self.gradient <= self.limit)

    def record(self) -> dict[str, Any]:
        return {**self.__dict__, "ok": self.ok}


@dataclass
class Report:
    """All comparisons of a spec; ``dims`` are those that it was checked at, ``has_step`` whether it can run step by step."""

    name: str
    dims: Mapping[str, float | None]
    has_step: bool
    rows: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row.ok for row in self.rows)

    def worst(self) -> list[Row]:
        """For each form and dtype the row with the largest error, measured by its limit."""
        found: dict[tuple[str, str, str], Row] = {}
        for row in self.rows:
            key = (row.state, row.form, row.dtype)
            if key not in found or _size(row) > _size(found[key]):
                found[key] = row
        return list(found.values())

    def summary(self) -> list[dict[str, Any]]:
        """For each form and dtype the largest forward and gradient errors, and how many comparisons were made."""
        groups: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.state, row.form, row.dtype), []).append(row)
        return [
            {
                "state": state,
                "form": form,
                "dtype": dtype,
                "forward": max(row.forward for row in rows),
                "gradient": max((row.gradient for row in rows if row.gradient is not None), default=None),
                "limit": rows[0].limit,
                "comparisons": len(rows),
                "ok": all(row.ok for row in rows),
            }
            for (state, form, dtype), rows in groups.items()
        ]

    def record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dims": dict(self.dims),
            "ok": self.ok,
            "has_step": self.has_step,
            "forms": self.summary(),
        }


def _size(row: Row) -> float:
    return max(row.forward, row.gradient or 0.0) / row.limit


def verify(
    spec: Spec | str,
    steps: Sequence[int] = STEPS,
    progress: Callable[[str], None] = lambda text: None,
    seed: int = 0,
    every_form: bool = True,
) -> Report:
    """Check every form of every state of a spec (or only those of the plan). Dims that the caller has not set are made small."""
    spec = shrunk(load(spec) if isinstance(spec, str) else spec)
    first = to_torch(spec, dtype=torch.float64, seed=seed)
    report = Report(spec.name, spec.dims, first.has_step)
    resets = (False, True) if first.graph.has_time else (False,)
    cases = [_Case(first, count, some, seed) for count in steps for some in resets]
    for state, form, forced in _choices(first, every_form):
        for dtype, limit in LIMITS.items():
            progress(f"{state or 'as planned'}: {form}, {str(dtype).removeprefix('torch.')}")
            model = to_torch(spec, dtype=dtype, seed=seed, forms=forced)
            _randomise(model, seed)
            for case in cases:
                report.rows.extend(case.rows(model, state, form, dtype, limit))
    return report


def _choices(model: Model, every: bool) -> Iterator[tuple[str, str, dict[str, str]]]:
    """The plan as it is, then every other form of every state."""
    used = ", ".join(dict.fromkeys(entry.match.form.name for entry in model.plan.entries))
    yield "", used or "no memory", {}
    for entry in model.plan.entries if every else ():
        for other in entry.others:
            yield entry.path, other, {entry.path: other}


def _randomise(model: Model, seed: int) -> None:
    """Move every parameter off its first value (many are zero, or alike), in numbers that float32 holds."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = 0.1 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(
                (parameter.to(torch.float32 if not parameter.is_complex() else torch.complex64) + noise).to(
                    parameter.dtype
                )
            )


class _Case:
    """Inputs of a length, with or without resets, and what the meaning makes of them."""

    def __init__(self, model: Model, steps: int, resets: bool, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed + 7 * steps + resets)
        self.steps, self.resets = steps, resets
        self.reset = torch.rand(BATCH, steps, generator=generator) < 0.1 if resets else None
        self.inputs = tuple(self._input(model, node, generator) for node in model.graph.inputs)
        self.in_time = model.graph.has_time
        self.weights: dict[str, Tensor] = {}
        self.generator = generator
        self.known: tuple[dict[str, Tensor], list[Tensor]] | None = None

    def _input(self, model: Model, node: Any, generator: torch.Generator) -> Tensor:
        whole = node.name in model.graph.whole
        # Beside what goes through time a whole sequence is short: the meaning looks at all of it at each step.
        length = min(self.steps, _LONGEST) + 1 if model.graph.has_time else self.steps
        sizes = (BATCH, *(() if whole else (self.steps,)), *(axis.size or length for axis in node.type.axes))
        if node.type.dtype == "int":
            return torch.randint(0, _smallest_table(model), sizes, generator=generator)
        return torch.randn(sizes, generator=generator).double()

    def _at(self, model: Model, inputs: Sequence[Tensor], steps: int | slice) -> Iterator[Tensor]:
        """The inputs of some steps; whole sequences whole."""
        for name, x in zip(model.inputs, inputs, strict=True):
            yield x if name in model.whole else x[:, steps]

    def meaning(self, model: Model) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Outputs and gradients of inputs and parameters, by the interpreter, in float64."""
        if self.known is None:
            params = {
                n: p.detach().to(torch.complex128 if p.is_complex() else torch.float64).requires_grad_(p.requires_grad)
                for n, p in model.named_parameters()
            }
            inputs = [x.clone().requires_grad_() if x.is_floating_point() else x for x in self.inputs]
            named = dict(zip(model.inputs, inputs, strict=True))
            outputs, _ = Interpreter(model.graph, params).run(named, None, self.reset)
            self.weights = {
                name: torch.randn(y.shape, generator=self.generator).to(y.dtype) for name, y in outputs.items()
            }
            self.known = (
                {n: y.detach() for n, y in outputs.items()},
                self._gradients(outputs, [*inputs, *params.values()]),
            )
        return self.known

    def _gradients(self, outputs: Mapping[str, Tensor], leaves: Sequence[Tensor]) -> list[Tensor]:
        total = sum(
            (y * self.weights[name].to(y.dtype)).real.sum()
            if y.is_complex()
            else (y * self.weights[name].to(y.dtype)).sum()
            for name, y in outputs.items()
        )
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        if not wanted or not isinstance(total, Tensor) or not total.requires_grad:
            return [torch.zeros_like(leaf) for leaf in wanted]
        found = torch.autograd.grad(total, wanted, allow_unused=True)
        return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(wanted, found, strict=True)]

    def rows(self, model: Model, state: str, form: str, dtype: torch.dtype, limit: float) -> Iterator[Row]:
        wanted, gradients = self.meaning(model)
        tail = ", resets" if self.resets else ""
        runs: list[tuple[str, Callable[..., dict[str, Tensor]], bool]] = [(f"whole{tail}", self._whole, True)]
        if self.steps > 1 and model.has_step and self.in_time:
            runs.append((f"in pieces{tail}", self._pieces, True))
        if model.has_step and self.in_time and self.steps <= 63:
            runs.append((f"step by step{tail}", self._steps, False))
        for case, run, backward in runs:
            inputs = [x.to(dtype).requires_grad_(backward) if x.is_floating_point() else x for x in self.inputs]
            with torch.set_grad_enabled(backward):
                outputs = run(model, inputs)
            forward = max(_relative(outputs[name], y) for name, y in wanted.items())
            gradient = None
            if backward:
                gradient = _worst(self._gradients(outputs, [*inputs, *model.parameters()]), gradients)
            yield Row(state, form, str(dtype).removeprefix("torch."), self.steps, case, forward, gradient, limit)

    def _named(self, model: Model, y: Any) -> dict[str, Tensor]:
        return y if isinstance(y, dict) else {model.outputs[0]: y}

    def _whole(self, model: Model, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        return self._named(model, model(*inputs, reset=self.reset)[0])

    def _pieces(self, model: Model, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Cut where no chunk ends: after the first step, and at a third and a bit."""
        cuts = sorted({1, self.steps // 3 + 1, self.steps} - {0})
        state: State | None = None
        found: list[dict[str, Tensor]] = []
        at = 0
        for end in cuts:
            reset = None if self.reset is None else self.reset[:, at:end]
            y, state = model(*self._at(model, inputs, slice(at, end)), state=state, reset=reset)
            found.append(self._named(model, y))
            at = end
        return {name: torch.cat([one[name] for one in found], 1) for name in found[0]}

    def _steps(self, model: Model, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        state = model.initial_state(BATCH)
        found: list[dict[str, Tensor]] = []
        for t in range(self.steps):
            reset = None if self.reset is None else self.reset[:, t]
            y, state = model.step(*self._at(model, inputs, t), state=state, reset=reset)
            found.append(self._named(model, y))
        return {name: torch.stack([one[name] for one in found], 1) for name in found[0]}


def _smallest_table(model: Model) -> int:
    """A number of tokens that every table looked up by one has room for."""
    tables = [
        one[node.inputs[1]].type.axes[0].size or 1 for one in model.graph.walk() for node in one if node.op == "embed"
    ]
    return min(tables, default=2)


def _relative(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    error = (found.detach().to(wanted.dtype) - wanted).abs().max().item()
    scale = wanted.abs().max().item()
    relative = error / scale if scale else error
    return relative if relative == relative else float("inf")  # NaN must not hide in a maximum


def _worst(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    if not wanted:
        return 0.0
    largest = max((w.abs().max().item() for w in wanted if w.numel()), default=0.0)
    worst = 0.0
    for f, w in zip(found, wanted, strict=True):
        if w.numel():
            scale = max(w.abs().max().item(), _SMALLEST * largest) or 1.0
            error = (f.to(w.dtype) - w).abs().max().item() / scale
            worst = max(worst, error if error == error else float("inf"))
    return worst
