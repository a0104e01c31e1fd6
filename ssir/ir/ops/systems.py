"""State-space systems: the state, the operators that its A is made of, and whole sequences.

``absent`` of an operator's type names the axes that it shifts along, with 0 if it does nothing else, and 1 if it does more.
"""

from __future__ import annotations

from ssir.ir.graph import WHOLE, Axis, Type
from ssir.ir.op import UNKNOWN, Op, TypeFault, Use, absent, broadcast, promote, same, without

ROLES = ("A", "B", "x", "C", "D", "initial", "logA")


def _shift(use: Use) -> Type:
    return Type((Axis(use["axis"], use["size"]),), absent=((use["axis"], 0),), operator=True)


def _outer(use: Use) -> Type:
    use.has("a", (use["over"],), "a")
    use.has("b", (use["over"],), "b")
    return Type(broadcast(use.types), promote(use.types), operator=True)


def _dense(use: Use) -> Type:
    m, double = use.of("m"), f"{use['over']}_"
    use.has("m", (use["over"], double), "m")
    return Type(without(m, (double,)), m.dtype, operator=True)


def _rotate(use: Use) -> Type:
    angle, over, half = use.of("angle"), use["over"], use["half"]
    use.has("angle", (half,), "angle")
    turned = Axis(over, 2 * (angle.axis(half).size or 0))
    return Type(tuple(turned if axis.name == half else axis for axis in angle.axes), operator=True)


def _diag(use: Use) -> Type:
    return Type(use.of("a").axes, use.of("a").dtype, operator=True)


def _combined(use: Use) -> Type:
    shifts = tuple((name, 1) for name, _ in absent(use.types))
    return Type(broadcast(use.types), promote(use.types), absent=shifts, operator=True)


def _some_operator(use: Use) -> Type:
    return Type(dtype=UNKNOWN, operator=True)


def _state(use: Use) -> Type:
    axes = use.axes("axes")
    roles = {role: type for role, type in zip(use["roles"], use.types, strict=True) if role != "logA"}
    _fitting(axes, roles)
    given = roles["x"].names if "x" in roles else ()
    c, d, x = (roles.get(role) for role in ("C", "D", "x"))
    lag = 0 if use["read"] == "after" else 1
    missing = tuple(sorted((name, lag) for name in use["enters"] if "initial" not in roles))
    dtype = promote(roles.values())
    state = Type(axes, dtype, absent=missing)
    parts, used = [state], list[str]()
    if c is not None:
        used = [axis.name for axis in axes if axis.name not in given and axis.name in c.names]
        parts.append(c)
    whole = Type(without(Type(broadcast(reversed(parts))), used), absent=absent(parts, used))
    outputs = [whole, *(type for type in (d, x) if type is not None and d is not None)]
    return Type(broadcast(outputs), dtype, absent=whole.absent)


def _fitting(axes: tuple[Axis, ...], roles: dict[str, Type]) -> None:
    """Check that what a state is given has axes of its own, or such as are used up."""
    inside = {axis.name: axis for axis in axes}
    kept = ", ".join(inside)
    for role, type in roles.items():
        if role == "x":
            continue
        for axis in type.axes:
            if axis.name in inside and inside[axis.name].size != axis.size:
                words = f"axis `{axis.name}` is {axis.size} in {role}, but {inside[axis.name].size} in the state"
                raise TypeFault("SSIR015", words, role)
            if axis.name not in inside and role in ("A", "initial"):
                words = f"{role} has an axis `{axis.name}` that the state lacks: the state is [{kept}]"
                raise TypeFault(
                    "SSIR014", words, role, f"add `{axis.name}` to the axes of the state, or use it up before"
                )
    given = set(roles["x"].names) if "x" in roles else set()
    entering = set(roles["B"].names) if "B" in roles else set()
    for name in given - inside.keys() - entering:
        words = f"the input has an axis `{name}` that the state lacks: the state is [{kept}]"
        raise TypeFault("SSIR014", words, "x", f"add `{name}` to the axes of the state, or let B contract it")
    for name in entering - inside.keys() - given:
        words = f"B has an axis `{name}` that neither the state nor the input has"
        raise TypeFault("SSIR014", words, "B", "add it to the state, or use it up first")


def _declared(use: Use) -> Type:
    """What is kept is declared; only a readout or a feed-through could give other axes."""
    whole = use["axes"] and not {"C", "D"} & set(use["roles"])
    return Type(use.axes("axes")) if whole else Type(dtype=UNKNOWN)


def _context(use: Use) -> Type:
    x, slot = use.of("x"), use["axis"]
    if x.absent:
        words = f"slots of `{x.absent[0][0]}` may be absent, so it cannot be kept"
        raise TypeFault("SSIR014", words, "x", "use it up first")
    return Type((Axis(slot, None), *x.axes), x.dtype, absent=((slot, WHOLE),))


OPS = (
    Op("op.diag", ("a",), (), _diag),
    Op("op.shift", (), ("axis", "size"), _shift),
    Op("op.outer", ("a", "b"), ("over",), _outer),
    Op("op.dense", ("m",), ("over",), _dense),
    Op("op.rotate", ("angle",), ("over", "half"), _rotate),
    *(Op(f"op.{name}", ("a", "b"), (), _combined, _some_operator) for name in ("add", "sub", "mul")),
    Op("op.neg", ("a",), (), _combined, _some_operator),
    Op("state", ("roles*",), ("axes", "roles", "read", "algebra", "dtype", "enters", "sampled?"), _state, _declared),
    Op("context", ("x",), ("axis",), _context, same),
)
