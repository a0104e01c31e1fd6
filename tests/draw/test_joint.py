"""States that feed one another, drawn as one: the blocks of the matrix are those of what is computed."""

from __future__ import annotations

import pytest
import torch

from ssir.draw import draw, shown
from ssir.draw.joint import Joint, joints
from ssir.draw.picture import Shade
from ssir.reference.interpreter import Interpreter
from ssir.spec.load import Spec, load, loads
from tests.oracles.compare import parameters, random_like

SPEC = """
ssir: 1
name: two
dims: {{n: 4, slot: {slot}, pole: 2}}
components:
  mixer:
    input: {{u: [n]}}
    graph:
{graph}
    output: y
main: mixer
"""


def two(*lines: str, slot: int = 3) -> Spec:
    return loads(SPEC.format(graph="\n".join(f"      {line}" for line in lines), slot=slot))


def joint(spec: Spec) -> Joint:
    [part] = shown.mixers(spec)
    [one] = joints(part.graph, part.title, part.symbols)
    return one


def texts(one: Joint) -> list[list[str]]:
    return [[entry.text for entry in row] for row in one.matrix]


@pytest.mark.parametrize("name", ["transmamba", "mambax"])
def test_a_block_is_empty_where_the_next_state_does_not_depend_on_the_last(name: str) -> None:
    slot, pole, model = 4, 3, 4
    spec = load(f"{name}.mixer", None, model=model, head=2, slot=slot, pole=pole)
    one = joint(spec)
    [part] = shown.mixers(spec)
    generator = torch.Generator().manual_seed(0)
    params = {
        key: random_like(torch.empty([n or 1 for n in node.type.sizes]), generator)
        for key, node in parameters(part.graph)
    }
    u = {"u": torch.randn(1, 1, model, generator=generator, dtype=torch.float64)}
    names = [node.name for node in part.graph.states]
    lines = {"s": slot, "h": pole}
    before = [torch.randn(1, lines[key], model, generator=generator, dtype=torch.float64) for key in names]

    def step(*states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # A register is kept with its newest input last.
        kept = {key: x.flip(1) if key == "s" else x for key, x in zip(names, states, strict=True)}
        _, after = Interpreter(part.graph, params).run(u, {**kept, "position": torch.tensor([slot])})
        return tuple(after[key].flip(1) if key == "s" else after[key] for key in names)

    blocks = torch.autograd.functional.jacobian(step, tuple(before))
    whole = torch.cat([torch.cat([b[0, :, :, 0].abs().amax((1, 3)) for b in row], 1) for row in blocks])
    found = torch.tensor([[entry.shade is not None for entry in row] for row in one.matrix])
    assert torch.equal(whole > 0, found)


def test_a_register_that_feeds_a_recurrence() -> None:
    one = joint(load("transmamba"))
    top, bottom = texts(one)[:5], texts(one)[5:]
    assert one.rows == ("s₁", "s₂", "⋮", "s₆₃", "s₆₄", "h₁", "h₂")
    assert [row[:5] for row in top] == [
        ["0", "0", "⋯", "0", "0"],
        ["1", "0", "⋯", "0", "0"],
        ["⋮", "⋮", "⋱", "⋮", "⋮"],
        ["0", "0", "⋯", "0", "0"],
        ["0", "0", "⋯", "1", "0"],
    ]
    assert bottom == [["0", "0", "⋯", "0", "b₁", "a", "0"], ["0", "0", "⋯", "0", "b₂", "0", "a"]]
    assert [entry.text for entry in one.entering] == ["β", "0", "⋮", "0", "0", "0", "0"]
    assert one.x == "x[t]"
    assert one.matrix[1][0].shade is Shade.FIXED and one.matrix[5][4].shade is Shade.INPUT


def test_a_recurrence_that_feeds_a_register() -> None:
    one = joint(load("mambax"))
    assert texts(one)[2][:2] == ["β·c₁", "β·c₂"]
    assert [entry.text for entry in one.entering[:4]] == ["b₁", "b₂", "β", "0"]


def test_what_is_read_in_the_same_step_is_marked_and_a_function_stands_over_all_its_columns() -> None:
    one = joint(
        two(
            "conv: {state: [slot, n], A: shift(slot), input: u, C: 'param([slot, n])'}",
            "h: {state: [n], A: 0.5, B: 3, input: tanh(conv)}",
            "y: h",
        )
    )
    last = one.matrix[-1]
    assert [(entry.text, entry.span) for entry in last] == [("3·tanh(C ·)′", 3), ("0.5", 1)]
    linear = joint(
        two(
            "conv: {state: [slot, n], A: shift(slot), input: u, C: 'param([slot, n])'}",
            "h: {state: [n], A: 0.5, input: -conv}",
            "y: h",
        )
    )
    assert [entry.text for entry in linear.matrix[-1]] == ["−C₀′", "−C₁′", "−C₂′", "0.5"]


def test_a_register_that_turns_as_it_shifts_keeps_its_diagonal() -> None:
    one = joint(
        two(
            "w: sigmoid(linear(u, n))",
            "s: {state: [slot, n], A: w * shift(slot), input: u, read: before}",
            "h: {state: [n], A: 0.5, input: 'select(s, slot, 2)'}",
            "y: h",
        )
    )
    assert [entry.text for entry in one.entering] == ["1", "0", "0", "0"]
    assert texts(one) == [["0", "0", "0", "0"], ["w", "0", "0", "0"], ["0", "w", "0", "0"], ["0", "0", "1", "0.5"]]


def test_an_input_that_enters_every_slot_has_an_entry_in_each() -> None:
    one = joint(
        two(
            "s: {state: [slot, n], A: shift(slot), B: 'param([slot])', input: u, C: 'param([slot])'}",
            "h: {state: [n], A: 0.5, input: s}",
            "y: h",
        )
    )
    assert [entry.text for entry in one.entering] == ["B₀", "B₁", "B₂", "0"]
    assert texts(one)[1] == ["1", "0", "0", "0"]


def test_a_memory_that_feeds_itself_adds_to_its_own() -> None:
    one = joint(
        two(
            "a: delay(tanh(linear(a, n)) + b)", "b: {state: [n], A: 0.5, input: a - 2 * b0 + u}", "b0: delay(b)", "y: b"
        )
    )
    assert "tanh(W ·)" in texts(one)[0]


def test_what_is_not_summed_over_its_lines_stands_over_all_of_them() -> None:
    one = joint(
        two(
            "a: {state: [pole, n], A: 0.5, B: 'param([pole])', input: u, read: before}",
            "b: {state: [pole, n], A: 0.25, input: a / 4}",
            "y: sum(b, over=pole)",
        )
    )
    assert one.rows == ("a₁", "a₂", "b")
    assert [(entry.text, entry.span) for entry in one.matrix[2]] == [("1 / 4", 2), ("0.25", 1)]


def test_a_feed_through_lets_the_input_into_the_next_state() -> None:
    one = joint(
        two(
            "a: {state: [n], A: 0.5, input: u, D: 3, read: before}", "b: {state: [n], A: 0.25, B: 2, input: -a}", "y: b"
        )
    )
    assert texts(one) == [["0.5", "0"], ["−2", "0.25"]]
    assert [entry.text for entry in one.entering] == ["1", "−2·3"]


def test_several_inputs_are_told_in_their_rows() -> None:
    spec = loads(
        SPEC.format(
            slot=3,
            graph="      a: {state: [n], A: 0.5, input: u}\n      b: {state: [n], A: 0.5, input: a + v}\n      y: b",
        ).replace("input: {u: [n]}", "input: {u: [n], v: [n]}")
    )
    one = joint(spec)
    assert one.x == "" and [entry.text for entry in one.entering] == ["u", "v"]


def test_one_state_by_name_is_drawn_alone() -> None:
    assert "as one state" in draw(load("transmamba"), level="state")
    assert "as one state" not in draw(load("transmamba"), level="state", state="h")
    assert "as one state" not in draw(load("transformer"), level="state")
