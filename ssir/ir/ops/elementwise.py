"""One entry of the result from one entry of each operand, broadcast by name."""

from __future__ import annotations

from ssir.ir.graph import Type
from ssir.ir.op import UNKNOWN, Op, Use, absent, broadcast, check_real, promote, unknown

UNARY = frozenset(
    "neg exp expm1 log log1p sqrt rsqrt square abs sign floor ceil round sin cos tan tanh arctan sigmoid logsigmoid silu gelu gelu_tanh "
    "relu elu softplus reciprocal erf real imag conj detach".split()
)
BINARY = frozenset("add sub mul div pow mod maximum minimum complex polar".split())
COMPARE = frozenset("lt le gt ge eq ne".split())
_REAL_ONLY = (
    COMPARE - {"eq", "ne"}
    | frozenset("maximum minimum mod clamp complex polar".split())
    | frozenset("floor ceil round sign arctan logsigmoid gelu gelu_tanh relu elu softplus erf".split())
)
_DTYPES = dict.fromkeys(COMPARE, "bool") | dict.fromkeys(("complex", "polar"), "complex")
_REAL_OF_COMPLEX = frozenset({"real", "imag", "abs"})


def _rule(use: Use) -> Type:
    name = use.op.name
    if name in _REAL_ONLY:
        check_real(name, use.types)
    dtype = "real" if name in _REAL_OF_COMPLEX else _DTYPES.get(name) or promote(use.types)
    return Type(broadcast(use.types), dtype, absent=absent(use.types))


def _of_the_known(use: Use) -> Type:
    """The other operand will hardly have more axes than these: it is a memory of the result."""
    known = tuple(type for type in use.types if type.dtype != UNKNOWN)
    return _rule(Use(use.op, known, use.attrs)) if known else unknown(use)


def _op(name: str, *operands: str, attributes: tuple[str, ...] = ()) -> Op:
    return Op(name, operands, attributes, _rule, _of_the_known)


OPS = (
    *(_op(name, "a") for name in sorted(UNARY)),
    *(_op(name, "a", "b") for name in sorted(BINARY | COMPARE)),
    _op("where", "condition", "a", "b"),
    _op("clamp", "a", attributes=("low", "high")),
)
