"""What each operation means, for one time step. A tensor here is [batch or 1, *axes], axes in the order of its type.

Written to be read beside ssir.ir.graph, not to be fast; nothing here is used by a form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from ssir.ir.graph import WHOLE, Node, Type
from ssir.ir.ops import is_elementwise
from ssir.ir.slots import absent
from ssir.registry import registry


@dataclass(frozen=True)
class Step:
    """What an operation may know of the moment: ``position`` [batch], ``layer``, and which slots of a whole sequence belong to
    the document of the moment: ``document`` [batch, slots]; ``gaps``: along which axes slots may be absent, with their lags."""

    position: Tensor
    layer: int
    dtype: torch.dtype
    document: Tensor
    gaps: Mapping[str, int] = field(default_factory=dict)


Operands = Sequence[Tensor]
Types = Sequence[Type]


def fit(x: Tensor, own: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """x [batch, *own] as [batch, *wanted], with an axis of size 1 for each that it lacks."""
    order = [own.index(name) + 1 for name in wanted if name in own]
    x = x.permute(0, *order)
    for i, name in enumerate(wanted):
        if name not in own:
            x = x.unsqueeze(i + 1)
    return x


def present(step: Step, lag: int, slots: int) -> Tensor:
    """[batch, slots]: which slots of a register an input has reached, or which of a whole sequence are there."""
    if lag == WHOLE:
        return step.document
    return torch.arange(slots)[None, :] < (step.position + 1 - lag)[:, None]


def mask(step: Step, x: Tensor, type: Type, over: Sequence[str]) -> Tensor | None:
    """Where x is there, as far as the axes ``over`` say; None if all is."""
    found = None
    for name, lag in absent(type, step.gaps).items():
        if name in over:
            at = type.names.index(name) + 1
            one = fit(present(step, lag, x.shape[at]), [name], type.names)
            found = one if found is None else found & one
    return found


def zeroed(step: Step, x: Tensor, type: Type, over: Sequence[str]) -> Tensor:
    there = mask(step, x, type, over)
    return x if there is None else torch.where(there, x, torch.zeros((), dtype=x.dtype))


def contracted(a: Tensor, a_names: Sequence[str], b: Tensor, b_names: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """The sum of a b over all axes but ``wanted``: [batch, *wanted]."""
    number = {name: i + 1 for i, name in enumerate(dict.fromkeys([*a_names, *b_names]))}
    if a.dtype != b.dtype:
        wide = torch.promote_types(a.dtype, b.dtype)
        a, b = a.to(wide), b.to(wide)
    operands = ([0, *(number[name] for name in names)] for names in (a_names, b_names))
    return torch.einsum(a, next(operands), b, next(operands), [0, *(number[name] for name in wanted)])


def _dims(type: Type, over: Sequence[str]) -> list[int]:
    return [type.names.index(name) + 1 for name in over]


FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "neg": torch.neg,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "rsqrt": lambda x: 1 / torch.sqrt(x),
    "square": lambda x: x * x,
    "abs": torch.abs,
    "sign": torch.sign,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "tanh": torch.tanh,
    "arctan": torch.arctan,
    "sigmoid": torch.sigmoid,
    "logsigmoid": lambda x: -torch.logaddexp(torch.zeros_like(x), -x),
    "silu": lambda x: x * torch.sigmoid(x),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "gelu_tanh": lambda x: x * 0.5 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "relu": torch.relu,
    "elu": lambda x: torch.where(x > 0, x, torch.expm1(torch.clamp(x, max=0))),
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "reciprocal": lambda x: 1 / x,
    "erf": torch.erf,
    "real": lambda x: torch.real(x) if x.is_complex() else x,
    "imag": lambda x: torch.imag(x) if x.is_complex() else torch.zeros_like(x),
    "conj": lambda x: torch.conj(x).resolve_conj(),
    "detach": torch.detach,
    "float32": lambda a: a,  # the meaning is in float64
    "final": lambda a: a,  # which step an answer is of is the interpreter's to say
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": torch.pow,
    "mod": lambda a, b: a - b * torch.floor(a / b),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "complex": lambda a, b: torch.complex(*torch.broadcast_tensors(a, b)),
    "polar": lambda r, angle: torch.complex(*torch.broadcast_tensors(r * torch.cos(angle), r * torch.sin(angle))),
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "eq": torch.eq,
    "ne": torch.ne,
    "where": lambda condition, a, b: torch.where(condition.bool(), a, b),
    "clamp": lambda a, low, high: torch.clamp(a, low, high),
}
"""The elementwise operations, of tensors that broadcast; attributes go by name."""


def evaluate(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    """The value of a node that is neither a source, a state, a context nor a stack: [batch, *axes]."""
    if is_elementwise(node.op):
        fitted = (fit(_number(x, step), t.names, node.type.names) for x, t in zip(operands, types, strict=True))
        return function(node.op)(*fitted, **node.attrs)
    if node.op in OTHER:
        return OTHER[node.op](node, operands, types, step)
    return registry.require("op", node.op).reference(node, operands, types, step)  # type: ignore[no-any-return]


def function(op: str) -> Callable[..., Tensor]:
    """What an elementwise operation means."""
    return FUNCTIONS.get(op) or registry.require("op", op).reference


def _number(x: Tensor, step: Step) -> Tensor:
    return x if x.is_floating_point() or x.is_complex() else x.to(step.dtype)


def _sum(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    over = node.attrs["over"]
    return zeroed(step, operands[0], types[0], over).sum(_dims(types[0], over))


def _mean(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    over = node.attrs["over"]
    there = mask(step, operands[0], types[0], over)
    if there is None:
        return operands[0].mean(_dims(types[0], over))
    count = there.expand(torch.broadcast_shapes(there.shape, operands[0].shape)).sum(_dims(types[0], over)).clamp(min=1)
    return _sum(node, operands, types, step) / count


def _extreme(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    over, x = node.attrs["over"], operands[0]
    worst = -torch.inf if node.op == "max" else torch.inf
    there = mask(step, x, types[0], over)
    if there is not None:
        x = torch.where(there, x, torch.full((), worst, dtype=x.dtype))
    return x.amax(_dims(types[0], over)) if node.op == "max" else x.amin(_dims(types[0], over))


def _softmax(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    x, dims = operands[0], _dims(types[0], node.attrs["over"])
    there = mask(step, x, types[0], node.attrs["over"])
    if there is not None:
        x = torch.where(there, x, torch.full((), -torch.inf, dtype=x.dtype))
    top = x.amax(dims, keepdim=True).detach()
    grown = torch.exp(x - torch.where(torch.isfinite(top), top, torch.zeros_like(top)))
    total = grown.sum(dims, keepdim=True)
    return grown / torch.where(total == 0, torch.ones_like(total), total)


def _dot(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    over = node.attrs["over"]
    a, b = (zeroed(step, x, t, over) for x, t in zip(operands, types, strict=True))
    return contracted(a, types[0].names, b, types[1].names, node.type.names)


def _norm(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    x, over, eps = operands[0], node.attrs["over"], node.attrs["eps"]
    dims = _dims(types[0], over)
    if node.op == "l2_norm":
        return x / torch.sqrt(torch.clamp((x * x).sum(dims, keepdim=True), min=eps * eps))
    if node.op == "layer_norm":
        x = x - x.mean(dims, keepdim=True)
    x = x / torch.sqrt((x * x).mean(dims, keepdim=True) + eps)
    rest = list(zip(operands[1:], types[1:], strict=True))
    if node.attrs["scale"]:
        weight, type = rest.pop(0)
        x = x * fit(weight, type.names, node.type.names)
    if node.attrs["bias"]:
        bias, type = rest.pop(0)
        x = x + fit(bias, type.names, node.type.names)
    return x


def _linear(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    over, out, per = (node.attrs[key] for key in ("over", "out", "per"))
    inner = [f"{name} in" for name in over]
    x_names = [inner[over.index(name)] if name in over else name for name in types[0].names]
    x = zeroed(step, operands[0], types[0], over)
    y = contracted(x, x_names, operands[1], [*per, *out, *inner], node.type.names)
    return y + fit(operands[2], [*per, *out], node.type.names) if node.attrs["bias"] else y


def _embed(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    return operands[1][0][operands[0].long()]


def _split(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    sizes = [size for _, size in node.attrs["into"]]
    parts: Tensor = operands[0].unflatten(types[0].names.index(node.attrs["axis"]) + 1, sizes)
    return parts


def _merge(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    axes, out = node.attrs["axes"], node.attrs["out"]
    own = list(types[0].names)
    at = node.type.names.index(out)
    rest = [name for name in node.type.names if name != out]
    x = zeroed(step, operands[0], types[0], own)
    x = fit(x, own, [*rest[:at], *axes, *rest[at:]])
    return x.reshape(*x.shape[: at + 1], prod(x.shape[at + 1 : at + 1 + len(axes)]), *x.shape[at + 1 + len(axes) :])


def _concat(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    axis, wanted = node.attrs["axis"], node.type.names
    parts = []
    for x, type, own in zip(operands, types, node.attrs["axes"], strict=True):
        part = fit(zeroed(step, x, type, type.names), [axis if name == own else name for name in type.names], wanted)
        parts.append(part)
    at = wanted.index(axis) + 1
    shape = torch.broadcast_shapes(*(p.movedim(at, -1)[..., 0].shape for p in parts))
    return torch.cat([p.movedim(at, -1).expand(*shape, -1) for p in parts], -1).movedim(-1, at)


def _pack(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    rest = [name for name in node.type.names if name != node.attrs["axis"]]
    parts = torch.broadcast_tensors(
        *(fit(_number(x, step), t.names, rest) for x, t in zip(operands, types, strict=True))
    )
    return fit(torch.stack(parts, -1), [*rest, node.attrs["axis"]], node.type.names)


def _slice(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    at = types[0].names.index(node.attrs["axis"]) + 1
    return zeroed(step, operands[0], types[0], [node.attrs["axis"]]).narrow(
        at, node.attrs["start"], node.attrs["stop"] - node.attrs["start"]
    )


def _select(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    axis = node.attrs["axis"]
    names = [*node.type.names, axis]
    x = fit(zeroed(step, operands[0], types[0], [axis]), types[0].names, names)
    index = fit(operands[1].long(), types[1].names, names)
    shape = torch.broadcast_shapes(x.shape[:-1], index.shape[:-1])
    return torch.gather(x.expand(*shape, x.shape[-1]), -1, index.expand(*shape, 1))[..., 0]


def _expand(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    x = fit(operands[0], types[0].names, node.type.names)
    return x.expand(x.shape[0], *(axis.size or 0 for axis in node.type.axes))


def _square(x: Tensor, type: Type, n: str) -> tuple[Tensor, list[str]]:
    rest = [name for name in type.names if name not in (n, f"{n}_")]
    return fit(x, type.names, [*rest, n, f"{n}_"]), rest


def _matrix(node: Node, operands: Operands, types: Types, step: Step) -> Tensor:
    n = node.attrs["over"]
    outer = [name for name in node.type.names if name not in (n, f"{n}_")]
    first = fit(operands[0], types[0].names, [*outer, n, f"{n}_"])
    if node.op == "expm":
        return fit(torch.linalg.matrix_exp(first), [*outer, n, f"{n}_"], node.type.names)
    square = f"{n}_" in types[1].names
    second = fit(operands[1], types[1].names, [*outer, n, f"{n}_"] if square else [*outer, n])
    if node.op == "matmul":
        return fit(first @ second, [*outer, n, f"{n}_"], node.type.names)
    if square:
        return fit(torch.linalg.solve(first, second), [*outer, n, f"{n}_"], node.type.names)
    return fit(torch.linalg.solve(first, second.unsqueeze(-1))[..., 0], [*outer, n], node.type.names)


OTHER: Mapping[str, Callable[[Node, Operands, Types, Step], Tensor]] = {
    "sum": _sum,
    "mean": _mean,
    "max": _extreme,
    "min": _extreme,
    "softmax": _softmax,
    "dot": _dot,
    "rms_norm": _norm,
    "layer_norm": _norm,
    "l2_norm": _norm,
    "linear": _linear,
    "embed": _embed,
    "rename": lambda node, operands, types, step: operands[0],
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
}
