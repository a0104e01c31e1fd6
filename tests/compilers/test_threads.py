"""Two threads compute what one does: work is large enough for both to have some, and each adds into a share of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import ssir
from ssir.compilers.runtime import native
from ssir.compilers.runtime.pointwise import rms_norm
from tests.compilers.runtime.test_custom_ops import selective
from tests.compilers.test_forms import spec

WIDE = {
    "a norm": ("y: rms_norm(x, over=n)", 2048),
    "a gated norm": ("y: rms_norm(x, over=n) * silu(linear(x, n))", 256),
    "a filter": (
        "y: silu({name})\n{name}: {{state: [tap, n], A: shift(tap), input: x, C: 'param([tap, n], init=normal(1))'}}",
        1024,
    ),
    "a scan": ("y: {{state: [n], A: 'sigmoid(x * param([n], init=normal(1)))', input: x}}", 1024),
    "a selective scan": (
        "dt: softplus(x * param([n], init=normal(1)))\ny: {{state: [n, m], A: 'exp(-dt * exp(param([n, m], init=normal(1))))', B: 'dt * linear(x, m)', input: x, C: 'linear(x, m)', D: 'param([n], init=ones)'}}",
        512,
    ),
    "attention": (
        "q: linear(x, [head, key])\nk: linear(x, [head, key])\ny: dot(softmax(dot(q, window(k, slot), over=key), over=slot), window(linear(x, [head, value]), slot), over=slot)",
        256,
    ),
    "turns": ("y: rotate(split(x, [part, two]), 0.1 * position * arange(one), over=two)", 1024),
}
BATCH, STEPS = 2, 80


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", WIDE)
def test_two_threads_agree_with_one(name: str) -> None:
    text, width = WIDE[name]
    one = spec(text.format(name="f"))
    one = ssir.loads(one.module.document.source.text.replace("n: 3", f"n: {width}, part: {width} / 2, two: 2, one: 1"))
    model = ssir.compile(one, seed=1)
    x = torch.randn(BATCH, STEPS, width, generator=torch.Generator().manual_seed(0))
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        assert torch.get_num_threads() == count
        results.append(run(model, x))
    for first, second in zip(*results, strict=True):
        scale = first.abs().max().clamp(min=1e-3)
        assert (first - second).abs().max() <= 2e-5 * scale


def run(model: torch.nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y, state = model(x)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    leaves = [x, *model.parameters()]
    with torch.no_grad():
        values = [y.clone(), *(one.clone().float() for one in state.values())]
    return values + list(torch.autograd.grad((y * weight).sum(), leaves))


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_threads_wait_for_one_another_in_a_cell(name: str) -> None:
    model = ssir.compile(ssir.load(name, None, model=256, layers=1, vocab=7), seed=1)
    tokens = torch.randint(7, (BATCH, 40), generator=torch.Generator().manual_seed(0))
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        y, _ = model(tokens)
        results.append([y, *torch.autograd.grad(y.square().sum(), list(model.parameters()))])
    for first, second in zip(*results, strict=True):
        assert (first - second).abs().max() <= 1e-4 * first.abs().max()


@pytest.mark.skipif(native.library(torch.float32) is None, reason="without a C compiler there is but one thread here")
def test_each_tile_has_a_share_of_its_own_in_what_is_summed_over_channels() -> None:
    """Then two threads make the same sum as one, to the last bit."""
    width, states = 1024, 4
    random = torch.Generator().manual_seed(0)
    given = {"g": torch.rand(1, 50, width, generator=random), "L": -torch.rand(width, states, generator=random)}
    given["u"] = torch.rand(1, 50, width, generator=random)
    given |= {name: torch.randn(1, 50, states, generator=random, requires_grad=True) for name in "bc"}
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        y, _ = selective(width, states)(None, None, **given)
        results.append(torch.autograd.grad(y.square().sum(), [given["b"], given["c"]]))
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


@pytest.mark.skipif(native.library(torch.float32) is None, reason="without a C compiler there is but one thread here")
def test_each_thread_adds_into_a_share_of_its_own_in_a_norm() -> None:
    """Then two threads make the sum over all rows as one makes it over each half, to the last bit."""
    rows, width = 4096, 64
    random = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(rows, width, generator=random) for _ in range(2))
    scale = torch.ones(width, requires_grad=True)

    def sums(which: slice, threads: int) -> Tensor:
        torch.set_num_threads(threads)
        return torch.autograd.grad((rms_norm(x[which], scale, 1e-6) * weight[which]).sum(), scale)[0]

    half = rows // 2
    assert torch.equal(sums(slice(None), 2), sums(slice(half), 1) + sums(slice(half, None), 1))
