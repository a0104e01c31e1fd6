"""What each level shows of a spec."""

from __future__ import annotations

from collections.abc import Sequence

from ssir.draw import circuit, joint, outline, path, pictures, shown, states
from ssir.draw.boxes import Fold
from ssir.draw.equations import system as described
from ssir.draw.picture import Row, sized
from ssir.draw.words import leaf
from ssir.errors import UsageError, nearest
from ssir.spec.load import Spec


def picture(specs: Sequence[Spec], level: str, state: str | None, title: str | None) -> str:
    """The DOT of a level. Raises UsageError for what does not fit together."""
    if not specs:
        raise UsageError("there is nothing to draw: name a spec")
    if level == "mixer":
        return pictures.rows_picture([row for spec in specs for row in _told(spec, mixer_rows(spec))], title)
    if level == "state":
        shown: list[circuit.System | joint.Joint | states.Memoryless] = []
        for spec in specs:
            shown += [*_together(spec, state), *_systems(spec, state)] or [_memoryless(spec)]
        return states.picture(shown, title)
    if level == "block":
        return pictures.rows_picture(
            [row for spec in specs for row in _told(spec, outline.block_rows(spec))], title, False
        )
    if level == "model":
        return pictures.rows_picture(
            [row for spec in specs for row in _told(spec, [outline.model_row(spec)])], title, False
        )
    raise UsageError(f"there is no level `{level}`; there are model, block, mixer and state")


def _told(spec: Spec, rows: list[Row]) -> list[Row]:
    """The rows, under each title what the spec is called in full, and the sizes of the axes in the picture."""
    for row in rows:
        row.subtitle = ":  ".join(filter(None, (spec.module.file.title, sized(row))))
    return rows


def systems(spec: Spec) -> list[circuit.System]:
    """What the level `state` says of every memory; nothing of a spec that has none."""
    return _systems(spec, None)


def _systems(spec: Spec, wanted: str | None) -> list[circuit.System]:
    found: dict[str, circuit.System] = {}
    for part in shown.mixers(spec, every=True):
        for node in part.graph.states:
            if wanted in (None, node.name, leaf(node.name)):
                key = f"{part.title} · {node.name}"
                found.setdefault(key, described(part.graph, node, part.title, part.symbols))
    if not found and wanted is not None:
        names = [node.name for part in shown.mixers(spec, every=True) for node in part.graph.states]
        near = nearest(wanted or "", names)
        raise UsageError(
            f"`{spec.name}` has no state `{wanted}`"
            + (f"; the nearest is `{near}`" if near else f"; it has {', '.join(names) or 'none'}")
        )
    return list(found.values())


def _memoryless(spec: Spec) -> states.Memoryless:
    if shown.canonical(spec).has_step:
        return states.Memoryless(spec.name, "y[t] = D x[t]: no memory, so there is no A, no B and no C")
    return states.Memoryless(spec.name, "no memory: every step reads the whole sequence, the future included")


def _together(spec: Spec, wanted: str | None) -> list[joint.Joint]:
    """The states of a spec that feed one another, as one each; none of them if one state is wanted."""
    if wanted is not None:
        return []
    return [one for part in shown.mixers(spec) for one in joint.joints(part.graph, part.title, part.symbols)]


def mixer_rows(spec: Spec) -> list[Row]:
    """Each component that mixes over time; each layer where none does."""
    return [row(part) for part in shown.mixers(spec)]


def row(part: shown.Part) -> Row:
    """A part as boxes and wires."""
    found = Fold(part.graph, Row(part.title), part.symbols).run()
    path.finish(found)
    return found
