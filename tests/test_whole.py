"""Inputs with an unbounded axis: whole sequences, given once, of a length of their own."""

from pathlib import Path

import pytest
import torch

import ssir
from ssir.compilers import cuda_graph
from ssir.errors import SpecError
from ssir.spec.load import Spec
from tests.small import at, first, inputs

SPEC = """
ssir: 1
name: two
dims: {model: 4, head: 2, key: 3, vocab: 7, tap: 3, slot: unbounded, past: unbounded}
components:
  encoder:
    input: {source: {token: slot}}
    graph:
      e: embed(source, vocab, model)
      far: abs(rename(arange(slot), slot=slot_) - arange(slot))
      weights: softmax(linear(e, [], over=model) - 0.1 * far, over=slot)
      y: rename(dot(weights, e, over=slot), slot_=slot)
    output: y
  attention:
    input: {x: [model], memory: [slot, model]}
    graph:
      k: linear(memory, [head, key], over=model)
      weights: softmax(dot(linear(x, [head, key]), k, over=key), over=slot)
      y: linear(dot(weights, k, over=slot), model)
    output: y
  memories:                    # every coefficient that a memory can take from a whole sequence
    input: {x: [model], memory: [slot, model]}
    graph:
      style: mean(memory, over=slot)
      gate: sigmoid(style)
      faded:
        state: [model]
        A: gate
        input: x
      expanded:
        state: [key, model]
        A: sigmoid(linear(style, key))
        B: linear(style, key)
        input: x
        C: linear(style, key)
      filtered:
        state: [tap, model]
        A: shift(tap)
        input: x
        C: softmax(linear(style, tap), over=tap)
      kept:
        state: [past, model]
        A: shift(past)
        input: x
        C: softmax(dot(x * style, window(x, past), over=model), over=past)
      held: hold(style, every=2) + delay(style)
      y: faded + expanded + filtered + kept + held + tanh(delay(y) + style)
    output: y
  block:
    input: {x: [model], memory: [slot, model]}
    graph:
      y: x + attention(x, memory) + memories(x, memory)
    output: y
  lm:
    input: {target: token, source: {token: slot}}
    graph:
      memory: encoder(source)
      x:
        stack: [block]
        times: 2
        input: embed(target, vocab, model)
        with: {memory: memory}
    output: {x: x, memory: memory}
main: lm
"""


def spec(component: str = "lm") -> Spec:
    return Spec(ssir.loads(SPEC).module, component, {})


@pytest.mark.parametrize("component", ["lm", "encoder", "memories"])
def test_every_form_agrees_with_the_meaning(component: str) -> None:
    report = ssir.verify(spec(component), steps=(1, 7), every_form=component == "memories")
    assert report.ok, [row for row in report.worst() if not row.ok]


def test_a_whole_sequence_is_given_whole_to_every_step() -> None:
    model = ssir.compile(spec(), dtype=torch.float64)
    xs = inputs(model.graph, 2, 5)
    assert [x.shape for x in xs] == [(2, 5), (2, 6)]
    y, _ = model(*xs)
    assert y["x"].shape == (2, 5, 4)
    assert y["memory"].shape == (2, 5, 6, 4)
    state = None
    for t in range(5):
        step, state = model.step(*at(model.graph, xs, t), state=state)
        assert torch.allclose(step["x"], y["x"][:, t], atol=1e-12)
        assert torch.allclose(step["memory"], y["memory"][:, t])


def test_its_order_and_its_length_matter() -> None:
    model = ssir.compile(spec(), dtype=torch.float64)
    target, source = inputs(model.graph, 1, 4)
    outputs = [first(model(target, one)[0]) for one in (source, source.roll(1, 1), source[:, :5])]
    assert not torch.allclose(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


def test_a_model_of_whole_sequences_alone_has_no_time() -> None:
    model = ssir.compile(spec("encoder"), dtype=torch.float64)
    (source,) = inputs(model.graph, 2, 5)
    y, state = model(source)
    assert y.shape == (2, 6, 4) and not state
    assert torch.equal(model.step(source)[0], y)
    wanted, _ = ssir.reference(model, source)
    assert torch.allclose(y, wanted)


def test_it_survives_a_reset() -> None:
    model = ssir.compile(spec(), dtype=torch.float64)
    xs = inputs(model.graph, 2, 6)
    reset = torch.zeros(2, 6, dtype=torch.bool)
    reset[:, 2] = True
    y, _ = model(*xs, reset=reset)
    alone, _ = model(*at(model.graph, xs, slice(2, None)))
    assert torch.allclose(y["x"][:, 2:], alone["x"], atol=1e-12)


def test_an_artifact_takes_it_as_the_model_does(tmp_path: Path) -> None:
    model = ssir.compile(spec())
    ssir.save(model, tmp_path / "two")
    xs = inputs(model.graph, 2, 5)
    assert torch.equal(first(ssir.open(tmp_path / "two")(*xs)[0]), first(model(*xs)[0]))


def test_captured_graphs_take_it_at_each_length() -> None:
    model = ssir.compile(spec("attention"))
    captured = cuda_graph.compile(model, 8, capture=lambda run, begin: run)
    for length in (3, 5):
        x, memory = torch.randn(2, 4, 4), torch.randn(2, length, 4)
        assert torch.equal(captured(x, memory)[0], model(x, memory)[0])
        assert torch.equal(captured.step(x[:, 0], memory)[0], model.step(x[:, 0], memory)[0])


def test_indices_along_two_axes_of_unknown_length_are_not_confused() -> None:
    """What only the position decides is computed once a call; lengths are not the position's to decide."""
    text = SPEC.replace("window(x, past), over=model)", "window(x, past), over=model) - 0.5 * arange(past)")
    model = ssir.compile(
        ssir.loads(text.replace("- 0.1 * far", "- 0.1 * far - 0.5 * arange(slot)")), dtype=torch.float64
    )
    xs = inputs(model.graph, 2, 9)
    assert torch.allclose(first(model(*xs)[0]), first(ssir.reference(model, *xs)[0]), atol=1e-12)


MISTAKES = {
    "{source: {tokn: slot}}": "SSIR006",
    "{source: {token: sloth}}": "SSIR011",
    "{source: {token: [slot, slot]}}": "SSIR014",
    "{source: {token: 3}}": "SSIR005",
    "{source: {}}": "SSIR007",
    "{source: [slot, vocab]}": "SSIR019",
}


@pytest.mark.parametrize("declared", MISTAKES)
def test_mistakes_in_a_declaration_are_pointed_at(declared: str) -> None:
    with pytest.raises(SpecError) as error:
        _ = Spec(ssir.loads(SPEC.replace("{source: {token: slot}}", declared, 1)).module, "encoder", {}).graph
    assert MISTAKES[declared] in [fault.code for fault in error.value.diagnostics]
    assert all(fault.span for fault in error.value.diagnostics)


def test_a_value_is_not_handed_on_as_a_token() -> None:
    with pytest.raises(SpecError, match="is a token"):
        _ = ssir.loads(SPEC.replace("encoder(source)", "encoder(0.5 * arange(slot))")).graph


def test_it_cannot_lie_along_the_slots_of_a_memory() -> None:
    with pytest.raises(SpecError, match="second unbounded dim"):
        _ = ssir.loads(SPEC.replace("past", "slot").replace(", slot: unbounded}", "}")).graph
