"""Every node that reaches an output is in a picture: by itself, in a formula, or folded under a name that says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssir.draw import levels, shown, words
from ssir.draw.boxes import Fold
from ssir.draw.circuit import System
from ssir.draw.equations import system
from ssir.draw.picture import Box, Kind, Row
from ssir.draw.tree import Tree, missing
from ssir.ir.graph import Graph
from ssir.spec.load import Spec, loads, zoo
from tests.small import component, small

NAMES = sorted({name for name, _ in zoo()})
ODD = Path(__file__).parent.parent / "specs" / "odd.yaml"
# What a reader knows without being told: the words of the language and of mathematics, and what an equation is written with.
KNOWN = {
    "position",
    "start",
    "layer",
    "at",
    "where",
    "exp",
    "max",
    "min",
    "log",
    "mod",
    "norm",
    "linear",
    "b",
    "of",
    "over",
    "learned",
}
KNOWN |= {
    "h",
    "x",
    "y",
    "t",
    "A",
    "B",
    "C",
    "D",
    "pi",
    "inf",
    "conjugate",
    "matrix",
    "no",
    "gradient",
    "RMSNorm",
    "LayerNorm",
    "if",
}
KNOWN |= {"then", "else", "e", "constant"}


@pytest.mark.parametrize("name", [*NAMES, ODD])
def test_every_node_that_reaches_an_output_is_in_a_picture(name: str | Path) -> None:
    assert missing(Tree(small(str(name)))) == set()


def test_what_is_not_drawn_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fold, "_constant", lambda self, value: self.row.add(Box(value, Kind.CONSTANT, " ")))
    assert "b" in missing(
        Tree(component("y: rotate(x, position * b, over=n)\nb: param([half], name=b)", "{x: [n]}", "{n: 8, half: 4}"))
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_symbol_in_a_formula_is_defined(name: str) -> None:
    for part, row, systems in _pictures(small(name)):
        axes = {axis for node in part for axis in node.type.names}
        told, used = _row_words(row)
        assert used - told - axes - KNOWN == set(), row.title
        for one in systems:
            told, used = _system_words(one)
            assert used - told - axes - KNOWN == set(), one.title


def _pictures(spec: Spec) -> Iterator[tuple[Graph, Row, list[System]]]:
    for part in shown.mixers(spec, every=True):
        row = Fold(part.graph, Row(part.title), part.symbols).run()
        yield part.graph, row, [system(part.graph, node, part.title, part.symbols) for node in part.graph.states]


def _names(text: str) -> set[str]:
    functions = {word for said in words.FUNCTIONS.values() for word in re.findall(r"[^\W\d_]\w*", said)}
    ops = set(re.findall(r"(\w+)\(", text))
    return set(re.findall(r"(?<![\w.])[^\W\d]\w*(?:[′'])?", text.translate(_PLAIN))) - functions - ops


_PLAIN = str.maketrans("₀₁₂₃₄₅₆₇₈₉⁰¹²³⁴⁵⁶⁷⁸⁹⁻√", "                      ")


def _row_words(row: Row) -> tuple[set[str], set[str]]:
    told: set[str] = set()
    used: set[str] = set()
    for box in row.boxes.values():
        told |= _names(box.name)
        if box.kind in (Kind.PORT, Kind.MEMORY):
            told |= _names(box.label)
        elif box.kind is Kind.DELAY:
            told |= _names(box.note.partition("[")[0])
        elif box.kind is Kind.CONSTANT and not box.name:
            told |= _names(box.label) if box.label.isidentifier() else set()
            used |= _names(box.label)
        elif box.kind in (Kind.FUNCTION, Kind.CONSTANT):
            used |= _names(box.label) if "(" in box.label or "·" in box.label or " " in box.label else set()
        used |= {word for cell in box.cells for word in _names(cell.formula)}
    for wire in row.wires:
        told |= _names(wire.label) | {word for said in re.findall(r"(\S+):", wire.way) for word in _names(said)}
    return told | _defined(row.where), used | _spelled(row.where)


def _system_words(one: System) -> tuple[set[str], set[str]]:
    used = {word for c in one.coefficients.values() for word in _names(c.formula.rpartition(" = ")[2])} | _names(
        one.x[0]
    )
    own = {
        word for c in one.coefficients.values() for word in _names(c.formula.partition(" = ")[0]) if " = " in c.formula
    }
    told = own | _defined(one.where) | ({one.x[0]} if one.x[0].isidentifier() else set())
    # What is sampled is quoted from the spec.
    return told, used | _spelled(tuple(line for line in one.where if not line.startswith("sampled")))


def _defined(lines: tuple[str, ...]) -> set[str]:
    """What stands before = , or in a list of what is given."""
    found: set[str] = set()
    listed = False
    for line in lines:
        listed = line.startswith(("input:", "memory:", "learned:", "kept:")) or (listed and line.startswith(" "))
        found |= _names(line.partition(":")[2] or line) if listed else _names(line.partition(" = ")[0])
    return found


def _spelled(lines: tuple[str, ...]) -> set[str]:
    return {word for line in lines if " = " in line for word in _names(line.partition(" = ")[2])}


CASE = """
p: linear(u, [two, model])
a: tanh(select(p, two, 0))
b: sigmoid(select(p, two, 1))
lam: exp(param([], init=normal(0.1))) + 0.2
g: 2 * sigmoid(linear(u, model))
m: where(position > 3, g, 1)
old: delay(a)
y: m * (a - lam * b) + old
"""


def test_factors_selections_conditions_and_learned_scalars_can_be_read() -> None:
    spec = component(CASE, "{u: [model]}", "{model: 8, two: 2}")
    (row,) = levels.mixer_rows(spec)
    labels = {box.label for box in row.boxes.values()}
    assert {"lam·b", "2·σ(·)", "where(position > 3, g, 1)"} <= labels
    assert {"two = 0", "two = 1"} <= {wire.way for wire in row.wires}
    assert [wire.sign for wire in row.wires if wire.sign] == ["−"]
    assert row.where == ("lam = exp(w) + 0.2", "learned: w")
    (state,) = levels.systems(spec)
    assert state.x == ("a", "[model]") and state.where[:2] == ("a = tanh(p₀)", "p = linear(u)")


def test_both_halves_of_a_gate_and_slices_can_be_told_apart() -> None:
    first, second = ("slice(p, wide, 0, 4, half)", "slice(p, wide, 4, 8, half)")
    graph = f"p: linear(u, wide)\ng: {first} * sigmoid({second})\nh: {{state: [half], input: g}}\ny: h"
    (row,) = levels.mixer_rows(component(graph, "{u: [model]}", "{model: 8, wide: 8, half: 4}"))
    assert {"wide 0…3", "wide 4…7"} <= {wire.way for wire in row.wires} or any(
        "p[0:4]·σ(p[4:8])" in box.label for box in row.boxes.values()
    )


def test_what_a_caller_gives_a_component_and_a_start_of_a_delay_are_drawn() -> None:
    source = """
ssir: 1
name: given
dims: {model: 8}
components:
  inner:
    input: {u: [model], scale: [model]}
    graph:
      y: u * scale + delay(u, initial=param([model], name=first))
    output: y
  main:
    input: {u: [model]}
    graph:
      gain: exp(param([model], name=loud))
      y: u + inner(u, gain)
    output: y
main: main
"""
    spec = loads(source)
    block = Tree(spec).views[0]
    assert "exp(loud)" in block.source
    inner = next(view for view in Tree(spec).views if view.title == "given · inner")
    assert "at first first" in inner.source and "gain" in inner.source
