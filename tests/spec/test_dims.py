"""Sizes and constants: what a user sets, what follows, what a layer of a stack has of its own, and where an import is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import ssir
from ssir.spec.load import Spec, load, loads

DERIVED = """
ssir: 1
name: derived
dims: {model: 8, inner: 2 * model, rank: ceil(inner / 6), part: inner / 2}
constants: {rate: 0.5, twice: 2 * rate}
components:
  main:
    input: {x: [model]}
    graph: {y: 'linear(linear(x, inner), part) * rate + twice'}
    output: y
main: main
"""


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {"model": 8, "inner": 16, "rank": 3, "part": 8}),
        ({"model": 6}, {"model": 6, "inner": 12, "rank": 2, "part": 6}),
        ({"inner": 10}, {"model": 8, "inner": 10, "rank": 2, "part": 5}),
        ({"part": 3}, {"model": 8, "inner": 16, "rank": 3, "part": 3}),
        ({"inner": 14, "rank": 9}, {"model": 8, "inner": 14, "rank": 9, "part": 7}),
    ],
)
def test_a_derived_dim_can_be_set_and_those_after_it_follow(given: dict[str, float], wanted: dict[str, float]) -> None:
    spec = loads(DERIVED, **given)  # type: ignore[arg-type]
    assert dict(spec.dims) == wanted
    sizes = {node.type.sizes for node in spec.graph.params}
    assert sizes == {(wanted["inner"], wanted["model"]), (wanted["part"], wanted["inner"])}


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("model + 3", 11),
        ("model - 3", 5),
        ("3 * model", 24),
        ("model / 4", 2),
        ("model % 3", 2),
        ("2 ** model", 256),
        ("20 - 2 * model", 4),
        ("ceil(model / 3) + floor(model / 3)", 5),
        ("sqrt(2 * model) + model", 12),
    ],
)
def test_a_size_is_reckoned(written: str, size: int) -> None:
    text = DERIVED.replace("rank: ceil(inner / 6)", f"rank: {written}")
    assert loads(text).dims["rank"] == size


@pytest.mark.parametrize(("given", "y"), [({}, 1.0), ({"rate": 3.0}, 6.0), ({"twice": 7.0}, 7.0)])
def test_a_constant_can_be_set_and_those_after_it_follow(given: dict[str, float], y: float, tmp_path: Path) -> None:
    (tmp_path / "derived.yaml").write_text(DERIVED)
    model = ssir.compile(load(str(tmp_path / "derived.yaml"), None, **given))
    assert model(torch.zeros(1, 1, 8))[0].unique().tolist() == [y]


LAYERS = """
ssir: 1
name: layers
dims: {{n: 2, m: 3}}
constants: {{gain: 1}}
components:
  scale:
    input: {{x: [n]}}
    graph: {{y: '{body}'}}
    output: y
  main:
    input: {{x: [n]}}
    graph:
      y: {{stack: [{stack}], times: {times}, input: x}}
    output: y
main: main
"""


def layered(body: str, stack: str, times: int) -> Spec:
    return loads(LAYERS.format(body=body, stack=stack, times=times))


def run(spec: Spec) -> list[float]:
    """What a model and the meaning make of ones: the same."""
    model = ssir.compile(spec, dtype=torch.float64)
    x = torch.ones(1, 1, 2, dtype=torch.float64)
    with torch.no_grad():
        y, meant = model(x)[0], ssir.reference(model, x)[0]
    torch.testing.assert_close(y, meant)
    found: list[float] = y[0, 0].tolist()
    return found


@pytest.mark.parametrize(
    ("stack", "times", "factor"),
    [
        ("scale(gain=2), scale(gain=3)", 2, 6),
        ("scale(gain=3), scale(gain=2)", 3, 18),
        ("scale(gain=2), scale", 2, 2),
        ("scale(gain=2), scale(gain=2), scale(gain=5)", 3, 20),
    ],
)
def test_entries_of_a_stack_have_their_own_constants(stack: str, times: int, factor: float) -> None:
    assert run(layered("x * gain", stack, times)) == [factor, factor]


def test_entries_of_a_stack_have_their_own_dims() -> None:
    spec = layered("linear(linear(x, m), n)", "'scale(m=4)', 'scale(m=5)', scale", 3)
    sizes = [node.type.sizes for one in spec.graph.walk() for node in one.params]
    assert {(4, 2), (5, 2), (3, 2)} <= set(sizes)
    model = ssir.compile(spec)
    assert sum(p.numel() for p in model.parameters()) == 2 * 2 * (4 + 5 + 3)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("x * (layer + 1)", [24, 24]),
        ("x + layer", [7, 7]),
        ("x + arange(n) * layer", [1, 7]),
        ("x * 2 ** (layer * arange(n))", [1, 64]),
        ("x + param([n], init=layer)", [7, 7]),
        ("x + where(layer == 2, 5, 0) * arange(n)", [1, 6]),
        ("x + select(array([1, 10, 100, 1000], [four]), four, layer)", [1112, 1112]),
    ],
)
def test_a_layer_knows_its_number(body: str, wanted: list[float]) -> None:
    text = LAYERS.format(body=body, stack="scale", times=4).replace("m: 3", "m: 3, four: 4")
    assert run(loads(text)) == pytest.approx(wanted)


IMPORTING = """
ssir: 1
name: importing
dims: {n: 2}
imports: {other: lru.main}
components:
  main:
    input: {x: [n]}
    graph: {y: other(x)}
    output: y
main: main
"""
BESIDE = """
ssir: 1
name: lru
dims: {n: 2}
components:
  main:
    input: {x: [n]}
    graph: {y: '3 * x'}
    output: y
main: main
"""


def test_an_import_is_looked_for_in_the_folder_beside_before_the_zoo(tmp_path: Path) -> None:
    (tmp_path / "importing.yaml").write_text(IMPORTING)
    (tmp_path / "lru.yaml").write_text(BESIDE)
    assert run(load(str(tmp_path / "importing.yaml"))) == [3, 3]


def test_an_import_takes_dims_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "importing.yaml").write_text(IMPORTING.replace("{y: other(x)}", "{y: 'other(x, m=5)'}"))
    beside = BESIDE.replace("'3 * x'", "'linear(linear(x, m), n)'").replace("n: 2", "n: 2, m: 7")
    (tmp_path / "lru.yaml").write_text(beside)
    spec = load(str(tmp_path / "importing.yaml"))
    assert {node.type.sizes for node in spec.graph.params} == {(5, 2), (2, 5)}
