"""A spec as a tree of pictures: the model, its layers, what they call, down to each memory; each knows the nodes that its shapes
stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ssir.analysis import coupling
from ssir.draw import joint, outline, pictures, shown, states
from ssir.draw.boxes import Fold
from ssir.draw.equations import system
from ssir.draw.path import finish
from ssir.draw.picture import Kind, Row, sized
from ssir.ir.graph import Graph, Node
from ssir.spec.load import Spec


@dataclass(frozen=True)
class Shape:
    """Something that can be pointed at. ``node`` is the value that it is, if it is one; ``opens`` the view that is inside it."""

    node: str | None
    stands: frozenset[str]
    opens: str | None = None


@dataclass(frozen=True)
class View:
    """A picture. ``shapes`` are by their keys in the DOT; ``stands`` are all nodes that are in it, ``wanted`` those of its graph that
    reach an output, ``node`` is the memory that it is of. Nodes are called by the path of the body that they are in, and their name there: block/s."""

    key: str
    title: str
    level: str
    parent: str | None
    source: str
    shapes: Mapping[str, Shape]
    stands: frozenset[str]
    wanted: frozenset[str] = frozenset()
    node: str = ""


@dataclass(frozen=True)
class _Place:
    """A graph that is to be drawn: where it is, and what its nodes are called in the whole."""

    graph: Graph
    where: str
    names: Mapping[str, str]
    key: str
    title: str
    parent: str | None

    def whole(self, name: str) -> str:
        return self.where + self.names[name]


@dataclass
class Tree:
    """The views of a spec, the outermost first."""

    spec: Spec
    graph: Graph = field(init=False)

    def __post_init__(self) -> None:
        self.graph = shown.canonical(self.spec)

    @cached_property
    def views(self) -> tuple[View, ...]:
        self._signs = shown.symbols(self.spec.module)
        self._called = shown.callables(self.spec.module)
        self._seen: set[str] = set()
        whole = _Place(self.graph, "", {name: name for name in self.graph.nodes}, "", self.spec.name, None)
        return tuple(self._views(whole))

    def _views(self, place: _Place) -> Iterator[View]:
        """A view of a graph, and those of what is inside it."""
        row, level = self._row(place)
        inside: dict[str, _Place] = {}
        shapes: dict[str, Shape] = {}
        nodes = {place.whole(name) for box in row.boxes.values() for name in box.stands if name in place.names}
        for key, box in row.boxes.items():
            parts = box.stands.union(*(wire.stands for wire in row.wires if wire.tail == key))
            stands = frozenset(place.whole(name) for name in parts if name in place.names)
            node = place.whole(key) if key in place.names else None
            opens = None
            if box.opens:
                entered = self._entered(place, box.opens, box.label)
                inside[opens := entered.key] = entered
                if box.opens.endswith("/"):
                    stands |= {
                        name for graph, where in _below(entered.graph, entered.where) for name in _all(graph, where)
                    }
            elif box.kind in (Kind.MEMORY, Kind.DELAY):
                opens = f"{place.key}#{key}"
                stands = stands.union(
                    *({place.whole(n) for n in cell.stands if n in place.names} for cell in box.cells)
                )
            elif key.startswith("out "):
                node = place.whole(dict(place.graph.outputs)[key.removeprefix("out ")])
                stands |= {node}
            shapes[key] = Shape(node, stands, opens)
        nodes |= {place.whole(name) for name in row.stands if name in place.names}
        wanted = shown.ancestors(place.graph, [name for _, name in place.graph.outputs])
        row.subtitle = sized(row)
        source = pictures.rows_picture([row], None, False)
        yield View(
            place.key,
            place.title,
            level,
            place.parent,
            source,
            shapes,
            frozenset(nodes),
            frozenset(map(place.whole, wanted)),
        )
        for key, box in row.boxes.items():
            if box.kind in (Kind.MEMORY, Kind.DELAY):
                yield self._state(place, place.graph[key])
        for one in inside.values():
            if one.key not in self._seen:
                self._seen.add(one.key)
                yield from self._views(one)

    def _row(self, place: _Place) -> tuple[Row, str]:
        """What a graph is drawn as, and the level of that."""
        graph, row = place.graph, Row(place.title)
        if any(node.op == "stack" for node in graph):
            return outline.stacked_row(graph, place.title, self._signs), "model"
        calls = {name for node in graph.states if (name := shown.scope(graph, node.name))}
        if place.parent is not None and not place.key.endswith("/") and not (calls and shown.wraps(graph)):
            calls = set()
        elif not calls:
            calls = {name for node in graph if (name := shown.scope(graph, node.name))}
        if calls:
            row = outline.row(graph, place.title, self._signs)
            if any(box.opens for box in row.boxes.values()):
                return row, "block"
            row = Row(place.title)
        Fold(graph, row, self._signs).run()
        finish(row)
        return row, "mixer"

    def _entered(self, place: _Place, opens: str, label: str) -> _Place:
        parent = place.key
        if opens.endswith("/"):
            body = place.graph.bodies[opens[:-1]]
            where = place.where + opens
            title = f"{self.spec.name} · {body.name}"
            return _Place(body, where, {name: name for name in body.nodes}, where, title, parent)
        graph, names = shown.traced(place.graph, opens, self._called)
        whole = {short: place.names[name] for short, name in names.items()}
        return _Place(
            graph,
            place.where,
            whole,
            f"{place.key}{'' if place.key[-1:] in ('', '/') else '.'}{opens}",
            f"{self.spec.name} · {label}",
            parent,
        )

    def _state(self, place: _Place, node: Node) -> View:
        said = system(place.graph, node, place.title, self._signs)
        roles = dict(zip(node.attrs["roles"], node.inputs, strict=True))
        shapes = {role: Shape(place.whole(name), frozenset({place.whole(name)})) for role, name in roles.items()}
        shapes["h"] = Shape(place.whole(node.name), frozenset({place.whole(node.name)}))
        groups = zip(coupling.coupled(place.graph), joint.joints(place.graph, place.title, self._signs), strict=True)
        together = [one for group, one in groups if node in group]
        shapes.setdefault("A", shapes["h"])  # an A that is left out is drawn as 1
        stands = frozenset(place.whole(name) for name in said.stands)
        key = f"{place.key}#{node.name}"
        return View(
            key, said.title, "state", place.key, states.picture([said, *together], None), shapes, stands, node=node.name
        )


def missing(tree: Tree) -> set[str]:
    """The nodes that reach an output, and that no picture of their component shows, nor one of its memories."""
    left: set[str] = set()
    for view in tree.views:
        inner = [one.stands for one in tree.views if one.level == "state" and one.parent == view.key]
        left |= view.wanted - view.stands.union(*inner)
    return left


def _below(graph: Graph, where: str) -> Iterator[tuple[Graph, str]]:
    yield graph, where
    for name, body in graph.bodies.items():
        if any(node.op == "stack" and name in node.attrs["pattern"] for node in graph):
            yield from _below(body, f"{where}{name}/")


def _all(graph: Graph, where: str) -> set[str]:
    return {where + name for name in graph.nodes}
