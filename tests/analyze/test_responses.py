"""Impulse and frequency responses, held against the reference's response to an impulse, and against its Fourier transform."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssir.analyze import responses as module
from ssir.analyze.channel import Channel
from ssir.analyze.responses import FREQUENCIES, Response, decibels, responses
from ssir.analyze.subject import Place, Subject
from ssir.ir.graph import Graph, attrs
from ssir.reference.interpreter import Clock, Frame
from ssir.spec.load import Spec, zoo
from tests.small import SMALL, component, small

DIMS = "{model: 3, wide: 2, n: 4, n_: n, slot: 5, vocab: 7}"
LAGS = 12


def of(spec: Spec) -> tuple[Response, ...]:
    return responses(Subject.of(spec, None, 1, 0))


def one(graph: str) -> Response:
    (found,) = of(component(graph, "{u: [model]}", DIMS))
    return found


def alone(place: Place) -> Graph:
    """The state by itself: its x is an input, all else that it needs is constant."""
    graph, x = place.graph, place.node.role("x")
    assert x is not None
    keep, todo = {place.node.name}, [name for name in place.node.inputs if name != x]
    while todo:
        name = todo.pop()
        if name not in keep:
            keep.add(name)
            todo += graph[name].inputs
    fed = replace(graph[x], op="input", inputs=(), attrs=attrs())
    nodes = [fed if node.name == x else node for node in graph if node.name in keep | {x}]
    return graph.with_nodes(nodes, (("y", place.node.name),))


def ran(place: Place, x: Tensor) -> Tensor:
    """The readout [steps, *axes] of inputs [1, steps, *axes], by the reference."""
    frame = place.frame
    by_itself = Frame(frame.whole, alone(place), frame.prefix, frame.owner, frame.layer, 1)
    moments = [Clock(torch.tensor([t]), None, torch.zeros(1, 0, dtype=torch.long)) for t in range(x.shape[1])]
    with torch.no_grad():
        outputs, _ = by_itself.sequence({str(place.node.role("x")): x}, {}, moments)
    return outputs["y"][0]


def struck(channel: Channel) -> np.ndarray[Any, Any]:
    """The reference's response at a channel to an impulse at the same place, less what it does without one."""
    place = channel.place
    axes = place.graph[str(place.node.role("x"))].type.axes
    x = torch.zeros(1, LAGS, *(axis.size or 1 for axis in axes), dtype=torch.float64)
    x[(0, 0, *(channel.at.get(axis.name, slice(None)) for axis in axes))] = 1
    y = ran(place, x) - ran(place, torch.zeros_like(x))
    for name in place.node.type.names:
        y = y[:, channel.at[name]]
    found: np.ndarray[Any, Any] = y.to(torch.complex128).numpy()
    return found.real + 0j if channel.real else found


CONSTANT = [name for name, _ in zoo() if name in SMALL]


@pytest.mark.parametrize("name", CONSTANT)
def test_impulse_responses_are_those_of_the_reference(name: str) -> None:
    for response in of(small(name)):
        assert response.channels and response.unknown is None
        for channel in response.channels.values():
            assert channel.impulse(LAGS) == pytest.approx(struck(channel), abs=1e-12), response.kind


def test_the_zoo_has_systems_of_every_kind() -> None:
    counts = {
        name: len(of(small(name))) for name in ("s4", "s4d", "dss", "gss", "h3", "lru", "hyena", "hippo_legt", "mamba")
    }
    assert (
        counts["s4"] == 2
        and counts["h3"] >= 2
        and counts["hyena"] == 2
        and counts["mamba"] == 1
        and all(counts.values())
    )
    assert not of(small("transformer")) and not of(small("hippo_legs")) and not of(small("retnet"))


@pytest.mark.parametrize("name", ["s4", "s4d", "lru", "hyena", "hippo_legt", "one_pole", "h3", "fir_attention"])
def test_frequency_responses_are_fourier_transforms_of_impulse_responses(name: str) -> None:
    looked = 0
    for response in of(small(name)):
        for channel in response.channels.values():
            if channel.half_life > 120:
                continue
            count = 8192
            wanted = np.fft.fft(channel.impulse(count))[: count // 2 + 1]
            found = channel.frequency(np.arange(count // 2 + 1) / count)
            assert found == pytest.approx(wanted, abs=1e-9 * max(1, abs(wanted).max()))
            looked += 1
    assert looked


def test_a_moving_average_has_its_textbook_responses() -> None:
    found = one("y: {state: [model], A: 0.9, B: 0.1, input: u}")
    (channel,) = found.channels.values()
    assert channel.impulse(5) == pytest.approx(0.1 * 0.9 ** np.arange(5))
    assert channel.frequency(np.array([0.0, 0.5])) == pytest.approx([1, 0.1 / 1.9])
    assert decibels(np.array([10.0])) == pytest.approx([20])


def test_an_integrator_has_a_pole_at_rest() -> None:
    (channel,) = one("y: {state: [model], input: u}").channels.values()
    assert not np.isfinite(channel.frequency(np.array([0.0]))).any()
    assert channel.frequency(np.array([0.5])) == pytest.approx([0.5])
    assert channel.impulse(4) == pytest.approx(np.ones(4))


def test_a_matrix_that_mixes_inputs_is_asked_for_one_at_a_time() -> None:
    text = "y:\n  state: [n]\n  A: dense(param([n, n_], init=normal(0.4), name=m), over=n)\n  input: linear(u, n)"
    found = one(text)
    m = found.channels["first"].place.frame.whole.params["m"].numpy()
    assert [channel.at for channel in found.channels.values()] == [{"n": 0}, {"n": 3}]
    for channel in found.channels.values():
        i = channel.at["n"]
        assert channel.impulse(6) == pytest.approx([np.linalg.matrix_power(m, lag)[i, i] for lag in range(6)])


@pytest.mark.parametrize("read", ["before", "after"])
def test_what_reads_before_and_what_feeds_through_is_heard(read: str) -> None:
    for text in (
        f"y:\n  state: [n, model]\n  A: param([n], init=uniform(0.1, 0.8), name=a)\n  input: u\n  C: param([n, model, wide], init=normal(1))\n  D: param([model], init=normal(1))\n  read: {read}",
        f"y:\n  state: [slot, model]\n  A: shift(slot)\n  input: u\n  B: param([model], init=normal(1))\n  C: param([slot, model], init=normal(1))\n  D: 2\n  read: {read}",
    ):
        found = one(text)
        for channel in found.channels.values():
            assert channel.impulse(LAGS) == pytest.approx(struck(channel), abs=1e-12)
            assert channel.before == (read == "before") and channel.d


def test_inputs_that_b_uses_up_are_fed_all_at_once() -> None:
    (channel, *_) = one(
        "y:\n  state: [n]\n  A: 0.5\n  B: param([n, model], init=normal(1), name=b)\n  input: u"
    ).channels.values()
    b = channel.place.frame.whole.params["b"].numpy()
    assert channel.impulse(2) == pytest.approx([b[channel.at["n"]].sum(), b[channel.at["n"]].sum() / 2])


def test_the_channels_are_those_of_least_middle_and_most_memory() -> None:
    found = one("y: {state: [model], A: 'param([model], init=0.9 - 0.4 * arange(model), name=a)', input: u}")
    lives = {name: channel.half_life for name, channel in found.channels.items()}
    assert list(lives) == ["shortest", "median", "longest"]
    assert lives["shortest"] < lives["median"] < lives["longest"]
    assert [channel.at["model"] for channel in found.channels.values()] == [2, 1, 0]
    a = "param([model], init=0.3 + 0.2 * arange(model) * (arange(model) - 1))"  # 0.3, 0.3, 0.7
    two = one(f"y: {{state: [model], A: '{a}', input: u}}").channels
    assert list(two) == ["shortest", "median", "longest"] and two["longest"].at == {"model": 2}


def test_what_is_no_constant_system_has_none() -> None:
    for text in (
        "y: {state: [model], A: sigmoid(u), input: u}",
        "y: {state: [model], A: 0.5, B: u, input: u}",
        "y: {state: [slot, model], A: shift(slot), input: u}",
        "y: {state: [model], A: 1 / (position + 1), input: u}",
        "y: {state: [model], A: -0.5, input: u, algebra: max_plus}",
        "y: delay(u)",
        "y: {state: [model], A: 0.5, B: 1, input: 1}\nz: y + u",
    ):
        assert not of(component(text, "{u: [model]}", DIMS)), text


def test_too_large_a_system_is_left_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 3)
    text = (
        "y:\n  state: [n, model]\n  A: param([n], init=uniform(0.1, 0.8))\n  input: u\n  C: param([n], init=normal(1))"
    )
    found = one(text)
    assert not found.channels and "4 entries" in (found.unknown or "")


def test_of_a_register_all_is_told_and_of_what_has_no_end_what_is_left() -> None:
    lags = {
        name: next(iter(of(small(name))[0].channels.values())).lags for name in ("mamba", "fir_attention", "integrator")
    }
    assert lags == {"mamba": 4, "fir_attention": 5, "integrator": 1024}  # the second reads its register before
    (channel,) = one("y: {state: [model], A: 0.9, B: 0.1, input: u}").channels.values()
    assert channel.lags == 64 and abs(channel.impulse(64)[-1]) < 0.02 * abs(channel.impulse(1)[0])


def test_the_record_has_every_number() -> None:
    record = one("y: {state: [model], A: 0.5, B: 0.5, input: u}").record()
    (channel,) = record["channels"]
    assert record["frequencies"] == pytest.approx(list(FREQUENCIES)) and len(channel["decibels"]) == len(FREQUENCIES)
    assert channel["impulse"][:3] == [0.5, 0.25, 0.125] and channel["impulse_imag"] is None
    assert channel["phase"][-1] == pytest.approx(0, abs=1e-9) and channel["half_life"] == pytest.approx(1)
