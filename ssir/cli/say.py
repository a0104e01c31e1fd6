"""How results are printed: tables and text for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from ssir.errors import SpecError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SCHEMA_VERSION = 1
WIDTH = 120


def console(stderr: bool = False) -> Console:
    """A console that takes text literally; as wide as the terminal, or wide enough for a file."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=None if stream.isatty() else WIDTH)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A plain table; the columns in ``right`` hold numbers."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(
            column, justify="right" if column in right else "left", overflow="fold", no_wrap=column in right
        )
    return made


def record(**values: Any) -> None:
    """Print one JSON object."""
    print(
        json.dumps(
            {"schema_version": SCHEMA_VERSION, **values}, indent=2, ensure_ascii=False, allow_nan=False, default=str
        )
    )


def faults(error: SpecError) -> list[dict[str, Any]]:
    """The diagnostics of an error as plain data."""
    found = []
    for one in error.diagnostics:
        place = one.span and {
            "file": one.span.source.name,
            "line": one.span.line,
            "column": one.span.column,
            "end_column": one.span.end_column,
        }
        found.append(
            {
                "level": one.level,
                "code": one.code,
                "message": one.message,
                "place": place,
                "notes": list(one.notes),
                "help": one.help,
            }
        )
    return found


def quantity(value: float) -> str:
    """A large number in words: 129.1 M."""
    for bound, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= bound:
            return f"{value / bound:.1f} {unit}"
    return f"{value:g}"


def size(count: float) -> str:
    """A number of bytes in words: 1.5 MiB."""
    for bound, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= bound:
            return f"{count / bound:.1f} {unit}"
    return f"{count:g} B"


def memory(fixed: float, growth: float) -> str:
    """Bytes of state of a sequence: what stays, and what each token adds."""
    parts = [size(fixed)] if fixed or not growth else []
    return " + ".join([*parts, f"{size(growth)}/token"] if growth else parts)
