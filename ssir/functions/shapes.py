"""Functions that name, cut, join and index axes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from ssir.functions.kinds import Nested
from ssir.ir.graph import Axis, Node
from ssir.ir.op import listed, names, pairs, product, shown
from ssir.spec.build import Site, is_unknown

if TYPE_CHECKING:
    from ssir.registry import Registry


def rename(cx: Site, a: Node, /, **axes: Axis) -> Node:  # an axis may be called `a`
    """The same value with axes called otherwise: rename(a, key=value)."""
    if is_unknown(a):
        return a
    for old, new in axes.items():
        cx.over(a, (old,), old)
        if a.type.axis(old).size != new.size:
            words = f"`{old}` is {a.type.axis(old).size}, but `{new.name}` is {shown(new)}"
            cx.fail("SSIR015", words, old, "a name changes no size: use linear, split or slice")
    return cx.emit("rename", (a,), axes=tuple((old, new.name) for old, new in axes.items()))


def split(cx: Site, a: Node, into: tuple[Axis, ...], axis: Axis | None = None) -> Node:
    """One axis cut into several, the first the slowest: split(x, [head, key]). The axis may be left out if there is only one
    of the right size."""
    if is_unknown(a):
        return cx.later()
    cx.finite(into, "into", "splitting")
    size = prod(part.size or 0 for part in into)
    fitting = [own for own in a.type.axes if own.size == size]
    if axis is not None:
        cx.over(a, (axis,), "axis")
        source = axis
    elif len(a.type.axes) == 1 or len(fitting) == 1:
        source = a.type.axes[0] if len(a.type.axes) == 1 else fitting[0]
    else:
        words = f"it is not clear which axis to split: the value has [{listed(a.type.axes)}]"
        cx.fail("SSIR014", words, help="name it: split(x, [a, b], axis=c)")
    return cx.emit("split", (a,), axis=source.name, into=pairs(into))


def merge(cx: Site, a: Node, axes: tuple[Axis, ...], out: Axis) -> Node:
    """Several axes made one, the first the slowest: merge(y, [head, value], inner)."""
    if is_unknown(a):
        return cx.later(out)
    cx.over(a, axes, "axes")
    cx.finite((out,), "out", "merging")
    if prod(axis.size or 0 for axis in axes) != out.size and all(axis.size is not None for axis in axes):
        words = f"`{out.name}` is {shown(out)}, but {product(axes)}"
        cx.fail("SSIR015", words, "out", "choose dims whose product is that size")
    return cx.emit("merge", (a,), axes=names(axes), out=out.name)


def concat(cx: Site, values: list[Node], axis: Axis) -> Node:
    """Values laid end to end along an axis, whose size is the sum of theirs."""
    if is_unknown(*values):
        return cx.later()
    along: list[str] = []
    common = {name for name in values[0].type.names if all(name in v.type.names for v in values)}
    for value in values:
        candidates = [x for x in value.type.axes if x.name == axis.name] or [
            x for x in value.type.axes if x.name not in common
        ]
        if not candidates:
            candidates = list(value.type.axes)
        if len(candidates) != 1:
            words = f"it is not clear which axis of [{listed(value.type.axes)}] to lay along `{axis.name}`"
            cx.fail("SSIR014", words, "values", help=f"rename it to `{axis.name}_` first")
        along.append(candidates[0].name)
    cx.finite((axis,), "axis", "laying values end to end")
    total = sum(v.type.axis(name).size or 0 for v, name in zip(values, along, strict=True))
    if total != axis.size:
        words = f"the parts make {total}, but `{axis.name}` is {axis.size}"
        cx.fail("SSIR015", words, "axis", f"name an axis of size {total}")
    return cx.emit("concat", values, axis=axis.name, axes=tuple(along))


def pack(cx: Site, values: list[Node], axis: Axis) -> Node:
    """Values put side by side along a new axis, whose size is their number."""
    if axis.size != len(values):
        words = f"there are {len(values)} values, but `{axis.name}` is {shown(axis)}"
        cx.fail("SSIR015", words, "axis", f"name an axis of size {len(values)}")
    return cx.emit("pack", values, axis=axis.name)


def slice_(cx: Site, a: Node, axis: Axis, start: int = 0, stop: int | None = None, out: Axis | None = None) -> Node:
    """The entries start to stop (exclusive) of an axis; ``out`` is what the shorter axis is called."""
    cx.over(a, (axis,), "axis")
    end = (axis.size or 0) if stop is None else stop
    if out is not None and out.size != end - start and 0 <= start < end <= (axis.size or 0):
        words = f"{start} to {end} has {end - start} entries, but `{out.name}` is {shown(out)}"
        cx.fail("SSIR015", words, "out", f"name an axis of size {end - start}")
    return cx.emit("slice", (a,), axis=axis.name, start=start, stop=end, out=(out or axis).name)


def select(cx: Site, a: Node, axis: Axis, index: Node) -> Node:
    """The entry of an axis at an index: a token, or whole numbers such as `position`, `arange` and arithmetic on them."""
    if is_unknown(a, index):
        return cx.later()
    cx.over(a, (axis,), "axis")
    number = index.attrs["value"] if index.op == "const" else 0
    if not cx.is_whole(index):
        cx.fail("SSIR019", "the index is not a whole number", "index", "take a token, `position`, or round(...)")
    if not 0 <= number < (axis.size or number + 1):
        cx.fail("SSIR015", f"`{axis.name}` is {axis.size}, and has no entry {number:g}", "index", "count from 0")
    return cx.emit("select", (a, index), axis=axis.name)


def expand(cx: Site, a: Node, axes: tuple[Axis, ...]) -> Node:
    """The value repeated along new axes."""
    cx.finite(axes, "axes", "repeating")
    return cx.emit("expand", (a,), axes=pairs(axes))


def arange(cx: Site, axis: Axis) -> Node:
    """0, 1, 2, ... along an axis. Along the slots of a register 0 is the newest, along those of a whole sequence the first step."""
    return cx.emit("arange", (), axis=axis.name, size=axis.size)


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
    return cx.emit("eye", (), axes=pairs(axes))


def matmul(cx: Site, a: Node, b: Node, n: Axis) -> Node:
    """The matrix product over an axis and its double: a[n, n_] b[n, n_]."""
    for value in (a, b):
        cx.over(value, (n, Axis(f"{n.name}_", n.size)), "n")
    return cx.emit("matmul", (a, b), over=n.name)


def expm(cx: Site, a: Node, n: Axis) -> Node:
    """The exponential of the matrix a[n, n_]."""
    cx.over(a, (n, Axis(f"{n.name}_", n.size)), "n")
    return cx.emit("expm", (a,), over=n.name)


def solve(cx: Site, a: Node, b: Node, n: Axis) -> Node:
    """x with a x = b, for a matrix a[n, n_] and a vector b[n] or a matrix b[n, n_]."""
    cx.over(a, (n, Axis(f"{n.name}_", n.size)), "n")
    cx.over(b, (n,), "n")
    return cx.emit("solve", (a, b), over=n.name)


def register(registry: Registry) -> None:
    for call in (rename, split, merge, concat, pack, slice_, select, expand, arange, array, eye, matmul, expm, solve):
        registry.function(call)
