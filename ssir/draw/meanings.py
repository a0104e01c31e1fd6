"""Formulas over the values that a spec names, and what those names mean, until nothing is left that a reader does not know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import wrap

from ssir.draw.formula import Formula
from ssir.draw.maths import Maths, text
from ssir.draw.signals import Signals, called
from ssir.draw.words import product
from ssir.ir.graph import Node

_WIDTH = 100


@dataclass
class Told:
    """What has been written: the nodes that stand in formulas as mathematics, and those that stand there by a name. ``lines`` are
    formulas that are too long to stand where they belong."""

    called: dict[str, str] = field(default_factory=dict)
    spelled: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)

    def add(self, other: Told | Formula) -> None:
        self.called |= {name: symbol for name, symbol in other.called.items() if name not in self.called}
        self.spelled |= other.spelled


def written(signals: Signals, name: str, told: Told, opened: bool = False) -> str:
    """``tree`` as text; empty where it would say nothing."""
    found = tree(signals, name, told, opened)
    return "" if found is None else text(found)


def tree(signals: Signals, name: str, told: Told, opened: bool = False) -> Maths | None:
    """Mathematics down to the values that the spec names; None for a parameter that nothing names. ``opened``: the value itself, even if it
    has a name."""
    graph = signals.graph
    if signals.names.nameless(name):
        told.spelled |= signals.names.parameter(name)
        return None
    operator = graph[name].op == "op.diag"
    if operator:
        told.spelled.add(name)
        name = graph[name].inputs[0]
    open_root = opened and graph[name].op not in ("input", "param", "state")
    symbols: dict[str, str] = {}
    todo = list(graph[name].inputs) if open_root else [name]
    seen: set[str] = set()
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        known = signals.names.known(current)
        if current in signals.live and (known or graph[current].op in ("input", "state")):
            symbols[current] = called(signals, graph[current])
        else:
            todo.extend(graph[current].inputs)
    formula = Formula(signals.names, symbols)
    found = formula.opened(name) if open_root else formula.tree(name)
    told.add(formula)
    return found


def meanings(signals: Signals, told: Told) -> tuple[str, ...]:
    """What the names in formulas stand for, and the names in what those stand for. Their nodes are then spelled out too."""
    lines = [part for line in told.lines for part in wrapped(line)]
    kinds: dict[str, list[str]] = {"input": [], "memory": [], "learned": [], "kept": []}
    todo, seen = dict(told.called), set[str]()
    while todo:
        name = next(iter(todo))
        symbol = todo.pop(name)
        if name in seen:
            continue
        seen.add(name)
        told.spelled.add(name)
        node = signals.graph[name]
        if kind := _kind(node):
            kinds[kind].append(f"{symbol} [{product(node.type.axes)}]" if node.type.axes else symbol)
            continue
        deeper = Told()
        said = written(signals, name, deeper, opened=True)
        if said != symbol:
            lines += wrapped(f"{symbol} = {said}" if said else f"{symbol}: a parameter [{product(node.type.axes)}]")
        told.spelled |= deeper.spelled
        todo |= {inner: its for inner, its in deeper.called.items() if inner not in seen}
    for kind, names in kinds.items():
        lines += wrapped(f"{kind}: {', '.join(dict.fromkeys(names))}") if names else []
    return tuple(lines)


def _kind(node: Node) -> str | None:
    if node.op == "param":
        return "learned" if node.attrs["learned"] else "kept"
    return {"input": "input", "state": "memory"}.get(node.op)


def wrapped(line: str) -> Iterator[str]:
    """A line as several that fit under a picture."""
    yield from wrap(line, _WIDTH, subsequent_indent="    ", break_long_words=False)
