"""Every error that a user can cause: where it is, what is wrong, how to mend it.

Code that reads a spec gathers diagnostics in a Report and raises them once, sorted by position, as one SpecError.
Source text is untrusted: what is printed of it is escaped, so that it can neither break the underline nor drive the
terminal.
"""

import difflib
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

T = TypeVar("T")

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_TAB_WIDTH = 4
_FRAME_WIDTH = 110
_SHOWN = 25
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Source:
    """A text that diagnostics point into."""

    name: str
    text: str

    @cached_property
    def _bounds(self) -> tuple[list[int], list[int]]:
        starts, ends = [0], []
        for found in _LINE_BREAK.finditer(self.text):
            ends.append(found.start())
            starts.append(found.end())
        ends.append(len(self.text))
        return starts, ends

    def line(self, number: int) -> str:
        """The line of that number, counted from 1; empty outside the text."""
        starts, ends = self._bounds
        if not 1 <= number <= len(starts):
            return ""
        return self.text[starts[number - 1] : ends[number - 1]]

    def span(self, start: int, end: int) -> "Span":
        """The span between two offsets, cut at the end of the line on which it starts."""
        starts, ends = self._bounds
        row = bisect_right(starts, start) - 1
        column = min(start, ends[row]) - starts[row]
        end_column = max(min(end, ends[row]) - starts[row], column)
        return Span(self, row + 1, column + 1, end_column + 1)


@dataclass(frozen=True)
class Span:
    """A piece of one line: columns count characters from 1, the end is exclusive."""

    source: Source
    line: int
    column: int
    end_column: int

    def __str__(self) -> str:
        return f"{_printable(self.source.name)}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Diagnostic:
    """One fault: a code of the catalogue, a lower-case message, a place, and advice."""

    code: str
    message: str
    span: Span | None = None
    notes: tuple[str, ...] = ()
    help: str | None = None
    level: Literal["error", "warning"] = "error"

    def render(self) -> str:
        """The diagnostic as plain text: position, message, the source line underlined, notes and help."""
        place = f"{self.span}: " if self.span else ""
        lines = [f"{place}{self.level}[{self.code}]: {_printable(self.message)}"]
        margin = "  = "
        if self.span:
            lines += _frame(self.span)
            margin = " " * (len(str(self.span.line)) + 2) + "= "
        labelled = [("note", note) for note in self.notes]
        if self.help:
            labelled.append(("help", self.help))
        for label, text in labelled:
            first, *rest = text.split("\n")
            lines.append(f"{margin}{label}: {_printable(first)}")
            lines += [" " * len(f"{margin}{label}: ") + _printable(line) for line in rest]
        return "\n".join(lines)


class SSIRError(Exception):
    """The root of every error that SSIR raises on purpose."""

    exit_code = 1


class SpecError(SSIRError):
    """The spec is wrong; carries everything that was found, in the order of the text."""

    diagnostics: tuple[Diagnostic, ...]

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(sorted(dict.fromkeys(diagnostics), key=_position))
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        shown = [diagnostic.render() for diagnostic in self.diagnostics[:_SHOWN]]
        if len(self.diagnostics) > _SHOWN:
            shown.append(f"and {len(self.diagnostics) - _SHOWN} more errors")
        return "\n".join(shown)


class UsageError(SSIRError):
    """The caller asked for something that does not make sense."""

    exit_code = 2


class EnvironmentLacks(SSIRError):
    """The machine lacks something that was asked for: a compiler, a GPU, a working plugin."""

    exit_code = 3


class Report:
    """Gathers diagnostics, so that one run tells everything that is wrong."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.failed = False

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Note the faults of a SpecError and go on. One without faults follows from another that is noted elsewhere."""
        try:
            yield
        except SpecError as error:
            self.failed = True
            self.diagnostics += error.diagnostics

    def error(
        self,
        code: str,
        message: str,
        span: Span | None = None,
        notes: Iterable[str] = (),
        help: str | None = None,
    ) -> None:
        """Note one fault and go on."""
        self.diagnostics.append(Diagnostic(code, message, span, tuple(notes), help))

    def raise_if_any(self) -> None:
        """Raise a SpecError of all that was gathered, if anything was."""
        if self.diagnostics or self.failed:
            raise SpecError(self.diagnostics)


def together(makers: Iterable[Callable[[], T]]) -> list[T]:
    """What each gives. Raises SpecError with the faults of all."""
    report, found = Report(), list[T]()
    for make in makers:
        with report.catching():
            found.append(make())
    report.raise_if_any()
    return found


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that the writer of `name` most likely meant, if there is one."""
    if len(name) > _LONGEST_NAME:
        return None
    folded: dict[str, str] = {}
    for candidate in candidates:
        folded.setdefault(_fold(candidate), candidate)
    close = difflib.get_close_matches(_fold(name), folded, n=1)
    return folded[close[0]] if close else None


def _fold(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


def _position(diagnostic: Diagnostic) -> tuple[bool, str, int, int, str]:
    span = diagnostic.span
    if span is None:
        return (True, "", 0, 0, diagnostic.code)
    return (False, span.source.name, span.line, span.column, diagnostic.code)


def _glyph(char: str) -> str:
    """What stands for one character on a terminal."""
    if char == "\t":
        return " " * _TAB_WIDTH
    # Control, format (bidirectional overrides, joiners), surrogate and separator characters are shown, never sent.
    if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
        return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
    return char


def _width(glyph: str) -> int:
    if len(glyph) != 1:
        return len(glyph)
    if unicodedata.category(glyph) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(glyph) in {"W", "F"} else 1


def _printable(text: str) -> str:
    return "".join(map(_glyph, text))


def _frame(span: Span) -> list[str]:
    """The source line with its gutter, and carets under the span; a long line is cut to a window around it."""
    text = span.source.line(span.line)
    start = min(span.column - 1, len(text))
    end = max(min(span.end_column - 1, len(text)), start)
    first, last = _window(text, start, end)
    shown = "".join(_glyph(char) for char in text[first:last])
    head, tail = "…" * (first > 0), "…" * (last < len(text))
    indent = len(head) + sum(_width(_glyph(char)) for char in text[first:start])
    carets = max(sum(_width(_glyph(char)) for char in text[start : min(end, last)]), 1)
    number = str(span.line)
    return [
        f" {number} | {head}{shown}{tail}".rstrip(),
        f" {' ' * len(number)} | {' ' * indent}{'^' * carets}",
    ]


def _window(text: str, start: int, end: int) -> tuple[int, int]:
    """The part of the line to show, in characters: all of it where it fits, else the span with some text before it."""
    if len(text) <= _FRAME_WIDTH and sum(_width(_glyph(char)) for char in text) <= _FRAME_WIDTH:
        return 0, len(text)
    first, room = start, _FRAME_WIDTH // 3
    while first > 0 and (room := room - _width(_glyph(text[first - 1]))) >= 0 and start - first < _FRAME_WIDTH:
        first -= 1
    last = first
    room = _FRAME_WIDTH
    while last < len(text) and (room := room - _width(_glyph(text[last]))) >= 0 and last - first < 2 * _FRAME_WIDTH:
        last += 1
    return first, max(last, min(end, start + 1))
