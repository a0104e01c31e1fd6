"""An exported program, written down once for all lengths, agrees with the model at each: where Python's numbers decided anything, it would not."""

import pytest
import torch

import ssir
from tests.compilers.test_forms import CASES, spec

LONG = "y: dot(softmax(dot(x, window(x, long), over=n), over=long), window(x * 2, long), over=long)"
CHOSEN = {case.name: (case.graph, case.inputs) for case in CASES} | {"a long window": (LONG, "{x: [n]}")}
NAMES = (
    "a window read by a maximum",
    "a register that begins full",
    "taps that depend on the input",
    "a long window",
    "a short filter",
    "a long filter with feed-through",
    "a delay",
    "a delay that begins somewhere",
    "a constant diagonal",
    "a gated diagonal read before",
)


@pytest.mark.parametrize("resets", [False, True], ids=["whole", "resets"])
@pytest.mark.parametrize("name", NAMES)
def test_lengths_are_not_written_down(name: str, resets: bool) -> None:
    model = ssir.compile(spec(*CHOSEN[name]), dtype=torch.float64, seed=1)
    random = torch.Generator().manual_seed(0)

    def given(steps: int) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        x = tuple(
            torch.randn(2, steps, *(size or 0 for size in sizes), generator=random, dtype=torch.float64)
            for _, sizes, *_ in model.INPUTS
        )
        return x, {"reset": torch.rand(2, steps, generator=random) < 0.2} if resets else {}

    x, named = given(24)
    time = torch.export.Dim("time", min=2, max=512)
    moves = {name: {1: time} for name in (*model.inputs, *named)}
    with torch.no_grad():
        program = torch.export.export(model, x, named, dynamic_shapes=moves, strict=False).module()
        for steps in (2, 3, 33):
            x, named = given(steps)
            (y, state), (wanted, after) = program(*x, **named), model(*x, **named)
            assert torch.allclose(y, wanted, rtol=0, atol=1e-12), steps
            for key, value in after.items():
                assert torch.allclose(state[key].double(), value.double(), rtol=0, atol=1e-12), (steps, key)
