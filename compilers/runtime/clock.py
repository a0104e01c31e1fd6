"""The time steps of one call: positions, resets, and which entries of a register a step may read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .support import of_type

_LONG_AGO = 2**40


class Time:
    """The steps of one call: ``position`` counts from the start or the last reset; ``reset`` clears memory before a step.

    Over a sequence both are [batch or 1, steps]; in a single step (``steps`` None) they are [batch or 1]. ``count`` [1] is
    given where registers that grow have a fixed capacity: the number of entries in them so far. They are written in place.
    ``each``: what memory is after every step is wanted, not only after the last.
    """

    def __init__(
        self,
        batch: int,
        steps: int | None,
        position: Tensor | None,
        reset: Tensor | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.batch, self.steps, self.reset, self.device = batch, steps, reset, device
        self.before = position
        self.data = dtype
        self.dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self.complex = torch.complex128 if dtype == torch.float64 else torch.complex64
        self.fresh = position is None
        self.count: Tensor | None = None
        self.outer: tuple[Time, int] | None = None
        self.each = False
        self._known: dict[Any, Any] = {}

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """What does not change within a call, computed once. (A size that is a symbol, while tracing, is no key.)"""
        if isinstance(key, tuple) and any(isinstance(part, torch.SymInt) for part in key):
            return compute()
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def as_data(self, x: Tensor) -> Tensor:
        """x in the dtype of the data."""
        return of_type(x, self.data)

    def as_wide(self, x: Tensor) -> Tensor:
        """x in float32 at least."""
        return of_type(x, self.dtype)

    @property
    def real(self) -> torch.dtype:
        """The dtype of real numbers that only sizes decide."""
        return self.dtype

    @property
    def position(self) -> Tensor:
        return self.once("position", self._position)  # type: ignore[no-any-return]

    def _position(self) -> Tensor:
        if self.steps is None:
            start = torch.zeros(1, dtype=torch.long, device=self.device) if self.before is None else self.before
            return start if self.reset is None else torch.where(self.reset, 0, start)
        index = torch.arange(self.steps, device=self.device)[None]
        whole = index if self.before is None else index + self.before[:, None]
        if self.reset is None:
            return whole
        last = torch.where(self.reset, index, -1).cummax(1).values
        return torch.where(last >= 0, index - last, whole)

    @property
    def since(self) -> Tensor:
        """Over a sequence: the steps since the last reset in it, a large number before the first."""
        return self.once("since", self._since)  # type: ignore[no-any-return]

    def _since(self) -> Tensor:
        assert self.steps is not None and self.reset is not None
        index = torch.arange(self.steps, device=self.device)[None]
        last = torch.where(self.reset, index, -1).cummax(1).values
        return torch.where(last >= 0, index - last, _LONG_AGO)

    @property
    def real_position(self) -> Tensor:
        return self.once("real position", lambda: self.position.to(self.dtype))  # type: ignore[no-any-return]

    @property
    def start(self) -> Tensor:
        return self.once("start", lambda: self.position == 0)  # type: ignore[no-any-return]

    def after(self, t: int = -1) -> Tensor:
        """The position that a call after step t starts from: [batch]."""
        last = self.position if self.steps is None else self.position[:, t]
        return (last + 1).expand(self.batch)

    def at(self, t: int) -> Time:
        """One step of a sequence."""
        position = self.position[:, t if self.position.shape[1] > 1 else 0]
        moment = Time(
            self.batch, None, position, None if self.reset is None else self.reset[:, t], self.data, self.device
        )
        moment.outer = self, t
        return moment

    def present(self, entries: int, size: int | None, lag: int) -> Tensor:
        """[batch or 1, (steps,) entries]: which entries of a register, oldest first, a step may read.

        size: how many slots the register has; lag: 0 if the step's own input is among them, 1 if not.
        """
        return self.once((entries, size, lag), lambda: self._present(entries, size, lag))  # type: ignore[no-any-return]

    def _present(self, entries: int, size: int | None, lag: int) -> Tensor:
        slot = self.slots(entries, size, lag)
        reached = torch.clamp(self.position + (1 - lag), max=size) if size is not None else self.position + (1 - lag)
        return (slot >= 0) & (slot < reached.unsqueeze(-1))

    def slots(self, entries: int, size: int | None, lag: int) -> Tensor:
        """[1, (steps,) entries]: the slot in which an entry, oldest first, stands at each step (negative: not yet there)."""
        index = torch.arange(entries, device=self.device)
        count = self.count if size is None else None
        if self.steps is None:
            newest = entries - 1 if count is None else count - lag
            return (newest - index)[None]
        first = entries - self.steps if count is None else count
        now = torch.arange(self.steps, device=self.device) + (first - lag)
        return now[None, :, None] - index

    def together(self, before: int = 0, behind: int = 0) -> Tensor | None:
        """[batch, (steps,) 1, ..., entries, 1, ...]: which steps of the call belong to the document of a step; None if all do.
        So many axes stand before the entries, and so many behind them."""
        mask = self.once("together", self._together)
        if mask is None:
            return None
        lead = mask.dim() - 1
        return mask.reshape(*mask.shape[:lead], *[1] * before, mask.shape[lead], *[1] * behind)  # type: ignore[no-any-return]

    def _together(self) -> Tensor | None:
        if self.outer is not None:
            whole, t = self.outer
            if whole.reset is None:
                return None
            document = whole.once("document", lambda: whole.reset.cumsum(1))  # type: ignore[union-attr]
            return document[:, t, None] == document  # type: ignore[no-any-return]
        if self.reset is None:
            return None
        document = self.reset.cumsum(1)
        return document[:, :, None] == document[:, None, :]
