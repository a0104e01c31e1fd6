"""A plan as a table: a row a state, and the totals."""

from __future__ import annotations

import html as escaping
from io import StringIO
from typing import TYPE_CHECKING, Any

from ssir.cli import say

if TYPE_CHECKING:
    from rich.console import Console

    from ssir.compilers.plan import Plan

_COLUMNS = ("state", "A", "depends on", "form", "why", "memory")
_NO_STATE = "no state: nothing here remembers"


def tell(plan: Plan, console: Console) -> None:
    """Print it."""
    table = say.table(*_COLUMNS, right=("memory",))
    for entry in plan.entries:
        table.add_row(*_row(entry.record(), plan.at.dtype))
    console.print(table if plan.entries else _NO_STATE)
    console.print()
    for name, value in _totals(plan).items():
        console.print(f"{name:13}{value}")


def text(plan: Plan) -> str:
    """As ``tell`` prints it."""
    from rich.console import Console

    stream = StringIO()
    tell(plan, Console(file=stream, highlight=False, markup=False, emoji=False, width=say.WIDTH))
    return stream.getvalue().rstrip()


def html(plan: Plan) -> str:
    """As HTML."""
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    rows = "".join(f"<tr>{''.join(map(_cell, _row(entry.record(), plan.at.dtype)))}</tr>" for entry in plan.entries)
    totals = "<br>".join(f"{name}: {escaping.escape(value)}" for name, value in _totals(plan).items())
    table = (
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if plan.entries else f"<p>{_NO_STATE}</p>"
    )
    return f"{table}<p>{totals}</p>"


def _cell(words: str) -> str:
    return f'<td style="text-align: left">{escaping.escape(words).replace(chr(10), "<br>")}</td>'


def _row(one: dict[str, Any], dtype: str) -> tuple[str, ...]:
    return (
        f"{one['state']} ×{one['count']}" if one["count"] > 1 else one["state"],
        one["structure"] + (", on a cycle" if one["on_cycle"] else ""),
        _depends(one["depends_on"]),
        one["form"] + "".join(f"\nor {other}" for other in one["also"]),
        one["why"],
        _held(one, dtype),
    )


def _totals(plan: Plan) -> dict[str, str]:
    memory = say.memory(plan.state_bytes, plan.growth)
    alike = all(entry.dtype == plan.at.dtype for entry in plan.entries)
    found = {
        "parameters": say.quantity(plan.parameters),
        "FLOPs/token": say.quantity(plan.flops),
        "state": f"{memory} a sequence" + (f", in {plan.at.dtype}" if alike else ""),
    }
    if plan.wide and plan.at.dtype in ("bfloat16", "float16"):
        found["float32"] = f"{', '.join(plan.wide)}: also where the model is narrower"
    if plan.answers:
        found["answers"] = f"{', '.join(plan.answers)}: one for a sequence"
    if plan.training is not None:
        others = "".join(f"; {path} by `{form}`" for path, form in plan.training.items())
        found["training"] = f"with dropout{others}"
    if not plan.has_step:
        found["steps"] = "whole sequences only: the future is read (`ssir explain SSIR022`)"
    return found


def _depends(roles: dict[str, str]) -> str:
    """A, B: input; D: constant"""
    grouped: dict[str, list[str]] = {}
    for role, dependence in roles.items():
        grouped.setdefault(dependence, []).append(role)
    return "\n".join(f"{', '.join(letters)}: {dependence}" for dependence, letters in grouped.items())


def _held(one: dict[str, Any], dtype: str) -> str:
    each = say.size(one["bytes"]) + ("/token" if one["grows"] else "")
    kept = f"\n{one['dtype']}" if one["dtype"] != dtype else ""
    return (f"{one['count']} × {each}" if one["count"] > 1 else each) + kept
