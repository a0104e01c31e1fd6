"""Two specs brought to one width, one number of layers and one vocabulary, so that their costs can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ssir.draw import shown
from ssir.errors import SpecError
from ssir.ir.graph import Dependence
from ssir.spec.load import Spec
from ssir.spec.schema import Stack

_ROLES = ("width", "layers", "vocabulary")


@dataclass(frozen=True)
class Setting:
    """``dims``: what was set in the spec called ``changed``, from what to what. ``kept``: what differs and could not be set.
    ``axes``: what the dims that have the same part are called in the first and in the second."""

    changed: str = ""
    dims: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    axes: Mapping[str, str] = field(default_factory=dict)

    def words(self) -> str:
        """at equal width: model 1024 in b (2048 by itself)"""
        set_ = ", ".join(f"{name} {now:g} (by itself {was:g})" for name, (was, now) in self.dims.items())
        parts = [f"{self.changed} is taken with {set_}"] if set_ else []
        return "; ".join([*parts, *(f"the {role} of the two could not be made equal" for role in self.kept)])

    def record(self) -> dict[str, Any]:
        dims = {name: {"was": was, "is": now} for name, (was, now) in self.dims.items()}
        return {"spec": self.changed, "dims": dims, "differs_still": list(self.kept)}


def roles(spec: Spec) -> dict[str, str]:
    """The dims of a spec that say its width, its number of layers and its vocabulary, by what the graph does with them."""
    graph, found = shown.canonical(spec), {}
    stacks = [node for node in graph if node.op == "stack"]
    streams = stacks or [node for node in graph.inputs if node.type.dtype != "int"]
    own = [name for node in streams for name in node.type.names if spec.dims.get(name)]
    if own:
        found["width"] = own[0]
    for component in spec.module.file.components.values():
        for written in component.graph.values():
            if isinstance(written, Stack) and spec.dims.get(str(written.times)):
                found.setdefault("layers", str(written.times))
    for node in graph:
        if node.op == "embed" and node.type.dependence >= Dependence.INPUT:
            table = graph[node.inputs[1]].type.names
            if words := [name for name in table if name not in node.type.names and spec.dims.get(name)]:
                found.setdefault("vocabulary", words[0])
    return found


def equalised(a: Spec, b: Spec) -> tuple[Spec, Spec, Setting]:
    """Both specs, those dims of the second set as in the first; those of the first as in the second where that cannot be; without the
    width where neither can."""
    mine, theirs = roles(a), roles(b)
    both = [role for role in _ROLES if role in mine and role in theirs]
    axes = {mine[role]: theirs[role] for role in both}
    differing = [role for role in both if a.dims[mine[role]] != b.dims[theirs[role]]]
    if not differing:
        return a, b, Setting(axes=axes)
    easy = [role for role in differing if role != "width"]
    for wanted in filter(None, (differing, easy)):
        kept = tuple(role for role in differing if role not in wanted)
        if done := _like(b, theirs, a, mine, wanted):
            return a, done[0], Setting(b.name, done[1], kept, axes)
        if done := _like(a, mine, b, theirs, wanted):
            return done[0], b, Setting(a.name, done[1], kept, axes)
    return a, b, Setting(kept=tuple(differing), axes=axes)


def _like(
    spec: Spec, own: Mapping[str, str], other: Spec, others: Mapping[str, str], wanted: Sequence[str]
) -> tuple[Spec, dict[str, tuple[float, float]]] | None:
    """A spec with dims set to those that have the same part in the other, if that is one; and from what to what."""
    sizes = {own[role]: (spec.dims[own[role]] or 0.0, other.dims[others[role]] or 0.0) for role in wanted}
    changed = _with(spec, {name: now for name, (_, now) in sizes.items()})
    return None if changed is None else (changed, sizes)


def _with(spec: Spec, dims: Mapping[str, float]) -> Spec | None:
    """A spec with dims set, if that is one."""
    changed = Spec(spec.module, spec.component, {**spec.overrides, **dims})
    try:
        _ = changed.graph
    except SpecError:
        return None
    return changed
