"""Attention against its equation."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssir.plugins.attention.kernels.attention import attend_whole, attention, attention_step, plain
from tests.compilers.runtime.checks import check, close

SIZES = [
    (2, 63, 2, 1, 16, 16),
    (1, 64, 1, 3, 32, 48),
    (2, 200, 2, 2, 64, 64),
    (1, 1, 2, 1, 16, 16),
    (1, 130, 1, 4, 112, 80),
]
ODD = [(2, 9, 1, 2, 6, 5)]  # widths that native code does not take


def _given(batch: int, time: int, heads: int, group: int, width: int, wide: int) -> dict[str, Tensor]:
    return {
        "q": torch.randn(batch, time, heads, group, width),
        "k": torch.randn(batch, time, heads, width),
        "v": torch.randn(batch, time, heads, wide),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES + ODD)
def test_attention_agrees_with_its_equation(way: str, dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    def ours(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (attention(q, k, v, 0.3),)

    def naive(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (plain(q, k, v, 0.3),)

    check(ours, naive, _given(*sizes), dtype)


@pytest.mark.parametrize("sizes", SIZES + ODD)
def test_a_step_is_the_last_row_of_a_sequence(way: str, sizes: tuple[int, ...]) -> None:
    q, k, v = _given(*sizes).values()
    close("y", attention_step(q[:, -1], k, v, 0.3), plain(q, k, v, 0.3)[:, -1], 1e-5)


def test_parts_of_one_projection_are_taken_as_they_lie(way: str) -> None:
    def parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = x.split((128, 32, 64), -1)
        return q.unflatten(-1, (2, 4, 16)), k.unflatten(-1, (2, 16)), v.unflatten(-1, (2, 32))

    def ours(x: Tensor) -> tuple[Tensor]:
        return (attention(*parts(x), 0.3),)

    def naive(x: Tensor) -> tuple[Tensor]:
        return (plain(*parts(x), 0.3),)

    check(ours, naive, {"x": torch.randn(2, 70, 224)}, torch.float32)
    q, k, v = parts(torch.randn(2, 70, 224))
    close("y", attention_step(q[:, -1], k, v, 0.3), plain(q, k, v, 0.3)[:, -1], 1e-5)


def test_large_scores_do_not_overflow(way: str) -> None:
    given = {name: 100 * value for name, value in _given(1, 70, 1, 1, 16, 16).items()}

    def ours(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (attention(q, k, v, 1.0),)

    def naive(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (plain(q, k, v, 1.0),)

    check(ours, naive, given, torch.float64, tolerance=1e-6)
    q, k, v = given.values()
    assert attention(q, k, v, 1.0).isfinite().all()


def _runs(kind: str, batch: int, time: int, entries: int) -> tuple[Tensor | None, Tensor | None, int | None]:
    own = torch.arange(entries - time, entries).expand(batch, -1)
    if kind == "window":
        return (own - 36).clamp(min=0), None, 37
    if kind == "cache":
        return torch.arange(batch)[:, None].expand(batch, time) * 3, None, None
    if kind == "documents":
        start = torch.where(torch.rand(batch, time) < 0.05, own, 0).cummax(1).values
        return start, None, None
    return torch.randint(0, entries, (batch, time)), torch.randint(0, entries, (batch, time)), None


@pytest.mark.parametrize("kind", ["window", "cache", "documents", "anywhere"])
@pytest.mark.parametrize("sizes", [(2, 130, 0, 2, 2, 16, 32), (1, 70, 133, 1, 3, 32, 16), (2, 1, 99, 2, 1, 6, 5)])
def test_a_query_sees_the_run_of_entries_that_it_is_told(way: str, kind: str, sizes: tuple[int, ...]) -> None:
    batch, time, before, heads, group, width, wide = sizes
    first, last, size = _runs(kind, batch, time, time + before)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (attention(q, k, v, 0.3, first, last, size),)

    def naive(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (plain(q, k, v, 0.3, first, last),)

    given = _given(batch, time + before, heads, group, width, wide)
    check(ours, naive, given | {"q": given["q"][:, before:]}, torch.float32)


def test_who_sees_nothing_gets_zero(way: str) -> None:
    q, k, v = (x.requires_grad_() for x in _given(1, 70, 1, 1, 16, 16).values())
    first = torch.where(torch.arange(70) % 7 == 0, 70, 0)[None]
    y = attention(q, k, v, 0.3, first)
    assert not y[:, ::7].any() and y[:, 1].all()
    grads = torch.autograd.grad(y.sum(), (q, k, v))
    assert all(grad.isfinite().all() for grad in grads) and not grads[0][:, ::7].any()


def _poisoned(poison: float, cut: int, sees: Tensor, ups: bool) -> list[Tensor]:
    """The results and gradients before a cut, with everything behind it replaced."""
    torch.manual_seed(3)
    q, k, v = _given(1, 150, 2, 2, 16, 32).values()
    for x in (q, k, v):
        x[:, cut:] += poison
        x.requires_grad_()
    y = attention(q, k, v, 0.3, sees)
    up = torch.randn(y.shape)
    up[:, cut:] = poison if ups else 0
    return [x[:, :cut].detach() for x in (y, *torch.autograd.grad(y, (q, k, v), up))]


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("cut", [64, 90])
def test_another_document_changes_nothing_be_it_nan(way: str, poison: float, cut: int) -> None:
    document = torch.where(torch.arange(150) < cut, 0, cut)[None]
    for got, want in zip(_poisoned(poison, cut, document, True), _poisoned(0, cut, document, True), strict=True):
        close("before the cut", got, want, 1e-5)
    y, *_ = _poisoned(poison, cut, torch.zeros(1, 150, dtype=torch.long), False)
    close("causal", y, _poisoned(0, cut, document, False)[0], 1e-5)


def test_nan_that_is_seen_is_not_hidden(way: str) -> None:
    q, k, v = _given(1, 150, 2, 1, 16, 16).values()
    v[0, 70, 1, 3] = k[0, 20, 0, 5] = torch.nan
    first = (torch.arange(150) - 39).clamp(min=0)[None]
    y = attention(q, k, v, 0.3, first, None, 40)
    sees = torch.zeros(150, 2, dtype=torch.bool)
    sees[70:110, 1] = sees[20:60, 0] = True
    assert torch.equal(y.isnan().any(-1)[0, ..., 0], sees)


@pytest.mark.parametrize("width", [16, 6])
def test_a_step_does_not_look_at_closed_entries(way: str, width: int) -> None:
    q, k, v = _given(2, 50, 2, 2, width, width).values()
    first = torch.tensor([0, 33])
    want = plain(q[:, -1:], k, v, 0.3, first[:, None])[:, 0]
    k[1, :33] = v[1, :33] = torch.nan
    close("y", attention_step(q[:, -1], k, v, 0.3, first), want, 1e-5)
    q.requires_grad_()
    close("recorded", attention_step(q[:, -1], k, v, 0.3, first), want, 1e-5)


def test_memory_is_linear(way: str) -> None:
    """No tensor is anywhere near as large as queries times entries."""
    largest = 0

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            found = func(*args, **(kwargs or {}))
            for x in found if isinstance(found, (tuple, list)) else [found]:
                largest = max(largest, x.numel() if isinstance(x, Tensor) else 0)
            return found

    time, window = 2048, 64
    q, k, v = (x.requires_grad_() for x in _given(1, time, 1, 1, 16, 16).values())
    first = (torch.arange(time) - window + 1).clamp(min=0)[None]
    table = torch.randn(1, 1, window, requires_grad=True)
    with Sizes():  # type: ignore[no-untyped-call]
        attention(q, k, v, 0.3, first, None, window).sum().backward()
        attention(q, k, v, 0.3, first, None, window, table).sum().backward()
    assert q.grad is not None and largest < time * time // 8


@pytest.mark.parametrize("sizes", [(0, 5, 5), (2, 0, 0), (2, 0, 7)])
def test_nothing_in_gives_nothing_out(way: str, sizes: tuple[int, int, int]) -> None:
    batch, time, entries = sizes
    q, k, v = (
        torch.randn(batch, *shape, requires_grad=True)
        for shape in ((time, 2, 2, 16), (entries, 2, 16), (entries, 2, 16))
    )
    y = attention(q, k, v, 0.3, torch.zeros(batch, time, dtype=torch.long))
    assert y.shape == (batch, time, 2, 2, 16)
    assert all(not grad.any() for grad in torch.autograd.grad(y.sum(), (q, k, v)))
    if time == entries:
        assert attention(q, k, v, 0.3).shape == y.shape


@pytest.mark.parametrize("kind", ["causal", "documents"])
def test_gradients_of_gradients_of_every_way(way: str, kind: str) -> None:
    first = None if kind == "causal" else torch.tensor([[0, 1, 1]])
    q, k, v = (x.double().requires_grad_() for x in _given(1, 3, 1, 2, 4, 4).values())
    table = torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda q, k, v: attention(q, k, v, 0.3, first), (q, k, v))
    biased = (q, k, v, table)
    assert torch.autograd.gradgradcheck(lambda q, k, v, table: attention(q, k, v, 0.3, first, table=table), biased)


def test_autocast_and_halves_end_in_the_types_that_they_began_with(way: str) -> None:
    q, k, v = _halves(torch.float32)
    wanted = plain(q, k, v, 0.3)
    q, k, v = (x.requires_grad_() for x in _halves(torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        y = attention(q, k.float(), v, 0.3)
        assert y.dtype == torch.float32
        y.sum().backward()
    assert all(x.grad is not None and x.grad.dtype == torch.bfloat16 for x in (q, k, v))
    close("y", y.detach(), wanted, 1e-5)
    q, k, v = _halves(torch.bfloat16)
    y = attention(q, k, v, 0.3)
    assert y.dtype == torch.bfloat16
    close("y", y.float(), wanted, 1e-2)


def _halves(dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(5)
    return [x.to(torch.bfloat16).to(dtype) for x in _given(1, 70, 1, 2, 16, 16).values()]


@pytest.mark.parametrize("biased", [False, True])
def test_a_whole_sequence_is_read_by_documents(way: str, biased: bool) -> None:
    batch, time = 2, 150
    first = torch.where(torch.arange(time) < 80, 0, 80).expand(batch, -1)
    last = torch.where(torch.arange(time) < 80, 79, time - 1).expand(batch, -1)
    keep = torch.rand(batch, 1, 1, 1, time) < 0.8 if biased else None

    def ours(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor]:
        more = bias if biased else None
        return (attend_whole(q, k[:, None], v[:, None], 0.3, more, keep, (first, last)),)

    def naive(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor]:
        return (plain(q, k, v, 0.3, first, last, None, bias if biased else None, keep),)

    given = _given(batch, time, 2, 2, 16, 16)
    check(ours, naive, given | {"bias": torch.randn(1, time, 2, 1, time)}, torch.float32)
    q, k, v = given.values()
    v[:, 80:] = k[:, 80:] = torch.nan
    assert ours(q, k, v, torch.randn(1, time, 2, 1, time))[0][:, :80].isfinite().all()


TABLES = [(2, 130, 0, 2, 2, 16, 32), (1, 70, 133, 1, 3, 32, 16), (2, 1, 99, 2, 1, 6, 5), (3, 63, 1, 2, 1, 16, 16)]


@pytest.mark.parametrize("kind", ["all before", "window", "documents", "anywhere"])
@pytest.mark.parametrize("sizes", TABLES)
@pytest.mark.parametrize("shared", [(False, False), (True, False), (True, True)])
def test_a_bias_by_distance(way: str, kind: str, sizes: tuple[int, ...], shared: tuple[bool, bool]) -> None:
    batch, time, before, heads, group, width, wide = sizes
    entries = time + before
    first, last, size = (None, None, None) if kind == "all before" else _runs(kind, batch, time, entries)
    by_head, by_group = (1 if one else n for one, n in zip(shared, (heads, group), strict=True))
    given = _given(batch, entries, heads, group, width, wide)
    given |= {"q": given["q"][:, before:], "table": torch.randn(by_head, by_group, size or entries)}

    def ours(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> tuple[Tensor]:
        return (attention(q, k, v, 0.3, first, last, size, table),)

    def naive(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> tuple[Tensor]:
        return (plain(q, k, v, 0.3, first, last, table),)

    check(ours, naive, given, torch.float64)
    if kind == "all before":
        q, k, v, table = given.values()
        step = attention_step(q[:, -1], k, v, 0.3, table=table)
        close("a step", step, plain(q, k, v, 0.3, table=table)[:, -1], 1e-5)


def test_a_slope_loses_no_digits_far_away(way: str) -> None:
    """As a bias for each key it would: there positions are counted from the start."""
    entries = 6000
    q, k, v = (x.float() for x in _given(1, entries, 1, 1, 16, 16).values())
    table = -0.3 * torch.arange(entries)[None, None]
    last = [x[:, -300:].double() for x in (q[:, -1:], k, v)]
    near = plain(last[0], last[1], last[2], 0.3, table=table[..., :300].double())
    close("y", attention(q[:, -1:], k, v, 0.3, table=table), near.float(), 1e-6)


def test_a_table_that_is_too_short_is_refused(way: str) -> None:
    q, k, v = _given(1, 20, 1, 1, 16, 16).values()
    with pytest.raises(ValueError, match="a table of 19 distances, for 20"):
        attention(q, k, v, 0.3, table=torch.zeros(1, 1, 19))


@pytest.mark.parametrize("sizes", TABLES)
@pytest.mark.parametrize("far", [False, True])
def test_minus_infinity_in_a_table_hides(way: str, sizes: tuple[int, ...], far: bool) -> None:
    """Every third distance; or all but the nearest, so that the first blocks that are visited hold nothing."""
    batch, time, before, heads, group, width, wide = sizes
    entries = time + before
    given = _given(batch, entries, heads, group, width, wide)
    given["q"] = given["q"][:, before:]
    distance = torch.arange(entries)
    table = torch.where(distance > 5 if far else distance % 3 == 1, -torch.inf, 0.1 * distance)[None, None]

    def ours(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (attention(q, k, v, 0.3, table=table.to(q.dtype)),)

    def naive(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (plain(q, k, v, 0.3, table=table.to(q.dtype)),)

    check(ours, naive, given, torch.float64)
    q, k, v = given.values()
    wanted = plain(q[:, -1:], k, v, 0.3, table=table)
    shown = (distance <= 5 if far else distance % 3 != 1).flip(0)
    k[:, ~shown] = v[:, ~shown] = torch.nan
    close("what is hidden is not read", attention(q[:, -1:], k, v, 0.3, table=table), wanted, 1e-5)
    close("nor in a step", attention_step(q[:, -1], k, v, 0.3, table=table), wanted[:, 0], 1e-5)
    q, k, v = (x[:, -1:].requires_grad_() if x is q else x.requires_grad_() for x in (q, k, v))
    grads = torch.autograd.grad(attention(q, k, v, 0.3, table=table).sum(), (q, k, v))
    assert all(grad.isfinite().all() for grad in grads)
