"""An analysis as text: three tables, for people."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ssir.analyze import Analysis
from ssir.analyze.costs import LENGTHS, Costs
from ssir.analyze.poles import QUANTILES, Array, Poles, five, layers, spread
from ssir.analyze.responses import FREQUENCIES, Response, decibels
from ssir.cli import say
from ssir.ir.graph import Dependence

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_WIDTH = 120
_LAYERS = 8  # of a state, in rows of their own
_TOKEN = 1024  # the length at which costs a token are told
_NAME = 30  # letters of a name on a line
_AT = (64, 1024, 16384, 65536)  # lengths that costs are told for


def text(analysis: Analysis) -> str:
    """The whole, as wide as it needs to be."""
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, highlight=False, markup=False, emoji=False, width=_WIDTH)
    for part in parts(analysis):
        console.print(part, soft_wrap=isinstance(part, str))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def parts(analysis: Analysis) -> Iterator[RenderableType]:
    """What is printed, one after another."""
    if not analysis.poles:
        yield f"{analysis.name}: no state, nothing here remembers"
        return
    drawn = "its own parameters" if analysis.trained else f"parameters drawn with the seed {analysis.seed}"
    yield f"{analysis.name}, with {drawn}"
    if analysis.words:
        yield f"What depends on the input was looked at over {analysis.words}."
    yield ""
    yield from _poles(analysis.poles)
    if analysis.responses:
        yield ""
        yield from _responses(analysis.responses)
    yield ""
    yield from _costs(analysis)


def _poles(found: Sequence[Poles]) -> Iterator[RenderableType]:
    yield "Poles a of A: least and greatest; half-life in steps: least, quartiles and greatest. A is constant where nothing is said"
    table = _table("state", "A", "|a|", "cycles/step", "half-life")
    table.columns[2].no_wrap = table.columns[4].no_wrap = True
    notes: dict[str, None] = {}
    for kind, group in layers(found):
        facts = group[0].place.facts
        name = f"{kind} ×{len(group)}" if len(group) > 1 else kind
        log = group[0].place.node.attrs["algebra"] == "max_plus"
        told = f"{facts.structure}{', exp(A)' if log else ''}{_seen(group)}"
        table.add_row(_broken(name), told, *_cells(group))
        if len(group) > 1 and _differ(group):
            for i in spread(np.arange(len(group)), _LAYERS):
                table.add_row(f"  {group[i].place.frame.prefix.rstrip('.')}", "", *_cells(group[i : i + 1]))
            if len(group) > _LAYERS:
                table.add_row(f"  ({_LAYERS} of {len(group)} layers)", "", "", "", "")
        notes |= dict.fromkeys(_notes(kind, group))
    yield table
    yield from notes


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table whose first column holds names that are broken where they may be."""
    made = say.table(*columns, right=right)
    made.columns[0].no_wrap = True
    return made


def _broken(name: str) -> str:
    """A path in lines, broken before dots."""
    lines = [""]
    for part in re.split(r"(?=[. ])", name):
        if len(lines[-1]) + len(part) > _NAME and lines[-1]:
            lines.append("  ")
        lines[-1] += part
    return "\n".join(lines)


def _differ(group: Sequence[Poles]) -> bool:
    first = group[0].values
    return any(one.values.shape != first.shape or not np.allclose(one.values, first) for one in group)


def _seen(group: Sequence[Poles]) -> str:
    """At what A was looked at, if it is not constant, on a line of its own."""
    match group[0].place.facts.dependence["A"]:
        case Dependence.CONSTANT:
            return ""
        case Dependence.POSITION:
            return f"\nat {group[0].steps} positions"
    return f"\nat {group[0].steps} steps"


def _cells(group: Sequence[Poles]) -> tuple[str, str, str]:
    """Magnitude, frequency, half-life, over all that is given."""
    first = group[0]
    if first.grows:
        return "0", "", "keeps every step"
    known = [one for one in group if one.values.size]
    if not known:
        return "?", "?", "?"
    windows = {one.window for one in known}
    if None not in windows:
        longest = max(window or 0 for window in windows)
        return "0", "", f"0, gone after {longest} step{'s' if longest > 1 else ''}"
    size = np.concatenate([one.magnitude for one in known])
    turn = np.concatenate([one.frequency for one in known])
    life = np.concatenate([one.half_life for one in known])
    return _few(size, 4, "min", "max"), _few(turn, 2, "min", "max"), _few(life, 3, *QUANTILES)


def _few(values: Array, digits: int, *wanted: str) -> str:
    known = five(values)
    found = [_number(known[name], digits) for name in wanted]
    return found[0] if len(set(found)) == 1 else " · ".join(found)


def _number(value: float | None, digits: int = 3) -> str:
    if value is None or value == np.inf:
        return "never"
    return f"{value:.0f}" if 1000 <= value < 1e7 else f"{value:.{digits}g}"


def _notes(kind: str, group: Sequence[Poles]) -> Iterator[str]:
    for one in group:
        if one.unknown:
            yield f"{kind}: {one.unknown}"
        if one.looked < one.entries:
            yield f"{kind}: {one.looked} of {one.entries} poles were looked at, evenly spaced"
        if one.unstable:
            yield f"{one.place.path}: {one.unstable:.1%} of the poles lie outside the unit circle"
        jacobian = one.jacobian
        if jacobian is not None:
            states = ", ".join(jacobian.states)
            found = jacobian.unknown or _radii(jacobian.radius, jacobian.at)
            yield f"cycle of {states} in {one.place.frame.prefix.rstrip('.') or 'the graph'}: {found}"


def _radii(radius: Array, at: Sequence[int]) -> str:
    told = ", ".join(f"{x:.3g}" for x in radius)
    return f"the one-step Jacobian has the spectral radius {told} at the steps {', '.join(map(str, at))}"


def _responses(found: Sequence[Response]) -> Iterator[RenderableType]:
    yield "Responses of constant systems"
    numbers = ("half-life", f"gain at {FREQUENCIES[0]:g}", "greatest gain", "at cycles/step")
    table = _table("state", "memory", "channel", *numbers, right=numbers)
    for one in found:
        for i, (name, channel) in enumerate(one.channels.items()):
            gain = decibels(channel.frequency(FREQUENCIES))
            finite = np.where(np.isfinite(gain), gain, -np.inf)
            where = ", ".join(f"{axis} {i}" for axis, i in channel.at.items())
            layer = channel.place.frame.prefix.rstrip(".")
            life = _number(channel.half_life)
            heard = f"{gain[0]:.1f} dB", f"{finite.max():.1f} dB", f"{FREQUENCIES[finite.argmax()]:.2g}"
            if not channel.stable:
                heard = "it grows", "", ""
            table.add_row("" if i else _broken(one.kind), name, f"{layer}: {where}" if layer else where, life, *heard)
    if table.row_count:
        yield table
    yield from (f"{one.kind}: {one.unknown}" for one in found if one.unknown)


def _costs(analysis: Analysis) -> Iterator[RenderableType]:
    where = (
        f"{analysis.at.dtype}, {analysis.at.batch} sequence{'s' if analysis.at.batch > 1 else ''}, {analysis.at.device}"
    )
    yield f"Costs of the forms of each state over T steps, as the plan expects them, in {where}; a token's at T = {_TOKEN}"
    alike: dict[object, list[Costs]] = {}
    for one in analysis.costs:
        alike.setdefault((one.signature, one.bytes, one.facts.grows), []).append(one)
    forms = [form for one in analysis.costs for form in one.forms]
    for i, group in enumerate(alike.values()):
        names = ", ".join(f"{one.kind} ×{one.count}" if one.count > 1 else one.kind for one in group)
        if i == 0:
            yield _priced(None, forms)
        yield f"{names}: {say.size(group[0].bytes)}{'/token' if group[0].facts.grows else ''} of state"
        yield _priced(group[0], forms)


def _priced(one: Costs | None, forms: Sequence[str]) -> Table:
    """The forms of a state, the fastest over the longest sequence first; without a state, the head of the table."""
    numbers = ("FLOPs/token", "bytes/token", *(f"T = {n}" for n in _AT))
    table = say.table("  form", *numbers, "cheapest", right=numbers)
    table.show_header = one is None
    table.columns[0].min_width = 2 + max(map(len, forms))
    for column in table.columns[1:-1]:
        column.min_width = 11
    if one is None:
        return table
    ranges = spans(one)
    for form in sorted(one.forms, key=lambda form: one.seconds(form)[-1]):
        cost, seconds = one.forms[form][LENGTHS.index(_TOKEN)], one.seconds(form)
        times = (duration(seconds[LENGTHS.index(n)]) for n in _AT)
        moved = say.quantity(round(cost.flops)), say.quantity(round(cost.bytes))
        table.add_row(f"  {form}", *moved, *times, ranges.get(form, ""))
    others = sorted(set(one.planned) - set(one.forms))
    if others:
        table.add_row(f"  {', '.join(others)}", *["–"] * 6, "as planned, with another state")
    return table


def spans(one: Costs) -> dict[str, str]:
    """For each form that is the cheapest somewhere, where that is."""
    edges = [(LENGTHS[0], one.cheapest[0]), *one.crossovers]
    found: dict[str, list[str]] = {}
    for i, (start, form) in enumerate(edges):
        end = edges[i + 1][0] if i + 1 < len(edges) else None
        if len(edges) == 1:
            words = "always"
        elif end is None:
            words = f"from {start}"
        else:
            words = f"below {end}" if i == 0 else f"{start} to {end - 1}"
        found.setdefault(form, []).append(words)
    return {form: ", ".join(words) for form, words in found.items()}


def duration(seconds: float) -> str:
    """12.3 ms"""
    for bound, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= bound:
            return f"{seconds / bound:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"
