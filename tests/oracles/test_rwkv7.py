"""RWKV-7 against a transcription of its equations, and against the rwkv package, which has no gradients."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssir.spec.load import load
from tests.oracles import compare, equations

VOCAB, MODEL, KEY, LAYERS, HIDDEN = 11, 16, 8, 3, 20
RANKS = {"w": 2, "a": 3, "v": 4, "g": 5}
HEADS = MODEL // KEY
SPEC = load(
    "rwkv7",
    vocab=VOCAB,
    model=MODEL,
    layers=LAYERS,
    key=KEY,
    hidden=HIDDEN,
    decay_rank=RANKS["w"],
    rate_rank=RANKS["a"],
    value_rank=RANKS["v"],
    gate_rank=RANKS["g"],
)


def _weights() -> dict[str, Tensor]:
    shapes = {"emb.weight": [VOCAB, MODEL], "head.weight": [VOCAB, MODEL]}
    shapes |= {f"{norm}.{leaf}": [MODEL] for norm in ("blocks.0.ln0", "ln_out") for leaf in ("weight", "bias")}
    for i in range(LAYERS):
        att = {f"x_{letter}": [1, 1, MODEL] for letter in "rwkvag"} | {"r_k": [HEADS, KEY]}
        att |= {f"{name}.weight": [MODEL, MODEL] for name in ("receptance", "key", "value", "output")}
        att |= {"ln_x.weight": [MODEL], "ln_x.bias": [MODEL], "k_k": [1, 1, MODEL], "k_a": [1, 1, MODEL]}
        for letter, rank in RANKS.items():
            if letter != "v" or i > 0:
                att |= {f"{letter}1": [MODEL, rank], f"{letter}2": [rank, MODEL]}
                att |= {} if letter == "g" else {f"{letter}0": [1, 1, MODEL]}
        ffn = {"x_k": [1, 1, MODEL], "key.weight": [HIDDEN, MODEL], "value.weight": [MODEL, HIDDEN]}
        norms = {f"{norm}.{leaf}": [MODEL] for norm in ("ln1", "ln2") for leaf in ("weight", "bias")}
        parts = {"att.": att, "ffn.": ffn, "": norms}
        shapes |= {f"blocks.{i}.{part}{key}": s for part, group in parts.items() for key, s in group.items()}
    return equations.weights(shapes)


def _rwkv7(weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (MODEL,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    x, first = norm(weights["emb.weight"][tokens], "blocks.0.ln0"), None
    for i in range(LAYERS):
        w = equations.below(weights, f"blocks.{i}.")
        y, first = _time_mix(equations.below(w, "att."), norm(x, f"blocks.{i}.ln1"), first)
        x = x + y
        y = norm(x, f"blocks.{i}.ln2")
        mixed = y + (equations.before(y) - y) * w["ffn.x_k"]
        x = x + F.relu(mixed @ w["ffn.key.weight"].T).square() @ w["ffn.value.weight"].T
    return norm(x, "ln_out") @ weights["head.weight"].T


def _time_mix(w: dict[str, Tensor], x: Tensor, first: Tensor | None) -> tuple[Tensor, Tensor]:
    """S[t] = S[t-1] (diag(w) - kappa^T (a kappa)) + v^T k, S of values by keys, y[t] = S[t] r^T."""
    batch, time, _ = x.shape
    back = equations.before(x) - x
    mixed = {letter: x + back * w[f"x_{letter}"] for letter in "rwkvag"}
    r, k, v = (
        mixed[part] @ w[f"{name}.weight"].T for part, name in (("r", "receptance"), ("k", "key"), ("v", "value"))
    )
    decay = torch.exp(-torch.sigmoid(w["w0"] + torch.tanh(mixed["w"] @ w["w1"]) @ w["w2"]) / torch.e**0.5)
    rate = torch.sigmoid(w["a0"] + mixed["a"] @ w["a1"] @ w["a2"])
    gate = torch.sigmoid(mixed["g"] @ w["g1"]) @ w["g2"]
    if first is None:
        first = v
    else:
        v = torch.lerp(v, first, torch.sigmoid(w["v0"] + mixed["v"] @ w["v1"] @ w["v2"]))
    removed = F.normalize((k * w["k_k"]).unflatten(-1, (HEADS, KEY)), dim=-1)
    k = k * torch.lerp(torch.ones_like(rate), rate, w["k_a"])
    r, k, v, decay, rate = (value.unflatten(-1, (HEADS, KEY)) for value in (r, k, v, decay, rate))
    memory = torch.zeros(batch, HEADS, KEY, KEY, dtype=x.dtype)
    reads = []
    for t in range(time):
        erased = removed[:, t, :, :, None] * (rate * removed)[:, t, :, None, :]
        memory = memory @ (torch.diag_embed(decay[:, t]) - erased) + v[:, t, :, :, None] * k[:, t, :, None, :]
        reads.append((memory @ r[:, t, :, :, None])[..., 0])
    y = torch.stack(reads, 1).flatten(0, 1).flatten(1)
    y = F.group_norm(y, HEADS, w["ln_x.weight"], w["ln_x.bias"], eps=64e-5).reshape(batch, time, MODEL)
    y = y + ((r * k * w["r_k"]).sum(-1, keepdim=True) * v).flatten(2)
    return (y * gate) @ w["output.weight"].T, first


HEAD: dict[str, str | compare.Part] = {
    "e.weight": "emb.weight",
    "x0.layer_norm.weight": "blocks.0.ln0.weight",
    "x0.layer_norm.bias": "blocks.0.ln0.bias",
    "logits.layer_norm.weight": "ln_out.weight",
    "logits.layer_norm.bias": "ln_out.bias",
    "logits.linear.weight": "head.weight",
}
MEMORY: dict[str, str] = {
    **{f"mu_{letter}": f"att.x_{letter}" for letter in "rwkag"},
    "w0": "att.w0",
    "a0": "att.a0",
    "k_k": "att.k_k",
    "k_a": "att.k_a",
    "r_k": "att.r_k",
    "r.weight": "att.receptance.weight",
    "k0.weight": "att.key.weight",
    "low_w.weight": "att.w1 transposed",
    "w.weight": "att.w2 transposed",
    "low_a.weight": "att.a1 transposed",
    "a.weight": "att.a2 transposed",
    "low_g.weight": "att.g1 transposed",
    "g.weight": "att.g2 transposed",
    "y.group_norm.weight": "att.ln_x.weight",
    "y.group_norm.bias": "att.ln_x.bias",
    "y.linear.weight": "att.output.weight",
}
MIXER: dict[str, str] = {
    **{f"y.{key}": value for key, value in MEMORY.items()},
    "mu_v": "att.x_v",
    "own.weight": "att.value.weight",
    "v0": "att.v0",
    "low.weight": "att.v1 transposed",
    "share.weight": "att.v2 transposed",
}
CHANNEL: dict[str, str] = {"mu_k": "ffn.x_k", "k.weight": "ffn.key.weight", "y.weight": "ffn.value.weight"}
NORM = {"y.layer_norm.weight": "ln2.weight", "y.layer_norm.bias": "ln2.bias"}
BLOCK: dict[str, str] = {
    **{f"mixed.mixer.{key}": value for key, value in MIXER.items()},
    **{f"y.channel_mixer.{key}": value for key, value in CHANNEL.items()},
    "mixed.layer_norm.weight": "ln1.weight",
    "mixed.layer_norm.bias": "ln1.bias",
    **NORM,
}
FIRST: dict[str, str] = {
    **{f"read.first_mixer.y.{key}": value for key, value in MEMORY.items()},
    "read.first_mixer.mu_v": "att.x_v",
    "read.first_mixer.v.weight": "att.value.weight",
    **{f"y.channel_mixer.{key}": value for key, value in CHANNEL.items()},
    "read.layer_norm.weight": "ln1.weight",
    "read.layer_norm.bias": "ln1.bias",
    **NORM,
}


def _mapping() -> dict[str, compare.Part]:
    def part(name: str) -> compare.Part:
        name, _, transposed = name.partition(" ")
        return compare.transposed(name) if transposed else compare.Part(name)

    parts = compare.per_layer(HEAD, 1) | {f"x0.first.{key}": part(f"blocks.0.{name}") for key, name in FIRST.items()}
    return parts | {
        f"x.{i}.{key}": part(f"blocks.{i + 1}.{name}") for i in range(LAYERS - 1) for key, name in BLOCK.items()
    }


@pytest.mark.parametrize("via", compare.VIA)
def test_rwkv7_agrees_with_its_equations(via: str) -> None:
    ours, weights, x = compare.Model(SPEC, via), _weights(), compare.tokens(VOCAB)
    compare.same(ours, lambda x: _rwkv7(weights, x), weights, _mapping(), x)
    compare.stepwise(ours, x, 4)


def _package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the package as it is for this version, uncompiled; whoever imports it by name gets the older ones."""
    for key, value in {"RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0", "RWKV_V7_ON": "1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.jit, "ScriptModule", torch.nn.Module)
    for name in ("script", "script_method"):
        monkeypatch.setattr(torch.jit, name, lambda function: function)
    package = importlib.util.find_spec("rwkv")
    assert package is not None and package.origin is not None
    found = importlib.util.spec_from_file_location("rwkv_7", Path(package.origin).with_name("model.py"))
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("via", compare.VIA)
def test_rwkv7_agrees_with_the_rwkv_package(via: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {key: value.detach().float() for key, value in _weights().items()}
    torch.save(weights, tmp_path / "rwkv7.pth")
    theirs = _package(monkeypatch).RWKV(str(tmp_path / "rwkv7"), "cpu fp32")
    ours = compare.Model(SPEC, via)
    x = compare.tokens(VOCAB, batch=1)
    compare.copy({key: value.double() for key, value in weights.items()}, ours, _mapping())
    expected, state = theirs.forward(x[0, :6].tolist(), None, full_output=True)
    rows = [expected]
    for token in x[0, 6:].tolist():
        row, state = theirs.forward([token], state)
        rows.append(row[None])
    compare.close(ours(x)[0][0], torch.cat(rows).double(), tolerance=1e-4)
