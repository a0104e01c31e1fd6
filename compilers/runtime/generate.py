"""Going on from a prompt: a model that gives the logits of the next token, one token after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .model import Model
    from .state import State


class Sampling(NamedTuple):
    """How a token is drawn. ``temperature``: what the logits are divided by, 0 for the likeliest token; ``top_k``: among so many, the likeliest,
    alone (0: all); ``top_p``: among the likeliest alone that have so much of the probability together. Each a tensor of no axes."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor


def sampling(temperature: float, top_k: int | None, top_p: float | None, device: torch.device) -> Sampling:
    """Raises ValueError where a setting makes no sense."""
    if not temperature >= 0:
        raise ValueError(f"the temperature is 0 or more, not {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is 1 or more, or left out, not {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is above 0 and at most 1, or left out, not {top_p}")
    numbers = temperature, top_k or 0, 1.0 if top_p is None else top_p
    return Sampling(*(torch.tensor(one, device=device) for one in numbers))


def sample(logits: Tensor, how: Sampling, among: bool = True) -> Tensor:
    """A token of each row: [batch, vocab] -> [batch] int64, without a look at any number on the way. ``among``: whether top_k and top_p are asked
    for. The numbers are drawn from torch's own generator of the device (`torch.manual_seed`)."""
    logits = logits.float()
    scaled = logits / how.temperature.clamp(min=1e-6)
    if among:
        ranked, order = scaled.sort(-1, descending=True)
        share = ranked.softmax(-1)
        rank = torch.arange(share.shape[-1], device=share.device)
        out = (share.cumsum(-1) - share >= how.top_p) | ((rank >= how.top_k) & (how.top_k > 0))
        scaled = scaled.masked_fill(out.gather(-1, order.argsort(-1)), -torch.inf)
    # The largest of p / e, with e from the exponential distribution, is drawn with probability p.
    drawn = scaled.softmax(-1) / torch.empty_like(scaled).exponential_().clamp(min=1e-30)
    return torch.where(how.temperature > 0, drawn.argmax(-1), logits.argmax(-1))


def refused(model: Model) -> str | None:
    """Why a model cannot generate, in words."""
    kinds = [kind for *_, kind, _ in model.INPUTS]
    if kinds != ["int"] or model.whole or not model.has_step:
        return f"{model.TITLE} does not take one token after another"
    (_, sizes, dtype), *more = model.OUTPUTS
    if more or model.ANSWERS or len(sizes) != 1 or dtype != "real":
        return f"{model.TITLE} does not give logits [batch, vocab] alone"
    return None


@torch.no_grad()
def generate(
    model: Model,
    tokens: Tensor,
    count: int,
    how: Sampling,
    among: bool,
    state: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, State]:
    """So many tokens behind a prompt [batch, time]: [batch, count]; and the state after all but the last of them."""
    found = tokens.new_empty(tokens.shape[0], count)
    with model.frozen():
        if tokens.shape[1] > 1:
            _, state = model(tokens[:, :-1], state)
        token = tokens[:, -1]
        for i in range(count):
            logits, state = model.step(token, state)
            found[:, i] = token = sample(logits, how, among)
    assert state is not None
    return found, state  # type: ignore[return-value]
