"""FlexAttention, as models on a GPU call it: here uncompiled, which computes the same."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention

import ssir
from ssir.compilers.runtime.model import Model
from ssir.plugins.attention.kernels import flex
from ssir.plugins.attention.kernels.attention import plain
from tests.compilers.runtime.checks import check
from tests.compilers.runtime.habits import close, tokens
from tests.small import small

pytestmark = pytest.mark.filterwarnings("ignore")  # uncompiled, it warns of itself


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Calls that went to FlexAttention, and to torch's fused attention."""
    found: list[str] = []

    def noted(name: str, call: object) -> object:
        def run(*given: object, **named: object) -> object:
            found.append(name)
            return call(*given, **named)  # type: ignore[operator]

        return run

    monkeypatch.setattr(flex, "reaches", lambda *tensors: True)
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *tensors: None)
    monkeypatch.setattr(flex_attention, "flex_attention", noted("flex", flex_attention.flex_attention))
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted("fused", fused))
    yield found


def runs(kind: str, batch: int, steps: int, entries: int) -> tuple[Tensor | None, Tensor | None]:
    own = torch.arange(entries - steps, entries)[None]
    match kind:
        case "all before":
            return None, None
        case "a window":
            return (own - 10).clamp(min=0), None
        case "documents":
            return torch.randint(0, entries, (batch, steps)).minimum(own), None
        case "both ends":
            return torch.full((batch, 1), 3).expand(batch, steps), torch.full((1, steps), entries - 1)
        case _:
            return torch.full((1, steps), 5), torch.full((1, steps), 4)


KINDS = ["all before", "a window", "documents", "both ends", "nothing"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("batch", "steps", "entries", "heads", "group"), [(2, 200, 200, 2, 3), (1, 63, 130, 1, 1), (3, 1, 40, 2, 2)]
)
@pytest.mark.parametrize("biased", [False, True])
def test_runs_and_biases(
    ran: list[str], kind: str, batch: int, steps: int, entries: int, heads: int, group: int, biased: bool
) -> None:
    first, last = runs(kind, batch, steps, entries)
    keep = torch.rand(batch, 1, 1, 1, entries) > 0.3
    given = {
        "q": torch.randn(batch, steps, heads, group, 16),
        "k": torch.randn(batch, entries, heads, 16),
        "v": torch.randn(batch, entries, heads, 24),
    }
    if biased:
        given |= {"one": torch.randn(1, steps, heads, 1, entries), "two": torch.randn(batch, 1, 1, group, 1)}
        given |= {"table": torch.randn(1, group, entries)}

    def ours(q: Tensor, k: Tensor, v: Tensor, **biases: Tensor) -> tuple[Tensor]:
        signed = [("+", biases["one"]), ("-", biases["two"]), ("&", keep)] if biases else []
        mask = flex.seen(first, last, steps, entries, q.device)
        return (flex.attend(q, k, v, 0.3, mask, signed, (biases["table"], last) if biases else None),)

    def theirs(q: Tensor, k: Tensor, v: Tensor, **biases: Tensor) -> tuple[Tensor]:
        bias = biases["one"] - biases["two"] if biases else None
        return (plain(q, k, v, 0.3, first, last, biases.get("table"), bias, keep if biases else None),)

    check(ours, theirs, given, torch.float64)
    assert set(ran) == {"flex"}


def test_blocks_that_nobody_sees_are_left_out_and_those_that_all_see_are_not_masked() -> None:
    own = torch.arange(1024)[None]
    mask = flex.seen((own - 255).clamp(min=0), None, 1024, 1024, own.device)
    assert mask.full_kv_num_blocks is not None
    some, whole = (x[0, 0].tolist() for x in (mask.kv_num_blocks, mask.full_kv_num_blocks))
    assert some == [1, 1, 2, 2, 2, 2, 2, 2], "the one on the diagonal, and the one that the window begins in"
    assert whole == [0, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("transformer", {"flex"}),
        ("sliding_window", {"flex"}),
        ("t5", {"flex", "fused"}),
        ("bert", {"flex"}),
        ("vaswani", {"flex", "fused"}),
    ],
)
def test_models_give_what_they_give_elsewhere(
    ran: list[str], monkeypatch: pytest.MonkeyPatch, name: str, calls: set[str]
) -> None:
    model: Model = ssir.compile(small(name), dtype="float64")
    xs = [tokens(2, 20) % 2 if kind == "int" else (tokens(2, 20) > 1).double() for *_, kind, _ in model.INPUTS]
    reset = torch.rand(2, 20, generator=torch.Generator().manual_seed(0)) < 0.2
    found = []
    for reaches in (True, False):
        monkeypatch.setattr(flex, "reaches", lambda *tensors, reaches=reaches: reaches)
        y = model(*xs, reset=reset)[0]
        found.append([y, *torch.autograd.grad(y.square().sum(), list(model.parameters()), allow_unused=True)])
        if reaches:
            ours = set(ran)
    assert ours == calls
    for one, other in zip(*found, strict=True):
        if other is not None:
            close(one, other)
