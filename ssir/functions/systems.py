"""Everything that remembers is a state-space node; these functions write common ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ssir.errors import nearest
from ssir.functions.kinds import Later, Symbol
from ssir.functions.operators import lifted, shift
from ssir.ir.graph import Axis, Node
from ssir.ir.op import pairs, promote
from ssir.ir.ops.systems import ROLES
from ssir.spec.build import Site, is_unknown

if TYPE_CHECKING:
    from ssir.registry import Registry


def system(
    cx: Site,
    axes: tuple[Axis, ...],
    roles: dict[str, Node],
    read: str = "after",
    algebra: str = "plus_times",
    dtype: str | None = None,
    sampled: str | None = None,
) -> Node:
    """A state-space node. ``roles`` maps A, B, x, C, D and initial to nodes; what is left out has its default. ``sampled`` tells a
    reader what A and B are samples of."""
    roles = {role: roles[role] for role in ROLES if role in roles}
    known = not is_unknown(*roles.values())
    entrances = _entrances(cx, roles) if known else []
    a = roles.get("A")
    for axis in axes:
        along = a is not None and (a.op == "later" or (a.op == "op.shift" and a.attrs["axis"] == axis.name))
        if axis.size is None and known and not along:
            help = f"use `{axis.name}` up before, or let A be shift({axis.name})"
            cx.fail("SSIR018", f"`{axis.name}` is unbounded, so only a register along it can remember this", help=help)
        if axis.size is None and known and along and a is not None and a.op != "later" and axis.name not in entrances:
            role = next(role for role in ("B", "x") if role in roles and axis.name in roles[role].type.names)
            words = f"`{axis.name}` is unbounded, and this enters at slots of it"
            help = f"leave `{axis.name}` out: the input of a register that grows enters its first slot"
            cx.fail("SSIR018", words, role, help)
    if a is not None and algebra == "max_plus" and a.op not in ("op.diag", "op.shift", "later"):
        cx.fail(
            "SSIR019", "in max_plus, A is a value to add or a shift", "A", help="use a value over axes of the state"
        )
    if a is not None and any(more for _, more in a.type.absent):
        roles = _entering_first(cx, roles, [axis for axis in axes if axis.name in entrances])
    operands = list(roles.values())
    attributes: dict[str, Any] = {
        "axes": pairs(axes),
        "roles": tuple(roles),
        "read": read,
        "algebra": algebra,
        "dtype": dtype,
        "enters": tuple(entrances),
        **({} if sampled is None else {"sampled": sampled}),
    }
    if known and dtype == "data" and promote([n.type for n in operands]) == "complex":
        help = "leave `dtype` out"
        cx.fail("SSIR018", "a complex memory is kept in complex numbers, which the dtype of the data is not", help=help)
    return cx.emit("state", operands, **attributes)


def _entrances(cx: Site, roles: dict[str, Node]) -> list[str]:
    """The axes that A shifts along and whose first slot the input enters: neither B nor the input says otherwise."""
    said = {name for role in ("B", "x") if role in roles for name in roles[role].type.names}
    return [name for name, _ in roles["A"].type.absent if name not in said] if "A" in roles else []


def _entering_first(cx: Site, roles: dict[str, Node], axes: list[Axis]) -> dict[str, Node]:
    """B with the entrance written out: 1 in the first slot, 0 in the others."""
    b = roles.get("B")
    for axis in axes:
        index = cx.emit("arange", (), "slot", axis=axis.name, size=axis.size)
        newest = cx.emit("eq", (index, cx.number(0)), "first")
        first = cx.emit("where", (newest, cx.number(1), cx.number(0)), "entrance")
        b = first if b is None else cx.emit("mul", (b, first), "entering")
    known = {**roles, "B": b} if b is not None else roles
    return {role: known[role] for role in ROLES if role in known}


def delay(cx: Site, x: Later, steps: int = 1, initial: Node | None = None) -> Node:
    """x as it was a number of steps ago; before that ``initial`` (0). x may be computed from this."""
    first = {"initial": initial} if initial is not None else {}
    if is_unknown(x):
        return cx.later()
    if steps < 1:
        cx.fail(
            "SSIR018",
            f"a delay takes at least one step, not {steps}",
            "steps",
            "give a number of steps, or leave it out for 1",
        )
    if steps == 1:
        zero = lifted(cx, cx.number(0))
        return system(cx, x.type.axes, {"A": zero, "x": x, **first}, "before")
    slots = Axis("_steps", steps)
    register = system(cx, (slots, *x.type.axes), {"A": shift(cx, slots), "x": x, **first}, "before")
    return cx.emit("select", (register, cx.number(steps - 1)), axis=slots.name)


def window(cx: Site, x: Node, slot: Axis) -> Node:
    """The last inputs, the newest in slot 0: a shift register read whole."""
    if is_unknown(x):
        return cx.later()
    return system(cx, (slot, *x.type.axes), {"A": shift(cx, slot), "x": x})


def hold(cx: Site, x: Node, every: int) -> Node:
    """Sample and hold: x at positions 0, every, 2 every, ..., kept until the next."""
    if every < 1:
        cx.fail("SSIR018", f"a value is held for at least one step, not {every}", "every", "give a number of steps")
    if is_unknown(x):
        return x
    zero = cx.number(0)
    phase = cx.emit("mod", (cx.emit("position", (), "position"), cx.number(every)), "phase")
    fresh = cx.emit("eq", (phase, zero), "fresh")
    take = cx.emit("where", (fresh, cx.number(1), zero), "take")
    keep = cx.emit("where", (fresh, zero, cx.number(1)), "keep")
    return system(cx, x.type.axes, {"A": lifted(cx, keep), "B": take, "x": x})


def cumsum(cx: Site, x: Node) -> Node:
    """The sum of x over all steps so far, this one included; a state."""
    return x if is_unknown(x) else system(cx, x.type.axes, {"x": x})


def cummean(cx: Site, x: Node) -> Node:
    """The mean of x over all steps so far, this one included; a state, of the sum."""
    if is_unknown(x):
        return x
    count = cx.emit("add", (cx.emit("position", (), "position"), cx.number(1)), "count")
    return cx.emit("div", (cumsum(cx, x), count))


def cummax(cx: Site, x: Node) -> Node:
    """The largest x of all steps so far, this one included; a state."""
    return x if is_unknown(x) else system(cx, x.type.axes, {"x": x}, algebra="max_plus")


def pool(cx: Site, x: Node, by: Symbol = Symbol("mean")) -> Node:
    """One value for a sequence: the mean or the max of x over its steps so far, or its first or last; a state, but for the last.

    What is made of nothing but such values and constants is, as an output of a model, one answer [batch, *axes], that of the last
    step; in a step it is what it would be if the sequence ended here.
    """
    if by not in _POOLS:
        help = f"write by={nearest(by, _POOLS) or 'mean'}"
        cx.fail("SSIR018", f"values are pooled by {', '.join(_POOLS)}, not by `{by}`", "by", help=help)
    return x if is_unknown(x) else cx.emit("final", (_POOLS[by](cx, x),))


def _first(cx: Site, x: Node) -> Node:
    start = cx.emit("start", (), "start")
    one, zero = cx.number(1), cx.number(0)
    take = cx.emit("where", (start, one, zero), "take")
    return system(cx, x.type.axes, {"A": lifted(cx, cx.emit("where", (start, zero, one), "keep")), "B": take, "x": x})


_POOLS: dict[str, Callable[[Site, Node], Node]] = {
    "mean": cummean,
    "max": cummax,
    "first": _first,
    "last": lambda cx, x: x,
}


def context(cx: Site, x: Node, slot: Axis) -> Node:
    """The whole sequence, future included, along an unbounded axis: for encoders. Its graph has no step form.

    Slot i is the step whose position is i: resets part a sequence into documents, and each step sees only its own.
    """
    if is_unknown(x):
        return x
    if slot.size is not None:
        cx.fail(
            "SSIR014",
            f"`{slot.name}` has a size, but a whole sequence has none beforehand",
            "slot",
            help=f"declare `{slot.name}: unbounded` in dims",
        )
    return cx.emit("context", (x,), axis=slot.name)


def reverse(cx: Site, x: Node) -> Node:
    """x with its steps in the opposite order: at the first step of a document what it is at the last. Its graph has no step form.

    Documents stay where they are, so that memories between two of these begin where they should: `reverse(component(reverse(u)))`.
    """
    if is_unknown(x):
        return x
    slot = Axis("_steps", None)
    steps = cx.emit("context", (x,), "steps", axis=slot.name)
    index = cx.emit("arange", (), "index", axis=slot.name, size=None)
    first, last = (cx.emit(how, (index,), name, over=(slot.name,)) for how, name in (("min", "first"), ("max", "last")))
    ends = cx.emit("add", (first, last), "ends")
    mirrored = cx.emit("sub", (ends, cx.emit("position", (), "position")), "mirrored")
    return cx.emit("select", (steps, mirrored), axis=slot.name, told="backwards")


def register(registry: Registry) -> None:
    for call in (delay, window, hold, cumsum, cummean, cummax, pool):
        registry.function(call, owns=True)
    for call in (context, reverse):
        registry.function(call)
