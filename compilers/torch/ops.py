"""How each operation is written in torch. The meaning is in ssir.reference.ops; the two share nothing.

What lies along a slot axis that is laid out by entry (ssir.compilers.program.entries) is [batch, 1, entries, ...], never copied per step, and
a mask says which entries a step may read.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING

from ssir.compilers.torch.code import Code, binding, called, code, literal, method, stored, variable
from ssir.errors import SSIRError
from ssir.ir.graph import WHOLE, Dependence, Node
from ssir.ir.ops import is_elementwise
from ssir.ir.slots import absent
from ssir.registry import registry

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter

TIME, RUN = variable("time"), variable("run")
LEADS = {"constant": 0, "sequence": 2, "step": 1}
"""How many axes stand in front of the named ones, by mode."""

SPELLED: Mapping[str, str] = {
    "neg": "-{0}",
    "exp": "torch.exp({0})",
    "expm1": "torch.expm1({0})",
    "log": "torch.log({0})",
    "log1p": "torch.log1p({0})",
    "sqrt": "torch.sqrt({0})",
    "rsqrt": "torch.rsqrt({0})",
    "square": "torch.square({0})",
    "abs": "torch.abs({0})",
    "sign": "torch.sign({0})",
    "floor": "torch.floor({0})",
    "ceil": "torch.ceil({0})",
    "round": "torch.round({0})",
    "sin": "torch.sin({0})",
    "cos": "torch.cos({0})",
    "tan": "torch.tan({0})",
    "tanh": "torch.tanh({0})",
    "arctan": "torch.arctan({0})",
    "sigmoid": "torch.sigmoid({0})",
    "logsigmoid": "F.logsigmoid({0})",
    "silu": "F.silu({0})",
    "gelu": "F.gelu({0})",
    "gelu_tanh": 'F.gelu({0}, approximate="tanh")',
    "relu": "torch.relu({0})",
    "elu": "F.elu({0})",
    "softplus": "F.softplus({0}, threshold=40)",  # above, it is x: by itself torch says so from 20 on, where float64 differs
    "reciprocal": "torch.reciprocal({0})",
    "erf": "torch.erf({0})",
    "real": "torch.real({0})",
    "imag": "torch.imag({0})",
    "conj": "torch.conj({0})",
    "detach": "{0}.detach()",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "pow": "{0} ** {1}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "maximum": "torch.maximum({0}, {1})",
    "minimum": "torch.minimum({0}, {1})",
    "clamp": "torch.clamp({0}, {low}, {high})",
    "where": "torch.where({0}, {1}, {2})",
}
"""The elementwise operations; attributes go by name."""
RUNTIME: Mapping[str, tuple[str, str]] = {
    "mod": ("operations", "modulo"),
    "complex": ("support", "cartesian"),
    "polar": ("support", "polar"),
}
"""Those that are functions of the runtime."""
_TENSORS = frozenset({"complex", "polar", "maximum", "minimum"})


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


def emit(e: Emitter, node: Node) -> Code:
    """Write a node; its expression."""
    if is_elementwise(node.op):
        return _elementwise(e, node)
    if node.op in OTHER:
        return OTHER[node.op](e, node)
    return registry.require("op", node.op).emit(e, node)  # type: ignore[no-any-return]


def operand(e: Emitter, name: str, wanted: Sequence[str]) -> Code:
    """An operand of an elementwise operation over ``wanted``: fitted, numbers as they are, constants over slots laid out by entry."""
    node = e.node(name)
    if node.op == "const":
        return literal(node.attrs["value"])
    text = e.number(name) if node.type.dtype == "int" and node.op != "layer" else e.value(name)
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


def _elementwise(e: Emitter, node: Node) -> Code:
    wanted = node.type.names
    if node.op == "where":
        return _where(e, node, wanted)
    gated = _gated(e, node)
    if gated is not None:
        return e.let(node.name, gated)
    operands = [_met(e, node, name, operand(e, name, wanted)) for name in node.inputs]
    if node.op in _TENSORS or all(_is_number(e, name) for name in node.inputs):
        operands = [_as_tensor(e, name, text) for name, text in zip(node.inputs, operands, strict=True)]
    if node.op in ("real", "imag") and e.node(node.inputs[0]).type.dtype != "complex":
        return e.let(node.name, operands[0] if node.op == "real" else code("torch.zeros_like({0})", operands[0]))
    text = _spelled(e, node, operands)
    if node.op in ("real", "imag", "abs") and node.type.dependence >= Dependence.INPUT and e.mode != "constant":
        text = code("time.as_data({0})", text)  # complex numbers are wider than the data may be
    return e.let(node.name, e.once(node, text))


def _spelled(e: Emitter, node: Node, operands: Sequence[Code]) -> Code:
    if node.op in RUNTIME:
        return called(e.function(*RUNTIME[node.op]), *operands)
    return code(SPELLED.get(node.op) or registry.require("op", node.op).torch, *operands, **node.attrs)


_GATES = ("sigmoid", "silu", "gelu_tanh")


def _gated(e: Emitter, node: Node) -> Code | None:
    """gate(a), or gate(a) b where nothing else needs the gate, in one pass over a sequence."""
    if e.mode != "sequence" or e.is_constant(node.name) or node.type.dtype != "real":
        return None
    if node.op in _GATES:
        return called(e.function("pointwise", "gated"), e.value(node.inputs[0]), None, node.op)
    if node.op != "mul":
        return None
    for name, other in (node.inputs, reversed(node.inputs)):
        gate, rest = e.node(name), e.node(other)
        regions = e.unit.regions
        alone = gate.op in _GATES and e.graph.users[name] == (node.name,) and name not in e.names
        alone = alone and regions.of(name) == regions.of(node.name)
        alike = gate.type.names == rest.type.names == node.type.names and rest.type.dtype == "real"
        if alone and alike and not e.is_constant(name) and not e.is_constant(other):
            a, b = e.value(gate.inputs[0]), e.value(other)
            return called(e.function("pointwise", "gated"), a, b, gate.op)
    return None


def _is_number(e: Emitter, name: str) -> bool:
    """Whether a node is written as a number of Python, not as a tensor."""
    return e.node(name).op in ("const", "layer")


def _as_tensor(e: Emitter, name: str, text: Code) -> Code:
    if not _is_number(e, name):
        return text
    return scalar(text)


def scalar(number: object) -> Code:
    """A number as a tensor without axes."""
    return code("torch.full((), {0}, dtype=time.dtype, device=time.device)", number)


def _met(e: Emitter, node: Node, name: str, text: Code) -> Code:
    """An operand where it meets data, in the dtype of the data: what positions and indices decide is wider until then."""
    data = node.type.dependence >= Dependence.INPUT and node.type.dtype == "real"
    decided = e.node(name).type.dependence < Dependence.INPUT and is_wide(e, name)
    return code("time.as_data({0})", text) if data and decided and e.mode != "constant" else text


def is_wide(e: Emitter, name: str) -> bool:
    """Whether a value is a tensor of float32 at least, whatever the data is."""
    return name in e.wide


def as_data(e: Emitter, name: str, text: Code) -> Code:
    """The expression of a value, in the dtype of the data."""
    return code("time.as_data({0})", text) if is_wide(e, name) else text


def _where(e: Emitter, node: Node, wanted: Sequence[str]) -> Code:
    condition = e.node(node.inputs[0])
    text = fit(e.value(condition.name), condition.type.names, wanted, e.lead(condition.name))
    a, b = (_met(e, node, name, operand(e, name, wanted)) for name in node.inputs[1:])
    if all(_is_number(e, name) for name in node.inputs[1:]):
        a, b = (_as_tensor(e, name, text) for name, text in zip(node.inputs[1:], (a, b), strict=True))
    return e.let(node.name, code(SPELLED["where"], text, a, b))


# Masks of slots that may be absent.


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


def _whole_dims(own: Sequence[str], over: Sequence[str], axis: str) -> tuple[int, tuple[int, ...]]:
    return own.index(axis) - len(own), dims(own, [name for name in over if name != axis])


def cleared(e: Emitter, name: str, over: Sequence[str]) -> Code:
    """A value with absent slots of ``over`` zero, its axes in its own order."""
    node = e.node(name)
    mask = there(e, node, over, node.type.names)
    if mask is None or (node.op == "softmax" and set(over) <= set(node.attrs["over"])):
        return e.value(name)
    return e.let(f"{name}_there", called(e.function("operations", "masked"), e.value(name), mask))


# Reductions and products.


def _reduce(e: Emitter, node: Node) -> Code:
    source = e.node(node.inputs[0])
    over, own = node.attrs["over"], source.type.names
    text = e.number(source.name)
    whole = whole_axis(e, source, over)
    if whole is not None:
        where = _whole_dims(own, over, whole)
        return e.let(node.name, called(e.function("documents", "reduced"), text, TIME, node.op, *where))
    mask = there(e, source, over, own)
    places = dims(own, over)
    if node.op == "mean" and mask:
        return e.let(node.name, called(e.function("operations", "masked_mean"), text, places, mask))
    if mask:
        fill = {"sum": 0.0, "max": -math.inf, "min": math.inf}[node.op]
        text = called(e.function("operations", "masked"), text, mask, fill)
    name = {"sum": "sum", "mean": "mean", "max": "amax", "min": "amin"}[node.op]
    return e.let(node.name, method(text, name, places))


def _softmax(e: Emitter, node: Node) -> Code:
    source = e.node(node.inputs[0])
    whole = whole_axis(e, source, node.attrs["over"])
    if whole is not None:
        where = _whole_dims(source.type.names, node.attrs["over"], whole)
        return e.let(node.name, called(e.function("documents", "normalised"), e.number(source.name), TIME, *where))
    mask = there(e, source, node.attrs["over"], source.type.names)
    places = dims(source.type.names, node.attrs["over"])
    given = (e.number(source.name), places, *([mask] if mask else []))
    return e.let(node.name, called(e.function("operations", "softmax"), *given))


def contraction(
    e: Emitter,
    left: tuple[Code, Sequence[str], int],
    right: tuple[Code, Sequence[str], int],
    over: Sequence[str],
    wanted: Sequence[str],
    by: Code | None = None,
) -> Code:
    """The expression of a sum of products: operands as (text, axes, number of axes in front); ``by`` a function like einsum."""
    (a, a_names, a_lead), (b, b_names, b_lead) = left, right
    rest = {name for name in (*a_names, *b_names) if name not in over}
    if by is None and rest == set(a_names) - set(over) == set(b_names) - set(over) and a_lead == b_lead:
        a, b = (fit(text, names, [*wanted, *over], n) for text, names, n in (left, right))
        return code("({0} * {1}).sum({2})", a, b, tuple(-i for i in range(len(over), 0, -1)))
    one, other, result = spelled(((a_names, a_lead), (b_names, b_lead), (wanted, max(a_lead, b_lead))))
    return called(code("torch.einsum") if by is None else by, f"{one},{other}->{result}", a, b)


def spelled(parts: Sequence[tuple[Sequence[str], int]]) -> list[str]:
    """Axes and the number of those in front, as the letters of an einsum."""
    letters = dict(zip(dict.fromkeys(name for names, _ in parts for name in names), ascii_lowercase[4:], strict=False))
    lead = max(n for _, n in parts)
    return [("ab"[2 - n :] if lead == 2 else "a"[:n]) + "".join(letters[name] for name in names) for names, n in parts]


def alike(e: Emitter, left: tuple[str, Code], right: tuple[str, Code]) -> tuple[Code, Code]:
    """The expressions of two operands, given as (node, expression), both complex if one is: a product of matrices wants that."""
    (a, a_text), (b, b_text) = left, right
    one, other = (e.node(name).type.dtype == "complex" for name in (a, b))
    if one and not other:
        return a_text, code("{0}.to({1}.dtype)", b_text, a_text)
    if other and not one:
        return code("{0}.to({1}.dtype)", a_text, b_text), b_text
    return a_text, b_text


def _dot(e: Emitter, node: Node) -> Code:
    over = node.attrs["over"]
    sides = []
    found = (whole_axis(e, e.node(name), over) for name in node.inputs)
    whole = next((axis for axis in found if axis is not None), None)
    weighed = all(axis in e.unit.entries for axis in over) and any(  # by weights that are zero where nothing is
        e.node(name).op == "softmax" and set(over) <= set(e.node(name).attrs["over"]) for name in node.inputs
    )
    for name in node.inputs:
        own = e.node(name).type.names
        if e.node(name).op == "const":
            raise SSIRError(f"`{node.name}` contracts a number")
        text = e.value(name) if whole is not None or weighed else cleared(e, name, over)
        if e.node(name).type.dtype in ("int", "bool"):
            text = e.number(name)
        if e.mode != "constant" and e.is_constant(name) and any(axis in e.unit.entries for axis in own):
            sides.append((operand(e, name, own), own, LEADS[e.mode]))
        else:
            sides.append((text, own, e.lead(name)))
    product = node.type.dependence >= Dependence.INPUT and node.type.dtype == "real" and e.mode != "constant"
    met = [
        (name, as_data(e, name, text) if product else text)
        for name, (text, _, _) in zip(node.inputs, sides, strict=True)
    ]
    texts = alike(e, *met)
    if node.type.dependence < Dependence.INPUT and any(is_wide(e, name) for name in node.inputs):
        both = code("torch.promote_types({0}.dtype, {1}.dtype)", *texts)
        texts = (method(texts[0], "to", both), method(texts[1], "to", both))
    left, right = ((text, *side[1:]) for text, side in zip(texts, sides, strict=True))
    if whole is not None:
        wanted, lead = node.type.names, max(left[2], right[2])
        one, other, result, slot = spelled(((left[1], left[2]), (right[1], right[2]), (wanted, lead), ([whole], 0)))
        given = left[0], right[0], one, other, result, slot, TIME
        return e.let(node.name, called(e.function("documents", "dot"), *given))
    text = contraction(e, left, right, over, node.type.names, masking(e, *(e.node(name) for name in node.inputs)))
    pairs = [axis for axis in node.type.names if whole_axis(e, node, [axis]) is not None]
    if pairs:  # a step and an entry of another document: whatever is made of the two has a gradient
        text = called(e.function("operations", "masked"), text, there(e, node, pairs, node.type.names))
    return e.let(node.name, text)


def masking(e: Emitter, *nodes: Node) -> Code | None:
    """What multiplies values along entries, of which some steps must see nothing."""
    entries = {axis for node in nodes for axis in node.type.names if axis in e.unit.entries}
    whole = any(whole_axis(e, node, node.type.names) for node in nodes)
    return e.function("product", "product") if entries or whole else None


def _linear(e: Emitter, node: Node) -> Code:
    group = e.unit.groups.get(node.name)
    if group is not None and e.mode != "constant" and not e.apart and _together(e, group):
        return _group(e, group, node)
    x, own = e.value(node.inputs[0]), e.node(node.inputs[0]).type.names
    over, out, per = node.attrs["over"], node.attrs["out"], node.attrs["per"]
    if any(axis in over for axis, _ in e.node(node.inputs[0]).type.absent):
        x = cleared(e, node.inputs[0], over)
    lead = e.lead(node.inputs[0])
    rest = [name for name in own if name not in over and name not in per]
    x = fit(x, own, [*rest, *per, *over], lead)
    if len(over) > 1:
        x = method(x, "flatten", -len(over))
    part = e.unit.parts.of(node)
    y = _functional(e, node, x) if part is None else called(part_of(e, node), as_data(e, node.inputs[0], x))
    y = apart(y, [node.type.axis(name).size or 0 for name in out])
    written = [*rest, *per, *out]
    return e.let(node.name, fit(y, written, node.type.names, lead if e.is_constant(node.inputs[0]) else LEADS[e.mode]))


def apart(y: Code, sizes: Sequence[int]) -> Code:
    """The last axis as axes of these sizes."""
    if len(sizes) == 1:
        return y
    return method(y, "unflatten", -1, tuple(sizes)) if sizes else method(y, "squeeze", -1)


def part_of(e: Emitter, node: Node) -> Code:
    """The expression of the part that computes a node."""
    part = e.unit.parts.of(node)
    assert part is not None
    home, path = ("run.root", part.path) if part.shared else ("self", e.unit.local(part.path))
    return code("run.part({0}, {1})", code(home), path)


def _functional(e: Emitter, node: Node, x: Code) -> Code:
    """A projection by a weight that is no projection's own."""
    out, per = node.attrs["out"], node.attrs["per"]
    weight = e.node(node.inputs[1])
    w = flat_weight(e, weight, len(per), len(out), len(weight.type.axes) - len(per) - len(out))
    x = code("{0}.to({1}.dtype)", x, w) if is_wide(e, node.inputs[0]) else x
    b = None
    if node.attrs["bias"]:
        b = kept(e, node.inputs[2], [("flatten", (len(per),))] if len(out) > 1 else [])
    if per:
        return called(e.function("operations", "block_linear"), x, w, b)
    return called(e.function("linear", "linear"), x, w, *([] if b is None else [b]))


def flat_weight(e: Emitter, weight: Node, per: int, out: int, inner: int) -> Code:
    """A weight as [*per, out, in], kept with the constants."""
    changes: list[Change] = []
    if out == 0:
        changes.append(("unsqueeze", (per,)))
        out = 1
    if inner > 1:
        changes.append(("flatten", (per + out,)))
    if out > 1:
        changes.append(("flatten", (per, per + out - 1)))
    return kept(e, weight.name, changes)


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


def _together(e: Emitter, group: Sequence[str]) -> bool:
    return e.inside is None or all(name in e.inside for name in group)


def _group(e: Emitter, group: Sequence[str], node: Node) -> Code:
    """Parallel projections, as one product where that can be."""
    nodes = [e.node(name) for name in group]
    own = e.node(node.inputs[0]).type.names
    x = fit(e.value(node.inputs[0]), own, node.attrs["over"], e.lead(node.inputs[0]))
    if len(own) > 1:
        x = method(x, "flatten", -len(own))
    x = as_data(e, node.inputs[0], x)
    names = [e.fresh(name) for name in group]
    paths = [e.unit.local(part.path) for one in nodes if (part := e.unit.parts.of(one)) is not None]
    e.bind(names, called(code("self.together"), RUN, x, *paths))
    for one, name in zip(nodes, names, strict=True):
        out = one.attrs["out"]
        if len(out) != 1:
            e.bind([name], apart(name, [one.type.axis(n).size or 0 for n in out]))
        e.names[one.name] = name
    return e.names[node.name]


def _embed(e: Emitter, node: Node) -> Code:
    tokens, weight = node.inputs
    index = _index(e, tokens)
    if _is_number(e, tokens):
        index = code("torch.tensor({0}, device=time.device)", e.value(tokens))
    if e.unit.parts.of(node) is not None:
        sizes = [axis.size or 0 for axis in e.node(weight).type.axes[1:]]
        return e.let(node.name, apart(called(part_of(e, node), index), sizes))
    plain = len(e.node(weight).type.axes) == 2
    return e.let(node.name, code("F.embedding({0}, {1})" if plain else "{1}[{0}]", index, e.value(weight)))


def _norm(e: Emitter, node: Node) -> Code:
    own, over, eps = e.node(node.inputs[0]).type.names, node.attrs["over"], node.attrs["eps"]
    x = as_data(e, node.inputs[0], e.value(node.inputs[0]))
    if e.unit.parts.of(node) is not None:
        return e.let(node.name, called(part_of(e, node), x))
    rest = list(node.inputs[1:])
    weight = rest.pop(0) if node.attrs["scale"] else None
    bias = rest.pop(0) if node.attrs["bias"] else None
    if node.op == "l2_norm":
        return e.let(node.name, called(e.function("operations", "l2_norm"), x, dims(own, over), eps))
    last = over == own[-1:]
    if last:
        inside = all(name is None or e.node(name).type.names == tuple(over) for name in (weight, bias))
        w, b = (e.value(name) if name and inside else None for name in (weight, bias))
        if node.op == "rms_norm":
            text = called(e.function("pointwise", "rms_norm"), x, w, eps)
        else:
            text = called(e.function("operations", "layer_norm"), x, w, b, eps)
        if inside:
            return e.let(node.name, text)
    else:
        text = called(e.function("operations", "wide_norm"), x, dims(own, over), eps, node.op == "layer_norm")
    if weight:
        text = code("{0} * {1}", text, operand(e, weight, own))
    if bias:
        text = code("{0} + {1}", text, operand(e, bias, own))
    return e.let(node.name, text)


# Shapes.


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
        text = _met(e, node, name, fit(cleared(e, name, e.node(name).type.names), names, wanted, e.lead(name)))
        if e.lead(name) != LEADS[e.mode]:
            for _ in range(LEADS[e.mode]):
                text = method(text, "unsqueeze", 0)
        parts.append(text)
    place = wanted.index(axis) - len(wanted)
    return e.let(node.name, called(e.function("operations", "concat"), tuple(parts), place))


def _pack(e: Emitter, node: Node) -> Code:
    axis, wanted = node.attrs["axis"], node.type.names
    rest = [name for name in wanted if name != axis]
    parts = [_met(e, node, name, operand(e, name, rest)) for name in node.inputs]
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
            i = fit(_index(e, index.name), index.type.names, node.type.names, e.lead(index.name))
        return e.let(node.name, called(e.function("documents", "selected"), x, i, TIME))
    x = cleared(e, source.name, [axis])
    if index.op in ("const", "layer"):
        return e.let(node.name, method(x, "select", place, _number(index)))
    x = fit(x, own, [*(name for name in node.type.names), axis], e.lead(source.name))
    i = fit(_index(e, index.name), index.type.names, node.type.names, e.lead(index.name))
    return e.let(node.name, called(e.function("operations", "select"), x, -1, i))


def _number(node: Node) -> Code:
    """A number that is known when the model is called."""
    return literal(node.attrs["value"]) if node.op == "const" else code("run.layer")


def _index(e: Emitter, name: str) -> Code:
    """A whole number to look up by; one over slots that is constant is laid out as the others are."""
    node = e.node(name)
    by_entry = any(axis in e.unit.entries for axis in node.type.names)
    text = operand(e, name, node.type.names) if by_entry else e.value(name)
    return text if node.type.dtype == "int" or _is_number(e, name) else method(text, "long")


def _expand(e: Emitter, node: Node) -> Code:
    x = _as_tensor(e, node.inputs[0], e.fitted(node.inputs[0], node.type.names))
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


# Sources, memory, composition.


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


OTHER: Mapping[str, Callable[[Emitter, Node], Code]] = {
    "sum": _reduce,
    "mean": _reduce,
    "max": _reduce,
    "min": _reduce,
    "softmax": _softmax,
    "dot": _dot,
    "linear": _linear,
    "embed": _embed,
    "rms_norm": _norm,
    "layer_norm": _norm,
    "l2_norm": _norm,
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
    "stack": _stack,
    "part": _part,
}
