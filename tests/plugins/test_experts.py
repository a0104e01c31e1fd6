"""Mixtures of experts: every way of running them gives the plain sum, and the choice is of the k largest."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssir.plugins.mixture.kernels import experts

E, K, IN, HIDDEN, OUT = 5, 2, 4, 6, 3


def maps(gated: bool) -> tuple[Tensor | None, Tensor, Tensor]:
    torch.manual_seed(0)
    gate, up = (torch.randn(E, HIDDEN, IN, dtype=torch.float64, requires_grad=True) for _ in range(2))
    return gate if gated else None, up, torch.randn(E, OUT, HIDDEN, dtype=torch.float64, requires_grad=True)


def plain(x: Tensor, weights: Tensor, gate: Tensor | None, up: Tensor, down: Tensor) -> Tensor:
    parts = []
    for e in range(E):
        hidden = F.silu(x @ (up if gate is None else gate)[e].T)
        parts.append(weights[..., e, None] * ((hidden if gate is None else hidden * (x @ up[e].T)) @ down[e].T))
    return torch.stack(parts).sum(0)


@pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="this torch has no products of groups")
@pytest.mark.parametrize("gated", [True, False])
def test_the_products_of_all_experts_as_one(gated: bool) -> None:
    torch.manual_seed(0)
    gate, up = (torch.randn(E, 16, 8, requires_grad=True) for _ in range(2))
    all_maps = gate if gated else None, up, torch.randn(E, 24, 16, requires_grad=True)
    x, weights = torch.randn(7, 8, requires_grad=True), torch.rand(7, K, requires_grad=True)
    index = torch.stack([torch.randperm(E - 1)[:K] for _ in range(7)])  # the last one has no tokens
    leaves = [x, weights, *(one for one in all_maps if one is not None)]
    found = []
    for way in (experts.by_group, experts.by_expert):
        y = way(x, weights, index, *all_maps, "silu")
        found.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("way", ["experts", "all", "by_expert", "by_token"])
def test_every_way_gives_the_plain_sum_and_its_gradients(way: str, gated: bool) -> None:
    all_maps = maps(gated)
    x = torch.randn(2, 7, IN, dtype=torch.float64, requires_grad=True)
    p = torch.softmax(torch.randn(2, 7, E, dtype=torch.float64, requires_grad=True), -1)
    chosen = experts.top(p, -1, K)
    weights = p * chosen
    if way == "experts":
        y = experts.experts(x, weights, chosen, K, *all_maps, "silu")
    elif way == "all":
        y = experts.experts(x, weights, None, 0, *all_maps, "silu")
    else:
        index = chosen.flatten(0, 1).topk(K).indices
        rows, picked = x.flatten(0, 1), weights.flatten(0, 1).gather(-1, index)
        y = getattr(experts, way)(rows, picked, index, *all_maps, "silu").unflatten(0, (2, 7))
    wanted = plain(x, weights, *all_maps)
    assert torch.allclose(y, wanted, atol=1e-12)
    probe, leaves = torch.randn_like(y), [x, p, *(one for one in all_maps if one is not None)]
    for found, expected in zip(
        torch.autograd.grad((y * probe).sum(), leaves, retain_graph=True),
        torch.autograd.grad((wanted * probe).sum(), leaves),
        strict=True,
    ):
        assert torch.allclose(found, expected, atol=1e-12)


def test_an_expert_that_nobody_chooses_is_not_run() -> None:
    gate, up, down = maps(True)
    with torch.no_grad():
        up[3] = torch.nan
    x = torch.randn(4, IN, dtype=torch.float64)
    weights = torch.zeros(4, E, dtype=torch.float64)
    weights[:, :K] = 0.5
    y = experts.experts(x, weights, experts.top(weights, -1, K), K, gate, up, down, "silu")
    assert y.isfinite().all()


def test_of_equal_entries_the_first_are_chosen() -> None:
    x = torch.tensor([[1.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    assert experts.top(x, -1, 2).tolist() == [[0, 1, 1, 0], [1, 1, 0, 0]]
    assert experts.top(x.T, 0, 2).T.tolist() == [[0, 1, 1, 0], [1, 1, 0, 0]]


def test_what_is_not_there_is_not_chosen() -> None:
    x, there = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([False, True, False])
    assert experts.top(x, -1, 2, there).tolist() == [0, 1, 0]
