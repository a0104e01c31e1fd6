"""The zoo as a page: what each spec adds, its equations, its picture, its parameters and its memory, all from the specs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ssir import passes
from ssir.cli.say import memory
from ssir.compilers.plan import Entry, Plan, count_parameters, plan
from ssir.draw import draw, render
from ssir.draw.circuit import System
from ssir.draw.levels import systems
from ssir.spec.load import Spec, load, zoo

_FOLDER = "zoo"
_HEAD = """# The zoo

Written by `python -m ssir.docs` from the specs. `ssir list --tag TAG` shows a part, `ssir draw NAME` the pictures, `ssir plan NAME` why each form
was chosen. Bytes of memory are those of one sequence in float32, at the sizes that the spec has by itself; a cache grows by so many a token.
"""
_PLOT = """## Model dimension and model size

![log10 of the model dimension over log10 of the number of parameters](zoo/sizes.svg)

Each point is a spec at one of its named sizes, its parameters counted in the graph.
"""


@dataclass(frozen=True)
class Row:
    """A spec of the zoo at its own sizes."""

    spec: Spec
    family: str

    @property
    def name(self) -> str:
        return self.spec.module.file.name

    @cached_property
    def plan(self) -> Plan:
        return plan(passes.run(self.spec.graph))

    @cached_property
    def systems(self) -> list[System]:
        return systems(self.spec)

    @cached_property
    def picture(self) -> str:
        """DOT."""
        return draw(self.spec)

    @property
    def file(self) -> str:
        return f"{_FOLDER}/{self.name}.svg"


def rows() -> list[Row]:
    """The project's own specs, by family."""
    found = [Row(load(name), path.parent.name.replace("_", " ")) for name, path in zoo() if path.parent.name]
    return sorted(found, key=lambda row: (row.family, row.name))


def page() -> str:
    """docs/zoo.md."""
    found = rows()
    parts = [_HEAD]
    families = dict.fromkeys(row.family for row in found)
    for family in families:
        names = ", ".join(f"[`{row.name}`](#{row.name})" for row in found if row.family == family)
        parts.append(f"- {family}: {names}")
    for family in families:
        parts.append(f"\n## {family.capitalize()}\n")
        parts += [_section(row) for row in found if row.family == family]
    return "\n".join([*parts, _PLOT])


def _section(row: Row) -> str:
    file = row.spec.module.file
    lines = [f"### {row.name}", "", f"**{file.title}**: {file.idea}.", ""]
    lines += [f"{_linked(file.paper or '')}. Tags: {', '.join(file.tags)}. {_parameters(row)}", ""]
    if file.glossary:
        lines += [f"In the paper: {', '.join(f'{sign} = `{names}`' for sign, names in file.glossary.items())}.", ""]
    lines += [f"![{row.name}]({row.file})", ""]
    for system in row.systems:
        lines += _equations(system)
    if row.plan.entries:
        lines += ["", *_memories(row.plan)]
    return "\n".join(lines) + "\n"


def _linked(paper: str) -> str:
    if paper.startswith("arXiv:"):
        return f"[{paper}](https://arxiv.org/abs/{paper.removeprefix('arXiv:')})"
    return paper.rstrip(".")


def _parameters(row: Row) -> str:
    return "Parameters: " + ", ".join(f"{name} {_short(count)}" for name, _, count in sizes(row)) + "."


def sizes(row: Row) -> Iterator[tuple[str, float | None, int]]:
    """Each named size (the spec's own without a name of its own) with its model dimension and its number of parameters."""
    own = dict(row.spec.module.file.sizes)
    if not any(not changes for changes in own.values()):
        own = {"default": {}, **own}
    for name, changes in own.items():
        spec = load(row.name, name) if changes else row.spec
        yield name, spec.dims.get("model"), count_parameters(passes.run(spec.graph))


def _short(number: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return str(number)


def _equations(system: System) -> list[str]:
    where = "; ".join(system.where)
    title = system.title.partition(" · ")[2] or system.title
    lines = [f"- **{title}**: {_code(' '.join(system.equation.split()))}, x = {_code(system.x[0])}"]
    for letter, one in system.coefficients.items():
        formula = f"{_code(one.formula)}: " if one.formula else ""
        lines.append(f"  - {letter} = {formula}{one.words}" if formula else f"  - {letter}: {one.words}")
    return [*lines, f"  - where {_code(where)}"] if where else lines


def _code(text: str) -> str:
    return f"`{text}`"


def _memories(found: Plan) -> list[str]:
    head = ["| memory | times | A | form | bytes of one |", "|---|---:|---|---|---:|"]
    return [*head, *map(_memory, found.entries)]


def _memory(entry: Entry) -> str:
    grows = entry.facts.grows
    held = memory(0 if grows else entry.bytes, entry.bytes if grows else 0)
    structure = str(entry.facts.structure) + (", on a cycle" if entry.facts.cycle else "")
    return f"| `{entry.path}` | {entry.count} | {structure} | {entry.match.form.name} | {held} |"


def write_pictures(folder: Path) -> None:
    """docs/zoo/NAME.svg for every spec whose picture has changed, and docs/zoo/sizes.svg."""
    found = rows()
    (folder / _FOLDER).mkdir(exist_ok=True)
    for row in found:
        render.keep(row.picture, folder / row.file)
    for stale in set((folder / _FOLDER).glob("*.svg")) - {folder / row.file for row in found}:
        stale.unlink()
    _plot([point for row in found for point in _points(row)], folder / _FOLDER / "sizes.svg")


def _points(row: Row) -> Iterator[tuple[str, float, float]]:
    """log10 of the parameters and of the model dimension, by size; a spec without named sizes is no published model."""
    if row.spec.module.file.sizes:
        for _, model, count in sizes(row):
            if model:
                yield row.name, math.log10(count), math.log10(model)


def _plot(points: list[tuple[str, float, float]], out: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ssir"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    markers = "osD^v<>pPX*"
    for i, name in enumerate(dict.fromkeys(name for name, _, _ in points)):
        xs, ys = zip(*((x, y) for other, x, y in points if other == name), strict=True)
        axes.plot(xs, ys, markers[i % len(markers)], label=name, markersize=5, alpha=0.8)
    axes.set_xlabel("log10 of the number of parameters")
    axes.set_ylabel("log10 of the model dimension")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=7, ncols=2)
    figure.savefig(out, metadata={"Date": None})
    pyplot.close(figure)
