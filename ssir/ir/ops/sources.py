"""What has no operands, and what a stack is: values that come from outside, constants, the moment, repeated bodies.

Inputs and parameters say their own type; so does a stack, whose bodies are graphs of their own.
"""

from __future__ import annotations

from math import inf, log
from typing import Any

from ssir.ir.graph import Axis, Type
from ssir.ir.intervals import Interval
from ssir.ir.op import DECLARED, Op, TypeFault, Use, check_finite


def _scalar(use: Use) -> Type:
    return Type()


def _whole(use: Use) -> Type:
    return Type(dtype="int")


def _start(use: Use) -> Type:
    return Type(dtype="bool")


def _arange(use: Use) -> Type:
    return Type((Axis(use["axis"], use["size"]),))


def _eye(use: Use) -> Type:
    axes = use.axes("axes")
    if len(axes) != 2 or axes[0].size != axes[1].size:
        raise TypeFault("SSIR015", "an identity needs two axes of one size", "axes", "write eye([n, n_])")
    check_finite(axes, "axes", "an identity")
    return Type(axes)


def _counted(axis: str, size: int | None) -> Interval:
    return 0.0, inf if size is None else size - 1.0


def _log(y: Any, of: Any) -> Any:
    return y.builder.number(log(y.number)) if y.number > 0 else None


OPS = (
    Op("input", (), (), DECLARED),
    Op("param", (), ("key", "shared", "init", "decay", "lr", "dtype", "learned", "draws?"), DECLARED),
    Op("const", (), ("value",), _scalar, bounds=lambda value: (float(value), float(value)), log=_log),
    Op("arange", (), ("axis", "size"), _arange, bounds=_counted, whole="always"),
    Op("eye", (), ("axes",), _eye),
    Op("position", (), (), _whole, bounds=(0.0, inf), whole="always"),
    Op("start", (), (), _start, bounds=(0.0, 1.0)),
    Op("layer", (), (), _whole, bounds=(0.0, inf), whole="always"),
    Op("stack", ("values*",), ("pattern", "share", "carried", "given"), DECLARED),
    Op("part", ("stack",), ("label",), DECLARED),
    Op("later", (), (), DECLARED),  # while a spec is read: what is not known yet
)
