"""What dropout keeps in a call: drawn anew, or as given, by path."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from hashlib import sha256

import torch
from torch import Tensor

from .clock import Time

Given = MutableMapping[str, Tensor] | int
"""Masks by path, [batch, steps or 1, *axes] of bool: those that are missing are drawn, and put in; or a seed, with which the mask of a path is
always the same. Along an axis without a size lie the entries, oldest first."""

ByEntry = Sequence[tuple[int, int, int]]
"""The axes that are laid out by entry and have a size: their place, how many slots, the lag of the register."""


class Masks:
    """The masks of one call, by what its caller gave."""

    def __init__(self, given: Given) -> None:
        self.given, self.used = given, set[str]()

    def of(self, path: str, time: Time, rate: float, shape: Sequence[int]) -> Tensor:
        """The mask of a path, of bool. Raises ValueError where one of another shape is given."""
        self.used.add(path)
        if isinstance(self.given, int):
            seed = int.from_bytes(sha256(f"{self.given} {path}".encode()).digest()[:8], "big") >> 1
            return _drawn(time, rate, shape, torch.Generator(time.device).manual_seed(seed))
        if path not in self.given:
            self.given[path] = _drawn(time, rate, shape, None)
        mask = self.given[path]
        if tuple(mask.shape) != tuple(shape) or mask.dtype != torch.bool:
            raise ValueError(f"the mask `{path}` must be {list(shape)} of bool; got {list(mask.shape)} {mask.dtype}")
        return mask

    def unknown(self) -> list[str]:
        """The paths that masks were given for and nothing is dropped at."""
        return [] if isinstance(self.given, int) else sorted(self.given.keys() - self.used)


def _drawn(time: Time, rate: float, shape: Sequence[int], source: torch.Generator | None) -> Tensor:
    return torch.empty(*shape, device=time.device).bernoulli_(1 - rate, generator=source) > 0


def kept(
    masks: Masks | None, path: str, time: Time, rate: float, shape: Sequence[int], each: str, by_entry: ByEntry
) -> Tensor:
    """[batch, steps or 1, *shape], in a step [batch, *shape]: 0 where an entry is dropped, 1 / (1 - rate) where it is kept."""
    lead = time.batch, 1 if each == "sequence" or time.steps is None else time.steps
    rate = float(rate)
    if masks is None:
        found = torch.empty(*lead, *shape, dtype=time.data, device=time.device).bernoulli_(1 - rate)
    else:
        own = list(shape)
        for place, size, _ in by_entry:
            own[place] = size
        mask = masks.of(path, time, rate, (*lead, *own))
        for place, size, lag in by_entry:
            mask = _at_entries(mask, place + 2, time.slots(shape[place], size, lag).clamp(0, size - 1))
        found = mask.to(time.data)
    found = found.div_(1 - rate)
    return found.squeeze(1) if time.steps is None else found


def _at_entries(mask: Tensor, dim: int, slot: Tensor) -> Tensor:
    """slot [1, steps, entries]: the mask of the slot in which each entry stands at each step."""
    index = slot.reshape(1, slot.shape[1], *[1] * (dim - 2), slot.shape[2], *[1] * (mask.dim() - dim - 1))
    wide = mask.expand(-1, slot.shape[1], *mask.shape[2:])
    return wide.gather(dim, index.expand(*wide.shape[:dim], -1, *wide.shape[dim + 1 :]))
