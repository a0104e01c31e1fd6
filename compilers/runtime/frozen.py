"""What only parameters decide, kept from call to call as long as the parameters are what they were."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from .layers import hooked

T = TypeVar("T")


class Kept:
    """Values made from the parameters of a module, each when it is first asked for. ``plain``: what the module said then;
    ``quiet``: whether no module in it has a hook, so that the code of each may be run without asking.

    A parameter is what it was if it is the same tensor, of the same version.
    """

    def __init__(self, module: nn.Module, plain: bool) -> None:
        self.plain = plain
        self.quiet = not torch_modules._has_any_global_hook() and not any(map(hooked, module.modules()))
        known: list[tuple[dict[str, Any], str, Tensor]] = [
            (home, name, x)
            for one in module.modules()
            for home in (one._parameters, one._buffers)
            for name, x in home.items()
            if x is not None
        ]
        self._homes = [home for home, _, _ in known]
        self._names = [name for _, name, _ in known]
        self._tensors = [x for _, _, x in known]
        self._versioned = [x for x in self._tensors if not x.is_inference()]
        self._versions = [x._version for x in self._versioned]
        self._values: dict[Any, Any] = {}

    def fits(self) -> bool:
        """Whether every parameter is the tensor that it was, and unchanged."""
        if [x._version for x in self._versioned] != self._versions:
            return False
        # This runs once a token: a loop takes several times as long.
        return all(map(is_, map(dict.get, self._homes, self._names), self._tensors))

    def once(self, key: Any, make: Callable[..., T], *given: Any) -> T:
        """make(*given), made when it is first asked for."""
        found: T | None = self._values.get(key)
        if found is None:
            found = self._values[key] = make(*given)
        return found
