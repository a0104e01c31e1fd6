"""CAT and Infini-attention against the equations of their papers."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssir.spec.load import load
from tests.oracles import compare

VOCAB, MODEL, HIDDEN, LAYERS, TIME = 11, 12, 10, 2, 10


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(MODEL))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt()


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(MODEL, HIDDEN, bias=False), nn.Linear(MODEL, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, MODEL, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return found


class Whole(nn.Module):
    """Pre-norm blocks of a mixer and a gated layer."""

    def __init__(self, mixer: type[nn.Module]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, MODEL)
        self.mixers = nn.ModuleList(mixer() for _ in range(LAYERS))
        self.mlps = nn.ModuleList(Gated() for _ in range(LAYERS))
        self.norms = nn.ModuleList(Norm() for _ in range(2 * LAYERS + 1))
        self.head = nn.Linear(MODEL, VOCAB, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for i in range(LAYERS):
            x = x + self.mixers[i](self.norms[2 * i](x))
            x = x + self.mlps[i](self.norms[2 * i + 1](x))
        found: Tensor = self.head(self.norms[-1](x))
        return found


OUTSIDE: dict[str, str | compare.Part] = {
    "e.weight": "embedding.weight",
    "logits.rms_norm.weight": f"norms.{2 * LAYERS}.weight",
    "logits.linear.weight": "head.weight",
    **{f"x.{{}}.y.mlp.{name}.weight": f"mlps.{{}}.{name}.weight" for name in ("gate", "up", "down")},
    **{f"x.{i}.mixed.rms_norm.weight": f"norms.{2 * i}.weight" for i in range(LAYERS)},
    **{f"x.{i}.y.rms_norm.weight": f"norms.{2 * i + 1}.weight" for i in range(LAYERS)},
}

HEAD, KEY, TAP = 3, 4, 3


class Convolved(nn.Module):
    """softmax(causal((X * F_q) W_q ((X * F_k) W_k)^T / sqrt(d))) (X * F_v) W_v for each head, the filters first."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Parameter(torch.empty(3, HEAD, TAP))
        self.maps = nn.Parameter(torch.empty(3, HEAD, KEY, MODEL))
        self.out = nn.Linear(HEAD * KEY, MODEL, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        time = x.shape[1]
        hidden = torch.ones(time, time, dtype=torch.bool).triu(1)
        past = [torch.cat([torch.zeros_like(x[:, :lag]), x[:, : time - lag]], 1) for lag in range(TAP)]
        heads = []
        for head in range(HEAD):
            filtered = [
                torch.stack([self.filters[i, head, lag] * past[lag] for lag in range(TAP)]).sum(0) for i in range(3)
            ]
            q, k, v = (filtered[i] @ self.maps[i, head].T for i in range(3))
            scores = (q @ k.mT / KEY**0.5).masked_fill(hidden, -torch.inf)
            heads.append(scores.softmax(-1) @ v)
        found: Tensor = self.out(torch.cat(heads, -1))
        return found


def _of(name: str, i: int, swap: bool = False) -> compare.Part:
    return compare.Part(name, lambda x: x[i].mT if swap else x[i])


CAT = OUTSIDE | {
    "x.{}.mixed.mixer.out.weight": "mixers.{}.out.weight",
    **{f"x.{{}}.mixed.mixer.{name}.C": _of("mixers.{}.filters", i, True) for i, name in enumerate("qkv")},
    **{f"x.{{}}.mixed.mixer.{name}.input.weight": _of("mixers.{}.maps", i) for i, name in enumerate("qkv")},
}


@pytest.mark.parametrize("via", compare.VIA)
def test_convolution_augmented_attention_agrees_with_its_equations(via: str) -> None:
    theirs = compare.built(lambda: Whole(Convolved))
    spec = load("cat", vocab=VOCAB, model=MODEL, layers=LAYERS, head=HEAD, hidden=HIDDEN, tap=TAP)
    ours, x = compare.Model(spec, via), compare.tokens(VOCAB, time=TIME)
    compare.same(ours, theirs, dict(theirs.named_parameters()), compare.per_layer(CAT, LAYERS), x)
    compare.stepwise(ours, x, 4)


SEGMENT = 4


class Infinite(nn.Module):
    """Segment after segment, each with its attention and the memory that the former ones left (equations 1 to 10)."""

    delta = False

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Parameter(torch.empty(HEAD, KEY, MODEL)) for _ in range(3))
        self.gate = nn.Parameter(torch.empty(HEAD))
        self.out = nn.Linear(HEAD * KEY, MODEL, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (torch.einsum("btd,hkd->bhtk", x, w) for w in (self.q, self.k, self.v))
        turned_q, turned_k = self._turned(q), self._turned(k)
        memory, total = x.new_zeros(x.shape[0], HEAD, KEY, KEY), x.new_zeros(x.shape[0], HEAD, KEY, 1)
        found = []
        for start in range(0, x.shape[1], SEGMENT):
            part = slice(start, min(start + SEGMENT, x.shape[1]))
            scores = turned_q[:, :, part] @ turned_k[:, :, part].mT / KEY**0.5
            hidden = torch.ones_like(scores, dtype=torch.bool).triu(1)
            near = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v[:, :, part]
            sigma_q, sigma_k = F.elu(q[:, :, part]) + 1, F.elu(k[:, :, part]) + 1
            # The first segment finds nothing.
            far = sigma_q @ memory / (sigma_q @ total) if start else torch.zeros_like(near)
            beta = torch.sigmoid(self.gate)[:, None, None]
            found.append(beta * far + (1 - beta) * near)
            known = sigma_k @ memory / (sigma_k @ total) if self.delta and start else 0.0
            memory = memory + sigma_k.mT @ (v[:, :, part] - known)
            total = total + sigma_k.sum(2).unsqueeze(-1)
        y: Tensor = self.out(torch.cat(found, 2).transpose(1, 2).flatten(2))
        return y

    def _turned(self, x: Tensor) -> Tensor:
        half = KEY // 2
        angle = torch.arange(x.shape[2], dtype=torch.float64)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        a, b = x.chunk(2, -1)
        return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


class InfiniteDelta(Infinite):
    delta = True


INFINI: dict[str, str | compare.Part] = {
    **{f"q.{name}.weight": name for name in "qkv"},
    "gate": "gate",
    "out.weight": "out.weight",
}
SIZES: dict[str, float] = {"model": MODEL, "head": HEAD, "key": KEY, "segment": SEGMENT}


@pytest.mark.parametrize("via", compare.VIA)
def test_infini_attention_agrees_with_its_equations(via: str) -> None:
    theirs = compare.built(lambda: Whole(Infinite))
    spec = load("infini_attention", None, vocab=VOCAB, layers=LAYERS, hidden=HIDDEN, **SIZES)
    ours, x = compare.Model(spec, via), compare.tokens(VOCAB, time=TIME)
    inside = {f"x.{{}}.mixed.mixer.{key}": f"mixers.{{}}.{value}" for key, value in INFINI.items()}
    compare.same(ours, theirs, dict(theirs.named_parameters()), compare.per_layer(OUTSIDE | inside, LAYERS), x)
    compare.stepwise(ours, x, 5)


@pytest.mark.parametrize("via", compare.VIA)
def test_infini_attention_with_the_delta_rule_agrees_with_its_equations(via: str) -> None:
    theirs = compare.built(InfiniteDelta)
    ours = compare.Model(load("infini_attention.delta_mixer", None, **SIZES), via)
    x = torch.randn(2, TIME, MODEL, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mapping = compare.per_layer({"gate" if key == "gate" else key: value for key, value in INFINI.items()}, 1)
    compare.same(ours, theirs, dict(theirs.named_parameters()), mapping, x)
    compare.stepwise(ours, x, 5)
