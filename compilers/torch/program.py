"""How what a program has beside operations is written in torch: memories, registers, kernels, loops."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from ssir.compilers.program.dtypes import memory_kind
from ssir.compilers.torch import operands, products
from ssir.compilers.torch.code import Code, called, code, function_of, literal, method, name_of, variable
from ssir.compilers.torch.operands import TIME
from ssir.ir.graph import Node

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter

OLD, NEW = variable("old"), variable("new")
_DTYPES = {"complex": "time.complex", "data": "time.data", "wide": "time.dtype"}


def _sizes(names: Sequence[str], node: Node) -> tuple[int, ...]:
    return tuple(node.type.axis(name).size or 0 for name in names)


def _start(e: Emitter, node: Node, at: int) -> Code | None:
    """What a memory is before the first step, over its axes, if anything is said."""
    return e.tensor(node.inputs[at], e.node(node.inputs[at]).type.names) if len(node.inputs) > at else None


def _spread_out(e: Emitter, x: Code, sizes: Sequence[int], dtype: str) -> Code:
    """A value in full size; a number in a dtype."""
    return called(e.function("operations", "spread"), TIME, x, tuple(sizes), code(dtype))


# Values.


def _cast(e: Emitter, node: Node) -> Code:
    (name,) = node.inputs
    to, text = node.attrs["to"], e.value(name)
    if to == "as it is" or e.node(name).op in ("const", "layer") or operands.is_wide(e, name) == (to == "wide"):
        return text
    return e.let(node.name, method(TIME, f"as_{to}", text))


def _order(e: Emitter, node: Node) -> Code:
    return e.let(node.name, e.fitted(node.inputs[0], node.type.names))


def _spread(e: Emitter, node: Node) -> Code:
    x = operands.operand(e, node.inputs[0], node.type.names)
    return e.let(node.name, _spread_out(e, x, _sizes(node.type.names, node), _DTYPES[node.attrs["kind"]]))


def _contract(e: Emitter, node: Node) -> Code:
    a, b = (e.node(name) for name in node.inputs)
    left, right = products.alike(e, (a.name, e.tensor(a.name, a.type.names)), (b.name, e.tensor(b.name, b.type.names)))
    sides = (left, a.type.names, e.lead(a.name)), (right, b.type.names, e.lead(b.name))
    wide = operands.is_wide(e, node.name)
    return e.let(node.name, products.contraction(e, *sides, node.attrs["over"], node.type.names, wide=wide))


# Memories.


def _initial(e: Emitter, node: Node) -> tuple[object, ...]:
    """What a memory would be before the first step: sizes, dtype, the start and the filling."""
    sizes, dtype = _sizes(node.type.names, node), code(_DTYPES[node.attrs["kind"]])
    return sizes, dtype, _start(e, node, 0), node.attrs["fill"]


def _old(e: Emitter, node: Node) -> Code:
    recalled = called(e.function("memory", "recall"), TIME, OLD, e.key(node.attrs["memory"]), *_initial(e, node))
    return e.let(node.name, recalled)


def _first(e: Emitter, node: Node) -> Code:
    text = called(e.function("memory", "initial"), TIME, *_initial(e, node))
    if (slots := node.attrs["slots"]) is not None:
        text = code("{0}.movedim({1}, 1).flip(1)", text, node.type.names.index(slots) - len(node.type.names))
    return text


def _new(e: Emitter, node: Node) -> Code:
    source = e.node(node.inputs[0])
    text = e.tensor(source.name, node.type.names)
    if source.op != "first":
        dtype = "time.complex" if node.type.dtype == "complex" else "time.dtype"
        text = _spread_out(e, text, _sizes(node.type.names, node), dtype)
    e.remember(node.attrs["memory"], text)
    return text


def _before(e: Emitter, node: Node) -> Code:
    h, start = e.value(node.inputs[0]), _start(e, node, 1)
    sizes, key, fill = _sizes(node.type.names, node), e.key(node.attrs["memory"]), node.attrs["fill"]
    given = TIME, OLD, key, sizes, code("{0}.dtype", h), start, fill
    first = called(e.function("memory", "recall_all"), *given)
    if start is None:
        start = code("torch.full((), {1}, dtype={0}.dtype, device={0}.device)", h, fill)
    return e.let(node.name, called(e.function("memory", "previous"), h, first, start, TIME))


# Registers.


def _push(e: Emitter, node: Node) -> Code:
    x = e.node(node.inputs[0])
    inside = node.type.names[1:]
    dtype = _DTYPES[node.attrs["kind"]]
    entering = _spread_out(e, operands.operand(e, x.name, inside), _sizes(inside, node), dtype)
    given = TIME, OLD, NEW, e.key(node.attrs["memory"]), entering, node.attrs["size"], _start(e, node, 1)
    return e.let(node.name, called(e.function("memory", "push"), *given))


def _held(e: Emitter, node: Node) -> Code:
    sizes = _sizes(node.type.names[1:], node)
    given = TIME, OLD, e.key(node.attrs["memory"]), node.attrs["size"], sizes, _start(e, node, 0)
    return e.let(node.name, called(e.function("memory", "register"), *given))


def _past(e: Emitter, node: Node) -> Code:
    key = e.key(node.attrs["memory"])
    return e.let(node.name, called(e.function("memory", "history"), OLD, key, node.attrs["entries"]))


def _keep(e: Emitter, node: Node) -> Code:
    x, key = e.value(node.inputs[0]), e.key(node.attrs["memory"])
    kept = called(e.function("memory", "keep"), TIME, OLD, NEW, key, x, node.attrs["size"])
    e.statement(ast.Expr(kept))
    return x


def _slots(e: Emitter, node: Node) -> Code:
    entries, size, lag = e.value(node.inputs[0]), node.attrs["size"], node.attrs["lag"]
    if node.attrs["axis"] in e.unit.entries:
        return method(entries, "unsqueeze", 1) if e.mode == "sequence" else entries
    windows = called(e.function("memory", "windows"), entries, TIME, size, lag, _start(e, node, 1))
    return e.let(node.name, windows)


def _distances(e: Emitter, node: Node) -> Code:
    """How many steps ago: the place along a register of its entries, the newest first."""
    counted = code("torch.arange({0}.shape[1], dtype=time.dtype, device=time.device)", e.value(node.inputs[0]))
    return e.let(node.name, code("{0}[{1}]", counted, (None,) * operands.LEADS[e.mode]))


def _weigh(e: Emitter, node: Node) -> Code:
    slots, c = (e.node(name) for name in node.inputs)
    axis, over, names = slots.attrs["axis"], node.attrs["over"], c.type.names
    text, lead = e.value(slots.name), operands.LEADS[e.mode]
    if e.is_constant(c.name) and any(name in e.unit.entries for name in names):
        weights, c_lead = operands.operand(e, c.name, names), lead
    else:
        weights = e.tensor(c.name, names) if e.is_constant(c.name) else operands.cleared(e, c.name, over)
        c_lead = e.lead(c.name)
    if axis in e.unit.entries and axis in over and axis not in dict(c.type.absent):
        mask = operands.present(e, axis, slots.attrs["size"], slots.attrs["lag"], names)
        weights = called(e.function("operations", "masked"), weights, mask)
    if node.type.dtype == "real":
        text, weights = operands.as_data(e, slots.name, text), operands.as_data(e, c.name, weights)
    left, right = products.alike(e, (slots.name, text), (c.name, weights))
    sides = (left, slots.type.names, lead), (right, names, c_lead)
    return e.let(node.name, products.contraction(e, *sides, over, node.type.names, operands.masking(e, c)))


# Algorithms.


def grouped(text: Code, groups: Sequence[Sequence[str]]) -> Code:
    """The last axes, in the order of the groups, made one axis a group."""
    for after, group in enumerate(reversed(groups)):
        if len(group) > 1:
            text = method(text, "flatten", -len(group) - after, -1 - after)
        elif not group:
            text = method(text, "unsqueeze", -1 - after)
    return text


def _taken(e: Emitter, name: str, how: str, groups: Sequence[Sequence[str]], sizes: Mapping[str, int]) -> Code:
    """An operand of a kernel."""
    node = e.node(name)
    axes = [axis for group in groups for axis in group]
    match how:
        case "object":
            return e.value(name)
        case "entries":
            kept = operands.as_data(e, name, e.value(name))
            return grouped(operands.fit(kept, node.type.names[1:], axes, 2), groups)
        case "still":
            text = e.tensor(name, axes)
            return grouped(method(text, "expand", *(sizes[a] for a in axes)) if axes else text, groups)
        case "thin":
            return grouped(e.tensor(name, axes), groups)
        case "led":
            text = e.fitted(name, axes) if node.type.dtype == "bool" else e.tensor(name, axes)
            if e.lead(name) == 0:
                text = called(e.function("operations", "leading"), text, operands.LEADS[e.mode] + len(axes))
            return grouped(text, groups)
    dtype = "time.complex" if node.type.dtype == "complex" else "time.dtype"
    return grouped(_spread_out(e, operands.operand(e, name, axes), [sizes[a] for a in axes], dtype), groups)


def _kernel(e: Emitter, node: Node) -> Code:
    about = node.attrs
    left, texts = list(node.inputs), list[Code | None]()
    for i, one in enumerate(about["takes"]):
        if one is None:
            texts.append(None)
            continue
        name, (how, groups) = left.pop(0), one
        text = _taken(e, name, how, groups, dict(about["sizes"]))
        named = how == "full" and name_of(text) is None
        texts.append(e.let(f"{node.name}_{i}", text) if named else text)
    first = len(texts) - about["behind"]
    given: list[object] = list(texts[:first])
    firsts = [e.unit.source[names[0]] for names in about["memories"]]
    held = [_memory(e, state, about["held"]) for state in firsts]
    if held:
        given.append(tuple(held) if about["several"] else held[0])
    if about["with"] is not None:
        given.append(code({"reset": "time.reset", "time": "time"}[about["with"]]))
    given += [*texts[first:], *about["options"]]
    module, _, function = about["function"].rpartition(".")
    call = called(e.function(module, function), *given)
    if not held:
        y = e.let(node.name, call)
    else:
        y, last = e.fresh(node.name), [e.fresh(f"{node.name}_last") for _ in held]
        e.bind([y, literal(tuple(last)) if about["several"] else last[0]], call)
        for names, found in zip(about["memories"], last, strict=True):
            for name in names:
                e.remember(name, as_kept(e, name, _laid_back(e.unit.source[name], about["held"], found)))
    groups = about["gives"]
    if groups is None or all(len(group) == 1 for group in groups) or e.mode == "constant":
        return y
    sizes = [axis.size for axis in node.type.axes]
    front = ast.Starred(code("{0}.shape[:{1}]", y, operands.LEADS[e.mode]), ast.Load())
    return e.let(f"{node.name}_axes", method(y, "reshape", front, *sizes))


def as_kept(e: Emitter, state: str, value: Code) -> Code:
    """A value that a kernel or a loop gives, in the dtype that the memory is kept in."""
    data = memory_kind(e.unit.source, e.unit.source[state]) == "data"
    return code("time.as_data({0})", value) if data else value


def _own(state: Node, groups: Sequence[Sequence[str]]) -> tuple[dict[str, int], list[str], list[str]]:
    """The sizes of a memory that a kernel holds, its axes in their own order, and in that of the kernel."""
    own = {name: size or 0 for name, size in state.attrs["axes"]}
    return own, list(own), [name for group in groups for name in group]


def _memory(e: Emitter, state: Node, groups: Sequence[Sequence[str]]) -> Code:
    sizes, own, order = _own(state, groups)
    text = method(OLD, "get", e.key(state.name))
    if order == own and all(len(group) == 1 for group in groups):
        return text
    places = (0, *(own.index(name) + 1 for name in order))
    flat = tuple(prod(sizes[name] for name in group) for group in groups)
    return called(e.function("memory", "arranged"), text, places, flat)


def _laid_back(state: Node, groups: Sequence[Sequence[str]], last: Code) -> Code:
    sizes, own, order = _own(state, groups)
    if any(len(group) != 1 for group in groups):
        last = method(last, "reshape", -1, *(sizes[name] for name in order))
    return operands.fit(last, order, own, 1)


def _loop(e: Emitter, node: Node) -> Code:
    from ssir.compilers.torch.emit import Emitter as Writer

    body = e.graph.bodies[node.attrs["body"]]
    cell = Writer(e.unit, "step", e, frozenset(one.name for one in body if one.op != "input"), e.apart, body)
    cell.used |= e.used
    ys = [cell.value(name) for _, name in body.outputs]
    cell.finish()
    name = e.fresh(f"{node.name}_cell")
    columns = [name_of(cell.names[one]) or "" for one in cell.columns]
    inside = [*(line.statement for line in cell.lines), ast.Return(literal(tuple(ys)))]
    e.statement(function_of(name.id, ["time", "old", "new", *columns], inside))
    found = [e.fresh(one) for _, one in body.outputs]
    given = [called(e.function("operations", "lengthened"), text, TIME) for text in cell.columns.values()]
    e.unpack(found, called(e.function("memory", "loop"), name, TIME, OLD, NEW, *given))
    e.results[node.name] = found
    return found[0]


def _result(e: Emitter, node: Node) -> Code:
    e.value(node.inputs[0])
    index: int = node.attrs["index"]
    return e.results[node.inputs[0]][index]


def _compiled_loop(e: Emitter, node: Node) -> Code:
    from ssir.compilers.torch.cells import loop_call

    return loop_call(e, node)


PROGRAM: Mapping[str, Callable[[Emitter, Node], Code]] = {
    "cast": _cast,
    "order": _order,
    "spread": _spread,
    "contract": _contract,
    "old": _old,
    "first": _first,
    "new": _new,
    "before": _before,
    "push": _push,
    "held": _held,
    "past": _past,
    "keep": _keep,
    "slots": _slots,
    "distances": _distances,
    "weigh": _weigh,
    "kernel": _kernel,
    "loop": _loop,
    "compiled_loop": _compiled_loop,
    "result": _result,
}
