"""The IR as text: it says everything, and says it the same way each time."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssir.ir import Axis, Dependence, Graph, Node, Type, attrs
from ssir.ir.text import TextError, parse, render
from ssir.passes import run
from ssir.spec.load import load, zoo

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "SSIR_UPDATE_GOLDEN=1 pytest tests/ir/test_text.py"
NAMES = [name for name, _ in zoo()]
# Large enough to be themselves, small enough to be read.
READ = ["lstm", "mamba", "griffin", "transformer"]


@pytest.mark.parametrize("name", NAMES)
def test_every_spec_comes_back_from_its_text(name: str) -> None:
    for graph in (load(name).graph, run(load(name).graph)):
        again = parse(render(graph))
        assert again == graph
        assert list(again.nodes) == list(graph.nodes)
        assert render(again) == render(graph)


@pytest.mark.parametrize("name", READ)
def test_the_text_is_as_it_was(name: str) -> None:
    """What a change to the language, the passes or the text does to a spec is seen, and agreed to."""
    path = GOLDEN / f"{name}.txt"
    text = render(run(load(name).graph))
    if os.environ.get("SSIR_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    assert path.exists(), f"there is no {path.name}; write it with: {UPDATE}"
    assert path.read_text("utf-8") == text, f"the IR of {name} has changed; if that is meant: {UPDATE}"


def test_the_text_does_not_depend_on_the_process() -> None:
    script = (
        "from ssir.ir.text import render; from ssir.passes import run; from ssir.spec.load import load\n"
        + "\n".join(f"print(render(run(load({name!r}).graph)))" for name in READ)
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_a_pattern_of_layers_is_folded() -> None:
    def pattern(*names: str) -> str:
        node = Node("x", "stack", (), attrs(pattern=names, share=False), Type())
        return render(Graph("g", {"x": node}, ())).split("pattern: ")[1].split("}")[0]

    assert pattern(*["block"] * 24) == "[block ×24]"
    assert pattern(*["a", "a", "b"] * 8) == "[(a ×2, b) ×8]"
    assert pattern(*["a", "a", "b"] * 2, "a", "a") == "[(a ×2, b) ×2, a ×2]"
    assert pattern("a", "b", "b") == "[a, b ×2]"
    assert pattern("a") == "[a]"
    assert pattern() == "[]"


words = st.one_of(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,6}(\[[a-z]{1,3}\])?", fullmatch=True),
    st.text(max_size=5),
    st.sampled_from(["none", "true", "inf", "missing", "graph", "body", "->", '"', "1e5", "×", "absent", "operator"]),
)
numbers = st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none())
values = st.recursive(
    st.one_of(words, numbers),
    lambda inner: st.lists(inner, max_size=6).map(lambda items: tuple(items * 2)),
    max_leaves=8,
)
names = st.from_regex(r"[a-z_][a-z0-9_]{0,4}", fullmatch=True)
types = st.builds(
    Type,
    axes=st.lists(st.builds(Axis, names, st.none() | st.integers(1, 2**31)), max_size=3).map(tuple),
    dtype=st.sampled_from(["real", "complex", "bool", "int"]),
    dependence=st.sampled_from(Dependence),
    absent=st.lists(st.tuples(names, st.integers(0, 9)), max_size=2).map(tuple),
    operator=st.booleans(),
)


@st.composite
def nodes(draw: Any) -> Node:
    inputs = tuple(draw(st.lists(words, max_size=3)))
    op = draw(st.one_of(words, st.sampled_from(["param", "linear", "state", "stack"])))
    attributes = draw(st.dictionaries(words | st.sampled_from(["lr", "per", "read", "carried"]), values, max_size=4))
    if draw(st.booleans()):
        attributes["roles"] = tuple(draw(words) for _ in inputs)
    return Node(draw(words), op, inputs, attrs(**attributes), draw(types))


graphs: st.SearchStrategy[Graph] = st.deferred(
    lambda: st.builds(
        Graph,
        words,
        st.lists(nodes(), max_size=4).map(lambda found: {node.name: node for node in found}),
        st.lists(st.tuples(words, words), max_size=2).map(tuple),
        st.dictionaries(words, st.builds(Graph, words, st.just({}), st.just(())) | graphs, max_size=1),
    )
)


@given(graphs)
def test_any_graph_comes_back_from_its_text(graph: Graph) -> None:
    again = parse(render(graph))
    assert again == graph
    # 1 == 1.0 == True, but they are not the same attribute.
    assert render(again) == render(graph)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is nothing"),
        ("grap g", "line 1 of the IR: `graph` is expected, and there is grap"),
        ("graph g\n  x = add(a : [] real constant", "line 2 of the IR: `)` is expected"),
        ("graph g\n  x = add : [] real sometimes", "no dependence"),
        ("graph g\n  x = y : [a:b] real constant", "a count is expected"),
        ("graph g\n   x = y", "the indentation is odd"),
        ("graph g\n    x = y", "indented too far"),
        ("graph g\n  x = y : [] real input\n  x = y : [] real input", "there twice"),
        ("graph g\n  x = y {a: ;} : [] real input", "is no IR"),
        ("graph g\ngraph h", "belongs to no graph"),
        ("graph g\n  x = y {a: )} : [] real input", "a value is expected"),
        ("graph g\n  x = y : [] real input too", "is too much"),
    ],
)
def test_what_is_no_ir_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(TextError, match="(?s)" + message.replace("(", r"\(").replace(")", r"\)")):
        parse(text)


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from('graph g\n|  |x|=|(|)|[|]|{|}|:|,|->|body|×|1|"'.split("|"))).map("".join)
)
def test_any_text_is_ir_or_is_refused(text: str) -> None:
    with suppress(TextError):
        parse(text)
