"""What pictures say: the names of functions, short mathematics, axes and sizes. Plain text; escaping is the emitter's business."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf

from ssir.ir.graph import Axis, Graph

FUNCTIONS = {
    "silu": "SiLU",
    "sigmoid": "σ",
    "logsigmoid": "log σ",
    "gelu": "GELU",
    "gelu_tanh": "GELU",
    "relu": "ReLU",
    "elu": "ELU",
    "rms_norm": "RMSNorm",
    "layer_norm": "LayerNorm",
    "l2_norm": "L2 norm",
    "maximum": "max",
    "minimum": "min",
    "reciprocal": "1/·",
    "square": "(·)²",
    "neg": "−",
    "sqrt": "√",
    "rsqrt": "1/√",
    "conj": "conjugate",
    "mod": "mod",
    "sum": "Σ",
    "matmul": "matrix ×",
}
COMPARISONS = {"lt": "<", "le": "≤", "gt": ">", "ge": "≥", "eq": "=", "ne": "≠"}
THROUGH = frozenset({"rename", "split", "merge", "expand", "slice", "detach", "final", "part"})
_NAMES = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi psi omega"
_LETTERS = "αβγδεζηθικλμνξοπρστυφχψω"
_GREEK = dict(zip(_NAMES.split(), _LETTERS, strict=True)) | dict(
    zip(_NAMES.title().split(), _LETTERS.upper(), strict=True)
)
SUPERSCRIPTS = str.maketrans("0123456789-.", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻·")
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def function(op: str) -> str:
    """The name of an operation that a reader knows."""
    return FUNCTIONS.get(op, op.removeprefix("op.").replace("_", " "))


def number(value: float) -> str:
    if isinf(value):
        return "∞" if value > 0 else "−∞"
    whole = value == round(value) and abs(value) < 1e6
    return f"{value:.0f}" if whole and value >= 0 else f"{value:.{6 if whole else 4}g}".replace("-", "−")


def power(exponent: int) -> str:
    return str(exponent).translate(SUPERSCRIPTS)


def subscript(index: int) -> str:
    return str(index).translate(SUBSCRIPTS)


def product(axes: Sequence[Axis] | Sequence[str]) -> str:
    return "×".join(axis if isinstance(axis, str) else axis.name for axis in axes)


def sizes(axes: Sequence[Axis]) -> str:
    """64×128, with ∞ for an axis that grows."""
    return "×".join("∞" if axis.size is None else str(axis.size) for axis in axes)


def leaf(path: str) -> str:
    return path.rpartition(".")[2]


def greek(name: str) -> str:
    """mu_k is written μ_k."""
    return "_".join(_GREEK.get(part, part) for part in name.split("_"))


def is_fixed(graph: Graph, name: str) -> bool:
    """Whether no parameter takes part in a constant."""
    todo, seen = [name], set()
    while todo:
        node = graph[todo.pop()]
        if node.op in ("param", "input"):
            return False
        if node.name not in seen:
            seen.add(node.name)
            todo.extend(node.inputs)
    return True
