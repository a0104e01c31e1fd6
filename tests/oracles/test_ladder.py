"""Every rung of the ladder against the equations of Smith's slides, written out one step after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import pi

import pytest
import torch
from torch import Tensor

from ssir.spec.load import load
from tests.oracles import compare

VOCAB, N, LAYERS, TIME = 11, 6, 2, 9
M = 4  # delays of a context buffer
POLES = 3
HEADS, KEY, VALUE = 3, 2, 5
L = 8.0  # the length of a sequence, in which the memory turns once

Weights = Mapping[str, Tensor]
Mixer = Callable[[Weights, Tensor, Tensor], Tensor]
"""From weights, x [batch, time, N] and the tokens to y, as x."""


def softplus(x: Tensor) -> Tensor:
    return torch.log(1 + torch.exp(x))


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def on_the_sphere(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5)


def steps(x: Tensor) -> list[Tensor]:
    return [x[:, n] for n in range(x.shape[1])]


def one_pole(w: Weights, x: Tensor, tokens: Tensor) -> Tensor:
    """y(n) = g x(n) + p y(n-1)"""
    y = [torch.zeros_like(x[:, 0])]
    for xn in steps(x):
        y.append(w["g"] * xn + w["p"] * y[-1])
    return torch.stack(y[1:], 1)


def integrator(w: Weights, x: Tensor, tokens: Tensor) -> Tensor:
    """y(n) = sum of x(m), m = 0, ..., n"""
    return torch.stack([x[:, : n + 1].sum(1) for n in range(x.shape[1])], 1)


def gated_memory(w: Weights, x: Tensor, tokens: Tensor) -> Tensor:
    """The feedback gain is zero for one step to clear the memory, the input gain is zero for unimportant inputs."""
    y = [torch.zeros_like(x[:, 0])]
    for n, xn in enumerate(steps(x)):
        p, g = (tokens[:, n] != 0).double()[:, None], (tokens[:, n] != 1).double()[:, None]
        y.append(g * xn + p * y[-1])
    return torch.stack(y[1:], 1)


def gates(w: Weights, xn: Tensor) -> tuple[Tensor, Tensor]:
    """p = sigma(L x) exp(-Delta), Delta = softplus(parameter(x)); g is multiplied by Delta."""
    delta = softplus(xn @ w["Delta"].T + w["Delta_bias"])
    p = sigmoid(xn @ w["L"].T + w["L_bias"]) * torch.exp(-delta)
    return sigmoid(xn @ w["g"].T + w["g_bias"]) * delta, p


def gated_rnn(w: Weights, x: Tensor, tokens: Tensor) -> Tensor:
    """y(n) = g(x(n)) x(n) + p(x(n)) y(n-1)"""
    y = [torch.zeros_like(x[:, 0])]
    for xn in steps(x):
        g, p = gates(w, xn)
        y.append(g * xn + p * y[-1])
    return torch.stack(y[1:], 1)


def channel_mixing_rnn(w: Weights, x: Tensor, tokens: Tensor) -> Tensor:
    """A full matrix for the input: y(n) = G(x(n)) x(n) + p(x(n)) y(n-1), with G = diag(g) W."""
    y = [torch.zeros_like(x[:, 0])]
    for xn in steps(x):
        g, p = gates(w, xn)
        matrix = torch.diag_embed(g) @ w["W"]
        y.append((matrix @ xn[..., None])[..., 0] + p * y[-1])
    return torch.stack(y[1:], 1)


def output_gate(w: Weights, x: Tensor) -> Tensor:
    return sigmoid(x @ w["o"].T + w["o_bias"])


def output_gated_rnn(w: Weights, x: Tensor, tokens: Tensor) -> Tensor:
    return output_gate(w, x) * channel_mixing_rnn(w, x, tokens)


def bank(w: Weights, x: Tensor) -> list[list[Tensor]]:
    """A parallel bank of vector one-poles: h_i(n) = p_i h_i(n-1) + b_i W x(n), for every time and pole."""
    h = [torch.zeros_like(x[:, 0]) for _ in range(POLES)]
    found = []
    for xn in steps(x):
        delta = softplus(xn @ w["Delta"].T + w["Delta_bias"])
        for i in range(POLES):
            p = torch.exp(-delta * torch.exp(w["rate"][i]))
            b = delta * (xn @ w["B"][i])[:, None]
            h[i] = p * h[i] + b * (xn @ w["W"].T)
        found.append(list(h))
    return found


def state_expansion(w: Weights, x: Tensor, tokens: Tensor) -> Tensor:
    """y(n) = C(x) h(n), [B, C] linear in x."""
    y = []
    for xn, h in zip(steps(x), bank(w, x), strict=True):
        y.append(torch.stack([(xn @ w["C"][i])[:, None] * h[i] for i in range(POLES)]).sum(0))
    return output_gate(w, x) * torch.stack(y, 1)


def perceptron_memory(w: Weights, x: Tensor, tokens: Tensor) -> Tensor:
    """y_i(n) = 1 + tanh(w_i . h(n) - b_i), mapped back to the model."""
    y = []
    for h in bank(w, x):
        whole = torch.cat(h, -1)
        detected = [1 + torch.tanh(whole @ row.reshape(-1) - b) for row, b in zip(w["C"], w["b"], strict=True)]
        y.append(torch.stack(detected, -1) @ w["back"].T)
    return output_gate(w, x) * torch.stack(y, 1)


def fir_attention(w: Weights, x: Tensor, tokens: Tensor) -> Tensor:
    """y(n) = d x(n) + sum of c_j x(n-j), j = 1, ..., M"""
    y = []
    for n in range(x.shape[1]):
        total = w["d"] * x[:, n]
        for j in range(1, min(n, M) + 1):
            total = total + w["c"][j - 1] * x[:, n - j]
        y.append(total)
    return torch.stack(y, 1)


def dot_product_attention(w: Weights, x: Tensor, tokens: Tensor) -> Tensor:
    """y_k = sum over j of ((sum of x_m sought)^T x_j) x_j, with inputs of norm sqrt(N) instead of 1."""
    y = []
    for n in range(x.shape[1]):
        query = x[:, max(0, n - 1) : n + 1].sum(1)
        total = torch.zeros_like(query)
        for j in range(min(n + 1, M)):
            xj = x[:, n - j]
            total = total + (query * xj).sum(-1, keepdim=True) / N * xj
        y.append(total)
    return torch.stack(y, 1)


def multi_head_attention(w: Weights, x: Tensor, tokens: Tensor) -> Tensor:
    """[q_lk^T(x_k) k_lj(x_j)] v_lj(x_j), with learned down-projections for each head l."""
    y = []
    for n in range(x.shape[1]):
        heads = []
        for head in range(HEADS):
            q = x[:, n] @ w["Q"][head].T
            total = torch.zeros(x.shape[0], VALUE)
            for j in range(min(n + 1, M)):
                k, v = (x[:, n - j] @ w[part][head].T for part in "KV")
                total = total + (q * k).sum(-1, keepdim=True) * KEY**-0.5 * v
            heads.append(total)
        y.append(torch.cat(heads, -1) @ w["O"].T)
    return torch.stack(y, 1)


# The two direct forms: one joint state of M + N_M vectors, H(n) = A H(n-1) + B x(n).


@dataclass(frozen=True)
class Coefficients:
    """Of one step, a number per sequence each: the gates beta, a and b_1, ..., b_N and the readout c_1, ..., c_N."""

    beta: Tensor
    a: Tensor
    b: Tensor
    c: Tensor


def coefficients(w: Weights, xn: Tensor) -> Coefficients:
    delta = softplus(xn @ w["Delta"] + w["Delta_bias"])
    b = delta[:, None] * (xn @ w["b"].T)
    return Coefficients(sigmoid(xn @ w["beta"] + w["beta_bias"]), torch.exp(-delta), b, xn @ w["c"].T)


def transmamba_matrices(k: Coefficients) -> tuple[Tensor, Tensor]:
    """A_TM and B_TM: the identity below the diagonal of the shift, b_i beside it in the last column of the shift, a on the rest
    of the diagonal; the input enters the first slot."""
    a, b = torch.zeros(len(k.a), M + POLES, M + POLES), torch.zeros(len(k.a), M + POLES)
    for i in range(1, M):
        a[:, i, i - 1] = 1
    for i in range(POLES):
        a[:, M + i, M - 1] = k.b[:, i]
        a[:, M + i, M + i] = k.a
    b[:, 0] = k.beta
    return a, b


def mambax_matrices(k: Coefficients) -> tuple[Tensor, Tensor]:
    """The recurrence first: it feeds the first slot, which sees the newest input too."""
    a, b = torch.zeros(len(k.a), M + POLES, M + POLES), torch.zeros(len(k.a), M + POLES)
    for i in range(1, M):
        a[:, i, i - 1] = 1
    for i in range(POLES):
        a[:, 0, M + i] = k.beta * k.c[:, i]
        a[:, M + i, M + i] = k.a
    b[:, 0] = k.beta
    b[:, M:] = k.b
    return a, b


def turned(h: Tensor) -> Tensor:
    """e^(j Delta) h: every pair along the last axis turned by 2 pi / L."""
    plane = torch.view_as_complex(h.unflatten(-1, (-1, 2)))
    return torch.view_as_real(plane * torch.exp(torch.tensor(2j * pi / L))).flatten(-2)


def attended(w: Weights, xn: Tensor, slots: Tensor) -> Tensor:
    """Heads that weigh the slots [batch, slots there, N] by softmax(q . k / sqrt(KEY))."""
    heads = []
    for head in range(HEADS):
        q = xn @ w["Q"][head].T
        k, v = (slots @ w[part][head].T for part in "KV")
        relevance = torch.softmax((k @ q[..., None])[..., 0] * KEY**-0.5, -1)
        heads.append((relevance[..., None] * v).sum(1))
    return torch.cat(heads, -1) @ w["O"].T


def direct_form(second: bool) -> Mixer:
    def mixer(w: Weights, x: Tensor, tokens: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], M + POLES, x.shape[-1])
        y = []
        for n, xn in enumerate(steps(x)):
            k = coefficients(w, xn)
            a, b = (mambax_matrices if second else transmamba_matrices)(k)
            aged = turned(h)
            gate = sigmoid(xn @ w["d"].T + w["d_bias"])
            long = (k.c[..., None] * aged[:, M:]).sum(1)
            skipped = gate * (xn + long) if second else long + gate * xn
            y.append(attended(w, xn, aged[:, : min(n, M)]) + skipped)
            h = a @ aged + b[..., None] * xn[:, None]
        return torch.stack(y, 1)

    return mixer


@dataclass(frozen=True)
class Rung:
    """``shapes``: of the slides' letters; ``ours``: what the spec calls them in its mixer."""

    mixer: Mixer
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ours: dict[str, str | compare.Part] = field(default_factory=dict)
    dims: dict[str, float] = field(default_factory=dict)
    skip: bool = False


GATES = {
    "Delta": (N, N),
    "Delta_bias": (N,),
    "L": (N, N),
    "L_bias": (N,),
    "g": (N, N),
    "g_bias": (N,),
}


def gate_names(prefix: str) -> dict[str, str | compare.Part]:
    pairs = {"delta": "Delta", "active": "L", "g": "g"}
    return {
        f"{prefix}{ours}.{leaf}": theirs + ("_bias" if leaf == "bias" else "")
        for ours, theirs in pairs.items()
        for leaf in ("weight", "bias")
    }


OUTPUT = {"o": (N, N), "o_bias": (N,)}
OUTPUT_NAMES: dict[str, str | compare.Part] = {
    "o.weight": "o",
    "o.bias": "o_bias",
}
BANK = {"Delta": (N, N), "Delta_bias": (N,), "B": (POLES, N), "rate": (POLES, N), "W": (N, N)}
BANK_NAMES: dict[str, str | compare.Part] = {
    "b.delta.weight": "Delta",
    "b.delta.bias": "Delta_bias",
    "b.b.weight": "B",
    "b.rate": "rate",
    "x.weight": "W",
}
ATTENTION = {
    "Q": (HEADS, KEY, N),
    "K": (HEADS, KEY, N),
    "V": (HEADS, VALUE, N),
    "O": (N, HEADS * VALUE),
}
DIRECT = {
    **ATTENTION,
    "Delta": (N,),
    "Delta_bias": (),
    "b": (POLES, N),
    "c": (POLES, N),
    "beta": (N,),
    "beta_bias": (),
    "d": (N, N),
    "d_bias": (N,),
}
DIRECT_NAMES: dict[str, str | compare.Part] = {
    "y.q.weight": "Q",
    "y.sought.weight": compare.transposed("K"),
    "y.y.linear_2.weight": "V",
    "y.y.linear.weight": "O",
    "a.delta.weight": "Delta",
    "a.delta.bias": "Delta_bias",
    "a.b.weight": "b",
    "a.c.weight": "c",
    "a.beta.weight": "beta",
    "a.beta.bias": "beta_bias",
    "d.weight": "d",
    "d.bias": "d_bias",
}
HEAD_DIMS: dict[str, float] = {"head": HEADS, "key": KEY, "value": VALUE, "slot": M}
DIRECT_DIMS: dict[str, float] = {**HEAD_DIMS, "pole": POLES, "length": L}

RUNGS = {
    "one_pole": Rung(one_pole, {"g": (N,), "p": (N,)}, {"g": "g", "p": "p"}),
    "integrator": Rung(integrator),
    "gated_memory": Rung(gated_memory),
    "gated_rnn": Rung(gated_rnn, GATES, gate_names("g.")),
    "channel_mixing_rnn": Rung(
        channel_mixing_rnn, {**GATES, "W": (N, N)}, {**gate_names("g."), "memory.input.weight": "W"}
    ),
    "output_gated_rnn": Rung(
        output_gated_rnn,
        {**GATES, **OUTPUT, "W": (N, N)},
        {**gate_names("y.g."), **OUTPUT_NAMES, "y.memory.input.weight": "W"},
        skip=True,
    ),
    "state_expansion": Rung(
        state_expansion,
        {**BANK, **OUTPUT, "C": (POLES, N)},
        {**BANK_NAMES, **OUTPUT_NAMES, "c.weight": "C"},
        {"pole": POLES},
        skip=True,
    ),
    "perceptron_memory": Rung(
        perceptron_memory,
        {**BANK, **OUTPUT, "C": (5, POLES, N), "b": (5,), "back": (N, 5)},
        {
            **BANK_NAMES,
            **OUTPUT_NAMES,
            "detected.weight": "C",
            "threshold": "b",
            "y.weight": "back",
        },
        {"pole": POLES, "perceptron": 5},
        skip=True,
    ),
    "fir_attention": Rung(fir_attention, {"c": (M, N), "d": (N,)}, {"c": "c", "d": "d"}, {"slot": M}, skip=True),
    "dot_product_attention": Rung(dot_product_attention, dims={"slot": M, "sought": 2}, skip=True),
    "multi_head_attention": Rung(
        multi_head_attention,
        ATTENTION,
        {"q.weight": "Q", "k.weight": "K", "v.weight": "V", "y.weight": "O"},
        HEAD_DIMS,
        skip=True,
    ),
    "transmamba": Rung(direct_form(second=False), DIRECT, DIRECT_NAMES, DIRECT_DIMS, skip=True),
    "mambax": Rung(direct_form(second=True), DIRECT, DIRECT_NAMES, DIRECT_DIMS, skip=True),
}


def weights_of(rung: Rung) -> dict[str, Tensor]:
    """Random weights of the slides' letters, with the layer's number in front."""
    shapes = {"E": (VOCAB, N), "norm": (N,)}
    for layer in range(LAYERS):
        shapes |= {f"{layer}.{key}": shape for key, shape in {**rung.shapes, "norm": (N,)}.items()}
    generator = torch.Generator().manual_seed(0)
    return {key: compare.random_like(torch.empty(shape), generator).requires_grad_() for key, shape in shapes.items()}


def model(rung: Rung, weights: Weights, tokens: Tensor) -> Tensor:
    """Embedding, layers each on the sphere, and logits by the same embedding."""
    x = weights["E"][tokens]
    for layer in range(LAYERS):
        own = {key.partition(".")[2]: value for key, value in weights.items() if key.startswith(f"{layer}.")}
        y = rung.mixer(own, on_the_sphere(x, own["norm"]), tokens)
        x = x + y if rung.skip else y
    return on_the_sphere(x, weights["norm"]) @ weights["E"].T


@pytest.mark.parametrize("via", compare.VIA)
@pytest.mark.parametrize("name", RUNGS)
def test_a_rung_computes_what_the_slides_say(via: str, name: str) -> None:
    rung = RUNGS[name]
    spec = load(name, None, vocab=VOCAB, model=N, layers=LAYERS, **rung.dims)
    ours, x = compare.Model(spec, via), compare.tokens(VOCAB, time=TIME)
    x[0, 2], x[1, 5], x[1, 3] = 0, 0, 1  # the tokens that work a gate
    mapping: dict[str, str | compare.Part] = {
        "e.weight": "E",
        "logits.rms_norm.weight": "norm",
        "x.{}.y.rms_norm.weight": "{}.norm",
    }
    for key, part in rung.ours.items():
        part = compare.Part(part) if isinstance(part, str) else part
        mapping[f"x.{{}}.y.mixer.{key}"] = compare.Part(f"{{}}.{part.name}", part.view)
    weights = weights_of(rung)
    compare.same(ours, lambda x: model(rung, weights, x), weights, compare.per_layer(mapping, LAYERS), x)
    compare.stepwise(ours, x, 4)
