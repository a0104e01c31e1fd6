"""A state-space node as a box: a delay, a filter with constant taps, a register, or a table of its coefficients and its memory."""

from __future__ import annotations

from ssir.analysis.facts import Facts, facts
from ssir.draw.formula import Formula
from ssir.draw.meanings import Told, written
from ssir.draw.picture import Box, Cell, Kind, Shade
from ssir.draw.signals import LONGEST, Signals, called
from ssir.draw.values import delayed_by
from ssir.draw.words import is_fixed, power, product, sizes
from ssir.ir.graph import Axis, Dependence, Graph, Node

# A value, the cell that it enters, and the formula there, which may use its name.
Feed = tuple[str, str, str]


def shade(graph: Graph, known: Facts, role: str) -> Shade:
    """What a coefficient depends on, as a colour."""
    dependence = known.dependence[role]
    if dependence is Dependence.CONSTANT:
        name = known.node.role(role)
        return Shade.FIXED if name is None or is_fixed(graph, name) else Shade.LEARNED
    return {Dependence.POSITION: Shade.POSITION, Dependence.INPUT: Shade.INPUT, Dependence.STATE: Shade.STATE}[
        dependence
    ]


def words(shade: Shade) -> str:
    return {Shade.FIXED: "constant", Shade.LEARNED: "constant, learned"}.get(shade, shade.value)


def size(axes: tuple[Axis, ...]) -> str:
    """1536×16 = 24 576: the numbers that are remembered for a sequence, or for a token where that grows."""
    n = 1
    for axis in axes:
        n *= axis.size or 1
    if any(axis.size is None for axis in axes):
        return f"{sizes(axes)}: {n:,} a token".replace(",", " ")
    return f"{sizes(axes)} = {n:,}".replace(",", " ") if len(axes) > 1 else f"{n:,}".replace(",", " ")


def drawn(signals: Signals, node: Node) -> tuple[Box, list[Feed], Told]:
    """The box of a state, what feeds it (a value, the cell that it enters, the formula there, which may use its name), and what has
    been written."""
    graph = signals.graph
    border = Shade.STATE if node.name in graph.cycle_of else Shade.INPUT
    axes = tuple(Axis(name, number) for name, number in node.attrs["axes"])
    x = node.role("x")
    steps = delayed_by(graph, node)
    told = Told()
    stands = {node.name}
    if steps is not None and x is not None:
        shown = axes if steps == 1 else tuple(a for a in axes if a.name in graph[x].type.names)
        start = node.role("initial")
        first = f"\nat first {written(signals, start, told) or 'learned'}" if start else ""
        a = node.role("A") or ""
        stands |= {a, *graph[a].inputs}
        note = f"[{product(shown)}]{first}"
        return (
            Box(node.name, Kind.DELAY, f"z{power(-steps)}", note, border, stands=frozenset(stands)),
            [(x, "", "")],
            told,
        )
    known = facts(graph, node)
    cells: list[Cell] = []
    feeds: list[Feed] = []
    for role in node.attrs["roles"]:
        if role != "x":
            cell, fed = coefficient(signals, known, role, told)
            cells.append(cell)
            feeds += fed
        elif x is not None:
            feeds.append((x, "x", ""))
    if node.role("A") is None:
        cells.insert(0, Cell("A", "1", ("identity", "constant"), Shade.FIXED))
    if any(cell for _, cell, _ in feeds if cell != "x") and x is not None:
        at = next((i for i, cell in enumerate(cells) if cell.letter in "CD"), len(cells))
        cells.insert(at, Cell("x", "", (), None))
    label = called(signals, node)
    note = f"[{product(axes)}]" + ("\nread before" if node.attrs["read"] == "before" else "")
    if node.attrs["algebra"] == "max_plus":
        note += "\nmax and +"
    box = Box(
        node.name, Kind.MEMORY, label, note, border, cells=tuple(cells), size=size(axes), stands=frozenset(stands)
    )
    return box, feeds, told


def coefficient(signals: Signals, known: Facts, role: str, told: Told) -> tuple[Cell, list[Feed]]:
    """The cell of a coefficient, and the signals that feed it."""
    name = known.node.role(role)
    assert name is not None
    colour = shade(signals.graph, known, role)
    said = (str(known.structure), words(colour)) if role == "A" else (words(colour),)
    letter = "h₀" if role == "initial" else role
    leaves, formula, writer = _opened(signals, name, role, known.node.name)
    told.add(writer)
    if len(formula) > LONGEST:
        told.lines.append(f"{letter} of {called(signals, known.node)} = {formula}")
        formula = ""
    if known.structure.kind == "shift" and role == "A":
        formula = ""
    stands = frozenset(writer.spelled)
    return Cell(letter, formula, said, colour, stands=stands), [(leaf, letter, formula) for leaf in leaves]


def _opened(signals: Signals, name: str, role: str, state: str) -> tuple[list[str], str, Formula]:
    """A coefficient as a formula, as deep as it stays short, the values in it that are drawn as signals, and its writer."""
    graph = signals.graph
    operators, values = _values(graph, name)
    for deep in (True, False):
        inside = {*operators, state}
        leaves: list[str] = []
        for value in values:
            leaves += _leaves(signals, value, inside, deep)
        sources = set(map(signals.plain, leaves))
        functions = len(inside) - len(operators) - 1
        writer = signals.formula(leaves)
        formula = writer.of(name)
        if formula == "·" or signals.names.nameless(name):
            formula = ""
            writer.called.clear()
            writer.spelled |= signals.names.parameter(name)
        readable = role == "A" or len(sources) <= 1
        named = all(signals.symbol(leaf) for leaf in leaves)
        if not deep or (readable and len(formula) <= LONGEST and (named or (functions > 1 and len(sources) == 1))):
            return list(dict.fromkeys(leaves)), formula, writer
    raise AssertionError("unreachable: a coefficient that is not opened is always short enough")


def _values(graph: Graph, name: str) -> tuple[set[str], list[str]]:
    """The operators of an A, and the values that they are made of."""
    operators: set[str] = set()
    values: list[str] = []
    todo = [name]
    while todo:
        node = graph[todo.pop(0)]
        if node.op.startswith("op."):
            operators.add(node.name)
            todo = [*node.inputs, *todo]
        else:
            values.append(node.name)
    return operators, values


def _leaves(signals: Signals, value: str, inside: set[str], deep: bool) -> list[str]:
    if value not in signals.live:
        return []
    grown = set(inside)
    if not deep or not signals.opens(value, grown, named=True):
        return [value]
    inside |= grown
    return signals.leaves(signals.plain(value), inside)
