"""Diagnostics: where they point, how they read, and what hostile text cannot do to a terminal."""

import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssir.errors import Diagnostic, EnvironmentLacks, Report, Source, SpecError, SSIRError, UsageError, nearest


def rendered(text: str, start: int, end: int) -> list[str]:
    return Diagnostic("SSIR011", "fault", Source("a.yaml", text).span(start, end)).render().splitlines()


def columns(text: str) -> int:
    """An independent measure of what a terminal shows."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def test_a_diagnostic_shows_place_code_line_underline_notes_and_help() -> None:
    span = Source("a.yaml", "x: 1\ny: foo(bar)\n").span(12, 15)
    diagnostic = Diagnostic("SSIR011", "nothing is called `bar`", span, ("seen\ntwice",), "did you mean `baz`?")
    assert diagnostic.render() == "\n".join(
        [
            "a.yaml:2:8: error[SSIR011]: nothing is called `bar`",
            " 2 | y: foo(bar)",
            "   |        ^^^",
            "   = note: seen",
            "           twice",
            "   = help: did you mean `baz`?",
        ]
    )


def test_a_diagnostic_without_a_place_is_one_line() -> None:
    assert Diagnostic("SSIR020", "cannot read x").render() == "error[SSIR020]: cannot read x"


@pytest.mark.parametrize(
    ("line", "fault", "shown", "underline"),
    [
        ("\t\tx: bad", "bad", "        x: bad", "           ^^^"),
        ("日本: bad", "bad", "日本: bad", "      ^^^"),
        ("日本: bad", "日本", "日本: bad", "^^^^"),
        ("e\u0301e\u0301: bad", "bad", "e\u0301e\u0301: bad", "    ^^^"),
        ("\x1b[31m bad", "bad", "\\x1b[31m bad", "         ^^^"),
        ("\u202ex bad", "bad", "\\u202ex bad", "        ^^^"),
    ],
)
def test_the_underline_stands_under_the_fault(line: str, fault: str, shown: str, underline: str) -> None:
    start = line.index(fault)
    _, source, carets = rendered(line, start, start + len(fault))
    assert source == " 1 | " + shown
    assert carets == "   | " + underline


def test_an_empty_span_still_has_a_caret() -> None:
    assert rendered("abc", 3, 3)[2] == "   |    ^"
    assert rendered("", 0, 0)[1:] == [" 1 |", "   | ^"]


def test_a_long_line_is_cut_to_a_window_around_the_fault() -> None:
    text = "a" * 5000 + "bad" + "c" * 5000
    _, source, carets = rendered(text, 5000, 5003)
    assert len(source) < 130 and source.count("…") == 2
    assert source[carets.index("^") : carets.rindex("^") + 1] == "bad"


def test_a_fault_longer_than_the_window_is_underlined_as_far_as_it_shows() -> None:
    _, source, carets = rendered("x" * 10**6, 0, 10**6)
    assert len(carets) <= len(source) < 130


def test_escape_sequences_never_reach_the_terminal() -> None:
    span = Source("\x1b]0;x\x07.yaml", "\x1b[2J").span(0, 4)
    text = Diagnostic("SSIR001", "\x1b[2J", span, ("\x1b[2J",), "\x1b[2J").render()
    assert text.isascii() and text.replace("\n", "").isprintable()


@given(st.text(max_size=300), st.integers(0, 320), st.integers(0, 320))
def test_any_text_renders_to_printable_lines_with_the_caret_in_place(text: str, start: int, end: int) -> None:
    span = Source("f", text).span(start, end)
    header, source, carets = Diagnostic("SSIR001", "m", span).render().split("\n")
    for line in (header, source, carets):
        assert all(unicodedata.category(char)[0] != "C" for char in line)
    assert columns(source) < 240 and "^" in carets


@given(st.text(st.sampled_from("ab日é\u0301 -"), max_size=60), st.data())
def test_what_stands_before_the_caret_is_as_wide_as_what_stands_before_the_fault(
    text: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(text)))
    _, _, carets = rendered(text, start, start + 1)
    assert carets.index("^") - len(" 1 | ") == columns(text[:start])


def test_spans_count_lines_and_columns_from_one_and_stay_on_their_line() -> None:
    source = Source("f", "ab\r\ncd\ref\ngh")
    assert [str(source.span(at, at + 1)) for at in (0, 4, 7, 10)] == ["f:1:1", "f:2:1", "f:3:1", "f:4:1"]
    across = source.span(1, 9)
    assert (across.line, across.column, across.end_column) == (1, 2, 3)
    assert source.line(2) == "cd" and source.line(99) == ""


def test_an_error_tells_everything_once_in_the_order_of_the_text() -> None:
    source = Source("f", "a\nb\nc")
    report = Report()
    for at in (4, 0, 2, 0):
        report.error("SSIR006", "unknown", source.span(at, at + 1))
    report.error("SSIR030", "nowhere")
    with pytest.raises(SpecError) as caught:
        report.raise_if_any()
    assert [d.span and d.span.line for d in caught.value.diagnostics] == [1, 2, 3, None]
    assert str(caught.value).count("unknown") == 3


def test_a_flood_of_faults_is_cut_when_printed() -> None:
    error = SpecError(Diagnostic("SSIR006", f"fault {n}") for n in range(1000))
    assert len(error.diagnostics) == 1000 and str(error).endswith("and 975 more errors")


def test_an_empty_report_raises_nothing() -> None:
    Report().raise_if_any()


def test_errors_have_one_root_and_the_exit_codes_of_the_command_line() -> None:
    assert [kind.exit_code for kind in (SSIRError, SpecError, UsageError, EnvironmentLacks)] == [1, 1, 2, 3]
    assert all(issubclass(kind, SSIRError) for kind in (SpecError, UsageError, EnvironmentLacks))


def test_errors_survive_pickling_between_processes() -> None:
    error = SpecError([Diagnostic("SSIR006", "fault", Source("f", "x").span(0, 1))])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301


@pytest.mark.parametrize(
    ("name", "meant"),
    [("lienar", "linear"), ("LINEAR", "linear"), ("rmsnorm", "rms_norm"), ("RMS-Norm", "rms_norm"), ("zzz", None)],
)
def test_the_nearest_name_ignores_case_and_underscores(name: str, meant: str | None) -> None:
    assert nearest(name, ["linear", "rms_norm", "softmax"]) == meant


def test_a_monstrous_name_is_near_nothing() -> None:
    assert nearest("linear" * 10**6, ["linear"]) is None
