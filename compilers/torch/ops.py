"""How each operation is written in torch. The meaning is in ssir.reference.ops; the two share nothing.

A slot axis that is long or grows is laid out by *entry* (oldest first, one axis for all steps) instead of by slot: window(k, slot) is
then [batch, 1, entries, ...], never copied per step, and a mask says which entries a step may read. Sums, products and softmax do not
mind the order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING

from ssir.compilers.forms import Match
from ssir.errors import SSIRError
from ssir.ir.graph import WHOLE, Axis, Dependence, Graph, Node
from ssir.ir.ops import is_elementwise
from ssir.ir.slots import absent, gaps
from ssir.passes.facts import facts
from ssir.registry import registry

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter

LONG = 16
_BY_ENTRY = frozenset(
    "dot softmax sum max min mean state arange param const expand rms_norm layer_norm l2_norm linear rename".split()
)

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
_NUMBERS = frozenset({"arange", "eye", "position", "input"})
_AS_DATA = frozenset("linear embed rms_norm layer_norm l2_norm context stack part".split())
_TENSORS = frozenset({"complex", "polar", "maximum", "minimum"})


def literal(node: Node) -> str:
    """A number of the spec, as Python writes it."""
    value = node.attrs["value"]
    if math.isinf(value):
        return "torch.inf" if value > 0 else "(-torch.inf)"
    return repr(value) if value >= 0 else f"({value!r})"


def shape(sizes: Sequence[int]) -> str:
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def dims(own: Sequence[str], over: Sequence[str]) -> str:
    """Axes as a tuple of places counted from the right."""
    return shape([own.index(name) - len(own) for name in over])


def fit(text: str, own: Sequence[str], wanted: Sequence[str], lead: int) -> str:
    """Permute the named axes to ``wanted`` and add an axis of size 1 for each that is missing (constants need none in front)."""
    order = [own.index(name) for name in wanted if name in own]
    if order != sorted(order):
        text = f"{text}.permute({', '.join(map(str, [*range(lead), *(lead + i for i in order)]))})"
    first = next((i for i, name in enumerate(wanted) if name in own), len(wanted)) if lead == 0 else 0
    for i in reversed(range(first, len(wanted))):
        if wanted[i] not in own:
            text = f"{text}.unsqueeze({i - len(wanted)})"
    return text


def emit(e: Emitter, node: Node) -> str:
    """Write a node; its expression."""
    for _, fusion in registry.all("fusion"):
        text: str | None = fusion.emit(e, node)
        if text is not None:
            return text
    if is_elementwise(node.op):
        return _elementwise(e, node)
    if node.op in OTHER:
        return OTHER[node.op](e, node)
    return registry.require("op", node.op).emit(e, node)  # type: ignore[no-any-return]


def operand(e: Emitter, name: str, wanted: Sequence[str]) -> str:
    """An operand of an elementwise operation over ``wanted``: fitted, numbers as they are, constants over slots laid out by entry."""
    node = e.node(name)
    if node.op == "const":
        return literal(node)
    text = e.number(name) if node.type.dtype == "int" and node.op != "layer" else e.value(name)
    if e.mode != "constant" and e.is_constant(name):
        slots = [axis for axis in node.type.names if axis in e.unit.entries]
        for axis in slots:
            place = node.type.names.index(axis) - len(node.type.names)
            by_slot = e.function("memory", "by_slot")
            text = e.let(
                f"{name}_by_entry",
                f"{by_slot}({text}, {place}, time, {entries(e, axis)}, {node.type.axis(axis).size}, {e.unit.entries[axis]})",
            )
        if slots:
            return fit(text, node.type.names, wanted, {"sequence": 2, "step": 1}[e.mode])
    return fit(text, node.type.names, wanted, e.lead(name))


def _elementwise(e: Emitter, node: Node) -> str:
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
        return e.let(node.name, operands[0] if node.op == "real" else f"torch.zeros_like({operands[0]})")
    text = _spelled(e, node.op).format(*operands, **node.attrs)
    if node.op in ("real", "imag", "abs") and node.type.dependence >= Dependence.INPUT and e.mode != "constant":
        text = f"time.as_data({text})"  # complex numbers are wider than the data may be
    return e.let(node.name, e.once(node, text))


def _spelled(e: Emitter, op: str) -> str:
    if op in RUNTIME:
        return f"{e.function(*RUNTIME[op])}({{0}}, {{1}})"
    return SPELLED.get(op) or registry.require("op", op).torch


_GATES = ("sigmoid", "silu", "gelu_tanh")


def _gated(e: Emitter, node: Node) -> str | None:
    """gate(a), or gate(a) b where nothing else needs the gate, in one pass over a sequence."""
    if e.mode != "sequence" or e.is_constant(node.name) or node.type.dtype != "real":
        return None
    if node.op in _GATES:
        return f'{e.function("pointwise", "gated")}({e.value(node.inputs[0])}, None, "{node.op}")'
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
            return f'{e.function("pointwise", "gated")}({a}, {b}, "{gate.op}")'
    return None


def _is_number(e: Emitter, name: str) -> bool:
    """Whether a node is written as a number of Python, not as a tensor."""
    return e.node(name).op in ("const", "layer")


def _as_tensor(e: Emitter, name: str, text: str) -> str:
    if not _is_number(e, name):
        return text
    return f"torch.full((), {text}, dtype=time.dtype, device=time.device)"


def _met(e: Emitter, node: Node, name: str, text: str) -> str:
    """An operand where it meets data, in the dtype of the data: what positions and indices decide is wider until then."""
    data = node.type.dependence >= Dependence.INPUT and node.type.dtype == "real"
    decided = e.node(name).type.dependence < Dependence.INPUT and is_wide(e, name)
    return f"time.as_data({text})" if data and decided and e.mode != "constant" else text


def is_wide(e: Emitter, name: str) -> bool:
    """Whether a value is a tensor of float32 at least, whatever the data is."""
    return name in e.unit.wide


def as_data(e: Emitter, name: str, text: str) -> str:
    """The expression of a value, in the dtype of the data."""
    return f"time.as_data({text})" if is_wide(e, name) else text


def wide(graph: Graph) -> frozenset[str]:
    """The nodes of a graph whose values are float32 at least, whatever the data is. Once around a cycle is enough: what is wide stays so."""
    found: set[str] = set()
    while True:
        more = {node.name for node in graph if node.name not in found and _is_wide(graph, node, found)}
        if not more:
            return frozenset(found)
        found |= more


def _is_wide(graph: Graph, node: Node, known: Collection[str]) -> bool:
    if node.type.dtype in ("bool", "complex") or node.type.operator:
        return False
    if node.op == "state":
        fact = facts(graph, node)
        entering = [name for role in ("x", "B", "initial") if (name := node.role(role)) is not None]
        kept = fact.structure.kind in ("shift", "zero") and not any(name in known for name in entering)
        return not kept and not fact.contracted
    if node.op == "param":
        return node.attrs["dtype"] is not None
    if node.op in _AS_DATA or (node.op == "dot" and node.type.dependence >= Dependence.INPUT):
        return False
    plugin = registry.get("op", node.op)
    if plugin is not None:
        return getattr(plugin, "keeps_dtype", False) and node.inputs[0] in known
    if node.op in _NUMBERS:
        return node.op != "input" or node.type.dtype == "int"
    values = node.inputs[1:] if node.op in ("where", "select") else node.inputs
    numbers = [name for name in values if graph[name].op in ("const", "layer")]
    if values and len(numbers) == len(values):
        return True
    made = [name for name in values if name not in numbers]
    if node.type.dependence >= Dependence.INPUT:
        # What positions and written numbers decide is brought to the data where the two meet.
        made = [name for name in made if graph[name].type.dependence >= Dependence.INPUT]
    return any(name in known for name in made)


def _where(e: Emitter, node: Node, wanted: Sequence[str]) -> str:
    condition = e.node(node.inputs[0])
    text = fit(e.value(condition.name), condition.type.names, wanted, e.lead(condition.name))
    a, b = (_met(e, node, name, operand(e, name, wanted)) for name in node.inputs[1:])
    if all(_is_number(e, name) for name in node.inputs[1:]):
        a, b = (_as_tensor(e, name, text) for name, text in zip(node.inputs[1:], (a, b), strict=True))
    return e.let(node.name, SPELLED["where"].format(text, a, b))


# Masks of slots that may be absent.


def entry_axes(graph: Graph, match: Mapping[str, Match]) -> dict[str, int]:
    """The slot axes laid out by entry, with the lag of their registers."""
    found: dict[str, int] = {}
    for node in graph.states:
        fact = facts(graph, node)
        slots = fact.slots
        if slots is not None and slots.size is None and node.name in graph.cycle_of:
            raise _feeds_back(node, slots)
        if (
            slots is None
            or node.role("initial") is not None
            or match[node.name].form.name not in ("register", "attention")
        ):
            continue
        if slots.size is not None and slots.size <= LONG:
            continue
        lag = 0 if node.attrs["read"] == "after" else 1
        users = [other for other in graph if slots.name in other.type.names and not other.type.operator]
        users += [graph[user] for other in users for user in graph.users[other.name]]
        cycles = graph.cycle_of
        if node.name not in cycles and any(other.name in cycles for other in users):
            if slots.size is None:
                raise _feeds_back(node, slots)
            found.pop(slots.name, None)
            continue
        fits = all(_keeps_order(graph, other, slots.name) for other in users) and found.get(slots.name, lag) == lag
        if fits:
            found[slots.name] = lag
        elif slots.size is None:
            raise SSIRError(
                f"`{node.name}` grows without bound, and something reads its slots in order; give `{slots.name}` a size"
            )
        else:
            found.pop(slots.name, None)
    return found


def _feeds_back(node: Node, slots: Axis) -> SSIRError:
    return SSIRError(
        f"`{node.name}` grows without bound and is read where the state feeds back; give `{slots.name}` a size"
    )


def _keeps_order(graph: Graph, node: Node, axis: str) -> bool:
    if node.op == "state":
        own = [name for name, _ in node.attrs["axes"]]
        a = node.role("A")
        if axis in own:
            return a is not None and graph[a].op == "op.shift" and graph[a].attrs["axis"] == axis
        return not any(axis in graph[name].type.names for name in node.inputs)
    if node.op == "linear":
        return axis not in node.attrs["over"] and axis not in node.attrs["per"]
    if node.op in ("rms_norm", "layer_norm", "l2_norm"):
        return axis not in node.attrs["over"]
    if node.op == "rename":
        return axis not in dict(node.attrs["axes"]) and axis not in dict(node.attrs["axes"]).values()
    if node.op == "select":
        return bool(axis != node.attrs["axis"])
    if node.op == "embed":
        return axis not in graph[node.inputs[1]].type.names
    if is_elementwise(node.op) or node.op in _BY_ENTRY or node.op.startswith("op."):
        return True
    plugin = registry.get("op", node.op)
    return plugin is not None and plugin.keeps_order(node, axis)


def entries(e: Emitter, axis: str) -> str:
    """The number of entries of the registers along a slot axis."""
    from ssir.compilers.torch.system import seen

    along = [n for n in e.graph.states if (slots := e.unit.facts[n.name].slots) is not None and slots.name == axis]
    node = next((node for node in along if node.name in e.registers), along[0])
    return f"{seen(e, node)}.shape[1]"


def there(e: Emitter, node: Node, over: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The mask of the slots of ``over`` that are there, fitted to ``wanted``; None if all are."""
    masks = []
    for axis, lag in absent(node.type, gaps(e.graph)).items():
        if axis not in over:
            continue
        size = node.type.axis(axis).size
        lead, at = {"sequence": 2, "step": 1}[e.mode], list(wanted).index(axis)
        if lag == WHOLE:
            masks.append(f"time.together({at}, {len(wanted) - at - 1})")
            continue
        if axis in e.unit.entries:
            text = f"time.present({entries(e, axis)}, {size}, {lag})"
        else:
            text = f"(torch.arange({size}, device=time.device) < (time.position + {1 - lag}).unsqueeze(-1))"
        text += "".join(f".unsqueeze({lead})" for _ in range(at)) + "".join(
            ".unsqueeze(-1)" for _ in range(len(wanted) - at - 1)
        )
        masks.append(e.let(f"{axis}_there", text))
    return f"{e.function('operations', 'both')}({', '.join(masks)})" if len(masks) > 1 else masks[0] if masks else None


def whole_axis(e: Emitter, node: Node, over: Sequence[str]) -> str | None:
    """The axis of ``over`` along which a whole sequence lies."""
    lags = absent(node.type, gaps(e.graph))
    return next((axis for axis in over if lags.get(axis) == WHOLE), None)


def _whole_dims(own: Sequence[str], over: Sequence[str], axis: str) -> str:
    return f"{own.index(axis) - len(own)}, {dims(own, [name for name in over if name != axis])}"


def cleared(e: Emitter, name: str, over: Sequence[str]) -> str:
    """A value with absent slots of ``over`` zero, its axes in its own order."""
    node = e.node(name)
    mask = there(e, node, over, node.type.names)
    if mask is None or (node.op == "softmax" and set(over) <= set(node.attrs["over"])):
        return e.value(name)
    return e.let(f"{name}_there", f"{e.function('operations', 'masked')}({e.value(name)}, {mask})")


# Reductions and products.


def _reduce(e: Emitter, node: Node) -> str:
    source = e.node(node.inputs[0])
    over, own = node.attrs["over"], source.type.names
    text = e.number(source.name)
    whole = whole_axis(e, source, over)
    if whole is not None:
        reduced = e.function("documents", "reduced")
        return e.let(node.name, f'{reduced}({text}, time, "{node.op}", {_whole_dims(own, over, whole)})')
    mask = there(e, source, over, own)
    places = dims(own, over)
    if node.op == "mean" and mask:
        return e.let(node.name, f"{e.function('operations', 'masked_mean')}({text}, {places}, {mask})")
    if mask:
        fill = {"sum": "0.0", "max": "-torch.inf", "min": "torch.inf"}[node.op]
        text = f"{e.function('operations', 'masked')}({text}, {mask}, {fill})"
    method = {"sum": "sum", "mean": "mean", "max": "amax", "min": "amin"}[node.op]
    return e.let(node.name, f"{text}.{method}({places})")


def _softmax(e: Emitter, node: Node) -> str:
    source = e.node(node.inputs[0])
    whole = whole_axis(e, source, node.attrs["over"])
    if whole is not None:
        where = _whole_dims(source.type.names, node.attrs["over"], whole)
        return e.let(node.name, f"{e.function('documents', 'normalised')}({e.number(source.name)}, time, {where})")
    mask = there(e, source, node.attrs["over"], source.type.names)
    places = dims(source.type.names, node.attrs["over"])
    tail = f", {mask}" if mask else ""
    return e.let(node.name, f"{e.function('operations', 'softmax')}({e.number(source.name)}, {places}{tail})")


def contraction(
    e: Emitter,
    left: tuple[str, Sequence[str], int],
    right: tuple[str, Sequence[str], int],
    over: Sequence[str],
    wanted: Sequence[str],
    by: str | None = None,
) -> str:
    """The expression of a sum of products: operands as (text, axes, number of axes in front); ``by`` a function like einsum."""
    (a, a_names, a_lead), (b, b_names, b_lead) = left, right
    rest = {name for name in (*a_names, *b_names) if name not in over}
    if by is None and rest == set(a_names) - set(over) == set(b_names) - set(over) and a_lead == b_lead:
        a, b = (fit(text, names, [*wanted, *over], n) for text, names, n in (left, right))
        return f"({a} * {b}).sum({shape([-i for i in range(len(over), 0, -1)])})"
    one, other, result = spelled(((a_names, a_lead), (b_names, b_lead), (wanted, max(a_lead, b_lead))))
    if by is None:
        return f'torch.einsum("{one},{other}->{result}", {a}, {b})'
    return f'{by}("{one},{other}->{result}", {a}, {b})'


def spelled(parts: Sequence[tuple[Sequence[str], int]]) -> list[str]:
    """Axes and the number of those in front, as the letters of an einsum."""
    letters = dict(zip(dict.fromkeys(name for names, _ in parts for name in names), ascii_lowercase[4:], strict=False))
    lead = max(n for _, n in parts)
    return [("ab"[2 - n :] if lead == 2 else "a"[:n]) + "".join(letters[name] for name in names) for names, n in parts]


def alike(e: Emitter, left: tuple[str, str], right: tuple[str, str]) -> tuple[str, str]:
    """The expressions of two operands, given as (node, expression), both complex if one is: a product of matrices wants that."""
    (a, a_text), (b, b_text) = left, right
    one, other = (e.node(name).type.dtype == "complex" for name in (a, b))
    if one and not other:
        return a_text, f"{b_text}.to({a_text}.dtype)"
    if other and not one:
        return f"{a_text}.to({b_text}.dtype)", b_text
    return a_text, b_text


def _dot(e: Emitter, node: Node) -> str:
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
            sides.append((operand(e, name, own), own, {"sequence": 2, "step": 1}[e.mode]))
        else:
            sides.append((text, own, e.lead(name)))
    product = node.type.dependence >= Dependence.INPUT and node.type.dtype == "real" and e.mode != "constant"
    met = [
        (name, as_data(e, name, text) if product else text)
        for name, (text, _, _) in zip(node.inputs, sides, strict=True)
    ]
    texts = alike(e, *met)
    if node.type.dependence < Dependence.INPUT and any(is_wide(e, name) for name in node.inputs):
        both = f"torch.promote_types({texts[0]}.dtype, {texts[1]}.dtype)"
        texts = (f"{texts[0]}.to({both})", f"{texts[1]}.to({both})")
    left, right = ((text, *side[1:]) for text, side in zip(texts, sides, strict=True))
    if whole is not None:
        wanted, lead = node.type.names, max(left[2], right[2])
        one, other, result, slot = spelled(((left[1], left[2]), (right[1], right[2]), (wanted, lead), ([whole], 0)))
        text = f'"{one}", "{other}", "{result}", "{slot}", time'
        return e.let(node.name, f"{e.function('documents', 'dot')}({left[0]}, {right[0]}, {text})")
    text = contraction(e, left, right, over, node.type.names, masking(e, *(e.node(name) for name in node.inputs)))
    pairs = [axis for axis in node.type.names if whole_axis(e, node, [axis]) is not None]
    if pairs:  # a step and an entry of another document: whatever is made of the two has a gradient
        text = f"{e.function('operations', 'masked')}({text}, {there(e, node, pairs, node.type.names)})"
    return e.let(node.name, text)


def masking(e: Emitter, *nodes: Node) -> str | None:
    """What multiplies values along entries, of which some steps must see nothing."""
    entries = {axis for node in nodes for axis in node.type.names if axis in e.unit.entries}
    whole = any(whole_axis(e, node, node.type.names) for node in nodes)
    return e.function("product", "product") if entries or whole else None


def _linear(e: Emitter, node: Node) -> str:
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
        x = f"{x}.flatten(-{len(over)})"
    part = e.unit.parts.of(node)
    y = f"{part_of(e, node)}({as_data(e, node.inputs[0], x)})" if part is not None else _functional(e, node, x)
    if len(out) != 1:
        sizes = [node.type.axis(name).size or 0 for name in out]
        y += f".unflatten(-1, {shape(sizes)})" if out else ".squeeze(-1)"
    written = [*rest, *per, *out]
    return e.let(node.name, fit(y, written, node.type.names, lead if e.is_constant(node.inputs[0]) else LEADS[e.mode]))


def part_of(e: Emitter, node: Node) -> str:
    """The expression of the part that computes a node."""
    part = e.unit.parts.of(node)
    assert part is not None
    home, path = ("run.root", part.path) if part.shared else ("self", e.unit.local(part.path))
    return f'run.part({home}, "{path}")'


def _functional(e: Emitter, node: Node, x: str) -> str:
    """A projection by a weight that is no projection's own."""
    out, per = node.attrs["out"], node.attrs["per"]
    weight = e.node(node.inputs[1])
    w = flat_weight(e, weight, len(per), len(out), len(weight.type.axes) - len(per) - len(out))
    x = f"{x}.to({w}.dtype)" if is_wide(e, node.inputs[0]) else x
    b = kept(e, node.inputs[2], f".flatten({len(per)})" if len(out) > 1 else "") if node.attrs["bias"] else "None"
    if per:
        return f"{e.function('operations', 'block_linear')}({x}, {w}, {b})"
    return f"{e.function('linear', 'linear')}({x}, {w}{'' if b == 'None' else f', {b}'})"


LEADS = {"constant": 0, "sequence": 2, "step": 1}


def flat_weight(e: Emitter, weight: Node, per: int, out: int, inner: int) -> str:
    """A weight as [*per, out, in], kept with the constants."""
    change = ""
    if out == 0:
        change += f".unsqueeze({per})"
        out = 1
    if inner > 1:
        change += f".flatten({per + out})"
    if out > 1:
        change += f".flatten({per}, {per + out - 1})"
    return kept(e, weight.name, change)


def kept(e: Emitter, name: str, change: str = "") -> str:
    """A constant, changed once and for all."""
    text = e.value(name)
    if not change:
        return text
    c = e.unit.constant
    key = f"{name}{change}"
    if key not in c.names:
        c.names[key] = c.let(f"{name}_flat", f"{c.value(name)}{change}")
    return e.unit.keep_text(c.names[key]) if e.mode != "constant" else c.names[key]


def _together(e: Emitter, group: Sequence[str]) -> bool:
    return e.inside is None or all(name in e.inside for name in group)


def _group(e: Emitter, group: Sequence[str], node: Node) -> str:
    """Parallel projections, as one product where that can be."""
    nodes = [e.node(name) for name in group]
    own = e.node(node.inputs[0]).type.names
    x = fit(e.value(node.inputs[0]), own, node.attrs["over"], e.lead(node.inputs[0]))
    if len(own) > 1:
        x = f"{x}.flatten(-{len(own)})"
    x = as_data(e, node.inputs[0], x)
    names = [e.fresh(name) for name in group]
    paths = ", ".join(f'"{e.unit.local(part.path)}"' for one in nodes if (part := e.unit.parts.of(one)) is not None)
    e.line(f"{', '.join(names)} = self.together(run, {x}, {paths})")
    for one, name in zip(nodes, names, strict=True):
        out = one.attrs["out"]
        if len(out) != 1:
            e.line(
                f"{name} = {name}"
                + (f".unflatten(-1, {shape([one.type.axis(n).size or 0 for n in out])})" if out else ".squeeze(-1)")
            )
        e.names[one.name] = name
    return e.names[node.name]


def _embed(e: Emitter, node: Node) -> str:
    tokens, weight = node.inputs
    index = _index(e, tokens) if not _is_number(e, tokens) else f"torch.tensor({e.value(tokens)}, device=time.device)"
    if e.unit.parts.of(node) is not None:
        sizes = [axis.size or 0 for axis in e.node(weight).type.axes[1:]]
        apart = f".unflatten(-1, {shape(sizes)})" if len(sizes) > 1 else "" if sizes else ".squeeze(-1)"
        return e.let(node.name, f"{part_of(e, node)}({index}){apart}")
    return e.let(
        node.name,
        f"F.embedding({index}, {e.value(weight)})"
        if len(e.node(weight).type.axes) == 2
        else f"{e.value(weight)}[{index}]",
    )


def _norm(e: Emitter, node: Node) -> str:
    own, over, eps = e.node(node.inputs[0]).type.names, node.attrs["over"], node.attrs["eps"]
    x = as_data(e, node.inputs[0], e.value(node.inputs[0]))
    if e.unit.parts.of(node) is not None:
        return e.let(node.name, f"{part_of(e, node)}({x})")
    rest = list(node.inputs[1:])
    weight = rest.pop(0) if node.attrs["scale"] else None
    bias = rest.pop(0) if node.attrs["bias"] else None
    if node.op == "l2_norm":
        return e.let(node.name, f"{e.function('operations', 'l2_norm')}({x}, {dims(own, over)}, {eps!r})")
    last = over == own[-1:]
    if last:
        inside = all(name is None or e.node(name).type.names == tuple(over) for name in (weight, bias))
        w, b = (e.value(name) if name and inside else "None" for name in (weight, bias))
        if node.op == "rms_norm":
            text = f"{e.function('pointwise', 'rms_norm')}({x}, {w}, {eps!r})"
        else:
            text = f"{e.function('operations', 'layer_norm')}({x}, {w}, {b}, {eps!r})"
        if inside:
            return e.let(node.name, text)
    else:
        text = f"{e.function('operations', 'wide_norm')}({x}, {dims(own, over)}, {eps!r}, {node.op == 'layer_norm'})"
    if weight:
        text += f" * {operand(e, weight, own)}"
    if bias:
        text += f" + {operand(e, bias, own)}"
    return e.let(node.name, text)


# Shapes.


def _rename(e: Emitter, node: Node) -> str:
    return e.value(node.inputs[0])


def _split(e: Emitter, node: Node) -> str:
    own = e.node(node.inputs[0]).type.names
    sizes = [size for _, size in node.attrs["into"]]
    return e.let(
        node.name, f"{e.value(node.inputs[0])}.unflatten({own.index(node.attrs['axis']) - len(own)}, {shape(sizes)})"
    )


def _merge(e: Emitter, node: Node) -> str:
    source = e.node(node.inputs[0])
    axes, out = node.attrs["axes"], node.attrs["out"]
    at = node.type.names.index(out)
    rest = [name for name in node.type.names if name != out]
    wanted = [*rest[:at], *axes, *rest[at:]]
    x = fit(cleared(e, source.name, source.type.names), source.type.names, wanted, e.lead(source.name))
    after = len(rest) - at
    return e.let(node.name, f"{x}.flatten({-len(axes) - after}, {-1 - after})" if len(axes) > 1 else x)


def _concat(e: Emitter, node: Node) -> str:
    axis, wanted = node.attrs["axis"], node.type.names
    parts = []
    for name, own in zip(node.inputs, node.attrs["axes"], strict=True):
        names = [axis if n == own else n for n in e.node(name).type.names]
        text = _met(e, node, name, fit(cleared(e, name, e.node(name).type.names), names, wanted, e.lead(name)))
        parts.append(text if e.lead(name) == LEADS[e.mode] else f"{text}{'.unsqueeze(0)' * LEADS[e.mode]}")
    return e.let(
        node.name, f"{e.function('operations', 'concat')}(({', '.join(parts)},), {wanted.index(axis) - len(wanted)})"
    )


def _pack(e: Emitter, node: Node) -> str:
    axis, wanted = node.attrs["axis"], node.type.names
    rest = [name for name in wanted if name != axis]
    parts = [_met(e, node, name, operand(e, name, rest)) for name in node.inputs]
    like = next((text for name, text in zip(node.inputs, parts, strict=True) if e.node(name).op != "const"), None)
    place = f"{-1}"
    if like is None:
        text = f"torch.tensor([{', '.join(parts)}], dtype=time.dtype, device=time.device)"
    else:
        text = f"{e.function('operations', 'pack')}(({', '.join(parts)},), {place}, {like})"
    return e.let(node.name, fit(text, [*rest, axis], wanted, LEADS[e.mode] if not e.is_constant(node.name) else 0))


def _slice(e: Emitter, node: Node) -> str:
    source = e.node(node.inputs[0])
    own, axis = source.type.names, node.attrs["axis"]
    start, length = node.attrs["start"], node.attrs["stop"] - node.attrs["start"]
    return e.let(
        node.name, f"{cleared(e, source.name, [axis])}.narrow({own.index(axis) - len(own)}, {start}, {length})"
    )


def _select(e: Emitter, node: Node) -> str:
    source, index = (e.node(name) for name in node.inputs)
    own, axis = source.type.names, node.attrs["axis"]
    place = own.index(axis) - len(own)
    if whole_axis(e, source, [axis]) is not None:
        x = fit(e.value(source.name), own, [*node.type.names, axis], e.lead(source.name))
        if index.op in ("const", "layer"):
            i = literal(index) if index.op == "const" else "run.layer"
        else:
            i = fit(_index(e, index.name), index.type.names, node.type.names, e.lead(index.name))
        return e.let(node.name, f"{e.function('documents', 'selected')}({x}, {i}, time)")
    x = cleared(e, source.name, [axis])
    if index.op in ("const", "layer"):
        at = literal(index) if index.op == "const" else "run.layer"
        return e.let(node.name, f"{x}.select({place}, {at})")
    x = fit(x, own, [*(name for name in node.type.names), axis], e.lead(source.name))
    i = fit(_index(e, index.name), index.type.names, node.type.names, e.lead(index.name))
    return e.let(node.name, f"{e.function('operations', 'select')}({x}, -1, {i})")


def _index(e: Emitter, name: str) -> str:
    """A whole number to look up by; one over slots that is constant is laid out as the others are."""
    node = e.node(name)
    by_entry = any(axis in e.unit.entries for axis in node.type.names)
    text = operand(e, name, node.type.names) if by_entry else e.value(name)
    return text if node.type.dtype == "int" else f"{text}.long()"


def _expand(e: Emitter, node: Node) -> str:
    x = _as_tensor(e, node.inputs[0], e.fitted(node.inputs[0], node.type.names))
    new = dict(node.attrs["axes"])
    sizes = ", ".join(str(new.get(axis.name, -1)) for axis in node.type.axes)
    lead = "".join("-1, " for _ in range(e.lead(node.inputs[0])))
    return e.let(node.name, f"{x}.expand({lead}{sizes})")


def _matrix(e: Emitter, node: Node) -> str:
    n = node.attrs["over"]
    outer = [name for name in node.type.names if name not in (n, f"{n}_")]
    square = [*outer, n, f"{n}_"]
    lead = 0 if e.is_constant(node.name) else LEADS[e.mode]
    parts = []
    for i, name in enumerate(node.inputs):
        own = e.node(name).type.names
        column = i == 1 and f"{n}_" not in own
        parts.append(operand(e, name, [*outer, n]) + ".unsqueeze(-1)" if column else operand(e, name, square))
    call = {"expm": "torch.linalg.matrix_exp", "solve": "torch.linalg.solve", "matmul": "torch.matmul"}[node.op]
    text = f"{call}({', '.join(parts)})"
    if node.op == "solve" and f"{n}_" not in e.node(node.inputs[1]).type.names:
        return e.let(node.name, fit(f"{text}.squeeze(-1)", [*outer, n], node.type.names, lead))
    return e.let(node.name, fit(text, square, node.type.names, lead))


# Sources, memory, composition.


def _param(e: Emitter, node: Node) -> str:
    own = tuple(axis.size or 0 for axis in node.type.axes)
    key = node.attrs["key"]
    text = f'run.root.value("{key}")' if node.attrs["shared"] else f'self.value("{e.unit.local(key)}")'
    return e.let(node.name, text if e.unit.parts.sizes(node) == own else f"{text}.reshape({shape(own)})")


def _arange(e: Emitter, node: Node) -> str:
    axis = node.type.axes[0]
    if axis.size is None:
        return e.let(node.name, _slots(e, axis.name))
    return e.let(node.name, f"torch.arange({node.type.axes[0].size}, dtype=time.dtype, device=time.device)")


def _slots(e: Emitter, axis: str) -> str:
    """The expression of the indices along an axis without a size."""
    if axis in e.unit.entries:
        return f"time.slots({entries(e, axis)}, None, {e.unit.entries[axis]}).clamp(min=0).to(time.dtype)"
    given = next((node for node in e.graph.inputs if axis in node.type.names), None)
    if given is not None and (axis, WHOLE) not in given.type.absent:
        place = given.type.names.index(axis) - len(given.type.names)
        front = ", ".join(["None"] * LEADS[e.mode])
        return f"torch.arange({e.value(given.name)}.shape[{place}], dtype=time.dtype, device=time.device)[{front}]"
    return "time.real_position.unsqueeze(1)"


def _state(e: Emitter, node: Node) -> str:
    match = e.match[node.name]
    form, fact = match.form, e.unit.facts[node.name]
    if e.mode == "constant":
        raise AssertionError("a memory is never constant")
    return form.sequence(e, fact, match) if e.mode == "sequence" else form.step(e, fact, match)


def _context(e: Emitter, node: Node) -> str:
    if e.mode != "sequence":
        raise SSIRError("no step form: `context` reads the future")
    x = as_data(e, node.inputs[0], _argument(e, node.inputs[0]))
    return e.let(node.name, f"{e.function('operations', 'lengthened')}({x}, time).unsqueeze(1)")


def _stack(e: Emitter, node: Node) -> str:
    first, *others = node.inputs
    x = e.let(node.name, as_data(e, first, e.tensor(first, node.type.names)))
    labels = (*node.attrs["carried"], *node.attrs["given"])
    values = {label: as_data(e, name, _argument(e, name)) for label, name in zip(labels, others, strict=True)}
    carried = {label: e.let(f"{node.name}_{label}", values[label]) for label in node.attrs["carried"]}
    values |= carried
    pattern = list(dict.fromkeys(node.attrs["pattern"]))
    signature = {body: [n.name for n in e.graph.bodies[body].inputs[1:]] for body in pattern}
    gives = {body: [label for label, _ in e.graph.bodies[body].outputs[1:]] for body in pattern}
    lead = LEADS[e.mode]
    calls = {}
    for body in pattern:
        arguments = "".join(f", {values[name]}" for name in signature[body])
        targets = [carried.get(label, "_") for label in gives[body]]
        inner = e.graph.bodies[body]
        own = inner[inner.outputs[0][1]].type.names
        target = ", ".join([x, *targets])
        calls[body] = (
            f'{target} = body(run.inside("{node.name}", i), {x}{arguments})',
            fit(x, own, node.type.names, lead),
        )
    e.line(f'for i, kind, body in run.layers(self, "{e.unit.local(node.name)}"):')
    if len({text for text, _ in calls.values()}) == 1:
        text, after = next(iter(calls.values()))
        e.line(f"    {text}")
        if after != x:
            e.line(f"    {x} = {after}")
    else:
        for i, body in enumerate(pattern):
            text, after = calls[body]
            e.line(f'    {"if" if i == 0 else "elif"} kind == "{body}":')
            e.line(f"        {text}")
            if after != x:
                e.line(f"        {x} = {after}")
    for label, name in carried.items():
        e.names[f"{node.name}/{label}"] = name
    return x


def _argument(e: Emitter, name: str) -> str:
    """A value for a layer: with axes in front even if it is constant, since the layer does not know that it is."""
    node = e.node(name)
    text = e.tensor(name, node.type.names)
    return f"{text}[{', '.join(['None'] * LEADS[e.mode])}]" if e.lead(name) == 0 else text


def _part(e: Emitter, node: Node) -> str:
    e.value(node.inputs[0])
    return e.names[f"{node.inputs[0]}/{node.attrs['label']}"]


OTHER: Mapping[str, Callable[[Emitter, Node], str]] = {
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
    "const": lambda e, node: literal(node),
    "param": _param,
    "arange": _arange,
    "eye": lambda e, node: e.let(
        node.name, f"torch.eye({node.type.axes[0].size}, dtype=time.dtype, device=time.device)"
    ),
    "position": lambda e, node: "time.position",
    "start": lambda e, node: "time.start",
    "layer": lambda e, node: "run.layer",
    "state": _state,
    "context": _context,
    "stack": _stack,
    "part": _part,
}
