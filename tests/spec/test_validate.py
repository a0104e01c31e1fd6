"""A document against a model: each fault once, in our words, at its place."""

import json
from enum import Enum
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from ssir.errors import Diagnostic, Report
from ssir.spec.validate import validate
from ssir.spec.yaml import read

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Leaf(Strict):
    size: tuple[str, ...]
    rate: str | float = 1.0
    mode: Literal["after", "before"] = "after"


class Pile(Strict):
    pile: list[str] = Field(min_length=1)
    times: int = Field(1, gt=0)
    with_: dict[Name, str] = Field({}, alias="with")


class Circle(Strict):
    shape: Literal["circle"]
    radius: float


class Square(Strict):
    shape: Literal["square"]
    side: float


class Root(Strict):
    name: Name
    version: Literal[1] = 1
    nodes: dict[Name, str | float | Leaf | Pile] = {}
    shapes: list[Annotated[Circle | Square, Field(discriminator="shape")]] = []
    colour: Colour = Colour.RED
    flag: bool = False
    even: int = 0

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value == 13:
            raise ValueError("Thirteen brings no luck")
        if value % 2:
            raise PydanticCustomError("SSIR018", "{value} is odd", {"value": value})
        return value


def faults(text: str) -> list[Diagnostic]:
    report = Report()
    assert validate(read(text, "f"), Root, report) is None
    return report.diagnostics


def fault(text: str) -> tuple[str, str, str, str | None]:
    """Code, message, the text that is underlined, and help of the only fault."""
    (diagnostic,) = faults(text)
    span = diagnostic.span
    assert span
    underlined = span.source.line(span.line)[span.column - 1 : span.end_column - 1]
    return diagnostic.code, diagnostic.message, underlined, diagnostic.help


def test_a_good_document_becomes_the_model() -> None:
    report = Report()
    text = "name: a\nnodes: {x: {size: [b], rate: 1}, y: {pile: [c], with: {d: e}}, z: 0.5}\ncolour: green"
    root = validate(read(text, "f"), Root, report)
    assert root and not report.diagnostics
    assert root.nodes["x"] == Leaf(size=("b",), rate=1.0)
    assert isinstance(root.nodes["y"], Pile) and root.nodes["y"].with_ == {"d": "e"}
    assert root.colour is Colour.GREEN


def test_an_unknown_key_is_pointed_at_and_the_nearest_one_named() -> None:
    assert fault("name: a\nflagg: true") == ("SSIR006", "unknown key `flagg`", "flagg", "did you mean `flag`?")


def test_where_nothing_is_near_the_keys_are_listed() -> None:
    code, message, underlined, help = fault("name: a\nnodes: {x: {pile: [a], zzz: 1}}")
    assert (code, message, underlined) == ("SSIR006", "unknown key `zzz`", "zzz")
    assert help == "the keys here are `pile`, `times`, `with`"


def test_a_missing_key_is_told_at_its_parent() -> None:
    code, message, underlined, help = fault("name: a\nnodes:\n  x: {rate: 1.5}")
    assert (code, message, underlined) == ("SSIR007", "the key `size` is missing in `x`", "x")
    assert help == "add `size: ...`"


def test_a_missing_key_of_the_file_is_told_at_its_start() -> None:
    (diagnostic,) = faults("# comment\n\nflag: true")
    assert diagnostic.message == "the key `name` is missing" and str(diagnostic.span) == "f:3:1"


def test_a_misspelt_key_is_not_also_missing() -> None:
    assert fault("nmae: a")[:2] == ("SSIR006", "unknown key `nmae`")


@pytest.mark.parametrize(
    ("text", "message", "underlined"),
    [
        ("name: 3", "expected text, found the number 3", "3"),
        ("name: a\nversion: 2", "expected 1, found the number 2", "2"),
        ("name: a\nflag: 1", "expected true or false, found the number 1", "1"),
        ("name: a\nflag: yes", "expected true or false, found the text 'yes'", "yes"),
        ("name: a\neven: 2.5", "expected a whole number, found the number 2.5", "2.5"),
        ("name: a\neven: '2'", "expected a whole number, found the text '2'", "'2'"),
        ("name: a\neven: [2]", "expected a whole number, found a list", "[2]"),
        ("name: a\nnodes: [x]", "expected a mapping, found a list", "[x]"),
        ("name: a\nnodes: {x: [y]}", "expected text, a number or a mapping, found a list", "[y]"),
        ("name: a\nnodes: {x: true}", "expected text, a number or a mapping, found the boolean true", "true"),
        ("name: a\nnodes: {x: {size: y}}", "expected a list, found the text 'y'", "y"),
        ("name: a\nnodes: {x: {size: [1]}}", "expected text, found the number 1", "1"),
        ("name: a\nnodes: {x: {pile: []}}", "expected at least 1 items, found a list", "[]"),
        ("name: a\nnodes: {x: {pile: [y], times: 0}}", "expected a number greater than 0, found the number 0", "0"),
        ("name: a\nshapes: [{shape: x}]", "expected 'circle', 'square', found the text 'x'", "x"),
        ("name: a\nshapes: [3]", "expected a mapping, found the number 3", "3"),
        ("name: a\neven: 13", "thirteen brings no luck", "13"),
        ("[]", "expected a mapping, found a list", "[]"),
        ("~", "expected a mapping, found nothing", "~"),
    ],
)
def test_a_wrong_value_says_what_was_expected_and_what_was_found(text: str, message: str, underlined: str) -> None:
    assert fault(text)[:3] == ("SSIR005", message, underlined)


def test_a_wrong_choice_names_the_nearest() -> None:
    assert fault("name: a\ncolour: gren")[1:] == (
        "expected 'red' or 'green', found the text 'gren'",
        "gren",
        "did you mean `green`?",
    )


def test_a_wrong_name_is_told_at_the_key() -> None:
    code, message, underlined, _ = fault("name: a\nnodes: {'a b': x}")
    assert (code, underlined) == ("SSIR005", "'a b'")
    assert message.startswith("expected a name: letters, digits and _")


def test_a_validator_may_bring_a_code_of_its_own() -> None:
    assert fault("name: a\neven: 3")[:3] == ("SSIR018", "3 is odd", "3")


@pytest.mark.parametrize(
    ("node", "messages"),
    [
        ("{size: [a], rat: 2}", ["unknown key `rat`"]),
        ("{sise: [a], rate: 2}", ["unknown key `sise`"]),
        ("{pile: [a], tims: 2}", ["unknown key `tims`"]),
        ("{pile: [a], times: x, size: [b]}", ["expected a whole number, found the text 'x'", "unknown key `size`"]),
        ("{mode: befor, size: [a]}", ["expected 'after' or 'before', found the text 'befor'"]),
    ],
)
def test_of_a_union_only_the_branch_that_was_meant_is_told(node: str, messages: list[str]) -> None:
    assert sorted(diagnostic.message for diagnostic in faults(f"name: a\nnodes: {{x: {node}}}")) == messages


def test_the_branch_of_a_discriminated_union_is_told() -> None:
    found = faults("name: a\nshapes: [{shape: circle, radios: 1}, {side: 1}, {shape: square, side: x}]")
    assert sorted((d.code, d.message) for d in found) == [
        ("SSIR005", "expected a number, found the text 'x'"),
        ("SSIR006", "unknown key `radios`"),
        ("SSIR007", "the key `shape` is missing"),
    ]


def test_everything_is_told_at_once() -> None:
    found = faults("nmae: a\nflag: 1\nnodes: {x: [], y: {}, '1': z}\ncolour: blue")
    assert sorted(d.code for d in found) == ["SSIR005"] * 4 + ["SSIR006", "SSIR007"]
    assert all(diagnostic.span for diagnostic in found)


keys = st.sampled_from(
    [*Root.model_fields, "with", "size", "rate", "mode", "pile", "times", "shape", "side", "x", "str", ""]
)
scalars = st.sampled_from([None, True, 0, 1, 2.5, "a", "a b", "circle", "red", "before", -1])
data = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5), max_leaves=15
)


@given(data)
@settings(max_examples=300)
def test_any_data_is_a_model_or_has_faults_with_a_place(value: object) -> None:
    report = Report()
    root = validate(read(json.dumps(value), "f"), Root, report)
    assert (root is None) == bool(report.diagnostics)
    for diagnostic in report.diagnostics:
        assert diagnostic.span and diagnostic.render()
        assert "pydantic" not in diagnostic.message.lower() and not diagnostic.message.startswith("input")
