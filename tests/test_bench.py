"""The harness of the benchmarks, at sizes at which no time means anything."""

import json
from pathlib import Path

import pytest
import torch

from ssir import bench, limits
from ssir.api import compile
from ssir.errors import UsageError
from ssir.registry import registry
from ssir.spec.load import load

SMALL = {"layers": 1, "shapes": ((1, 8),), "vocab": 16, "repeats": 2, "seconds": 0.0}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "PROMPT", 4)
    monkeypatch.setattr(bench, "_SAMPLE", 0.0)
    monkeypatch.setattr(bench, "_DECODED", 2)
    monkeypatch.setattr(limits, "_SHAPES", ((4, 4, 4),))
    monkeypatch.setattr(limits, "_WIDE", 64)


def test_a_report_compares_with_a_peer_in_every_mode(tmp_path: Path) -> None:
    seen: list[bench.Cell] = []
    report = bench.run(["lstm"], [8], tell=seen.append, **SMALL)  # type: ignore[arg-type]
    assert [cell.mode for cell in report.cells] == list(bench.MODES) and list(report.cells) == seen
    for cell in report.cells:
        assert cell.parameters == cell.peer_parameters
        assert cell.peer_tokens and cell.ratio and cell.pairs >= 2
        assert cell.tokens.low <= cell.tokens.median <= cell.tokens.high
        assert cell.share > 0
    bench.write(report, tmp_path)
    raw = json.loads((tmp_path / "benchmarks.json").read_text())
    assert set(raw) == {"machine", "settings", "cells", "notes"}
    assert set(raw["cells"][0]) == set(bench.Cell.__dataclass_fields__)
    assert {"cpu", "cores", "torch", "matmul_gflops"} <= set(raw["machine"])
    page = (tmp_path / "benchmarks.md").read_text()
    assert all(f"| {mode} |" in page for mode in bench.MODES)


def test_a_spec_without_a_peer_is_measured_alone() -> None:
    report = bench.run(["lstm"], [8], modes=["forward"], peers=False, **SMALL)  # type: ignore[arg-type]
    assert report.cells[0].peer is None and report.cells[0].ratio is None
    assert "–" in bench.render(report)


def test_a_peer_that_is_not_installed_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(dims: object, mode: str) -> bench.Side:
        raise ModuleNotFoundError("no", name="elsewhere")

    peer = registry.require("peer", "gpt2")
    monkeypatch.setattr(type(peer), "build", lambda self, dims, mode: missing(dims, mode))
    report = bench.run(["lstm"], [8], modes=["forward"], **SMALL)  # type: ignore[arg-type]
    assert report.cells[0].peer is None and "elsewhere" in report.notes["lstm"]


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no mode `sideways`"):
        bench.run(["lstm"], modes=["sideways"])


def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        bench.run(["lstm"], [8], modes=["forward"], peers=False, threads=1, **SMALL)  # type: ignore[arg-type]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", registry.names("peer"))
def test_a_peer_is_of_the_size_of_the_spec_and_decodes_what_it_computes(name: str) -> None:
    pytest.importorskip("transformers")
    peer: bench.Peer = registry.require("peer", name)
    small: dict[str, float] = {"model": 128, "layers": 3, "vocab": 16}
    known = load(name).module.file.dims
    spec = load(name, None, **small, **peer.dims(128), **({"length": 16.0} if "length" in known else {}))
    side = peer.build(spec.dims, "decode")
    ours = compile(spec)
    assert sum(p.numel() for p in side.module.parameters()) == sum(p.numel() for p in ours.parameters())
    tokens = torch.randint(16, (1, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = side.forward(tokens)
        state = side.prompt(tokens[:, :6])
        for t in range(6, 9):
            y, state = side.step(tokens[:, t], state)
            assert torch.allclose(y, whole[:, t], atol=1e-4)


def test_every_shape_is_measured_and_decoding_once_a_batch() -> None:
    report = bench.run(["lstm"], [8], peers=False, **SMALL | {"shapes": ((1, 8), (2, 8), (1, 9))})  # type: ignore[arg-type]
    found = [(cell.mode, cell.batch, cell.steps) for cell in report.cells]
    wanted = [(mode, *shape) for shape in ((1, 8), (2, 8), (1, 9)) for mode in bench.MODES[:2]]
    assert found == [*wanted, ("decode", 1, 4), ("decode", 2, 4)]
