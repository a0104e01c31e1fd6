"""Whole components as boxes: what a layer is made of, and what a model is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from ssir.analysis.facts import state_axes
from ssir.draw import shown
from ssir.draw.boxes import Fold
from ssir.draw.path import finish
from ssir.draw.picture import Box, Group, Kind, Row, Wire
from ssir.draw.signals import Signals
from ssir.draw.values import live
from ssir.draw.words import product
from ssir.ir.graph import Graph, Node, attrs, owners
from ssir.spec.load import Spec

_MOST_MEMORIES = 3
_MOST_APART = 4
_KNOWN = frozenset({"const", "position", "start", "layer", "arange"})


def block_rows(spec: Spec) -> list[Row]:
    """Each distinct layer, the components that it calls as boxes."""
    signs = shown.symbols(spec.module)
    graph = shown.canonical(spec)
    found: list[Graph] = []
    for body in shown.bodies(graph):
        if body not in found:
            found.append(body)
    rows = [row(body, f"{spec.name} · {body.name}", signs) for body in found]
    return rows or [row(graph, spec.name, signs)]


def model_row(spec: Spec) -> Row:
    """The whole graph: its stack as the pattern that repeats."""
    return stacked_row(shown.canonical(spec), spec.name, shown.symbols(spec.module))


def stacked_row(graph: Graph, title: str, signs: Mapping[str, str]) -> Row:
    """A graph with its stacks as the patterns that repeat."""
    drawn = Row(title)
    stacks = [node for node in graph if node.op == "stack"]
    if not stacks:
        return row(graph, title, signs)
    fold = Fold(_collapsed(graph), drawn, signs)
    fold.run()
    ends: dict[str, str] = {}
    for stack in stacks:
        if stack.name in drawn.boxes:  # not inside a component, which is one box
            ends[stack.name] = _unroll(drawn, graph, fold.graph[stack.name], fold.signals, ends)
    finish(drawn)
    return drawn


def row(graph: Graph, title: str, signs: Mapping[str, str]) -> Row:
    """A graph with the components that it calls as boxes; one that calls none is one box itself."""
    drawn = Row(title)
    collapsed = _collapsed(graph)
    if all(node.op != "component" for node in collapsed) and graph.states:
        collapsed = _whole(graph)
    Fold(collapsed, drawn, signs).run()
    finish(drawn)
    return drawn


def _summary(nodes: Sequence[Node]) -> str:
    """What a component remembers and how much it learns, in small letters."""
    states = [node for node in nodes if node.op == "state"]
    axes = [f"[{product(state_axes(state))}]" for state in states]
    lines = [f"{'memory' if i == 0 else 'and'} {shown}" for i, shown in enumerate(dict.fromkeys(axes))]
    if len(lines) > _MOST_MEMORIES:
        lines = [*lines[: _MOST_MEMORIES - 1], f"and {len(lines) - _MOST_MEMORIES + 1} more"]
    learned = sum(node.type.numel() for node in nodes if node.op == "param")
    if learned:
        lines.append(f"{_short(learned)} learned")
    return "\n".join(lines)


def _short(number: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def _collapsed(graph: Graph) -> Graph:
    """The graph with the signals of each outermost component call as one node; constants stay, for they are not drawn."""
    members: dict[str, list[Node]] = {}
    for node in graph:
        name = shown.scope(graph, node.name)
        if name is None and node.op == "param":  # one that a call alone uses belongs to it, wherever its name stands
            users = {shown.scope(graph, user) for user in graph.users[node.name]}
            name = users.pop() if len(users) == 1 else None
        if name is not None:
            members.setdefault(name, []).append(node)
    signals = live(graph)
    home = {node.name: f"{name}/call" for name, nodes in members.items() for node in nodes if node.name in signals}
    nodes: dict[str, Node] = {}
    for node in graph:
        name = home.get(node.name)
        if name is None:
            nodes[node.name] = node.with_(inputs=tuple(home.get(i, i) for i in node.inputs))
        elif name not in nodes:
            nodes[name] = _component(graph, name, members[name.removesuffix("/call")], home, signals)
    outputs = tuple((label, home.get(name, name)) for label, name in graph.outputs)
    return replace(graph.with_nodes(nodes.values()), outputs=outputs)


def _component(graph: Graph, name: str, members: Sequence[Node], home: Mapping[str, str], signals: set[str]) -> Node:
    inside = {node.name for node in members}
    given = [i for node in members for i in node.inputs if i not in inside and (i in signals or _is_given(graph, i))]
    outputs = {output for _, output in graph.outputs}
    results = [
        node
        for node in members
        if node.name in signals and (node.name in outputs or any(user not in inside for user in graph.users[node.name]))
    ]
    label, note = graph.calls[name.removesuffix("/call")], _summary(list(_layered(graph, members)))
    opens = name.removesuffix("/call")
    values = attrs(
        label=label, note=note, opens=opens, stands=frozenset(shown.ancestors(graph, inside, inside | home.keys()))
    )
    return Node(name, "component", tuple(dict.fromkeys(home.get(i, i) for i in given)), values, results[0].type)


def _is_given(graph: Graph, name: str) -> bool:
    """Whether a caller gives what is no signal: what its own text makes of more than what everybody knows."""
    node = graph[name]
    return not node.type.operator and node.op not in _KNOWN and shown.scope(graph, name) is None


def _whole(graph: Graph) -> Graph:
    """A component that calls no other, as one box."""
    inputs = [node for node in graph if node.op == "input"]
    members = [node for node in graph if node.op != "input"]
    label, out = graph.outputs[0]
    box = Node(
        "all",
        "component",
        tuple(node.name for node in inputs),
        attrs(
            label=graph.name,
            note=_summary(list(_layered(graph, members))),
            stands=frozenset(node.name for node in members),
        ),
        graph[out].type,
    )
    return Graph(graph.name, {node.name: node for node in [*inputs, box]}, ((label, "all"),))


def _unroll(row: Row, graph: Graph, stack: Node, signals: Signals, ends: Mapping[str, str]) -> str:
    """A stack's box becomes its pattern: once, with how often it repeats, and what is left over. The last box of it; ``ends`` are
    those of the stacks before."""
    pattern = list(stack.attrs["pattern"])
    period = next(
        p for p in range(1, len(pattern) + 1) if all(pattern[i] == pattern[i % p] for i in range(len(pattern)))
    )
    times, rest = divmod(len(pattern), period)
    inner = _runs(row, graph, stack, f"{stack.name} ", pattern[:period])
    outer = _runs(row, graph, stack, f"{stack.name} rest ", pattern[:rest]) if rest else {}
    if times > 1:
        shared = ", shared" if stack.attrs["share"] else ""
        row.groups.append(Group(f"× {times}{shared}", tuple(inner)))
    chain = [*inner, *outer]
    entering = {wire.tail: wire for wire in row.wires if wire.head == stack.name}
    wires = [replace(w, tail=chain[-1]) if w.tail == stack.name else w for w in row.wires if w.head != stack.name]
    for i, value in enumerate(stack.inputs):
        label = (*stack.attrs["carried"], *stack.attrs["given"])[i - 1] if i else None
        taking = [
            key for key, name in {**inner, **outer}.items() if label in [n.name for n in graph.bodies[name].inputs]
        ]
        carried = label in stack.attrs["carried"]
        for head in chain[:1] if i == 0 else taking[:1] if carried else taking:
            tail = signals.source(value)
            wire = replace(entering[ends.get(tail, tail)], head=head)
            wires += [wire] if wire not in wires else []
    row.wires = [*wires, *(Wire(a, b) for a, b in pairwise(chain))]
    del row.boxes[stack.name]
    return chain[-1]


def _runs(row: Row, graph: Graph, stack: Node, prefix: str, pattern: Sequence[str]) -> dict[str, str]:
    """Boxes for layers in turn, and the body of each; many alike are one box with their number."""
    runs: list[tuple[str, int]] = []
    for name in pattern:
        if runs and runs[-1][0] == name and len(pattern) > _MOST_APART:
            runs[-1] = (name, runs[-1][1] + 1)
        else:
            runs.append((name, 1))
    keys: dict[str, str] = {}
    for i, (name, count) in enumerate(runs):
        body = graph.bodies[name]
        label = body.name if count == 1 else f"{body.name} × {count}"
        note, stands = _summary(list(_layered(body, body))), frozenset({stack.name})
        row.add(Box(f"{prefix}{i}", Kind.COMPONENT, label, note, stands=stands, opens=f"{name}/"))
        keys[f"{prefix}{i}"] = name
    return keys


def _layered(graph: Graph, nodes: Iterable[Node]) -> Iterator[Node]:
    """Nodes, and those of the layers of the stacks among them, each layer's own."""
    for node in nodes:
        yield node
        if node.op == "stack":
            for i, (owner, name) in enumerate(zip(owners(node), node.attrs["pattern"], strict=True)):
                if i == owner:
                    yield from _layered(graph.bodies[name], graph.bodies[name])
