"""What a plan is made for: sizes and a machine."""

import pytest

from ssir import passes
from ssir.compilers.forms import Setting
from ssir.compilers.plan import plan
from ssir.ir.graph import Graph
from ssir.spec.load import load
from tests.small import SMALL, component, small


@pytest.fixture(scope="module")
def s4() -> Graph:
    return passes.run(load("s4", layers=1).graph)


def chosen(graph: Graph, at: Setting) -> set[str]:
    return {entry.match.form.name for entry in plan(graph, at).entries}


def test_forms_are_chosen_for_sizes(s4: Graph) -> None:
    assert chosen(s4, Setting(steps=8192)) == {"chunked convolution"}
    assert chosen(s4, Setting(steps=4)) == {"compiled loop"}


def test_forms_are_chosen_for_a_machine() -> None:
    cell = passes.run(component("h: tanh(x + 0.5 * delay(h))\ny: h", "{x: [n]}", "{n: 64}").graph)
    assert chosen(cell, Setting(device="cpu")) == {"compiled loop"}
    assert chosen(cell, Setting(device="cuda")) == {"newton"}
    assert plan(cell, Setting(device="cuda", batch=8)).record()["batch"] == 8


def test_steps_of_a_scan_are_shared_where_channels_do_not_fill_a_gpu() -> None:
    few, many = Setting(1, 8192, device="cuda"), Setting(64, 8192, device="cuda")
    assert many.scan(16384) > 3 * few.scan(16384) > 3 * few.scan(64)
    assert Setting(1, 8192, device="cpu").scan(64) == 0
    lru = passes.run(load("lru", layers=1).graph)
    assert "scan" in chosen(lru, few)


@pytest.mark.parametrize("name", SMALL)
def test_more_takes_longer(name: str) -> None:
    graph = passes.run(small(name).graph)
    for device in ("cpu", "cuda"):
        some = plan(graph, Setting(device=device))
        for other in (Setting(8, device=device), Setting(1, 8192, device=device), Setting(1, 1024, "float64", device)):
            more = {entry.path: entry.seconds for entry in plan(graph, other).entries}
            for entry in some.entries:
                for form, seconds in entry.seconds.items():
                    assert more[entry.path][form] >= seconds, (entry.path, form)
