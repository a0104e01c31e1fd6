"""What only parameters decide, kept from call to call as long as the parameters are what they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

T = TypeVar("T")
Stamp = tuple[int, int, int]


def stamp(x: Tensor) -> Stamp:
    """Identity, place and version of a tensor: it changes with the tensor."""
    return id(x), x.data_ptr(), 0 if x.is_inference() else x._version


class Kept:
    """Values made from the parameters of a module, each made when it is first asked for. ``plain``: what the module said then."""

    def __init__(self, module: nn.Module, plain: bool) -> None:
        self.plain = plain
        self._homes = [
            (home, name)
            for one in module.modules()
            for home in (one._parameters, one._buffers)
            for name, x in home.items()
            if x is not None
        ]
        self._stamps = self._now()
        self._values: dict[Any, Any] = {}

    def _now(self) -> list[Stamp]:
        return [stamp(home[name]) for home, name in self._homes]  # type: ignore[arg-type]

    def fits(self) -> bool:
        """Whether every parameter is the tensor that it was, and unchanged."""
        try:
            return self._now() == self._stamps
        except (AttributeError, KeyError):
            return False

    def once(self, key: Any, make: Callable[[], T]) -> T:
        if key not in self._values:
            self._values[key] = make()
        found: T = self._values[key]
        return found
