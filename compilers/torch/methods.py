"""The text of methods: what they take out of the run, what they unpack, what they free."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ssir.compilers.torch.code import Line, binding, bound, code, literal, name_of, names, text, variable

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter, Unit

_RUN = ("time", "old", "new", "at")


def written(unit: Unit, e: Emitter, lines: Sequence[Line]) -> list[str]:
    """The method of a region, and one for what only parameters decide, if it needs any of that."""
    given = [name_of(e.names[name]) or "" for name in e.columns]
    return with_constants(unit, given, "Any", _freed(lines) if e.mode == "sequence" else list(lines))


def with_constants(unit: Unit, given: Sequence[str], result: str, lines: list[Line]) -> list[str]:
    methods = []
    if unit.kept:
        several = literal(tuple(map(variable, unit.kept)))
        made = [*unit.constant.lines, Line(ast.Return(several))]
        methods.append(defined(f"{unit.method}_constants", (), "tuple[Any, ...]", made))
        found = code(f"run.constants(self.{unit.method}_constants)")
        lines = [Line(binding(several, found)), *lines]
    return [*methods, defined(unit.method, given, result, lines)]


def defined(name: str, arguments: Sequence[str], result: str, lines: Sequence[Line]) -> str:
    given = "".join(f", {argument}: Tensor" for argument in arguments)
    return f"    def {name}(self, run: Any{given}) -> {result}:\n{text(_opened(lines), '        ')}"


def _opened(lines: Sequence[Line]) -> list[Line]:
    """The lines of a method, behind one that takes out of the run what they use."""
    found = {name for line in lines for name in names(line.statement)}
    used = [name for name in _RUN if name in found]
    if not used:
        return list(lines)
    given = [code(f"run.{name}") for name in used]
    one = len(used) == 1
    opening = binding(
        variable(used[0]) if one else literal(tuple(map(variable, used))), given[0] if one else literal(tuple(given))
    )
    return [Line(opening), *lines]


def _freed(lines: Sequence[Line]) -> list[Line]:
    """The lines, with every variable deleted after its last use: over a sequence memory that is still in the cache is used again."""
    last: dict[str, int] = {}
    inside: set[str] = set()
    for i, line in enumerate(lines):
        used = set(names(line.statement))
        last |= dict.fromkeys(used, i)
        if any(isinstance(node, ast.For | ast.FunctionDef | ast.Lambda) for node in ast.walk(line.statement)):
            inside |= used
    freed: dict[int, list[str]] = {}
    for i, line in enumerate(lines):
        for name in bound(line.statement):
            if i < last[name] < len(lines) - 1 and name not in inside and name != "_":
                freed.setdefault(last[name], []).append(name)
    return [one for i, line in enumerate(lines) for one in (line, *_deleted(freed.get(i, [])))]


def _deleted(freed: Sequence[str]) -> list[Line]:
    targets: list[ast.expr] = [ast.Name(name, ast.Del()) for name in dict.fromkeys(freed)]
    return [Line(ast.Delete(targets))] if targets else []
