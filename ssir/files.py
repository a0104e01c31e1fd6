"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssir.errors import UsageError


@contextmanager
def written(directory: str | os.PathLike[str], force: bool, mark: str, kind: str) -> Iterator[Path]:
    """A new folder to write into, which takes its place at the end. mark: the file that tells what is there already to be of this kind: nothing else is
    ever replaced. Raises UsageError if something is there (unless ``force``), or is of another kind."""
    target = Path(directory)
    if target.exists() and not force:
        raise UsageError(f"`{target}` is there already; `--force` replaces it")
    if target.exists() and not (target / mark).is_file():
        raise UsageError(f"`{target}` is no {kind}, so it is not replaced")
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield made
        made.chmod(0o755)
        if target.exists():
            old = made.with_name(f"{made.name}-old")
            target.rename(old)
            made.rename(target)
            shutil.rmtree(old)
        else:
            made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def replace(out: Path, content: bytes) -> None:
    """Write a file, which takes its place at the end."""
    handle, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, out)
    except BaseException:
        os.unlink(name)
        raise
