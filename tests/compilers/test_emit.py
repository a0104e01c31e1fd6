"""The source that is written."""

import pytest
import torch

from ssir.api import compile
from ssir.spec.load import loads
from tests.oracles.compare import close

SPEC = """
ssir: 1
name: names
dims: {{n: 3, tap: 2}}
components:
  main:
    input: {{{x}: [n]}}
    graph:
      {a}: linear({x}, n) * sigmoid(linear({x}, n))
      {b}: {{state: [tap, n], A: shift(tap), input: {a}, C: "param([tap, n], init=ones)"}}
      {c}: {{state: [n], A: "sigmoid(linear({x}, n))", input: {b}}}
      y: {c} * sigmoid(linear({b}, n))
    output: y
main: main
"""


@pytest.mark.parametrize(
    "names",
    ["gated fir diagonal_scan history", "history gated fir spread", "spread keep recall gated", "x time new old"],
)
def test_a_node_can_be_called_like_a_function_that_its_source_needs(names: str) -> None:
    plain, other = (loads(SPEC.format(**dict(zip("xabc", n.split(), strict=True)))) for n in ("x f g h", names))
    expected, found = compile(plain, dtype=torch.float64), compile(other, dtype=torch.float64)
    with torch.no_grad():
        for mine, theirs in zip(found.parameters(), expected.parameters(), strict=True):
            mine.copy_(theirs)
        x = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        close(found(x)[0], expected(x)[0])
        close(found.step(x[:, 0], found.initial_state(2))[0], expected(x[:, :1])[0][:, 0])
