"""Positions against transformers, whose Llama and GPT-2 are given another code of positions, and against the equations."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb
from transformers.models.llama import modeling_llama
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from ssir.spec.load import load, loads
from tests.oracles import compare
from tests.oracles.test_transformer import GPT2, LLAMA

VOCAB, LAYERS, TIME = 11, 2, 9
_TURNED = {
    f"x.{{}}.mixed.mixer.{key[-8]}.linear.weight" if key.endswith(("q.weight", "k.weight")) else key: part
    for key, part in LLAMA.items()
}
"""Where queries and keys are turned by a component, the projection is one call of two."""
Turn = Callable[[Tensor], Tensor]
"""[batch, head, time, key] turned."""


def _llama(heads: int, kv: int, key: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=heads * key,
        intermediate_size=12,
        num_hidden_layers=LAYERS,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        rms_norm_eps=1e-5,
    )
    model: LlamaForCausalLM = compare.built(lambda: LlamaForCausalLM(config))
    return model


@contextmanager
def _turning(turn: Turn) -> Iterator[None]:
    """Llama with another turn for its queries and keys than its own."""
    own = modeling_llama.apply_rotary_pos_emb
    modeling_llama.apply_rotary_pos_emb = lambda q, k, *_: (turn(q), turn(k))
    try:
        yield
    finally:
        modeling_llama.apply_rotary_pos_emb = own


def _halves(part: compare.Part, heads: int) -> compare.Part:
    """Llama pairs an entry of a key with the one half a key further; here neighbours are pairs."""
    return compare.Part(part.name, lambda x: x.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2))


@pytest.mark.parametrize("via", compare.VIA)
def test_rope_agrees_with_transformers(via: str) -> None:
    theirs = _llama(4, 2, 4)
    ours, x = compare.Model(load("rope", vocab=VOCAB, model=16, layers=LAYERS, kv=2, group=2, hidden=12), via), _x()
    mapping = compare.per_layer(_TURNED, LAYERS)
    for i in range(LAYERS):
        for name, heads in (("q", 4), ("k", 2)):
            ours_name = f"x.{i}.mixed.mixer.{name}.linear.weight"
            mapping[ours_name] = _halves(mapping[ours_name], heads)
    compare.same(ours, lambda x: theirs(x).logits, dict(theirs.named_parameters()), mapping, x)
    compare.stepwise(ours, x, 4)


def _x() -> Tensor:
    return compare.tokens(VOCAB, time=TIME)


@pytest.mark.parametrize("via", compare.VIA)
def test_a_turn_of_the_first_pairs_agrees_with_transformers(via: str) -> None:
    """GPT-NeoX turns a part of each head only."""
    spec = loads(
        "ssir: 1\nname: part\ndims: {head: 2, key: 10, half: 3}\ncomponents:\n  net:\n    input: {x: [head, key]}\n    graph:\n"
        "      angle: position * 100 ** (-arange(half) / half)\n      y: rotate(x, angle, over=key, pairs=halves)\n"
        "    output: y\nmain: net\n"
    )
    x = torch.randn(2, 9, 2, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    angle = torch.arange(9.0).double()[:, None] * 100 ** (-torch.arange(3).double() / 3)
    turns = torch.cat([angle, angle], -1)[None]
    wanted, _ = apply_rotary_pos_emb(x.transpose(1, 2), x.transpose(1, 2), turns.cos(), turns.sin())  # type: ignore[no-untyped-call]
    compare.close(compare.Model(spec, via)(x)[0], wanted.transpose(1, 2))


@pytest.mark.parametrize("via", compare.VIA)
def test_amplitude_decay_agrees_with_the_biases_of_transformers(via: str) -> None:
    theirs = _llama(4, 4, 3)
    ours, x = compare.Model(load("amplitude_decay", vocab=VOCAB, model=12, layers=LAYERS, head=4, hidden=12), via), _x()
    future = torch.full((TIME, TIME), -1e30, dtype=torch.float64).triu(1)
    mapping = compare.per_layer(LLAMA, LAYERS)

    def run(x: Tensor) -> Tensor:
        bias: Tensor = build_mpt_alibi_tensor(4, TIME)  # type: ignore[no-untyped-call]
        mask = (bias + future).expand(len(x), -1, -1, -1)
        with _turning(lambda q: q):
            logits: Tensor = theirs(x, attention_mask=mask).logits
        return logits

    compare.same(ours, run, dict(theirs.named_parameters()), mapping, x)
    compare.stepwise(ours, x, 4)


@pytest.mark.parametrize("via", compare.VIA)
def test_sinusoidal_agrees_with_transformers(via: str) -> None:
    """GPT-2 with the table that the paper writes down in the place of the one that it learns."""
    config = GPT2Config(vocab_size=VOCAB, n_positions=TIME, n_embd=12, n_layer=LAYERS, n_head=3, n_inner=10)
    theirs = compare.built(lambda: GPT2LMHeadModel(config))
    table = [[place / 10000 ** (2 * (i // 2) / 12) for i in range(12)] for place in range(TIME)]
    table = [[math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(row)] for row in table]
    theirs.transformer.wpe.weight.data = torch.tensor(table, dtype=torch.float64)
    weights = {k: v for k, v in theirs.named_parameters() if "wpe" not in k}
    ours, x = compare.Model(load("sinusoidal", vocab=VOCAB, model=12, layers=LAYERS, head=3, hidden=10), via), _x()
    names = {k: v for k, v in GPT2.items() if k not in ("token.weight", "place.weight")}
    mapping = compare.per_layer({**names, "e.weight": "transformer.wte.weight"}, LAYERS)

    def run(x: Tensor) -> Tensor:
        logits: Tensor = theirs(inputs_embeds=theirs.transformer.wte(x) * 12**0.5).logits
        return logits

    compare.same(ours, run, weights, mapping, x)
    compare.stepwise(ours, x, 4)


def _plane(x: Tensor, angle: Tensor) -> Tensor:
    """Neighbours as complex numbers [..., time, key / 2], turned by angles [time]."""
    z = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(z * torch.polar(torch.ones_like(angle), angle)[:, None]).flatten(-2)


def _warped(n: Tensor, length: float) -> Tensor:
    return 2 * math.pi * n / (n + length)


def _blended(length: float, printed: bool) -> Tensor:
    """The slide's two cases: the second as it is printed, or so that it goes on where the first ends."""
    found = []
    for n in range(TIME):
        beyond = n / (n + 1) if printed else (n - length) / n if n else 0
        found.append(math.pi * n / length if n < length else math.pi + math.pi * beyond)
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("via", compare.VIA)
@pytest.mark.parametrize("size", [None, "as-printed"])
def test_a_blend_of_uniform_and_warped_turns_agrees_with_transformers(via: str, size: str | None) -> None:
    theirs, length = _llama(4, 2, 4), 4
    spec = load("wrope_blend", size, vocab=VOCAB, model=16, layers=LAYERS, kv=2, group=2, hidden=12, length=length)
    ours, x = compare.Model(spec, via), _x()

    def run(x: Tensor) -> Tensor:
        with _turning(lambda q: _plane(q, _blended(length, size == "as-printed"))):
            logits: Tensor = theirs(x).logits
        return logits

    compare.same(ours, run, dict(theirs.named_parameters()), compare.per_layer(_TURNED, LAYERS), x)
    compare.stepwise(ours, x, 4)


def test_a_blend_goes_on_at_the_angle_and_the_rate_at_which_its_even_part_ends() -> None:
    n = torch.tensor([0.0, 99.999, 100.0, 100.001, 1e9], dtype=torch.float64)[None]
    angle = compare.Model(load("wrope_blend.angle", length=100))(n)[0][0]
    assert angle[0] == 0
    assert angle[2] == pytest.approx(math.pi)
    assert (angle[2] - angle[1]) / (angle[3] - angle[2]) == pytest.approx(1, abs=1e-4)
    assert 2 * math.pi - 1e-6 < angle[4] < 2 * math.pi


def _hamilton(x: Tensor, tilt: Tensor, heading: Tensor) -> Tensor:
    """Fours [..., time, key] times exp(angle / 2 (a_x i + a_y j + a_z k)), quaternions as complex 2 by 2 matrices."""
    one = torch.eye(2, dtype=torch.complex128)
    i = torch.tensor([[1j, 0], [0, -1j]], dtype=torch.complex128)
    j = torch.tensor([[0, 1], [-1, 0]], dtype=torch.complex128)
    quads, time = len(tilt), x.shape[-2]
    basis = torch.stack([one, i, j, i @ j])
    axis = torch.stack([tilt.cos(), tilt.sin() * heading.cos(), tilt.sin() * heading.sin()], -1)
    angle = torch.arange(time)[:, None] * 10000 ** (-torch.arange(quads) / quads)
    pure = torch.einsum("tq,qa,amn->tqmn", angle / 2 + 0j, axis + 0j, basis[1:])
    turned = torch.matrix_exp(pure) @ torch.einsum("...qa,amn->...qmn", x.unflatten(-1, (quads, 4)) + 0j, basis)
    first, second = turned[..., 0, 0], turned[..., 0, 1]  # w + x i, y + z i
    return torch.stack([first.real, first.imag, second.real, second.imag], -1).flatten(-2)


@pytest.mark.parametrize("via", compare.VIA)
def test_quaternions_agree_with_complex_matrices(via: str) -> None:
    theirs = _llama(4, 2, 8)
    spec = load("quaternion", vocab=VOCAB, model=32, layers=LAYERS, kv=2, group=2, hidden=12)
    ours, x = compare.Model(spec, via), _x()
    weights: dict[str, Tensor] = dict(theirs.named_parameters())
    generator = torch.Generator().manual_seed(3)
    names = {"x.{}.mixed.mixer.tilt": "{}.tilt", "x.{}.mixed.mixer.heading": "{}.heading"}
    mapping = compare.per_layer({**_TURNED, **names}, LAYERS)
    for layer in range(LAYERS):
        for name in ("tilt", "heading"):
            weights[f"{layer}.{name}"] = torch.randn(2, dtype=torch.float64, generator=generator).requires_grad_()

    def run(x: Tensor) -> Tensor:
        turns = iter(range(2 * LAYERS))  # queries and keys of one layer after another

        def turn(q: Tensor) -> Tensor:
            layer = next(turns) // 2
            return _hamilton(q, weights[f"{layer}.tilt"], weights[f"{layer}.heading"])

        with _turning(turn):
            logits: Tensor = theirs(x).logits
        return logits

    compare.same(ours, run, weights, mapping, x)
    compare.stepwise(ours, x, 4)


@pytest.mark.parametrize("name", ["rope.turned", "quaternion.turned"])
def test_a_turn_keeps_lengths_and_tells_only_distances(name: str) -> None:
    ours = compare.Model(load(name, key=8) if name == "rope.turned" else load(name, model=8, kv=1, group=1))
    generator = torch.Generator().manual_seed(0)
    q, k, *axis = (torch.randn(n, dtype=torch.float64, generator=generator) for n in (8, 8, 2, 2))
    others = axis[: len(ours.graph.inputs) - 1]
    turned = [ours(*(x.expand(1, TIME, -1) for x in (vector, *others)))[0][0] for vector in (q, k)]
    compare.close(turned[0].norm(dim=-1), q.norm().expand(TIME))
    scores = turned[0] @ turned[1].T
    compare.close(scores[1:, 1:], scores[:-1, :-1])
    assert (scores[0, 1:] - scores[0, :-1]).abs().min() > 1e-3


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def _random(shapes: Mapping[str, list[int]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {k: compare.random_like(torch.zeros(shape), generator).requires_grad_() for k, shape in shapes.items()}


def _shapes(layer: Mapping[str, list[int]], free: int) -> dict[str, list[int]]:
    shapes = {"embed": [VOCAB, free], "norm": [free], "head": [VOCAB, free]}
    return shapes | {f"{i}.{name}": shape for i in range(LAYERS) for name, shape in layer.items()}


OURS = {
    "e.weight": "embed",
    "logits.rms_norm.weight": "norm",
    "logits.linear.weight": "head",
    "x.{}.mixed.mixer.v.weight": "{}.v",
    "x.{}.y.mlp.gate.weight": "{}.gate",
    "x.{}.y.mlp.up.weight": "{}.up",
    "x.{}.y.mlp.down.weight": "{}.down",
}


def _memory(w: Mapping[str, Tensor], x: Tensor, i: int, length: float) -> Tensor:
    """S[n] = a[n] e^(j (D[n] - D[n - 1])) S[n - 1] + b[n] v[n], neighbouring keys as complex numbers."""
    batch, time, _ = x.shape
    q, k = (torch.view_as_complex((x @ w[f"{i}.{name}"].T).unflatten(-1, (-1, 2))) for name in "qk")
    v = (x @ w[f"{i}.v"].T).unflatten(-1, (3, 4))
    dt = F.softplus(x @ w[f"{i}.dt"].T + w[f"{i}.dt_bias"])
    a = torch.exp(-dt * w[f"{i}.A_log"].exp())
    memory = torch.zeros(batch, 3, k.shape[-1], 4, dtype=torch.complex128)
    reads = []
    for n in range(time):
        turn = _warped(torch.tensor(float(n)), length) - _warped(torch.tensor(max(n - 1.0, 0.0)), length)
        written = (dt[:, n, :, None] * k[:, n, None])[..., None] * v[:, n, :, None]
        memory = a[:, n, :, None, None] * torch.polar(torch.tensor(1.0), turn) * memory + written
        read = torch.einsum("bk,bhkv->bhv", q[:, n].conj(), memory).real
        reads.append(read + w[f"{i}.D"][:, None] * v[:, n])
    gated = torch.stack(reads, 1).flatten(-2) * F.silu(x @ w[f"{i}.z"].T)
    return _norm(gated, w[f"{i}.y_norm"].flatten()) @ w[f"{i}.o"].T


def _wrope(w: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    x = w["embed"][tokens]
    for i in range(LAYERS):
        x = x + _memory(w, _norm(x, w[f"{i}.norm1"]), i, 3)
        y = _norm(x, w[f"{i}.norm2"])
        x = x + (F.silu(y @ w[f"{i}.gate"].T) * (y @ w[f"{i}.up"].T)) @ w[f"{i}.down"].T
    return _norm(x, w["norm"]) @ w["head"].T


WROPE = OURS | {
    "x.{}.mixed.rms_norm.weight": "{}.norm1",
    "x.{}.y.rms_norm.weight": "{}.norm2",
    "x.{}.mixed.mixer.q.weight": "{}.q",
    "x.{}.mixed.mixer.k.weight": "{}.k",
    "x.{}.mixed.mixer.dt.weight": "{}.dt",
    "x.{}.mixed.mixer.dt.bias": "{}.dt_bias",
    "x.{}.mixed.mixer.A_log": "{}.A_log",
    "x.{}.mixed.mixer.memory.D": "{}.D",
    "x.{}.mixed.mixer.gate.weight": "{}.z",
    "x.{}.mixed.mixer.out.rms_norm.weight": "{}.y_norm",
    "x.{}.mixed.mixer.out.linear.weight": "{}.o",
}


@pytest.mark.parametrize("via", compare.VIA)
def test_a_warped_memory_agrees_with_its_equations(via: str) -> None:
    layer = {name: [12, 12] for name in "vzo"} | {"q": [6, 12], "k": [6, 12], "dt": [3, 12]}
    layer |= {"dt_bias": [3], "A_log": [3], "D": [3], "norm1": [12], "norm2": [12], "y_norm": [3, 4]}
    layer |= {"gate": [10, 12], "up": [10, 12], "down": [12, 10]}
    weights = _random(_shapes(layer, 12))
    spec = load("wrope", vocab=VOCAB, model=12, layers=LAYERS, head=3, key=6, hidden=10, length=3)
    ours, x = compare.Model(spec, via), _x()
    compare.same(ours, lambda x: _wrope(weights, x), weights, compare.per_layer(WROPE, LAYERS), x)
    compare.stepwise(ours, x, 4)


def _trape(w: Mapping[str, Tensor], tokens: Tensor, length: float) -> Tensor:
    time = tokens.shape[1]
    x = w["embed"][tokens]
    n = torch.arange(time, dtype=torch.float64)
    place = torch.stack([n / length**0.5, n / length], -1).expand(len(x), -1, -1)
    future = torch.ones(time, time).triu(1).bool()
    for i in range(LAYERS):
        y = torch.cat([_norm(x, w[f"{i}.norm1"]), place], -1)
        q = (y @ w[f"{i}.q"].T).unflatten(-1, (2, 2, 4))
        k, v = ((y @ w[f"{i}.{name}"].T).unflatten(-1, (2, 4)) for name in "kv")
        scores = torch.einsum("btkgd,bskd->bkgts", q, k) / 2
        read = torch.einsum("bkgts,bskd->btkgd", scores.masked_fill(future, -math.inf).softmax(-1), v)
        x = x + read.flatten(-3) @ w[f"{i}.o"].T
        y = torch.cat([_norm(x, w[f"{i}.norm2"]), place], -1)
        x = x + (F.silu(y @ w[f"{i}.gate"].T) * (y @ w[f"{i}.up"].T)) @ w[f"{i}.down"].T
    return _norm(x, w["norm"]) @ w["head"].T


TRAPE = OURS | {
    "x.{}.mixed.whole.y.weight": "{}.norm1",
    "x.{}.y.whole.y.weight": "{}.norm2",
    "x.{}.mixed.mixer.q.weight": "{}.q",
    "x.{}.mixed.mixer.k.weight": "{}.k",
    "x.{}.mixed.mixer.out.weight": "{}.o",
}


@pytest.mark.parametrize("via", compare.VIA)
def test_reserved_dimensions_agree_with_their_equations(via: str) -> None:
    layer = {"q": [16, 16], "k": [8, 16], "v": [8, 16], "o": [14, 16], "norm1": [14], "norm2": [14]}
    layer |= {"gate": [10, 16], "up": [10, 16], "down": [14, 10]}
    weights = _random(_shapes(layer, 14))
    spec = load("trape", vocab=VOCAB, model=16, layers=LAYERS, kv=2, group=2, hidden=10, length=7)
    ours, x = compare.Model(spec, via), _x()
    compare.same(ours, lambda x: _trape(weights, x, 7), weights, compare.per_layer(TRAPE, LAYERS), x)
    compare.stepwise(ours, x, 4)


BOTH_WAYS = """
ssir: 1
name: both_ways
dims: {model: 5, key: 6, value: 3, half: key / 2, way: 2}
imports: {frequency: rope.frequency, turned: rope.turned, step: wrope.step, warped: wrope.turned}
components:
  whole:
    input: {x: [model]}
    graph:
      q: linear(x, key)
      k: linear(x, key)
      v: linear(x, value)
      fade: sigmoid(linear(x, []))
      along: {state: [key, value], A: "<A>", B: k, input: v, C: q}
      apart: {state: [key, value], A: fade, B: "<TURNED>(k, <DIMS>)", input: v, C: "<TURNED>(q, <DIMS>)"}
      y: pack([along, apart], way)
    output: y
main: whole
"""


@pytest.mark.parametrize(
    ("a", "turned", "dims"),
    [
        ("rotate(-frequency(key=key), over=key) * fade", "turned", "base=10000"),
        ("fade * rotate(-expand(step(length=3), half), over=key)", "warped", "length=3"),
    ],
    ids=["rope", "wrope"],
)
@pytest.mark.parametrize("via", compare.VIA)
def test_a_memory_that_turns_reads_what_turned_keys_and_queries_read(via: str, a: str, turned: str, dims: str) -> None:
    """What is written at s is read at t turned by s - t: R(t) q . R(s) k = q . R(s - t) k."""
    spec = loads(BOTH_WAYS.replace("<A>", a).replace("<TURNED>", turned).replace("<DIMS>", dims))
    ours = compare.Model(spec, via).fill()
    x = torch.randn(2, TIME, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    along, apart = ours(x)[0].unbind(-1)
    compare.close(along, apart)
    params = list(ours.params.values())
    for one, other in zip(
        *(torch.autograd.grad((y**2).sum(), params, retain_graph=True) for y in (along, apart)), strict=True
    ):
        compare.close(one, other, "gradient")
    compare.stepwise(ours, x, 4)
