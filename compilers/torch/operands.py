"""How a value is laid out for what uses it: axes in the order wanted, sizes, masks of slots that may be absent.

What lies along a slot axis that is laid out by entry (ssir.compilers.program.entries) is [batch, 1, entries, ...], never copied per step, and
a mask says which entries a step may read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ssir.compilers.torch.code import Code, called, code, literal, method, variable
from ssir.ir.graph import WHOLE, Node
from ssir.ir.slots import absent

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter

TIME, RUN = variable("time"), variable("run")


LEADS = {"constant": 0, "sequence": 2, "step": 1}
"""How many axes stand in front of the named ones, by mode."""


def dims(own: Sequence[str], over: Sequence[str]) -> tuple[int, ...]:
    """Axes as a tuple of places counted from the right."""
    return tuple(own.index(name) - len(own) for name in over)


def fit(text: Code, own: Sequence[str], wanted: Sequence[str], lead: int) -> Code:
    """Permute the named axes to ``wanted`` and add an axis of size 1 for each that is missing (constants need none in front)."""
    order = [own.index(name) for name in wanted if name in own]
    if order != sorted(order):
        text = method(text, "permute", *range(lead), *(lead + i for i in order))
    first = next((i for i, name in enumerate(wanted) if name in own), len(wanted)) if lead == 0 else 0
    for i in reversed(range(first, len(wanted))):
        if wanted[i] not in own:
            text = method(text, "unsqueeze", i - len(wanted))
    return text


def operand(e: Emitter, name: str, wanted: Sequence[str], data: bool = False) -> Code:
    """An operand of an elementwise operation over ``wanted``: fitted, numbers as they are, constants over slots laid out by entry; ``data``: in
    the dtype of the data."""
    node = e.node(name)
    if node.op == "const":
        return literal(node.attrs["value"])
    if data and e.is_constant(name):
        text: Code = e.as_data(name)
    else:
        text = e.number(name) if node.type.dtype == "int" and node.op != "layer" else e.value(name)
        text = as_data(e, name, text) if data else text
    if e.mode != "constant" and e.is_constant(name):
        slots = [axis for axis in node.type.names if axis in e.unit.entries]
        for axis in slots:
            place = node.type.names.index(axis) - len(node.type.names)
            size, lag = node.type.axis(axis).size, e.unit.entries[axis]
            given = text, place, TIME, entries(e, axis), size, lag
            text = e.let(f"{name}_by_entry", called(e.function("memory", "by_slot"), *given))
        if slots:
            return fit(text, node.type.names, wanted, LEADS[e.mode])
    return fit(text, node.type.names, wanted, e.lead(name))


def scalar(number: object) -> Code:
    """A number as a tensor without axes."""
    return code("torch.full((), {0}, dtype=time.dtype, device=time.device)", number)


def is_wide(e: Emitter, name: str) -> bool:
    """Whether a value is a tensor of float32 at least, whatever the data is."""
    return name in e.wide


def as_data(e: Emitter, name: str, text: Code) -> Code:
    """The expression of a value, in the dtype of the data."""
    return code("time.as_data({0})", text) if is_wide(e, name) else text


def entries(e: Emitter, axis: str) -> Code:
    """The number of entries of the registers along a slot axis."""
    along = [node for node in e.graph if node.op in ("held", "push") and node.attrs["axis"] == axis]
    first = min(along, key=lambda node: (node.name not in e.names, node.op != "held"))
    return code("{0}.shape[1]", e.value(first.name))


def there(e: Emitter, node: Node, over: Sequence[str], wanted: Sequence[str]) -> Code | None:
    """The mask of the slots of ``over`` that are there, fitted to ``wanted``; None if all are."""
    lags = absent(node.type, e.unit.gaps)
    masks = [present(e, axis, node.type.axis(axis).size, lag, wanted) for axis, lag in lags.items() if axis in over]
    return called(e.function("operations", "both"), *masks) if len(masks) > 1 else masks[0] if masks else None


def present(e: Emitter, axis: str, size: int | None, lag: int, wanted: Sequence[str]) -> Code:
    """The mask of the slots along an axis that are there, fitted to ``wanted``."""
    lead, at = LEADS[e.mode], list(wanted).index(axis)
    behind = len(wanted) - at - 1
    if lag == WHOLE:
        return code("time.together({0}, {1})", at, behind)
    if axis in e.unit.entries:
        text = code("time.present({0}, {1}, {2})", entries(e, axis), size, lag)
    else:
        text = code("torch.arange({0}, device=time.device) < (time.position + {1}).unsqueeze(-1)", size, 1 - lag)
    for place in [lead] * at + [-1] * behind:
        text = method(text, "unsqueeze", place)
    return e.let(f"{axis}_there", text)


def whole_axis(e: Emitter, node: Node, over: Sequence[str]) -> str | None:
    """The axis of ``over`` along which a whole sequence lies."""
    lags = absent(node.type, e.unit.gaps)
    return next((axis for axis in over if lags.get(axis) == WHOLE), None)


def whole_dims(own: Sequence[str], over: Sequence[str], axis: str) -> tuple[int, tuple[int, ...]]:
    return own.index(axis) - len(own), dims(own, [name for name in over if name != axis])


def cleared(e: Emitter, name: str, over: Sequence[str]) -> Code:
    """A value with absent slots of ``over`` zero, its axes in its own order."""
    node = e.node(name)
    mask = there(e, node, over, node.type.names)
    if mask is None or (node.op == "softmax" and set(over) <= set(node.attrs["over"])):
        return e.value(name)
    return e.let(f"{name}_there", called(e.function("operations", "masked"), e.value(name), mask))


def masking(e: Emitter, *nodes: Node) -> Code | None:
    """What multiplies values along entries, of which some steps must see nothing."""
    entries = {axis for node in nodes for axis in node.type.names if axis in e.unit.entries}
    whole = any(whole_axis(e, node, node.type.names) for node in nodes)
    return e.function("product", "product") if entries or whole else None


Change = tuple[str, tuple[int, ...]]
"""A method, and what it is given."""


def kept(e: Emitter, name: str, changes: Sequence[Change] = ()) -> Code:
    """A constant, changed once and for all."""
    text = e.value(name)
    if not changes:
        return text
    c = e.unit.constant
    key = f"{name}{changes}"
    if key not in c.names:
        changed = c.value(name)
        for what, given in changes:
            changed = method(changed, what, *given)
        c.names[key] = c.let(f"{name}_flat", changed)
    return e.unit.keep_code(c.names[key]) if e.mode != "constant" else c.names[key]
