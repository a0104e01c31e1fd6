"""What a page holds: for every spec of the zoo the views, their shapes, and the facts of every node. No browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ssir import passes
from ssir.compilers.plan import plan
from ssir.draw import draw
from ssir.draw.page import page
from ssir.spec.load import load, loads, zoo
from tests.small import small

NAMES = sorted({name for name, _ in zoo()})


def data(html: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    records: list[dict[str, Any]] = json.loads(found[1])
    return records


def pictures(html: str) -> list[ElementTree.Element]:
    return [
        ElementTree.fromstring(svg)
        for svg in re.findall(r'<template id="view-0-\d+">(.*?)</template>', html, re.DOTALL)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_box_has_facts_and_every_fact_a_box(name: str) -> None:
    spec = small(name)
    html = page([spec], name)
    (record,) = data(html)
    nodes, views = record["nodes"], {view["key"]: view for view in record["views"]}
    shown: set[str] = set()
    for view, svg in zip(record["views"], pictures(html), strict=True):
        keys = {key for element in svg.iter() if (key := element.get("data-key"))}
        ends = {element.get(end) for element in svg.iter() for end in ("data-tail", "data-head") if element.get(end)}
        if view["level"] != "state":
            assert ends <= keys
            assert {key for key in keys if not key.startswith(("to ", "from "))} == view["shapes"].keys()
        else:
            assert keys <= view["shapes"].keys()
        assert view["parent"] is None or view["parent"] in views
        for shape in view["shapes"].values():
            assert {*shape["stands"], *filter(None, [shape["node"]])} <= nodes.keys()
            assert shape["opens"] is None or views[shape["opens"]]["level"] in ("model", "block", "mixer", "state")
            shown |= {*shape["stands"], *filter(None, [shape["node"]])}
    diagrams = {view["shapes"]["h"]["node"] for view in record["views"] if view["level"] == "state"}
    assert diagrams == {key for key, node in nodes.items() if node["op"] == "state"}
    signals = {key for key, node in nodes.items() if node["dependence"] in ("input", "state") and node["op"] != "stack"}
    operators = {key for key in signals if nodes[key]["op"].startswith("op.")}
    assert signals - operators - shown == set()
    planned = plan(passes.run(spec.graph))
    assert sum(node["parameters"] for node in nodes.values()) == planned.parameters == record["total"]["parameters"]
    assert sum(node["bytes"] for node in nodes.values()) == planned.state_bytes
    assert sum(node["growth"] for node in nodes.values()) == planned.growth
    assert record["total"]["flops"] == pytest.approx(planned.flops, rel=0.2)  # less what only forms need


def test_a_node_says_its_line_and_a_memory_its_form() -> None:
    (record,) = data(page([load("mamba")], "mamba"))
    node = record["nodes"]["x[block]/y.mixer.s"]
    source, line, column, _ = node["at"]
    text = record["sources"][source]["text"].splitlines()[line - 1]
    assert text[column - 1 :].startswith("s:")
    assert record["sources"][source]["name"] == "mamba.yaml"
    assert node["state"]["structure"] == "diagonal over inner×state"
    assert node["state"]["form"] and node["state"]["why"]
    assert node["bytes"] == 24 * 1536 * 16 * 4
    assert "x[block]/y.mixer.y/mul" in node["users"]


def test_what_a_spec_says_stays_text() -> None:
    evil = "</script><script>window.evil = 1</script><b>{data}{script}"
    spec = loads(
        "ssir: 1\nname: small\ntitle: '" + evil + "'\ndims: {model: 8}\ncomponents:\n  main:\n    input: {u: [model]}\n"
        "    graph:  # " + evil + "\n      y: delay(u)\n    output: y\nmain: main\n"
    )
    html = page([spec], evil)
    assert html.count("<script") == html.count("</script>") == 2
    assert "<b>" not in html
    assert data(html)[0]["title"] == evil and evil in data(html)[0]["sources"][0]["text"]


def test_a_page_begins_where_it_is_told_to(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    for level, state, start in (
        (None, None, ""),
        ("mixer", None, "x[block]/y.mixer"),
        ("state", "s", "x[block]/y.mixer#s"),
    ):
        draw(load("mamba"), out, level, state)  # type: ignore[arg-type]
        assert data(out.read_text("utf-8"))[0]["start"] == start


def test_a_page_asks_for_nothing_from_elsewhere() -> None:
    html = page([load("mamba"), load("lstm")], "both")
    assert not re.search(r"(src|href)\s*=|@import|url\(|fetch\(|XMLHttpRequest|WebSocket|import\(", html)
    assert {*re.findall(r"https?://[\w./]+", html)} == {"http://www.w3.org/2000/svg"}
