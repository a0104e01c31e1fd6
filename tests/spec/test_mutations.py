"""Specs that are wrong in ways that nobody thought of: only our own errors come out, and soon."""

import re
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ssir.errors import SpecError, UsageError
from ssir.ir.text import parse, render
from ssir.spec.check import check
from ssir.spec.load import loads, zoo
from ssir.spec.resolve import resolved

ZOO = {name: path.read_text("utf-8") for name, path in zoo()}
ENDLESS = 60.0  # seconds of the processor, on a machine of any speed
WORDS = [
    *"u x y h s dt model inner state head key slot layers vocab tokens n n_ past".split(),
    *"shift outer dense rotate delay window hold context param linear embed".split(),
    *"softmax dot sum mean rms_norm exp where complex select slice split merge".split(),
    *"position start layer true false 0 1 -1 2 0.5 1e300 2147483648 4294967296 1e-300".split(),
    *"( ) [ ] , + - * / ** % < == = over= init= axis= steps= share= tie= bias=".split(),
]
expressions = st.lists(st.sampled_from(WORDS), min_size=1, max_size=14).map(" ".join)
scalars: st.SearchStrategy[Any] = st.one_of(
    expressions,
    st.sampled_from(
        [None, True, False, 0, -1, 1, 2**31, 2**53, 1e300, 0.5, "", "unbounded", "token", [], {}, ["model", "model"]]
    ),
)


def outcome(text: str) -> str:
    """What becomes of a spec: good, or the codes of what is wrong. Everything else escapes."""
    started = time.process_time()
    try:
        spec = loads(text, "f.yaml")
        check(spec)
        render(spec.graph)
        resolved(spec)
        found = "good"
    except SpecError as error:
        assert error.diagnostics and str(error)
        found = " ".join(sorted({fault.code for fault in error.diagnostics}))
    except UsageError:
        found = "usage"
    assert time.process_time() - started < ENDLESS
    return found


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(data, dict):
        for key, value in data.items():
            found += places(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            found += places(value, (*path, index))
    return found


def changed(data: Any, path: tuple[Any, ...], how: str, new: Any) -> None:
    """Change the value at a path in place."""
    *parents, last = path
    for part in parents:
        data = data[part]
    if how == "delete":
        del data[last]
    elif how == "rename" and isinstance(data, dict):
        data[str(new)[:20]] = data.pop(last)
    elif how == "swap" and isinstance(data, dict):
        other = sorted(data, key=str)[0]
        data[last], data[other] = data[other], data[last]
    else:
        data[last] = new


@settings(max_examples=80)
@given(st.sampled_from(sorted(ZOO)), st.data())
def test_a_spec_with_values_deleted_renamed_or_replaced_is_good_or_refused(name: str, data: st.DataObject) -> None:
    spec = yaml.safe_load(ZOO[name])
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(spec)))
        how = data.draw(st.sampled_from(["delete", "rename", "swap", "replace", "replace"]))
        changed(spec, path, how, data.draw(scalars))
        if not places(spec):
            return
    outcome(yaml.safe_dump(spec, sort_keys=False))


@settings(max_examples=80)
@given(st.sampled_from(sorted(ZOO)), st.data())
def test_a_spec_with_another_expression_is_good_or_refused(name: str, data: st.DataObject) -> None:
    text = ZOO[name]
    found = data.draw(st.sampled_from(list(re.finditer(r"(?<=: )[^\n{]+\(.*\)", text))))
    kept = found.group()
    at = data.draw(st.integers(0, len(kept)))
    mutant = data.draw(
        st.sampled_from(
            [
                kept[:at] + kept[at + 1 :],
                kept[:at] + data.draw(st.sampled_from(WORDS)) + kept[at:],
                kept.replace(
                    *data.draw(st.sampled_from([("model", "inner"), ("over=", ""), (", ", ","), ("(u", "(v")]))
                ),
                data.draw(expressions),
            ]
        )
    )
    outcome(text[: found.start()] + "'" + mutant.replace("'", "") + "'" + text[found.end() :])


@settings(max_examples=50)
@given(st.sampled_from(sorted(ZOO)), st.data())
def test_a_spec_with_other_sizes_is_good_or_refused(name: str, data: st.DataObject) -> None:
    spec = yaml.safe_load(ZOO[name])
    for dim in data.draw(st.lists(st.sampled_from(sorted(spec["dims"])), min_size=1, max_size=3)):
        size = data.draw(st.sampled_from([-(2**31), -1, 0, 1, 2, 3, 7, 2**20, 2**31, 2**31 + 1, 2**53, "unbounded"]))
        spec["dims"][dim] = size
    outcome(yaml.safe_dump(spec, sort_keys=False))


@settings(max_examples=80)
@given(st.dictionaries(st.sampled_from(["a", "b", "y", "a, b", "u"]), expressions, min_size=1))
def test_a_graph_of_random_words_is_good_or_refused(nodes: dict[str, str]) -> None:
    spec = {
        "ssir": 1,
        "name": "t",
        "dims": {"model": 4, "n": 3, "key": 2, "head": 2, "past": "unbounded"},
        "components": {"m": {"input": {"u": ["model"], "x": ["head", "key"]}, "graph": nodes, "output": "y"}},
        "main": "m",
    }
    outcome(yaml.safe_dump(spec, sort_keys=False))


def calls() -> st.SearchStrategy[str]:
    """Expressions that parse, and often mean something."""
    leaves = st.sampled_from(
        "u x y b delay(y) delay(b) position start layer 0 1 2 -1 0.5 model past param([n]) param([model])".split()
    )
    axes = st.sampled_from("model n key head past n_ [n,n_] [head,key] [model]".split())

    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        two = st.tuples(inner, inner)
        with_axis = st.tuples(
            st.sampled_from(
                "sum mean max softmax rms_norm layer_norm l2_norm group_norm linear window split context".split()
            ),
            inner,
            axes,
        )
        return st.one_of(
            st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**", "%", "<", "=="]), inner).map(
                lambda t: f"({t[0]} {t[1]} {t[2]})"
            ),
            st.tuples(st.sampled_from("exp sigmoid tanh abs real imag square stop_gradient".split()), inner).map(
                lambda t: f"{t[0]}({t[1]})"
            ),
            with_axis.map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
            st.tuples(two, axes).map(lambda t: f"dot({t[0][0]}, {t[0][1]}, over={t[1]})"),
            st.tuples(two, axes).map(lambda t: f"outer({t[0][0]}, {t[0][1]}, over={t[1]})"),
            st.tuples(two, axes).map(lambda t: f"concat([{t[0][0]}, {t[0][1]}], {t[1]})"),
            two.map(lambda t: f"where({t[0]} > {t[1]}, {t[0]}, {t[1]})"),
            two.map(lambda t: f"complex({t[0]}, {t[1]})"),
            st.tuples(inner, axes).map(lambda t: f"dense({t[0]}, over={t[1]})"),
            st.tuples(inner, axes, st.integers(-1, 5)).map(lambda t: f"slice({t[0]}, {t[1]}, stop={t[2]})"),
            st.tuples(inner, axes, inner).map(lambda t: f"select({t[0]}, {t[1]}, {t[2]})"),
            st.tuples(inner, axes, axes).map(lambda t: f"merge({t[0]}, {t[1]}, {t[2]})"),
            axes.map(lambda axis: f"shift({axis})"),
            axes.map(lambda axis: f"eye({axis})"),
            st.tuples(inner, st.integers(0, 3)).map(lambda t: f"hold({t[0]}, every={t[1]})"),
            st.tuples(st.sampled_from(["cumsum", "cummean", "cummax"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
            st.tuples(st.sampled_from(["matmul", "solve"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]}, n)"),
        )

    return st.recursive(leaves, larger, max_leaves=6)


@settings(max_examples=200)
@given(calls(), calls(), st.dictionaries(st.sampled_from(["A", "B", "input", "C", "D", "initial"]), calls()), st.data())
def test_a_graph_of_random_calls_is_good_or_refused(y: str, b: str, parts: dict[str, str], data: st.DataObject) -> None:
    state: dict[str, Any] = {
        "state": data.draw(st.sampled_from([["model"], ["n", "model"], ["n"], ["past", "model"]])),
        **parts,
    }
    if data.draw(st.booleans()):
        state["read"] = "before"
    if data.draw(st.integers(0, 4)) == 0:
        method = data.draw(st.sampled_from(["zoh", "bilinear", "euler"]))
        state["discretize"] = {"method": method, "dt": data.draw(calls())}
    if data.draw(st.integers(0, 4)) == 0:
        state["algebra"] = "max_plus"
    spec = {
        "ssir": 1,
        "name": "t",
        "dims": {"model": 4, "n": 3, "key": 2, "head": 2, "past": "unbounded"},
        "components": {
            "m": {
                "input": {"u": ["model"], "x": ["head", "key"]},
                "graph": {"s": state, "b": b, "y": f"({y}) + s" if data.draw(st.booleans()) else y},
                "output": "y",
            }
        },
        "main": "m",
    }
    outcome(yaml.safe_dump(spec, sort_keys=False))


@pytest.mark.parametrize("name", ["griffin", "mamba"])
def test_every_line_of_a_spec_can_be_lost(name: str) -> None:
    lines = ZOO[name].splitlines()
    kinds = {outcome("\n".join(lines[:i] + lines[i + 1 :])) for i in range(len(lines))}
    assert "good" in kinds and len(kinds) > 3


def test_the_text_of_the_ir_of_a_mutant_parses_too() -> None:
    graph = loads(ZOO["mamba"].replace("exp(dt *", "exp(2 * dt *")).graph
    assert parse(render(graph)) == graph
