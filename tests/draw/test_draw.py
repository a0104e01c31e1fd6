"""Every picture of the zoo renders, says nothing empty, and lets nothing of a spec become markup."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest

from ssir.draw import Level, draw, render
from ssir.errors import EnvironmentLacks, UsageError
from ssir.registry import registry
from ssir.spec.load import Spec, load, loads, zoo
from tests.draw import geometry

NAMES = sorted({name for name, _ in zoo()})
LEVELS: tuple[Level, ...] = get_args(Level)
SMALL = """
ssir: 1
name: small
title: {title}
dims: {{model: 8, unusual_axis: 4}}
components:
  mixer:
    input: {{u: [model]}}
    graph:
      h:
        state: [model]
        A: sigmoid(linear(u, model))
        input: u
    output: h
main: mixer
"""
HOSTILE = '"<b>&\\"]; evil [label=<<script>alert(1)</script>>] \\N \\G // { }'


def small(title: str = "Small") -> Spec:
    return loads(SMALL.format(title="'" + title.replace("'", "''") + "'"))


def rendered(source: str) -> ElementTree.Element:
    return ElementTree.fromstring(render.render(source, "svg"))


def texts(svg: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in svg.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NAMES)
def test_every_level_of_the_zoo_renders(name: str, level: Level, capfd: pytest.CaptureFixture[str]) -> None:
    svg = rendered(draw(load(name), level=level))
    shown = texts(svg)
    assert "".join(shown).strip()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", NAMES)
def test_every_box_says_something(name: str) -> None:
    source = draw(load(name))
    for line in source.splitlines():
        if line.strip().startswith('"') and "->" not in line and 'style="invis"' not in line:
            label = line.split("label=", 1)[1]
            assert re.sub(r"<[^>]*>", "", label).strip(' ,;]"<>'), line


@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_smaller_than_eight_points(name: str) -> None:
    for level in LEVELS:
        source = draw(load(name), level=level)
        sizes = [float(size) for size in re.findall(r'(?:point-size|fontsize)="([\d.]+)"', source)]
        assert min(sizes) >= 8


def test_without_the_program_the_library_draws_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygraphviz")
    for level in LEVELS:
        source = draw(small(), level=level)
        by_either = sorted(texts(rendered(source)))
        monkeypatch.setattr(shutil, "which", lambda name: None)
        assert sorted(texts(rendered(source))) == by_either
        monkeypatch.undo()


def test_titles_and_names_cannot_become_markup() -> None:
    for level in LEVELS:
        source = draw(small(HOSTILE), level=level, title=HOSTILE)
        svg = rendered(source)
        assert not list(svg.iter("{http://www.w3.org/2000/svg}script"))
        # A backslash is drawn as its double: the real one has a meaning for Graphviz.
        assert any(HOSTILE.replace("\\", "∖") in shown.replace("\xa0", " ") for shown in texts(svg))


def test_control_characters_of_a_title_go() -> None:
    assert "\x1b" not in draw(small(), title="\x1b[31m\x00red\u202e")


def test_the_same_text_under_every_hash_seed(tmp_path: Path) -> None:
    program = (
        "from ssir.draw import draw; from ssir.spec.load import load; import sys; "
        "[sys.stdout.write(draw([load('mamba'), load('lstm')], level=l)) for l in ('model', 'block', 'mixer', 'state')]"
    )
    outputs = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, cwd=tmp_path, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_drawing_needs_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from ssir.draw import draw; assert 'networkx' not in sys.modules; "
        "from ssir.spec.load import load; draw(load('mamba')); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf", ".gv", ".dot", ".html"])
def test_writes_what_the_suffix_says(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"picture{suffix}"
    source = draw(small(), out)
    content = out.read_bytes()
    start = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF", ".html": b"<!doctype html>"}.get(suffix, b"digraph")
    assert content.startswith(start)
    assert source.startswith("digraph")
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_an_unknown_suffix_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`picture.bmp` ends in no kind of picture; there are \.svg, \.png"):
        draw(small(), tmp_path / "picture.bmp")
    assert not list(tmp_path.iterdir())


def test_a_plugin_can_bring_a_kind_of_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._entries, "renderer", {"txt": (lambda source: source.upper().encode(), "a plugin")})
    draw(small(), tmp_path / "picture.txt")
    assert (tmp_path / "picture.txt").read_text().startswith("DIGRAPH")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        draw(small(), tmp_path / "nowhere" / "picture.gv")


def test_a_failure_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "picture.gv"
    out.write_text("old")

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        draw(small(), out)
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [f"{tag} {key}={value}" for key, value in attrs if key in ("src", "href", "xlink:href", "data")]


def test_a_page_needs_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "picture.html"
    draw(small(HOSTILE), out, title=HOSTILE)
    page = _Page()
    page.feed(out.read_text(encoding="utf-8"))
    assert page.outside == []
    assert page.tags.count("svg") == page.tags.count("template") >= 2
    assert page.tags.count("script") == 2


def test_with_no_renderer_a_page_holds_the_dot_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(render, "find_spec", lambda name: None)
    draw(small(HOSTILE), tmp_path / "picture.html")
    content = (tmp_path / "picture.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(content)
    assert "svg" not in page.tags and "digraph ssir" in content and "pip install pygraphviz" in content
    with pytest.raises(EnvironmentLacks, match=r"nothing here can draw png: install Graphviz"):
        draw(small(), tmp_path / "picture.png")


def test_one_state_by_name() -> None:
    source = draw(load("mamba"), level="state", state="s")
    assert "mamba · s" in source and "mamba · conv" not in source
    with pytest.raises(UsageError, match="`mamba` has no state `t`"):
        draw(load("mamba"), level="state", state="t")


def test_an_unknown_level_and_nothing_to_draw() -> None:
    with pytest.raises(UsageError, match="there is no level `atom`"):
        draw(small(), level="atom")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="there is nothing to draw"):
        draw([])


@pytest.mark.parametrize("names", [*NAMES, "griffin,mamba,hgrn2", "lstm,gru,mamba"])
def test_no_text_lies_on_another_and_no_wire_runs_through_a_box(names: str) -> None:
    for level in LEVELS:
        svg = rendered(draw([load(name) for name in names.split(",")], level=level))
        assert geometry.overlapping(svg) == []
        assert geometry.pierced(svg) == []


ODD = """
ssir: 1
name: odd
dims: {model: 16, n: 8, slot: unbounded, state: 4}
constants: {step: 0.01}
components:
  dense_one:
    input: {f: [model]}
    graph:
      h:
        state: [model, n]
        A: dense(param([n, n_], init=zeros, name=hippo), over=n)
        B: param([n], init=ones, name=b)
        input: f
        C: param([model, n])
        discretize: {method: bilinear, dt: step}
    output: h
  complex_one:
    input: {x: [model]}
    graph:
      h:
        state: [model]
        A: polar(exp(-exp(param([model], init=zeros, name=nu))), exp(param([model], init=zeros, name=theta)))
        input: x
      y: real(h)
    output: y
  several:
    input: {x: [model]}
    graph:
      far: delay(x, steps=5)
      seg: hold(x, every=8)
      whole: mean(context(x, slot), over=slot)
      acc:
        state: [model]
        input: x * far
      y: acc + seg * whole + delay(y)
    output: y
  two:
    input: {x: [model], w: [model]}
    graph:
      h:
        state: [model]
        A: sigmoid(linear(x + w, model))
        input: x
        initial: param([model], init=zeros, name=h0)
      g: h * w
    output: {out: g, extra: h}
  delta:
    input: {k: [n], v: [model]}
    graph:
      beta: sigmoid(linear(k, n))
      s:
        state: [n, model]
        A: 1 - outer(beta * k, k, over=n)
        B: beta * k
        input: v
        C: k
    output: s
  main:
    input: {x: [model]}
    graph:
      a, b: two(complex_one(x), dense_one(x))
      y: several(a + b) + delta(linear(x, n), x)
    output: y
main: main
"""


@pytest.mark.parametrize("level", LEVELS)
def test_memories_of_every_kind_can_be_drawn(level: Level) -> None:
    shown = " ".join(texts(rendered(draw(loads(ODD), level=level))))
    if level == "mixer":
        assert "dense along n" in shown and "diagonal plus rank one along n" in shown and "z⁻⁵" in shown


def test_a_comparison_marks_what_differs() -> None:
    source = draw([load("mamba"), load("lstm")])
    assert "<b><font" in source and ">diagonal over model<" in source
    assert "<b><font" not in draw(load("mamba"))


def test_a_picture_wider_than_a_page_goes_on_in_a_further_line() -> None:
    wide = draw(load("rwkv6"))
    assert wide.count("①") >= 2 and "①" not in draw(load("mamba"))


def test_scaling_by_the_position_is_drawn_and_by_a_number_stands_on_the_wire() -> None:
    source = """
ssir: 1
name: average
dims: {n: 8, m: 3}
components:
  main:
    input: {x: [n]}
    graph:
      total: {state: [n], input: x}
      y: linear(0.5 * total / (position + 1), m)
    output: y
main: main
"""
    shown = texts(rendered(draw(loads(source), level="mixer")))
    assert any("position + 1" in text for text in shown)
    assert any("0.5" in text for text in shown)


def test_a_stack_inside_a_component_is_part_of_its_box() -> None:
    source = """
ssir: 1
name: nested
dims: {n: 8}
components:
  block:
    input: {x: [n]}
    graph: {y: x + delay(x)}
    output: y
  encoder:
    input: {x: [n]}
    graph:
      y: {stack: [block], times: 3, input: x}
    output: y
  main:
    input: {x: [n]}
    graph:
      z: {stack: [block], times: 2, input: encoder(x)}
    output: z
main: main
"""
    shown = texts(rendered(draw(loads(source), level="model")))
    assert "encoder" in shown and "× 2" in shown and "× 3" not in shown


def test_a_sampled_system_is_shown_with_its_rates() -> None:
    said = texts(rendered(draw(load("mass_spring"), level="state")))
    assert any("sampled by bilinear with step dt: A = dense(" in line for line in said)


def test_what_remembers_nothing_says_so() -> None:
    said = " ".join(texts(rendered(draw(load("glu"), level="state"))))
    assert "no memory" in said
    assert "whole sequence" in " ".join(texts(rendered(draw(load("bert"), level="state"))))


def test_mixers_that_are_alike_are_drawn_once() -> None:
    titles = [line for line in texts(rendered(draw(load("jamba")))) if line.startswith("jamba")]
    assert titles == ["jamba · dense, sparse", "jamba · attention"]
