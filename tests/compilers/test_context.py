"""Whole sequences and the indices of slots: every way of running them agrees with their meaning, in packed documents too."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import ssir
from ssir.spec.load import Spec

DIMS = "{n: 3, head: 2, group: 3, key: 4, value: 5, m: 7, far: 400, long: 20, slot: unbounded, all: unbounded}"


def spec(graph: str, more: str = "") -> Spec:
    lines = "\n".join(f"      {line}" for line in graph.strip().splitlines())
    return ssir.loads(
        f"ssir: 1\nname: one\ndims: {DIMS}\ncomponents:\n  main:\n    input: {{x: [n]}}\n    graph:\n{lines}\n    output: y\n{more}\nmain: main\n"
    )


ATTENTION = """
q: linear(x, [head, key])
k: linear(x, [head, key])
v: linear(x, [head, value])
scores: dot(q, context(k, all), over=key) * 0.5 {more}
y: linear(dot(softmax(scores, over=all), context(v, all), over=all), n)
"""
PADDED = """
q: linear(x, [head, group, key])
k: linear(x, [head, key])
scores: dot(q, context(k, all), over=key) * 0.5 - abs(position - arange(all))
seen: where(context(sum(x, over=n), all) > 0, scores, -1e9)
y: linear(dot(softmax(seen, over=all), context(linear(x, [head, value]), all), over=all), n)
"""
POOLED = """
q: param([group, key], init=normal(1))
k: context(linear(x, key), all)
y: linear(dot(softmax(dot(q, k, over=key), over=all), context(x, all), over=all), m)
"""
PER_STEP = """
k: context(linear(x, key), all) * sum(x, over=n)
y: linear(dot(softmax(dot(linear(x, key), k, over=key), over=all), context(x, all), over=all), n)
"""
GRAPHS = {
    "a mean": "y: mean(context(x, all), over=all)",
    "extremes": "y: max(context(x, all), over=all) - min(context(2 * x, all), over=all) + sum(context(x, all), over=all)",
    "what does not vary": "y: x * sum(context(param([n], init=normal(1)), all), over=all)",
    "attention": ATTENTION.format(more=""),
    "attention with a bias by the distance": ATTENTION.format(more="- 0.1 * abs(position - arange(all))"),
    "attention with a learned bias": ATTENTION.format(
        more="+ embed(clamp(position - arange(all), low=-3, high=3) + 3, m, head, init=normal(1))"
    ),
    "attention that leaves some out": PADDED,
    "attention that asks the same on every step": POOLED,
    "attention to keys of a step's own": PER_STEP,
    "the number of steps": "y: x + sum(where(arange(all) >= 0, 1, 0), over=all) + mean(arange(all), over=all) * mean(context(x, all), over=all)",
    "the number of steps by another name": "far_from: rename(arange(all), all=all_)\ny: x + sum(far_from, over=all_) + sum(context(x, all), over=all)",
    "the entry at the position": "y: select(context(2 * x, all), all, position) + select(context(x, all), all, 0)",
    "the entry at the start and a step before": "y: select(context(x, all), all, maximum(position - 1, 0)) * select(context(x, all), all, floor(position / 2))",
    "a softmax": "y: dot(softmax(context(x, all), over=all), context(x, all), over=all)",
    "a softmax over two axes": "y: x + sum(softmax(context(x, all), over=[all, n]) * context(x, all), over=[all, n])",
    "moments over two axes": "y: x + mean(context(x, all), over=[n, all]) + max(context(x, all), over=[all, n]) - sum(context(x * x, all), over=[n, all])",
    "a product of two contexts": "y: linear(dot(context(linear(x, key), all), context(linear(x, value), all), over=all), n)",
    "the steps from the end": "y: reverse(2 * x + delay(x)) * x",
    "what looked both ways": "back: reverse(x)\nahead: {state: [n], A: 0.9, input: x}\nbehind: {state: [n], A: 'sigmoid(linear(back, n))', input: back}\ny: linear(ahead * reverse(behind), n)",
    "a cell that looked both ways": "back: reverse(x)\nh: tanh(linear(delay(h), n) + back)\ny: reverse(h) * delay(reverse(h))",
    "a static map": "w: select(select(param([far, m], init=normal(1)), m, position % 3), far, arange(all))\ny: dot(w, context(x, all), over=all)",
}
SLOTS = {
    "two ages beside another memory": "h: {state: [n], A: 0.5, input: x}\ny: h + dot(window(x, long), 0.9 ** arange(long), over=long) + dot(window(2 * x, slot), 0.5 ** arange(slot), over=slot)",
    "the age of a slot": "y: dot(window(x, slot), 0.5 ** arange(slot), over=slot)",
    "a bias by the distance": "s: dot(x, window(x, slot), over=n) - 0.1 * arange(slot)\ny: dot(softmax(s, over=slot), window(x, slot), over=slot)",
    "a learned bias": "s: dot(x, window(x, slot), over=n) + embed(minimum(arange(slot), 3), m, [], init=normal(1))\ny: dot(softmax(s, over=slot), window(x, slot), over=slot)",
    "a static map": "c: select(select(param([far, m], init=normal(1)), m, position % 3), far, clamp(position - arange(long), low=0))\ny: {state: [long, n], A: shift(long), input: x, C: c}",
    "a bounded window": "s: dot(x, window(x, long), over=n) + embed(round(log(1 + arange(long))), m, [], init=normal(1))\ny: dot(softmax(s, over=long), window(x, long), over=long)",
    "read before": "y: {state: [slot, n], A: shift(slot), input: x, C: 0.5 ** arange(slot), read: before}",
}


@pytest.mark.parametrize("name", GRAPHS)
def test_whole_sequences_agree_with_their_meaning(name: str) -> None:
    report = ssir.verify(spec(GRAPHS[name]), steps=(1, 2, 21))
    assert report.ok, [row for row in report.worst() if not row.ok]
    assert not report.has_step


@pytest.mark.parametrize("name", [name for name in GRAPHS if "attention" in name])
def test_attention_to_a_whole_sequence_is_one_product(name: str) -> None:
    program = ssir.compile(spec(GRAPHS[name])).source.program.functions["sequence"]
    functions = [node.attrs["function"] for node in program if node.op == "kernel"]
    assert [name.rpartition(".")[2] for name in functions] == ["attend_all"]
    assert not any(node.op == "softmax" for node in program)


@pytest.mark.parametrize("name", SLOTS)
def test_indices_of_slots_agree_with_their_meaning(name: str) -> None:
    report = ssir.verify(spec(SLOTS[name]), steps=(1, 2, 21))
    assert report.ok, [row for row in report.worst() if not row.ok]
    assert report.has_step


@pytest.mark.parametrize("name", GRAPHS)
def test_documents_packed_in_a_row_do_not_see_each_other(name: str) -> None:
    model = ssir.compile(spec(GRAPHS[name]), dtype=torch.float64)
    x = torch.randn(2, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reset = torch.zeros(2, 9, dtype=torch.bool)
    reset[0, 4] = reset[1, 6] = True
    y, _ = model(x, reset=reset)
    for row, cut in ((0, 4), (1, 6)):
        for part in (slice(0, cut), slice(cut, 9)):
            alone, _ = model(x[row : row + 1, part])
            assert torch.allclose(y[row : row + 1, part], alone, atol=1e-12)


def test_a_layer_that_is_handed_a_whole_sequence_sees_its_own_document() -> None:
    more = """
  layer:
    input: {u: [n], memory: [all, n]}
    graph:
      y: u + dot(softmax(dot(u, memory, over=n) - abs(position - arange(all)), over=all), memory, over=all)
    output: y
"""
    one = spec("y: {stack: [layer], times: 2, input: x, with: {memory: 'context(linear(x, n), all)'}}", more=more)
    report = ssir.verify(one, steps=(1, 9))
    assert report.ok, [row for row in report.worst() if not row.ok]


@pytest.mark.parametrize("name", ["a mean", "extremes", "a softmax", "the entry at the position", "attention"])
def test_packed_documents_take_memory_that_is_linear_in_the_steps(name: str) -> None:
    largest = 0

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            found = func(*args, **(kwargs or {}))
            for x in found if isinstance(found, (tuple, list)) else [found]:
                largest = max(largest, x.numel() if isinstance(x, torch.Tensor) else 0)
            return found

    model = ssir.compile(spec(GRAPHS[name]))
    steps = 2000
    reset = torch.zeros(1, steps, dtype=torch.bool)
    reset[:, ::100] = True
    x = torch.randn(1, steps, 3, requires_grad=True)
    with Sizes():  # type: ignore[no-untyped-call]
        model(x, reset=reset)[0].sum().backward()
    assert x.grad is not None and largest < steps * steps // 8


def test_steps_that_see_documents_of_unlike_lengths_count_their_own() -> None:
    model = ssir.compile(spec(GRAPHS["the number of steps"]), dtype=torch.float64)
    reset = torch.zeros(2, 6, dtype=torch.bool)
    reset[0, 2] = True
    x = torch.zeros(2, 6, 3, dtype=torch.float64)
    for y in (model(x, reset=reset)[0], ssir.reference(model, x, reset=reset)[0]):
        assert y[:, :, 0].tolist() == [[2, 2, 4, 4, 4, 4], [6] * 6]
