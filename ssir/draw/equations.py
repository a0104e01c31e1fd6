"""What is said of a state in its diagram: its equation, and its coefficients as mathematics."""

from __future__ import annotations

from collections.abc import Mapping

from ssir.analysis.facts import Facts, facts
from ssir.draw import state_box
from ssir.draw.circuit import Coefficient, System
from ssir.draw.formula import Formula
from ssir.draw.maths import Maths, text
from ssir.draw.picture import Shade
from ssir.draw.signals import SHORT, Signals
from ssir.draw.words import product
from ssir.ir.graph import Graph, Node

_LONGEST = 44
_SHORT = 16
_MOST_WHERE = 6
_LONGEST_WHERE = 90


def system(graph: Graph, node: Node, title: str, signs: Mapping[str, str]) -> System:
    """A state as its diagram says it."""
    signals = Signals(graph, signs)
    title = f"{title} · {state_box.called(signals, node)}"
    known = facts(graph, node)
    used: dict[str, str] = {}
    coefficients: dict[str, Coefficient] = {}
    for role in "ABCD":
        if node.role(role) is not None:
            coefficients[role] = _coefficient(signals, known, role, used)
    if node.role("A") is None:
        coefficients["A"] = Coefficient("A", "1", "identity · constant", Shade.FIXED)
    elif known.structure.kind == "zero":
        del coefficients["A"]
    x = node.role("x")
    register = known.structure.kind == "shift" and "initial" not in node.attrs["roles"]
    x_name = _input(signals, x, used) if x else "1"
    return System(
        title=title,
        equation=_equation(node, known),
        maximum=node.attrs["algebra"] == "max_plus",
        x=(x_name, _axes(graph[x]) if x else ""),
        y=("y", _axes(node)),
        memory=(f"{'h' if not register else 'slots'} [{product(known.axes)}]", state_box.size(known.axes)),
        coefficients=coefficients,
        before=node.attrs["read"] == "before",
        register=register,
        slots=known.slots.size if known.slots else None,
        where=(*([node.attrs["sampled"]] if "sampled" in node.attrs else []), *meanings(signals, used)),
    )


def _axes(node: Node) -> str:
    return f"[{product(node.type.axes)}]" if node.type.axes else ""


def _input(signals: Signals, x: str, used: dict[str, str]) -> str:
    """What enters a state: its name, or it itself if that is short."""
    name = signals.symbol(x)
    if name is None:
        deeper: dict[str, str] = {}
        formula = written(signals, x, deeper)
        if 0 < len(formula) <= _SHORT:
            used |= deeper
            return formula
    used.setdefault(x, name or "x′")
    return used[x]


def _coefficient(signals: Signals, known: Facts, role: str, used: dict[str, str]) -> Coefficient:
    name = known.node.role(role)
    assert name is not None
    graph, shade = signals.graph, state_box.shade(signals.graph, known, role)
    tree = opened(signals, name, used)
    formula = text(tree) if tree is not None else ""
    own = signals.symbol(graph[name].inputs[0] if graph[name].op == "op.diag" else name)
    if own and formula and own != formula and len(own) <= SHORT:
        formula = f"{own} = {formula}"
    if len(formula) > _LONGEST:
        formula = own or "…"
    axes = graph[name].type.axes
    if role == "A":
        said = str(known.structure)
        if known.within and abs(known.within[0]) <= 1 and abs(known.within[1]) <= 1:
            said += f" · {known.within[0]:g} to {known.within[1]:g}"
    else:
        said = f"[{product(axes)}]" if axes else ""
        gone = [axis for axis in known.contracted if axis.name in graph[name].type.names]
        if role == "C" and gone:
            said = f"sum over {product(gone)}"
    return Coefficient(role, formula, " · ".join(filter(None, (said, state_box.words(shade)))), shade, tree)


def written(signals: Signals, name: str, used: dict[str, str]) -> str:
    """``opened`` as text; empty where it would say nothing."""
    tree = opened(signals, name, used)
    return text(tree) if tree is not None else ""


def opened(signals: Signals, name: str, used: dict[str, str]) -> Maths | None:
    """Mathematics down to the values that the spec names; they are noted in ``used``. None for a parameter that nothing names."""
    graph = signals.graph
    symbols: dict[str, str] = {}
    if graph[name].op == "op.diag":
        name = graph[name].inputs[0]
    todo = list(graph[name].inputs) if graph[name].op != "input" else [name]
    seen: set[str] = set()
    while todo:
        current = todo.pop()
        if current in seen or graph[current].op == "param":
            continue
        seen.add(current)
        known = signals.names.known(current)
        if current in signals.live and (known or graph[current].op in ("input", "state")):
            symbols[current] = state_box.called(signals, graph[current])
        else:
            todo.extend(graph[current].inputs)
    tree = Formula(signals.names, symbols).tree(name)
    used |= {leaf: symbol for leaf, symbol in symbols.items() if symbol in text(tree)}
    return None if signals.names.nameless(name) else tree


def meanings(signals: Signals, used: dict[str, str]) -> tuple[str, ...]:
    """What the names in the formulas stand for, and the names in those."""
    lines: dict[str, str] = {}
    todo = dict(used)
    while todo and len(lines) < _MOST_WHERE:
        name = next(iter(todo))
        symbol = todo.pop(name)
        if signals.graph[name].op in ("input", "state") or name in lines:
            continue
        deeper: dict[str, str] = {}
        formula = written(signals, name, deeper)
        if formula and formula != symbol and len(formula) <= _LONGEST_WHERE:
            lines[name] = f"{symbol} = {formula}"
            todo |= deeper
    return tuple(lines.values())


def _equation(node: Node, known: Facts) -> str:
    roles = set(node.attrs["roles"])
    b = "B " if "B" in roles else ""
    x = f"{b}x[t]" if "x" in roles else "B" if b else "1"
    if node.attrs["algebra"] == "max_plus":
        written = f"h[t] = max(A + h[t−1], {x.replace(' ', ' + ')})"
    elif known.structure.kind == "zero":
        written = f"h[t] = {x}"
    else:
        written = f"h[t] = {'A ' if 'A' in roles else ''}h[t−1] + {x}"
    h = "h[t−1]" if node.attrs["read"] == "before" else "h[t]"
    read = f"y[t] = {'C ' if 'C' in roles else ''}{h}{' + D x[t]' if 'D' in roles else ''}"
    return f"{written},    {read}"
