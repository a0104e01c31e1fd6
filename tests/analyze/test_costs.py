"""Costs over the length are those of the plan, and crossovers lie where the cheapest form changes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ssir import passes
from ssir.analyze.costs import LENGTHS, costs
from ssir.compilers.forms import Setting
from ssir.compilers.plan import plan
from ssir.spec.load import load
from tests.small import small

AT = Setting()


@pytest.mark.parametrize("name", ["mamba2", "s4", "transformer", "lstm", "zamba"])
def test_costs_are_those_of_the_plan(name: str) -> None:
    graph = passes.run(small(name).graph)
    found = {one.kind: one for one in costs(graph, AT)}
    for i, steps in enumerate(LENGTHS):
        entries = {entry.path: entry for entry in plan(graph, replace(AT, steps=steps)).entries}
        assert entries.keys() == found.keys()
        for path, entry in entries.items():
            one = found[path]
            assert {form: one.seconds(form)[i] for form in one.forms} == pytest.approx(dict(entry.seconds))
            assert one.planned[i] == entry.match.form.name
            assert (one.bytes, one.count) == (entry.bytes, entry.count)
            if entry.chosen:
                cost = one.forms[entry.match.form.name][i]
                assert (cost.flops, cost.bytes) == (entry.cost.flops, entry.cost.bytes)


@pytest.mark.parametrize("name", ["s4", "mass_spring", "mambax"])
def test_at_a_crossover_the_cheapest_changes(name: str) -> None:
    graph = passes.run(load(name).graph)
    crossed = 0
    for one in costs(graph, AT):
        for steps, form in one.crossovers:
            best = []
            for at in (steps - 1, steps):
                seconds = {e.path: e.seconds for e in plan(graph, replace(AT, steps=at)).entries}[one.kind]
                best.append(min(seconds, key=lambda form, seconds=seconds: seconds[form]))  # type: ignore[misc]
            assert best[0] != best[1] == form
            crossed += 1
    assert crossed


def test_another_device_costs_something_else() -> None:
    graph = passes.run(load("mamba2").graph)
    here, there = (costs(graph, Setting(device=device)) for device in ("cpu", "cuda"))
    assert here[-1].signature != there[-1].signature


def test_the_record_is_plain() -> None:
    for one in costs(passes.run(small("griffin").graph), AT):
        record = json.loads(json.dumps(one.record(), allow_nan=False))
        assert all(len(form["seconds"]) == len(LENGTHS) for form in record["forms"])
        assert record["cheapest"][-1] in [form["form"] for form in record["forms"]]
