"""A model on another device makes nothing on the processor: held on `meta`, which computes nothing and refuses to meet what lies elsewhere."""

from collections.abc import Iterator

import pytest
import torch

import ssir
from ssir.ahead import pretended

from ..small import SMALL, first, inputs, small

UNKNOWN = {"jamba": "`bincount` knows no sizes without numbers"}


@pytest.fixture
def elsewhere() -> Iterator[torch.device]:
    with pretended() as device:
        yield device


@pytest.mark.parametrize("name", SMALL)
def test_all_of_a_model_is_on_its_device(name: str, elsewhere: torch.device) -> None:
    if name in UNKNOWN:
        pytest.skip(UNKNOWN[name])
    model = ssir.compile(small(name)).to(elsewhere)
    given = [x.to(elsewhere) for x in inputs(model.graph, 2, 9, torch.float32)]
    y, state = model(*given)
    assert {x.device for x in (first(y), *state.values())} == {elsewhere}
    if first(y).requires_grad:
        first(y).sum().backward()
    if not model.has_step:
        return
    model(*given, reset=torch.zeros(2, 9, dtype=torch.bool, device=elsewhere))
    one = [x if name in model.whole else x[:, 0] for name, x in zip(model.inputs, given, strict=True)]
    with torch.no_grad():
        y, state = model.step(*one, state=state)
        with model.frozen():
            y, state = model.step(*one, state=state)
    assert {x.device for x in (first(y), *state.values())} == {elsewhere}
