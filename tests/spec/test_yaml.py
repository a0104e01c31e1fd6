"""Reading YAML: what things are, where they are, and what is refused."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ssir.errors import SpecError
from ssir.spec.yaml import MAX_BYTES, Document, read, read_file

EXAMPLE = """\
# a comment
ssir: 1
dims: {model: 64, 'half': model / 2}
graph:
  y: >-
    exp(a)
    + b
  z: "tab\\there \\x41"
  list:
    - one
    - it: two
"""


def refusal(text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        read(text, "f")
    return caught.value


def codes(text: str) -> list[str]:
    return [diagnostic.code for diagnostic in refusal(text).diagnostics]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("1", 1),
        ("-12", -12),
        ("+3", 3),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e-5", 1e-5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5E+3", -1500.0),
        (str(2**53), 2**53),
        *((text, text) for text in ("y", "n", "yes", "no", "on", "off", "True", "FALSE", "Null", "NO")),
        *((text, text) for text in ("12:30:45", "1_000", "2001-01-01", "=", "0b1", "1e", "e5", "--1", "inf", "nan")),
        ("'1'", "1"),
        ('"true"', "true"),
        ("a b", "a b"),
        ("[1, x]", [1, "x"]),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written: str, value: object) -> None:
    data = read(f"key: {written}\n", "f").data["key"]
    assert data == value and type(data) is type(value)


def test_names_that_yaml_1_1_takes_for_booleans_are_keys() -> None:
    assert read("n: 1\ny: 2\non: 3\n", "f").data == {"n": 1, "y": 2, "on": 3}


def test_the_text_of_a_scalar_is_kept_as_it_was_written() -> None:
    document = read("a: 1e-5\nb: 0.90\nc: 0x1F\nd: true\ne:\n", "f")
    assert [document.text((key,)) for key in "abcde"] == ["1e-5", "0.90", "0x1F", "true", ""]
    with pytest.raises(KeyError):
        document.text(())


def test_spans_point_at_values_and_keys() -> None:
    document = read(EXAMPLE, "f")

    def shown(span: Any) -> tuple[int, str]:
        return span.line, span.source.line(span.line)[span.column - 1 : span.end_column - 1]

    assert shown(document.span(("ssir",))) == (2, "1")
    assert shown(document.span(("ssir",), key=True)) == (2, "ssir")
    assert shown(document.span(("dims", "half"), key=True)) == (3, "'half'")
    assert shown(document.span(("dims",))) == (3, "{model: 64, 'half': model / 2}")
    assert shown(document.span(("graph", "list", 1, "it"))) == (11, "two")
    assert shown(document.span(("graph",))) == (5, "y: >-")


def test_what_is_not_there_is_pointed_at_by_its_nearest_parent() -> None:
    document = read(EXAMPLE, "f")
    assert document.span(("graph", "list", 7, "x"), key=True) == document.span(("graph", "list"), key=True)
    assert document.span(("nothing",), key=True).line == 2
    assert document.has(("graph", "list", 1)) and not document.has(("graph", "list", 2))
    assert document.value(("graph", "list", 1, "it")) == "two"


def source_of(document: Document, path: tuple[str | int, ...], start: int, end: int) -> str:
    span = document.locate(path, start, end)
    return document.source.line(span.line)[span.column - 1 : span.end_column - 1]


@pytest.mark.parametrize(
    "text",
    [
        "k: exp(a) + b",
        "k: 'exp(a) + b'",
        'k: "exp(a) + b"',
        'k: "exp(a)\\\n   \\ + b"',
        "k: exp(a)\n   + b",
        "k: |  # why\n    exp(a) + b\n",
        "k: >-\n    exp(a)\n    + b\n",
        "{k: exp(a) + b}",
        "- exp(a) + b",
        "k: |2-\n    exp(a) + b",
        "k: 'exp(a)\n\n\n  + b'",
        "# é日\nk: exp(a) + b\r\n",
    ],
)
def test_a_piece_of_a_scalar_is_found_in_the_source_however_it_is_written(text: str) -> None:
    document = read(text, "f")
    path: tuple[str | int, ...] = (0,) if text.startswith("-") else ("k",)
    value = document.text(path)
    for piece in ("exp", "(", "a", "+", "b"):
        start = value.index(piece)
        assert source_of(document, path, start, start + len(piece)) == piece
    after = document.locate(path, len(value), len(value))
    assert after.column == after.end_column


def test_escapes_are_found_whole() -> None:
    document = read("k: \"a\\x41\\u00e9\\\"b\"\nq: 'it''s'", "f")
    assert document.text(("k",)) == 'aAé"b'
    pieces = [source_of(document, ("k",), at, at + 1) for at in range(5)]
    assert pieces == ["a", "\\x41", "\\u00e9", '\\"', "b"]
    assert source_of(document, ("q",), 2, 3) == "''"


@given(
    st.text(st.sampled_from("ab1 .,:#'\"\\\n-é日\t|>"), min_size=1, max_size=60),
    st.sampled_from(["'", '"', "|", ">", None]),
    st.sampled_from([20, 80]),
)
@settings(max_examples=300)
def test_every_visible_character_of_a_scalar_is_found(value: str, style: str | None, width: int) -> None:
    document = read(yaml.dump({"k": value}, default_style=style, allow_unicode=True, width=width), "f")
    assert document.text(("k",)) == value
    for at, char in enumerate(value):
        if not char.isspace():
            assert source_of(document, ("k",), at, at + 1).lstrip("\\").replace("''", "'") in (char, "")


visible = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=8)
plain_data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | visible,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(visible, inner, max_size=4),
    max_leaves=12,
)


@given(plain_data)
def test_json_reads_as_itself(data: object) -> None:
    assert read(json.dumps(data, ensure_ascii=False), "f").data == data


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("", "SSIR001", "f:1:1"),
        ("# nothing", "SSIR001", "f:1:1"),
        ("a: 1\nb: 2\na: 3", "SSIR002", "f:3:1"),
        ("{a: 1, a: 2}", "SSIR002", "f:1:8"),
        ("a: 1\n'a': 2", "SSIR002", "f:2:1"),
        ("a: &x 1", "SSIR003", "f:1:4"),
        ("&x a: 1", "SSIR003", "f:1:1"),
        ("a: *x", "SSIR003", "f:1:4"),
        ("a: * b", "SSIR003", "f:1:4"),
        ("*x : 1", "SSIR003", "f:1:1"),
        ("<<: {a: 1}", "SSIR003", "f:1:1"),
        ("a: !!python/object/apply:os.system [true]", "SSIR003", "f:1:4"),
        ("a: !!str x", "SSIR003", "f:1:4"),
        ("a: !x [1]", "SSIR003", "f:1:4"),
        ("a: ! x", "SSIR003", "f:1:4"),
        ("a: !e!x y", "SSIR003", "f:1:4"),
        ("%YAML 1.1\n---\na: 1", "SSIR003", "f:1:1"),
        ("%TAG !e! x\n---\na: 1", "SSIR003", "f:1:1"),
        ("1: a", "SSIR005", "f:1:1"),
        ("true: a", "SSIR005", "f:1:1"),
        ("~: a", "SSIR005", "f:1:1"),
        ("{[a]: 1}", "SSIR005", "f:1:2"),
        ("? {a: 1}\n: 1", "SSIR005", "f:1:3"),
        ("a: 1\n---\nb: 1", "SSIR001", "f:2:1"),
        ("a: 'x", "SSIR001", "f:1:4"),
        ("a: [1", "SSIR001", "f:1:4"),
        ("a: b: c", "SSIR001", "f:1:5"),
        ("a:\n\tb: 1", "SSIR001", "f:2:1"),
        ("a: %x", "SSIR001", "f:1:4"),
        ("a: - b", "SSIR001", "f:1:4"),
        ("a:\n  b: 1\n c: 2", "SSIR001", "f:3:2"),
        ("a: |x", "SSIR001", "f:1:4"),
        ('a: "\\q"', "SSIR001", "f:1:6"),
        ('a: "\\0"', "SSIR001", "f:1:4"),
        ('a: "\\ud800"', "SSIR001", "f:1:4"),
        ("a: \x00", "SSIR001", "f:1:4"),
        ("a: \x1b[31m", "SSIR001", "f:1:4"),
        ("a: \u202eb", "SSIR001", "f:1:4"),
        ("a: \u2028", "SSIR001", "f:1:4"),
        ("a: \ud800", "SSIR001", "f:1:4"),
        ("a: b\ufeff", "SSIR001", "f:1:5"),
        ("a: 9007199254740993", "SSIR004", "f:1:4"),
        ("a: 1e999", "SSIR004", "f:1:4"),
        ("a: .inf", "SSIR004", "f:1:4"),
        ("a: .nan", "SSIR004", "f:1:4"),
        ("a: " + "x" * 5000, "SSIR004", "f:1:4"),
        ("x" * 1200 + ": a", "SSIR001", "f:1:1201"),
        ("? " + "x" * 5000 + "\n: a", "SSIR004", "f:1:3"),
    ],
)
def test_what_makes_files_treacherous_is_refused_at_its_place(text: str, code: str, place: str) -> None:
    (diagnostic,) = refusal(text).diagnostics
    assert (diagnostic.code, str(diagnostic.span)) == (code, place)


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("{A: f, C: param([a, b])}", "["),
        ("s: {A: f(a, b), D: 1}", "f(a"),
        ("s: {A: f(g(a), b, c, b)}", "f(g(a)"),
        ("s: [f(a, b), c]", "f(a"),
        ("s: {A: f(a, {b})}", "f(a"),
    ],
)
def test_a_comma_inside_braces_is_explained(text: str, cut: str) -> None:
    diagnostic = refusal(text).diagnostics[0]
    span = diagnostic.span
    assert span and text[span.column - 1 : span.end_column - 1] == cut
    assert "comma" in diagnostic.message and diagnostic.help
    assert "quotes" in diagnostic.help and "a line" in diagnostic.help


def test_one_reading_tells_everything() -> None:
    assert codes("a: &x 1\nb: *x\nc: !t 1\na: 1e999\n1: 2\n<<: 3") == [
        "SSIR003",
        "SSIR003",
        "SSIR003",
        "SSIR002",
        "SSIR004",
        "SSIR005",
        "SSIR003",
    ]


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        bomb(40),
        "a: &a [*a]",
        "[" * 10**5,
        "{" * 10**5,
        "{a: " * 10**5,
        "- " * 10**5,
        "? " * 10**5,
        "\n".join(" " * n + "a:" for n in range(1000)),
        "a: " + "x" * 10**7,
        "x" * MAX_BYTES,
        "- a\n" * 200_000,
        "[" + "a," * 300_000 + "]",
        "a: '" + "x" * 500_000,
        "a: " + "9" * 4000,
        "!" * 10**5,
        "&" * 10**5,
        "*" * 10**5,
        "#" * MAX_BYTES,
        "a:\n" * 10**5,
        ": " * 10**5,
    ],
    ids=lambda text: text[:12],
)
def test_monsters_are_refused_without_being_worked_through(text: str) -> None:
    began = time.process_time()
    assert codes(text)
    assert time.process_time() - began < 60


def test_depth_and_number_of_values_are_bounded_where_they_are_said_to_be() -> None:
    assert read("[" * 31 + "1" + "]" * 31, "f")
    assert read("[" + "1," * 19_998 + "1]", "f")
    assert codes("[" * 32 + "1" + "]" * 32) == ["SSIR004"]
    assert codes("[" + "1," * 20_000 + "1]") == ["SSIR004"]


def only_spec_errors(text: str) -> None:
    try:
        read(text, "f")
    except SpecError as error:
        assert all(diagnostic.render() for diagnostic in error.diagnostics)


@given(st.text(max_size=80))
def test_any_text_reads_or_is_a_spec_error(text: str) -> None:
    only_spec_errors(text)


def test_mutated_files_read_or_are_a_spec_error() -> None:
    draw = random.Random(21)
    pieces = [
        "&a ",
        "*a",
        "!!x ",
        "<<: ",
        "- ",
        "? ",
        ": ",
        "|",
        ">",
        "[",
        "]",
        "{",
        "}",
        ",",
        "'",
        '"',
        "\n",
        "\t",
        "%",
        "---\n",
    ]
    pieces += ["...", "#", "\\", "\x00", "é", "\u2028", "\r", "  ", "\n  ", "null", "1e999", "\ufeff"]
    for _ in range(3000):
        text = EXAMPLE
        for _ in range(draw.randint(1, 5)):
            at = draw.randrange(len(text) + 1)
            text = text[:at] + draw.choice(pieces) + text[at + draw.choice([0, 0, 1, 5]) :]
        only_spec_errors(text)


def test_a_byte_order_mark_at_the_start_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("\ufeffa: é\n".encode())
    document = read_file(path)
    assert document.data == {"a": "é"} and str(document.span(("a",), key=True)) == f"{path}:1:1"


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &x 1")
    with pytest.raises(SpecError, match=r"a\.yaml:1:4"):
        read_file(str(path))


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("a: 1".encode("utf-16"), "UTF-16"),
        (b"\x7fELF\x00\xff", "not UTF-8"),
        (b"a: 1\nb: \xe9\n", "line 2 holds the byte 0xe9"),
        (b"a: \x00", "control character"),
        (b"", "nothing in it"),
        (b"#" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_a_file_that_is_no_text_says_why(tmp_path: Path, raw: bytes, says: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(raw)
    with pytest.raises(SpecError, match=says):
        read_file(path)


def test_what_is_no_file_says_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        (tmp_path, "directory"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "pipe", "not an ordinary file"),
        ("a\x00b", "null"),
        ("/dev/zero", "not an ordinary file"),
        (tmp_path / ("x" * 1000), "too long"),
    ):
        with pytest.raises(SpecError, match=says):
            read_file(path)


def test_reading_yaml_needs_no_torch() -> None:
    program = "import sys, ssir.spec.yaml, ssir.spec.expr, ssir.spec.validate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
