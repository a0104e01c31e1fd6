"""Models for the tests of the runtime: one of every structure, small, their parameters moved off values that would hide faults."""

import torch

import ssir
from ssir.compilers.runtime.model import Model
from tests.small import small

NAMES = ["mamba", "griffin", "rwkv6", "gated_delta_net", "mlstm", "transformer", "lstm", "gru"]
VOCAB = 11


def model(name: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> Model:
    made: Model = ssir.compile(small(name), seed=seed, dtype=dtype)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator).to(p))
    return made


def tokens(batch: int = 2, time: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCAB, (batch, time), generator=torch.Generator().manual_seed(seed))


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
