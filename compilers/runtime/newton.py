"""Nonlinear recurrences with all steps at once: Newton's iteration on the whole course of the memories.

    s[t] = f(s[t-1], x[t])   by   s[t] <- f(p[t], x[t]) + J[t] (s[t-1] - p[t]),   J[t] = df/ds at p[t], the s[t-1] of the iteration before

Each iteration is an affine scan, for which the Jacobian must be diagonal, or in blocks as small as there are memories (DEER, arXiv:2309.12252). It ends where
f agrees with what it is given to a few roundings; where it does not get there, the loop runs. The gradient is one such scan backwards, exact.
How many iterations it took, and to what it agreed, is logged: `logging.getLogger("ssir.newton").setLevel(logging.DEBUG)`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from . import native
from .loops import Loop, Plain, before
from .support import recorded, spread, twin_gradients, without_autocast

_LOG = logging.getLogger("ssir.newton")
CLOSE = 16.0  # times as many roundings, where more iterations do not help


def solved(
    loop: Loop,
    most: int,
    agreed: float,
    reset: Tensor | None,
    starts: Sequence[Tensor | None],
    clears: Sequence[Tensor | None],
    columns: Sequence[Tensor],
    constants: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """What the loop gives, by at most so many of Newton's iterations, where it may look at numbers; agreed: roundings of the largest memory."""
    x = columns[0]
    if x.shape[0] * x.shape[1] == 0 or x.shape[1] == 1 or native.tracing() or native.captured():
        return loop(reset, starts, clears, columns, constants)
    with without_autocast():
        given = loop._of_one_type((reset, *starts, *clears, *columns, *constants))
        if recorded(*given):
            return cast(tuple[Tensor, ...], _Solved.apply(loop, most, agreed, *given))  # type: ignore[no-untyped-call]
        return _forward(loop, most, agreed, given)


def _forward(loop: Loop, most: int, agreed: float, given: Sequence[Any]) -> tuple[Tensor, ...]:
    found = iterated(loop, most, agreed, given)
    if found is None:
        reset, starts, clears, columns, constants = loop._parts(given)
        return loop(reset, starts, clears, columns, constants)
    return found


def iterated(loop: Loop, most: int, agreed: float, given: Sequence[Any]) -> tuple[Tensor, ...] | None:
    """The results, if the iteration ends."""
    _, _, clears, columns, constants = loop._parts(given)
    x = columns[0]
    lead, off = x.shape[:2], float("inf")
    begins = _begins(loop, given)
    guess = [clear.expand(*lead, *clear.shape) for clear in loop._cleared(clears, x)]
    least = float("inf")
    for i in range(most):
        olds = _course(loop, given, guess)
        results, jacobian = _stepped(loop, olds, columns, constants)
        news = [results[new] for new, _, _ in loop.layout.memories]
        if i:
            size = 1.0 + max(float(new.abs().max()) for new in news)
            off = max(float((new - s).abs().max()) for new, s in zip(news, guess, strict=True))
            off /= size * torch.finfo(x.dtype).eps
            if off <= agreed or (off > 0.5 * least and off <= CLOSE * agreed):
                _LOG.debug("%d steps: %d iterations, agreed to %.2g roundings", lead[1], i + 1, off)
                return results
            if not off < 1e300:
                break
            least = min(least, off)
        into = torch.stack(news, -1) - _applied(jacobian, torch.stack(olds, -1))
        gone = begins.view(*lead, *[1] * (into.dim() - 2))
        into = torch.where(gone, torch.stack(news, -1), into)
        guess = list(_scan(torch.where(gone[..., None], 0, jacobian), into).unbind(-1))
    _LOG.debug("%d steps: after %d iterations off by %.2g roundings: the loop runs", lead[1], i + 1, off)
    return None


def _begins(loop: Loop, given: Sequence[Any]) -> Tensor:
    """Where a step does not go on from the one before: the first, and those after a reset. [B,T]."""
    reset, _, _, columns, _ = loop._parts(given)
    found = torch.zeros(columns[0].shape[:2], dtype=torch.bool, device=columns[0].device)
    found[:, 0] = True
    return found if reset is None else found | reset


def _course(loop: Loop, given: Sequence[Any], news: Sequence[Tensor]) -> list[Tensor]:
    """The memories before each step, from those after each."""
    reset, starts, clears, columns, _ = loop._parts(given)
    cleared = loop._cleared(clears, columns[0])
    return [before(new, start, clear, reset) for new, start, clear in zip(news, starts, cleared, strict=True)]


def _flat(x: Tensor) -> Tensor:
    return x.flatten(0, 1)


def _stepped(
    loop: Loop, olds: Sequence[Tensor], columns: Sequence[Tensor], constants: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], Tensor]:
    """All steps at once, and the Jacobian of the memories [B,T,*axes,new,old]."""
    lead = columns[0].shape[:2]
    with torch.enable_grad():
        leaves = [_flat(old.detach()).requires_grad_() for old in olds]
        results = loop.step(Plain(leaves[0]), *leaves, *(_flat(x.detach()) for x in columns), *constants)
        rows = []
        for new, _, sizes in loop.layout.memories:
            whole = results[new].expand(leaves[0].shape[0], *sizes)
            rows.append(torch.stack(_gradients([whole], leaves, [torch.ones_like(whole)], True), -1))
    found = tuple(
        spread(y.detach(), (leaves[0].shape[0], *sizes)).unflatten(0, lead)
        for y, sizes in zip(results, loop.layout.results, strict=True)
    )
    return found, torch.stack(rows, -2).unflatten(0, lead)


def _applied(jacobian: Tensor, x: Tensor) -> Tensor:
    """J x of each entry: [...,new,old] and [...,old]."""
    return (jacobian * x.unsqueeze(-2)).sum(-1)


def _scan(gate: Tensor, into: Tensor) -> Tensor:
    """s[t] = gate[t] s[t-1] + into[t] from nothing, by doubling; gate: [B,T,*axes,P,P], into: [B,T,*axes,P]."""
    reach, steps = 1, into.shape[1]
    while reach < steps:
        later, earlier = slice(reach, None), slice(None, steps - reach)
        into = torch.cat([into[:, :reach], into[:, later] + _applied(gate[:, later], into[:, earlier])], 1)
        if 2 * reach < steps:
            product = gate[:, later] * gate[:, earlier] if gate.shape[-1] == 1 else gate[:, later] @ gate[:, earlier]
            gate = torch.cat([gate[:, :reach], product], 1)
        reach *= 2
    return into


class _Solved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loop: Loop, most: int, agreed: float, *given: Any) -> tuple[Tensor, ...]:
        results = _forward(loop, most, agreed, given)
        ctx.loop, ctx.count = loop, len(given)
        ctx.save_for_backward(*given, *results)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        loop: Loop = ctx.loop
        given, results = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        with without_autocast():
            if torch.is_grad_enabled():
                found = twin_gradients(loop._alike, given, ctx.needs_input_grad[3:], grads)
            else:
                found = _backward(loop, given, results, grads)
            return None, None, None, *found


def _backward(
    loop: Loop, given: Sequence[Any], results: Sequence[Tensor], grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    memories = [new for new, _, _ in loop.layout.memories]
    reset, starts, clears, columns, constants = loop._parts(given)
    lead = columns[0].shape[:2]
    begins = _begins(loop, given)
    olds = _course(loop, given, [results[new] for new in memories])
    _, jacobian = _stepped(loop, olds, columns, constants)
    with torch.enable_grad():
        leaves = [_flat(x.detach()).requires_grad_() for x in (*olds, *columns)]
        weights = [x.detach().requires_grad_() for x in constants]
        steps = loop.step(Plain(leaves[0]), *leaves, *weights)
        whole = [y.expand(leaves[0].shape[0], *sizes) for y, sizes in zip(steps, loop.layout.results, strict=True)]
    flow = [_flat(grad) for grad in grads]
    others = [k for k in range(len(whole)) if k not in memories]
    # What is read of a memory besides what becomes of it; then, from the last step to the first, what becomes of it.
    read = _gradients([whole[k] for k in others], leaves[: len(olds)], [flow[k] for k in others], True)
    gone = begins.view(*lead, *[1] * (jacobian.dim() - 4), 1)
    own = torch.where(gone, 0, torch.stack(read, -1).unflatten(0, lead))
    given_first = [
        grads[new] if new not in memories[:k] else torch.zeros_like(grads[new]) for k, new in enumerate(memories)
    ]
    own = torch.cat([own[:, 1:], torch.zeros_like(own[:, :1])], 1) + torch.stack(given_first, -1)
    back = torch.where(gone[..., None], 0, jacobian).mT
    back = torch.cat([back[:, 1:], torch.zeros_like(back[:, :1])], 1)
    adjoint = _scan(back.flip(1), own.flip(1)).flip(1)
    for k, (new, one) in enumerate(zip(memories, adjoint.unbind(-1), strict=True)):
        flow[new] = _flat(one) + (flow[new] if new in memories[:k] else 0)  # one result may be what two memories become
    found = _gradients(whole, [*leaves, *weights], flow, False)
    parts = [x.unflatten(0, lead) for x in found[: len(leaves)]]
    dolds, dcolumns, dconstants = parts[: len(olds)], parts[len(olds) :], found[len(leaves) :]
    dstarts, dclears = [], []
    for start, clear, d in zip(starts, clears, dolds, strict=True):
        first = d[:, 0]
        again = torch.zeros_like(begins) if reset is None else reset
        here = again.view(*lead, *[1] * (d.dim() - 2))
        dstarts.append(None if start is None else torch.where(here[:, 0], 0, first))
        if start is None:
            here = begins.view(here.shape)
        dclears.append(None if clear is None else torch.where(here, d, 0).sum((0, 1)))
    return None, *dstarts, *dclears, *dcolumns, *dconstants


def _gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], grads: Sequence[Tensor], again: bool
) -> list[Tensor]:
    """Of all inputs, zero where nothing depends on one."""
    used = [(y, grad) for y, grad in zip(outputs, grads, strict=True) if y.requires_grad]
    if not used:
        return [torch.zeros_like(x) for x in inputs]
    ys, weights = [y for y, _ in used], [grad for _, grad in used]
    found = torch.autograd.grad(ys, inputs, weights, retain_graph=again, allow_unused=True)
    return [torch.zeros_like(x) if d is None else d for x, d in zip(inputs, found, strict=True)]
