"""Functions that name, cut, join and index axes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from ssir.functions.kinds import Nested
from ssir.ir.graph import Axis, Node, Type
from ssir.ir.ops import AxesError, absent, broadcast, promote, shown
from ssir.spec.build import UNKNOWN, Site, is_unknown

if TYPE_CHECKING:
    from ssir.registry import Registry


def rename(cx: Site, a: Node, /, **axes: Axis) -> Node:  # an axis may be called `a`
    """The same value with axes called otherwise: rename(a, key=value)."""
    if is_unknown(a):
        return a
    for old, new in axes.items():
        if old not in a.type.names:
            cx.over(a, (Axis(old, new.size),), old)
        if a.type.axis(old).size != new.size:
            cx.fail(
                "SSIR015",
                f"`{old}` is {a.type.axis(old).size}, but `{new.name}` is {shown(new)}",
                old,
                "a name changes no size: use linear, split or slice",
            )
    result = tuple(Axis(axes[axis.name].name, axis.size) if axis.name in axes else axis for axis in a.type.axes)
    if len({axis.name for axis in result}) < len(result):
        cx.fail("SSIR014", "the result would have the same axis twice", help="rename the other one too")
    moved = tuple(sorted((axes[name].name if name in axes else name, lag) for name, lag in a.type.absent))
    return cx.emit(
        "rename",
        (a,),
        Type(result, a.type.dtype, absent=moved),
        axes=tuple((old, new.name) for old, new in axes.items()),
    )


_DIVIDE = "choose dims whose product is that size"


def _product(axes: tuple[Axis, ...]) -> str:
    names, sizes = " * ".join(axis.name for axis in axes), " * ".join(map(shown, axes))
    return f"{names} is {sizes}" + (f" = {prod(axis.size or 0 for axis in axes)}" if len(axes) > 1 else "")


def split(cx: Site, a: Node, into: tuple[Axis, ...], axis: Axis | None = None) -> Node:
    """One axis cut into several, the first the slowest: split(x, [head, key]). The axis may be left out if there is only one
    of the right size."""
    if is_unknown(a):
        return cx.emit("split", (a,), Type(dtype=UNKNOWN))
    cx.finite(into, "into", "splitting")
    size = prod(part.size or 0 for part in into)
    if axis is not None:
        cx.over(a, (axis,), "axis")
        source = axis
    else:
        fitting = [own for own in a.type.axes if own.size == size]
        if len(a.type.axes) == 1:
            source = a.type.axes[0]
        elif len(fitting) == 1:
            source = fitting[0]
        else:
            cx.fail(
                "SSIR014",
                f"it is not clear which axis to split: the value has [{', '.join(map(str, a.type.axes))}]",
                help="name it: split(x, [a, b], axis=c)",
            )
    if source.size != size:
        cx.fail("SSIR015", f"`{source.name}` is {shown(source)}, but {_product(into)}", "into", _DIVIDE)
    at = a.type.names.index(source.name)
    axes = (*a.type.axes[:at], *into, *a.type.axes[at + 1 :])
    return cx.emit(
        "split",
        (a,),
        Type(axes, a.type.dtype, absent=absent([a.type], (source.name,))),
        axis=source.name,
        into=tuple(p.name for p in into),
    )


def merge(cx: Site, a: Node, axes: tuple[Axis, ...], out: Axis) -> Node:
    """Several axes made one, the first the slowest: merge(y, [head, value], inner)."""
    if is_unknown(a):
        return cx.emit("merge", (a,), Type((out,)))
    cx.over(a, axes, "axes")
    cx.finite((*axes, out), "axes", "merging")
    names = tuple(axis.name for axis in axes)
    size = prod(axis.size or 0 for axis in axes)
    if size != out.size:
        cx.fail("SSIR015", f"`{out.name}` is {shown(out)}, but {_product(axes)}", "out", _DIVIDE)
    at = min(a.type.names.index(name) for name in names)
    rest = [axis for axis in a.type.axes if axis.name not in names]
    before = sum(1 for axis in a.type.axes[:at] if axis.name not in names)
    result = (*rest[:before], out, *rest[before:])
    return cx.emit("merge", (a,), Type(result, a.type.dtype, absent=absent([a.type], names)), axes=names, out=out.name)


def concat(cx: Site, values: list[Node], axis: Axis) -> Node:
    """Values laid end to end along an axis, whose size is the sum of theirs."""
    if is_unknown(*values):
        return cx.emit("concat", values, Type(dtype=UNKNOWN), axis=axis.name, axes=())
    own: list[str] = []
    common = {name for name in values[0].type.names if all(name in v.type.names for v in values)}
    for value in values:
        candidates = [x for x in value.type.axes if x.name == axis.name] or [
            x for x in value.type.axes if x.name not in common
        ]
        if len(values) > 1 and not candidates and len(value.type.axes) == 1:
            candidates = list(value.type.axes)
        if not candidates:
            candidates = list(value.type.axes)
        if len(candidates) != 1:
            cx.fail(
                "SSIR014",
                f"it is not clear which axis of [{', '.join(map(str, value.type.axes))}] to lay along `{axis.name}`",
                "values",
                help=f"rename it to `{axis.name}_` first",
            )
        own.append(candidates[0].name)
    cx.finite((axis,), "axis", "laying values end to end")
    total = sum(v.type.axis(name).size or 0 for v, name in zip(values, own, strict=True))
    if total != axis.size:
        cx.fail(
            "SSIR015",
            f"the parts make {total}, but `{axis.name}` is {axis.size}",
            "axis",
            f"name an axis of size {total}",
        )
    try:
        rest = broadcast(
            [Type(tuple(x for x in v.type.axes if x.name != name)) for v, name in zip(values, own, strict=True)]
        )
    except AxesError as error:
        cx.fail("SSIR015", str(error), "values")
    types = [v.type for v in values]
    return cx.emit(
        "concat",
        values,
        Type((*rest, axis), promote(types), absent=absent(types, own)),
        axis=axis.name,
        axes=tuple(own),
    )


def pack(cx: Site, values: list[Node], axis: Axis) -> Node:
    """Values put side by side along a new axis, whose size is their number."""
    if is_unknown(*values):
        return cx.emit("pack", values, Type(dtype=UNKNOWN), axis=axis.name)
    if axis.size != len(values):
        cx.fail(
            "SSIR015",
            f"there are {len(values)} values, but `{axis.name}` is {shown(axis)}",
            "axis",
            f"name an axis of size {len(values)}",
        )
    types = [v.type for v in values]
    try:
        rest = broadcast(types)
    except AxesError as error:
        cx.fail("SSIR015", str(error), "values")
    return cx.emit("pack", values, Type((*rest, axis), promote(types), absent=absent(types)), axis=axis.name)


def slice_(cx: Site, a: Node, axis: Axis, start: int = 0, stop: int | None = None, out: Axis | None = None) -> Node:
    """The entries start to stop (exclusive) of an axis; ``out`` is what the shorter axis is called."""
    if is_unknown(a):
        return cx.emit("slice", (a,), Type(dtype=UNKNOWN))
    cx.over(a, (axis,), "axis")
    size = axis.size or 0
    end = size if stop is None else stop
    if not 0 <= start < end <= size:
        cx.fail(
            "SSIR015",
            f"{start} to {end} does not lie in `{axis.name}`, which is {size}",
            "start",
            "count from 0; the stop is exclusive",
        )
    new = out or Axis(axis.name, end - start)
    if new.size != end - start:
        cx.fail(
            "SSIR015",
            f"{start} to {end} has {end - start} entries, but `{new.name}` is {shown(new)}",
            "out",
            f"name an axis of size {end - start}",
        )
    axes = tuple(new if own.name == axis.name else own for own in a.type.axes)
    return cx.emit(
        "slice",
        (a,),
        Type(axes, a.type.dtype, absent=absent([a.type], (axis.name,))),
        axis=axis.name,
        start=start,
        stop=end,
        out=new.name,
    )


def select(cx: Site, a: Node, axis: Axis, index: Node) -> Node:
    """The entry of an axis at an index: a token, or whole numbers such as `position`, `arange` and arithmetic on them."""
    if is_unknown(a, index):
        return cx.emit("select", (a, index), Type(dtype=UNKNOWN), axis=axis.name)
    cx.over(a, (axis,), "axis")
    number = index.attrs["value"] if index.op == "const" else 0
    if not cx.is_whole(index):
        cx.fail("SSIR019", "the index is not a whole number", "index", "take a token, `position`, or round(...)")
    if not 0 <= number < (axis.size or number + 1):
        cx.fail("SSIR015", f"`{axis.name}` is {axis.size}, and has no entry {number:g}", "index", "count from 0")
    rest = Type(
        tuple(own for own in a.type.axes if own.name != axis.name), a.type.dtype, absent=absent([a.type], (axis.name,))
    )
    axes = broadcast([rest, index.type])
    return cx.emit("select", (a, index), Type(axes, a.type.dtype, absent=absent([rest, index.type])), axis=axis.name)


def expand(cx: Site, a: Node, axes: tuple[Axis, ...]) -> Node:
    """The value repeated along new axes."""
    if is_unknown(a):
        return a
    cx.finite(axes, "axes", "repeating")
    return cx.emit(
        "expand",
        (a,),
        Type((*a.type.axes, *axes), a.type.dtype, absent=a.type.absent),
        axes=tuple(x.name for x in axes),
    )


def arange(cx: Site, axis: Axis) -> Node:
    """0, 1, 2, ... along an axis. Along the slots of a register 0 is the newest, along those of a whole sequence the first step."""
    return cx.emit("arange", (), Type((axis,)), axis=axis.name)


def array(cx: Site, values: Nested, axes: tuple[Axis, ...]) -> Node:
    """Values written out, in brackets nested as deep as there are axes: array([[0, 1], [-k, 0]], [n, n_])."""
    if not axes:
        cx.fail("SSIR014", "the values have brackets, and no axis for them", "axes", "name an axis for each bracket")
    first, *rest = axes
    if len(values) != first.size:
        words = f"there {'is 1 value' if len(values) == 1 else f'are {len(values)} values'}, but `{first.name}` is {shown(first)}"
        cx.fail("SSIR015", words, "values", "write as many as the axis has entries")
    if rest and not all(isinstance(value, list) for value in values):
        cx.fail("SSIR014", "the brackets are less deep than there are axes", "values", "write a bracket for each axis")
    rows = [array(cx, Nested(value), tuple(rest)) if rest else value for value in values]
    if any(isinstance(row, list) for row in rows):
        cx.fail("SSIR014", "the brackets are deeper than there are axes", "values", "name an axis for each bracket")
    return pack(cx, rows, first)


def eye(cx: Site, axes: tuple[Axis, ...]) -> Node:
    """The identity matrix over two axes of one size."""
    if len(axes) != 2 or axes[0].size != axes[1].size:
        cx.fail("SSIR015", "an identity needs two axes of one size", "axes", help="write eye([n, n_])")
    cx.finite(axes, "axes", "an identity")
    return cx.emit("eye", (), Type(axes))


def matmul(cx: Site, a: Node, b: Node, n: Axis) -> Node:
    """The matrix product over an axis and its double: a[n, n_] b[n, n_]."""
    for value in (a, b):
        cx.over(value, (n, Axis(f"{n.name}_", n.size)), "n")
    return cx.emit("matmul", (a, b), Type(broadcast([a.type, b.type]), promote([a.type, b.type])), over=n.name)


def expm(cx: Site, a: Node, n: Axis) -> Node:
    """The exponential of the matrix a[n, n_]."""
    cx.over(a, (n, Axis(f"{n.name}_", n.size)), "n")
    return cx.emit("expm", (a,), a.type, over=n.name)


def solve(cx: Site, a: Node, b: Node, n: Axis) -> Node:
    """x with a x = b, for a matrix a[n, n_] and a vector b[n] or a matrix b[n, n_]."""
    cx.over(a, (n, Axis(f"{n.name}_", n.size)), "n")
    cx.over(b, (n,), "n")
    square = f"{n.name}_" in b.type.names
    inner = Type(tuple(x for x in a.type.axes if square or x.name != f"{n.name}_"))
    return cx.emit("solve", (a, b), Type(broadcast([inner, b.type]), promote([a.type, b.type])), over=n.name)


def register(registry: Registry) -> None:
    for call in (rename, split, merge, concat, pack, slice_, select, expand, arange, array, eye, matmul, expm, solve):
        registry.function(call)
