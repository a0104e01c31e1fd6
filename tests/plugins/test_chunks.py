"""The kernels of chunks in Triton's interpreter against loops over the steps, and against their twins where something is not finite."""

import functools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ssir.compilers.runtime import tritons
from ssir.compilers.runtime.support import Read
from ssir.plugins.linear_attention.kernels.chunks import launches
from ssir.plugins.linear_attention.kernels.rank_one import rank_one
from tests.compilers.interpreted import interpreted
from tests.compilers.runtime.checks import check, close, resets

from . import test_chunked, test_rank_one

FORWARD = {
    "scalar": {"states", "outputs"},
    "key": {"pairs_by_key", "states", "outputs"},
    "rank one, scalar": {"pairs_by_head", "solve", "walk", "outputs"},
    "rank one, key": {"pairs_by_key", "solve", "walk", "outputs"},
}
BACKWARD = {
    "scalar": {"ends", "value_grads", "outer_grads", "inner_grads_by_head"},
    "key": {"ends", "value_grads", "outer_grads", "weights", "inner_grads_by_key"},
    "rank one, scalar": {"solve_back", "walk_back", "value_grads", "outer_grads", "inner_grads_by_head"},
    "rank one, key": {"solve_back", "walk_back", "value_grads", "outer_grads", "weights", "inner_grads_by_key"},
}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each kernel ran; all do, in the interpreter, in chunks of 32 steps at most: it takes long for each block."""
    blocks = launches.blocks

    def short(*sizes: Any) -> launches.Blocks:
        found = blocks(*sizes)
        return found._replace(steps=min(32, found.steps))

    monkeypatch.setattr(launches, "blocks", short)
    return interpreted(monkeypatch)


def sides(kind: str, gate: str, batch: int, time: int, heads: int, keys: int, values: int, groups: int) -> Any:
    """A kernel, a loop over the steps, and what both take."""
    if kind.startswith("rank one"):
        given = test_rank_one.inputs(batch, time, heads, keys, values, gate)
        return rank_one, test_rank_one.naive, given
    given = test_chunked.inputs(kind, batch, time, heads, keys, values, groups, gate)
    return test_chunked.KERNELS[kind], functools.partial(test_chunked.naive, by_key=kind == "key"), given


CASES = [
    ("scalar", "none", (1, 63, 2, 3, 5, 1), "after", False),
    ("scalar", "none", (3, 17, 1, 20, 5, 1), "before", True),
    ("scalar", "constant", (1, 40, 2, 3, 5, 2), "before", False),
    ("scalar", "constant", (2, 70, 1, 5, 3, 1), "after", True),
    ("scalar", "moving", (1, 70, 4, 3, 5, 2), "after", True),
    ("scalar", "moving", (3, 33, 1, 66, 70, 1), "before", True),
    ("key", "constant", (1, 40, 2, 3, 5, 1), "after", True),
    ("key", "moving", (3, 7, 2, 3, 5, 1), "before", True),
    ("key", "moving", (1, 70, 2, 5, 3, 2), "after", True),
    ("key", "moving", (1, 17, 1, 66, 70, 1), "before", False),
    ("rank one, scalar", "none", (3, 7, 2, 3, 5, 1), "after", True),
    ("rank one, scalar", "none", (1, 40, 1, 5, 3, 1), "before", False),
    ("rank one, scalar", "head", (1, 70, 2, 3, 5, 1), "after", True),
    ("rank one, scalar", "head", (2, 17, 1, 66, 70, 1), "before", True),
    ("rank one, key", "constant", (1, 17, 1, 3, 5, 1), "before", True),
    ("rank one, key", "key", (1, 40, 1, 5, 3, 1), "after", True),
    ("rank one, key", "key", (1, 7, 1, 66, 34, 1), "before", False),
]


@pytest.mark.parametrize(("kind", "gate", "size", "read", "packed"), CASES, ids=str)
def test_kernels_agree_with_a_loop(
    ran: Counter[str], kind: str, gate: str, size: tuple[int, ...], read: Read, packed: bool
) -> None:
    reset = resets(size[0], size[1]) if packed else None
    kernel, naive, given = sides(kind, gate, *size)
    check(functools.partial(kernel, reset=reset, read=read), functools.partial(naive, reset=reset, read=read), given)
    by_head = "scalar" if kind == "key" and gate == "none" else kind
    assert set(ran) == FORWARD[by_head] | BACKWARD[by_head]


@pytest.mark.parametrize(("kind", "gate"), [("scalar", "moving"), ("key", "moving")])
def test_whole_chunks_agree_with_a_loop(monkeypatch: pytest.MonkeyPatch, kind: str, gate: str) -> None:
    interpreted(monkeypatch)
    kernel, naive, given = sides(kind, gate, 1, 66, 1, 3, 5, 1)
    check(kernel, naive, given)


@pytest.mark.parametrize(("kind", "gate"), [("scalar", "moving"), ("key", "moving"), ("rank one, key", "key")])
def test_rows_columns_and_values_may_be_parts_of_something_wider(ran: Counter[str], kind: str, gate: str) -> None:
    kernel, naive, given = sides(kind, gate, 2, 17, 2, 3, 5, 1)

    def parts(call: Callable[..., Any]) -> Callable[..., Any]:
        """What is given is cut out of one tensor, as a product of several projections gives it."""

        def run(**leaves: Tensor) -> Any:
            flat = {name: leaves[name].flatten(2) for name in ("q", "k", "v")}
            every = [*flat.values(), flat["q"]]
            whole = torch.cat(every, 2).split([x.shape[2] for x in every], 2)
            cut = {name: x.view(leaves[name].shape) for name, x in zip(flat, whole, strict=False)}
            cut["q"] = cut["q"][:, :, :1].expand(leaves["q"].shape)  # all heads ask the same
            return call(**leaves | cut)

        return run

    check(parts(kernel), parts(naive), given)
    whole = torch.zeros(2, 17, 28)
    assert launches._strides(whole[..., 6:12].view(2, 17, 2, 3)) == (28, 3)
    assert launches._strides(whole[..., None, 6:9].expand(2, 17, 2, 3)) == (28, 0)
    assert launches._strides(whole[:, :10, 6:12].unflatten(2, (2, 3))) is None


@pytest.mark.parametrize(("kind", "gate"), [("scalar", "moving"), ("key", "moving"), ("rank one, scalar", "head")])
def test_a_memory_is_carried_from_call_to_call(ran: Counter[str], kind: str, gate: str) -> None:
    kernel, naive, given = sides(kind, gate, 1, 40, 2, 3, 5, 1)
    wanted, end = naive(**given)
    state, parts = given.pop("h0"), []
    for start, stop in ((0, 7), (7, 40)):
        y, state = kernel(**{name: x[:, start:stop] for name, x in given.items()}, h0=state)
        parts.append(y)
    close("y", torch.cat(parts, 1), wanted, 1e-5)
    close("last", state, end, 1e-5)


@pytest.mark.parametrize(("kind", "gate"), [("scalar", "moving"), ("key", "moving"), ("rank one, key", "key")])
def test_half_precision_keeps_a_float32_memory(ran: Counter[str], kind: str, gate: str) -> None:
    kernel, naive, given = sides(kind, gate, 1, 17, 1, 4, 3, 1)
    given = {name: x.bfloat16().requires_grad_() for name, x in given.items()}
    y, last = kernel(**given)
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    truth = naive(**{name: x.double() for name, x in given.items()})
    close("y", y, truth[0], 2e-2)
    close("last", last, truth[1], 2e-2)
    for name, grad in zip(given, torch.autograd.grad(y.float().sum(), list(given.values())), strict=True):
        assert grad.dtype == torch.bfloat16 and grad.isfinite().all(), name


@pytest.mark.parametrize("kind", ["scalar", "key"])
@pytest.mark.parametrize("gate", [-30.0, -1e5, -math.inf])
def test_hard_gates_spoil_no_other_step(ran: Counter[str], kind: str, gate: float) -> None:
    kernel, naive, given = sides(kind, "moving", 1, 40, 1, 4, 3, 1)
    given["g"] *= 0.01
    given["g"][:, 3:36:7] = gate
    expected = naive(**{name: x.double() for name, x in given.items()})
    leaves = {name: x.requires_grad_() for name, x in given.items()}
    got = kernel(**leaves)
    for part, ours, truth in zip(("y", "last"), got, expected, strict=True):
        close(part, ours, truth, 1e-5)
    grads = torch.autograd.grad(got[0].sum() + got[1].sum(), list(leaves.values()))
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("kind", ["scalar", "key"])
def test_the_gradient_of_a_hard_gate_is_not_a_difference(ran: Counter[str], kind: str) -> None:
    """What is left of a memory behind a gate of exp(-40) has a gradient as small as itself, however large all else is."""
    kernel, naive, given = sides(kind, "moving", 1, 40, 1, 4, 3, 1)
    given["g"][:, 20] = -40.0
    found = []
    for function, dtype in ((kernel, torch.float32), (naive, torch.float64)):
        leaves = {name: x.to(dtype).requires_grad_() for name, x in given.items()}
        (grad,) = torch.autograd.grad(function(**leaves)[0].sum(), leaves["g"])
        found.append(grad[:, 20].double() * math.exp(40.0))
    close("gradient of g", found[0], found[1], 1e-4)


SPOILED: dict[str, Callable[[dict[str, Tensor]], Tensor]] = {
    "a value": lambda given: given["v"][:, 9, 0, 1],
    "a key": lambda given: given["k"][:, 9, 0, 1],
    "a query": lambda given: given["q"][:, 9, 0, 1],
    "a gate": lambda given: given["g"][:, 9],
    "the memory": lambda given: given["h0"][:, 0, 1, 1],
}


@pytest.mark.parametrize("what", SPOILED)
@pytest.mark.parametrize("read", ["after", "before"])
@pytest.mark.parametrize(
    ("kind", "gate"), [("scalar", "none"), ("scalar", "moving"), ("key", "moving"), ("rank one, scalar", "head")]
)
def test_what_is_not_finite_gets_no_further_than_in_the_twin(
    ran: Counter[str], monkeypatch: pytest.MonkeyPatch, kind: str, gate: str, read: Read, what: str
) -> None:
    if what == "a gate" and gate == "none":
        return
    kernel, _, given = sides(kind, gate, 1, 18, 1, 3, 5, 1)
    for number, cleared in ((math.nan, 5), (math.inf, 16)):
        SPOILED[what](given).fill_(number)
        reset = torch.zeros(1, 18, dtype=torch.bool)
        reset[:, cleared] = True
        got = kernel(**given, reset=reset, read=read)
        with monkeypatch.context() as other:
            other.setattr(tritons, "reaches", lambda device: False)
            wanted = kernel(**given, reset=reset, read=read)
        for name, one, two in zip(("y", "last"), got, wanted, strict=True):
            if name == "y":
                assert torch.equal(one.isfinite(), two.isfinite()), f"{name}, {number}, reset at {cleared}"
            assert not (one.isnan() & two.isfinite()).any(), f"{name}, {number}, reset at {cleared}"
            known = two.isfinite() & one.isfinite()
            close(name, one[known], two[known], 1e-5)


@pytest.mark.parametrize(("kind", "gate"), [("scalar", "moving"), ("key", "moving"), ("rank one, scalar", "head")])
def test_gradients_can_be_differentiated_again(ran: Counter[str], kind: str, gate: str) -> None:
    kernel, naive, given = sides(kind, gate, 1, 3, 1, 2, 2, 1)
    found = []
    for function in (kernel, naive):
        leaves = {name: x.double().requires_grad_() for name, x in given.items()}
        first = torch.autograd.grad(function(**leaves)[0].square().sum(), list(leaves.values()), create_graph=True)
        total = torch.stack([x.square().sum() for x in first]).sum()
        found.append(torch.autograd.grad(total, list(leaves.values())))
    for name, one, two in zip(given, *found, strict=True):
        close(f"gradient of {name}", one, two, 1e-9)
