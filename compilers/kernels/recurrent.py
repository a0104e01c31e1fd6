"""The gated recurrent cells whose gates see their own last output, over all steps.

    gated cell      i, f, o = sigmoid(x + R h), g = tanh(x + R h);  c = f c + i g;  h = o tanh(c)
    gated average   r, z = sigmoid(x + R h);  n = tanh(x + r (R h + bn));  h = (1 - z) n + z h

Nothing here can run in parallel over time, so all that does not depend on h is done by the caller: `gates` holds the
input's share of every preactivation, biases included.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import native
from .linear import linear, outer_sum
from .operators import operator
from .support import Kept, Native, data_type, of_type, state_type

native.declare(
    "gated_cell_forward gates[B,T,4,H] R[4,H,H] h0[B,H] c0[B,H] reset?:bool[B,T] h[B,T,H] c[B,T,H] B T H",
    "gated_cell_backward gates[B,T,4,H] recurrent[B,T,4,H] R[4,H,H] h[B,T,H] h0[B,H] c[B,T,H] c0[B,H] reset?:bool[B,T]"
    " dh[B,T,H] dc[B,T,H] dh0[B,H] dc0[B,H] B T H",
    "gated_average_forward gates[B,T,3,H] R[3,H,H] bn[H] h0[B,H] reset?:bool[B,T] h[B,T,H] B T H",
    "gated_average_backward gates[B,T,3,H] recurrent[B,T,3,H] R[3,H,H] bn[H] h[B,T,H] h0[B,H] reset?:bool[B,T]"
    " dh[B,T,H] dn[B,T,H] dh0[B,H] B T H",
)


def _cell_shapes(
    gates: Tensor, R: Tensor, h0: Tensor | None = None, c0: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    kind = state_type(data_type(gates, R, h0, c0))
    h, c = (gates.new_empty(*gates.shape[:2], gates.shape[3], dtype=kind) for _ in range(2))
    return h, c


def _average_shapes(
    gates: Tensor, R: Tensor, bn: Tensor, h0: Tensor | None = None, reset: Tensor | None = None
) -> Tensor:
    kind = state_type(data_type(gates, R, bn, h0))
    return gates.new_empty(*gates.shape[:2], gates.shape[3], dtype=kind)


@operator(
    "gated_cell(Tensor gates, Tensor R, Tensor? h0=None, Tensor? c0=None, Tensor? reset=None) -> (Tensor, Tensor)",
    _cell_shapes,
)
def gated_cell(
    gates: Tensor,
    R: Tensor,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h and c of every step [B,T,H], in float32 at least, as they are the state.

    gates: [B,T,4,H] for i, f, g, o; R: [4,H,H], gate by output by input; h0, c0: [B,H]; reset: [B,T] bool.
    """
    kind = state_type(data_type(gates, R, h0, c0))
    gates, R = of_type(gates, kind), of_type(R, kind)
    nothing = gates.new_zeros(gates.shape[0], gates.shape[3])
    h0 = nothing if h0 is None else of_type(h0, kind)
    c0 = nothing if c0 is None else of_type(c0, kind)
    if gates.numel() == 0:
        return gates[:, :, 0], gates[:, :, 0]
    if native.usable(gates, R, h0, c0, reset):
        given = (None if x is None else x.contiguous() for x in (gates, R, h0, c0, reset))
        h, c = _native_cell(*given)
        return h, c
    return gated_cell_loop(gates, R, h0, c0, reset)


@operator(
    "gated_average(Tensor gates, Tensor R, Tensor bn, Tensor? h0=None, Tensor? reset=None) -> Tensor", _average_shapes
)
def gated_average(
    gates: Tensor,
    R: Tensor,
    bn: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
) -> Tensor:
    """h of every step [B,T,H], in float32 at least, as it is the state.

    gates: [B,T,3,H] for r, z, n; R: [3,H,H], gate by output by input; bn: [H]; h0: [B,H]; reset: [B,T] bool.
    """
    kind = state_type(data_type(gates, R, bn, h0))
    gates, R, bn = of_type(gates, kind), of_type(R, kind), of_type(bn, kind)
    h0 = gates.new_zeros(gates.shape[0], gates.shape[3]) if h0 is None else of_type(h0, kind)
    if gates.numel() == 0:
        return gates[:, :, 0]
    if native.usable(gates, R, bn, h0, reset):
        given = (None if x is None else x.contiguous() for x in (gates, R, bn, h0, reset))
        return _native_average(*given)[0]
    return gated_average_loop(gates, R, bn, h0, reset)


def gated_cell_loop(gates: Tensor, R: Tensor, h0: Tensor, c0: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """The twin of the cell."""
    h, c, hs, cs = h0, c0, [], []
    weights = R.flatten(0, 1).t()
    for t, gate in enumerate(gates.unbind(1)):
        if reset is not None:
            h, c = (torch.where(reset[:, t, None], 0, memory) for memory in (h, c))
        i, f, g, o = (gate + (h @ weights).view(gate.shape)).unbind(1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        hs.append(h)
        cs.append(c)
    return torch.stack(hs, 1), torch.stack(cs, 1)


def gated_average_loop(gates: Tensor, R: Tensor, bn: Tensor, h0: Tensor, reset: Tensor | None) -> Tensor:
    """The twin of the average."""
    h, hs = h0, []
    weights = R.flatten(0, 1).t()
    for t, gate in enumerate(gates.unbind(1)):
        if reset is not None:
            h = torch.where(reset[:, t, None], 0, h)
        again = (h @ weights).view(gate.shape)
        r, z = (gate[:, :2] + again[:, :2]).sigmoid().unbind(1)
        n = (gate[:, 2] + r * (again[:, 2] + bn)).tanh()
        h = n + z * (h - n)
        hs.append(h)
    return torch.stack(hs, 1)


def _cell_forward(
    keep: bool, gates: Tensor, R: Tensor, h0: Tensor, c0: Tensor, reset: Tensor | None
) -> tuple[tuple[Tensor, ...], Kept]:
    batch, time, _, width = gates.shape
    h, c = gates.new_empty(batch, time, width), gates.new_empty(batch, time, width)
    native.call("gated_cell_forward", h.dtype, gates, R, h0, c0, reset, h, c, batch, time, width)
    return (h, c), ()


def _cell_backward(
    inputs: Sequence[Any], results: Sequence[Tensor], kept: Kept, grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    gates, R, h0, c0, reset = inputs
    h, c = results
    last = _last(h, h0, reset)
    delta = linear(last, R.flatten(0, 1)).view(gates.shape)
    dh0, dc0 = torch.zeros_like(h0), torch.zeros_like(c0)
    tensors = (gates, delta, R, h, h0, c, c0, reset, *grads, dh0, dc0)
    native.call("gated_cell_backward", h.dtype, *tensors, *h.shape)
    dR = outer_sum(delta.flatten(2).flatten(0, 1), last.flatten(0, 1)).view(R.shape)
    return delta, dR, dh0, dc0, None


def _average_forward(
    keep: bool, gates: Tensor, R: Tensor, bn: Tensor, h0: Tensor, reset: Tensor | None
) -> tuple[tuple[Tensor, ...], Kept]:
    batch, time, _, width = gates.shape
    h = gates.new_empty(batch, time, width)
    native.call("gated_average_forward", h.dtype, gates, R, bn, h0, reset, h, batch, time, width)
    return (h,), ()


def _average_backward(
    inputs: Sequence[Any], results: Sequence[Tensor], kept: Kept, grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    gates, R, bn, h0, reset = inputs
    (h,) = results
    last = _last(h, h0, reset)
    delta = linear(last, R.flatten(0, 1)).view(gates.shape)
    dh0, dn = torch.zeros_like(h0), torch.empty_like(h)
    native.call("gated_average_backward", h.dtype, gates, delta, R, bn, h, h0, reset, *grads, dn, dh0, *h.shape)
    dR = outer_sum(delta.flatten(2).flatten(0, 1), last.flatten(0, 1)).view(R.shape)
    dgates = torch.cat([delta[:, :, :2], dn[:, :, None]], 2)
    return dgates, dR, delta[:, :, 2].sum((0, 1)), dh0, None


def _average_twin(*inputs: Tensor) -> tuple[Tensor, ...]:
    return (gated_average_loop(*inputs),)


def _last(h: Tensor, h0: Tensor, reset: Tensor | None) -> Tensor:
    """What every step saw of h: [B,T,H]."""
    last = torch.cat([h0[:, None], h[:, :-1]], 1)
    return last if reset is None else last.masked_fill_(reset[..., None], 0)


_native_cell = Native(_cell_forward, _cell_backward, gated_cell_loop)
_native_average = Native(_average_forward, _average_backward, _average_twin)
