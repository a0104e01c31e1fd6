"""Python that is being written: expressions and statements as ``ast`` has them, made of templates.

    code("{0}.unsqueeze({1})", x, -1)      what stands in braces is a part: code, or a value that becomes a literal

Precedence, names that are used and names that are bound are then known, and never guessed from text.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

Code = ast.expr


@dataclass(frozen=True)
class Line:
    """A statement; ``note``: what is said behind it."""

    statement: ast.stmt
    note: str = ""


def code(template: str, *parts: object, **named: object) -> Code:
    """An expression."""
    (found,) = _filled(template, parts, named)
    assert isinstance(found, ast.Expr)
    return found.value


def statements(template: str, *parts: object, **named: object) -> list[ast.stmt]:
    """Statements."""
    return _filled(template, parts, named)


def called(function: Code, *arguments: object) -> Code:
    """A call."""
    return ast.Call(function, [literal(one) for one in arguments], [])


def method(x: Code, name: str, *arguments: object) -> Code:
    """A call of a method."""
    return called(ast.Attribute(x, name, ast.Load()), *arguments)


def literal(value: object) -> Code:
    """A value as it is written; code as it is."""
    if isinstance(value, ast.expr):
        return value
    if isinstance(value, tuple | list):
        items = [literal(one) for one in value]
        return ast.Tuple(items, ast.Load()) if isinstance(value, tuple) else ast.List(items, ast.Load())
    if isinstance(value, float) and math.isinf(value):
        return code("torch.inf" if value > 0 else "-torch.inf")
    if isinstance(value, int | float) and not isinstance(value, bool) and (value < 0 or math.copysign(1, value) < 0):
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    assert value is None or isinstance(value, str | bool | int | float)
    return ast.Constant(value)


def variable(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def stored(x: Code) -> Code:
    """A variable, or several, as the target of an assignment."""
    match x:
        case ast.Name():
            return ast.Name(x.id, ast.Store())
        case ast.Tuple():
            return ast.Tuple([stored(one) for one in x.elts], ast.Store())
    return x


def binding(target: Code, value: Code) -> ast.stmt:
    """An assignment."""
    return ast.Assign([stored(target)], value)


def function_of(name: str, arguments: Sequence[str], body: Sequence[ast.stmt]) -> ast.stmt:
    """A function of these arguments."""
    (made,) = statements(f"def {name}({', '.join(arguments)}):\n    pass")
    assert isinstance(made, ast.FunctionDef)
    made.body = list(body)
    return made


def name_of(x: Code) -> str | None:
    """The name, if the code is that of a variable."""
    return x.id if isinstance(x, ast.Name) else None


def names(statement: ast.AST) -> Iterator[str]:
    """The names that stand in a statement or an expression."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            yield node.id


def bound(statement: ast.stmt) -> list[str]:
    """The variables that a plain assignment binds."""
    if not isinstance(statement, ast.Assign):
        return []
    inside = (node for target in statement.targets for node in ast.walk(target))
    return [node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def text(lines: Sequence[Line], indent: str) -> str:
    """The text of statements."""
    found = []
    for line in lines:
        ast.fix_missing_locations(line.statement)
        rows = ast.unparse(line.statement).splitlines()
        if line.note and len(rows) == 1:
            rows[0] += f"  # {line.note}"
        found += [f"{indent}{row}" for row in rows]
    return "\n".join(found)


@cache
def _parsed(template: str) -> ast.Module:
    return ast.parse(re.sub(r"\{(\w+)\}", r"_\1_", template))


def _filled(template: str, parts: Sequence[object], named: Mapping[str, object]) -> list[ast.stmt]:
    given = {f"_{key}_": literal(part) for key, part in [*enumerate(parts), *named.items()]}
    return [_copied(one, given) for one in _parsed(template).body]


def _copied(part: Any, given: Mapping[str, Code]) -> Any:
    """A part of a template, with what is given in its places."""
    if isinstance(part, list):
        return [_copied(one, given) for one in part]
    if not isinstance(part, ast.AST):
        return part
    if isinstance(part, ast.Name) and part.id in given:
        found = given[part.id]
        return ast.Name(found.id, part.ctx) if isinstance(found, ast.Name) else found
    return type(part)(**{name: _copied(getattr(part, name, None), given) for name in part._fields})
