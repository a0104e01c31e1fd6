"""Whether two graphs are the same, whatever their nodes, axes and parameters are called, and however commuting operands stand.

Colours are refined until no more values can be told apart: each value by its operation and the colours of what it reads and of what reads it,
each axis by where it occurs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ssir.diff.law import COMMUTE, is_root
from ssir.ir.graph import Graph, Node

_UNSAID = frozenset({"key", "roles", "pattern"})
_AXIS = "axis"


def fingerprint(graph: Graph) -> str:
    """The same for graphs that are the same but for names and the order of commuting operands."""
    bodies = {name: fingerprint(body) for name, body in graph.bodies.items()}
    sizes: dict[str, set[str]] = {}  # a component that is called twice may have an axis in two sizes
    for name, size in (*((x.name, x.size) for node in graph for x in node.type.axes), *_state_axes(graph)):
        sizes.setdefault(name, set()).add(str(size))
    axes = {name: _digest(sorted(found)) for name, found in sizes.items()}
    said = {node.name: _said(node, axes, bodies) for node in graph}
    values = {node.name: _digest(node.op, said[node.name][0], node.type.dtype, node.type.dependence) for node in graph}
    for position, (_, name) in enumerate(graph.outputs):
        values[name] = _digest(values[name], "output", position)
    number = 0
    while (found := len({*values.values(), *axes.values()})) > number:
        number = found
        values, axes = _refined(graph, said, values, axes)
    return _digest(sorted(Counter(values.values()).items()))


def _state_axes(graph: Graph) -> Iterator[tuple[str, int | None]]:
    for node in graph.states:
        yield from node.attrs["axes"]


def _refined(
    graph: Graph, said: Mapping[str, tuple[Any, list[str]]], values: Mapping[str, str], axes: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    uses: dict[str, list[str]] = {name: [] for name in values}
    places: dict[str, list[str]] = {name: [] for name in axes}
    for node in graph:
        for place, name in zip(_places(node), node.inputs, strict=True):
            uses[name].append(_digest(values[node.name], place))
        for i, name in enumerate(said[node.name][1]):
            places[name].append(_digest(values[node.name], i))
        for name in node.type.names:
            places[name].append(values[node.name])
    fresh = {}
    for node in graph:
        read = sorted(zip(_places(node), (values[name] for name in node.inputs), strict=True))
        named = [axes[name] for name in said[node.name][1]]
        own = sorted((axes[axis.name], str(axis.size)) for axis in node.type.axes)
        fresh[node.name] = _digest(values[node.name], read, sorted(uses[node.name]), named, own)
    return fresh, {name: _digest(axes[name], sorted(places[name])) for name in axes}


def _places(node: Node) -> list[str]:
    """What each operand is to a node: its role, its place, or nothing where operands commute."""
    if node.op == "state":
        return list(node.attrs["roles"])
    return ["" if node.op in COMMUTE or node.op == "op.add" else str(i) for i in range(len(node.inputs))]


def _said(node: Node, axes: Mapping[str, str], bodies: Mapping[str, str]) -> tuple[str, list[str]]:
    """The attributes of a node without names, and the axes that they name, in order."""
    named: list[str] = []

    def plain(value: Any) -> Any:
        if isinstance(value, str) and value in axes:
            named.append(value)
            return _AXIS
        if isinstance(value, tuple | list):
            return [plain(one) for one in value]
        return repr(value)

    kept = {key: value for key, value in sorted(node.attrs.items()) if key not in _UNSAID}
    if node.op == "param":  # a word of an initialiser is no axis
        return repr(sorted((key, repr(value)) for key, value in kept.items())), []
    text = repr([(key, plain(value)) for key, value in kept.items()])
    return text + repr([bodies[name] for name in node.attrs.get("pattern", ())]), named


def made(graph: Graph, name: str, known: dict[str, str] | None = None) -> str:
    """The same for values that are made alike, from inputs and memories on, whatever is called how and along which axes."""
    known = {} if known is None else known
    if name not in known:
        node = graph[name]
        if node.op in ("state", "input", "param", "stack"):
            known[name] = _digest(node.op, node.attrs.get("learned"))
        elif node.op == "const" and is_root(graph, node):
            known[name] = _digest("root")
        else:
            parts = sorted(zip(_places(node), (made(graph, operand, known) for operand in node.inputs), strict=True))
            known[name] = _digest(node.op, [repr(value) for value in _numbers(node)], parts)
    return known[name]


def _numbers(node: Node) -> Iterator[Any]:
    for key, value in sorted(node.attrs.items()):
        if isinstance(value, bool | int | float) and key != "size":  # sizes are told with the axes
            yield key, value


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
