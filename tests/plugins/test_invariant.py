import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssir.compilers.runtime.support import Read
from ssir.plugins.state_space.kernels.invariant import System
from tests.compilers.runtime.checks import check, close, resets

Result = tuple[Tensor, Tensor]


def matrix(a: Tensor) -> Tensor:
    return torch.diag_embed(a) if a.dim() == 2 else a


def naive_scan(a: Tensor, u: Tensor, h0: Tensor, clear: Tensor, reset: Tensor | None = None) -> Result:
    h, hs = h0, []
    for t in range(u.shape[1]):
        if reset is not None:
            h = torch.where(reset[:, t, None, None], clear, h)
        h = torch.einsum("ers,bes->ber", matrix(a).expand(u.shape[2], -1, -1), h) + u[:, t]
        hs.append(h)
    return torch.stack(hs, 1), h


def naive(
    a: Tensor,
    b: Tensor,
    c: Tensor,
    x: Tensor,
    h0: Tensor,
    clear: Tensor,
    reset: Tensor | None = None,
    read: Read = "after",
    real: bool = False,
) -> Result:
    groups = x.shape[2]
    x = x.real.to(x.dtype) if real else x
    u = torch.einsum("esi,btei->btes", b.expand(groups, -1, -1), x)
    h, last = naive_scan(a, u, h0, clear, reset)
    if read == "before":
        h = torch.cat([h0[:, None], h[:, :-1]], 1)
        h = h if reset is None else torch.where(reset[..., None, None], clear, h)
    y = torch.einsum("eos,btes->bteo", c.expand(groups, -1, -1), h)
    return y.real.to(y.dtype) if real else y, last


def inputs(
    batch: int, time: int, shape: tuple[int, int, int, int], own: tuple[bool, bool, bool], kind: str, dtype: torch.dtype
) -> dict[str, Tensor]:
    """own: which of A, B and C are one for each system."""
    groups, states, given, wanted = shape
    first, second, third = (groups if one else 1 for one in own)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    draw = functools.partial(torch.randn, dtype=wide)
    size = (first, states) if kind == "diagonal" else (first, states, states)
    a = draw(size)
    a = (
        a / a.abs() * torch.rand(size)
        if kind == "diagonal"
        else 0.9 * a / torch.linalg.matrix_norm(a, 2)[:, None, None]
    )
    return {
        "a": a,
        "b": draw(second, states, given),
        "c": draw(third, wanted, states),
        "x": draw(batch, time, groups, given),
        "h0": draw(batch, groups, states),
        "clear": draw(groups, states),
    }


def run(read: Read, reset: Tensor | None, real: bool = False) -> Callable[..., Result]:
    def kernel(a: Tensor, b: Tensor, c: Tensor, x: Tensor, h0: Tensor, clear: Tensor) -> Result:
        y, last = System(a, b, c, read, real).run(x.real if real else x, h0, reset, clear)
        assert not (real and y.is_complex())
        return y.to(last.dtype), last

    return kernel


SIZES = [
    (1, 1, (1, 1, 1, 1), (True, True, True)),
    (3, 7, (2, 3, 1, 1), (False, False, True)),
    (2, 128, (3, 2, 1, 1), (True, False, True)),
    (1, 203, (2, 4, 1, 3), (True, True, False)),
    (2, 67, (1, 3, 2, 2), (False, False, False)),
]


@pytest.mark.parametrize("kind", ["diagonal", "matrix"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("read", ["after", "before"])
def test_convolutions_agree_with_a_loop(
    kind: str,
    dtype: torch.dtype,
    size: tuple[int, int, tuple[int, int, int, int], tuple[bool, bool, bool]],
    packed: bool,
    read: Read,
) -> None:
    reset = resets(*size[:2]) if packed else None
    given = inputs(*size, kind, dtype)
    check(run(read, reset), functools.partial(naive, reset=reset, read=read), given, dtype)


@pytest.mark.parametrize("kind", ["diagonal", "matrix"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("read", ["after", "before"])
def test_the_real_part_alone_is_found_without_the_other(kind: str, packed: bool, read: Read) -> None:
    reset = resets(2, 150) if packed else None
    given = inputs(2, 150, (2, 3, 1, 1), (True, True, True), kind, torch.complex128)
    check(run(read, reset, True), functools.partial(naive, reset=reset, read=read, real=True), given, torch.complex128)


@pytest.mark.parametrize("kind", ["diagonal", "matrix"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
@pytest.mark.parametrize(
    "size", [(1, 1, 1, 1, True), (3, 7, 2, 3, False), (2, 64, 1, 4, True), (1, 77, 3, 2, True)], ids=str
)
@pytest.mark.parametrize("packed", [False, True])
def test_scans_agree_with_a_loop(
    kind: str, dtype: torch.dtype, size: tuple[int, int, int, int, bool], packed: bool
) -> None:
    batch, time, groups, states, own = size
    given = inputs(batch, time, (groups, states, states, 1), (own, True, True), kind, dtype)
    given = {"a": given["a"], "u": given["x"], "h0": given["h0"], "clear": given["clear"]}
    reset = resets(batch, time) if packed else None

    def kernel(a: Tensor, u: Tensor, h0: Tensor, clear: Tensor) -> Result:
        return System(a).scan(u, h0, reset, clear)

    check(kernel, functools.partial(naive_scan, reset=reset), given, dtype)


@pytest.mark.parametrize("kind", ["diagonal", "matrix"])
@pytest.mark.parametrize("packed", [False, True])
def test_state_carries_across_a_split(kind: str, packed: bool) -> None:
    given = inputs(2, 200, (2, 4, 1, 1), (True, False, True), kind, torch.float64)
    x, state, clear = given.pop("x"), given.pop("h0"), given.pop("clear")
    reset = resets(2, 200) if packed else None
    system = System(given["a"], given["b"], given["c"])
    whole, last = system.run(x, state, reset, clear)
    parts = []
    for start, end in ((0, 1), (1, 70), (70, 200)):
        piece = None if reset is None else reset[:, start:end]
        y, state = system.run(x[:, start:end], state, piece, clear)
        parts.append(y)
    close("y", torch.cat(parts, 1), whole, 1e-10)
    close("last", state, last, 1e-10)


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0, 0.999])
def test_decays_at_the_edge_stay_exact_over_long_sequences(decay: float) -> None:
    a = torch.full((1, 1), decay)
    x = torch.randn(1, 5000, 1, 1)
    one = torch.ones(1, 1, 1)
    y, last = System(a, one, one).run(x)
    truth = naive(a.double(), one.double(), one.double(), x.double(), torch.zeros(1, 1, 1).double(), torch.zeros(1, 1))
    close("y", y, truth[0], 1e-5)
    close("last", last, truth[1], 1e-5)


def test_gates_of_an_angle_keep_their_length() -> None:
    a = torch.polar(torch.ones(1, 3), torch.tensor([[0.0, math.pi / 2, 3.0]]))
    h, _ = System(a).scan(torch.zeros(1, 3000, 1, 3), torch.ones(1, 1, 3, dtype=torch.complex64))
    close("length", h[:, -1].abs(), torch.ones(1, 1, 3), 1e-5)


@pytest.mark.parametrize("kind", ["diagonal", "matrix"])
def test_half_precision_keeps_a_float32_state(kind: str) -> None:
    given = {n: x.bfloat16() for n, x in inputs(1, 70, (2, 3, 1, 1), (True, True, True), kind, torch.float64).items()}
    y, last = run("after", None)(**given)
    assert last.dtype == torch.float32
    wide = {n: x.double() for n, x in given.items()}
    truth = naive(**wide)  # type: ignore[arg-type]
    close("last", last, truth[1], 1e-5)
    close("y", y, truth[0], 1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_gradients_can_be_differentiated_again(packed: bool) -> None:
    given = inputs(1, 3, (1, 2, 1, 1), (True, True, True), "matrix", torch.float64)
    leaves = {n: x.requires_grad_() for n, x in given.items()}
    kernel = run("after", resets(1, 3) if packed else None)
    torch.autograd.gradgradcheck(lambda *x: kernel(**dict(zip(leaves, x, strict=True))), list(leaves.values()))
