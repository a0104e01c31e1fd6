"""Pages in headless Chromium, as a reader uses them: clicks, keys, search, linked panes; no network, no complaint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssir.draw.page import page
from ssir.spec.load import load, loads
from tests.draw import browser

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="there is no Chromium here: apt-get install chromium")
PAUSED = 450  # milliseconds after which a click is no second click


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    one = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


class Reader:
    """Opens a page, and looks at a pane of it."""

    def __init__(self, chromium: browser.Browser, tmp_path: Path, *names: str) -> None:
        self.chromium, self.path = chromium, tmp_path / "page.html"
        self.path.write_text(page([load(name) for name in names], ", ".join(names)), "utf-8")
        chromium.open(self.path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.chromium, name)

    def at(self, key: str, pane: int = 0) -> tuple[float, float]:
        """The middle of a box on the screen."""
        x, y = self.run(
            f"(() => {{ const g = panes[{pane}].groups({key!r})[0].getBoundingClientRect(); return [g.x + g.width / 2, g.y + g.height / 2] }})()"
        )
        return x, y

    def click_on(self, key: str, pane: int = 0, times: int = 1) -> None:
        self.wait(PAUSED)
        self.chromium.click(*self.at(key, pane), times=times)

    def view(self, pane: int = 0) -> str:
        return str(self.run(f"panes[{pane}].view.key"))

    def box(self, pane: int = 0) -> list[float]:
        found: list[float] = self.run(f"panes[{pane}].box()")
        return found

    def facts(self) -> str:
        return str(self.run("document.getElementById('facts').innerText"))

    def crumbs(self, pane: int = 0) -> list[str]:
        found: list[str] = self.run(f"[...panes[{pane}].crumbs.querySelectorAll('button')].map(one => one.textContent)")
        return found

    def marked(self, what: str, pane: int = 0) -> list[str]:
        found: list[str] = self.run(f"[...panes[{pane}].svg.querySelectorAll('.{what}')].map(one => one.dataset.key)")
        return found

    def done(self) -> None:
        """Nothing was complained of, and nothing was asked for but the page."""
        assert self.complaints == []
        assert self.requests == [self.path.as_uri()]


@pytest.mark.parametrize(
    ("name", "way", "memory", "line"),
    [
        ("mamba", ["x 0", "y.mixer/call"], "s", "s:"),
        ("griffin", ["x 0", "mixed.recurrent/call"], "h", "h:"),
        ("lstm", ["x 0"], "c", "c:"),
    ],
)
def test_a_reader_goes_down_to_a_memory_and_up_again(
    chromium: browser.Browser, tmp_path: Path, name: str, way: list[str], memory: str, line: str
) -> None:
    reader = Reader(chromium, tmp_path, name)
    assert reader.view() == "" and reader.crumbs() == [name]
    assert "the whole model" in reader.facts()
    for i, box in enumerate(way):
        reader.click_on(box)
        assert len(reader.crumbs()) == i + 2
        assert "share of the whole" in reader.facts()
    mixer = reader.view()
    reader.click_on(memory)
    assert reader.view() == mixer and reader.marked("picked") == [memory]
    told = reader.facts()
    for words in (
        "structure of A",
        "diagonal",
        "form",
        "parameters",
        "FLOPs a token",
        "bytes of state",
        "what depends on it",
    ):
        assert words in told
    assert reader.run("document.querySelector('#facts .at').textContent").strip().startswith(line)
    reader.click_on(memory, times=2)
    assert reader.view().endswith(f"#{memory}")
    assert {"A", "h"} <= set(reader.run("Object.keys(panes[0].view.shapes)"))
    reader.click_on("A")
    assert "what depends on it" in reader.facts()
    for _ in range(len(way) + 1):
        reader.key("Escape")
    assert reader.view() == ""
    reader.key("Escape")
    assert reader.view() == ""
    reader.done()


def test_a_box_is_reached_and_unfolded_with_keys_alone(chromium: browser.Browser, tmp_path: Path) -> None:
    reader = Reader(chromium, tmp_path, "mamba")
    reader.run("panes[0].groups('x 0')[0].focus()")
    reader.key("Enter")
    assert reader.crumbs() == ["mamba", "block"]
    home = reader.box()
    reader.key("ArrowRight")
    assert reader.box()[0] > home[0]
    reader.key("+")
    assert reader.box()[2] < home[2]
    reader.key("-")
    assert reader.box()[2] == pytest.approx(home[2])
    reader.key("0")
    assert reader.box() == pytest.approx(home)
    labels = reader.run(
        "[...panes[0].svg.querySelectorAll('[data-key]')].map(one => [one.getAttribute('role'), one.getAttribute('aria-label')])"
    )
    assert all(role == "button" and label for role, label in labels)
    assert reader.run("[...document.querySelectorAll('button')].every(one => one.textContent || one.ariaLabel)")
    reader.done()


def test_the_picture_is_dragged_and_zoomed_at_the_pointer(chromium: browser.Browser, tmp_path: Path) -> None:
    reader = Reader(chromium, tmp_path, "mamba")
    home, place = reader.box(), reader.at("e")
    reader.wheel(*place, -400)
    near = reader.box()
    assert near[2] < home[2]
    assert reader.at("e") == pytest.approx(place, abs=2)
    reader.drag((500, 650), (560, 690))
    assert reader.at("e") == pytest.approx((place[0] + 60, place[1] + 40), abs=2)
    assert reader.view() == "" and reader.marked("picked") == []
    reader.done()


def test_hovering_shows_what_a_box_reads_and_what_reads_it(chromium: browser.Browser, tmp_path: Path) -> None:
    reader = Reader(chromium, tmp_path, "mamba")
    reader.move(*reader.at("logits/rms_norm"))
    assert reader.marked("operand") == ["x 0"] and reader.marked("user") == ["logits"]
    reader.done()


def test_a_number_where_a_line_goes_on_is_no_box(chromium: browser.Browser, tmp_path: Path) -> None:
    reader = Reader(chromium, tmp_path, "griffin")
    reader.run("panes[0].go('x[recurrence]/mixed.recurrent')")
    reader.click_on("to ①", times=2)
    assert reader.marked("picked") == ["to ①"] and "the whole model" in reader.facts()
    reader.done()


def test_search_finds_by_name_operation_and_axis_through_the_levels(chromium: browser.Browser, tmp_path: Path) -> None:
    reader = Reader(chromium, tmp_path, "griffin")
    for words, name in (
        ("log_a", "mixed.recurrent.log_a"),
        ("softmax", "mixed.mixer.read.C"),
        ("block", "mixed.recurrent.h"),
    ):
        reader.key("/")
        reader.type(words)
        found = reader.run("[...document.querySelectorAll('#found li')].map(one => one.firstChild.textContent)")
        assert name in found
        for _ in range(found.index(name)):
            reader.key("ArrowDown")
        reader.key("Enter")
        assert len(reader.crumbs()) >= 3 and len(reader.marked("picked")) == 1
        assert name.rpartition(".")[2] in reader.facts()
    reader.key("/")
    reader.type("nothing of that name")
    assert "nothing is called so" in reader.run("document.getElementById('found').innerText")
    reader.key("Escape")
    assert reader.run("document.getElementById('found').hidden")
    reader.done()


def test_linked_panes_move_and_unfold_together_and_mark_what_is_alike(
    chromium: browser.Browser, tmp_path: Path
) -> None:
    reader = Reader(chromium, tmp_path, "griffin", "mamba")
    reader.click_on("x 0", 1)
    reader.click_on("y.mixer/call", 1)
    assert reader.run("panes.map(pane => pane.view.level)") == ["mixer", "mixer"]
    assert reader.crumbs(0) == ["griffin", "recurrence", "recurrent"]
    reader.click_on("s", 1)
    assert reader.marked("like") == ["h"]
    assert "of like structure" in reader.facts() and "griffin: mixed.recurrent.h" in reader.facts()
    top = "panes.map(pane => pane.root.getBoundingClientRect().top)"
    assert reader.run(f"new Set({top}).size") == 2
    reader.run("document.getElementById('turn').click()")
    assert reader.run(f"new Set({top}).size") == 1
    reader.run("panes[1].canvas.focus()")
    before, other = reader.box(1), reader.box(0)
    reader.key("+")
    assert reader.box(0)[2] / other[2] == pytest.approx(reader.box(1)[2] / before[2])
    reader.run("document.getElementById('link').click()")
    other = reader.box(0)
    reader.run("panes[1].canvas.focus()")
    reader.key("+")
    assert reader.box(0) == other
    reader.key("Escape")
    assert reader.run("panes.map(pane => pane.view.level)") == ["mixer", "block"]
    reader.done()


def test_a_hostile_spec_does_no_harm(chromium: browser.Browser, tmp_path: Path) -> None:
    evil = '</script><script>window.evil = 1</script><img src=x onerror="window.evil = 1"><b>bold'
    spec = loads(
        "ssir: 1\nname: small\ntitle: '" + evil + "'\ndims: {model: 8}\ncomponents:\n  main:\n    input: {u: [model]}\n"
        "    graph:  # " + evil + "\n      y: delay(u)\n    output: y\nmain: main\n"
    )
    path = tmp_path / "evil.html"
    path.write_text(page([spec], evil), "utf-8")
    chromium.open(path)
    assert chromium.run("panes[0].jump('y') && document.title") == evil
    assert evil in chromium.run("document.getElementById('facts').innerText")
    assert chromium.run("[typeof window.evil, document.querySelectorAll('b, img').length]") == ["undefined", 0]
    assert chromium.complaints == [] and chromium.requests == [path.as_uri()]
