"""What each level shows of a spec."""

from __future__ import annotations

from collections.abc import Sequence

from ssir.draw import circuit, outline, parts, path, pictures, systems
from ssir.draw.fold import Fold
from ssir.draw.picture import Row
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
        return circuit.picture([one for spec in specs for one in _systems(spec, state)], title)
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
        sizes = ", ".join(f"{name} {'∞' if size is None else size}" for name, size in row.axes.items())
        row.subtitle = ":  ".join(filter(None, (spec.module.file.title, sizes)))
    return rows


def _systems(spec: Spec, wanted: str | None) -> list[circuit.System]:
    found: dict[str, circuit.System] = {}
    for part in parts.mixers(spec, every=wanted is not None):
        for node in part.graph.states:
            if wanted in (None, node.name, leaf(node.name)):
                key = f"{part.title} · {node.name}"
                found.setdefault(key, systems.system(part.graph, node, part.title, part.symbols))
    if not found:
        names = [node.name for part in parts.mixers(spec, every=True) for node in part.graph.states]
        near = nearest(wanted or "", names)
        raise UsageError(
            f"`{spec.name}` has no state `{wanted}`"
            + (f"; the nearest is `{near}`" if near else f"; it has {', '.join(names) or 'none'}")
        )
    return list(found.values())


def mixer_rows(spec: Spec) -> list[Row]:
    """Each component that mixes over time. Raises UsageError if there is none."""
    found = parts.mixers(spec)
    if not found:
        raise UsageError(f"`{spec.name}` has no memory, so it mixes nothing over time; draw its block or model")
    return [_row(part) for part in found]


def _row(part: parts.Part) -> Row:
    row = Fold(part.graph, Row(part.title), part.symbols).run()
    path.finish(row)
    return row
