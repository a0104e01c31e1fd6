"""Compiled scans: the same as their steps by the reference's operations, forwards and backwards, as native code and as the twin."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from ssir.compilers.loops.spelling import Unfit
from ssir.compilers.loops.tiles import cut
from ssir.compilers.runtime import native, tritons
from ssir.compilers.runtime.tiled import EVERY, Scan
from ssir.compilers.torch.cells import Scanned

from ..interpreted import interpreted
from ..loops.made import drawn, made_scan, steps
from .checks import check, close, resets

Made = tuple[Scanned, Scan]

PLAIN = {
    "gated": ("y: {state: [n], A: a, input: x}", "{a: [n], x: [n]}"),
    "a constant gate": ("y: {state: [n], A: 'param([n])', B: b, input: x}", "{b: [n], x: [n]}"),
    "one gate for all": ("y: {state: [n], A: a, input: x, read: before}", "{a: [], x: [n]}"),
    "an integrator": ("y: {state: [n], input: x}", "{x: [n]}"),
    "of a number": ("y: {state: [], A: a, input: x}", "{a: [], x: []}"),
    "what enters is summed outside": ("y: {state: [n], A: a, B: 'param([n, m])', input: x}", "{a: [n], x: [m]}"),
    "pairs of axes": ("y: {state: [q, n], A: a, B: b, input: x}", "{a: [n], b: [q], x: [n]}"),
    "a maximum": ("y: {state: [n], A: a, B: b, input: x, algebra: max_plus}", "{a: [n], b: [n], x: [n]}"),
    "complex numbers": ("y: {state: [n], A: 'complex(a, b)', input: x}", "{a: [n], b: [n], x: [n]}"),
    "complex numbers enter": ("y: {state: [q, n], A: a, B: 'complex(b, x)', input: x}", "{a: [n], b: [q], x: [n]}"),
    "a constant complex gate": (
        "y: {state: [n], A: 'complex(param([n]), param([n]))', B: 'complex(1, b)', input: x}",
        "{b: [n], x: [n]}",
    ),
    "a maximum without a gate": ("y: {state: [n], input: x, algebra: max_plus, read: before}", "{x: [n]}"),
}
READ = {
    "selective": (
        "y: {state: [n, m], A: 'exp(g * param([n, m]))', B: 'g * b', input: x, C: c, D: 'param([n])'}",
        "{g: [n], x: [n], b: [m], c: [m]}",
    ),
    "read before": (
        "y: {state: [m, n], A: 'exp(-g * exp(param([m])))', B: b, input: x, C: c, read: before}",
        "{g: [n], x: [n], b: [m], c: [m]}",
    ),
    "by groups": (
        "y: {state: [n, m, q], A: 'exp(g * param([n, q, m]))', B: 'g * b', input: x, C: c}",
        "{g: [n, q], x: [n, q], b: [q, m], c: [q, m]}",
    ),
    "a constant readout": ("y: {state: [n, m], A: a, B: b, input: x, C: 'param([m])'}", "{a: [n], x: [n], b: [m]}"),
    "complex numbers": (
        "y: {state: [n, m], A: 'exp(g * complex(param([n, m]), param([n, m])))', B: 'g * b', input: x, C: 'complex(c, d)'}",
        "{g: [n], x: [n], b: [m], c: [m], d: [m]}",
    ),
    "complex numbers, read before as they are": (
        "y: {state: [m, n], A: 'polar(1, g)', B: 'complex(b, g)', input: x, C: c, read: before}",
        "{g: [m], x: [n], b: [m], c: [m]}",
    ),
    "a matrix": ("y: {state: [p, m, n], A: a, B: b, input: x, C: c}", "{a: [m], x: [n], b: [p, m], c: [p, m]}"),
    "a maximum": (
        "y: {state: [n, m], A: a, B: b, input: x, C: c, algebra: max_plus}",
        "{a: [n], x: [n], b: [m], c: [m]}",
    ),
}


@pytest.fixture(params=["native", "twin", "triton"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As C; as the PyTorch twin; as Triton, in its interpreter."""
    way: str = request.param
    if way == "triton":
        ran = interpreted(monkeypatch)
        yield way
        wanted = {"forward"} if request.node.get_closest_marker("forward") else {"forward", "backward"}
        assert {name.removesuffix("_ends").rpartition("_")[2] for name in ran} == wanted
        return
    if way == "twin":
        monkeypatch.setattr(native, "library", lambda dtype, source="": None)
    elif not native.available():
        pytest.skip(native.reason())
    yield way


SMALL = {"n": 5, "m": 3, "q": 2, "p": 2}
CASES = [(name, False) for name in PLAIN] + [(name, True) for name in READ]


def scan(name: str, readout: bool, **sizes: int) -> Made:
    text, inputs = (READ if readout else PLAIN)[name]
    dims = ", ".join(f"{axis}: {size}" for axis, size in {**SMALL, **sizes}.items())
    return made_scan(text, inputs, f"{{{dims}}}", readout)


def agree(
    made: Made, batch: int, time: int, packed: bool, dtype: torch.dtype, clear: bool = False, apart: int = 0
) -> None:
    """What is read, the last memory, and the gradients of the memory, columns and constants, and of what it is after a reset. ``apart``: numbers
    between the rows of columns."""
    scanned, scan = made
    region, again = scanned.region, scanned.tiled.again
    (memory,) = region.memories
    reset = resets(batch, time) if packed else None
    values = {name: 0.5 * x for name, x in drawn(region, batch, time).items()}
    if clear:
        values["clear"] = torch.randn_like(values[memory.old][0])

    def ours(**given: Tensor) -> tuple[Tensor, ...]:
        columns, constants = ([given[n] for n in names] for names in (region.columns, region.constants))
        columns = [cut_out(x, apart) for x in columns]
        return scan(reset, [given[memory.old]], [given.get("clear")], columns, constants)

    def theirs(**given: Tensor) -> tuple[Tensor, ...]:
        start = given[memory.old]
        anew = given.get("clear", torch.full_like(start[0], memory.fill))
        found = dict(zip(region.results, steps(region, given, [start], [anew], reset), strict=True))
        last = (found[region.kept(memory)][:, -1],) if again else ()
        return (*(found[one] for one in scanned.tiled.results), *last)

    check(ours, theirs, values, dtype, 3e-5 if dtype == torch.float32 else None)


@pytest.mark.parametrize(("name", "readout"), CASES)
@pytest.mark.parametrize(("batch", "time", "packed"), [(1, 1, False), (3, 7, True), (2, 16, False), (2, 50, True)])
def test_a_scan_agrees_with_its_steps(way: str, name: str, readout: bool, batch: int, time: int, packed: bool) -> None:
    agree(scan(name, readout), batch, time, packed, torch.float64)


@pytest.mark.parametrize(("name", "readout"), CASES)
def test_a_scan_starts_anew_from_what_is_said(way: str, name: str, readout: bool) -> None:
    agree(scan(name, readout), 3, 21, True, torch.float64, clear=True)


def cut_out(x: Tensor, apart: int) -> Tensor:
    """x [B,T,*sizes], its rows so many numbers further apart than they need be."""
    rows = torch.nn.functional.pad(x.reshape(*x.shape[:2], -1), (0, apart))
    return rows[..., : x[0, 0].numel()].view(x.shape) if apart else x


@pytest.mark.parametrize(("name", "readout"), CASES)
@pytest.mark.parametrize(("batch", "time"), [(1, 9), (2, 1), (2, 9)])
def test_columns_may_be_parts_of_something_wider(way: str, name: str, readout: bool, batch: int, time: int) -> None:
    agree(scan(name, readout), batch, time, True, torch.float64, apart=3)


def test_rows_are_as_far_apart_as_they_lie() -> None:
    x = torch.zeros(2, 5, 12)
    assert tritons.spacing(x) == tritons.spacing(x[..., 3:7]) == tritons.spacing(x[:1, :, 3:7]) == 12
    assert tritons.spacing(x[:, :1, 3:7]) == 60
    assert tritons.spacing(x[:, :, 3:7].unflatten(-1, (2, 2))) == 12
    assert tritons.spacing(x[:, :, ::2]) is tritons.spacing(x[:, :3]) is tritons.spacing(x.transpose(0, 1)) is None
    assert tritons.spacing(x[:1, :1].expand(2, 5, 12)) is tritons.spacing(x[:, :1].expand(2, 5, 12)) is None
    assert tritons.spaced(x[:, :, 3:7]).data_ptr() == x[:, :, 3:7].data_ptr()


@pytest.mark.parametrize(("name", "readout"), CASES)
def test_a_scan_in_single_precision(way: str, name: str, readout: bool) -> None:
    agree(scan(name, readout), 2, 40, True, torch.float32)


@pytest.mark.parametrize("way", ["triton"], indirect=True)
@pytest.mark.parametrize(("name", "readout"), [("gated", False), ("selective", True), ("a constant readout", True)])
def test_kernels_read_half_precision_as_it_is(way: str, name: str, readout: bool) -> None:
    scanned, compiled = scan(name, readout)
    region = scanned.region
    (memory,) = region.memories
    values = {one: (0.5 * x).bfloat16() for one, x in drawn(region, 2, 20).items()}
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        given = {one: x.to(dtype).requires_grad_() for one, x in values.items()}
        columns, constants = ([given[n] for n in names] for names in (region.columns, region.constants))
        results = compiled(None, [given[memory.old].float()], [None], columns, constants)
        assert all(y.dtype == torch.float32 for y in results)
        grads = torch.autograd.grad([y.sum() for y in results], list(given.values()))
        assert all(grad.dtype == dtype for grad in grads)
        found.append((results, grads))
    for one, other in zip(*(results for results, _ in found), strict=True):
        close("result", one, other, 1e-6)
    for label, one, other in zip(values, *(grads for _, grads in found), strict=True):
        close(f"gradient of {label}", one, other, 1e-2)


@pytest.mark.parametrize("way", ["native", "twin"], indirect=True)
@pytest.mark.parametrize("readout", [False, True])
def test_the_twin_goes_through_many_steps_in_pieces(way: str, readout: bool) -> None:
    agree(scan("selective" if readout else "gated", readout), 1, 600, True, torch.float64)


WIDE = [
    ("gated", False, {"n": 1200}),
    ("one gate for all", False, {"n": 700}),
    ("pairs of axes", False, {"q": 10, "n": 70}),
    ("pairs of axes", False, {"q": 3, "n": 700}),
    ("a maximum", False, {"n": 600}),
    ("selective", True, {"n": 300, "m": 16}),
    ("read before", True, {"n": 130, "m": 20}),
    ("by groups", True, {"q": 20, "n": 3, "m": 8}),
    ("by groups", True, {"q": 3, "n": 200, "m": 4}),
    ("a matrix", True, {"p": 40, "m": 9, "n": 70}),
]


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("way", ["triton"], indirect=True)
@pytest.mark.parametrize(("name", "readout", "sizes"), [*WIDE[:-1], ("a matrix", True, {"n": 140})], ids=str)
def test_programs_share_what_is_wide(way: str, name: str, readout: bool, sizes: dict[str, int]) -> None:
    agree(scan(name, readout, **sizes), 3, 20, True, torch.float64)


@pytest.fixture
def parted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Steps are parted even if they are few. By call: the kernel, how many steps there are, and how many one program takes."""
    monkeypatch.setattr(tritons, "LEAST", 1)
    found = list[tuple[str, int, int]]()
    call = tritons.call

    def noted(source: str, name: str, batch: int, steps: int, *given: Any) -> None:
        call(source, name, batch, steps, *given)
        found.append((name.partition("_")[2].partition("_")[2], steps, given[-1]))

    monkeypatch.setattr(tritons, "call", noted)
    return found


@pytest.mark.parametrize("way", ["triton"], indirect=True)
@pytest.mark.parametrize(("name", "readout"), CASES)
def test_programs_share_the_steps(way: str, parted: list[tuple[str, int, int]], name: str, readout: bool) -> None:
    made, time = scan(name, readout), 40
    agree(made, 2, time, True, torch.float64, clear=True)
    assert ("forward_ends", time, EVERY) in parted and ("forward", time, EVERY) in parted
    back = [one for one in parted if one[0].startswith("backward")]
    assert set(back) == (
        {("backward", time, time)}
        if made[1].tiling.maximum
        else {("backward_ends", time, EVERY), ("backward", time, EVERY)}
    )


@pytest.mark.parametrize("way", ["triton"], indirect=True)
@pytest.mark.parametrize(
    ("name", "readout", "sizes"), [("gated", False, {"n": 600}), ("selective", True, {"n": 140, "m": 16})], ids=str
)
def test_programs_share_the_steps_and_what_is_wide(
    way: str, parted: list[tuple[str, int, int]], name: str, readout: bool, sizes: dict[str, int]
) -> None:
    agree(scan(name, readout, **sizes), 1, 40, False, torch.float64)
    assert ("backward_ends", 40, EVERY) in parted


@pytest.mark.forward
@pytest.mark.parametrize("way", ["triton"], indirect=True)
def test_what_is_not_finite_does_not_pass_a_reset_between_programs(
    way: str, parted: list[tuple[str, int, int]]
) -> None:
    scanned, compiled = scan("gated", False)
    region = scanned.region
    (memory,) = region.memories
    values = drawn(region, 1, 48)
    columns = [values[name].clone() for name in region.columns]
    for x in columns:
        x[:, 3] = math.inf
    reset = torch.zeros(1, 48, dtype=torch.bool)
    reset[:, 20] = True
    y = compiled(reset, [values[memory.old]], [None], columns, [])[0]
    assert not y[:, 3:20].isfinite().any()
    assert y[:, 20:].isfinite().all()


def test_programs_that_fill_the_machine_take_all_steps() -> None:
    device = torch.device("cpu")
    assert tritons.piece(1, 8192, EVERY, device) == 64
    assert tritons.piece(12, 8192, EVERY, device) == 192
    assert tritons.piece(300, 8192, EVERY, device) == 8192
    assert tritons.piece(1, 100, EVERY, device) == 100


@pytest.mark.skipif(native.library(torch.float32) is None, reason="without a C compiler there are no tiles")
@pytest.mark.parametrize(("name", "readout", "sizes"), WIDE, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_threads_share_tiles(threads: int, name: str, readout: bool, sizes: dict[str, int], batch: int) -> None:
    agree(scan(name, readout, **sizes), batch, 20, True, torch.float64)


@pytest.mark.parametrize(
    ("name", "readout", "sizes", "outer", "axis", "size"),
    [
        ("gated", False, {"n": 100}, (), "n", 100),
        ("gated", False, {"n": 768}, (), "n", 192),
        ("pairs of axes", False, {"q": 10, "n": 70}, (), "q", 3),
        ("pairs of axes", False, {"q": 10, "n": 512}, ("q",), "n", 256),
        ("of a number", False, {}, (), "", 1),
        ("selective", True, {"n": 1536, "m": 16}, (), "n", 64),
    ],
)
def test_tiles_fit_the_cache_and_two_threads_have_as_many(
    name: str, readout: bool, sizes: dict[str, int], outer: tuple[str, ...], axis: str, size: int
) -> None:
    found = cut(scan(name, readout, **sizes)[0].region)
    assert found is not None
    assert (found.outer, found.axis, found.size) == (outer, axis, size)


@pytest.mark.parametrize("name", READ)
def test_what_is_larger_than_all_around_it_is_not_written_for_every_step(name: str) -> None:
    found, made = scan(name, True, n=40, m=16)
    assert found.tiled.again
    assert found.region.kept(found.region.memories[0]) not in found.tiled.results
    assert made.tiling.new is None


def test_a_matrix_with_results_of_its_own_is_read_outside() -> None:
    with pytest.raises(Unfit, match="along all axes"):
        made_scan(
            "y: {state: [n], A: a, B: b, input: x, C: 'param([m, n])'}", "{a: [n], b: [n], x: []}", "{n: 4, m: 3}", True
        )


@pytest.mark.parametrize("gate", [0.0, 30.0, 1e3, 1e5, math.inf])
def test_extreme_gates_stay_finite(way: str, gate: float) -> None:
    found, made = scan("read before", True)
    values = drawn(found.region, 1, 50, torch.float32)
    (column,), (rate,) = (name for name in found.region.columns if name.startswith("A")), found.region.constants
    values[column], values[rate] = -values[column].abs(), values[rate].abs()
    values[column][:, 20] = -gate
    leaves = {name: x.requires_grad_() for name, x in values.items()}
    (memory,) = found.region.memories
    columns, constants = ([leaves[n] for n in names] for names in (found.region.columns, found.region.constants))
    results = made(None, [leaves[memory.old]], [None], columns, constants)
    grads = torch.autograd.grad(torch.stack([y.sum() for y in results]).sum(), list(leaves.values()))
    assert all(x.isfinite().all() for x in (*results, *grads))


@pytest.mark.forward
def test_a_reset_shuts_out_even_nan(way: str) -> None:
    for name in ("gated", "a maximum"):
        found, made = scan(name, False)
        values = drawn(found.region, 1, 12, torch.float32)
        for column in found.region.columns:
            values[column][:, 4] = math.nan
        reset = torch.zeros(1, 12, dtype=torch.bool)
        reset[:, 7] = True
        (h,) = made(reset, [None], [None], [values[n] for n in found.region.columns], [])
        assert h[:, 4:7].isnan().all()
        assert h[:, 7:].isfinite().all()


@pytest.mark.parametrize(("name", "readout"), [("gated", False), ("selective", True)])
def test_half_precision_keeps_a_float32_memory(way: str, name: str, readout: bool) -> None:
    found, made = scan(name, readout)
    values = {name: x.bfloat16().requires_grad_() for name, x in drawn(found.region, 2, 9).items()}
    (memory,) = found.region.memories
    columns, constants = ([values[n] for n in names] for names in (found.region.columns, found.region.constants))
    results = made(None, [values[memory.old]], [None], columns, constants)
    assert {y.dtype for y in results} == {torch.float32}
    grads = torch.autograd.grad(torch.stack([y.sum() for y in results]).sum(), list(values.values()))
    assert all(grad.dtype == torch.bfloat16 for grad in grads)


@pytest.mark.parametrize("steps_", [(1, [0.5]), (3, [0.875, 0.75, 0.5])], ids=["one step", "a sequence"])
def test_a_maximum_gives_half_of_the_gradient_to_each_of_two_equals(way: str, steps_: tuple[int, list[float]]) -> None:
    time, shares = steps_
    _, made = scan("a maximum without a gate", False, n=1)
    start, x = torch.zeros(1, 1, requires_grad=True), torch.zeros(1, time, 1, requires_grad=True)
    new, _ = made(None, [start], [None], [x], [])
    dstart, dx = torch.autograd.grad(new.sum(), (start, x))
    assert float(dstart + dx.sum()) == time
    if way == "native" or time == 1:  # in blocks, equals meet in another order
        close("gradient of what was", dstart, torch.tensor([[shares[0]]]), 0)
        close("gradient of what enters", dx, torch.tensor(shares)[None, :, None], 0)
