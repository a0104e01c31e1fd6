"""What is recommended to those who come from elsewhere is a spec that compiles."""

import pytest
import torch

import ssir
from ssir.registry import registry
from ssir.spec import elsewhere

HEAD = """
ssir: 1
name: one
dims: {{n: 6, m: 4, two: 2, rest: 3, tap: 3, twice: 12, vocab: 9, both: 24, slot: unbounded}}
components:
  main:
    input: {{x: [n], y: [n], z: [m], t: token}}
    graph:
      given: x + y + sum(z, over=m) + sum(embed(t, vocab, n), over=n)
      found: "{expression}"
    output: [given, found]
main: main
"""


@pytest.mark.parametrize("expression", elsewhere.EXPRESSIONS)
def test_what_is_recommended_compiles(expression: str) -> None:
    model = ssir.compile(ssir.loads(HEAD.format(expression=expression)))
    given = [torch.rand(1, 5, size) for size in (6, 6, 4)]
    y, _ = model(*given, torch.zeros(1, 5, dtype=torch.long))
    assert not y["found"].isnan().any()


@pytest.mark.parametrize(
    ("written", "help"),
    [
        ("conv1d(x, n)", "sum(window(x, tap) * param([tap, n]), over=tap)"),
        ("Conv1d(x)", "linear(window(x, tap), m)"),
        ("nn.Linear(x)", "by its name: linear(x)"),
        ("nn.LayerNorm(6)", "by its name: layer_norm(x)"),
        ("F.scaled_dot_product_attention(x, x, x)", "the plan finds it"),
        ("x.masked_fill(x < 0, 0)", "where(x < 0, -inf, x)"),
        ("x.sum(n)", "by its name: sum(x)"),
        ("flip(x)", "reverse(x)"),
        ("einsum(x, x)", "dot(x, y, over=n)"),
        ("permute(x)", "leave it out"),
        ("LSTM(x)", "imports: {cell: lstm.COMPONENT}"),
        ("sigmiod(x)", "the nearest is `sigmoid`"),
    ],
)
def test_a_name_from_elsewhere_is_told_what_means_the_same(written: str, help: str) -> None:
    text = f"ssir: 1\nname: one\ndims: {{n: 3}}\ncomponents:\n  main:\n    input: {{x: [n]}}\n    graph: {{y: '{written}'}}\n    output: y\nmain: main\n"
    with pytest.raises(ssir.SpecError) as caught:
        ssir.loads(text).graph  # noqa: B018
    assert help in str(caught.value)


def test_no_function_of_ours_is_among_them() -> None:
    assert not [name for name in registry.names("function") if elsewhere.meant(name)]
