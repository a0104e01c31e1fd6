"""One answer for a sequence: a classifier's logits, a pooled embedding."""

import pytest
import torch
from torch import Tensor

import ssir
from ssir.compilers.runtime.model import InputError, Model

HEAD = """
h: {state: [n], A: 0.5, input: x}
y: linear(tanh(pool(h)), classes, bias=true)
"""
GRAPHS = {
    "the mean": HEAD,
    "the max": HEAD.replace("pool(h)", "pool(h, by=max)"),
    "the first": HEAD.replace("pool(h)", "pool(h, by=first)"),
    "the last": HEAD.replace("pool(h)", "pool(h, by=last)"),
    "of what looked ahead": HEAD.replace("pool(h)", "pool(h * reverse(h))"),
    "the first, of what looked ahead": HEAD.replace("pool(h)", "pool(reverse(h), by=first)"),
    "of several": HEAD.replace("pool(h)", "concat([pool(h, by=max), pool(h)], both)"),
    "of what never changes": "y: pool(param([classes], init=normal(1)), by=last) + pool(0 * sum(x, over=n), by=last)",
    "of nothing but a parameter": "y: pool(param([classes], init=normal(1)), by=last)",
    "as it is so far": "h: {state: [n], A: 0.5, input: x}\ny: linear(h * pool(h), classes)",
    "in layers": "y: linear(pool({stack}), classes)",
}


def spec(graph: str) -> ssir.Spec:
    if "{stack}" in graph:
        graph = "h: {stack: [layer], times: 2, input: x}\n" + graph.replace("{stack}", "h")
    lines = "\n".join(f"      {line}" for line in graph.strip().splitlines())
    return ssir.loads(f"""
ssir: 1
name: one
dims: {{n: 3, both: 6, classes: 5}}
components:
  layer:
    input: {{u: [n]}}
    graph:
      y: tanh(linear(u + pool(u), n))
    output: y
  main:
    input: {{x: [n]}}
    graph:
{lines}
    output: y
main: main
""")


def some(*sizes: int) -> Tensor:
    return torch.randn(*sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def compiled(graph: str) -> Model:
    model: Model = ssir.compile(spec(graph), dtype=torch.float64)
    return model


@pytest.mark.parametrize("name", GRAPHS)
def test_every_way_to_run_gives_the_answer_that_is_meant(name: str) -> None:
    report = ssir.verify(spec(GRAPHS[name]), steps=(1, 2, 21))
    assert report.ok, [row for row in report.worst() if not row.ok]


@pytest.mark.parametrize("name", [name for name in GRAPHS if name != "as it is so far"])
def test_a_sequence_has_one_answer_and_a_row_of_another_length_its_own(name: str) -> None:
    model, x = compiled(GRAPHS[name]), some(3, 7, 3)
    y, _ = model(x)
    assert y.shape == (3, 5)
    found, _ = model(x, lengths=torch.tensor([2, 7, 5]))
    for row, length in enumerate((2, 7, 5)):
        assert torch.allclose(found[row], model(x[row : row + 1, :length])[0][0], atol=1e-12)


def test_what_meets_what_goes_through_time_is_no_answer() -> None:
    y, _ = compiled(GRAPHS["as it is so far"])(some(2, 7, 3))
    assert y.shape == (2, 7, 5)


def test_an_answer_is_of_the_last_document() -> None:
    model, x = compiled(HEAD), some(1, 9, 3)
    reset = torch.zeros(1, 9, dtype=torch.bool)
    reset[0, 4] = True
    assert torch.allclose(model(x, reset=reset)[0], model(x[:, 4:])[0], atol=1e-12)


def test_after_each_step_the_answer_is_that_to_what_came_so_far() -> None:
    model, x = compiled(HEAD), some(2, 5, 3)
    state = model.initial_state(2)
    for t in range(5):
        y, state = model.step(x[:, t], state)
        assert torch.allclose(y, model(x[:, : t + 1])[0], atol=1e-12)


def test_what_follows_the_pool_is_computed_for_one_step() -> None:
    model, seen = compiled(HEAD), []
    model.get_submodule("y.linear").register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    model(some(2, 7, 3))
    assert seen == [(2, 1, 3)]


def test_no_step_has_no_answer() -> None:
    model = compiled(HEAD)
    with pytest.raises(InputError, match="`y` is an answer to a sequence, and there is no step here"):
        model(some(2, 0, 3))
    with pytest.raises(InputError, match="`y` is an answer to a sequence, and row 1 has no step"):
        model(some(2, 4, 3), lengths=torch.tensor([4, 0]))
    assert model(some(0, 0, 3))[0].shape == (0, 5)


def test_an_unknown_way_to_pool_is_told_the_known_ones() -> None:
    with pytest.raises(ssir.SpecError, match="values are pooled by mean, max, first, last, not by `maximum`"):
        _ = spec(HEAD.replace("pool(h)", "pool(h, by=maximum)")).graph
