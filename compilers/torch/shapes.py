"""Operations that move, cut and join axes in torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ssir.compilers.torch.code import Code, called, code, literal, method
from ssir.compilers.torch.elementwise import as_tensor, is_number, meets
from ssir.compilers.torch.operands import LEADS, TIME, as_data, cleared, fit, operand, whole_axis
from ssir.ir.graph import Node

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter


def _rename(e: Emitter, node: Node) -> Code:
    return e.value(node.inputs[0])


def _split(e: Emitter, node: Node) -> Code:
    own = e.node(node.inputs[0]).type.names
    sizes = [size for _, size in node.attrs["into"]]
    place = own.index(node.attrs["axis"]) - len(own)
    return e.let(node.name, method(e.value(node.inputs[0]), "unflatten", place, tuple(sizes)))


def _merge(e: Emitter, node: Node) -> Code:
    source = e.node(node.inputs[0])
    axes, out = node.attrs["axes"], node.attrs["out"]
    at = node.type.names.index(out)
    rest = [name for name in node.type.names if name != out]
    wanted = [*rest[:at], *axes, *rest[at:]]
    x = fit(cleared(e, source.name, source.type.names), source.type.names, wanted, e.lead(source.name))
    after = len(rest) - at
    return e.let(node.name, method(x, "flatten", -len(axes) - after, -1 - after) if len(axes) > 1 else x)


def _concat(e: Emitter, node: Node) -> Code:
    axis, wanted = node.attrs["axis"], node.type.names
    parts = []
    for name, own in zip(node.inputs, node.attrs["axes"], strict=True):
        names = [axis if n == own else n for n in e.node(name).type.names]
        text = fit(cleared(e, name, e.node(name).type.names), names, wanted, e.lead(name))
        text = as_data(e, name, text) if meets(e, node, name) else text
        if e.lead(name) != LEADS[e.mode]:
            for _ in range(LEADS[e.mode]):
                text = method(text, "unsqueeze", 0)
        parts.append(text)
    place = wanted.index(axis) - len(wanted)
    return e.let(node.name, called(e.function("operations", "concat"), tuple(parts), place))


def _pack(e: Emitter, node: Node) -> Code:
    axis, wanted = node.attrs["axis"], node.type.names
    rest = [name for name in wanted if name != axis]
    parts = [operand(e, name, rest, meets(e, node, name)) for name in node.inputs]
    like = next((text for name, text in zip(node.inputs, parts, strict=True) if e.node(name).op != "const"), None)
    if like is None:
        text = code("torch.tensor({0}, dtype=time.dtype, device=time.device)", parts)
    else:
        text = called(e.function("operations", "pack"), tuple(parts), -1, like)
    return e.let(node.name, fit(text, [*rest, axis], wanted, LEADS[e.mode] if not e.is_constant(node.name) else 0))


def _slice(e: Emitter, node: Node) -> Code:
    source = e.node(node.inputs[0])
    own, axis = source.type.names, node.attrs["axis"]
    start, length = node.attrs["start"], node.attrs["stop"] - node.attrs["start"]
    x = cleared(e, source.name, [axis])
    return e.let(node.name, method(x, "narrow", own.index(axis) - len(own), start, length))


def _select(e: Emitter, node: Node) -> Code:
    source, index = (e.node(name) for name in node.inputs)
    own, axis = source.type.names, node.attrs["axis"]
    place = own.index(axis) - len(own)
    if whole_axis(e, source, [axis]) is not None:
        x = fit(e.value(source.name), own, [*node.type.names, axis], e.lead(source.name))
        if index.op in ("const", "layer"):
            i = _number(index)
        else:
            i = fit(as_index(e, index.name), index.type.names, node.type.names, e.lead(index.name))
        return e.let(node.name, called(e.function("documents", "selected"), x, i, TIME))
    x = cleared(e, source.name, [axis])
    if index.op in ("const", "layer"):
        return e.let(node.name, method(x, "select", place, _number(index)))
    x = fit(x, own, [*(name for name in node.type.names), axis], e.lead(source.name))
    i = fit(as_index(e, index.name), index.type.names, node.type.names, e.lead(index.name))
    return e.let(node.name, called(e.function("operations", "select"), x, -1, i))


def _number(node: Node) -> Code:
    """A number that is known when the model is called."""
    return literal(node.attrs["value"]) if node.op == "const" else code("run.layer")


def as_index(e: Emitter, name: str) -> Code:
    """A whole number to look up by; one over slots that is constant is laid out as the others are."""
    node = e.node(name)
    by_entry = any(axis in e.unit.entries for axis in node.type.names)
    text = operand(e, name, node.type.names) if by_entry else e.value(name)
    return text if node.type.dtype == "int" or is_number(e, name) else method(text, "long")


def _expand(e: Emitter, node: Node) -> Code:
    x = as_tensor(e, node.inputs[0], e.fitted(node.inputs[0], node.type.names))
    new = dict(node.attrs["axes"])
    sizes = [new.get(axis.name, -1) for axis in node.type.axes]
    return e.let(node.name, method(x, "expand", *[-1] * e.lead(node.inputs[0]), *sizes))


def _matrix(e: Emitter, node: Node) -> Code:
    n = node.attrs["over"]
    outer = [name for name in node.type.names if name not in (n, f"{n}_")]
    square = [*outer, n, f"{n}_"]
    lead = 0 if e.is_constant(node.name) else LEADS[e.mode]
    parts = []
    for i, name in enumerate(node.inputs):
        own = e.node(name).type.names
        column = i == 1 and f"{n}_" not in own
        one = operand(e, name, [*outer, n] if column else square)
        parts.append(method(one, "unsqueeze", -1) if column else one)
    function = {"expm": "torch.linalg.matrix_exp", "solve": "torch.linalg.solve", "matmul": "torch.matmul"}[node.op]
    text = called(code(function), *parts)
    if node.op == "solve" and f"{n}_" not in e.node(node.inputs[1]).type.names:
        return e.let(node.name, fit(method(text, "squeeze", -1), [*outer, n], node.type.names, lead))
    return e.let(node.name, fit(text, square, node.type.names, lead))


SHAPES: Mapping[str, Callable[[Emitter, Node], Code]] = {
    "rename": _rename,
    "split": _split,
    "merge": _merge,
    "concat": _concat,
    "pack": _pack,
    "slice": _slice,
    "select": _select,
    "expand": _expand,
    "matmul": _matrix,
    "expm": _matrix,
    "solve": _matrix,
}
