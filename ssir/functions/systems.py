"""Everything that remembers is a state-space node; these functions write common ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssir.errors import nearest
from ssir.functions.kinds import Later, Symbol
from ssir.functions.operators import combine, lifted, outer, shift
from ssir.functions.shapes import expm, eye, solve
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


METHODS = ("zoh", "bilinear", "euler")


def discretized(cx: Site, a: Node, b: Node | None, method: str, dt: Node, axes: tuple[Axis, ...]) -> tuple[Node, Node]:
    """A and B sampled with step dt. zoh: exp(dt A), A^-1 (exp(dt A) - 1) B; bilinear: (1 - dt A / 2)^-1 (1 + dt A / 2),
    (1 - dt A / 2)^-1 dt B; euler: 1 + dt A, dt B."""
    one = cx.number(1)
    b = b if b is not None else one
    if a.op == "op.dense":
        return _discretized_dense(cx, a, b, method, dt)
    if a.type.operator:
        return _discretized_rank_one(cx, a, b, method, dt)
    z = cx.emit("mul", (dt, a), "dt_A")
    if method == "zoh":
        still = a.op == "const" and a.attrs["value"] == 0
        small = dt if still else cx.emit("div", (cx.emit("expm1", (z,)), a), "phi")
        return lifted(cx, cx.emit("exp", (z,))), cx.emit("mul", (small, b))
    if method == "bilinear":
        half = cx.emit("mul", (z, cx.number(0.5)))
        below = cx.emit("sub", (one, half))
        grown = cx.emit("div", (cx.emit("add", (one, half)), below))
        return lifted(cx, grown), cx.emit("mul", (cx.emit("div", (dt, below)), b))
    return lifted(cx, cx.emit("add", (one, z))), cx.emit("mul", (dt, b))


@dataclass(frozen=True)
class _RankOne:
    """diag(d) + outer(u, v, over), where either part may be missing."""

    d: Node | None = None
    u: Node | None = None
    v: Node | None = None
    over: str | None = None


def _rank_one(cx: Site, a: Node) -> _RankOne | None:
    """A sum of diagonals and of at most one product of rank one, in its parts; None if it is anything else."""
    operands = [cx.builder.nodes[name] for name in a.inputs]
    match a.op:
        case "op.diag":
            return _RankOne(d=operands[0])
        case "op.outer":
            return _RankOne(u=operands[0], v=operands[1], over=a.attrs["over"])
    if a.op not in ("op.neg", "op.add", "op.sub"):
        return None
    parts = [_rank_one(cx, operand) for operand in operands]
    last = parts[-1]
    if last is not None and a.op != "op.add":
        d, u = (cx.emit("neg", (x,)) if x is not None else None for x in (last.d, last.u))
        last = _RankOne(d, u, last.v, last.over)
    first = parts[0] if len(parts) == 2 else _RankOne()
    if first is None or last is None or (first.u is not None and last.u is not None):
        return None
    d = cx.emit("add", (first.d, last.d)) if first.d is not None and last.d is not None else first.d or last.d
    return _RankOne(d, first.u or last.u, first.v or last.v, first.over or last.over)


def _discretized_rank_one(cx: Site, a: Node, b: Node, method: str, dt: Node) -> tuple[Node, Node]:
    """bilinear, by the formula of Sherman and Morrison, with Z = dt A / 2 and E = (1 - dt d / 2)^-1, which is diagonal:
    (1 - Z)^-1 = E + outer(s E u, v E), s = dt / 2 / (1 - dt / 2 sum(v E u)), and (1 - Z)^-1 (1 + Z) = 2 (1 - Z)^-1 - 1."""
    parts = _rank_one(cx, a)
    if parts is None or parts.u is None or parts.v is None or parts.over is None or method == "zoh":
        help = "write the discrete A yourself; bilinear and euler know a diagonal plus one `outer` too"
        cx.fail("SSIR019", "only a diagonal or a dense A can be discretised", "A", help)
    d, u, v, n = parts.d or cx.number(0), parts.u, parts.v, parts.over
    if n not in b.type.names:
        cx.fail("SSIR014", f"B lacks the axis `{n}` of the rank one in A", "B")

    def times(x: Node, y: Node) -> Node:
        return cx.emit("mul", (x, y))

    def along(x: Node, y: Node) -> Node:
        """sum(x y) along n."""
        return cx.emit("dot", (x, y), over=(n,))

    axis = u.type.axis(n)
    one = cx.number(1)
    if method == "euler":
        kept = cx.emit("add", (one, times(dt, d)))
        return combine(cx, "add", kept, outer(cx, times(dt, u), v, axis)), times(dt, b)
    half = times(dt, cx.number(0.5))
    e = cx.emit("div", (one, cx.emit("sub", (one, times(half, d)))))
    eu, ve = times(e, u), times(v, e)
    s = cx.emit("div", (half, cx.emit("sub", (one, times(half, along(v, eu))))))
    side = times(s, eu)
    two = cx.number(2)
    kept = cx.emit("sub", (times(two, e), one))
    entering = cx.emit("add", (times(e, b), times(side, along(ve, b))))
    return combine(cx, "add", kept, outer(cx, times(two, side), ve, axis)), times(dt, entering)


def _discretized_dense(cx: Site, a: Node, b: Node, method: str, dt: Node) -> tuple[Node, Node]:
    n = cx.builder.nodes[a.inputs[0]].type.axis(a.attrs["over"])
    m = cx.builder.nodes[a.inputs[0]]
    unit = eye(cx, (n, Axis(f"{n.name}_", n.size)))
    z = cx.emit("mul", (dt, m))
    if n.name not in b.type.names:
        cx.fail("SSIR014", f"B lacks the axis `{n.name}` of the dense A", "B")
    step = cx.emit("mul", (dt, b))
    if method == "euler":
        return _dense(cx, cx.emit("add", (unit, z)), n), step
    if method == "bilinear":
        half = cx.emit("mul", (z, cx.number(0.5)))
        below = cx.emit("sub", (unit, half))
        return _dense(cx, solve(cx, below, cx.emit("add", (unit, half)), n), n), solve(cx, below, step, n)
    grown = expm(cx, z, n)
    change = cx.emit("sub", (grown, unit))
    return _dense(cx, grown, n), solve(cx, m, _apply(cx, change, b, n), n)


def _apply(cx: Site, m: Node, v: Node, n: Axis) -> Node:
    column = cx.emit("rename", (v,), axes=((n.name, f"{n.name}_"),))
    return cx.emit("dot", (m, column), over=(f"{n.name}_",))


def _dense(cx: Site, m: Node, n: Axis) -> Node:
    return cx.emit("op.dense", (m,), over=n.name)


def register(registry: Registry) -> None:
    for call in (delay, window, hold, cumsum, cummean, cummax, pool):
        registry.function(call, owns=True)
    for call in (context, reverse):
        registry.function(call)
