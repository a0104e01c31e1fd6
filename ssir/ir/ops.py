"""The core's operations: what each is, and how the axes and dtype of its result follow from its operands'.

No torch here. The meaning of each is in ssir.reference.ops, its fast form in ssir.compilers.torch.ops.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from ssir.ir.graph import Axis, Type

UNARY = frozenset(
    "neg exp expm1 log log1p sqrt rsqrt square abs sign floor ceil round sin cos tan tanh arctan sigmoid logsigmoid silu gelu gelu_tanh "
    "relu elu softplus reciprocal erf real imag conj detach".split()
)
BINARY = frozenset("add sub mul div pow mod maximum minimum complex polar".split())
COMPARE = frozenset("lt le gt ge eq ne".split())
ELEMENTWISE = UNARY | BINARY | COMPARE | {"where", "clamp"}
REAL_ONLY = (
    COMPARE - {"eq", "ne"}
    | frozenset("maximum minimum mod clamp complex polar".split())
    | frozenset("floor ceil round sign arctan logsigmoid gelu gelu_tanh relu elu softplus erf".split())
)
REDUCE = frozenset("sum mean max min".split())
NORM = frozenset("rms_norm layer_norm l2_norm".split())
RESHAPE = frozenset("rename split merge concat pack slice select expand".split())
SOURCE = frozenset("input const array param arange eye position start layer".split())
OPERATOR = frozenset("op.diag op.shift op.outer op.dense op.rotate op.add op.sub op.mul op.neg".split())
CORE = (
    ELEMENTWISE
    | REDUCE
    | NORM
    | RESHAPE
    | SOURCE
    | OPERATOR
    | frozenset("softmax dot linear embed matmul expm solve state context stack part".split())
)


class AxesError(ValueError):
    """Axes that do not fit; the message says which."""


def broadcast(types: Iterable[Type]) -> tuple[Axis, ...]:
    """The axes of an elementwise result: those of the operand with most, then what the others add.

    Raises AxesError if an axis has two sizes.
    """
    ranked = sorted(types, key=lambda t: -len(t.axes))
    result: dict[str, Axis] = {}
    for axis in chain.from_iterable(t.axes for t in ranked):
        known = result.setdefault(axis.name, axis)
        if known.size != axis.size:
            raise AxesError(f"axis `{axis.name}` has size {shown(known)} on one side and {shown(axis)} on the other")
    return tuple(result.values())


def shown(axis: Axis) -> str:
    return "unbounded" if axis.size is None else str(axis.size)


def absent(types: Iterable[Type], without: Sequence[str] = ()) -> tuple[tuple[str, int], ...]:
    """The axes of a result whose slots may be absent: the later arrival counts."""
    lags: dict[str, int] = {}
    for name, lag in chain.from_iterable(t.absent for t in types):
        if name not in without:
            lags[name] = max(lag, lags.get(name, lag))
    return tuple(sorted(lags.items()))


def promote(types: Iterable[Type]) -> str:
    """The dtype of arithmetic: complex if any operand is, else real."""
    return "complex" if any(t.dtype == "complex" for t in types) else "real"
