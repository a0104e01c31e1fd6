"""What each form of a state costs over the length of a sequence, by the plan's own model, and where the cheapest changes. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ssir.analysis.facts import Facts, facts
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.plan import all_forms, plan, state_bytes
from ssir.ir.graph import Graph

LENGTHS = tuple(2**i for i in range(6, 17))


@dataclass(frozen=True, eq=False)
class Costs:
    """A state that ``count`` others in a stack are like. ``forms``: by name, what each that fits costs at each of LENGTHS; ``planned``: the form of
    the plan at each; ``crossovers``: from this length on that form is the cheapest; ``bytes``: of state a sequence, or a token if it grows."""

    kind: str
    count: int
    facts: Facts
    bytes: int
    forms: dict[str, tuple[Cost, ...]]
    planned: tuple[str, ...]
    crossovers: tuple[tuple[int, str], ...]
    at: Setting

    def seconds(self, form: str) -> list[float]:
        """The time that is expected of a form at each of LENGTHS, for all sequences."""
        return [cost.seconds(replace(self.at, steps=n)) for n, cost in zip(LENGTHS, self.forms[form], strict=True)]

    @property
    def cheapest(self) -> tuple[str, ...]:
        times = {form: self.seconds(form) for form in self.forms}
        return tuple(min(times, key=lambda form: times[form][i]) for i in range(len(LENGTHS)))

    @property
    def signature(self) -> tuple[Any, ...]:
        """What two states that cost the same have in common."""
        return tuple((form, tuple(self.seconds(form))) for form in self.forms), self.planned

    def record(self) -> dict[str, Any]:
        return {
            "state": self.kind,
            "count": self.count,
            "state_bytes": self.bytes,
            "grows": self.facts.grows,
            "planned": list(self.planned),
            "cheapest": list(self.cheapest),
            "crossovers": [{"steps": steps, "form": form} for steps, form in self.crossovers],
            "forms": [
                {
                    "form": form,
                    "flops_per_token": [cost.flops for cost in costs],
                    "bytes_per_token": [cost.bytes for cost in costs],
                    "seconds": self.seconds(form),
                }
                for form, costs in self.forms.items()
            ],
        }


def costs(graph: Graph, at: Setting) -> tuple[Costs, ...]:
    """Of every distinct state of a graph that the passes have run over; the length of the setting does not matter."""
    plans = [plan(graph, replace(at, steps=steps)) for steps in LENGTHS]
    chosen = [{entry.path: entry.match.form.name for entry in one.entries} for one in plans]
    counts = {entry.path: entry.count for entry in plans[0].entries}
    found = dict(_states(graph, ""))
    return tuple(
        _costs(path, counts[path], one, facts(one, one[name]), tuple(forms[path] for forms in chosen), at)
        for path, (one, name) in found.items()
    )


def _states(graph: Graph, shown: str) -> Iterator[tuple[str, tuple[Graph, str]]]:
    for node in graph.states:
        yield shown + node.name, (graph, node.name)
    for node in graph:
        if node.op == "stack":
            for body in dict.fromkeys(node.attrs["pattern"]):
                yield from _states(graph.bodies[body], f"{shown}{body}.")


def _costs(path: str, count: int, graph: Graph, fact: Facts, planned: tuple[str, ...], at: Setting) -> Costs:
    matches = [match for match in (form.match(graph, fact) for form in all_forms()) if match is not None]

    def cost(match: Match, steps: int) -> Cost:
        return match.form.cost(graph, fact, match, replace(at, steps=steps))

    def cheapest(steps: int) -> str:
        best = min(matches, key=lambda match: cost(match, steps).seconds(replace(at, steps=steps)))
        return best.form.name

    forms = {match.form.name: tuple(cost(match, steps) for steps in LENGTHS) for match in matches}
    changes = [(LENGTHS[0], cheapest(LENGTHS[0]))]
    for low, high in pairwise(LENGTHS):
        changes += _changes(cheapest, low, high)
    return Costs(path, count, fact, state_bytes(graph, fact, at), forms, planned, tuple(changes[1:]), at)


def _changes(cheapest: Callable[[int], str], low: int, high: int) -> Iterator[tuple[int, str]]:
    """The lengths above ``low`` up to ``high`` from which on another form is the cheapest, if it changes between the two."""
    while cheapest(low) != cheapest(high):
        first, before, end = low, cheapest(low), high
        while end - first > 1:
            middle = (first + end) // 2
            first, end = (middle, end) if cheapest(middle) == before else (first, middle)
        yield end, cheapest(end)
        low = end
