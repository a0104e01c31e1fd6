"""How each elementwise operation is written in torch. The meaning is in ssir.reference.ops; the two share nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ssir.compilers.torch.code import Code, called, code
from ssir.compilers.torch.operands import fit, is_wide, operand, scalar
from ssir.ir.graph import Dependence, Node
from ssir.registry import registry

if TYPE_CHECKING:
    from ssir.compilers.torch.emit import Emitter

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
    "float32": "time.as_wide({0})",
    "final": "{0}",
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


def elementwise(e: Emitter, node: Node) -> Code:
    wanted = node.type.names
    if node.op == "where":
        return _where(e, node, wanted)
    if node.op == "final" and e.mode == "sequence" and all(user in e.unit.answers for user in e.graph.users[node.name]):
        return e.let(node.name, called(e.function("operations", "final"), e.value(node.inputs[0])))
    gated = _gated(e, node)
    if gated is not None:
        return e.let(node.name, gated)
    operands = [operand(e, name, wanted, meets(e, node, name)) for name in node.inputs]
    if node.op in _TENSORS or all(is_number(e, name) for name in node.inputs):
        operands = [as_tensor(e, name, text) for name, text in zip(node.inputs, operands, strict=True)]
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


def is_number(e: Emitter, name: str) -> bool:
    """Whether a node is written as a number of Python, not as a tensor."""
    return e.node(name).op in ("const", "layer")


def as_tensor(e: Emitter, name: str, text: Code) -> Code:
    if not is_number(e, name):
        return text
    return scalar(text)


def meets(e: Emitter, node: Node, name: str) -> bool:
    """Whether an operand that parameters, positions and indices decide, which is wider until then, meets data that is not wide."""
    data = node.type.dependence >= Dependence.INPUT and node.type.dtype == "real" and not is_wide(e, node.name)
    return data and e.mode != "constant" and e.node(name).type.dependence < Dependence.INPUT and is_wide(e, name)


def _where(e: Emitter, node: Node, wanted: Sequence[str]) -> Code:
    condition = e.node(node.inputs[0])
    text = fit(e.value(condition.name), condition.type.names, wanted, e.lead(condition.name))
    a, b = (operand(e, name, wanted, meets(e, node, name)) for name in node.inputs[1:])
    if all(is_number(e, name) for name in node.inputs[1:]):
        a, b = (as_tensor(e, name, text) for name, text in zip(node.inputs[1:], (a, b), strict=True))
    return e.let(node.name, code(SPELLED["where"], text, a, b))
