"""The blocks of the kernels of chunks are chosen among those that are right."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ssir.compilers.runtime import tritons, tuned
from ssir.plugins.linear_attention.kernels.chunks import launches, tuning
from ssir.plugins.linear_attention.kernels.chunks.launches import Blocks
from tests.compilers.interpreted import interpreted
from tests.compilers.runtime.checks import close

from . import test_chunked

SLOW, WRONG, FAST = Blocks(32, 16, 16, 4, 4), Blocks(16, 16, 16, 2, 2), Blocks(16, 16, 16, 4, 4)
CPU = torch.device("cpu")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Blocks]]:
    """What was timed: programs of fewer steps are faster. Kernels of two groups of threads are made wrong."""
    interpreted(monkeypatch)
    monkeypatch.setenv("SSIR_TUNE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tuning, "_others", lambda first: [WRONG, FAST])
    monkeypatch.setattr(launches, "blocks", lambda *sizes: SLOW)
    timed: list[Blocks] = []

    def seconds(run: Any, way: Blocks, device: torch.device) -> float:
        timed.append(way)
        return way.steps + way.warps

    monkeypatch.setattr(tuned, "_seconds", seconds)
    launch = tritons.launch

    def faulty(kernel: Any, grid: Any, *given: Any, warps: int = 8, **named: Any) -> None:
        launch(kernel, grid, *given, warps=warps, **named)
        if warps == 2 and kernel.fn.__name__ == "outputs":
            given[6].mul_(1.1)

    monkeypatch.setattr(tritons, "launch", faulty)
    tuned._known.cache_clear()
    yield timed
    tuned._known.cache_clear()


def test_what_is_wrong_is_neither_timed_nor_chosen(measured: list[Blocks], monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = test_chunked.inputs("scalar", 1, 20, 1, 3, 5, 1, "moving")
    y, _ = test_chunked.KERNELS["scalar"](**given)
    close("y", y, test_chunked.naive(**given)[0], 1e-5)
    assert measured == [SLOW, FAST]
    (known,) = tuned._known(CPU).values()
    assert Blocks(*known) == FAST
    # Another process finds it, and does not ask for it.
    tuned._known.cache_clear()
    measured.clear()
    monkeypatch.delenv("SSIR_TUNE")
    test_chunked.KERNELS["scalar"](**given)
    assert not measured and Blocks(*next(iter(tuned._known(CPU).values()))) == FAST


def test_nothing_is_measured_unless_it_is_asked_for(measured: list[Blocks], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSIR_TUNE")
    test_chunked.KERNELS["scalar"](**test_chunked.inputs("scalar", 1, 20, 1, 3, 5, 1, "moving"))
    assert not measured and not tuned._known(CPU)


def test_a_page_that_cannot_be_read_is_none(measured: list[Blocks]) -> None:
    tuned._path(CPU).write_text("[", encoding="utf-8")
    assert tuned._known(CPU) == {}


def test_all_ways_are_others_than_the_first() -> None:
    first = launches.blocks(1, 4096, 128, 128, False, False)
    others = tuning.__dict__["_others"](first)
    assert len(others) > 5 and first not in others and len(set(others)) == len(others)
    assert all(way.steps % launches.SUB == 0 for way in others)
