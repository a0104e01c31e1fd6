"""Compiled loops: the same as the steps by the reference's operations, forwards and backwards, as native code and as the twin."""

import pytest
import torch
from torch import Tensor

import ssir
from ssir.compilers.loops.region import Region
from ssir.compilers.runtime import native
from ssir.compilers.runtime.loops import Loop
from ssir.ir.ops.elementwise import OPS

from ..runtime.checks import check, resets
from ..runtime.conftest import poison  # noqa: F401 - a fixture
from .made import GRU, LSTM, drawn, function, made, steps

Made = tuple[Region, Loop]


def dims(**sizes: int) -> str:
    return "{" + ", ".join(f"{name}: {size}" for name, size in sizes.items()) + "}"


def agree(
    region: Region, loop: Loop, batch: int, time: int, packed: bool, dtype: torch.dtype, clear: bool = False
) -> None:
    """All results, and the gradients of memories, columns and constants, and of what memories are after a reset."""
    reset = resets(batch, time) if packed else None
    values = drawn(region, batch, time)
    olds = [memory.old for memory in region.memories]
    if clear:
        values |= {f"{old}.clear": torch.randn_like(values[old][0]) for old in olds}

    def ends(given: dict[str, Tensor]) -> list[Tensor | None]:
        return [given.get(f"{old}.clear") for old in olds]

    def ours(**given: Tensor) -> tuple[Tensor, ...]:
        starts = [given[old] for old in olds]
        return loop(
            reset, starts, ends(given), [given[n] for n in region.columns], [given[n] for n in region.constants]
        )

    def theirs(**given: Tensor) -> tuple[Tensor, ...]:
        starts = [given[old] for old in olds]
        fills = [torch.full_like(old[0], memory.fill) for old, memory in zip(starts, region.memories, strict=True)]
        clears = [fill if own is None else own for fill, own in zip(fills, ends(given), strict=True)]
        return tuple(steps(region, given, starts, clears, reset))

    check(ours, theirs, values, dtype, 3e-5 if dtype == torch.float32 else None)


CELLS = {
    "lstm": (LSTM, "{xi: [n], xf: [n], xg: [n], xo: [n]}"),
    "gru": (GRU, "{xr: [n], xz: [n], xg: [n]}"),
    "elman": ("y: tanh(x + linear(delay(y), n, init=normal(1)))", "{x: [n]}"),
    "complex numbers": (
        "s: {state: [n], A: 'polar(sigmoid(delay(y)), x)', input: 'complex(x, linear(delay(y), n, init=normal(1)))'}\ny: tanh(real(s)) + imag(s)",
        "{x: [n]}",
    ),
    "by heads": (
        "m: delay(h)\nf: sigmoid(x + linear(m, n, per=head, over=n, init=normal(1)))\nh: {state: [head, n], A: f, B: 1 - f, input: 'tanh(x + linear(m, n, per=head, over=n, init=normal(1)))'}\ny: h * 1",
        "{x: [head, n]}",
    ),
    "elementwise": (
        "m: delay(h)\nf: sigmoid(x + param([n], init=normal(1)) * m)\nh: {state: [n], A: f, B: 1 - f, input: z}\ny: h * 2",
        "{x: [n], z: [n]}",
    ),
    "normed": (
        "m: delay(h)\nc: {state: [n], A: 'sigmoid(x + linear(m, n, init=normal(1)))', B: 0.5, input: z}\nh: tanh(layer_norm(c, over=n)) + rms_norm(c, over=n) + l2_norm(c, over=n)\ny: h * 1",
        "{x: [n], z: [n]}",
    ),
    "projected": (
        "m: delay(h)\nc: {state: [n], A: 'sigmoid(x + linear(m, n, init=normal(1)))', B: 0.5, input: z}\nh: linear(tanh(c), p, init=normal(1))\ny: h * 1",
        "{x: [n], z: [n]}",
    ),
    "a product of what a product gives": (
        "m: delay(h)\nr: sigmoid(x + linear(m, n, init=normal(1)))\nh: tanh(z + linear(r * m, n, init=normal(1)))\ny: h * 1",
        "{x: [n], z: [n]}",
    ),
    "a matrix that is read": (
        "W: {state: [p, n], A: 0.9, B: 'tanh(x + delay(y))', input: k}\ny: tanh(dot(W, k, over=p))",
        "{x: [n], k: [p]}",
    ),
    "a stabiliser": (
        "h: delay(y)\nm: {state: [n], A: 'logsigmoid(x)', input: 'z + linear(h, n, init=normal(1))', algebra: max_plus}\nlast: delay(m, initial=-5)\ny: exp(last - m) * h + tanh(z)",
        "{x: [n], z: [n]}",
    ),
    "weights over entries": (
        "m: delay(h)\ns: softmax(x + linear(m, n, init=normal(1)), over=n)\nh: tanh(z + s * max(m, over=n) + min(m * s, over=n) + mean(m, over=n) + sum(s * m, over=n))\ny: h * 1",
        "{x: [n], z: [n]}",
    ),
    "cut and joined": (
        "m: delay(h)\na: split(m, [q, w])\nb: merge(a * tanh(split(x, [q, w])), [w, q], n)\nc: concat([slice(b, n, 0, 2, out=first), slice(m, n, 2, n, out=rest)], n)\nh: tanh(c + z + select(m, n, 0) + sum(pack([m, b], two), over=two))\ny: h * 1",
        "{x: [n], z: [n]}",
    ),
    "turned": (
        "y: {state: [q, w], A: '0.9 * rotate(angle, over=w)', B: 'tanh(delay(y))', input: x}\nangle: mean(delay(y), over=[q, w]) * param([half], init=normal(1))",
        "{x: [q, w]}",
    ),
    "a matrix as operator": (
        "m: delay(tanh(linear(y, n, init=normal(1))))\ny: {state: [n], A: 'dense(param([n, n_], init=normal(0.2)), over=n) - outer(m, m * param([n], init=normal(0.1)), over=n)', B: 'sigmoid(m)', input: x, C: 'tanh(z)', D: 0.5}",
        "{x: [n], z: [n]}",
    ),
    "a projection to a number": (
        "m: delay(y)\ny: tanh(x * linear(m, [], init=normal(1)) + z)",
        "{x: [n], z: [n]}",
    ),
    "a projection of each of a set": (
        "m: delay(y)\ny: tanh(x + linear(m, [w], over=w, init=normal(1)))",
        "{x: [q, w]}",
    ),
    "a matrix between pairs of axes": (
        "m: delay(h)\nh: tanh(x + linear(m, [q, w], init=normal(1)) + linear(m, [w, q], init=normal(1), bias=true))\ny: h * 1",
        "{x: [q, w]}",
    ),
    "a matrix that comes second": (
        "m: delay(h)\nh: tanh(x + dot(rename(m, n=n_), param([n_, n], init=normal(1)), over=n_))\ny: h * 1",
        "{x: [n]}",
    ),
    "read before": (
        "y: {state: [n], A: 'sigmoid(x + linear(y, n, init=normal(1)))', B: 1, input: 'tanh(z + y)', read: before}",
        "{x: [n], z: [n]}",
    ),
}
SMALL = {"n": 6, "p": 5, "head": 3, "q": 3, "w": 2, "half": 1, "first": 2, "rest": 4, "two": 2}


def cell(name: str, **sizes: int) -> Made:
    text, inputs = CELLS[name]
    return made(text, inputs, dims(**{**SMALL, **sizes}))


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("batch", "time", "packed"), [(1, 1, False), (3, 7, True), (9, 5, False), (2, 18, True)])
def test_a_loop_agrees_with_its_steps(way: str, name: str, batch: int, time: int, packed: bool) -> None:
    agree(*cell(name), batch, time, packed, torch.float64)


@pytest.mark.parametrize("name", CELLS)
def test_a_loop_starts_anew_from_what_is_said(way: str, name: str) -> None:
    agree(*cell(name), 3, 9, True, torch.float64, clear=True)


@pytest.mark.parametrize("name", CELLS)
def test_a_loop_in_single_precision(way: str, name: str) -> None:
    agree(*cell(name), 2, 20, True, torch.float32)


WIDE: list[tuple[str, dict[str, int]]] = [
    ("lstm", {"n": 130}),
    ("gru", {"n": 67}),
    ("by heads", {"n": 40, "head": 17}),
    ("by heads", {"n": 130, "head": 2}),
    ("elementwise", {"n": 600}),
    ("normed", {"n": 96}),
    ("projected", {"n": 100, "p": 70}),
    ("projected", {"n": 300, "p": 20}),
    ("projected", {"n": 20, "p": 600}),
    ("a product of what a product gives", {"n": 129}),
    ("weights over entries", {"n": 150}),
    ("a matrix between pairs of axes", {"q": 20, "w": 16}),
    ("a matrix between pairs of axes", {"q": 18, "w": 20}),
    ("a matrix that is read", {"n": 50, "p": 40}),
    ("a stabiliser", {"n": 150}),
    ("cut and joined", {"n": 600, "q": 200, "w": 3, "rest": 598}),
    ("turned", {"q": 300, "w": 4, "half": 2}),
]


@pytest.mark.parametrize(("name", "sizes"), WIDE, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 3, 11])
def test_threads_share_what_is_wide(name: str, sizes: dict[str, int], threads: int, batch: int) -> None:
    if not native.available():
        pytest.skip(native.reason())
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        agree(*cell(name, **sizes), batch, 12, True, torch.float64)
    finally:
        torch.set_num_threads(before)


COMPLEX = {"complex", "polar", "real", "imag", "conj"}
POSITIVE = {"log", "log1p", "sqrt", "rsqrt", "reciprocal", "pow", "div", "mod"}


@pytest.mark.parametrize("name", sorted({op.name for op in OPS} - COMPLEX))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_elementwise_operation_has_a_spelling_and_a_gradient(way: str, name: str, dtype: torch.dtype) -> None:
    agree(*function(name, name in POSITIVE), 2, 6, False, dtype)


TWO = [
    "a + b",
    "a - b",
    "a * b",
    "a / (2 + b)",
    "(a * a + 1) ** b",
    "a % 0.7",
    "maximum(a, b)",
    "minimum(a, b)",
    "clamp(a, -0.5, 0.4)",
]
TWO += ["where(a < b, a, 2 * b)", "where(a >= 0.1, a * b, a - b)", "maximum(a, a)", "gelu_tanh(a) * b"]


@pytest.mark.parametrize("text", TWO)
def test_functions_of_several_operands(way: str, text: str) -> None:
    region, loop = made(
        f"a: x + 0.1 * delay(y)\nb: tanh(z + 0.1 * delay(y))\ny: tanh({text})", "{x: [n], z: [n]}", dims(n=5)
    )
    agree(region, loop, 2, 6, False, torch.float64)


def test_the_length_of_nothing_has_a_slope(way: str) -> None:
    region, loop = made("m: delay(y)\ny: l2_norm(m, over=n) * z + x", "{x: [n], z: [n]}", dims(n=5))
    values = {name: torch.zeros_like(x) if name.endswith(".old") else x for name, x in drawn(region, 2, 4).items()}
    values = {name: x.requires_grad_() for name, x in values.items()}
    olds = [memory.old for memory in region.memories]
    found = loop(None, [values[n] for n in olds], [None] * len(olds), [values[n] for n in region.columns], [])
    meant = steps(region, values, [values[n] for n in olds], [torch.zeros(5, dtype=torch.float64)] * len(olds), None)
    weights = torch.linspace(-1, 1, 5, dtype=torch.float64)
    got, wanted = (torch.autograd.grad((y[0] * weights).sum(), list(values.values())) for y in (found, meant))
    for name, one, other in zip(values, got, wanted, strict=True):
        assert one.isfinite().all(), name
        torch.testing.assert_close(one, other, msg=name)


@pytest.mark.forward
def test_gradients_can_be_differentiated_again(way: str) -> None:
    for name in ("lstm", "gru"):
        region, loop = cell(name, n=2)
        values = drawn(region, 1, 3)
        keys = list(values)

        def whole(*given: Tensor) -> tuple[Tensor, ...]:
            known = dict(zip(keys, given, strict=True))  # noqa: B023
            starts = [known[memory.old] for memory in region.memories]  # noqa: B023
            columns = [known[name] for name in region.columns]  # noqa: B023
            constants = [known[name] for name in region.constants]  # noqa: B023
            return loop(None, starts, [None] * len(starts), columns, constants)  # noqa: B023

        assert torch.autograd.gradgradcheck(whole, [x.requires_grad_() for x in values.values()], fast_mode=True)


@pytest.mark.parametrize("gate", [1e3, -1e3, 1e5, -1e5, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_saturated_gates_stay_finite(way: str, name: str, gate: float) -> None:
    region, loop = cell(name, n=20)
    values = drawn(region, 1, 12)
    for column in region.columns:
        values[column][:, 4] = gate
    olds = [memory.old for memory in region.memories]

    def ours(**given: Tensor) -> tuple[Tensor, ...]:
        nothing = [None] * len(olds)
        return loop(
            None,
            [given[n] for n in olds],
            nothing,
            [given[n] for n in region.columns],
            [given[n] for n in region.constants],
        )

    def theirs(**given: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            steps(region, given, [given[n] for n in olds], [torch.zeros_like(given[n][0]) for n in olds], None)
        )

    check(ours, theirs, values, torch.float32)


@pytest.mark.forward
def test_the_state_carries_across_a_split(way: str) -> None:
    region, loop = cell("lstm", n=40)
    values = drawn(region, 2, 30)
    constants = [values[name] for name in region.constants]

    def run(start: int, stop: int, olds: list[Tensor]) -> tuple[Tensor, ...]:
        columns = [values[name][:, start:stop] for name in region.columns]
        return loop(None, olds, [None] * len(olds), columns, constants)

    whole = run(0, 30, [values[memory.old] for memory in region.memories])
    first = run(0, 3, [values[memory.old] for memory in region.memories])
    kept = [first[region.results.index(region.kept(memory))][:, -1] for memory in region.memories]
    second = run(3, 30, kept)
    for one, other, both in zip(first, second, whole, strict=True):
        torch.testing.assert_close(torch.cat([one, other], 1), both)


def test_narrow_data_and_strides(way: str) -> None:
    region, loop = cell("lstm", n=12)
    values = {name: x.bfloat16() for name, x in drawn(region, 2, 9).items()}
    olds = [memory.old for memory in region.memories]
    turned = {name: x.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_() for name, x in values.items()}
    found = loop(
        None,
        [turned[n] for n in olds],
        [None, None],
        [turned[n] for n in region.columns],
        [turned[n] for n in region.constants],
    )
    assert all(y.dtype == torch.float32 for y in found)
    wide = {name: x.float() for name, x in values.items()}
    wanted = steps(region, wide, [wide[n] for n in olds], [torch.zeros(12), torch.zeros(12)], None)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    grads = torch.autograd.grad(sum(y.sum() for y in found), list(turned.values()))  # type: ignore[arg-type]
    assert all(grad.dtype == torch.bfloat16 for grad in grads)


def test_a_frozen_step_on_another_device_does_not_call_c() -> None:
    model = ssir.compile(ssir.load("lstm", model=8, layers=1, vocab=11), device="meta")
    with torch.no_grad(), model.frozen():
        y, state = model.step(torch.zeros(2, dtype=torch.long, device="meta"), model.initial_state(2))
        y, state = model.step(torch.zeros(2, dtype=torch.long, device="meta"), state)
    assert y.shape == (2, 11)
    assert all(value.is_meta for value in state.values())
