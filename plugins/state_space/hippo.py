"""Initialisers from HiPPO-LegS (arXiv:2008.07669): A[n, k] = -sqrt((2n + 1)(2k + 1)) for n > k, -(n + 1) for n = k, and the input
b[n] = sqrt(2n + 1). With p[n] = sqrt(n + 1/2), A + p p^T is -1/2 and a skew-symmetric part (arXiv:2111.00396, theorem 1), whose
eigenvectors turn A into diag(-1/2 + i w) - p p*.

Eigenvalues come in conjugate pairs. For a parameter whose last axis has n entries, each of these is that of the matrix of size 2n:
one of each pair, the one with w > 0, the largest first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ssir.initial import Draw
    from ssir.registry import Registry

_LARGEST = 2.0  # of the imaginary part of b, as in the authors' code


@cache
def legs(pairs: int) -> tuple[Tensor, Tensor, Tensor]:
    """w, p and b in the coordinates of the eigenvectors: [pairs]."""
    import torch

    b = torch.sqrt(2 * torch.arange(2 * pairs, dtype=torch.float64) + 1)
    below = torch.tril(torch.outer(b, b), -1)
    found, vectors = torch.linalg.eigh(0.5j * (below.T - below))  # -w, ascending
    adjoint = vectors[:, :pairs].mH
    p, b = adjoint @ (b * 0.5**0.5).to(adjoint.dtype), adjoint @ b.to(adjoint.dtype)
    return -found[:pairs], p, torch.complex(b.real, b.imag.clamp(-_LARGEST, _LARGEST))


def register(registry: Registry) -> None:
    words: dict[str, Callable[[int], Tensor]] = {
        "legs_w": lambda pairs: legs(pairs)[0],
        "legs_p_real": lambda pairs: legs(pairs)[1].real,
        "legs_p_imag": lambda pairs: legs(pairs)[1].imag,
        "legs_b_real": lambda pairs: legs(pairs)[2].real,
        "legs_b_imag": lambda pairs: legs(pairs)[2].imag,
    }
    for name, word in words.items():
        registry.add("initializer", name, _entries(word))


def _entries(word: Callable[[int], Tensor]) -> Callable[[Draw], Tensor]:
    return lambda draw: word(draw.sizes[-1])
