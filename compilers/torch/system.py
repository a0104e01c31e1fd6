"""Writing the parts of h = A h + B x, y = C h + D x: what the forms share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ssir.compilers.torch import ops
from ssir.ir.graph import Node
from ssir.passes.facts import Facts

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter, Unit


def axes_of(node: Node) -> list[str]:
    return [name for name, _ in node.attrs["axes"]]


def entering(e: Emitter, node: Node, wanted: Sequence[str]) -> str:
    """The expression of B x over ``wanted``, axes of size 1 where it does not vary; a number if there is neither B nor x."""
    x, b = node.role("x"), node.role("B")
    if x is None and b is None:
        return "1.0" if node.attrs["algebra"] == "plus_times" else "0.0"
    text = _entering(e, node, wanted)
    said = node.attrs["dtype"] if e.unit.facts[node.name].structure.kind in ("shift", "zero") else None
    return text if said is None else f"time.{'as_data' if said == 'data' else 'as_wide'}({text})"


def _entering(e: Emitter, node: Node, wanted: Sequence[str]) -> str:
    x, b = node.role("x"), node.role("B")
    plus = node.attrs["algebra"] == "plus_times"
    if x is None or b is None:
        return ops.operand(e, x or b or "", wanted)
    x_names, b_names = e.node(x).type.names, e.node(b).type.names
    state = axes_of(node)
    used = [name for name in b_names if name in x_names and name not in state]
    if not used:
        return f"{ops.operand(e, b, wanted)} {'*' if plus else '+'} {ops.operand(e, x, wanted)}"
    rest = [name for name in wanted if name in x_names or name in b_names]
    lead = max(e.lead(x), e.lead(b))
    if plus:
        texts = [e.value(name) for name in (b, x)]
        if any(ops.is_wide(e, name) for name in (b, x)):
            texts = [f"time.as_wide({text})" for text in texts]
        left, right = ops.alike(e, (b, texts[0]), (x, texts[1]))
        text = ops.contraction(e, (left, b_names, e.lead(b)), (right, x_names, e.lead(x)), used, rest)
    else:
        whole = [*rest, *used]
        text = f"({ops.operand(e, b, whole)} + {ops.operand(e, x, whole)}).amax({ops.shape([-i for i in range(len(used), 0, -1)])})"
    return ops.fit(text, rest, wanted, lead)


def spread(e: Emitter, node: Node, text: str, hint: str) -> str:
    """A value over all axes of the state, none of size 1, as a variable."""
    sizes = [size for _, size in node.attrs["axes"]]
    dtype = "time.complex" if e.is_complex(node) else "time.dtype"
    return e.let(
        f"{node.name}_{hint}",
        f"{e.function('operations', 'spread')}(time, {text}, {ops.shape([s or 0 for s in sizes])}, {dtype})",
    )


def readout(e: Emitter, node: Node, h: str) -> str:
    """The expression of C h + D x, for h over the axes of the state."""
    state, wanted = axes_of(node), node.type.names
    c = node.role("C")
    plus = node.attrs["algebra"] == "plus_times"
    lead = ops.LEADS[e.mode]
    y, names = h, state
    if c is not None:
        x = node.role("x")
        given = e.node(x).type.names if x else ()
        c_names = e.node(c).type.names
        used = [name for name in state if name not in given and name in c_names]
        rest = [name for name in wanted if name in state or name in c_names]
        if used and plus:
            same = e.value(c)
            if node.type.dtype == "real" or e.node(c).type.dtype == "real":
                same = f"{same}.to({h}.dtype)"
            elif not e.is_complex(node):
                h = f"{h}.to({same}.dtype)"
            y = ops.contraction(e, (h, state, lead), (same, c_names, e.lead(c)), used, rest)
        elif used:
            whole = [*rest, *used]
            y = f"({ops.fit(h, state, whole, lead)} + {ops.operand(e, c, whole)}).amax({ops.shape([-i for i in range(len(used), 0, -1)])})"
        else:
            y = f"{ops.fit(h, state, rest, lead)} {'*' if plus else '+'} {ops.operand(e, c, rest)}"
        names = rest
    y = e.let(f"{node.name}_read", y)
    return feed_through(e, node, ops.fit(y, names, wanted, lead))


def feed_through(e: Emitter, node: Node, y: str) -> str:
    """y + D x, as a variable called like the node."""
    d, x = node.role("D"), node.role("x")
    if node.type.dtype == "real" and not ops.is_wide(e, node.name):
        y = f"time.as_data({y})"
        if d is not None and ops.is_wide(e, x or d):
            return e.let(node.name, f"time.as_data({through(e, node, y)})")
    return e.let(node.name, through(e, node, y))


def through(e: Emitter, node: Node, y: str) -> str:
    """The expression of y + D x."""
    d, x = node.role("D"), node.role("x")
    wanted = node.type.names
    if d is None:
        return y
    added = ops.operand(e, d, wanted)
    plus = node.attrs["algebra"] == "plus_times"
    if x is not None:
        added += f" {'*' if plus else '+'} {ops.operand(e, x, wanted)}"
    return f"{y} + {added}" if plus else f"torch.maximum(*torch.broadcast_tensors({y}, {added}))"


def before(e: Emitter, node: Node, h: str) -> str:
    """The memory before each step of a sequence, from that after each."""
    start, first = e.start(node), e.function("memory", "recall_all")
    recalled = f"{first}(time, old, {e.key(node)}, {e.sizes(node)}, {h}.dtype, {start}, {fill(node)})"
    cleared = start or f"torch.full((), {fill(node)}, dtype={h}.dtype, device={h}.device)"
    return e.let(f"{node.name}_before", f"{e.function('memory', 'previous')}({h}, {recalled}, {cleared}, time)")


def operator(e: Emitter, a: Node, h: str, axes: Sequence[str], lead: int | None = None) -> str:
    """The expression of an operator applied to h over ``axes``; ``lead`` axes stand in front of them, if not those of a sequence or step."""
    lead = ops.LEADS[e.mode] if lead is None else lead
    match a.op:
        case "op.diag":
            return f"({h} * {ops.operand(e, a.inputs[0], axes)})"
        case "op.neg":
            return f"(-{operator(e, e.node(a.inputs[0]), h, axes, lead)})"
        case "op.add" | "op.sub":
            left, right = (operator(e, e.node(name), h, axes, lead) for name in a.inputs)
            return f"({left} {'+' if a.op == 'op.add' else '-'} {right})"
        case "op.mul":
            inner = e.let("moved", operator(e, e.node(a.inputs[1]), h, axes, lead))
            return operator(e, e.node(a.inputs[0]), inner, axes, lead)
        case "op.outer":
            left, right = (ops.operand(e, name, axes) for name in a.inputs)
            return f"({left} * ({right} * {h}).sum({list(axes).index(a.attrs['over']) - len(axes)}, keepdim=True))"
        case "op.dense":
            over = a.attrs["over"]
            m = e.node(a.inputs[0])
            own = [f"{name}_" if name == over else name for name in axes]
            moved, matrix = e.let("moved", h), e.value(m.name)
            if m.type.dtype == "complex":
                moved = f"{moved}.to({matrix}.dtype)"
            else:
                matrix = f"{matrix}.to({moved}.dtype)"
            return ops.contraction(e, (matrix, m.type.names, e.lead(m.name)), (moved, own, lead), [f"{over}_"], axes)
        case "op.rotate":
            over, half = a.attrs["over"], a.attrs["half"]
            rest = [name for name in axes if name != over]
            moved = ops.fit(h, list(axes), [*rest, over], lead)
            angle = ops.operand(e, a.inputs[0], [*rest, half])
            return ops.fit(
                f"{e.function('operations', 'turn')}({moved}, {angle}, False)", [*rest, over], list(axes), lead
            )
        case "op.shift":
            at = list(axes).index(a.attrs["axis"]) - len(axes)
            return f"{e.function('operations', 'shifted')}({h}, {at})"
    raise AssertionError(f"no operator {a.op}")


def next_state(e: Emitter, fact: Facts, h: str) -> str:
    """h[t] from h[t-1] in a step."""
    node = fact.node
    axes = axes_of(node)
    a = node.role("A")
    into = entering(e, node, axes)
    if node.attrs["algebra"] == "max_plus":
        grown = h if a is None else f"{h} + {ops.operand(e, e.node(a).inputs[0], axes)}"
        other = into if not into.replace(".", "").isdigit() else f"torch.full_like({h}, {into})"
        return f"torch.maximum(*torch.broadcast_tensors({grown}, {other}))"
    if fact.structure.kind == "zero":
        return f"{e.function('operations', 'spread')}(time, {into}, {e.sizes(node)}, {h}.dtype)"
    grown = h if a is None or fact.structure.kind == "identity" else operator(e, e.node(a), h, axes)
    return f"{grown} + {into}"


def memory_dtype(e: Emitter, fact: Facts) -> str:
    return {"complex": "time.complex", "data": "time.data", "wide": "time.dtype"}[e.unit.kind(fact.node)]


def stored(unit: Unit, node: Node) -> tuple[tuple[int | None, ...], str]:
    """How a memory is kept: its sizes, the entries of a register first, and its kind of dtype."""
    slots = unit.facts[node.name].slots
    sizes = [size for name, size in node.attrs["axes"] if slots is None or name != slots.name]
    kind = unit.kind(node)
    return tuple(sizes if slots is None else [slots.size, *sizes]), (
        "rounded" if kind == "wide" and node.attrs["dtype"] == "data" else kind
    )


def fill(node: Node) -> str:
    return "0.0" if node.attrs["algebra"] == "plus_times" else "-torch.inf"


def recalled(e: Emitter, fact: Facts) -> str:
    """The memory before a step, as a variable."""
    node = fact.node
    start = e.start(node)
    tail = f", {start}" if start else ", None"
    text = f"{e.function('memory', 'recall')}(time, old, {e.key(node)}, {e.sizes(node)}, {memory_dtype(e, fact)}{tail}, {fill(node)})"
    return e.let(f"{node.name}_before", text)


def step(e: Emitter, fact: Facts) -> str:
    """One step of any memory but a register: h = A h + B x."""
    node = fact.node
    h = recalled(e, fact)
    if node.attrs["read"] == "before":
        y = readout(e, node, h)
        e.pending.append(lambda: e.line(f"new[{e.key(node)}] = {next_state(e, fact, h)}"))
        return y
    after = e.let(f"{node.name}_after", next_state(e, fact, h))
    e.line(f"new[{e.key(node)}] = {after}")
    return readout(e, node, after)


# Registers.


def seen(e: Emitter, node: Node) -> str:
    """A register with the input of this call entered: [batch, entries, *axes], oldest first. Read before, a step sees the old one."""
    if node.name in e.registers:
        return e.registers[node.name]
    fact = e.unit.facts[node.name]
    slots = fact.slots
    assert slots is not None
    inside = [name for name in axes_of(node) if name != slots.name]
    start = e.start(node)
    if start is not None:
        at = axes_of(node).index(slots.name) - len(node.attrs["axes"])
        start = f"{start}.movedim({at}, 0)"

    def write() -> str:
        into = entering(e, node, inside)
        sizes = ops.shape([dict(node.attrs["axes"])[name] for name in inside])
        wide = f"{e.function('operations', 'spread')}(time, {into}, {sizes}, {memory_dtype(e, fact)})"
        return f"{e.function('memory', 'push')}(time, old, new, {e.key(node)}, {wide}, {slots.size}, {start})"

    if e.mode == "step" and node.attrs["read"] == "before":
        sizes = ops.shape([dict(node.attrs["axes"])[name] for name in inside])
        text = f"{e.function('memory', 'register')}(time, old, {e.key(node)}, {slots.size}, {sizes}, {start})"
        e.registers[node.name] = e.let(f"{node.name}_seen", text)
        e.pending.append(lambda: e.line(write()))
    else:
        e.registers[node.name] = e.let(f"{node.name}_seen", write())
    return e.registers[node.name]


def slots_of(e: Emitter, fact: Facts) -> tuple[str, list[str], int]:
    """A register as a value: its expression, its axes, and the number of axes in front; by entry where the axis is laid out so."""
    node, slots = fact.node, fact.slots
    assert slots is not None
    inside = [name for name in axes_of(node) if name != slots.name]
    entries = seen(e, node)
    if slots.name in e.unit.entries:
        text = f"{entries}.unsqueeze(1)" if e.mode == "sequence" else entries
    else:
        lag = 0 if node.attrs["read"] == "after" else 1
        start = e.start(node)
        if start is not None:
            start = f"{start}.movedim({axes_of(node).index(slots.name) - len(node.attrs['axes'])}, 0)"
        text = e.let(
            f"{node.name}_slots", f"{e.function('memory', 'windows')}({entries}, time, {slots.size}, {lag}, {start})"
        )
    return text, [slots.name, *inside], ops.LEADS[e.mode]


def register(e: Emitter, fact: Facts) -> str:
    """The readout of a register, over a sequence or in a step."""
    node, slots = fact.node, fact.slots
    assert slots is not None
    text, names, lead = slots_of(e, fact)
    c = node.role("C")
    if c is None:
        own = e.let(node.name, ops.fit(text, names, axes_of(node), lead))
        return feed_through(e, node, own) if node.role("D") else own
    x = node.role("x")
    given = e.node(x).type.names if x else ()
    c_names = e.node(c).type.names
    used = [name for name in axes_of(node) if name not in given and name in c_names]
    rest = [name for name in node.type.names if name in axes_of(node) or name in c_names]
    if e.is_constant(c) and any(name in e.unit.entries for name in c_names):
        c_text, c_lead = ops.operand(e, c, c_names), ops.LEADS[e.mode]
    else:
        c_text, c_lead = ops.cleared(e, c, used) if not e.is_constant(c) else e.value(c), e.lead(c)
    if slots.name in e.unit.entries and slots.name in used and slots.name not in dict(e.node(c).type.absent):
        mask = ops.there(e, node.with_(type=_masked(node, slots.name)), [slots.name], c_names)
        c_text = f"{e.function('operations', 'masked')}({c_text}, {mask})"
    if used:
        text = f"time.as_data({text})" if e.unit.kind(node) == "wide" else text
        c_text = ops.as_data(e, c, c_text) if node.type.dtype == "real" else c_text
        y = ops.contraction(e, (text, names, lead), (c_text, c_names, c_lead), used, rest, ops.masking(e, e.node(c)))
    else:
        y = f"{ops.fit(text, names, rest, lead)} * {ops.fit(c_text, c_names, rest, c_lead)}"
    return feed_through(e, node, ops.fit(e.let(f"{node.name}_read", y), rest, node.type.names, lead))


def _masked(node: Node, axis: str):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    from ssir.passes.facts import state_axes

    lag = 0 if node.attrs["read"] == "after" else 1
    return replace(node.type, axes=state_axes(node), absent=((axis, lag),))
