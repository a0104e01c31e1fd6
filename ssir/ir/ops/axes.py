"""Naming, cutting, joining and indexing axes."""

from __future__ import annotations

from math import prod
from typing import Any

from ssir.ir.graph import Axis, Type
from ssir.ir.intervals import Interval, union
from ssir.ir.op import Op, TypeFault, Use, absent, broadcast, check_finite, product, promote, same, shown, without

_DIVIDE = "choose dims whose product is that size"


def _rename(use: Use) -> Type:
    a, new = use.of("a"), dict(use["axes"])
    use.has("a", new, "axes")
    result = tuple(Axis(new.get(axis.name, axis.name), axis.size) for axis in a.axes)
    if len({axis.name for axis in result}) < len(result):
        raise TypeFault("SSIR014", "the result would have the same axis twice", None, "rename the other one too")
    return Type(result, a.dtype, absent=tuple(sorted((new.get(name, name), lag) for name, lag in a.absent)))


def _split(use: Use) -> Type:
    a, name = use.of("a"), use["axis"]
    into = use.axes("into")
    check_finite(into, "into", "splitting")
    use.has("a", (name,), "axis")
    source = a.axis(name)
    if source.size != prod(axis.size or 0 for axis in into):
        raise TypeFault("SSIR015", f"`{name}` is {shown(source)}, but {product(into)}", "into", _DIVIDE)
    at = a.names.index(name)
    return Type((*a.axes[:at], *into, *a.axes[at + 1 :]), a.dtype, absent=absent([a], (name,)))


def _merge(use: Use) -> Type:
    a, names = use.of("a"), use["axes"]
    use.has("a", names, "axes")
    axes = tuple(a.axis(name) for name in names)
    check_finite(axes, "axes", "merging")
    out = Axis(use["out"], prod(axis.size or 0 for axis in axes))
    at = min(a.names.index(name) for name in names)
    before = without(Type(a.axes[:at]), names)
    return Type((*before, out, *without(a, names)[len(before) :]), a.dtype, absent=absent([a], names))


def _concat(use: Use) -> Type:
    along = use["axes"]
    total = sum(type.axis(name).size or 0 for type, name in zip(use.types, along, strict=True))
    rest = broadcast((Type(without(type, (name,))) for type, name in zip(use.types, along, strict=True)), "values")
    return Type((*rest, Axis(use["axis"], total)), promote(use.types), absent=absent(use.types, along))


def _pack(use: Use) -> Type:
    axes = (*broadcast(use.types, "values"), Axis(use["axis"], len(use.types)))
    return Type(axes, promote(use.types), absent=absent(use.types))


def _slice(use: Use) -> Type:
    a, name, start, stop = use.of("a"), use["axis"], use["start"], use["stop"]
    use.has("a", (name,), "axis")
    size = a.axis(name).size or 0
    if not 0 <= start < stop <= size:
        words = f"{start} to {stop} does not lie in `{name}`, which is {size}"
        raise TypeFault("SSIR015", words, "start", "count from 0; the stop is exclusive")
    new = Axis(use["out"], stop - start)
    axes = tuple(new if own.name == name else own for own in a.axes)
    return Type(axes, a.dtype, absent=absent([a], (name,)))


def _select(use: Use) -> Type:
    a, index, name = use.of("a"), use.of("index"), use["axis"]
    use.has("a", (name,), "axis")
    rest = Type(without(a, (name,)), a.dtype, absent=absent([a], (name,)))
    return Type(broadcast([rest, index]), a.dtype, absent=absent([rest, index]))


def _expand(use: Use) -> Type:
    a, new = use.of("a"), use.axes("axes")
    check_finite(new, "axes", "repeating")
    return Type((*a.axes, *new), a.dtype, absent=a.absent)


def _within(a: Interval, *index: Interval, **attrs: Any) -> Interval:
    return a


def _together(*values: Interval, **attrs: Any) -> Interval:
    return union(*values)


def _through(y: Any, log: Any, a: Any) -> Any:
    """The logarithm of entries at other places."""
    return y.builder(y.node.op, log(a), **y.node.attrs)


def _renamed_back(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    return (g.builder.rename(g, {new: old for old, new in y["axes"]}),)


def _merged_back(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    return (g.builder("merge", g, axes=tuple(name for name, _ in y["into"]), out=y["axis"]),)


def _split_back(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    return (g.builder("split", g, axis=y["out"], into=tuple((name, a.type.axis(name).size) for name in y["axes"])),)


def _cut_apart(y: Any, g: Any, *values: Any) -> tuple[Any, ...]:
    found, start = [], 0
    for value, own in zip(values, y["axes"], strict=True):
        stop = start + value.type.axis(own).size
        found.append(g.builder("slice", g, axis=y["axis"], start=start, stop=stop, out=own))
        start = stop
    return tuple(found)


def _taken_apart(y: Any, g: Any, *values: Any) -> tuple[Any, ...]:
    return tuple(g.builder("select", g, i, axis=y["axis"]) for i in range(len(values)))


def _put_back(y: Any, g: Any, a: Any, index: Any) -> tuple[Any, ...]:
    """The gradient of an entry that a number chooses: zero elsewhere."""
    if index.number is None:
        raise NotImplementedError
    entries = (g if i == index.number else 0.0 for i in range(a.type.axis(y["axis"]).size))
    return g.builder("pack", *entries, axis=y["axis"]), None


def _padded(y: Any, g: Any, a: Any) -> tuple[Any, ...]:
    """The gradient of a slice: zero around it."""
    build, size = g.builder, a.type.axis(y["axis"]).size
    around = ((f"{y['axis']}_before", y["start"]), (f"{y['axis']}_after", size - y["stop"]))
    zeros = [build("expand", 0.0, axes=((name, length),)) if length else None for name, length in around]
    parts = [(zeros[0], around[0][0]), (g, y["out"]), (zeros[1], around[1][0])]
    kept = [(value, name) for value, name in parts if value is not None]
    return (build("concat", *(value for value, _ in kept), axis=y["axis"], axes=tuple(name for _, name in kept)),)


OPS = (
    Op("rename", ("a",), ("axes",), _rename, same, bounds=_within, whole="kept", gradient=_renamed_back, log=_through),
    Op("split", ("a",), ("axis", "into"), _split, bounds=_within, gradient=_merged_back, log=_through),
    Op("merge", ("a",), ("axes", "out"), _merge, bounds=_within, gradient=_split_back, log=_through),
    Op("concat", ("values*",), ("axis", "axes"), _concat, bounds=_together, whole="kept", gradient=_cut_apart),
    Op("pack", ("values*",), ("axis",), _pack, bounds=_together, whole="kept", gradient=_taken_apart),
    Op("slice", ("a",), ("axis", "start", "stop", "out"), _slice, bounds=_within, gradient=_padded, log=_through),
    Op("select", ("a", "index"), ("axis", "told?"), _select, bounds=_within, gradient=_put_back),
    Op(
        "expand",
        ("a",),
        ("axes",),
        _expand,
        same,
        bounds=_within,
        whole="kept",
        gradient=lambda y, g, a: (g.builder.sum(g, {name for name, _ in y["axes"]}),),
        log=_through,
    ),
)
