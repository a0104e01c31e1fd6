"""YAML text to plain data, with the place of everything in it.

The language is YAML 1.2 core less what makes files treacherous: anchors, aliases, tags, merge keys, duplicate keys,
keys that are not text, several documents. Only `true` and `false` are booleans, only `null` and `~` are null. PyYAML's
parser is used for its events alone: its resolver and constructor speak YAML 1.1, and build what aliases ask for.
"""

import math
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from ssir.errors import Report, Source, Span, SpecError

MAX_BYTES = 2**20
MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_SCALAR = 4096
LARGEST_INT = 2**53

Path: TypeAlias = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# Control characters, invisible direction marks, line breaks that only some programs know, surrogates, non-characters.
_UNWANTED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
_WHITE = " \t\r\n"


@dataclass(frozen=True)
class _Place:
    """Where a value stands, where its key stands, and, for a scalar, what was written."""

    start: int
    end: int
    key: tuple[int, int] | None
    scalar: ScalarEvent | None = None


@dataclass(frozen=True)
class Document:
    """A YAML text as plain data, and the place of everything in it."""

    source: Source
    data: Any
    _places: dict[Path, _Place] = field(repr=False)
    _located: dict[Path, list[tuple[int, int]]] = field(default_factory=dict, repr=False, compare=False)

    def span(self, path: Path, key: bool = False) -> Span:
        """Where the value at `path` stands, or its key; where nothing stands there, the nearest parent's."""
        while path and path not in self._places:
            path = path[:-1]
        place = self._places[path]
        if not key:
            return self.source.span(place.start, place.end)
        return self.source.span(*(place.key or ((place.start, place.end) if path else (place.start, place.start))))

    def has(self, path: Path) -> bool:
        """Whether something stands at `path`."""
        return path in self._places

    def value(self, path: Path) -> Any:
        """The plain data at `path`."""
        data = self.data
        for part in path:
            data = data[part]
        return data

    def text(self, path: Path) -> str:
        """The scalar at `path` as it was written, before it became a number or a boolean."""
        return str(self._scalar(path).value)

    def locate(self, path: Path, start: int, end: int) -> Span:
        """Where a piece of the text of the scalar at `path` stands in the source."""
        if path not in self._located:
            self._located[path] = _pieces(self.source.text, self._scalar(path))
        pieces = self._located[path]
        if start >= len(pieces):
            after = pieces[-1][1] if pieces else self._places[path].start
            return self.source.span(after, after)
        first = pieces[start][0]
        return self.source.span(first, pieces[min(end, len(pieces)) - 1][1] if end > start else first)

    def _scalar(self, path: Path) -> ScalarEvent:
        scalar = self._places[path].scalar
        if scalar is None:
            raise KeyError(path)
        return scalar


def read(text: str, name: str) -> Document:
    """The document in a YAML text; raises SpecError with everything that is wrong with it."""
    source = Source(name, text.removeprefix("\ufeff"))
    report = Report()
    _check_characters(source, report)
    report.raise_if_any()
    reader = _Reader(source, report)
    data = None
    try:
        data = reader.document()
    except _Stop:
        pass
    except yaml.MarkedYAMLError as error:
        _explain(error, source, report)
    except yaml.YAMLError as error:
        report.error("SSIR001", f"this is not YAML: {error}", source.span(reader.at, reader.at))
    except (ValueError, OverflowError):
        message = "a quoted text after this holds an escape for a character that does not exist"
        report.error("SSIR001", message, source.span(reader.at, reader.at))
    except (RecursionError, MemoryError):
        report.error("SSIR004", "the file is too large or too deeply nested to read", source.span(0, 0))
    report.raise_if_any()
    return Document(source, data, reader.places)


def read_file(path: str | os.PathLike[str]) -> Document:
    """The document in a file; raises SpecError where there is none, or where it is no text."""
    name = os.fspath(path)
    try:
        # Without O_NONBLOCK, opening a named pipe waits for ever.
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else _reason(error)
        _refuse_file(name, "SSIR020", f"cannot read {name}: {reason}")
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "a directory" if stat.S_ISDIR(mode) else "not an ordinary file"
        _refuse_file(name, "SSIR020", f"cannot read {name}: it is {what}", "name a YAML file")
    try:
        with os.fdopen(descriptor, "rb") as file:
            raw = file.read(MAX_BYTES + 4)
    except OSError as error:
        _refuse_file(name, "SSIR020", f"cannot read {name}: {_reason(error)}")
    return read(decoded(raw, name), name)


def decoded(raw: bytes, name: str) -> str:
    """The text of a file; raises SpecError where it is none. More than MAX_BYTES need not be there."""
    if len(raw.removeprefix(b"\xef\xbb\xbf")) > MAX_BYTES:
        _refuse_file(name, "SSIR004", f"{name} is larger than {MAX_BYTES} bytes")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        _refuse_file(name, "SSIR001", f"{name} is UTF-16 text", "save it as UTF-8")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        _refuse_file(name, "SSIR001", f"{name} is not UTF-8 text: line {line} holds the byte 0x{raw[error.start]:02x}")


def _refuse_file(name: str, code: str, message: str, help: str | None = None) -> NoReturn:
    report = Report()
    report.error(code, message, help=help)
    raise SpecError(report.diagnostics) from None


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _check_characters(source: Source, report: Report) -> None:
    text = source.text
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        report.error("SSIR004", f"the text is larger than {MAX_BYTES} bytes", source.span(0, 0))
    elif found := _UNWANTED.search(text):
        report.error("SSIR001", f"{_called(found.group())} is not allowed", source.span(*found.span()))


def _called(char: str) -> str:
    return f"the character U+{ord(char):04X} ({unicodedata.name(char, 'a control character').lower()})"


def _extent(event: Event) -> tuple[int, int]:
    start, end = event.start_mark, event.end_mark
    return (start.index if start else 0, end.index if end else 0)


class _Stop(Exception):
    """What was found makes it pointless to read on; it is in the report."""


class _Reader:
    """Builds plain data from PyYAML's events, notes the place of each value, and gathers what is wrong."""

    def __init__(self, source: Source, report: Report) -> None:
        self.source = source
        self.report = report
        self.places: dict[Path, _Place] = {}
        self.nodes = 0
        self.at = 0
        self.events: Iterator[Event] = yaml.parse(source.text, Loader=yaml.SafeLoader)

    def next(self) -> Event:
        event = next(self.events)
        self.at = _extent(event)[1]
        return event

    def error(self, event: Event, code: str, message: str, help: str | None = None) -> None:
        self.report.error(code, message, self.source.span(*_extent(event)), help=help)

    def document(self) -> Any:
        data = None
        while not isinstance(event := self.next(), StreamEndEvent):
            if isinstance(event, DocumentStartEvent):
                if self.nodes:
                    self.error(event, "SSIR001", "a second document begins here", "a file holds one document")
                    raise _Stop
                if event.tags or event.version not in (None, (1, 2)):
                    self.error(event, "SSIR003", "directives are not allowed", "remove the lines that start with `%`")
            elif not isinstance(event, StreamStartEvent | DocumentEndEvent):
                data = self.value(event, (), None, flow=False)
        if not self.nodes:
            self.report.error("SSIR001", "there is nothing in it", self.source.span(0, 0), help="see `ssir new`")
        return data

    def value(self, event: Event, path: Path, key: tuple[int, int] | None, flow: bool) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.error(event, "SSIR004", f"more than {MAX_NODES} values")
            raise _Stop
        if len(path) >= MAX_DEPTH:
            self.error(event, "SSIR004", f"nested more than {MAX_DEPTH} deep")
            raise _Stop
        self.refuse_decoration(event)
        if flow:
            self.refuse_cut(event)
        scalar = event if isinstance(event, ScalarEvent) else None
        data: Any = None
        if scalar:
            data = self.scalar(scalar)
        elif isinstance(event, MappingStartEvent):
            data = self.mapping(path, flow=bool(event.flow_style))
        elif isinstance(event, SequenceStartEvent):
            data = self.sequence(path, flow=bool(event.flow_style))
        self.places[path] = _Place(_extent(event)[0], self.at, key, scalar)
        return data

    def sequence(self, path: Path, flow: bool) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self.next(), SequenceEndEvent):
            items.append(self.value(event, (*path, len(items)), None, flow))
        return items

    def mapping(self, path: Path, flow: bool) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first: dict[str, Span] = {}
        before = len(self.report.diagnostics)
        while not isinstance(event := self.next(), MappingEndEvent):
            where = _extent(event)
            key = self.key(event, path, flow)
            # After a comma that cut a value, what looks like keys is the rest of that value.
            if key in first and not (flow and len(self.report.diagnostics) > before):
                message = f"the key `{key}` is given twice; first on line {first[key].line}"
                self.error(event, "SSIR002", message, "remove one of the two, or rename it")
            first.setdefault(key, self.source.span(*where))
            data[key] = self.value(self.next(), (*path, key), where, flow)
        return data

    def key(self, event: Event, path: Path, flow: bool) -> str:
        """The text of a key; of something else, a stand-in, with an error."""
        if not isinstance(event, ScalarEvent):
            if not isinstance(event, AliasEvent):
                self.error(event, "SSIR005", "a key has to be text", "a value in braces or brackets wants quotes")
            self.value(event, (*path, ""), None, flow)
            return f"\0{self.nodes}"
        self.nodes += 1
        self.refuse_decoration(event)
        value = self.scalar(event)
        if event.style is None and event.value == "<<":
            self.error(event, "SSIR003", "merge keys are not allowed", "write the keys out")
        elif not isinstance(value, str):
            help = f"put it in quotes: '{event.value}'" if event.value else "write a name before the `:`"
            self.error(event, "SSIR005", f"a key has to be text, and this is {kind(value)}", help)
        return str(event.value)

    def scalar(self, event: ScalarEvent) -> Any:
        text = event.value
        if len(text) > MAX_SCALAR:
            self.error(event, "SSIR004", f"a value of {len(text)} characters; at most {MAX_SCALAR} are allowed")
        elif found := _UNWANTED.search(text):
            self.error(event, "SSIR001", f"{_called(found.group())} is not allowed, escaped or not")
        elif event.style is None:
            return self.typed(event)
        return text

    def typed(self, event: ScalarEvent) -> Any:
        text = event.value
        if text in ("", "~", "null"):
            return None
        if text in ("true", "false"):
            return text == "true"
        if _INT.fullmatch(text):
            number = int(text, 0 if text.startswith(("0o", "0x")) else 10)
            if abs(number) <= LARGEST_INT:
                return number
            help = "write it with an exponent, as 1e20, if a real number is meant"
            self.error(event, "SSIR004", "a whole number beyond 2**53", help)
        elif _FLOAT.fullmatch(text):
            if math.isfinite(real := float(text)):
                return real
            self.error(event, "SSIR004", "a number too large to hold")
        elif _NOT_FINITE.fullmatch(text):
            self.error(event, "SSIR004", f"`{text}` is not a finite number", "in quotes, it is text")
        return text

    def refuse_decoration(self, event: Event) -> None:
        if isinstance(event, AliasEvent):
            help = "repeat the value; a text that starts with `*` wants quotes"
            self.error(event, "SSIR003", "aliases are not allowed", help)
        elif isinstance(event, NodeEvent) and event.anchor is not None:
            help = "remove it; a text that starts with `&` wants quotes"
            self.error(event, "SSIR003", "anchors are not allowed", help)
        if getattr(event, "tag", None) is not None:
            self.error(event, "SSIR003", "tags are not allowed", "remove it; a text that starts with `!` wants quotes")

    def refuse_cut(self, event: Event) -> None:
        """In braces or brackets, a comma ends a value, so that `f(a, b)` arrives as `f(a`."""
        if not isinstance(event, ScalarEvent) or event.style is not None:
            return
        following = self.source.text[_extent(event)[1] :].lstrip(_WHITE)[:1]
        if event.value.count("(") > event.value.count(")") and following == ",":
            self.error(event, "SSIR001", f"a comma ends this value here: `{event.value}`", _IN_FLOW)


def kind(value: Any) -> str:
    """What a piece of plain data is, in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text '{value}'" if len(value) <= 40 else "a text"
        case list():
            return "a list"
        case _:
            return "a mapping"


_IN_FLOW = "between braces or brackets put an expression in quotes, or write one `key: value` a line"

# PyYAML's words, and ours; the second column says which of its two marks is the place of the fault.
_EXPLANATIONS = (
    ("mapping values are not allowed", "problem", "SSIR001", "a `:` is not expected here",
     "put a text with `: ` in it in quotes, and check the indentation"),
    ("could not find expected ':'", "context", "SSIR001", "this key has no `:`", "write `key: value`"),
    (r"character '\\t' that cannot start", "problem", "SSIR001", "a tab does not indent", "indent with spaces"),
    ("that cannot start any token", "problem", "SSIR001", "a value cannot start like this", "put it in quotes"),
    ("but found '<block sequence start>'|sequence entries are not allowed", "problem", "SSIR001",
     "a list is not expected here", "start it on a line of its own, and check the indentation"),
    ("expected <block end>", "problem", "SSIR001", "this does not belong here",
     "check the indentation; a value that starts with a quote or a bracket has to end with it, or stand in quotes"),
    ("but got '<(stream|document) (end|start)>'", "context", "SSIR001", "this bracket is never closed", "close it"),
    ("expected ',' or", "problem", "SSIR001", "a comma or a closing bracket is expected before this", _IN_FLOW),
    ("found unexpected (end of stream|document separator)", "context", "SSIR001", "this quote is never closed",
     "close it; a quote inside a quoted text is written twice"),
    ("unknown escape character|hexadecimal numbers", "problem", "SSIR001", "this is no escape",
     "in single quotes, a backslash is a backslash"),
    ("expected the node content", "problem", "SSIR001", "a value is expected before this", "put a text in quotes"),
    ("expected '<document start>'", "problem", "SSIR001", "this comes after the end of the document",
     "check the indentation"),
    ("tag handle", "problem", "SSIR003", "tags are not allowed", "a text that starts with `!` wants quotes"),
)  # fmt: skip
_CONTEXTS = (
    ("alias", "SSIR003", "aliases are not allowed", "a text that starts with `*` or with `[` wants quotes"),
    ("anchor", "SSIR003", "anchors are not allowed", "a text that starts with `&` wants quotes"),
    ("tag", "SSIR003", "tags are not allowed", "a text that starts with `!` wants quotes"),
    ("directive", "SSIR003", "directives are not allowed", "a text that starts with `%` wants quotes"),
    ("block scalar", "SSIR001", "`|` and `>` start a text on the lines below", "put the value in quotes"),
)


def _explain(error: yaml.MarkedYAMLError, source: Source, report: Report) -> None:
    """Say in our words where PyYAML stopped."""
    problem, context = error.problem or "not YAML", error.context or ""
    marks = {"problem": error.problem_mark or error.context_mark, "context": error.context_mark or error.problem_mark}
    which, code, message, help = "problem", "SSIR001", problem, None
    for word, its_code, its_message, its_help in _CONTEXTS:
        if re.search(rf"scanning an? {word}|parsing an? {word}", context):
            which, code, message, help = "context", its_code, its_message, its_help
            break
    else:
        for pattern, *explanation in _EXPLANATIONS:
            if re.search(pattern, problem):
                which, code, message, help = explanation
                break
    mark = marks[which]
    start = min(mark.index, len(source.text)) if mark else 0
    # At the end of the text there is no character.
    before, here = source.text[start - 1 : start], source.text[start : start + 1]
    if "flow" in context and which == "problem" and here in ("[", "{") and before.strip():
        message = f"`{here}` ends a value here, as a comma does, and this one has to go on"
    report.error(code, message, source.span(start, start + 1), help=help)


_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|\r?\n[ \t]*|\r[ \t]*|.)|.", re.DOTALL)
_WHITE_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", " ": " ", "\t": "\t"}


def _pieces(text: str, scalar: ScalarEvent) -> list[tuple[int, int]]:
    """For each character of a scalar's value, where it stands in the source.

    Folding only ever changes white space, so the other characters of the value and of the source are the same in the
    same order; what is white in the value is found between them.
    """
    units = list(_units(text, scalar))
    pieces: list[tuple[int, int]] = []
    at = 0
    for char in scalar.value:
        if char not in _WHITE:
            while at < len(units) and units[at][0] in _WHITE:
                at += 1
        if at < len(units) and (units[at][0] in _WHITE) == (char in _WHITE):
            pieces.append(units[at][1:])
            at += 1
        else:
            end = pieces[-1][1] if pieces else _extent(scalar)[0]
            pieces.append((end, end))
    return pieces


def _units(text: str, scalar: ScalarEvent) -> Iterator[tuple[str, int, int]]:
    """The characters between a scalar's delimiters, escapes taken whole, each with its offsets."""
    start, end = _extent(scalar)
    if scalar.style in ("'", '"'):
        start, end = start + 1, end - 1
    elif scalar.style in ("|", ">"):
        # The header line may hold a comment.
        start = next((at for at in range(start, end) if text[at] in "\r\n"), end)
    pattern = _ESCAPE if scalar.style == '"' else re.compile("''|." if scalar.style == "'" else ".", re.DOTALL)
    for found in pattern.finditer(text, start, end):
        piece = found.group()
        if piece[0] != "\\" or len(piece) == 1:
            yield piece[0], *found.span()
        elif piece[1] in "xuU" and len(piece) > 2:
            yield chr(int(piece[2:], 16)), *found.span()
        elif piece[1] not in "\r\n":
            yield _WHITE_ESCAPES.get(piece[1], "\\"), *found.span()
