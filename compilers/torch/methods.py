"""The text of methods: what they take out of the run, what they unpack, what they free."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter, Unit

_RUN = ("time", "old", "new", "at")


def written(unit: Unit, e: Emitter, lines: Sequence[str]) -> list[str]:
    """The method of a region, and one for what only parameters decide, if it needs any of that."""
    given = "".join(f", {e.names[name]}: Tensor" for name in e.columns)
    return with_constants(unit, given, "Any", _freed(lines) if e.mode == "sequence" else list(lines))


def with_constants(unit: Unit, given: str, result: str, lines: list[str]) -> list[str]:
    methods = []
    if unit.kept:
        several = f"{', '.join(unit.kept)}{',' if len(unit.kept) == 1 else ''}"
        made = [*unit.constant.lines, f"return ({several})"]
        methods.append(defined(f"{unit.method}_constants", "", "tuple[Any, ...]", made))
        lines = [f"{several} = run.constants(self.{unit.method}_constants)", *lines]
    return [*methods, defined(unit.method, given, result, lines)]


def defined(name: str, arguments: str, result: str, lines: list[str]) -> str:
    return "\n".join(
        [f"    def {name}(self, run: Any{arguments}) -> {result}:", *(f"        {line}" for line in _opened(lines))]
    )


def _opened(lines: list[str]) -> list[str]:
    """The lines of a method, behind one that takes out of the run what they use."""
    used = [name for name in _RUN if any(re.search(rf"\b{name}\b", line) for line in lines)]
    if not used:
        return lines
    return [f"{', '.join(used)} = {', '.join(f'run.{name}' for name in used)}", *lines]


def _freed(lines: Sequence[str]) -> list[str]:
    """The lines, with every variable deleted after its last use: over a sequence memory that is still in the cache is used again."""
    last: dict[str, int] = {}
    inside: set[str] = set()
    for i, line in enumerate(lines):
        words = set(re.findall(r"\w+", line))
        last |= dict.fromkeys(words, i)
        if line.startswith((" ", "def ", "for ")) or "lambda" in line:
            inside |= words
    freed: dict[int, list[str]] = {}
    for i, line in enumerate(lines):
        assigned = re.match(r"(\w[\w, ]*?),? = ", line)
        for name in assigned[1].split(", ") if assigned else ():
            if i < last[name] < len(lines) - 1 and name not in inside and name != "_":
                freed.setdefault(last[name], []).append(name)
    return [
        text
        for i, line in enumerate(lines)
        for text in (line, *([f"del {', '.join(dict.fromkeys(freed[i]))}"] if i in freed else []))
    ]
