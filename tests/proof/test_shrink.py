"""Other dims for a spec: what makes an op an op is left at all of them."""

from __future__ import annotations

import pytest

import ssir
from ssir import passes
from ssir.compilers.plan import plan
from ssir.ir.graph import Graph
from ssir.proof.shrink import changed, count, cut, past_a_block, shrunk
from ssir.spec.load import Spec, load, loads

ALL = """
ssir: 1
name: all
dims: {model: 64, key: 16, value: 16, half: key / 2, group: 4, kv: 8, expert: 8, active: 2, hidden: 128, window: 512}
components:
  main:
    input: {u: [model]}
    graph:
      q: rotate(linear(u, [kv, group, key]), position * arange(half), over=key)
      k: rotate(linear(u, [kv, key]), position * arange(half), over=key)
      v: linear(u, [kv, value])
      keys: window(k, window)
      values:
        state: [window, kv, value]
        A: shift(window)
        input: v
        C: softmax(dot(q, keys, over=key), over=window)
      scores: softmax(linear(u, expert), over=expert)
      y: linear(values, model) + experts(u, scores * top(scores, active, over=expert), expert, hidden, model)
    output: y
main: main
"""


def sizes(spec: Spec) -> dict[str, int]:
    return {name: int(size or 0) for name, size in spec.dims.items()}


def ops(graph: Graph) -> set[str]:
    return {node.op for one in graph.walk() for node in one}


def test_small_dims_leave_an_op_what_it_is() -> None:
    spec = loads(ALL)
    small = sizes(shrunk(spec))
    assert small["half"] >= 2, "two pairs to rotate, or a wrong order of pairs does not show"
    assert small["group"] >= 2 and small["kv"] >= 2, "more queries than keys"
    assert small["active"] < small["expert"], "fewer experts than there are"
    assert small["key"] != small["value"], "a mistaken axis shows"
    assert small["window"] < 50, "sequences go past a window"
    assert all(small[name] < sizes(spec)[name] for name in ("model", "key", "expert", "hidden", "window"))
    assert ops(shrunk(spec).graph) == ops(spec.graph)


def test_dims_past_a_block_are_multiples_of_none() -> None:
    spec = loads(ALL)
    odd = sizes(past_a_block(spec))
    for name in ("model", "hidden", "window"):
        assert odd[name] > 16 and odd[name] % 16 and odd[name] % 32 and odd[name] % 64, name
    assert count(past_a_block(spec).graph) < 300_000


def test_dims_that_the_user_set_stay() -> None:
    spec = load("transformer", None, model=64, layers=3)
    assert shrunk(spec).dims["model"] == past_a_block(spec).dims["model"] == 64


def test_a_cut_keeps_what_it_is_asked_to_keep() -> None:
    spec = load("mamba2")

    def states(one: Spec) -> list[object]:
        return [(entry.path, entry.match.form.name, entry.facts.axes) for entry in plan(passes.run(one.graph)).entries]

    less = cut(spec, lambda trial: states(trial) == states(spec))
    assert states(less) == states(spec)
    assert count(less.graph) < count(spec.graph) / 4
    assert set(changed(spec, less)) == {"vocab", "layers"}


@pytest.mark.parametrize("name", ["rope", "jamba", "gated_delta_net", "retnet", "wrope"])
def test_no_axis_of_the_zoo_becomes_one_entry(name: str) -> None:
    spec = load(name)
    before = {(one.name, node.name): node.type.sizes for one in spec.graph.walk() for node in one}
    for one in shrunk(spec).graph.walk():
        for node in one:
            for now, size in zip(node.type.sizes, before[one.name, node.name], strict=True):
                assert size is None or size == 1 or (now or 0) > 1, (node.name, size, now)


def test_a_spec_without_dims_is_left_alone() -> None:
    spec = loads(
        "ssir: 1\nname: t\ndims: {n: 2}\ncomponents:\n  m: {input: {u: [n]}, graph: {y: delay(u)}, output: y}\nmain: m\n"
    )
    assert dict(shrunk(spec).dims) == {"n": 2}
    assert ssir.verify(spec, steps=(3,)).ok
