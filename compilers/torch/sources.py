"""Parameters, places, and what is put together of other graphs in torch."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ssir.compilers.torch.code import Code, binding, called, code, literal, method, stored, variable
from ssir.compilers.torch.operands import LEADS, TIME, as_data, entries, fit
from ssir.errors import SSIRError
from ssir.ir.graph import WHOLE, Node

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter


def _param(e: Emitter, node: Node) -> Code:
    own = tuple(axis.size or 0 for axis in node.type.axes)
    key = node.attrs["key"]
    shared = node.attrs["shared"]
    text = called(code("run.root.value" if shared else "self.value"), key if shared else e.unit.local(key))
    return e.let(node.name, text if e.unit.parts.sizes(node) == own else method(text, "reshape", own))


def _arange(e: Emitter, node: Node) -> Code:
    axis = node.type.axes[0]
    if axis.size is None:
        return e.let(node.name, _slots(e, axis.name))
    return e.let(node.name, code("torch.arange({0}, dtype=time.dtype, device=time.device)", axis.size))


def _slots(e: Emitter, axis: str) -> Code:
    """The expression of the indices along an axis without a size."""
    if axis in e.unit.entries:
        lag = e.unit.entries[axis]
        return code("time.slots({0}, None, {1}).clamp(min=0).to(time.dtype)", entries(e, axis), lag)
    given = next((node for node in e.graph.inputs if axis in node.type.names), None)
    if given is not None and (axis, WHOLE) not in given.type.absent:
        place = given.type.names.index(axis) - len(given.type.names)
        whole = code("torch.arange({0}.shape[{1}], dtype=time.dtype, device=time.device)", e.value(given.name), place)
        return code("{0}[{1}]", whole, (None,) * LEADS[e.mode])
    return code("time.real_position.unsqueeze(1)")


def _context(e: Emitter, node: Node) -> Code:
    if e.mode != "sequence":
        raise SSIRError("no step form: `context` reads the future")
    x = as_data(e, node.inputs[0], _argument(e, node.inputs[0]))
    return e.let(node.name, method(called(e.function("operations", "lengthened"), x, TIME), "unsqueeze", 1))


def _kept(e: Emitter, node: Node) -> Code:
    shape: list[object] = []
    by_entry = []
    for place, axis in enumerate(node.type.axes):
        if axis.name in e.unit.entries:
            shape.append(entries(e, axis.name))
            if axis.size is not None:
                by_entry.append((place, axis.size, e.unit.entries[axis.name]))
        else:
            shape.append(_extent(e, axis.name) if axis.size is None else axis.size)
    (rate,) = node.inputs
    given = node.attrs["mask"], e.value(rate), tuple(shape), node.attrs["each"]
    return e.let(node.name, called(code("run.mask"), *given, *([tuple(by_entry)] if by_entry else [])))


def _extent(e: Emitter, axis: str) -> Code:
    """How many entries there are along an axis without a size that no register has."""
    for node in e.graph:
        if node.op == "input" and axis in node.type.names and (axis, WHOLE) not in node.type.absent:
            return code("{0}.shape[{1}]", e.value(node.name), node.type.names.index(axis) - len(node.type.names))
        if node.op == "rename" and (old := {new: old for old, new in node.attrs["axes"]}.get(axis)) is not None:
            return _extent(e, old)
    return code("time.steps")


def _stack(e: Emitter, node: Node) -> Code:
    first, *others = node.inputs
    x = e.let(node.name, as_data(e, first, e.tensor(first, node.type.names)))
    labels = (*node.attrs["carried"], *node.attrs["given"])
    values = {label: as_data(e, name, _argument(e, name)) for label, name in zip(labels, others, strict=True)}
    carried = {label: e.let(f"{node.name}_{label}", values[label]) for label in node.attrs["carried"]}
    values |= carried
    pattern = list(dict.fromkeys(node.attrs["pattern"]))
    signature = {body: [n.name for n in e.graph.bodies[body].inputs[1:]] for body in pattern}
    gives = {body: [label for label, _ in e.graph.bodies[body].outputs[1:]] for body in pattern}
    calls = {}
    for body in pattern:
        arguments = [values[name] for name in signature[body]]
        targets = [x, *(carried.get(label, variable("_")) for label in gives[body])]
        inner = e.graph.bodies[body]
        after = fit(x, inner[inner.outputs[0][1]].type.names, node.type.names, LEADS[e.mode])
        given = code("run.inside({0}, i)", node.name), x, *arguments
        calls[body] = [
            binding(literal(tuple(targets)) if len(targets) > 1 else x, called(variable("body"), *given)),
            *([] if after is x else [binding(x, after)]),
        ]
    layers = code("run.layers(self, {0})", e.unit.local(node.name))
    if len({"".join(map(ast.unparse, map(ast.fix_missing_locations, one))) for one in calls.values()}) == 1:
        inside: list[ast.stmt] = next(iter(calls.values()))
    else:
        inside = []
        for body in reversed(pattern):
            inside = [ast.If(code("kind == {0}", body), calls[body], inside)]
    target = code("i, kind, body")
    e.statement(ast.For(stored(target), layers, inside, []))
    for label, name in carried.items():
        e.names[f"{node.name}/{label}"] = name
    return x


def _argument(e: Emitter, name: str) -> Code:
    """A value for a layer: with axes in front even if it is constant, since the layer does not know that it is."""
    node = e.node(name)
    text = e.tensor(name, node.type.names)
    return code("{0}[{1}]", text, (None,) * LEADS[e.mode]) if e.lead(name) == 0 else text


def _part(e: Emitter, node: Node) -> Code:
    e.value(node.inputs[0])
    return e.names[f"{node.inputs[0]}/{node.attrs['label']}"]


SOURCES: Mapping[str, Callable[[Emitter, Node], Code]] = {
    "input": lambda e, node: e.names[node.name],
    "const": lambda e, node: literal(node.attrs["value"]),
    "param": _param,
    "arange": _arange,
    "eye": lambda e, node: e.let(
        node.name, code("torch.eye({0}, dtype=time.dtype, device=time.device)", node.type.axes[0].size)
    ),
    "position": lambda e, node: code("time.position"),
    "start": lambda e, node: code("time.start"),
    "layer": lambda e, node: code("run.layer"),
    "context": _context,
    "kept": _kept,
    "stack": _stack,
    "part": _part,
}
