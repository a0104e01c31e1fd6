"""Axes of one name that differ in size, as components of a model may have them, get names of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ssir.compilers.loops.region import Region, Result
from ssir.ir.graph import Axis, Graph, Node, Type


def apart(region: Region) -> Region:
    """The region with one size for every name of an axis."""
    names = _Names(region.body)
    if not names.several:
        return region
    body = region.body
    nodes = {name: _renamed(names, body, node) for name, node in body.nodes.items()}
    return replace(
        region,
        body=Graph(body.name, nodes, body.outputs),
        memories=tuple(
            memory if memory.slots is None else replace(memory, slots=names.of(body[memory.old].type, memory.slots))
            for memory in region.memories
        ),
        rooms=tuple(replace(room, axis=names.of(body[room.slots].type, room.axis)) for room in region.rooms),
        outputs={
            name: Result(one.value, tuple(names.of(body[one.value].type, axis) for axis in one.axes))
            for name, one in region.outputs.items()
        },
    )


class _Names:
    def __init__(self, body: Graph) -> None:
        self.first: dict[str, int | None] = {}
        self.several = False
        for node in body:
            for axis in node.type.axes:
                self.several |= self.first.setdefault(axis.name, axis.size) != axis.size

    def __call__(self, name: str, size: int | None) -> str:
        return name if self.first.get(name, size) == size else f"{name}:{size}"

    def of(self, type: Type, name: str) -> str:
        """The new name of an axis of a value."""
        return self(name, type.axis(name).size)

    def type(self, type: Type) -> Type:
        axes = tuple(Axis(self(axis.name, axis.size), axis.size) for axis in type.axes)
        return replace(type, axes=axes, absent=tuple((self.of(type, name), lag) for name, lag in type.absent))


def _renamed(names: _Names, body: Graph, node: Node) -> Node:
    return node.with_(type=names.type(node.type), attrs={**node.attrs, **_attributes(names, body, node)})


def _attributes(names: _Names, body: Graph, node: Node) -> Mapping[str, Any]:
    """The attributes that name axes."""
    given = [body[name].type for name in node.inputs]
    attrs = node.attrs
    match node.op:
        case "rename":
            pairs = [(old, new, given[0].axis(old).size) for old, new in attrs["axes"]]
            return {"axes": tuple((names(old, size), names(new, size)) for old, new, size in pairs)}
        case "expand":
            return {"axes": tuple((names(name, size), size) for name, size in attrs["axes"])}
        case "split":
            into = tuple((names(name, size), size) for name, size in attrs["into"])
            return {"axis": names.of(given[0], attrs["axis"]), "into": into}
        case "merge":
            axes = tuple(names.of(given[0], name) for name in attrs["axes"])
            return {"axes": axes, "out": names.of(node.type, attrs["out"])}
        case "concat":
            axes = tuple(names.of(one, name) for one, name in zip(given, attrs["axes"], strict=True))
            return {"axis": names.of(node.type, attrs["axis"]), "axes": axes}
        case "pack" | "arange":
            return {"axis": names.of(node.type, attrs["axis"])}
        case "slice":
            return {"axis": names.of(given[0], attrs["axis"]), "out": names.of(node.type, attrs["out"])}
        case "select":
            return {"axis": names.of(given[0], attrs["axis"])}
        case "embed":
            return {"out": tuple(names.of(node.type, name) for name in attrs["out"])}
    if "over" in attrs:
        of = {axis.name: axis.size for one in given for axis in one.axes}
        over = {"over": tuple(names(name, of[name]) for name in attrs["over"])}
        return over | ({"axis": names(attrs["axis"], of[attrs["axis"]])} if "axis" in attrs else {})
    return {}
