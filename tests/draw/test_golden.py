"""The DOT of pictures, compared with what was looked at and found good. Positions are Graphviz's business, and not compared."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ssir.draw import Level, draw
from ssir.spec.load import load

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "SSIR_UPDATE_GOLDEN=1 pytest tests/draw/test_golden.py"
PICTURES: list[tuple[str, Level]] = [
    ("mamba", "mixer"),
    ("mamba", "block"),
    ("mamba", "state"),
    ("lstm", "mixer"),
    ("lstm", "model"),
    ("hawk", "mixer"),
    ("griffin", "model"),
    ("griffin,mamba,hgrn2", "mixer"),
    ("transformer", "state"),
    ("transmamba", "state"),
    ("fir_attention", "state"),
]


@pytest.mark.parametrize(("names", "level"), PICTURES, ids=[f"{names}-{level}" for names, level in PICTURES])
def test_dot_is_as_it_was(names: str, level: Level) -> None:
    path = GOLDEN / f"{names.replace(',', '-')}.{level}.gv"
    source = draw([load(name) for name in names.split(",")], level=level)
    if os.environ.get("SSIR_UPDATE_GOLDEN"):
        path.write_text(source, encoding="utf-8")
    assert path.is_file(), f"there is no {path.name}; write it with: {UPDATE}"
    assert source == path.read_text(encoding="utf-8"), (
        f"{path.name} differs; look at the new picture, and if it is good: {UPDATE}"
    )
