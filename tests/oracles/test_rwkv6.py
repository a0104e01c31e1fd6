"""RWKV-6 against a transcription of its equations, and against the rwkv package, which has no gradients."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssir.spec.load import load
from tests.oracles import compare

VOCAB, MODEL, KEY, LAYERS, RANK, DECAY_RANK = 11, 32, 8, 2, 3, 5
HEADS, HIDDEN = MODEL // KEY, 96
SPEC = load("rwkv6", vocab=VOCAB, model=MODEL, layers=LAYERS, key=KEY, rank=RANK, decay_rank=DECAY_RANK)


def _weights() -> dict[str, Tensor]:
    shapes = {"emb.weight": [VOCAB, MODEL], "head.weight": [VOCAB, MODEL]}
    shapes |= {f"{norm}.{leaf}": [MODEL] for norm in ("blocks.0.ln0", "ln_out") for leaf in ("weight", "bias")}
    for i in range(LAYERS):
        att = {f"time_maa_{letter}": [1, 1, MODEL] for letter in "xwkvrg"}
        att |= {"time_maa_w1": [MODEL, 5 * RANK], "time_maa_w2": [5, RANK, MODEL]}
        att |= {"time_decay_w1": [MODEL, DECAY_RANK], "time_decay_w2": [DECAY_RANK, MODEL]}
        att |= {f"{name}.weight": [MODEL, MODEL] for name in ("receptance", "key", "value", "output", "gate")}
        att |= {"ln_x.weight": [MODEL], "ln_x.bias": [MODEL], "time_decay": [1, 1, MODEL], "time_faaaa": [HEADS, KEY]}
        ffn = {"time_maa_k": [1, 1, MODEL], "time_maa_r": [1, 1, MODEL], "receptance.weight": [MODEL, MODEL]}
        ffn |= {"key.weight": [HIDDEN, MODEL], "value.weight": [MODEL, HIDDEN]}
        norms = {f"{norm}.{leaf}": [MODEL] for norm in ("ln1", "ln2") for leaf in ("weight", "bias")}
        parts = {"att.": att, "ffn.": ffn, "": norms}
        shapes |= {f"blocks.{i}.{part}{key}": s for part, group in parts.items() for key, s in group.items()}
    generator = torch.Generator().manual_seed(0)
    return {key: compare.random_like(torch.zeros(s), generator).requires_grad_() for key, s in shapes.items()}


def _rwkv6(weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (MODEL,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = norm(weights["emb.weight"][tokens], "blocks.0.ln0")
    for i in range(LAYERS):
        for part, call in (("att", _time_mix), ("ffn", _channel_mix)):
            prefix = f"blocks.{i}.{part}."
            own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
            x = x + call(own, norm(x, f"blocks.{i}.{'ln1' if part == 'att' else 'ln2'}"))
    return norm(x, "ln_out") @ weights["head.weight"].T


def _back(x: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1) - x


def _time_mix(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """y[t] = r (S[t-1] + u k outer v), S[t] = diag(w) S[t-1] + k outer v."""
    batch, time, _ = x.shape
    back = _back(x)
    low = torch.tanh((x + back * w["time_maa_x"]) @ w["time_maa_w1"]).unflatten(-1, (5, RANK))
    mixed = {
        letter: x + back * (w[f"time_maa_{letter}"] + low[:, :, n] @ w["time_maa_w2"][n])
        for n, letter in enumerate("wkvrg")
    }
    r, k, v = (
        (mixed[letter] @ w[f"{name}.weight"].T).unflatten(-1, (HEADS, KEY))
        for letter, name in (("r", "receptance"), ("k", "key"), ("v", "value"))
    )
    rate = w["time_decay"] + torch.tanh(mixed["w"] @ w["time_decay_w1"]) @ w["time_decay_w2"]
    decay = torch.exp(-torch.exp(rate)).unflatten(-1, (HEADS, KEY))
    memory = torch.zeros(batch, HEADS, KEY, KEY, dtype=x.dtype)
    reads = []
    for t in range(time):
        new = k[:, t, :, :, None] * v[:, t, :, None, :]
        reads.append(torch.einsum("bhk,bhkv->bhv", r[:, t], memory + w["time_faaaa"][..., None] * new))
        memory = decay[:, t, :, :, None] * memory + new
    y = torch.stack(reads, 1).flatten(0, 1).flatten(1)
    y = F.group_norm(y, HEADS, w["ln_x.weight"], w["ln_x.bias"], eps=64e-5).reshape(batch, time, MODEL)
    return (y * F.silu(mixed["g"] @ w["gate.weight"].T)) @ w["output.weight"].T


def _channel_mix(w: dict[str, Tensor], x: Tensor) -> Tensor:
    back = _back(x)
    k = (x + back * w["time_maa_k"]) @ w["key.weight"].T
    r = torch.sigmoid((x + back * w["time_maa_r"]) @ w["receptance.weight"].T)
    return r * (F.relu(k).square() @ w["value.weight"].T)


RWKV: dict[str, str | compare.Part] = {
    "e.weight": "emb.weight",
    "x.input.weight": "blocks.0.ln0.weight",
    "x.input.bias": "blocks.0.ln0.bias",
    "logits.layer_norm.weight": "ln_out.weight",
    "logits.layer_norm.bias": "ln_out.bias",
    "logits.linear.weight": "head.weight",
    "x.{}.mixed.layer_norm.weight": "blocks.{}.ln1.weight",
    "x.{}.mixed.layer_norm.bias": "blocks.{}.ln1.bias",
    "x.{}.y.layer_norm.weight": "blocks.{}.ln2.weight",
    "x.{}.y.layer_norm.bias": "blocks.{}.ln2.bias",
    **{f"x.{{}}.mixed.mixer.mu_{letter}": f"blocks.{{}}.att.time_maa_{letter}" for letter in "xwkvrg"},
    "x.{}.mixed.mixer.low.weight": compare.transposed("blocks.{}.att.time_maa_w1"),
    "x.{}.mixed.mixer.mu.weight": compare.transposed("blocks.{}.att.time_maa_w2"),
    "x.{}.mixed.mixer.low_w.weight": compare.transposed("blocks.{}.att.time_decay_w1"),
    "x.{}.mixed.mixer.w.weight": compare.transposed("blocks.{}.att.time_decay_w2"),
    "x.{}.mixed.mixer.w0": "blocks.{}.att.time_decay",
    "x.{}.mixed.mixer.u": "blocks.{}.att.time_faaaa",
    "x.{}.mixed.mixer.k.weight": "blocks.{}.att.key.weight",
    "x.{}.mixed.mixer.v.weight": "blocks.{}.att.value.weight",
    "x.{}.mixed.mixer.r.weight": "blocks.{}.att.receptance.weight",
    "x.{}.mixed.mixer.g.weight": "blocks.{}.att.gate.weight",
    "x.{}.mixed.mixer.y.group_norm.weight": "blocks.{}.att.ln_x.weight",
    "x.{}.mixed.mixer.y.group_norm.bias": "blocks.{}.att.ln_x.bias",
    "x.{}.mixed.mixer.y.linear.weight": "blocks.{}.att.output.weight",
    "x.{}.y.channel_mixer.mu_k": "blocks.{}.ffn.time_maa_k",
    "x.{}.y.channel_mixer.mu_r": "blocks.{}.ffn.time_maa_r",
    "x.{}.y.channel_mixer.k.weight": "blocks.{}.ffn.key.weight",
    "x.{}.y.channel_mixer.v.weight": "blocks.{}.ffn.value.weight",
    "x.{}.y.channel_mixer.r.weight": "blocks.{}.ffn.receptance.weight",
}


@pytest.mark.parametrize("via", compare.VIA)
def test_rwkv6_agrees_with_its_equations(via: str) -> None:
    ours, weights, x = compare.Model(SPEC, via), _weights(), compare.tokens(VOCAB)
    compare.same(ours, lambda x: _rwkv6(weights, x), weights, compare.per_layer(RWKV, LAYERS), x)
    compare.stepwise(ours, x, 4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("via", compare.VIA)
def test_rwkv6_agrees_with_the_rwkv_package(via: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RWKV_JIT_ON", "0")
    monkeypatch.setenv("RWKV_CUDA_ON", "0")
    from rwkv.model import RWKV as Package

    weights = {key: value.detach().float() for key, value in _weights().items()}
    path = tmp_path / "rwkv6.pth"
    # The package tells the version by the order of the keys: the last norm and the gate come before the decay.
    torch.save(dict(sorted(weights.items(), key=lambda item: "time_" in item[0])), path)
    theirs = Package(str(path), "cpu fp32")
    ours = compare.Model(SPEC, via)
    x = compare.tokens(VOCAB, batch=1)
    compare.copy({key: value.double() for key, value in weights.items()}, ours, compare.per_layer(RWKV, LAYERS))
    expected, state = theirs.forward(x[0, :6].tolist(), None, full_output=True)
    rows = [expected]
    for token in x[0, 6:].tolist():
        row, state = theirs.forward([token], state)
        rows.append(row[None])
    compare.close(ours(x)[0][0], torch.cat(rows).double(), tolerance=1e-4)
