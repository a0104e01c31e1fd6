"""Reductions, products, projections and norms in torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING

from ssir.compilers.torch.code import Code, called, code, method
from ssir.compilers.torch.elementwise import is_number
from ssir.compilers.torch.operands import (
    LEADS,
    RUN,
    TIME,
    Change,
    as_data,
    cleared,
    dims,
    fit,
    is_wide,
    kept,
    masking,
    operand,
    there,
    whole_axis,
    whole_dims,
)
from ssir.compilers.torch.shapes import as_index
from ssir.errors import SSIRError
from ssir.ir.graph import Dependence, Node

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter


def _reduce(e: Emitter, node: Node) -> Code:
    source = e.node(node.inputs[0])
    over, own = node.attrs["over"], source.type.names
    text = e.number(source.name)
    whole = whole_axis(e, source, over)
    if whole is not None:
        where = whole_dims(own, over, whole)
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
        where = whole_dims(source.type.names, node.attrs["over"], whole)
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
    wide: bool = False,
) -> Code:
    """The expression of a sum of products: operands as (text, axes, number of axes in front); ``by`` a function like einsum; ``wide``: whether it is
    to stay so under autocast."""
    (a, a_names, a_lead), (b, b_names, b_lead) = left, right
    rest = {name for name in (*a_names, *b_names) if name not in over}
    if by is None and rest == set(a_names) - set(over) == set(b_names) - set(over) and a_lead == b_lead:
        a, b = (fit(text, names, [*wanted, *over], n) for text, names, n in (left, right))
        return code("({0} * {1}).sum({2})", a, b, tuple(-i for i in range(len(over), 0, -1)))
    one, other, result = spelled(((a_names, a_lead), (b_names, b_lead), (wanted, max(a_lead, b_lead))))
    if by is None:
        kept = wide and e.mode != "constant"  # constants are computed without it
        by = e.function("operations", "contract") if kept else code("torch.einsum")
    return called(by, f"{one},{other}->{result}", a, b)


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
    index = as_index(e, tokens)
    if is_number(e, tokens):
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


PRODUCTS: Mapping[str, Callable[[Emitter, Node], Code]] = {
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
}
