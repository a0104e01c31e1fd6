"""The submodules compute what torch's do, called as modules and as what they run."""

import pytest
import torch
from torch import nn

from ssir.compilers.runtime import layers

KINDS: dict[str, tuple[nn.Module, nn.Module]] = {
    "linear": (layers.Linear(torch.float64, None, 5, 6, True), nn.Linear(6, 5)),
    "linear without bias": (layers.Linear(torch.float64, None, 5, 6, False), nn.Linear(6, 5, bias=False)),
    "rms norm": (layers.RMSNorm(torch.float64, None, 6, 0.25), nn.RMSNorm(6, 0.25)),
    "layer norm": (layers.LayerNorm(torch.float64, None, 6, 0.25, True), nn.LayerNorm(6, 0.25)),
    "layer norm without bias": (
        layers.LayerNorm(torch.float64, None, 6, 0.25, False),
        nn.LayerNorm(6, 0.25, bias=False),
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_layer_is_that_of_torch(name: str) -> None:
    ours, theirs = KINDS[name]
    theirs = theirs.double()
    for i, weight in enumerate(theirs.parameters()):
        nn.init.normal_(weight, generator=torch.Generator().manual_seed(i))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    for call in (ours, layers.bound(ours)):
        torch.testing.assert_close(call(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_an_embedding_and_maps_by_entry() -> None:
    table = layers.Embedding(torch.float64, None, 4, 3)
    nn.init.normal_(table.weight)
    assert torch.equal(table(torch.tensor([[1, 3]])), table.weight[[1, 3]][None])
    maps = layers.BlockLinear(torch.float64, None, (2,), 5, 3, True)
    for weight in maps.parameters():
        nn.init.normal_(weight)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    assert maps.bias is not None
    wanted = torch.einsum("poi,bpi->bpo", maps.weight, x) + maps.bias
    torch.testing.assert_close(maps(x), wanted, rtol=1e-12, atol=1e-12)
