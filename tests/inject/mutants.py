"""Faults made by rule: an operator swapped, a bound off by one, a mask or a dtype dropped, an axis mistaken. One at a time.

Python is changed by its syntax tree, so that a fault is found again after a refactoring; text that forms write, and C, by tokens.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SWAPPED = (ast.Sub, ast.Div, ast.MatMult)
_OTHER: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_DROPPED = frozenset("to flip detach transpose movedim clamp contiguous mT cummax expand".split()) - {
    "contiguous",
    "expand",
}
_WORDS = frozenset(
    "fail UsageError SpecError AxesError error isinstance line fresh nearest Match join TypeVar range".split()
)
# In text that forms write, and in C: an operator with blanks about it.
_TOKENS = (
    (r"(?<=[\w)\]}]) - (?=[\w({])", " + "),
    (r"(?<=[\w)\]}]) \+ (?=[\w({])", " - "),
    (r"(?<=[\w)\]}]) \* (?=[\w({])", " + "),
    (r"(?<=[\w)\]}]) < (?=[\w({])", " <= "),
    (r"(?<=[\w)\]}]) > (?=[\w({])", " >= "),
    (r"(?<=[\w)\]}]) / (?=[\w({])", " * "),
    (r" \+= ", " -= "),
    (r" -= ", " += "),
)


@dataclass(frozen=True)
class Mutant:
    """A fault: in ``file``, from ``start`` to ``end`` (offsets), ``new`` stands instead. ``function`` is where."""

    file: str
    kind: str
    function: str
    line: int
    start: int
    end: int
    old: str
    new: str

    @property
    def words(self) -> str:
        return f"{self.file}:{self.line} {self.function}: {self.kind}: {_short(self.old)} -> {_short(self.new)}"

    def applied(self, text: str) -> str:
        return text[: self.start] + self.new + text[self.end :]


def _short(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= 60 else f"{one[:57]}..."


def of_file(path: Path, name: str, skip: frozenset[str] = frozenset()) -> list[Mutant]:
    """Every fault that the rules make in a file; of each place the first that a rule makes of it, and so on."""
    text = path.read_text(encoding="utf-8")
    return list(_c(text, name) if path.suffix in (".c", ".h") else _python(text, name, skip))


def _c(text: str, name: str) -> Iterator[Mutant]:
    bare = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.DOTALL)
    function, at = "", 0
    for number, line in enumerate(bare.splitlines(keepends=True), 1):
        if found := re.match(r"[\w ]*?(\w+)\(", line):
            function = found[1]
        # Pragmas aside.
        if line.startswith((" ", "\t")) and not line.lstrip().startswith("#"):
            for pattern, new in _TOKENS:
                for match in re.finditer(pattern, line):
                    kind = f"{match[0].strip()} to {new.strip()}"
                    changed = line[: match.start()] + new + line[match.end() :]
                    yield Mutant(name, kind, function, number, at, at + len(line), line, changed)
        at += len(line)


def _python(text: str, name: str, skip: frozenset[str]) -> Iterator[Mutant]:
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    data = text.encode()

    def offset(line: int, column: int) -> int:
        return len(data[: starts[line - 1] + column].decode())

    tree = ast.parse(text)
    for node, function in _walk(tree, "", skip):
        if not isinstance(node, ast.expr):
            continue
        start, end = offset(node.lineno, node.col_offset), offset(node.end_lineno or 0, node.end_col_offset or 0)
        old = text[start:end]
        for kind, new in _changed(node, old):
            yield Mutant(name, kind, function, node.lineno, start, end, old, new)


def _walk(node: ast.AST, function: str, skip: frozenset[str]) -> Iterator[tuple[ast.AST, str]]:
    """Expressions that decide a value, with the function that they stand in."""
    if isinstance(node, ast.Raise | ast.Assert | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        if node.name in skip or node.name.startswith("__r") or node.name == "__str__":
            return
        inner = f"{function}.{node.name}" if function else node.name
        for one in node.body:
            yield from _walk(one, inner, skip)
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.Call) and _called(node) in _WORDS:
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.AnnAssign):
        if node.value is not None and function:
            yield from _walk(node.value, function, skip)
        elif node.value is not None and isinstance(node.value, ast.Dict):
            yield from _walk(node.value, "(table)", skip)
        return
    if isinstance(node, ast.expr) and function:
        yield node, function
    if isinstance(node, ast.JoinedStr):
        return  # its expressions have no places of their own before Python 3.12
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, function, skip)


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _changed(node: ast.expr, old: str) -> Iterator[tuple[str, str]]:
    def text(new: ast.expr) -> str:
        return f"({ast.unparse(new)})"

    match node:
        case ast.BinOp(left=left, op=op, right=right):
            if any(
                isinstance(x, ast.Constant | ast.JoinedStr | ast.List | ast.Tuple) and not _number(x)
                for x in (left, right)
            ):
                return
            if isinstance(op, _SWAPPED):
                yield "operands swapped", text(ast.BinOp(right, op, left))
            if type(op) in _OTHER:
                yield "another operator", text(ast.BinOp(left, _OTHER[type(op)](), right))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OTHER:
            yield "a bound", text(ast.Compare(left, [_OTHER[type(op)]()], [right]))
        case ast.Constant(value=bool() as value):
            yield "the other truth", str(not value)
        case ast.Constant(value=int() as value) if old.isdecimal():
            yield "off by one", str(value + 1)
        case ast.Constant(value=str()) | ast.JoinedStr():
            yield from _written(old)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield "a sign", text(operand)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "a negation", text(operand)
        case ast.BoolOp(op=op, values=values):
            yield "and, or", text(ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield "the other branch", text(ast.IfExp(test, orelse, body))
        case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in _DROPPED:
            yield f"no {attr}", text(value)
        case ast.Call(func=ast.Attribute(attr="where"), args=[condition, a, b]):
            yield "a mask turned round", text(ast.Call(node.func, [condition, b, a], []))
            yield "no mask", text(a)
        case ast.Attribute(value=value, attr="mT"):
            yield "not transposed", text(value)
        case ast.Dict(keys=[ast.Constant(value=str()), *_], values=values) if (
            len(values) > 2 and len(ast.unparse(node)) < 2000
        ):
            turned = [*values[1:], values[0]]
            yield "a table out of step", ast.unparse(ast.Dict(node.keys, turned))


def _number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _written(old: str) -> Iterator[tuple[str, str]]:
    """Text that becomes source."""
    for pattern, new in _TOKENS[:6]:
        for match in re.finditer(pattern, old):
            changed = old[: match.start()] + new + old[match.end() :]
            yield "in what is written", changed
