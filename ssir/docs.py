"""Writes the parts of the documentation that the code knows best: `python -m ssir.docs [DIR]`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ssir import catalogue
from ssir.codes import CODES
from ssir.diff import page as compared
from ssir.functions.kinds import Init, Later, Nested, Operator, Symbol
from ssir.ir.graph import Axis, Node
from ssir.ir.ops import MODULES
from ssir.registry import registry

_KINDS: Mapping[Any, str] = {
    Node: "value",
    Operator: "value or operator",
    Later: "value of this step, remembered",
    Axis: "axis",
    Init: "initialiser",
    Symbol: "word",
    Nested: "values in nested brackets",
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "name",
    tuple[Axis, ...]: "axis or [axes]",
    list[Node]: "[values]",
}


def functions() -> str:
    """docs/functions.md: every function that a spec may call here."""
    by_owner: dict[str, list[str]] = {}
    for name, call in registry.all("function"):
        by_owner.setdefault(registry.owner("function", name), []).append(_function(name, call))
    parts = ["# Functions", "", "Written by `python -m ssir.docs` from the functions themselves.", ""]
    for owner in sorted(by_owner, key=lambda owner: (owner != "core", owner)):
        parts += [f"## {'The core' if owner == 'core' else f'The plugin `{owner}`'}", "", *sorted(by_owner[owner]), ""]
    return "\n".join(parts).rstrip() + "\n"


def _function(name: str, call: Callable[..., Any]) -> str:
    parameters = list(inspect.signature(call, eval_str=True).parameters.values())[1:]
    shown = ", ".join(map(_parameter, parameters))
    kinds = "; ".join(f"`{p.name}`: {_kind(p.annotation)}" for p in parameters)
    text = " ".join((inspect.getdoc(call) or "").split())
    return f"- **`{name}({shown})`** {text}  \n  {kinds}" if kinds else f"- **`{name}()`** {text}"


def _parameter(parameter: inspect.Parameter) -> str:
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return "old=new, ..."
    if parameter.default is inspect.Parameter.empty:
        return parameter.name
    default = parameter.default
    if isinstance(default, bool):
        default = str(default).lower()
    elif isinstance(default, tuple):
        default = "[]"
    return f"{parameter.name}={'...' if default is None else default}"


def _kind(annotation: Any) -> str:
    for kind, words in _KINDS.items():
        if annotation == kind or annotation == (kind | None):
            return words
    options = [option for option in getattr(annotation, "__args__", ()) if option is not type(None)]
    literal = [str(word) for option in options for word in getattr(option, "__args__", (option,))]
    return " or ".join(f"`{word}`" for word in literal)


def codes() -> str:
    """docs/codes.md: every error code."""
    parts = ["# Error codes", "", "Written by `python -m ssir.docs`; `ssir explain CODE` prints one.", ""]
    for code, entry in sorted(CODES.items()):
        parts += [f"## {code}: {entry.title}", "", entry.explanation, ""]
        for title, text in (("Wrong", entry.wrong), ("Right", entry.right)):
            if text:
                parts += [f"{title}:", "", "```yaml", text.strip("\n"), "```", ""]
    return "\n".join(parts).rstrip() + "\n"


_PROGRAMS = """
## Programs

What a plan makes of a graph is said in the same IR: `ssir plan NAME --program` prints it. A program has up to five functions, each a graph: `sequence`; `step`;
`begin`, every memory as it is before the first step; and, where that is something else, `apart` and `step_apart`, the first two with memories step by step and
every part called by itself, for states after each step and for hooks. There is no `state` in them. What a value has in front of its axes follows from what it may
change with: nothing if it is `constant`; else batch and time over a sequence, batch in a step. Memories have a batch alone.

`kernel` calls an algorithm. `function`: its module and name. `takes`: of each operand how it is laid out, and its axes, in groups that become one axis each: `full`, batch,
time and groups, all written out; `led`, the same, of size 1 where it does not vary; `still`, a constant, groups alone, and `thin`, the same, of size 1 where it does
not vary; `entries`, a register, batch, entries and groups; `object`, as it is. The last of them, as many as `behind` says, come after the memory and what `with` names:
`reset`, or the whole `time`. Then come `options`. `gives`: the groups of the result; `held`: those of the memory.
"""


def operations() -> str:
    """docs/ir.md: the operations of the IR."""
    parts = ["# The IR", "", "Written by `python -m ssir.docs` from the table of operations.", ""]
    parts += ["`?`: may be missing; `*`: any number. `ssir show NAME --ir` prints the IR of a spec.", ""]
    rooms = [((inspect.getdoc(module) or "").split(".")[0], module.OPS) for module in MODULES]
    rooms.append(("Of the plugins", tuple(one.op for _, one in registry.all("op"))))
    for words, ops in rooms:
        parts += [f"## {' '.join(words.split())}", "", " · ".join(f"`{op}`" for op in ops), ""]
    parts += _PROGRAMS.strip().splitlines()
    return "\n".join(parts).rstrip() + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "functions.md": functions,
    "codes.md": codes,
    "ir.md": operations,
    "zoo.md": catalogue.page,
    "diff.md": compared.page,
}


def main() -> None:
    """Write the pages into a folder (docs, if none is named)."""
    where = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    for name, page in PAGES.items():
        (where / name).write_text(page(), encoding="utf-8")
    catalogue.write_pictures(where)
    compared.write_pictures(where)


if __name__ == "__main__":
    main()
