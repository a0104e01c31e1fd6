"""Two rows of boxes and wires as one: boxes that answer to each other stand once, and it is known what only one row has.

Two boxes answer to each other as far as they are the same kind of thing, as what feeds them and what they feed does, and as they lead to the
same coefficients and outputs; from the memories outwards, the surest first, and never so that a signal would have to run backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import networkx as nx

from ssir.draw.path import first_port
from ssir.draw.picture import Box, Kind, Row, Wire

_ROUNDS = 8
_SURE = 0.42
_APART = 2
_OUT = "out "
Pairs = dict[str, str]


@dataclass(frozen=True)
class Joined(Box):
    """A box of one row (``side`` 0 or 1), or of both (None); ``other`` is then the second row's, and ``equal`` says what of it means the
    same, however it is written: a box itself by an empty letter, the coefficients of a memory by theirs; ``akin``: which coefficients are
    of one law. ``cells`` has those of both; ``letters`` are the first row's own."""

    side: int | None = None
    other: Box | None = None
    equal: frozenset[str] = frozenset()
    akin: frozenset[str] = frozenset()
    letters: frozenset[str] = frozenset()


@dataclass(frozen=True)
class JoinedWire(Wire):
    side: int | None = None


def answering(a: Row, b: Row, known: Mapping[str, str]) -> Pairs:
    """Which boxes of a row answer to which of another; ``known``: those memories that do."""
    pairs: Pairs = {x: y for x, y in known.items() if x in a.boxes and y in b.boxes}
    for x, y in (*zip(_outputs(a), _outputs(b), strict=False), (first_port(a), first_port(b))):
        if x and y and _forwards(a, b, {**pairs, x: y}):
            pairs[x] = y
    alike = {
        (x, y): _alike(one, other)
        for x, one in a.boxes.items()
        for y, other in b.boxes.items()
        if x not in pairs and y not in pairs.values()
    }
    alike = {pair: likeness for pair, likeness in alike.items() if likeness}
    ends = [(_ends(row, 0), _ends(row, 1)) for row in (a, b)]
    while alike:
        score = {**alike, **dict.fromkeys(pairs.items(), 1.0)}
        for _ in range(_ROUNDS):
            score = {
                pair: 1.0 if pairs.get(pair[0]) == pair[1] else alike[pair] * (0.3 + 0.7 * _around(pair, ends, score))
                for pair in score
            }
        leads = (_leads(ends[0][1], set(pairs), pairs), _leads(ends[1][1], set(pairs.values()), {}))
        for pair in alike:
            score[pair] *= 0.4 + 0.6 * _shared(leads[0][pair[0]], leads[1][pair[1]])
        order = {pair: i for i, pair in enumerate(alike)}
        best = max(alike, key=lambda pair: (round(score[pair], 6), pair[0] == pair[1], -order[pair]))
        if score[best] < _SURE:
            break
        if _forwards(a, b, {**pairs, best[0]: best[1]}):
            pairs[best[0]] = best[1]
            alike = {pair: n for pair, n in alike.items() if pair[0] != best[0] and pair[1] != best[1]}
        else:
            del alike[best]
    return pairs


def _outputs(row: Row) -> list[str]:
    """The outputs, in order."""
    return [key for key in row.boxes if key.startswith(_OUT)]


Leads = dict[tuple[str, str], int]


def _leads(feeds: Ends, fixed: set[str], names: Mapping[str, str]) -> dict[str, Leads]:
    """For each box where it leads: the nearest of those that are ``fixed``, under their ``names``, and the coefficients of theirs, each
    with how far it is."""
    found: dict[str, Leads] = {}
    for start in feeds:
        led: Leads = {}
        todo, seen = [(start, 1)], {start}
        while todo:
            here, far = todo.pop(0)
            for key, cell in feeds[here]:
                if key in fixed:
                    led.setdefault((names.get(key, key), cell), far)
                elif key not in seen:
                    seen.add(key)
                    todo.append((key, far + 1))
        found[start] = led
    return found


def _shared(mine: Leads, theirs: Leads) -> float:
    """How far two boxes lead to the same, and from as far; A says most of what a signal is for."""
    weight = {end: 2.0 if end[1] == "A" else 1.0 for end in (*mine, *theirs)}
    apart = {end: abs(mine[end] - theirs[end]) for end in mine if end in theirs}
    both = sum(weight[end] / (1 + steps / 4) for end, steps in apart.items() if steps <= _APART)
    return both / sum(weight.values()) if weight else 1.0


def _alike(a: Box, b: Box) -> float:
    """How far two boxes are the same by themselves; 0: they cannot answer to each other."""
    if a.kind is not b.kind or a.kind is Kind.MEMORY:
        return 0.0
    if a.kind is Kind.PORT:
        return float(a.key.startswith(_OUT) == b.key.startswith(_OUT))
    if a.label == b.label:
        return 1.0 if a.name == b.name else 0.97
    return {Kind.PROJECTION: 0.8, Kind.FUNCTION: 0.6, Kind.COMPONENT: 0.6}.get(a.kind, 0.0)


Ends = dict[str, list[tuple[str, str]]]


def _ends(row: Row, end: int) -> Ends:
    """For each box the boxes at the other end of its wires, with the cell that a wire enters: those that feed it, or that it feeds."""
    found: Ends = {key: [] for key in row.boxes}
    for wire in row.wires:
        here, there = (wire.head, wire.tail) if end == 0 else (wire.tail, wire.head)
        found[here].append((there, wire.cell))
    return found


def _around(pair: tuple[str, str], ends: list[tuple[Ends, Ends]], score: Mapping[tuple[str, str], float]) -> float:
    """How far what stands around two boxes is the same."""
    total, count = 0.0, 0
    for end in (0, 1):
        mine, theirs = ends[0][end][pair[0]], ends[1][end][pair[1]]
        count += max(len(mine), len(theirs))
        left = list(theirs)
        for key, cell in mine:
            fitting = [(score.get((key, other), 0.0), i) for i, (other, at) in enumerate(left) if at == cell]
            if fitting:
                best, i = max(fitting)
                total += best
                left.pop(i)
    return total / count if count else 1.0


def _forwards(a: Row, b: Row, pairs: Pairs) -> bool:
    """Whether the two rows as one still run from left to right."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    names = (_first, _second(pairs))
    for row, name in zip((a, b), names, strict=True):
        graph.add_edges_from((name(wire.tail), name(wire.head)) for wire in row.wires if not wire.back)
    return bool(nx.is_directed_acyclic_graph(graph))


def _first(key: str) -> str:
    """What a box of the first row is called among those of both."""
    return f"a {key}"


def _second(pairs: Pairs) -> Callable[[str], str]:
    """What a box of the second row is called among those of both."""
    back = {y: x for x, y in pairs.items()}
    return lambda key: f"a {back[key]}" if key in back else f"b {key}"


Equal = tuple[frozenset[str], frozenset[str]]
_NOTHING: Equal = (frozenset(), frozenset())


def joined(a: Row, b: Row, pairs: Pairs, equal: Callable[[str, str], Equal]) -> Row:
    """Both rows as one; ``equal`` says of two boxes what of them means the same, and what is akin."""
    second = _second(pairs)
    row = Row(a.title, a.subtitle)
    for key, box in a.boxes.items():
        other = b.boxes[pairs[key]] if key in pairs else None
        row.add(_box(box, f"a {key}", None if other else 0, other, equal(key, pairs[key]) if other else _NOTHING))
    for key, box in b.boxes.items():
        if key not in pairs.values():
            row.add(_box(box, second(key), 1, None))
    wires: dict[tuple[str, str, str], JoinedWire] = {}
    for side, one, name in ((0, a, _first), (1, b, second)):
        for wire in one.wires:
            tail, head = name(wire.tail), name(wire.head)
            cell = wire.cell or ("x" if row.boxes[head].wired else "")
            at = (tail, head, cell)
            if at in wires:
                way = " / ".join(dict.fromkeys(filter(None, (wires[at].way, wire.way))))
                wires[at] = replace(wires[at], side=None, way=way, main=wires[at].main or wire.main)
            else:
                wires[at] = JoinedWire(**_values(wire) | {"tail": tail, "head": head, "cell": cell, "side": side})
    row.wires = list(wires.values())
    row.aligned = f"a {a.aligned}" if a.aligned else None
    return row


def alone(row: Row, side: int) -> Row:
    """A row that nothing of the other architecture answers to."""
    found = Row(row.title, row.subtitle, aligned=row.aligned)
    for key, box in row.boxes.items():
        found.add(_box(box, key, side, None))
    found.wires = [JoinedWire(**_values(wire), side=side) for wire in row.wires]
    return found


def _values(wire: Wire) -> dict[str, Any]:
    return {field.name: getattr(wire, field.name) for field in fields(Wire)}


def _box(box: Box, key: str, side: int | None, other: Box | None, equal: Equal = _NOTHING) -> Joined:
    cells = list(box.cells)
    for cell in other.cells if other else ():
        if cell.letter not in [one.letter for one in cells]:
            cells.append(cell)
    cells.sort(key=lambda cell: "ABxCD".find(cell.letter) % 9)
    values = {field.name: getattr(box, field.name) for field in fields(Box)}
    letters = frozenset(cell.letter for cell in box.cells)
    values |= {"key": key, "cells": tuple(cells)}
    return Joined(**values, side=side, other=other, equal=equal[0], akin=equal[1], letters=letters)
