"""What differs between two architectures: nothing between one and itself, however it is written; and what is told of two is so."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ssir
from ssir.diff import Diff, diff
from ssir.diff.equal import fingerprint
from ssir.diff.notation import SIDES
from ssir.diff.width import equalised
from ssir.draw import shown
from ssir.ir.graph import Axis, Graph, Node, attrs
from ssir.spec.load import Spec, load, loads, zoo
from tests.small import small

NAMES = [name for name, _ in zoo()]
PAIRS = random.Random(7).sample([(a, b) for a in NAMES for b in NAMES if a != b], 40)

PLAIN = """
ssir: 1
name: plain
dims: {vocab: 11, width: 6, key: 4, value: 3, depth: 2}
components:
  mixer:
    input: {u: [width]}
    graph:
      f: sigmoid(linear(u, key, bias=true))
      k: linear(u, key)
      v: linear(u, value)
      h: {state: [key, value], A: f, B: k * (1 - f), input: v, C: "linear(u, key)"}
      y: linear(h * silu(linear(u, value)), width)
    output: y
  block:
    input: {u: [width]}
    graph: {y: "u + mixer(rms_norm(u, over=width))"}
    output: y
  lm:
    input: {tokens: token}
    graph:
      e: embed(tokens, vocab, width)
      x: {stack: [block], times: depth, input: e}
      y: linear(x, vocab)
    output: y
main: lm
"""
# The same, spelled otherwise: other names of nodes, axes and components, commuting operands the other way round.
SPELLED = """
ssir: 1
name: spelled
dims: {words: 11, model: 6, query: 4, content: 3, layers: 2}
components:
  remember:
    input: {x: [model]}
    graph:
      out: linear(silu(linear(x, content)) * memory, model)
      memory: {state: [query, content], A: keep, B: (1 - keep) * what, input: content_in, C: "linear(x, query)"}
      content_in: linear(x, content)
      what: linear(x, query)
      keep: sigmoid(linear(x, query, bias=true))
    output: out
  layer:
    input: {x: [model]}
    graph: {z: "remember(rms_norm(x, over=model)) + x"}
    output: z
  whole:
    input: {text: token}
    graph:
      logits: linear(run, words)
      run: {stack: [layer], times: layers, input: first}
      first: embed(text, words, model)
    output: logits
main: whole
"""


def coloured(found: Diff) -> bool:
    """Whether the picture shows something that one has alone."""
    body = found.draw().partition("label=<")[2]
    return any(side.line in body for side in SIDES)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_differs_between_an_architecture_and_itself(name: str) -> None:
    found = diff(small(name), small(name))
    comparison = found.comparison
    assert found.same and "nothing differs" in str(found)
    assert [section.title for section in (*comparison.states, *comparison.blocks) if not section.same] == []
    assert all(row.same for row in comparison.totals) and comparison.begins is None and not comparison.unseen
    assert not coloured(found)


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=lambda name: name)
def test_any_two_architectures_are_compared(a: str, b: str) -> None:
    found = diff(small(a), small(b))
    assert not found.same and "nothing differs" not in str(found)
    comparison = found.comparison
    sections = [*comparison.states, *comparison.blocks]
    assert not all(section.same for section in sections) or comparison.begins or comparison.unseen
    assert json.loads(json.dumps(found.record(), allow_nan=False))["same"] is False
    seen = {id(pair.a) for pair in comparison.pairs}, {id(pair.b) for pair in comparison.pairs}
    assert len(seen[0]) == len(seen[1]) == len(comparison.pairs), "a state answers to two"
    source = found.draw()
    if shutil.which("dot"):
        read = subprocess.run(["dot", "-Tcanon"], input=source, capture_output=True, text=True)
        assert read.returncode == 0 and not read.stderr, read.stderr


def test_another_spelling_is_no_difference() -> None:
    found = diff(loads(PLAIN), loads(SPELLED))
    assert found.same and "nothing differs" in str(found)
    comparison = found.comparison
    assert all(section.same for section in (*comparison.states, *comparison.blocks))
    assert not coloured(found)
    assert comparison.setting.dims == {}


@pytest.mark.parametrize("name", NAMES)
def test_names_and_the_order_of_commuting_operands_are_no_difference(name: str) -> None:
    graph = shown.canonical(small(name))
    assert fingerprint(renamed(graph)) == fingerprint(graph)


def renamed(graph: Graph) -> Graph:
    """A graph with every node, axis and body called otherwise, its nodes the other way round and commuting operands swapped."""
    axes = {axis.name for one in graph.walk() for node in one for axis in node.type.axes}
    axes |= {name for one in graph.walk() for node in one.states for name, _ in node.attrs["axes"]}

    def called(value: Any) -> Any:
        if isinstance(value, str):
            return f"{value}_q" if value in axes else value
        return tuple(map(called, value)) if isinstance(value, tuple) else value

    nodes: list[Node] = []
    for node in graph:
        inputs = [f"n {name}" for name in node.inputs]
        if node.op in ("add", "mul", "maximum", "minimum", "op.add"):
            inputs.reverse()
        kept = {key: value if node.op == "param" else called(value) for key, value in node.attrs.items()}
        if node.op == "stack":
            kept["pattern"] = tuple(f"b {body}" for body in node.attrs["pattern"])
        if node.op == "param":
            kept["key"] = f"p {node.attrs['key']}"
        own = tuple(Axis(f"{axis.name}_q", axis.size) for axis in node.type.axes)
        absent = tuple((f"{axis}_q", lag) for axis, lag in node.type.absent)
        given = replace(node.type, axes=own, absent=absent)
        nodes.append(Node(f"n {node.name}", node.op, tuple(inputs), attrs(**kept), given))
    return Graph(
        "renamed",
        {node.name: node for node in reversed(nodes)},
        tuple((f"o {label}", f"n {name}") for label, name in graph.outputs),
        {f"b {name}": renamed(body) for name, body in graph.bodies.items()},
    )


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("(1 - f)", "(f - 1)"),
        ("rms_norm(u, over=width)", "rms_norm(u, over=width, eps=1e-3)"),
        ("silu(", "gelu("),
        ("B: k * (1 - f)", 'B: "k * (1 - sigmoid(linear(u, key, bias=true)))"'),
        ("embed(tokens, vocab, width)", "embed(tokens, vocab, width, init=normal(0.5))"),
        ("linear(x, vocab)", "linear(x, vocab, tie=e)"),
        ("u + mixer", "2 * u + mixer"),
        ("input: v, C", "input: v, read: before, C"),
    ],
)
def test_a_change_is_a_difference_and_is_told(was: str, now: str) -> None:
    assert was in PLAIN
    found = diff(loads(PLAIN), loads(PLAIN.replace(was, now)))
    assert not found.same
    comparison = found.comparison
    told = [row.what for section in (*comparison.states, *comparison.blocks) for row in section.rows if not row.same]
    assert told or comparison.begins or comparison.unseen, "it differs, and nothing says how"


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ("gla", "hgrn2", "hgrn2's state is gla's with k = 1 − f"),
        ("lstm", "gru", "gru's state is lstm's with i = 1 − z"),
        ("delta_net", "gated_delta_net", "delta_net's state is gated_delta_net's with α = 1"),
        ("linear_attention", "gla", "linear_attention's state `memory` is gla's `memory` with α = 1"),
        ("rwkv5", "rwkv6", "rwkv5's state is rwkv6's with w constant"),
        ("mamba", "mamba2", "mamba2's state is mamba's with A over head in place of inner×state, "),
        ("transformer", "gpt2", "transformer's state `read` is gpt2's `read` with q = rotate(linear(x), angle), "),
        ("transformer", "sliding_window", "with 4096 slots in place of ∞"),
    ],
)
def test_what_makes_one_state_the_other_is_found(a: str, b: str, said: str) -> None:
    found = diff(a, b).comparison.sentences
    assert any(said in one for one in found), found


@pytest.mark.parametrize(("a", "b"), [("gla", "hgrn2"), ("lstm", "gru"), ("delta_net", "gated_delta_net")])
def test_what_makes_one_state_the_other_is_found_from_either_side(a: str, b: str) -> None:
    assert diff(small(a), small(b)).comparison.sentences == diff(small(b), small(a)).comparison.sentences != []


def test_what_is_put_in_is_derived_and_no_name_decides() -> None:
    text = PLAIN.replace("B: k * (1 - f)", "B: k")
    assert "plain" in text
    tied = diff(loads(text), loads(text.replace("B: k,", "B: 1 - f,").replace("name: plain", "name: tied")))
    assert tied.comparison.sentences == ["tied's state is plain's with k = 1 − f"]
    apart = text.replace("B: k,", 'B: "1 - sigmoid(linear(u, key))",').replace("name: plain", "name: apart")
    assert diff(loads(text), loads(apart)).comparison.sentences == ["apart's state is plain's"]


def test_widths_are_made_equal_and_what_was_set_is_said() -> None:
    found = diff("gla", "hgrn2")
    assert found.record()["set"] == {
        "spec": "hgrn2",
        "dims": {"model": {"was": 2048, "is": 1024}},
        "differs_still": [],
    }
    assert "hgrn2 is taken with model 1024 (by itself 2048)" in str(found)
    a, b, setting = equalised(load("transformer"), load("gpt2"))
    assert setting.changed == "transformer" and a.dims["model"] == b.dims["model"] == 768
    assert equalised(load("lstm"), load("lstm"))[2].dims == {}


def test_unlike_widths_are_told_where_they_cannot_be_made_equal() -> None:
    whole = load("lstm.mixer", model=7)
    halves = loads(
        "ssir: 1\nname: halves\ndims: {model: 8, half: model / 2}\ncomponents:\n  main:\n    input: {u: [model]}\n"
        "    graph: {y: 'linear(linear(u, half), model)'}\n    output: y\nmain: main\n"
    )
    found = diff(halves, load("lstm.mixer", model=200))
    assert found.comparison.setting.changed == "lstm.mixer"
    assert diff(whole, halves).comparison.setting.changed == "lstm.mixer"


def test_the_picture_shows_whose_a_thing_is() -> None:
    source = diff("mamba", "mamba2").draw()
    blue = [line for line in source.splitlines() if SIDES[1].line in line and "RMSNorm" in line]
    orange = [line for line in source.splitlines() if SIDES[0].line in line and "RMSNorm" in line]
    assert blue and not orange, "the norm is the second's alone"
    assert "mamba2 alone" in source and "in both" in source and "changed: above mamba, below mamba2" in source


def test_the_python_door_gives_what_the_command_prints() -> None:
    found = ssir.diff(small("lstm"), small("gru"))
    assert found.record()["sentences"] == ["gru's state is lstm's with i = 1 − z"]
    assert re.search(r"memory +lstm: c +gru: h", str(found))


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssir.cli", "diff", *arguments], cwd=cwd, capture_output=True, text=True
    )


def test_the_command_reads_files_and_components_and_writes_the_picture(tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text(PLAIN)
    (tmp_path / "spelled.yaml").write_text(SPELLED)
    done = command("plain.yaml:mixer", "spelled.yaml:remember", "-o", "x.dot", "--json", cwd=tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["same"] is True
    assert (tmp_path / "x.dot").read_text().startswith("digraph") and "wrote x.dot" in done.stderr
    done = command("lstm", "gru", "--set", "model=12", cwd=tmp_path)
    assert done.returncode == 0 and "model 12" in done.stdout and done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mamba", "mambo"), "no spec is called `mambo`; the nearest is `mamba`"),
        (("mamba", "lstm", "-o", "x.bmp"), "`x.bmp` ends in no kind of picture"),
        (("mamba", "lstm", "--set", "modle=3"), "the nearest is `model`"),
        (("mamba",), "SPEC"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and done.stdout == "" and "Traceback" not in done.stderr


def test_a_spec_given_is_taken_as_it_is() -> None:
    spec = small("gla")
    assert isinstance(spec, Spec) and diff(spec, spec).comparison.a.spec is spec
