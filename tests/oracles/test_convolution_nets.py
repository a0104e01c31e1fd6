"""Nets of filters, and of nothing but feed-through, against transcriptions that compute them as their papers do."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssir.spec.load import load
from tests.oracles import compare

CHANNEL, CLASS, FILTER, NARROW, TAPS, POOL = 2, 5, 3, 4, (6, 4, 3), 2
WIDTH = 4 * FILTER


class _Affine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(WIDTH, 1)), nn.Parameter(torch.zeros(WIDTH, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.bias


class _Module(nn.Module):
    """[batch, channel, time]: convolutions of three lengths and a pooling, side by side."""

    def __init__(self, channel: int, narrow: int | None) -> None:
        super().__init__()
        self.low = nn.Conv1d(channel, narrow, 1, bias=False) if narrow else nn.Identity()
        self.filters = nn.ModuleList(nn.Conv1d(narrow or channel, FILTER, taps, bias=False) for taps in TAPS)
        self.largest = nn.Conv1d(channel, FILTER, 1, bias=False)
        self.affine = _Affine()

    def forward(self, x: Tensor) -> Tensor:
        low = self.low(x)
        parts = [one(F.pad(low, (taps - 1, 0))) for one, taps in zip(self.filters, TAPS, strict=True)]
        pooled = F.max_pool1d(F.pad(x, (POOL - 1, 0), value=-torch.inf), POOL, 1)
        return torch.relu(self.affine(torch.cat([*parts, self.largest(pooled)], 1)))


class _Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList(
            nn.Sequential(*(_Module(WIDTH if i or j else CHANNEL, NARROW if i or j else None) for j in range(3)))
            for i in range(2)
        )
        self.past = nn.ModuleList(nn.Conv1d(WIDTH if i else CHANNEL, WIDTH, 1, bias=False) for i in range(2))
        self.affine = nn.ModuleList(_Affine() for _ in range(2))
        self.logits = nn.Linear(WIDTH, CLASS)

    def forward(self, series: Tensor) -> Tensor:
        x = series.mT
        for inner, past, affine in zip(self.inner, self.past, self.affine, strict=True):
            x = torch.relu(inner(x) + affine(past(x)))
        mean = x.cumsum(-1) / torch.arange(1, x.shape[-1] + 1)
        return self.logits(mean.mT)  # type: ignore[no-any-return]


def _newest_first(name: str) -> compare.Part:
    """[out, in, tap], the newest input last, as [out, tap, in]."""
    return compare.Part(name, lambda x: x.flip(2).mT)


def _module(ours: str, theirs: str) -> dict[str, compare.Part]:
    return {
        f"{ours}.largest.linear.weight": compare.Part(f"{theirs}.largest.weight"),
        **{f"{ours}.y.{'abc'[i]}.linear.weight": _newest_first(f"{theirs}.filters.{i}.weight") for i in range(3)},
        **{f"{ours}.y.y.{one}": compare.Part(f"{theirs}.affine.{one}") for one in ("scale", "bias")},
        **({} if ours == "inner.input" else {f"{ours}.low.weight": compare.Part(f"{theirs}.low.weight")}),
    }


@pytest.mark.parametrize("via", compare.VIA)
def test_inception_is_convolutions_side_by_side(via: str) -> None:
    theirs = compare.built(_Inception)
    mapping = {
        **_module("inner.input", "inner.0.0"),
        **_module("inner.0", "inner.0.1"),
        **_module("inner.1", "inner.0.2"),
        **{key: part for i in range(3) for key, part in _module(f"y.0.inner.{i}", f"inner.1.{i}").items()},
        **{
            f"{ours}{leaf}": compare.Part(theirs)
            for i, ours in enumerate(("", "y.0."))
            for leaf, theirs in (
                ("past.weight", f"past.{i}.weight"),
                ("y.input.scale" if not ours else "y.scale", f"affine.{i}.scale"),
                ("y.input.bias" if not ours else "y.bias", f"affine.{i}.bias"),
            )
        },
        "logits.weight": compare.Part("logits.weight"),
        "logits.bias": compare.Part("logits.bias"),
    }
    dims = {"channel": CHANNEL, "class": CLASS, "filter": FILTER, "narrow": NARROW, "pool": POOL}
    spec = load("inception", None, **dims, **dict(zip(("long", "middle", "short"), TAPS, strict=True)))
    ours = compare.Model(spec, via)
    x = torch.randn(2, 15, CHANNEL, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    compare.same(ours, theirs, dict(theirs.named_parameters()), mapping, x)
    compare.stepwise(ours, x, 8)


VOCAB, MODEL, JOINED, DEPTH, LEVELS = 11, 6, 5, 2, 4


class _Norm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, 1e-6)


class _Filtered(nn.Module):
    """A block of a level, at the level's own rate: [batch, time of the level, model]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.near, self.out = _Norm(MODEL), nn.Conv1d(MODEL, MODEL, 3), nn.Linear(MODEL, MODEL)

    def forward(self, x: Tensor) -> Tensor:
        near = self.near(F.pad(self.norm(x).mT, (2, 0))).mT
        return x + self.out(torch.relu(near))  # type: ignore[no-any-return]


class _Pyramid(nn.Module):
    """Every level really has half as many steps as the one below, and is repeated to be joined."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, MODEL)
        self.levels = nn.ModuleList(nn.Sequential(*(_Filtered() for _ in range(DEPTH))) for _ in range(LEVELS))
        self.joined = nn.ModuleList(nn.Linear(MODEL, JOINED) for _ in range(LEVELS))
        self.smooth = nn.Conv1d(JOINED, JOINED, 3)
        self.norm, self.logits = _Norm(JOINED), nn.Linear(JOINED, VOCAB, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x, total = self.embedding(tokens), torch.zeros(())
        for i, (level, join) in enumerate(zip(self.levels, self.joined, strict=True)):
            if i:
                before = F.pad(x, (0, 0, 1, 0))
                x = (0.5 * (before[:, 1:] + before[:, :-1]))[:, ::2]
            x = level(x)
            total = total + join(x).repeat_interleave(2**i, 1)[:, : tokens.shape[1]]
        smooth = self.smooth(F.pad(total.mT, (2, 0))).mT
        return self.logits(self.norm(smooth))  # type: ignore[no-any-return]


@pytest.mark.parametrize("via", compare.VIA)
def test_each_level_of_a_pyramid_runs_at_half_the_rate(via: str) -> None:
    theirs = compare.built(_Pyramid)
    mapping = {
        "e.weight": compare.Part("embedding.weight"),
        "logits.rms_norm.weight": compare.Part("norm.weight"),
        "logits.linear.weight": compare.Part("logits.weight"),
        "smooth.linear.weight": compare.Part("smooth.weight", lambda x: x.flip(2)),
        "smooth.linear.bias": compare.Part("smooth.bias"),
    }
    for i in range(LEVELS):
        join = f"p{i + 1}"
        mapping |= {f"{join}.{leaf}": compare.Part(f"joined.{i}.{leaf}") for leaf in ("weight", "bias")}
        for j in range(DEPTH):
            at, there = f"c{i + 1}{'.level' if i else ''}.y.{j}", f"levels.{i}.{j}"
            mapping |= {
                f"{at}.n.weight": compare.Part(f"{there}.norm.weight"),
                f"{at}.y.linear_2.weight": compare.Part(f"{there}.near.weight", lambda x: x.flip(2)),
                f"{at}.y.linear_2.bias": compare.Part(f"{there}.near.bias"),
                f"{at}.y.linear.weight": compare.Part(f"{there}.out.weight"),
                f"{at}.y.linear.bias": compare.Part(f"{there}.out.bias"),
            }
    ours = compare.Model(load("pyramid", vocab=VOCAB, model=MODEL, width=JOINED, depth=DEPTH), via)
    x = compare.tokens(VOCAB, time=29)
    compare.same(ours, theirs, dict(theirs.named_parameters()), mapping, x)
    compare.stepwise(ours, x, 11)


DENSE, FEATURE, EMBEDDED, HEAD, HIDDEN, LAYERS = 3, 4, 6, 2, 7, 2
FIELD = FEATURE + 1


class _Interactions(nn.Module):
    """[row, field, embedded]: four kinds of interaction, summed."""

    def __init__(self) -> None:
        super().__init__()
        self.compression = nn.Linear(FIELD, FIELD, bias=False)
        self.pairs, self.products = nn.Linear(FIELD**2, HIDDEN), nn.Linear(HIDDEN, FIELD * EMBEDDED)
        self.cross = nn.Linear(FIELD * EMBEDDED, FIELD * EMBEDDED)
        self.attention = nn.TransformerEncoderLayer(EMBEDDED, HEAD, HIDDEN, 0.0, batch_first=True)
        self.norm = nn.LayerNorm(EMBEDDED)

    def forward(self, x: Tensor) -> Tensor:
        products = self.products(torch.relu(self.pairs((x @ x.mT).flatten(1)))).view_as(x)
        cross = x * self.cross(x.flatten(1)).view_as(x)
        y: Tensor = self.norm(x + self.compression(x.mT).mT + products + cross + self.attention(x))
        return y


class _Dhen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB, EMBEDDED)
        self.numbers = nn.Sequential(nn.Linear(DENSE, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, EMBEDDED))
        self.layers = nn.Sequential(*(_Interactions() for _ in range(LAYERS)))
        self.logit = nn.Sequential(nn.Linear(FIELD * EMBEDDED, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))

    def forward(self, numbers: Tensor, ids: Tensor) -> Tensor:
        x = torch.cat([self.table(ids), self.numbers(numbers).unsqueeze(-2)], -2)
        y = self.layers(x.flatten(0, 1)).flatten(1)
        return self.logit(y).view(*ids.shape[:2], 1)  # type: ignore[no-any-return]


def _field_last(*front: int) -> compare.View:
    """The inputs of a map, [field, embedded], the other way round."""
    return lambda x: x.reshape(*front, FIELD, EMBEDDED).mT


def _third(name: str, which: int) -> compare.Part:
    return compare.Part(name, lambda x: x.chunk(3)[which])


@pytest.mark.parametrize("via", compare.VIA)
def test_dhen_sums_its_interactions(via: str) -> None:
    theirs = compare.built(_Dhen)
    mapping = {
        "of_ids.weight": compare.Part("table.weight"),
        "logit.linear_2.weight": compare.Part("logit.0.weight", _field_last(HIDDEN)),
        "logit.linear_2.bias": compare.Part("logit.0.bias"),
        "logit.linear.weight": compare.Part("logit.2.weight"),
        "logit.linear.bias": compare.Part("logit.2.bias"),
    }
    for ours_at, theirs_at in (("of_numbers.linear_2", "numbers.0"), ("of_numbers.linear", "numbers.2")):
        mapping |= {f"{ours_at}.{leaf}": compare.Part(f"{theirs_at}.{leaf}") for leaf in ("weight", "bias")}
    for i in range(LAYERS):
        at, there = f"x.{i}", f"layers.{i}"
        mapping[f"{at}.y.compression.y.weight"] = compare.Part(f"{there}.compression.weight")
        for leaf in ("weight", "bias"):
            mapping |= {
                f"{at}.y.products.y.linear_2.{leaf}": compare.Part(f"{there}.pairs.{leaf}"),
                f"{at}.y.products.y.linear.{leaf}": compare.Part(f"{there}.products.{leaf}"),
                f"{at}.y.layer_norm.{leaf}": compare.Part(f"{there}.norm.{leaf}"),
                **{
                    f"{at}.y.attention.{one}.{leaf}": _third(f"{there}.attention.self_attn.in_proj_{leaf}", j)
                    for j, one in enumerate(("q", "k", "v"))
                },
                f"{at}.y.attention.mixed.linear.{leaf}": compare.Part(f"{there}.attention.self_attn.out_proj.{leaf}"),
                f"{at}.y.attention.mixed.layer_norm.{leaf}": compare.Part(f"{there}.attention.norm1.{leaf}"),
                f"{at}.y.attention.up.{leaf}": compare.Part(f"{there}.attention.linear1.{leaf}"),
                f"{at}.y.attention.y.linear.{leaf}": compare.Part(f"{there}.attention.linear2.{leaf}"),
                f"{at}.y.attention.y.layer_norm.{leaf}": compare.Part(f"{there}.attention.norm2.{leaf}"),
            }
        mapping[f"{at}.y.cross.y.weight"] = compare.Part(f"{there}.cross.weight", _field_last(FIELD, EMBEDDED))
        mapping[f"{at}.y.cross.y.bias"] = compare.Part(f"{there}.cross.bias")
    dims: dict[str, float] = {
        "dense": DENSE,
        "feature": FEATURE,
        "width": EMBEDDED,
        "head": HEAD,
        "hidden": HIDDEN,
        "layers": LAYERS,
    }
    ours = compare.Model(load("dhen", None, vocab=VOCAB, **dims), via)
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(2, 9, DENSE, dtype=torch.float64, generator=generator)
    ids = torch.randint(VOCAB, (2, 9, FEATURE), generator=generator)
    compare.same(ours, theirs, dict(theirs.named_parameters()), mapping, numbers, ids)
    with torch.no_grad():
        whole, _ = ours(numbers, ids)
        one, state = ours(numbers[:, 4:5], ids[:, 4:5])
    compare.close(one, whole[:, 4:5], "one step alone")
    assert set(state) <= {"position"}
