"""Everything that remembers is a state-space node; these functions write common ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssir.functions.kinds import Later
from ssir.functions.operators import combine, lifted, outer, shift
from ssir.functions.shapes import expm, eye, solve
from ssir.ir.graph import WHOLE, Axis, Node, Type
from ssir.ir.ops import AxesError, absent, broadcast, promote
from ssir.spec.build import UNKNOWN, Site, is_unknown

if TYPE_CHECKING:
    from ssir.registry import Registry

ROLES = ("A", "B", "x", "C", "D", "initial")


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
        "axes": tuple((a.name, a.size) for a in axes),
        "roles": tuple(roles),
        "read": read,
        "algebra": algebra,
        "dtype": dtype,
        **({} if sampled is None else {"sampled": sampled}),
    }
    if not known:
        # What is kept is declared; only a readout or a feed-through could give other axes.
        read_whole = "C" not in roles and "D" not in roles
        return cx.emit("state", operands, Type(axes) if read_whole else Type(dtype=UNKNOWN), **attributes)
    if dtype == "data" and promote([n.type for n in operands]) == "complex":
        help = "leave `dtype` out"
        cx.fail("SSIR018", "a complex memory is kept in complex numbers, which the dtype of the data is not", help=help)
    return cx.emit("state", operands, _type(cx, axes, roles, read, entrances), **attributes)


def _entrances(cx: Site, roles: dict[str, Node]) -> list[str]:
    """The axes that A shifts along and whose first slot the input enters: neither B nor the input says otherwise."""
    said = {name for role in ("B", "x") if role in roles for name in roles[role].type.names}
    return [name for name, _ in roles["A"].type.absent if name not in said] if "A" in roles else []


def _entering_first(cx: Site, roles: dict[str, Node], axes: list[Axis]) -> dict[str, Node]:
    """B with the entrance written out: 1 in the first slot, 0 in the others."""
    b = roles.get("B")
    for axis in axes:
        index = cx.emit("arange", (), Type((axis,)), "slot", axis=axis.name)
        first = cx.elementwise(
            "where",
            (cx.elementwise("eq", (index, cx.number(0)), "bool", "first"), cx.number(1), cx.number(0)),
            name="entrance",
        )
        b = first if b is None else cx.elementwise("mul", (b, first), name="entering")
    known = {**roles, "B": b} if b is not None else roles
    return {role: known[role] for role in ROLES if role in known}


def _type(cx: Site, axes: tuple[Axis, ...], roles: dict[str, Node], read: str, entrances: list[str]) -> Type:
    inside = {axis.name: axis for axis in axes}
    for role, node in roles.items():
        if role == "x":
            continue
        for axis in node.type.axes:
            if axis.name in inside and inside[axis.name].size != axis.size:
                cx.fail(
                    "SSIR015",
                    f"axis `{axis.name}` is {axis.size} in {role}, but {inside[axis.name].size} in the state",
                    role,
                )
            if axis.name not in inside and role in ("A", "initial"):
                cx.fail(
                    "SSIR014",
                    f"{role} has an axis `{axis.name}` that the state lacks: the state is [{', '.join(inside)}]",
                    role,
                    help=f"add `{axis.name}` to the axes of the state, or use it up before",
                )
    x = roles.get("x")
    given = set(x.type.names) if x is not None else set()
    b = roles.get("B")
    b_names = set(b.type.names) if b is not None else set()
    for axis_name in given - inside.keys() - b_names:
        cx.fail(
            "SSIR014",
            f"the input has an axis `{axis_name}` that the state lacks: the state is [{', '.join(inside)}]",
            "x",
            help=f"add `{axis_name}` to the axes of the state, or let B contract it",
        )
    for axis_name in b_names - inside.keys() - given:
        cx.fail(
            "SSIR014",
            f"B has an axis `{axis_name}` that neither the state nor the input has",
            "B",
            "add it to the state, or use it up first",
        )
    expansion = [name for name in inside if name not in given]
    c, d = roles.get("C"), roles.get("D")
    lag = 0 if read == "after" else 1
    missing = tuple((name, lag) for name in entrances if "initial" not in roles)
    state = Type(axes, promote([n.type for n in roles.values()]), absent=tuple(sorted(missing)))
    used: list[str] = []
    parts = [state]
    if c is not None:
        used = [name for name in expansion if name in c.type.names]
        parts.append(c.type)
    try:
        whole = Type(tuple(a for a in broadcast(reversed(parts)) if a.name not in used), absent=absent(parts, used))
        outputs = [whole]
        if d is not None:
            outputs += [n.type for n in (d, x) if n is not None]
        result = broadcast(outputs)
    except AxesError as error:
        cx.fail("SSIR015", str(error))
    return Type(result, promote([state, *(n.type for n in roles.values())]), absent=absent([whole]))


def delay(cx: Site, x: Later, steps: int = 1, initial: Node | None = None) -> Node:
    """x as it was a number of steps ago; before that ``initial`` (0). x may be computed from this."""
    first = {"initial": initial} if initial is not None else {}
    if is_unknown(x):
        return cx.emit(
            "state", (x,), Type(dtype=UNKNOWN), axes=(), roles=("x",), read="before", algebra="plus_times", dtype=None
        )
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
    rest = Type(x.type.axes, register.type.dtype)
    return cx.emit("select", (register, cx.number(steps - 1)), rest, axis=slots.name)


def window(cx: Site, x: Node, slot: Axis) -> Node:
    """The last inputs, the newest in slot 0: a shift register read whole."""
    if is_unknown(x):
        return cx.emit(
            "state", (x,), Type(dtype=UNKNOWN), axes=(), roles=("x",), read="after", algebra="plus_times", dtype=None
        )
    return system(cx, (slot, *x.type.axes), {"A": shift(cx, slot), "x": x})


def hold(cx: Site, x: Node, every: int) -> Node:
    """Sample and hold: x at positions 0, every, 2 every, ..., kept until the next."""
    if every < 1:
        cx.fail("SSIR018", f"a value is held for at least one step, not {every}", "every", "give a number of steps")
    if is_unknown(x):
        return x
    zero = cx.number(0)
    phase = cx.elementwise(
        "mod", (cx.emit("position", (), Type(dtype="int"), "position"), cx.number(every)), name="phase"
    )
    fresh = cx.elementwise("eq", (phase, zero), "bool", name="fresh")
    take = cx.elementwise("where", (fresh, cx.number(1), zero), name="take")
    keep = cx.elementwise("where", (fresh, zero, cx.number(1)), name="keep")
    return system(cx, x.type.axes, {"A": lifted(cx, keep), "B": take, "x": x})


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
    if x.type.absent:
        name = x.type.absent[0][0]
        cx.fail("SSIR014", f"slots of `{name}` may be absent, so it cannot be kept", "x", help="use it up first")
    type = Type((slot, *x.type.axes), x.type.dtype, absent=((slot.name, WHOLE),))
    return cx.emit("context", (x,), type, axis=slot.name)


def discretized(cx: Site, a: Node, b: Node | None, method: str, dt: Node, axes: tuple[Axis, ...]) -> tuple[Node, Node]:
    """A and B sampled with step dt. zoh: exp(dt A), A^-1 (exp(dt A) - 1) B; bilinear: (1 - dt A / 2)^-1 (1 + dt A / 2),
    (1 - dt A / 2)^-1 dt B; euler: 1 + dt A, dt B."""
    one = cx.number(1)
    b = b if b is not None else one
    if a.op == "op.dense":
        return _discretized_dense(cx, a, b, method, dt)
    if a.type.operator:
        return _discretized_rank_one(cx, a, b, method, dt)
    z = cx.elementwise("mul", (dt, a), name="dt_A")
    if method == "zoh":
        still = a.op == "const" and a.attrs["value"] == 0
        small = dt if still else cx.elementwise("div", (cx.elementwise("expm1", (z,)), a), name="phi")
        return lifted(cx, cx.elementwise("exp", (z,))), cx.elementwise("mul", (small, b))
    if method == "bilinear":
        half = cx.elementwise("mul", (z, cx.number(0.5)))
        below = cx.elementwise("sub", (one, half))
        grown = cx.elementwise("div", (cx.elementwise("add", (one, half)), below))
        return lifted(cx, grown), cx.elementwise("mul", (cx.elementwise("div", (dt, below)), b))
    return lifted(cx, cx.elementwise("add", (one, z))), cx.elementwise("mul", (dt, b))


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
        d, u = (cx.elementwise("neg", (x,)) if x is not None else None for x in (last.d, last.u))
        last = _RankOne(d, u, last.v, last.over)
    first = parts[0] if len(parts) == 2 else _RankOne()
    if first is None or last is None or (first.u is not None and last.u is not None):
        return None
    d = cx.elementwise("add", (first.d, last.d)) if first.d is not None and last.d is not None else first.d or last.d
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
        return cx.elementwise("mul", (x, y))

    def along(x: Node, y: Node) -> Node:
        """sum(x y) along n."""
        axes = tuple(axis for axis in broadcast([x.type, y.type]) if axis.name != n)
        return cx.emit("dot", (x, y), Type(axes, promote([x.type, y.type])), over=(n,))

    axis = u.type.axis(n)
    one = cx.number(1)
    if method == "euler":
        kept = cx.elementwise("add", (one, times(dt, d)))
        return combine(cx, "add", kept, outer(cx, times(dt, u), v, axis)), times(dt, b)
    half = times(dt, cx.number(0.5))
    e = cx.elementwise("div", (one, cx.elementwise("sub", (one, times(half, d)))))
    eu, ve = times(e, u), times(v, e)
    s = cx.elementwise("div", (half, cx.elementwise("sub", (one, times(half, along(v, eu))))))
    side = times(s, eu)
    two = cx.number(2)
    kept = cx.elementwise("sub", (times(two, e), one))
    entering = cx.elementwise("add", (times(e, b), times(side, along(ve, b))))
    return combine(cx, "add", kept, outer(cx, times(two, side), ve, axis)), times(dt, entering)


def _discretized_dense(cx: Site, a: Node, b: Node, method: str, dt: Node) -> tuple[Node, Node]:
    n = cx.builder.nodes[a.inputs[0]].type.axis(a.attrs["over"])
    m = cx.builder.nodes[a.inputs[0]]
    unit = eye(cx, (n, Axis(f"{n.name}_", n.size)))
    z = cx.elementwise("mul", (dt, m))
    if n.name not in b.type.names:
        cx.fail("SSIR014", f"B lacks the axis `{n.name}` of the dense A", "B")
    step = cx.elementwise("mul", (dt, b))
    if method == "euler":
        return _dense(cx, cx.elementwise("add", (unit, z)), n), step
    if method == "bilinear":
        half = cx.elementwise("mul", (z, cx.number(0.5)))
        below = cx.elementwise("sub", (unit, half))
        return _dense(cx, solve(cx, below, cx.elementwise("add", (unit, half)), n), n), solve(cx, below, step, n)
    grown = expm(cx, z, n)
    change = cx.elementwise("sub", (grown, unit))
    return _dense(cx, grown, n), solve(cx, m, _apply(cx, change, b, n), n)


def _apply(cx: Site, m: Node, v: Node, n: Axis) -> Node:
    double = Axis(f"{n.name}_", n.size)
    column = cx.emit(
        "rename",
        (v,),
        Type(tuple(double if x == n else x for x in v.type.axes), v.type.dtype),
        axes=((n.name, double.name),),
    )
    axes = tuple(x for x in broadcast([m.type, column.type]) if x != double)
    return cx.emit("dot", (m, column), Type(axes, promote([m.type, v.type])), over=(double.name,))


def _dense(cx: Site, m: Node, n: Axis) -> Node:
    double = Axis(f"{n.name}_", n.size)
    return cx.emit(
        "op.dense", (m,), Type(tuple(x for x in m.type.axes if x != double), m.type.dtype, operator=True), over=n.name
    )


def register(registry: Registry) -> None:
    for call in (delay, window, hold):
        registry.function(call, owns=True)
    registry.function(context)
