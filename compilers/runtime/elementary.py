"""Functions that Triton lacks, of exp and log, so that its interpreter has them too."""

# mypy: disable-error-code=no-untyped-def

import triton
import triton.language as tl


@triton.jit
def largest(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def least(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def expm1(x):
    """What rounding does to exp(x) it does to its logarithm too (Kahan)."""
    y = tl.exp(x)
    small = (y - 1.0) * x / tl.log(y)
    return tl.where(y == 1.0, x, tl.where((y == 0.0) | (y - 1.0 == y), y - 1.0, small))


@triton.jit
def log1p(x):
    y = 1.0 + x
    return tl.where(y == 1.0, x, tl.where(y == x, tl.log(y), tl.log(y) * x / (y - 1.0)))


@triton.jit
def sign(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, x))


@triton.jit
def round(x):
    """To the even one of two that are as near."""
    y = tl.floor(x + 0.5)
    return tl.where((y - x == 0.5) & (tl.floor(0.5 * y) * 2.0 != y), y - 1.0, y)


@triton.jit
def tanh(x):
    y = expm1(-2.0 * tl.abs(x))
    y = -y / (2.0 + y)
    return tl.where(x < 0, -y, y)


@triton.jit
def arctan(x):
    """The series of an angle that is halved twice."""
    y = tl.abs(x)
    small = tl.where(y > 1.0, 1.0 / y, y)
    z = small / (1.0 + tl.sqrt(1.0 + small * small))
    z = z / (1.0 + tl.sqrt(1.0 + z * z))
    w = z * z
    total = tl.zeros_like(w)
    for k in tl.static_range(12, -1, -1):
        total = (1.0 if k % 2 == 0 else -1.0) / (2 * k + 1) + w * total
    total = 4.0 * z * total
    total = tl.where(y > 1.0, 1.5707963267948966 - total, total)
    return tl.where(x < 0, -total, tl.where(x == x, total, x))


@triton.jit
def logsigmoid(x):
    return least(x, 0.0) - log1p(tl.exp(-tl.abs(x)))


@triton.jit
def softplus(x):
    return largest(x, 0.0) + log1p(tl.exp(-tl.abs(x)))


@triton.jit
def gelu(x):
    return 0.5 * x * (1.0 + tl.erf(0.7071067811865476 * x))


@triton.jit
def gelu_tanh(x):
    return 0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


@triton.jit
def power(a, b):
    none = tl.zeros_like(a * b)
    a, b = a + none, b + none
    whole, odd = tl.floor(b) == b, tl.floor(0.5 * b) * 2.0 != b
    y = tl.exp(b * tl.log(tl.abs(a)))
    y = tl.where(a < 0, tl.where(whole, tl.where(odd, -y, y), float("nan")), y)
    return tl.where(b == 0.0, 1.0, y)
