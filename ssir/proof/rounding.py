"""What roundings do to a computation: Monte Carlo arithmetic (Parker 1997), where each result of each operation is moved by one, up or down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_EXACT = frozenset(
    """
    abs amax amin arange argmax bernoulli cat ceil clamp clone complex constant_pad_nd conj_physical copy cummax detach embedding empty
    empty_like eye fill flip floor full full_like gather index index_select lift_fresh masked_fill max maximum min minimum neg new_empty
    new_full new_ones new_zeros one_hot ones ones_like rand randint randn relu repeat roll round scalar_tensor scatter select_backward
    select_scatter sign slice_backward slice_scatter sort stack topk tril triu where zeros zeros_like _local_scalar_dense _to_copy
    """.split()
)
"""Operations whose results are entries of their operands, or numbers that are written out."""


def moved(x: Tensor, rounding: float, generator: torch.Generator) -> Tensor:
    """Each number by one rounding, up or down."""
    if not (x.is_floating_point() or x.is_complex()):
        return x
    sign = torch.randint(0, 2, x.shape, generator=generator, dtype=torch.float64) * 2 - 1
    return x * (1 + rounding * sign)


class Roundings(TorchDispatchMode):
    """Inside, forwards and backwards, every number that is computed is moved by one rounding; whole ones are not, which are exact."""

    def __init__(self, rounding: float, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rounding, self.generator = rounding, generator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        aliased = any(one.alias_info is not None for one in func._schema.returns)
        if aliased or func._schema.name.removeprefix("aten::") in _EXACT:
            return found
        return tree_map_only(Tensor, self._moved, found)

    def _moved(self, x: Tensor) -> Tensor:
        other = moved(x, self.rounding, self.generator)
        return torch.where(x == torch.round(x), x, other) if x.is_floating_point() else other
