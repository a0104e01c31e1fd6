"""From DOT to a file: by the ``dot`` program, else by the library that pygraphviz brings."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from ssir.errors import EnvironmentLacks, UsageError
from ssir.files import replace
from ssir.registry import registry

SUFFIXES = {".svg": "svg", ".png": "png", ".pdf": "pdf", ".dot": "dot", ".gv": "dot", ".html": "html"}
ADVICE = "install Graphviz (apt install graphviz, brew install graphviz), or: pip install pygraphviz"
_SECONDS = 120


def kind_of(out: Path) -> str:
    """What to write, by the suffix; a plugin's renderer is called by its suffix. Raises UsageError."""
    suffix = out.suffix.lower()
    kind = SUFFIXES.get(suffix)
    if kind is not None:
        return kind
    if suffix and registry.get("renderer", suffix[1:]):
        return suffix[1:]
    known = [*SUFFIXES, *(f".{name}" for name in registry.names("renderer"))]
    raise UsageError(f"`{out.name}` ends in no kind of picture; there are {', '.join(known)}")


def write(source: str, out: Path) -> None:
    """Write DOT as what the suffix says, or a page as it is; the file appears whole or not at all. Raises UsageError and
    EnvironmentLacks."""
    kind = kind_of(out)
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder `{out.parent}` to write `{out.name}` into")
    if kind in ("dot", "html"):
        content = source.encode()
    elif renderer := registry.get("renderer", kind):
        content = renderer(source)
    else:
        content = render(source, kind)
    replace(out, content)


def render(source: str, kind: str) -> bytes:
    """DOT as svg, png or pdf. Raises EnvironmentLacks where nothing here can render."""
    if shutil.which("dot"):
        return _program(source, kind)
    if find_spec("pygraphviz"):
        return _library(source, kind)
    raise EnvironmentLacks(f"nothing here can draw {kind}: {ADVICE}; or write .dot or .html, which need neither")


def digest(source: str) -> str:
    """What a picture of the documentation carries of the DOT that it was drawn from, so that a stale one is found."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def keep(source: str, out: Path) -> None:
    """Write an SVG if it was drawn from other DOT. Raises EnvironmentLacks."""
    if not out.exists() or digest(source) not in out.read_text(encoding="utf-8"):
        svg = render(source, "svg").decode()
        out.write_text(f"{svg.rstrip()}\n<!-- {digest(source)} -->\n", encoding="utf-8")


def can_render() -> bool:
    return bool(shutil.which("dot") or find_spec("pygraphviz"))


def _program(source: str, kind: str) -> bytes:
    command = ["dot", f"-T{kind}", *_options(kind)]
    done = subprocess.run(command, input=source.encode(), capture_output=True, timeout=_SECONDS, check=False)
    if done.returncode or not done.stdout:
        raise EnvironmentLacks(f"`dot` failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _library(source: str, kind: str) -> bytes:
    import pygraphviz

    graph = pygraphviz.AGraph(string=source)
    if kind == "png":
        graph.graph_attr["dpi"] = "144"
    engine = graph.graph_attr["layout"]
    with _quiet_fontconfig():
        drawn: bytes = graph.draw(prog=engine, format=kind)
    return drawn


def _options(kind: str) -> list[str]:
    return ["-Gdpi=144"] if kind == "png" else []


class _quiet_fontconfig:
    """The library's own fontconfig is older than the system's files, and warns of it on stderr."""

    def __enter__(self) -> None:
        self.saved = os.dup(2)
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)

    def __exit__(self, *_: object) -> None:
        os.dup2(self.saved, 2)
        os.close(self.saved)
