"""The picture of a comparison: what both have once, in grey; what one has in its colour; what changed with both texts."""

from __future__ import annotations

from collections.abc import Callable

from ssir.diff import law
from ssir.diff.compare import Comparison
from ssir.diff.equal import made
from ssir.diff.merge import Equal, alone, answering, joined
from ssir.diff.notation import Notation
from ssir.draw import levels
from ssir.draw.picture import Row
from ssir.draw.pictures import compact, rows_picture
from ssir.ir.graph import Graph


def picture(found: Comparison) -> str:
    """DOT: a row for each part that both have, as one, and for each that one has."""
    rows: list[Row] = []
    told = [[compact(levels.row(part)) for part in side.parts] for side in (found.a, found.b)]
    for i, j, pairs in found.parts:
        if i is not None and j is not None:
            a, b = told[0][i], told[1][j]
            known = {pair.a.node.name: pair.b.node.name for pair in pairs}
            alike = _equal(found.a.parts[i].graph, found.b.parts[j].graph)
            row = joined(a, b, answering(a, b, known), alike)
            row.title = a.title if a.title == b.title else f"{a.title} and {b.title}"
            row.subtitle = "\n".join(dict.fromkeys(filter(None, map(found.sentence, pairs))))
            rows.append(row)
        elif i is not None:
            rows.append(alone(told[0][i], 0))
        elif j is not None:
            rows.append(alone(told[1][j], 1))
    return rows_picture(rows, None, aligned=False, notation=Notation(found))


def _equal(a: Graph, b: Graph) -> Callable[[str, str], Equal]:
    """Of two boxes what of them is made alike, and which coefficients have one law."""
    known: tuple[dict[str, str], dict[str, str]] = ({}, {})

    def equal(x: str, y: str) -> Equal:
        if x not in a.nodes or y not in b.nodes:
            return frozenset({""}), frozenset()
        if a[x].op != "state" or b[y].op != "state":
            return frozenset({""} if made(a, x, known[0]) == made(b, y, known[1]) else ()), frozenset()
        roles = set(a[x].attrs["roles"]) & set(b[y].attrs["roles"])
        tops = {role: (a[x].role(role) or "", b[y].role(role) or "") for role in roles}
        letters = {role for role, (p, q) in tops.items() if made(a, p, known[0]) == made(b, q, known[1])}
        laws = law.law(a, a[x]), law.law(b, b[y])
        akin = {role for role in roles & laws[0].keys() & laws[1].keys() if law.akin(laws[0][role], laws[1][role])}
        return frozenset("h₀" if role == "initial" else role for role in letters), frozenset(akin)

    return equal
