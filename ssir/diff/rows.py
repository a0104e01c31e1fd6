"""What is said of two states, row by row: each of the one, of the other, and whether they are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ssir.analysis.facts import Facts
from ssir.cli.say import memory
from ssir.diff.equal import made
from ssir.diff.memories import Memory, Pair

NONE = "–"
_FACTS = ("axes", "A", "B", "C", "D", "x", "where", "structure", "depends", "reads", "form", "state bytes")
_COEFFICIENTS = ("A", "B", "C", "D", "x", "initial")


@dataclass(frozen=True)
class Row:
    """A thing that both have, or one has."""

    what: str
    a: str
    b: str
    same: bool

    def record(self) -> dict[str, Any]:
        return {"what": self.what, "a": self.a, "b": self.b, "same": self.same}


@dataclass(frozen=True)
class Section:
    """Rows about a pair of things; ``b`` is empty where only the first architecture has it, ``a`` where only the second has."""

    title: str
    a: str
    b: str
    rows: tuple[Row, ...]

    @property
    def same(self) -> bool:
        return bool(self.a) == bool(self.b) and all(row.same for row in self.rows)

    def record(self) -> dict[str, Any]:
        return {"what": self.title, "a": self.a, "b": self.b, "rows": [row.record() for row in self.rows]}


def states(pair: Pair) -> Section:
    mine, theirs = facts(pair.a), facts(pair.b)
    rows = []
    for what in (what for what in _FACTS if what in mine or what in theirs):
        a, b = mine.get(what, NONE), theirs.get(what, NONE)
        if what == "where":
            a, b = _apart(a, b)
        rows.append(Row(what, a, b, _alike(pair, what, a, b)))
    if all(row.same for row in rows if row.what in _COEFFICIENTS):
        rows = [row for row in rows if row.what != "where"]
    rows = [row for row in rows if (row.a, row.b) != (NONE, NONE)]
    return Section(pair.a.kind, pair.a.name, pair.b.name, tuple(rows))


def _apart(a: str, b: str) -> tuple[str, str]:
    """Lines that only one of two texts has."""
    mine, theirs = a.split("\n"), b.split("\n")
    left, right = [x for x in mine if x not in theirs], [x for x in theirs if x not in mine]
    return "\n".join(left) or NONE, "\n".join(right) or NONE


def _alike(pair: Pair, what: str, a: str, b: str) -> bool:
    """Whether a fact is the same of both, whatever axes and values are called."""
    mine, theirs = pair.a.facts, pair.b.facts
    if what == "axes":
        sides = [[axis for axis in one.axes if axis.size != 1] for one in (mine, theirs)]
        known = renamed(pair)
        sizes = [{known.get(axis.name, axis.name): axis.size for axis in sides[0]}, {x.name: x.size for x in sides[1]}]
        return sizes[0] == sizes[1] and pair.alike(*([axis.name for axis in side] for side in sides))
    if what == "structure":
        axes = [[n for n in one.structure.axes if n in _wide(one)] for one in (mine, theirs)]
        overs = [[one.structure.over] if one.structure.over else [] for one in (mine, theirs)]
        return mine.structure.kind == theirs.structure.kind and pair.alike(*axes) and pair.alike(*overs)
    if what in _COEFFICIENTS:
        tops = [(one.graph, one.node.role(what)) for one in (pair.a, pair.b)]
        if any(top is None for _, top in tops):
            return a == b
        hashes = {made(graph, top) for graph, top in tops if top}
        return len(hashes) == 1 and pair.alike(pair.a.over(what), pair.b.over(what))
    return a == b


def _wide(one: Facts) -> set[str]:
    return {axis.name for axis in one.axes if axis.size != 1}


def renamed(pair: Pair) -> dict[str, str]:
    """The axes that answer to one each."""
    return {next(iter(x)): next(iter(y)) for x, y in pair.axes.items() if len(x) == len(y) == 1}


def facts(one: Memory) -> dict[str, str]:
    """What is said of a state, thing by thing."""
    system, known = one.system, one.facts
    said = {"axes": " × ".join(f"{axis.name} {axis.size or '∞'}" for axis in known.axes)}
    for role in "ABCD":
        if role in system.coefficients and role in one.node.attrs["roles"]:
            over = "×".join(one.over(role))
            formula = system.coefficients[role].formula or "learned"
            said[role] = f"{formula}  [{over}]" if over and role != "A" else formula
    if "x" in one.node.attrs["roles"]:
        said["x"] = f"{system.x[0]}  {system.x[1]}".strip()
    if system.where:
        said["where"] = "\n".join(system.where)
    said["structure"] = str(known.structure)
    said["depends"] = _depends(one)
    extras = ["the state before" * (one.node.attrs["read"] == "before")]
    extras += [
        "max and +" * (one.node.attrs["algebra"] == "max_plus"),
        "initial value" * ("initial" in one.node.attrs["roles"]),
    ]
    if any(extras):
        said["reads"] = ", ".join(filter(None, extras))
    if one.entry is not None:
        said["form"] = one.entry.match.form.name
        said["state bytes"] = memory(0 if known.grows else one.entry.bytes, one.entry.bytes if known.grows else 0)
    return said


def _depends(one: Memory) -> str:
    """A, B, C on the input; D constant; on a cycle"""
    found: dict[str, list[str]] = {}
    for role in "ABCD":
        if role in one.node.attrs["roles"] or role == "A":
            found.setdefault(str(one.facts.dependence[role]), []).append(role)
    words = [f"{', '.join(roles)} {'on the ' * (what != 'constant')}{what}" for what, roles in found.items()]
    return "; ".join([*words, *(["on a cycle"] if one.facts.cycle else [])])
