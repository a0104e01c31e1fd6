"""Poles and half-lives, held against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssir.analyze import jacobian
from ssir.analyze import poles as poles_of
from ssir.analyze.poles import Poles, five, half_lives, poles, spread
from ssir.analyze.subject import Subject
from ssir.spec.load import Spec, load
from tests.small import component, small

DIMS = "{model: 3, n: 4, n_: n, half: 2, slot: 5, head: 2, past: unbounded, vocab: 7}"


def of(spec: Spec, steps: int = 6, text: bytes | None = None) -> tuple[Subject, dict[str, Poles]]:
    subject = Subject.of(spec, text, steps, 0)
    return subject, {one.place.path: one for one in poles(subject)}


def one(graph: str, inputs: str = "{u: [model]}", steps: int = 6, name: str = "y") -> tuple[Subject, Poles]:
    subject, found = of(component(graph, inputs, DIMS), steps)
    return subject, found[name]


def system(a: str, axes: str = "n") -> str:
    """A state with this A, fed the mean of u."""
    return f"y:\n  state: [{axes}]\n  A: {a}\n  B: mean(u, over=model)"


def alike(found: np.ndarray, wanted: np.ndarray) -> None:
    """Two sets of numbers are the same, in any order."""
    left = list(np.asarray(wanted).reshape(-1))
    assert len(found) == len(left)
    for value in found:
        nearest = min(range(len(left)), key=lambda i: abs(left[i] - value))
        assert abs(left.pop(nearest) - value) < 1e-9


def test_a_moving_average_has_the_half_life_of_its_factor() -> None:
    _, found = one("y: {state: [model], A: 0.9, B: 0.1, input: u}")
    assert found.half_life == pytest.approx([math.log(0.5) / math.log(0.9)])
    assert found.record()["half_life"]["median"] == pytest.approx(6.5788, rel=1e-4)
    assert found.values == pytest.approx([0.9]) and not found.frequency.any()


def test_what_alternates_has_half_a_cycle_a_step() -> None:
    _, found = one("y: {state: [model], A: -0.5, input: u}")
    assert found.frequency == pytest.approx([0.5]) and found.half_life == pytest.approx([1.0])


def test_an_integrator_never_forgets_and_a_delay_at_once() -> None:
    _, found = of(component("h: {state: [model], input: u}\ny: h + delay(u)", "{u: [model]}", DIMS))
    assert found["h"].record()["half_life"]["min"] is None and np.isinf(found["h"].half_life).all()
    assert not found["y"].half_life.any() and found["y"].window == 1


def test_a_register_forgets_after_as_many_steps_as_it_has_slots() -> None:
    _, found = one("y: {state: [slot, model], A: shift(slot), input: u}")
    assert found.window == 5 and not found.values.any() and not found.grows
    _, delayed = of(component("y: delay(u, steps=3)", "{u: [model]}", DIMS))
    (late,) = delayed.values()
    assert late.window == 3
    _, kept = one("w: {state: [past, model], A: shift(past), input: u}\ny: sum(w, over=past)", name="w")
    assert kept.window is None and kept.grows


def test_a_shift_that_is_fed_in_every_slot_is_found_out() -> None:
    _, found = one("y: {state: [slot, model], A: shift(slot), B: 'param([slot], init=ones)', input: u}")
    assert found.window == 5 and not found.values.any() and found.place.facts.structure.kind == "general"


def test_what_grows_is_told() -> None:
    _, found = one("y: {state: [model], A: 1.1, input: u}")
    assert found.unstable == 1.0 and found.record()["half_life"]["max"] is None


def test_a_matrix_has_its_eigenvalues() -> None:
    subject, found = one(system("dense(param([n, n_], init=normal(0.5), name=m), over=n)"))
    alike(found.values, np.linalg.eigvals(subject.params["m"].numpy()))


def test_equal_eigenvalues_of_a_triangular_matrix_stay_equal() -> None:
    rows = "[[0.5, 0, 0, 0], [1, 0.5, 0, 0], [1, 1, 0.5, 0], [1, 1, 1, 0.5]]"
    _, found = one(system(f"dense(array({rows}, [n, n_]), over=n)"))
    assert (found.values == 0.5).all() and len(found.values) == 4


def test_a_diagonal_plus_rank_one_has_the_eigenvalues_of_the_matrix() -> None:
    p, q = (f"param([head, n], init=normal(0.3), name={name})" for name in "pq")
    a = f"param([head, n], init=uniform(0.2, 0.9), name=w) - outer({p}, {q}, over=n)"
    subject, found = one(system(a, "head, n"))
    w, left, right = (subject.params[name].numpy() for name in "wpq")
    wanted = [np.linalg.eigvals(np.diag(w[i]) - np.outer(left[i], right[i])) for i in range(2)]
    alike(found.values, np.concatenate(wanted))


def test_products_of_operators_act_from_right_to_left() -> None:
    p, q = (f"param([n], init=normal(0.3), name={name})" for name in "pq")
    subject, found = one(system(f"(1 - outer({p}, {q}, over=n)) * param([n], init=uniform(0.2, 0.9), name=w)"))
    w, left, right = (subject.params[name].numpy() for name in "wpq")
    alike(found.values, np.linalg.eigvals((np.eye(4) - np.outer(left, right)) @ np.diag(w)))


def test_a_rotation_turns_by_its_angle() -> None:
    subject, found = one(system("0.5 * rotate(param([half], init=uniform(0, 3), name=angle), over=n)"))
    angle = subject.params["angle"].numpy()
    alike(found.values, 0.5 * np.exp(1j * np.concatenate([angle, -angle])))
    alike(found.frequency, np.repeat(angle, 2) / (2 * np.pi))


def test_the_poles_of_s4d_are_exponentials_of_rates_times_steps() -> None:
    subject, found = of(small("s4d"))
    for layer in range(2):
        p = {name: subject.params[f"x.{layer}.y.mixer.{name}"] for name in ("log_dt", "log_rate", "frequency")}
        wanted = torch.exp(torch.exp(p["log_dt"])[:, None] * torch.complex(-torch.exp(p["log_rate"]), p["frequency"]))
        alike(found[f"x.{layer}.y.mixer.s"].values, wanted.numpy())


def test_the_poles_of_lru_lie_in_the_ring_that_they_are_drawn_from() -> None:
    _, found = of(load("lru", None, hidden=50, model=4, layers=1, r_min=0.6, r_max=0.9))
    size = found["x.0.y.mixer.h"].magnitude
    assert len(size) == 50 and 0.6 <= size.min() < 0.7 and 0.8 < size.max() <= 0.9
    assert found["x.0.y.mixer.h"].frequency.max() > 0.3


def test_a_mass_on_a_spring_swings_at_its_frequency() -> None:
    spec = load("mass_spring")
    constants = spec.module.constants
    _, found = of(spec)
    turn = 2 * math.atan(math.sqrt(constants["spring"] / constants["mass"]) * constants["dt"] / 2)  # bilinear
    assert found["displacement"].magnitude == pytest.approx([1, 1], abs=1e-14)
    assert found["displacement"].frequency == pytest.approx([turn / (2 * math.pi)] * 2, rel=1e-12)
    _, rubbed = of(load("mass_spring.sampled", None, friction=0.2))
    assert rubbed["displacement"].magnitude == pytest.approx([math.exp(-0.2 / 2 * 0.1)] * 2)


def test_legs_slows_down_as_the_past_grows() -> None:
    """A[t] is I - M / (t + 1) by a bilinear step, so that the slowest pole is the first of M, 1, at the last position."""
    _, found = of(small("hippo_legs"), steps=40)
    assert found["memory"].steps == 40
    assert found["memory"].magnitude.max() == pytest.approx((1 - 0.5 / 40) / (1 + 0.5 / 40), rel=1e-9)


def test_a_stabiliser_forgets_as_what_it_is_the_logarithm_of() -> None:
    _, found = one("y: {state: [model], A: -0.5, input: u, algebra: max_plus}")
    assert found.values == pytest.approx([math.exp(-0.5)])


def test_quartiles_are_values_and_what_is_shown_is_evenly_spaced() -> None:
    assert five(np.array([3, 0, 1, 2, 8, 4, 5, 7, np.inf])) == {"min": 0, "q1": 2, "median": 4, "q3": 7, "max": None}
    assert list(spread(np.arange(11), 3)) == [0, 5, 10] and list(spread(np.arange(3), 3)) == [0, 1, 2]
    assert list(half_lives(np.array([0, 0.5, -0.5j, 1 - 1e-13, 2]))) == [0, 1, 1, np.inf, np.inf]


def test_an_angle_of_rounding_is_none() -> None:
    _, found = one("y: {state: [model], A: 0.9, input: u}")
    assert list(replace(found, values=np.array([0.5 + 1e-17j, 0.5j])).frequency) == [0, 0.25]


# A that moves


def test_a_gate_is_looked_at_at_every_step() -> None:
    subject, found = one("y: {state: [model], A: sigmoid(u), input: u}", steps=9)
    alike(found.values, torch.sigmoid(subject.inputs["u"]).numpy())
    told: list[str] = []
    poles(subject, told.append)
    assert (told[0], told[-1], len(told)) == ("step 1", "step 9", 9)
    assert found.steps == 9 and found.entries == found.looked == 3


def test_a_text_is_read_a_token_a_byte() -> None:
    graph = "e: embed(tokens, vocab, model)\ny: {state: [model], A: sigmoid(e), input: e}"
    subject, found = of(component(graph, "{tokens: token}", DIMS), 5, b"abc")
    table = subject.params["e.weight"]
    alike(found["y"].values, torch.sigmoid(table[torch.tensor(list(b"abc")) % 7]).numpy())
    assert "3 bytes of the text, modulo 7" in subject.words
    longer, _ = of(component(graph, "{tokens: token}", DIMS), 5, b"abcdefghi")
    assert longer.inputs["tokens"].shape == (1, 5)


def test_where_no_input_is_a_token_the_text_is_not_read() -> None:
    subject, found = of(component("y: {state: [model], A: sigmoid(u), input: u}", "{u: [model]}", DIMS), 5, b"abc")
    assert found["y"].steps == 5 and "no input is a token" in subject.words


def test_a_gate_by_the_position_is_looked_at_without_a_run() -> None:
    subject, found = one("y: {state: [model], A: 'where(position % 3 < 1, 0, 1)', input: u}", steps=6)
    assert list(found.values) == [0, 1, 1, 0, 1, 1] and not any(place.moves for place in subject.places)


def test_what_is_not_finite_is_left_and_told() -> None:
    _, found = one("y: {state: [model], A: 1 / position, input: u}", steps=3)
    assert found.unknown == "A is not finite at 1 of 3 steps" and list(found.values) == [1, 0.5]
    _, found = one("y: {state: [model], A: 1 / (u - u), input: u}", steps=3)
    assert found.unknown == "A is not finite at 3 of 3 steps" and found.record()["half_life"] is None


def test_the_layers_of_a_stack_have_poles_of_their_own() -> None:
    _, found = of(small("one_pole"))
    assert list(found) == ["x.0.y.mixer.memory", "x.1.y.mixer.memory"]
    first, second = found.values()
    assert first.place.kind == second.place.kind and not np.allclose(first.values, second.values)


def test_too_large_a_matrix_is_left_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poles_of, "LARGEST", 3)
    _, found = one(system("dense(param([n, n_], init=normal(0.5), name=m), over=n)"))
    assert found.unknown is not None and "4 rows" in found.unknown and found.record()["half_life"] is None


# What feeds back


def test_a_classic_cell_has_the_jacobian_of_its_step() -> None:
    """h = tanh(W h + u): the Jacobian is diag(1 - h^2) W."""
    graph = "h: tanh(linear(delay(h), n) + linear(u, n))\ny: h"
    spec = component(graph, "{u: [model]}", DIMS)
    subject, found = of(spec, 5)
    ((path, delay),) = found.items()
    assert path.endswith("delay") and delay.jacobian is not None and delay.jacobian.at == (1, 2, 3, 4)
    w, v = (value for name, value in subject.params.items() if name.endswith("weight"))
    if w.shape != (4, 4):
        w, v = v, w
    h = torch.zeros(4, dtype=torch.float64)
    for t in range(5):
        h = torch.tanh(w @ h + v @ subject.inputs["u"][0, t])
        if t:
            wanted = torch.linalg.eigvals((1 - h**2)[:, None] * w).numpy()
            alike(delay.jacobian.values[t - 1], wanted)
            assert delay.jacobian.radius[t - 1] == pytest.approx(abs(wanted).max())


def test_the_gate_of_a_cell_and_its_cycle_are_both_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = of(small("lstm"))
    cell = found["x.0.c"]
    assert cell.jacobian is not None and cell.jacobian.states == ("m", "c") and cell.jacobian.size == 12
    assert cell.magnitude.min() > 0 and cell.magnitude.max() < 1 and cell.steps == 6
    monkeypatch.setattr(jacobian, "LARGEST", 11)
    _, found = of(small("lstm"))
    cell = found["x.0.c"]
    assert cell.jacobian is not None and "12 numbers" in (cell.jacobian.unknown or "") and cell.values.size
