"""Loops in Triton: what is wide is shared by programs, and all that the zoo has compiles for a GPU that is not here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ssir
from ssir.compilers.runtime import tritons

from ...small import first, inputs, small
from .test_loops import agree, cell

WIDE: list[tuple[str, dict[str, int]]] = [
    ("lstm", {"n": 130}),
    ("gru", {"n": 67}),
    ("by heads", {"n": 40, "head": 5}),
    ("by heads", {"n": 16, "head": 17}),
    ("elementwise", {"n": 600}),
    ("projected", {"n": 100, "p": 70}),
    ("a product of what a product gives", {"n": 129}),
    ("a matrix between pairs of axes", {"q": 10, "w": 13}),
    ("cut and joined", {"n": 66, "q": 22, "w": 3, "rest": 64}),
    ("turned", {"q": 300, "w": 4, "half": 2}),
]


@pytest.mark.parametrize("way", ["triton"], indirect=True)
@pytest.mark.parametrize(("name", "sizes"), WIDE, ids=str)
def test_programs_share_what_is_wide(way: str, name: str, sizes: dict[str, int]) -> None:
    agree(*cell(name, **sizes), 3, 6, True, torch.float64)


def test_several_programs_share_an_axis() -> None:
    for name, sizes, parts in (("elementwise", {"n": 600}, 3), ("by heads", {"n": 16, "head": 17}, 3)):
        _, loop = cell(name, **sizes)
        assert f"{loop.forward}_scratch, {loop.forward}_parts = 0, {parts}\n" in loop.kernels


def test_what_does_not_fit_is_left_to_torch() -> None:
    _, loop = cell("a projection of each of a set", q=300, w=200)
    assert not loop.kernels


def test_the_loops_of_the_zoo_compile_for_a_gpu_without_spills(tmp_path: Path) -> None:
    if not tritons.available():
        pytest.skip("there is no Triton for this machine")
    env = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    call = [sys.executable, "-m", "tests.compilers.loops.ahead"]
    done = subprocess.run(call, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {one["name"] for one in found} >= {"lstm", "gru", "slstm"}
    assert not [one for one in found if one["spilled"]]


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("name", "steps"), [("lstm", 17), ("gru", 17), ("slstm", 17), ("mamba", 300), ("griffin", 300), ("s4d", 300)]
)
def test_a_gpu_computes_what_the_processor_does(name: str, steps: int) -> None:
    spec = small(name)
    model, other = (ssir.compile(spec, dtype=torch.float64) for _ in range(2))
    given = inputs(model.graph, 3, steps)
    there = other.to("cuda")
    found, wanted = first(there(*(x.to("cuda") for x in given))[0]), first(model(*given)[0])
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-9, atol=1e-12)
    for y in (found, wanted):
        y.square().sum().backward()
    for (name, one), two in zip(there.named_parameters(), model.parameters(), strict=True):
        assert one.grad is not None, name
        torch.testing.assert_close(one.grad.cpu(), two.grad, rtol=1e-9, atol=1e-12, msg=name)
