"""Linear attention, Gated DeltaNet, DeltaNet, GLA and RetNet against transcriptions of their equations."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssir.spec.load import load
from tests.oracles import compare, equations
from tests.oracles.equations import rms_norm

VOCAB, MODEL, LAYERS, HIDDEN = 11, 16, 2, 12
EPS = 1e-6


@dataclass(frozen=True)
class Oracle:
    """``mixer``: what stands in the place of attention in a block. ``parts``: our parameters of it, by theirs."""

    mixer: Callable[[dict[str, Tensor], Tensor], Tensor]
    shapes: dict[str, list[int]]
    parts: dict[str, str]
    dims: dict[str, float]
    mlp: tuple[str, str, str] = ("y.mlp.gate", "y.mlp.up", "y.mlp.down")
    embedding: float = 1.0


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:-1], heads, -1)


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


def _delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, fade: Tensor) -> Tensor:
    """S[t] = S[t-1] (fade (I - beta k k^T)) + beta v k^T, S of values by keys, o[t] = S[t] q / sqrt(d_k)."""
    batch, time, heads, keys = q.shape
    memory, reads = q.new_zeros(batch, heads, v.shape[-1], keys), []
    for t in range(time):
        kt, bt = k[:, t, :, None, :], beta[:, t, :, None, None]
        erase = torch.eye(keys, dtype=q.dtype) - bt * kt.mT * kt
        memory = memory @ (fade[:, t, :, None, None] * erase) + bt * v[:, t, :, :, None] * kt
        reads.append((memory @ q[:, t, :, :, None])[..., 0] * keys**-0.5)
    return torch.stack(reads, 1)


def _qkv(w: dict[str, Tensor], x: Tensor, heads: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (
        F.silu(equations.convolved(x @ weight.T, taps))
        for weight, taps in zip(
            w["qkv"].split([keys, keys, w["qkv"].shape[0] - 2 * keys]),
            w["taps"].split([keys, keys, w["qkv"].shape[0] - 2 * keys], 1),
            strict=True,
        )
    )
    return _unit(_heads(q, heads)), _unit(_heads(k, heads)), _heads(v, heads)


def _gated_delta_net(w: dict[str, Tensor], x: Tensor) -> Tensor:
    q, k, v = _qkv(w, x, 2, 8)
    fade = torch.exp(-torch.exp(w["A_log"]) * F.softplus(x @ w["dt"].T + w["dt_bias"]))
    o = _delta_rule(q, k, v, torch.sigmoid(x @ w["beta"].T), fade)
    return (rms_norm(o, w["o_norm"], EPS) * F.silu(_heads(x @ w["gate"].T, 2))).flatten(2) @ w["out"].T


def _delta_net(w: dict[str, Tensor], x: Tensor) -> Tensor:
    q, k, v = _qkv(w, x, 4, MODEL)
    o = _delta_rule(q, k, v, torch.sigmoid(x @ w["beta"].T), q.new_ones(*q.shape[:-1]))
    return rms_norm(o, w["o_norm"], EPS).flatten(2) @ w["out"].T


def _gla(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """S[t] = diag(alpha) S[t-1] + k^T v, o[t] = q S[t] / sqrt(d_k), written as a sum over all earlier steps."""
    q, k, v = (_heads(x @ w[name].T, 2) for name in "qkv")
    log = F.logsigmoid(_heads(x @ w["low"].T @ w["fade"].T + w["fade_bias"], 2)) / 16
    total = log.cumsum(1)
    decay = torch.exp(total[:, :, None] - total[:, None])
    scores = torch.einsum("bthk,bshk,btshk->bhts", q, k, decay).tril() * q.shape[-1] ** -0.5
    o = torch.einsum("bhts,bshv->bthv", scores, v)
    return (rms_norm(o, w["o_norm"], EPS) * F.silu(_heads(x @ w["gate"].T, 2))).flatten(2) @ w["out"].T


def _retnet(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """The parallel form: (Q K^T * D) V, D[n, m] = gamma^(n - m), Q and K turned by n theta as complex numbers."""
    time, heads = x.shape[1], 2
    q, k, v = (_heads(x @ w[name].T, heads) for name in "qkv")
    pairs = q.shape[-1] // 2
    theta = 10000 ** -torch.linspace(0, 1, pairs, dtype=x.dtype)
    at = torch.arange(time, dtype=x.dtype)
    turn = torch.polar(torch.ones(time, pairs, dtype=x.dtype), at[:, None] * theta)[:, None]
    q, k = (torch.view_as_complex(value.unflatten(-1, (pairs, 2))) * turn for value in (q, k))
    gamma = 1 - torch.exp2(-5 - torch.arange(heads, dtype=x.dtype))
    decay = (gamma[:, None, None] ** (at[:, None] - at)).tril()
    scores = torch.einsum("bthk,bshk->bhts", q, k.conj()).real * decay * (2 * pairs) ** -0.5
    o = torch.einsum("bhts,bshv->bthv", scores, v)
    return (rms_norm(o, 1.0, EPS) * F.silu(_heads(x @ w["gate"].T, heads))).flatten(2) @ w["out"].T


ORACLES = {
    "gated_delta_net": Oracle(
        _gated_delta_net,
        {
            "qkv": [28, MODEL],
            "taps": [4, 28],
            "beta": [2, MODEL],
            "dt": [2, MODEL],
            "dt_bias": [2],
            "A_log": [2],
            "o_norm": [6],
            "gate": [12, MODEL],
            "out": [MODEL, 12],
        },
        {
            "conv.input.weight": "qkv",
            "conv.C": "taps",
            "beta.weight": "beta",
            "dt.weight": "dt",
            "dt.bias": "dt_bias",
            "A_log": "A_log",
            "y.rms_norm.weight": "o_norm",
            "gate.weight": "gate",
            "y.linear.weight": "out",
        },
        {"head": 2, "key": 4, "value": 6},
    ),
    "delta_net": Oracle(
        _delta_net,
        {
            "qkv": [3 * MODEL, MODEL],
            "taps": [4, 3 * MODEL],
            "beta": [4, MODEL],
            "o_norm": [4],
            "out": [MODEL, MODEL],
        },
        {
            "conv.input.weight": "qkv",
            "conv.C": "taps",
            "beta.weight": "beta",
            "y.rms_norm.weight": "o_norm",
            "y.linear.weight": "out",
        },
        {"key": 4},
    ),
    "gla": Oracle(
        _gla,
        {
            "q": [8, MODEL],
            "k": [8, MODEL],
            "v": [MODEL, MODEL],
            "low": [3, MODEL],
            "fade": [8, 3],
            "fade_bias": [8],
            "o_norm": [8],
            "gate": [MODEL, MODEL],
            "out": [MODEL, MODEL],
        },
        {
            "q.weight": "q",
            "k.weight": "k",
            "v.weight": "v",
            "low.weight": "low",
            "fade.weight": "fade",
            "fade.bias": "fade_bias",
            "y.rms_norm.weight": "o_norm",
            "gate.weight": "gate",
            "y.linear.weight": "out",
        },
        {"head": 2, "rank": 3},
    ),
    "retnet": Oracle(
        _retnet,
        {"q": [MODEL, MODEL], "k": [MODEL, MODEL], "v": [10, MODEL], "gate": [10, MODEL], "out": [MODEL, 10]},
        {
            "q.weight": "q",
            "k.weight": "k",
            "v.weight": "v",
            "gate.weight": "gate",
            "y.linear.weight": "out",
        },
        {"head": 2, "width": 10},
        ("y.mlp.gate", "y.mlp.up", "y.mlp.y"),
        MODEL**0.5,
    ),
}


def _weights(oracle: Oracle) -> dict[str, Tensor]:
    shapes = {"embed": [VOCAB, MODEL], "norm": [MODEL], "head": [VOCAB, MODEL]}
    for i in range(LAYERS):
        block = {"norm1": [MODEL], "norm2": [MODEL], **oracle.shapes}
        block |= {"mlp.gate": [HIDDEN, MODEL], "mlp.up": [HIDDEN, MODEL], "mlp.down": [MODEL, HIDDEN]}
        shapes |= {f"{i}.{key}": shape for key, shape in block.items()}
    return equations.weights(shapes)


def _model(oracle: Oracle, weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    x = weights["embed"][tokens] * oracle.embedding
    for i in range(LAYERS):
        w = equations.below(weights, f"{i}.")
        x = x + oracle.mixer(w, rms_norm(x, w["norm1"], EPS))
        y = rms_norm(x, w["norm2"], EPS)
        x = x + (F.silu(y @ w["mlp.gate"].T) * (y @ w["mlp.up"].T)) @ w["mlp.down"].T
    return rms_norm(x, weights["norm"], EPS) @ weights["head"].T


def _mapping(oracle: Oracle) -> dict[str, compare.Part]:
    block = {f"mixed.mixer.{ours}": theirs for ours, theirs in oracle.parts.items()}
    block |= {"mixed.rms_norm.weight": "norm1", "y.rms_norm.weight": "norm2"}
    block |= {f"{ours}.weight": f"mlp.{part}" for ours, part in zip(oracle.mlp, ("gate", "up", "down"), strict=True)}
    parts: dict[str, str | compare.Part] = {f"x.{{}}.{ours}": f"{{}}.{theirs}" for ours, theirs in block.items()}
    parts |= {"e.weight": "embed", "logits.rms_norm.weight": "norm", "logits.linear.weight": "head"}
    return compare.per_layer(parts, LAYERS)


@pytest.mark.parametrize("via", compare.VIA)
@pytest.mark.parametrize("name", ORACLES)
def test_a_linear_attention_agrees_with_its_equations(name: str, via: str) -> None:
    oracle = ORACLES[name]
    spec = load(name, None, vocab=VOCAB, model=MODEL, layers=LAYERS, hidden=HIDDEN, **oracle.dims)
    ours, weights, x = compare.Model(spec, via), _weights(oracle), compare.tokens(VOCAB)
    compare.same(ours, lambda x: _model(oracle, weights, x), weights, _mapping(oracle), x)
    compare.stepwise(ours, x, 4)


def _linear_attention(w: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """V'[t] = (sum over j <= t of phi(q[t]) phi(k[j]) v[j]) / (sum of phi(q[t]) phi(k[j])), normed after each sum."""
    time = tokens.shape[1]
    at, pairs = torch.arange(time, dtype=torch.float64), torch.arange(0, MODEL, 2, dtype=torch.float64)
    angle = at[:, None] / 10000 ** (pairs / MODEL)
    x = w["embed"][tokens] + torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
    for i in range(LAYERS):
        own = equations.below(w, f"{i}.")
        q, k, v = (_heads(x @ own[name].T + own[f"{name}_bias"], 2) for name in "qkv")
        scores = torch.einsum("bthk,bshk->bhts", F.elu(q) + 1, F.elu(k) + 1).tril()
        y = torch.einsum("bhts,bshv->bthv", scores / (scores.sum(-1, keepdim=True) + 1e-6), v).flatten(2)
        x = equations.layer_norm(x + y @ own["out"].T + own["out_bias"], own["norm1"], own["norm1_bias"])
        y = F.relu(x @ own["up"].T + own["up_bias"]) @ own["down"].T + own["down_bias"]
        x = equations.layer_norm(x + y, own["norm2"], own["norm2_bias"])
    return equations.layer_norm(x, w["norm"], w["norm_bias"]) @ w["head"].T + w["head_bias"]


LINEAR = {
    "mixed.mixer.q": "q",
    "mixed.mixer.k": "k",
    "mixed.mixer.v": "v",
    "mixed.mixer.y": "out",
    "y.mlp.up": "up",
    "y.mlp.y": "down",
    "mixed.layer_norm": "norm1",
    "y.layer_norm": "norm2",
}


@pytest.mark.parametrize("via", compare.VIA)
def test_the_first_linear_attention_agrees_with_its_equations(via: str) -> None:
    shapes = {"embed": [VOCAB, MODEL], "head": [VOCAB, MODEL], "head_bias": [VOCAB]}
    shapes |= {"norm": [MODEL], "norm_bias": [MODEL]}
    for i in range(LAYERS):
        maps = {name: (HIDDEN if name == "up" else MODEL) for name in LINEAR.values()}
        shapes |= {f"{i}.{name}_bias": [out] for name, out in maps.items()}
        shapes |= {f"{i}.{name}": [out] if "norm" in name else [out, MODEL] for name, out in maps.items()}
        shapes[f"{i}.down"] = [MODEL, HIDDEN]
    parts: dict[str, str | compare.Part] = {"e.weight": "embed"}
    parts |= {"logits.layer_norm.weight": "norm", "logits.layer_norm.bias": "norm_bias"}
    parts |= {"logits.linear.weight": "head", "logits.linear.bias": "head_bias"}
    parts |= {f"x.{{}}.{ours}.weight": f"{{}}.{theirs}" for ours, theirs in LINEAR.items()}
    parts |= {f"x.{{}}.{ours}.bias": f"{{}}.{theirs}_bias" for ours, theirs in LINEAR.items()}
    spec = load("linear_attention", vocab=VOCAB, model=MODEL, layers=LAYERS, head=2, hidden=HIDDEN)
    ours, weights, x = compare.Model(spec, via), equations.weights(shapes), compare.tokens(VOCAB)
    compare.same(ours, lambda x: _linear_attention(weights, x), weights, compare.per_layer(parts, LAYERS), x)
    compare.stepwise(ours, x, 4)
