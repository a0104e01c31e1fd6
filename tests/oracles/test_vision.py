"""ViT against transformers, and Vision Mamba against its equations, with the mixers of transformers' Mamba."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MambaConfig, ViTConfig, ViTForImageClassification
from transformers.models.mamba.modeling_mamba import MambaMixer

import ssir
from ssir.spec.load import load
from tests.oracles import compare

LAYERS, MODEL, HEAD, CLASSES, SIDE, PATCH, COLOURS = 2, 12, 3, 5, 8, 4, 3
LENGTH, PIXEL = (SIDE // PATCH) ** 2 + 1, COLOURS * PATCH**2


def _images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, COLOURS, SIDE, SIDE, dtype=torch.float64, generator=generator)


def _patches(images: Tensor, token: int) -> Tensor:
    """[batch, length, pixel], with noise at the step of the class token."""
    patches = F.unfold(images, PATCH, stride=PATCH).mT
    noise = torch.randn(patches[:, :1].shape, dtype=patches.dtype, generator=torch.Generator().manual_seed(1))
    return torch.cat([patches[:, :token], noise, patches[:, token:]], 1)


def _affine(ours: str, theirs: str) -> dict[str, str | compare.Part]:
    return {f"{ours}.{leaf}": f"{theirs}.{leaf}" for leaf in ("weight", "bias")}


VIT: dict[str, str | compare.Part] = {
    "x.input.first": compare.Part("vit.embeddings.cls_token", torch.Tensor.flatten),
    "x.input.place.weight": compare.Part("vit.embeddings.position_embeddings", lambda x: x[0]),
    "x.input.seen.weight": compare.Part("vit.embeddings.patch_embeddings.projection.weight", lambda x: x.flatten(1)),
    "x.input.seen.bias": "vit.embeddings.patch_embeddings.projection.bias",
    **_affine("x.{}.mixed.layer_norm", "vit.layers.{}.layernorm_before"),
    **_affine("x.{}.mixed.mixer.q", "vit.layers.{}.attention.q_proj"),
    **_affine("x.{}.mixed.mixer.k", "vit.layers.{}.attention.k_proj"),
    **_affine("x.{}.mixed.mixer.v", "vit.layers.{}.attention.v_proj"),
    **_affine("x.{}.mixed.mixer.out", "vit.layers.{}.attention.o_proj"),
    **_affine("x.{}.y.layer_norm", "vit.layers.{}.layernorm_after"),
    **_affine("x.{}.y.mlp.up", "vit.layers.{}.mlp.fc1"),
    **_affine("x.{}.y.mlp.down", "vit.layers.{}.mlp.fc2"),
    **_affine("pooled.layer_norm", "vit.layernorm"),
    **_affine("logits", "classifier"),
}


@pytest.mark.parametrize("via", compare.VIA)
def test_vit_agrees_with_transformers(via: str) -> None:
    config = ViTConfig(
        hidden_size=MODEL,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEAD,
        intermediate_size=10,
        image_size=SIDE,
        patch_size=PATCH,
    )
    config.num_labels = CLASSES
    theirs: Any = compare.built(lambda: ViTForImageClassification(config))
    spec = load("vit", classes=CLASSES, pixel=PIXEL, length=LENGTH, model=MODEL, layers=LAYERS, head=HEAD, hidden=10)
    images, ours = _images(), compare.Model(spec, via)
    weights, mapping = dict(theirs.named_parameters()), compare.per_layer(VIT, LAYERS)
    compare.same(ours, lambda _: theirs(images).logits, weights, mapping, _patches(images, 0))


class Vim(nn.Module):
    """Section 3 of the paper, with what its code divides the sum of both directions by."""

    def __init__(self) -> None:
        super().__init__()
        config = MambaConfig(hidden_size=MODEL, state_size=4, time_step_rank=2, use_cache=False)
        self.projection = nn.Linear(PIXEL, MODEL)
        self.token = nn.Parameter(torch.empty(MODEL))
        self.place = nn.Parameter(torch.empty(LENGTH, MODEL))
        self.ahead = nn.ModuleList(MambaMixer(config, i) for i in range(LAYERS))
        self.back = nn.ModuleList(MambaMixer(config, i) for i in range(LAYERS))
        for ahead, back in zip(self.ahead, self.back, strict=True):  # which have the maps in and out in common
            back.in_proj, back.out_proj = ahead.in_proj, ahead.out_proj
        self.norms = nn.ParameterList(torch.empty(MODEL) for _ in range(LAYERS + 1))
        self.head = nn.Linear(MODEL, CLASSES)

    def forward(self, patches: Tensor) -> Tensor:
        middle = LENGTH // 2
        seen = self.projection(patches)
        x = torch.cat([seen[:, :middle], self.token.expand(len(seen), 1, -1), seen[:, middle:]], 1) + self.place
        for ahead, back, norm in zip(self.ahead, self.back, self.norms, strict=False):
            u: Any = F.rms_norm(x, (MODEL,), norm, 1e-5)
            x = x + (ahead(u) + back(u.flip(1)).flip(1)) / 2
        return self.head(F.rms_norm(x[:, middle], (MODEL,), self.norms[LAYERS], 1e-5))  # type: ignore[no-any-return]


def _vim_mapping() -> dict[str, compare.Part]:
    def scan(ours: str, theirs: str) -> dict[str, str | compare.Part]:
        def rows(start: int, stop: int) -> compare.Part:
            return compare.Part(f"{theirs}.x_proj.weight", lambda x: x[start:stop])

        return {
            f"{ours}.conv.C": compare.Part(f"{theirs}.conv1d.weight", lambda x: x[:, 0].flip(1).mT),
            f"{ours}.conv_bias": f"{theirs}.conv1d.bias",
            f"{ours}.low.weight": rows(0, 2),
            f"{ours}.s.B.weight": rows(2, 6),
            f"{ours}.s.C.weight": rows(6, 10),
            **_affine(f"{ours}.dt", f"{theirs}.dt_proj"),
            f"{ours}.A_log": f"{theirs}.A_log",
            f"{ours}.s.D": f"{theirs}.D",
        }

    mixer = "x.{}.y.mixer"
    mapping: dict[str, str | compare.Part] = {
        "x.input.middle_token": "token",
        "x.input.place.weight": "place",
        **_affine("x.input.seen", "projection"),
        "x.{}.y.rms_norm.weight": "norms.{}",
        f"{mixer}.x0.weight": compare.Part("ahead.{}.in_proj.weight", lambda x: x.chunk(2)[0]),
        f"{mixer}.z.weight": compare.Part("ahead.{}.in_proj.weight", lambda x: x.chunk(2)[1]),
        **scan(f"{mixer}.ahead", "ahead.{}"),
        **scan(f"{mixer}.back", "back.{}"),
        f"{mixer}.y.weight": "ahead.{}.out_proj.weight",
        "pooled.rms_norm.weight": f"norms.{LAYERS}",
        **_affine("logits", "head"),
    }
    return compare.per_layer(mapping, LAYERS)


@pytest.mark.parametrize("via", compare.VIA)
def test_vision_mamba_reads_patches_in_both_directions_and_answers_at_the_token_in_their_middle(via: str) -> None:
    theirs: Any = compare.built(Vim)
    dims = {
        "classes": CLASSES,
        "pixel": PIXEL,
        "length": LENGTH,
        "model": MODEL,
        "layers": LAYERS,
        "state": 4,
        "rank": 2,
    }
    ours = compare.Model(load("vision_mamba", None, **dims), via)
    patches = F.unfold(_images(), PATCH, stride=PATCH).mT
    given = _patches(_images(), LENGTH // 2)
    compare.same(ours, lambda _: theirs(patches), dict(theirs.named_parameters()), _vim_mapping(), given)


@pytest.mark.parametrize("name", ["vit", "vision_mamba"])
def test_an_image_classifier_learns_to_tell_pictures_apart(name: str) -> None:
    """Which half of the picture is bright."""
    spec = (
        load(name, classes=2, pixel=PIXEL, length=LENGTH, model=MODEL, layers=1, hidden=16)
        if name == "vit"
        else load(name, classes=2, pixel=PIXEL, length=LENGTH, model=MODEL, layers=1, state=4)
    )
    model = ssir.compile(spec, seed=0)
    generator = torch.Generator().manual_seed(0)
    images = 0.3 * torch.randn(32, COLOURS, SIDE, SIDE, generator=generator)
    labels = torch.arange(32) % 2
    images[labels == 0, :, : SIDE // 2] += 1
    images[labels == 1, :, SIDE // 2 :] += 1
    given = _patches(images, 0 if name == "vit" else LENGTH // 2)
    optimizer = torch.optim.AdamW(ssir.parameter_groups(model, 1e-2, 0.0))
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(model(given)[0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < 0.5 < losses[0]
    assert model(given)[0].argmax(-1).tolist() == labels.tolist()
