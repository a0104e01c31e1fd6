"""What is said of a state in its diagram: its equation, and its coefficients as mathematics."""

from __future__ import annotations

from collections.abc import Mapping

from ssir.analysis.facts import Facts, facts
from ssir.draw import state_box
from ssir.draw.circuit import Coefficient, System
from ssir.draw.maths import text
from ssir.draw.meanings import Told, meanings, tree, written
from ssir.draw.picture import Shade
from ssir.draw.signals import SHORT, Signals, called
from ssir.draw.words import product
from ssir.ir.graph import Graph, Node

_LONGEST = 44
_SHORT = 16


def system(graph: Graph, node: Node, title: str, signs: Mapping[str, str]) -> System:
    """A state as its diagram says it."""
    signals = Signals(graph, signs)
    title = f"{title} · {called(signals, node)}"
    known = facts(graph, node)
    told = Told(spelled={node.name})
    coefficients: dict[str, Coefficient] = {}
    for role in node.attrs["roles"]:
        if role != "x":
            coefficients[role] = _coefficient(signals, known, role, told)
    if node.role("A") is None:
        coefficients["A"] = Coefficient("A", "1", "identity · constant", Shade.FIXED)
    elif known.structure.kind == "zero":
        del coefficients["A"]
    start = coefficients.pop("initial", None)
    if start:
        said = f"h[−1] = {start.formula}" if start.formula else "h[−1]"
        told.lines.insert(0, f"{said}: {start.words}")
    x = node.role("x")
    register = known.structure.kind == "shift" and start is None
    x_name = _input(signals, x, told) if x else "1"
    lines = (*([node.attrs["sampled"]] if "sampled" in node.attrs else []), *meanings(signals, told))
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
        where=lines,
        node=node.name,
        stands=frozenset(told.spelled),
    )


def _axes(node: Node) -> str:
    return f"[{product(node.type.axes)}]" if node.type.axes else ""


def _input(signals: Signals, x: str, told: Told) -> str:
    """What enters a state: its name, or it itself if that is short."""
    name = signals.symbol(x)
    if name is None:
        deeper = Told()
        said = written(signals, x, deeper, opened=True)
        if 0 < len(said) <= _SHORT:
            told.add(deeper)
            return said
        told.called.setdefault(x, "x′")
        return told.called[x]
    owner = signals.named(x)[1]
    told.called.setdefault(owner, signals.symbol(owner) or name)
    return name


def _coefficient(signals: Signals, known: Facts, role: str, told: Told) -> Coefficient:
    name = known.node.role(role)
    assert name is not None
    graph, shade = signals.graph, state_box.shade(signals.graph, known, role)
    value = tree(signals, name, told, opened=True)
    formula = "" if value is None else text(value)
    own = signals.symbol(graph[name].inputs[0] if graph[name].op == "op.diag" else name)
    if own and formula and own != formula and len(own) <= SHORT:
        formula = f"{own} = {formula}"
    if len(formula) > _LONGEST:
        told.lines.append(f"{role if role != 'initial' else 'h[−1]'} = {formula}")
        formula = own or ""
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
    words = " · ".join(filter(None, (said, state_box.words(shade))))
    return Coefficient(role, formula, words, shade, value)


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
