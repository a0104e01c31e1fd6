"""RWKV-5 against a transcription of its equations, and against the rwkv package, which has no gradients."""

import warnings

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssir.spec.load import load
from tests.oracles import compare, equations

VOCAB, MODEL, KEY, LAYERS = 11, 32, 8, 2
HEADS, HIDDEN = MODEL // KEY, 96
SPEC = load("rwkv5", vocab=VOCAB, model=MODEL, layers=LAYERS, key=KEY)


def _weights() -> dict[str, Tensor]:
    shapes = {"emb.weight": [VOCAB, MODEL], "head.weight": [VOCAB, MODEL]}
    shapes |= {f"{norm}.{leaf}": [MODEL] for norm in ("blocks.0.ln0", "ln_out") for leaf in ("weight", "bias")}
    for i in range(LAYERS):
        att = {f"time_mix_{letter}": [1, 1, MODEL] for letter in "kvrg"}
        att |= {f"{name}.weight": [MODEL, MODEL] for name in ("receptance", "key", "value", "output", "gate")}
        att |= {"ln_x.weight": [MODEL], "ln_x.bias": [MODEL], "time_decay": [HEADS, KEY], "time_faaaa": [HEADS, KEY]}
        ffn = {"time_mix_k": [1, 1, MODEL], "time_mix_r": [1, 1, MODEL], "receptance.weight": [MODEL, MODEL]}
        ffn |= {"key.weight": [HIDDEN, MODEL], "value.weight": [MODEL, HIDDEN]}
        norms = {f"{norm}.{leaf}": [MODEL] for norm in ("ln1", "ln2") for leaf in ("weight", "bias")}
        parts = {"att.": att, "ffn.": ffn, "": norms}
        shapes |= {f"blocks.{i}.{part}{key}": s for part, group in parts.items() for key, s in group.items()}
    return equations.weights(shapes)


def _rwkv5(weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    def norm(x: Tensor, name: str) -> Tensor:
        return equations.layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = norm(weights["emb.weight"][tokens], "blocks.0.ln0")
    for i in range(LAYERS):
        w = equations.below(weights, f"blocks.{i}.")
        x = x + _time_mix(equations.below(w, "att."), norm(x, f"blocks.{i}.ln1"))
        x = x + _channel_mix(equations.below(w, "ffn."), norm(x, f"blocks.{i}.ln2"))
    return norm(x, "ln_out") @ weights["head.weight"].T


def _lerp(w: dict[str, Tensor], x: Tensor, letter: str) -> Tensor:
    past = equations.before(x)
    return past + (x - past) * w[f"time_mix_{letter}"]


def _time_mix(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """y[t] = r (diag(u) k^T v + sum over i < t of diag(w)^(t - 1 - i) k[i]^T v[i]), all steps at once."""
    time = x.shape[1]
    r, k, v = (
        (_lerp(w, x, name[0]) @ w[f"{name}.weight"].T).unflatten(-1, (HEADS, KEY))
        for name in ("receptance", "key", "value")
    )
    rate, at = torch.exp(w["time_decay"]), torch.arange(time)
    apart = (at[:, None] - at - 1)[:, :, None, None]
    weight = torch.where(apart < 0, 0, torch.exp(-rate * apart.clamp(min=0)))
    weight = torch.where(apart == -1, w["time_faaaa"], weight)  # [to, from, head, key]
    y = torch.einsum("bthk,bshk,tshk,bshv->bthv", r, k, weight, v) / 8
    y = equations.layer_norm(y, 1.0).flatten(2) * w["ln_x.weight"] + w["ln_x.bias"]
    return (y * F.silu(_lerp(w, x, "g") @ w["gate.weight"].T)) @ w["output.weight"].T


def _channel_mix(w: dict[str, Tensor], x: Tensor) -> Tensor:
    k = F.relu(_lerp(w, x, "k") @ w["key.weight"].T).square()
    return torch.sigmoid(_lerp(w, x, "r") @ w["receptance.weight"].T) * (k @ w["value.weight"].T)


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
    **{f"x.{{}}.mixed.mixer.mu_{letter}": f"blocks.{{}}.att.time_mix_{letter}" for letter in "kvrg"},
    "x.{}.mixed.mixer.w0": "blocks.{}.att.time_decay",
    "x.{}.mixed.mixer.u": "blocks.{}.att.time_faaaa",
    "x.{}.mixed.mixer.k.weight": "blocks.{}.att.key.weight",
    "x.{}.mixed.mixer.v.weight": "blocks.{}.att.value.weight",
    "x.{}.mixed.mixer.r.weight": "blocks.{}.att.receptance.weight",
    "x.{}.mixed.mixer.g.weight": "blocks.{}.att.gate.weight",
    "x.{}.mixed.mixer.y.group_norm.weight": "blocks.{}.att.ln_x.weight",
    "x.{}.mixed.mixer.y.group_norm.bias": "blocks.{}.att.ln_x.bias",
    "x.{}.mixed.mixer.y.linear.weight": "blocks.{}.att.output.weight",
    "x.{}.y.channel_mixer.mu_k": "blocks.{}.ffn.time_mix_k",
    "x.{}.y.channel_mixer.mu_r": "blocks.{}.ffn.time_mix_r",
    "x.{}.y.channel_mixer.k.weight": "blocks.{}.ffn.key.weight",
    "x.{}.y.channel_mixer.v.weight": "blocks.{}.ffn.value.weight",
    "x.{}.y.channel_mixer.r.weight": "blocks.{}.ffn.receptance.weight",
}


@pytest.mark.parametrize("via", compare.VIA)
def test_rwkv5_agrees_with_its_equations(via: str) -> None:
    ours, weights, x = compare.Model(SPEC, via), _weights(), compare.tokens(VOCAB)
    compare.same(ours, lambda x: _rwkv5(weights, x), weights, compare.per_layer(RWKV, LAYERS), x)
    compare.stepwise(ours, x, 4)


@pytest.fixture(scope="module")
def package_logits(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    """What the package says: a prompt at once, then one token after another."""
    weights = {key: value.detach().float() for key, value in _weights().items()}
    path = tmp_path_factory.mktemp("rwkv5") / "rwkv5.pth"
    # The package tells the version by the order of the keys: the last norm and the gate come before the decay.
    torch.save(dict(sorted(weights.items(), key=lambda item: "time_" in item[0])), path)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("RWKV_JIT_ON", "0")
        patch.setenv("RWKV_CUDA_ON", "0")
        from rwkv.model import RWKV as Package

        theirs = Package(str(path), "cpu fp32")
        x = compare.tokens(VOCAB, batch=1)[0].tolist()
        prompt, state = theirs.forward(x[:6], None, full_output=True)
        rows = [prompt]
        for token in x[6:]:
            row, state = theirs.forward([token], state)
            rows.append(row[None])
    return torch.cat(rows).double()


@pytest.mark.parametrize("via", compare.VIA)
def test_rwkv5_agrees_with_the_rwkv_package(via: str, package_logits: Tensor) -> None:
    ours = compare.Model(SPEC, via)
    weights = {key: value.detach() for key, value in _weights().items()}
    compare.copy(weights, ours, compare.per_layer(RWKV, LAYERS))
    compare.close(ours(compare.tokens(VOCAB, batch=1))[0][0], package_logits, tolerance=1e-4)
