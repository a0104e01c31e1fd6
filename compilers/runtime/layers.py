"""The submodules of a model that own parameters: torch's own kinds of layer where there is one, so that whatever looks for them finds
them. Their values come from elsewhere, so nothing is initialised here.

What is ``plain`` may be passed over (several projections of one input become one product); what is watched, wrapped or replaced is
called by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules import module as torch_modules

from .linear import linear
from .operations import block_linear, layer_norm
from .pointwise import rms_norm

Place = torch.device | None


class Linear(nn.Linear):
    """y = x W^T + b: torch's, by the fastest of several ways."""

    def __init__(self, dtype: torch.dtype, device: Place, out: int, width: int, bias: bool) -> None:
        super().__init__(width, out, bias, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        pass

    def __getstate__(self) -> dict[str, Any]:
        """A copy has memory of its own: pickled, each parameter would take all of what lies beside it along."""
        return {**self.__dict__, "_parameters": {name: _alone(x) for name, x in self._parameters.items()}}

    def given(self) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return linear, {"w": owned(self, "weight"), "bias": maybe(self, "bias")}

    def forward(self, x: Tensor) -> Tensor:
        return called(self, x)


class Embedding(nn.Embedding):
    """The row of a table for each whole number."""

    def __init__(self, dtype: torch.dtype, device: Place, rows: int, width: int) -> None:
        super().__init__(rows, width, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, owned(self, "weight"))


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) w along the last axis."""

    def __init__(self, dtype: torch.dtype, device: Place, width: int, eps: float) -> None:
        super().__init__(width, eps, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        pass

    def given(self) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return rms_norm, {"weight": owned(self, "weight"), "eps": self.eps or 0.0}

    def forward(self, x: Tensor) -> Tensor:
        return called(self, x)


class LayerNorm(nn.LayerNorm):
    """(x - mean(x)) / sqrt(var(x) + eps) w + b along the last axis."""

    def __init__(self, dtype: torch.dtype, device: Place, width: int, eps: float, bias: bool) -> None:
        super().__init__(width, eps, bias=bias, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        pass

    def given(self) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        return layer_norm, {"weight": owned(self, "weight"), "bias": maybe(self, "bias"), "eps": self.eps}

    def forward(self, x: Tensor) -> Tensor:
        return called(self, x)


class BlockLinear(nn.Module):
    """A map for each entry of some axes: x [..., *per, width], weight [*per, out, width], bias [*per, out]."""

    def __init__(self, dtype: torch.dtype, device: Place, per: Sequence[int], out: int, width: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*per, out, width, dtype=dtype, device=device))
        self.bias: nn.Parameter | None
        self.register_parameter("bias", nn.Parameter(self.weight.new_empty(*per, out)) if bias else None)

    def extra_repr(self) -> str:
        *per, out, width = self.weight.shape
        return f"per={per}, in_features={width}, out_features={out}, bias={self.bias is not None}"

    def forward(self, x: Tensor) -> Tensor:
        return block_linear(x, owned(self, "weight"), maybe(self, "bias"))


class Values(nn.Module):
    """Learned constants (and buffers) that stand at a path: calling it with a name gives one."""

    def extra_repr(self) -> str:
        own = [*self.named_parameters(recurse=False), *self.named_buffers(recurse=False)]
        return ", ".join(f"{name}: {list(value.shape)}" for name, value in own)

    def forward(self, name: str) -> Tensor:
        return owned(self, name)


def _alone(x: nn.Parameter | None) -> nn.Parameter | None:
    if type(x) is not nn.Parameter or x.untyped_storage().nbytes() == x.nbytes:
        return x
    found = nn.Parameter(x.detach().clone(), x.requires_grad)
    found.grad = x.grad
    return found


def called(layer: Linear | RMSNorm | LayerNorm, x: Tensor) -> Tensor:
    function, given = layer.given()
    return function(x, **given)


def bound(module: nn.Module) -> Callable[..., Any]:
    """What a module runs, its hooks apart; where it is a layer of ours, with its weights as they are now."""
    if type(module) in (Linear, RMSNorm, LayerNorm) and "forward" not in module.__dict__:
        function, given = module.given()  # type: ignore[operator]
        return partial(function, **given)
    found: Callable[..., Any] = module.forward
    return found


def maybe(module: nn.Module, name: str) -> Tensor | None:
    """A parameter that may be missing."""
    return None if name in module._parameters and module._parameters[name] is None else owned(module, name)


def owned(module: nn.Module, name: str) -> Tensor:
    """A parameter or buffer of a module. Names come from a spec, so that an attribute of the same name may be something else; one
    that is not in its place (a parametrisation computes it) is an attribute. (torch's own look-up of attributes takes ten times as long.)"""
    parameter = module._parameters.get(name)
    if parameter is not None:
        return parameter
    buffer = module._buffers.get(name)
    if buffer is not None:
        return buffer
    found = getattr(module, name)
    assert isinstance(found, Tensor)
    return found


def hooked(module: nn.Module) -> bool:
    """Whether a call of the module would call something else too."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether nobody would notice if the weights of a module were used without calling it."""
    if type(module) is not kind or "forward" in module.__dict__:
        return False
    if torch_modules._has_any_global_hook() or hooked(module):
        return False
    return all(p is None or type(p) in (Tensor, nn.Parameter, FakeTensor) for p in module._parameters.values())
