"""The proof: every form that computes a state, forward and backward, against the meaning of the spec as it is written.

For each form: the whole sequence, pieces with the state carried from one to the next, steps one by one, steps as decoding runs them, several
tokens into a filled state, two decodings from one state; each also with resets; outputs, memories and gradients. Errors are relative to the largest
entry of a tensor. What is allowed stands in ``ssir.proof.report``, and knows how ill-conditioned the spec itself is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike

import torch

from ssir import passes
from ssir.api import to_torch
from ssir.compilers.plan import Plan
from ssir.compilers.plan import plan as make_plan
from ssir.compilers.runtime.model import Model
from ssir.proof import ways
from ssir.proof.compare import Results
from ssir.proof.meaning import Case, Conditioned, Subject, Weights
from ssir.proof.report import Report, Row, judged
from ssir.proof.shrink import changed, count, cut, past_a_block, room, shrunk
from ssir.spec.load import Spec, given

STEPS = (1, 2, 50, 123, 257)
BATCH = 3
_FORKED = 6  # steps before which two decodings part
_FLOATS = (torch.float64, torch.float32)
_LONG = 512  # steps over which errors of bfloat16 are to have built up
_ODD = 123  # steps past a block, and no multiple of one
_REAL = (
    (2_000_000, 70),
    (8_000_000, 35),
    (32_000_000, 9),
)  # up to so many parameters the meaning can be run for so many steps
_WIDTHS = (2, 3, 4, 8, 12, 16, 32, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True, eq=False)
class _Place:
    """A spec at some dims: what ``at`` calls them, and the cases that it is compared in."""

    at: str
    spec: Spec
    seed: int
    batch: int = BATCH
    known: dict[tuple[object, ...], Conditioned] = field(default_factory=dict)
    subjects: list[Subject] = field(default_factory=list)
    drawn: dict[torch.dtype, Weights] = field(default_factory=dict)

    @property
    def subject(self) -> Subject:
        if not self.subjects:
            self.subjects.append(Subject(self.spec.graph))
        return self.subjects[0]

    @cached_property
    def room(self) -> float:
        """The most steps that the spec has room for."""
        return room(self.spec.graph)

    def case(self, steps: int, resets: bool, forked: int | None, dtype: torch.dtype, train: bool) -> Conditioned:
        """The meaning of a case, in numbers that a dtype holds; found once."""
        key = steps, resets, forked, dtype
        if key not in self.known:
            case = replace(Case.of(self.subject, self.batch, steps, resets, self.seed).rounded(dtype), train=train)
            case = case if forked is None else case.forked(forked)
            self.known[key] = Conditioned(case, self.weights(dtype))
        return self.known[key]

    def weights(self, dtype: torch.dtype) -> Weights:
        """Parameters in numbers that a dtype holds; drawn once: an orthogonal matrix is another one, by a rounding, on other threads."""
        if dtype not in self.drawn:
            self.drawn[dtype] = self.subject.weights(self.seed, dtype)
        return self.drawn[dtype]


def verify(
    spec: Spec | str | PathLike[str],
    steps: Sequence[int] = STEPS,
    progress: Callable[[str], None] = lambda text: None,
    seed: int = 0,
    every_form: bool = True,
    thorough: bool = False,
    dtypes: Sequence[torch.dtype] = _FLOATS,
) -> Report:
    """Check every form of every state of a spec (or only those of the plan). Dims that the caller has not set are made small.

    dtypes: those of the rows at small dims. thorough adds rows: at the real dims and at odd ones past a block, on two threads, in bfloat16 and under autocast.
    """
    spec = given(spec)
    small = _Place("small dims", shrunk(spec), seed)
    first = to_torch(small.spec, dtype=torch.float64, seed=seed)
    report = Report(spec.name, small.spec.dims, first.has_step)
    proof = _Proof(report, progress)
    for state, form, forced in _choices(first, every_form):
        for dtype in dtypes:
            proof.compare(small, state, form, dtype, steps, forced)
    real = _plan(spec)
    if forced := _forced(first.plan, real, report):
        form = ", ".join(dict.fromkeys(forced.values()))
        for dtype in dtypes:
            proof.compare(small, "", f"{form} (chosen at the real dims)", dtype, steps, forced)
    if thorough:
        _thorough(proof, spec, small, real, seed)
    report.merged = {name: holder for one in small.known.values() for name, holder in one.merged.items()}
    return report


def _thorough(proof: _Proof, spec: Spec, small: _Place, real: Plan, seed: int) -> None:
    for dtype, autocast in ((torch.bfloat16, False), (torch.float32, True)):
        proof.compare(small, "", "", dtype, (50,), {}, autocast=autocast)
        proof.compare(small, "", "", dtype, (_LONG,), {}, resets=(False,), autocast=autocast, train=False)
    report = proof.report
    odd = _Place("odd dims", past_a_block(spec), seed)
    report.places[odd.at] = _shown(odd.spec.dims)
    for threads in (1, 2):
        for dtype in _FLOATS:
            proof.compare(odd, "", "", dtype, (_ODD,), {}, threads=threads)
    for at, published in _published(spec, real):
        size = count(published.graph)
        long = next((length for most, length in _REAL if size <= most), None)
        if long is None:
            report.notes.append(f"not run at the {at}: {size} parameters are too many for the meaning")
            continue
        place = _Place(at, published, seed, batch=2)
        without = changed(spec, published)
        report.places[at] = f"{_shown(without)} instead of the real ones" if without else "all as they are"
        for dtype in reversed(_FLOATS):
            proof.compare(place, "", "", dtype, (long,), {}, threads=2, resets=(True,))
        break


def _published(spec: Spec, real: Plan) -> Iterator[tuple[str, Spec]]:
    """The spec at the dims that were published, as far as its memories need them; then at smaller ones with the same plan."""
    yield "real dims", cut(spec, lambda trial: _signature(_plan(trial)) == _signature(real))
    yield "dims of the real plan", cut(spec, lambda trial: _chosen(_plan(trial)) == _chosen(real), _WIDTHS, rounds=3)


@dataclass
class _Proof:
    report: Report
    progress: Callable[[str], None]

    def compare(
        self,
        place: _Place,
        state: str,
        form: str,
        dtype: torch.dtype,
        steps: Sequence[int],
        forced: Mapping[str, str],
        threads: int = 1,
        resets: Sequence[bool] = (False, True),
        autocast: bool = False,
        train: bool = True,
    ) -> None:
        """Add the rows of a model with forms forced on some states."""
        model = to_torch(place.spec, dtype=dtype, seed=place.seed, forms=dict(forced))
        named = "autocast" if autocast else str(dtype).removeprefix("torch.")
        form = form or _forms(model)
        self.progress(f"{state or 'as planned'}: {form}, {named}, {place.at}")
        # bfloat16 has numbers of its own: what it cannot hold of another model's is no error of the form.
        held = torch.bfloat16 if autocast or dtype is torch.bfloat16 else torch.float32
        ways.load(model, place.weights(held))
        precision = torch.bfloat16 if autocast else dtype
        with ways.threads(threads):
            for count in sorted({int(min(count, place.room)) for count in steps}):
                for resetting in resets if place.subject.graph.has_time else (False,):
                    for way, meant, found in self._runs(place, model, dtype, held, count, resetting, autocast, train):
                        case = f"{way}{', resets' if resetting else ''}"
                        judgement = judged(_comparable(found, meant, model), meant, precision)
                        self.report.rows.append(Row(state, form, place.at, named, threads, count, case, **judgement))

    def _runs(
        self,
        place: _Place,
        model: Model,
        dtype: torch.dtype,
        held: torch.dtype,
        count: int,
        resets: bool,
        autocast: bool,
        train: bool,
    ) -> Iterator[tuple[str, Conditioned, Results]]:
        meant = place.case(count, resets, None, held, train)
        for way in ways.WAYS:
            if way.applies(model, meant.case):
                yield way.name, meant, ways.results(way, model, meant.case, meant.weights, dtype, autocast, train)
        stepping = model.has_step and place.subject.graph.has_time
        if stepping and not autocast and _FORKED < count <= max(ways.STEPPED, _FORKED + 1):
            cases = meant, place.case(count, resets, _FORKED, held, False)
            for kept in (False, True):
                for one, found in zip(cases, ways.forks(model, meant.case, dtype, _FORKED, kept), strict=True):
                    yield f"two decodings from one state{', weights kept' if kept else ''}", one, found


def _comparable(found: Results, meant: Conditioned, model: Model) -> Results:
    """What was found, with what a model need not have: the position, and parameters and inputs without a use."""
    gradient = dict(found.gradient)
    if gradient:
        for name, wanted in meant.results.gradient.items():
            if name not in gradient and not wanted.any():
                gradient[name] = wanted
    state = dict(found.state)
    if state:
        for name in ("position", "position at the start"):
            state.setdefault(name, meant.results.state[name])
        if not any(name.endswith(" at the start") for name in found.state):
            state |= {name: value for name, value in meant.results.state.items() if name.endswith(" at the start")}
    return Results(found.output, state, gradient)


def _choices(model: Model, every: bool) -> Iterator[tuple[str, str, dict[str, str]]]:
    """The plan as it is, then every other form of every state."""
    yield "", _forms(model), {}
    for entry in model.plan.entries if every else ():
        for other in entry.others:
            yield entry.path, other, {entry.path: other}


def _forms(model: Model) -> str:
    return ", ".join(dict.fromkeys(entry.match.form.name for entry in model.plan.entries)) or "no memory"


def _forced(small: Plan, real: Plan, report: Report) -> dict[str, str]:
    """The forms that the real plan chose where the small one chose others, by state; of those that fit at the small dims."""
    forms = {entry.path: entry.match.form.name for entry in small.entries}
    able = {entry.path: entry.others for entry in small.entries}
    found: dict[str, str] = {}
    for entry in real.entries:
        name = entry.match.form.name
        if forms.get(entry.path, name) == name or not entry.chosen:
            continue
        if name in able[entry.path]:
            found[entry.path] = name
        else:
            report.notes.append(f"`{entry.path}`: the form of the real dims, {name}, does not fit at the small ones")
    return found


def _plan(spec: Spec) -> Plan:
    return make_plan(passes.run(spec.graph))


def _chosen(plan: Plan) -> list[tuple[object, ...]]:
    return [(entry.path, entry.match.form.name) for entry in plan.entries]


def _signature(plan: Plan) -> list[tuple[object, ...]]:
    return [(*one, entry.facts.axes) for one, entry in zip(_chosen(plan), plan.entries, strict=True)]


def _shown(dims: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name}={'unbounded' if size is None else size}" for name, size in dims.items())
