"""What would run on a GPU that is not here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssir import ahead
from ssir.compilers.runtime import tritons
from ssir.spec.load import zoo


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("mamba2", {"states", "outputs"}),
        ("hgrn2", {"pairs_by_key", "states", "outputs"}),
        ("gated_delta_net", {"pairs_by_head", "solve", "walk", "outputs"}),
    ],
)
def test_a_row_is_counted_without_a_gpu(name: str, kernels: set[str]) -> None:
    if not tritons.available():
        pytest.skip("there is no Triton for this machine")
    found = ahead.row(name, 2048, layers=2)
    assert kernels <= set(found.forward), found.forward
    assert all(found.forward[one] == found.layers for one in kernels)
    assert found.torch[0] and found.torch[1]


def test_the_page_has_every_row_and_no_kernel_of_it_spills() -> None:
    cells = [line.split("|") for line in (Path(__file__).parents[1] / "docs/gpu.md").read_text("utf-8").splitlines()]
    rows = {cell[1].strip(): cell[3].strip() for cell in cells if len(cell) == 10 and cell[3].strip().isdigit()}
    assert set(rows) == {name for name, _ in zoo()}
    assert {
        cell[2].strip(): cell[4].strip()
        for cell in cells
        if len(cell) == 7 and cell[4].strip() not in ("0", "spilled", "---:")
    } == {}


def test_the_kernels_of_a_row_compile_without_spills(tmp_path: Path) -> None:
    if not tritons.available():
        pytest.skip("there is no Triton for this machine")
    page = tmp_path / "gpu.md"
    env = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path / "cache")}
    call = [sys.executable, "-m", "ssir.ahead", "hgrn2", "-o", str(page)]
    done = subprocess.run(call, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = next(line.split("|") for line in page.read_text().splitlines() if line.startswith("| hgrn2 | 8192"))
    assert 0 < float(counts[7]) < float(counts[4]), counts
    rows = [line.split("|") for line in page.read_text().splitlines() if line.count("|") == 6]
    spilled = {row[2].strip(): row[4].strip() for row in rows if row[3].strip().isdigit()}
    assert {"states", "outputs", "pairs_by_key"} <= set(spilled)
    assert not {name for name, count in spilled.items() if count != "0"}
