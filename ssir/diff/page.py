"""Pairs of the zoo compared, as a page: those that zoo/pairs.txt names."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ssir.diff import Diff, diff
from ssir.draw import render

_FOLDER = "diff"
_HEAD = """# What differs

`ssir diff A B` tells what differs between two architectures: their states, what stands around them, and what they cost at equal width. With
`-o FILE.svg` it draws it too, with `--json` it prints it as data; `ssir.diff("a", "b")` gives the same in Python. What is here was written by
`python -m ssir.docs` from the specs, for the pairs in `zoo/pairs.txt`.

- States are aligned by what they are (a memory, a cache, a filter, a delay; the structure of A; who reads them), never by what they are called.
- `b's state is a's with k = 1 − f`: the coefficients of b are those of a with a term put in for a value that is free in a, one that nothing else in
  the state is made of. It is found by matching the two graphs from the state outwards, whatever values are called and in whichever order
  commuting operands stand. How free values are made (by which maps, norms, activations) is told in the rows.
- Equal width: the dims of b that say its width, its number of layers and its vocabulary are set to those of a, or the other way round where that
  cannot be; what was set is said.
- In the pictures both mixers stand as one: grey is what both have, the colours what only one has. A box with a dark border is in both, and what it says differs.
"""


def pairs() -> list[tuple[str, str]]:
    lines = Path(str(files("ssir.zoo"))).joinpath("pairs.txt").read_text(encoding="utf-8").splitlines()
    return [(a, b) for a, b in (line.split() for line in lines)]


def found() -> list[tuple[str, Diff]]:
    """Every pair compared, with the file of its picture."""
    return [(f"{_FOLDER}/{a}-{b}.svg", diff(a, b)) for a, b in pairs()]


def page() -> str:
    """docs/diff.md."""
    parts = [_HEAD]
    for (a, b), (file, one) in zip(pairs(), found(), strict=True):
        parts.append(f"## {a}, {b}\n\n![{a} and {b}]({file})\n\n```\n{str(one).rstrip()}\n```\n")
    return "\n".join(parts)


def write_pictures(folder: Path) -> None:
    """docs/diff/A-B.svg for every pair whose picture has changed."""
    (folder / _FOLDER).mkdir(exist_ok=True)
    kept = found()
    for file, one in kept:
        render.keep(one.draw(), folder / file)
    for stale in set((folder / _FOLDER).glob("*.svg")) - {folder / file for file, _ in kept}:
        stale.unlink()
