"""What a call of a component and the axes in an expression mean: names to sizes. Shared by all that elaborates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ssir.errors import Diagnostic, Span, SpecError, nearest
from ssir.ir.graph import Axis, Type
from ssir.spec.module import Module, sized
from ssir.spec.schema import REST, Component, Tokens

Path = tuple[str | int, ...]


def fail(code: str, message: str, span: Span | None, help: str | None = None, notes: Sequence[str] = ()) -> NoReturn:
    raise SpecError([Diagnostic(code, message, span, tuple(notes), help)])


def input_type(
    module: Module,
    dims: Mapping[str, float | None],
    component: Component,
    name: str,
    path: Path,
    rest: tuple[Axis, ...] = (),
) -> Type:
    """What an input is by itself: where it takes further axes, with none; where it says nothing else, with those of ``rest``."""
    declared, axes = component.input[name], component.axes(name)
    inside = (*path, "token") if isinstance(declared, Tokens) else path
    listed = isinstance(declared, list) or (isinstance(declared, Tokens) and isinstance(declared.token, list))
    found = axes_of(module, dims, axes if listed or not axes else axes[0], inside, "the input")
    if REST in axes and not found:
        found = rest
    return Type(found, "int" if component.is_token(name) else "real")


def axes_of(
    module: Module, dims: Mapping[str, float | None], names: str | list[str], path: Path, what: str
) -> tuple[Axis, ...]:
    """The axes that a key lists; each stands once."""
    found: list[Axis] = []
    for i, name in enumerate([names] if isinstance(names, str) else names):
        if name == REST:
            continue
        span = module.document.span(path if isinstance(names, str) else (*path, i))
        axis = axis_of(module, dims, name, span)
        if axis in found:
            fail(
                "SSIR014",
                f"{what} has the axis `{name}` twice",
                span,
                f"call the second one `{name}_`, a further axis of the same size",
            )
        found.append(axis)
    return tuple(found)


def axis_of(module: Module, dims: Mapping[str, float | None], name: str, span: Span | None) -> Axis:
    base = name if name in dims else name.rstrip("_")
    if base not in dims:
        near = nearest(name, dims)
        fail(
            "SSIR011",
            f"no dim is called `{name}`",
            span,
            f"the nearest is `{near}`" if near else f"give it a size: dims: {{{name}: 64}}",
        )
    size = dims[base]
    if size is not None and (size != int(size) or size < 1):
        fail("SSIR018", f"`{name}` is {size}: the size of an axis is a whole number of at least 1", span)
    return Axis(name, None if size is None else int(size))


@dataclass(frozen=True)
class Layer:
    """A component named in a stack, with the dims and constants that the entry changes."""

    module: Module
    name: str
    dims: dict[str, float | None]
    constants: dict[str, float]
    overrides: dict[str, float]


def unified(
    module: Module,
    component: str,
    dims: dict[str, float | None],
    overrides: Mapping[str, float],
    types: Mapping[str, Type],
    spans: Mapping[str, Span],
    span: Span | None,
    borrowed: bool,
) -> dict[str, float | None]:
    """The dims of a call: those of the spec, changed by the sizes of the axes of the arguments and by keyword."""
    definition = module.component(component)
    changes = dict(overrides)
    for name, type in types.items():
        place, names = spans.get(name, span), definition.axes(name)
        if definition.is_token(name) and type.dtype != "int":
            words = f"the input `{name}` of `{component}` is a token"
            fail("SSIR019", words, place, "hand on the token, not a value")
        old = [axis for axis in type.names if axis not in names]
        new = [axis for axis in names if axis not in type.names and axis != REST]
        if new or (old and REST not in names):
            fail(
                "SSIR014",
                f"the input `{name}` of `{component}` has the axes [{', '.join(names)}], "
                f"and is given [{', '.join(type.names)}]",
                place,
                f"rename it: rename(..., {old[0]}={new[0]})" if len(old) == len(new) == 1 else _fit(old, new),
            )
        for axis in type.axes:
            if axis.name in dims and dims[axis.name] != axis.size and axis.size is not None:
                if changes.get(axis.name, axis.size) != axis.size:
                    fail(
                        "SSIR015",
                        f"`{axis.name}` is {axis.size} in `{name}`, but {changes[axis.name]} elsewhere in this call",
                        place,
                        "give both the same size",
                    )
                changes[axis.name] = axis.size
    changes = {key: value for key, value in changes.items() if key in module.file.dims}
    return sized(module, {**module.overrides_of(dims), **changes}, span, whole=not borrowed) if changes else dims


def _fit(old: Sequence[str], new: Sequence[str]) -> str:
    if not new:
        return f"use up {', '.join(old)}, with sum, dot or linear"
    return f"make [{', '.join(new)}] of [{', '.join(old)}], with split, merge or linear"
