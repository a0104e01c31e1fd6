"""Mixtures of experts: the choice of the k largest, and maps of which only those chosen are run.

Tensors are [*lead, *axes], with any axes in front. The experts' maps are gate and up [expert, hidden, in], down [expert, out, hidden].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ....compilers.runtime import native, tritons
from ....compilers.runtime.custom_ops import operator
from ....compilers.runtime.linear import linear
from ....compilers.runtime.support import data_type, of_type

_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": torch.relu,
}


def top(x: Tensor, dim: int, k: int, there: Tensor | None = None) -> Tensor:
    """1 at the k largest along dim, of equal ones at the first, else 0; never at what is not there."""
    x = x.detach()
    if there is not None:
        x = torch.where(there, x, -torch.inf)
    index = x.argsort(dim=dim, descending=True, stable=True).narrow(dim, 0, k)
    y = torch.zeros_like(x).scatter_(dim, index, 1.0)
    return y if there is None else y * there


def experts(
    x: Tensor, weights: Tensor, chosen: Tensor | None, k: int, gate: Tensor | None, up: Tensor, down: Tensor, name: str
) -> Tensor:
    """sum_e weights[e] MLP_e(x); x: [*lead, in], weights: [*lead, expert], result: [*lead, out].

    chosen: [*lead, expert], 1 at k experts outside of which the weights are zero; None: all are run.
    """
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, up, down = of_type(x, kind), of_type(up, kind), of_type(down, kind)
        gate = None if gate is None else of_type(gate, kind)
    return _experts(x, weights, chosen, k, gate, up, down, name)


def _shapes(
    x: Tensor,
    weights: Tensor,
    chosen: Tensor | None,
    k: int,
    gate: Tensor | None,
    up: Tensor,
    down: Tensor,
    name: str,
) -> Tensor:
    lead = torch.broadcast_shapes(x.shape[:-1], weights.shape[:-1])
    return x.new_empty(*lead, down.shape[1], dtype=data_type(x, weights, down))


@operator(
    "experts(Tensor x, Tensor weights, Tensor? chosen, int k, Tensor? gate, Tensor up, Tensor down, str name) -> Tensor",
    _shapes,
)
def _experts(
    x: Tensor, weights: Tensor, chosen: Tensor | None, k: int, gate: Tensor | None, up: Tensor, down: Tensor, name: str
) -> Tensor:
    lead = torch.broadcast_shapes(x.shape[:-1], weights.shape[:-1])
    x, weights = (a.expand(*lead, a.shape[-1]).reshape(-1, a.shape[-1]) for a in (x, weights))
    if x.shape[0] == 0:
        y = x.new_zeros(0, down.shape[1], dtype=data_type(x, weights, down))
    elif chosen is None:
        y = _all(x, weights, gate, up, down, name)
    else:
        index = chosen.expand(*lead, chosen.shape[-1]).reshape(weights.shape).topk(k, -1).indices
        many = native.sees(x) or x.shape[0] > _FEW
        run: Callable[..., Tensor] = by_expert if many and not native.transformed() else by_token
        if run is by_expert and _grouped(x, gate, up, down):
            run = by_group
        y = run(x, weights.gather(-1, index), index, gate, up, down, name)
    return y.reshape(*lead, y.shape[-1])


_FEW = 16  # tokens up to which copies of weights cost less than asking the device who is chosen


def by_expert(
    x: Tensor, weights: Tensor, index: Tensor, gate: Tensor | None, up: Tensor, down: Tensor, name: str
) -> Tensor:
    """The tokens of each expert gathered, run, and added up; x: [token, in], weights and index: [token, k]."""
    k = index.shape[1]
    order = index.flatten().argsort(stable=True)
    token = order // k
    counts = torch.bincount(index.flatten(), minlength=up.shape[0]).tolist()
    maps = zip(counts, [None] * len(counts) if gate is None else gate.unbind(), up.unbind(), down.unbind(), strict=True)
    parts, at = [], 0
    rows = x[token]
    for count, one_gate, one_up, one_down in maps:
        if count:
            parts.append(_mlp(rows[at : at + count], one_gate, one_up, one_down, name))
            at += count
    y = torch.cat(parts) * weights.flatten()[order, None]
    return y.new_zeros(x.shape[0], y.shape[1]).index_add(0, token, y)


def _grouped(x: Tensor, *maps: Tensor | None) -> bool:
    """Whether the products of all experts are one on this device, which need not say how many tokens each has."""
    if not tritons.reaches(x.device) or not hasattr(F, "grouped_mm") or native.tracing():
        return False
    if x.is_cuda and torch.cuda.get_device_capability(x.device) < (9, 0):
        return False
    given = [one for one in (x, *maps) if one is not None]
    return all(one.dtype == torch.bfloat16 and one.shape[-1] % 8 == 0 for one in given)


def by_group(
    x: Tensor, weights: Tensor, index: Tensor, gate: Tensor | None, up: Tensor, down: Tensor, name: str
) -> Tensor:
    """As ``by_expert``, the maps of all experts in one product of groups."""
    k = index.shape[1]
    order = index.flatten().argsort(stable=True)
    counts = (index.flatten()[:, None] == torch.arange(up.shape[0], device=x.device)).sum(0)
    ends = counts.cumsum(0).to(torch.int32)
    rows = x[order // k]

    def mapped(given: Tensor, matrices: Tensor) -> Tensor:
        found: Tensor = F.grouped_mm(given, matrices.mT, offs=ends)
        return found

    hidden = _ACTIVATIONS[name](mapped(rows, up if gate is None else gate))
    if gate is not None:
        hidden = hidden * mapped(rows, up)
    y = mapped(hidden, down) * weights.flatten()[order, None]
    return y[order.argsort()].view(-1, k, y.shape[1]).sum(1)


def by_token(
    x: Tensor, weights: Tensor, index: Tensor, gate: Tensor | None, up: Tensor, down: Tensor, name: str
) -> Tensor:
    """As ``by_expert``, with the maps that each token has chosen gathered: no size depends on the choice."""
    hidden = torch.einsum("ni,nkhi->nkh", x, (up if gate is None else gate)[index])
    hidden = _ACTIVATIONS[name](hidden)
    if gate is not None:
        hidden = hidden * torch.einsum("ni,nkhi->nkh", x, up[index])
    return (weights[..., None] * torch.einsum("nkh,nkoh->nko", hidden, down[index])).sum(1)


def _all(x: Tensor, weights: Tensor, gate: Tensor | None, up: Tensor, down: Tensor, name: str) -> Tensor:
    gates = [None] * len(up) if gate is None else gate.unbind()
    maps = zip(weights.unbind(-1), gates, up.unbind(), down.unbind(), strict=True)
    return torch.stack([w[:, None] * _mlp(x, g, u, d, name) for w, g, u, d in maps]).sum(0)


def _mlp(x: Tensor, gate: Tensor | None, up: Tensor, down: Tensor, name: str) -> Tensor:
    hidden = _ACTIVATIONS[name](linear(x, up if gate is None else gate))
    if gate is not None:
        hidden = hidden * linear(x, up)
    return linear(hidden, down)
