"""The IR as text that a person can read, and that parses back to the same IR, source positions aside.

    graph   ::= "graph" name, then indented: nodes, outputs, calls, bodies
    node    ::= name "=" op ["(" operand ("," operand)* ")"] ["{" key ":" value ("," key ":" value)* "}"] ":" type
    operand ::= [role "="] name                               the operands of a state carry their roles
    output  ::= "->" label ":" name
    call    ::= "call" path ":" component                     what is below the path is a call of the component, inlined
    body    ::= "body" name, then indented: graph
    type    ::= "[" [axis ":" (size | "*") ("," ...)*] "]" dtype dependence ["absent(" axis "," (lag | "whole") ")"]* ["operator"]
    value   ::= number | word | string | "none" | "true" | "false" | "[" [item ("," item)*] "]"
    item    ::= (value | "(" item ("," item)* ")") ["×" count]   a pattern of layers: [(recurrent ×2, attention) ×8]

Attributes with the values in USUAL are left out; one that has another default there and is not given is `missing`. Words
that would read as something else, and text that is no word, stand in quotes. The same graph always gives the same text.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ssir.errors import SSIRError
from ssir.ir.graph import WHOLE, Axis, Dependence, Graph, Node, Type, attrs

_INDENT = "  "
_WORD = r"[A-Za-z_][A-Za-z0-9_.]*(?:\[[A-Za-z0-9_.]+\])?(?:/[A-Za-z0-9_]+)*"
_NUMBER = r"-?(?:inf|[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)(?![A-Za-z0-9_.])"
_TOKEN = re.compile(
    rf'\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>{_NUMBER})|(?P<word>{_WORD})|(?P<mark>->|[-=(){{}}\[\],:×*]))'
)
_MISSING = object()
_KEYWORDS: Mapping[str, Any] = {"none": None, "true": True, "false": False, "missing": _MISSING}
USUAL: Mapping[str, Mapping[str, Any]] = {
    "param": {"lr": 1.0, "dtype": None, "shared": False, "learned": True},
    "linear": {"per": (), "bias": False},
    "state": {"read": "after", "algebra": "plus_times", "dtype": None, "enters": ()},
    "stack": {"share": False, "carried": (), "given": ()},
}
_DEPENDENCES = {str(one): one for one in Dependence}


class TextError(SSIRError):
    """The text is no IR; the message says on which line."""


# Writing.


def digest(graph: Graph) -> str:
    """What tells a graph from others."""
    return hashlib.sha256(render(graph).encode()).hexdigest()


def render(graph: Graph) -> str:
    """The text of a graph, its bodies included."""
    return "\n".join(_lines(graph, "")) + "\n"


def _lines(graph: Graph, indent: str) -> Iterator[str]:
    yield f"{indent}graph {_word(graph.name)}"
    inner = indent + _INDENT
    for node in graph:
        yield f"{inner}{_node(node)}"
    for label, name in graph.outputs:
        yield f"{inner}-> {_word(label)}: {_word(name)}"
    for path, name in sorted(graph.calls.items()):
        yield f"{inner}call {_word(path)}: {_word(name)}"
    for name, body in graph.bodies.items():
        yield f"{inner}body {_word(name)}"
        yield from _lines(body, inner + _INDENT)


def _node(node: Node) -> str:
    attributes = dict(node.attrs)
    operands = [_word(name) for name in node.inputs]
    if len(attributes.get("roles", ())) == len(operands) > 0:
        operands = [f"{_word(role)}={name}" for role, name in zip(attributes.pop("roles"), operands, strict=True)]
    for key, value in USUAL.get(node.op, {}).items():
        given = attributes.get(key, _MISSING)
        if given == value and type(given) is type(value):
            del attributes[key]
        else:
            attributes[key] = given
    called = f"({', '.join(operands)})" if operands else ""
    said = ", ".join(f"{_word(key)}: {_value(value)}" for key, value in sorted(attributes.items()))
    return f"{_word(node.name)} = {_word(node.op)}{called}{f' {{{said}}}' if said else ''} : {node.type}"


def _word(text: str) -> str:
    plain = re.fullmatch(_WORD, text) and text not in _KEYWORDS and text != "inf"
    return text if plain else json.dumps(text)


def _value(value: Any) -> str:
    if value is _MISSING:
        return "missing"
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case int() | float():
            if isinstance(value, float) and math.isnan(value):
                raise TextError("nan has no text")
            return repr(value)
        case str():
            return _word(value)
        case tuple():
            return f"[{', '.join(_folded([_value(item) for item in value]))}]"
    raise TextError(f"{type(value).__name__} has no text")


def _folded(items: Sequence[str]) -> Iterator[str]:
    """Items with their smallest period, and its runs, written once."""
    count = len(items)
    period = next((p for p in range(1, count // 2 + 1) if items[p:] == items[: count - p]), 0)
    if not period:
        yield from _runs(items)
        return
    times, rest = divmod(count, period)
    inner = ", ".join(_runs(items[:period]))
    yield f"{inner if period == 1 else f'({inner})'} ×{times}"
    yield from _runs(items[count - rest :])


def _runs(items: Sequence[str]) -> Iterator[str]:
    for item, run in groupby(items):
        times = sum(1 for _ in run)
        yield item + (f" ×{times}" if times > 1 else "")


# Reading.


def parse(text: str) -> Graph:
    """The graph that a text says. Raises TextError."""
    lines = [_Line(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    reader = _Reader(lines)
    graph = reader.graph(0)
    if reader.at < len(lines):
        raise lines[reader.at].error("this belongs to no graph")
    return graph


@dataclass
class _Reader:
    lines: list[_Line]
    at: int = 0

    def graph(self, depth: int) -> Graph:
        line = self.next(depth)
        if line is None:
            raise TextError("a graph is expected, and there is nothing")
        line.expect("graph")
        name = line.word()
        line.end()
        nodes: dict[str, Node] = {}
        outputs: list[tuple[str, str]] = []
        bodies: dict[str, Graph] = {}
        calls: dict[str, str] = {}
        while (line := self.next(depth + 1)) is not None:
            if line.take("->"):
                label = line.word()
                line.expect(":")
                outputs.append((label, line.word()))
            elif line.starts("call"):
                line.expect("call")
                path = line.word()
                line.expect(":")
                calls[path] = line.word()
            elif line.starts("body"):
                line.expect("body")
                own = line.word()
                line.end()
                bodies[own] = self.graph(depth + 2)
                continue
            else:
                node = line.node()
                if node.name in nodes:
                    raise line.error(f"`{node.name}` is there twice")
                nodes[node.name] = node
            line.end()
        return Graph(name, nodes, tuple(outputs), bodies, calls)

    def next(self, depth: int) -> _Line | None:
        """The next line, if it is that deep."""
        if self.at >= len(self.lines) or self.lines[self.at].depth < depth:
            return None
        line = self.lines[self.at]
        if line.depth > depth:
            raise line.error("this is indented too far")
        self.at += 1
        return line


class _Line:
    def __init__(self, number: int, text: str) -> None:
        self.number, self.text = number, text
        width = len(text) - len(text.lstrip(" "))
        if width % len(_INDENT):
            raise self.error("the indentation is odd")
        self.depth = width // len(_INDENT)
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while position < len(text.rstrip()):
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                raise self.error(f"`{text[position:].strip()}` is no IR")
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            position = found.end()
        self.at = 0

    def error(self, message: str) -> TextError:
        return TextError(f"line {self.number} of the IR: {message}")

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "the end of the line")

    def take(self, text: str) -> bool:
        kind, found = self.peek()
        if kind in ("mark", "word") and found == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise self.error(f"`{text}` is expected, and there is {self.peek()[1]}")

    def end(self) -> None:
        if self.at < len(self.tokens):
            raise self.error(f"{self.peek()[1]} is too much")

    def starts(self, word: str) -> bool:
        return self.peek() == ("word", word) and self.tokens[1:2] != [("mark", "=")]

    def word(self) -> str:
        kind, text = self.peek()
        if kind not in ("word", "string"):
            raise self.error(f"a name is expected, and there is {text}")
        self.at += 1
        return text if kind == "word" else str(json.loads(text))

    def node(self) -> Node:
        name = self.word()
        self.expect("=")
        op = self.word()
        values: dict[str, Any] = {}
        operands: list[str] = []
        roles: list[str] = []
        if self.take("("):
            while True:
                operand = self.word()
                if self.take("="):
                    roles.append(operand)
                    operand = self.word()
                operands.append(operand)
                if not self.take(","):
                    break
            self.expect(")")
        if self.take("{"):
            while True:
                key = self.word()
                self.expect(":")
                values[key] = self.value()
                if not self.take(","):
                    break
            self.expect("}")
        if roles:
            values["roles"] = tuple(roles)
        values = {**USUAL.get(op, {}), **values}
        values = {key: value for key, value in values.items() if value is not _MISSING}
        self.expect(":")
        return Node(name, op, tuple(operands), attrs(**values), self.type())

    def value(self) -> Any:
        kind, text = self.peek()
        if self.take("["):
            return self.items("]")
        self.at += 1
        if kind == "string":
            return json.loads(text)
        if kind == "number":
            return float(text) if re.search(r"[.e]|inf", text) else int(text)
        if kind == "word":
            return _KEYWORDS.get(text, text)
        raise self.error(f"a value is expected, and there is {text}")

    def items(self, closing: str) -> tuple[Any, ...]:
        found: list[Any] = []
        if self.take(closing):
            return ()
        while True:
            some = self.items(")") if self.take("(") else (self.value(),)
            found += some * (self.count() if self.take("×") else 1)
            if not self.take(","):
                break
        self.expect(closing)
        return tuple(found)

    def count(self) -> int:
        kind, text = self.peek()
        if kind != "number" or not text.isdigit():
            raise self.error(f"a count is expected, and there is {text}")
        self.at += 1
        return int(text)

    def type(self) -> Type:
        axes: list[Axis] = []
        self.expect("[")
        while not self.take("]"):
            name = self.word()
            self.expect(":")
            axes.append(Axis(name, None if self.take("*") else self.count()))
            self.take(",")
        dtype, dependence = self.word(), self.word()
        if dependence not in _DEPENDENCES:
            raise self.error(f"`{dependence}` is no dependence; there are {', '.join(_DEPENDENCES)}")
        absent: list[tuple[str, int]] = []
        while self.take("absent"):
            self.expect("(")
            name = self.word()
            self.expect(",")
            absent.append((name, WHOLE if self.take("whole") else self.count()))
            self.expect(")")
        return Type(tuple(axes), dtype, _DEPENDENCES[dependence], tuple(absent), self.take("operator"))
