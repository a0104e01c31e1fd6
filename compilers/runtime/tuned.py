"""Chooses among the ways in which a kernel can be laid out, on the machine that it runs on. Each is first held against the kernel's twin: one that is
wrong is never timed, nor chosen. It takes minutes, so it has to be asked for (SSIR_TUNE=1); what was chosen is kept for the machine, and used from
then on, asked for or not.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar

import torch

from . import native

Way = TypeVar("Way", bound=tuple[Any, ...])  # a NamedTuple of numbers
_SAMPLES = 7


def asked() -> bool:
    return os.environ.get("SSIR_TUNE") == "1"


def chosen(
    what: Sequence[object],
    device: torch.device,
    first: Way,
    others: Callable[[], Sequence[Way]],
    right: Callable[[Way], bool],
    run: Callable[[Way], object],
) -> Way:
    """The fastest of ``first``, which is taken where nobody asks, and ``others`` that are right. ``what`` tells all apart that may need
    something else; a way that cannot run is not right."""
    known, name = _known(device), repr(tuple(what))
    if name in known:
        return type(first)(*known[name])
    if not asked():
        return first
    times = {way: _seconds(run, way, device) for way in [first, *others()] if _holds(right, way)}
    best = min(times, key=times.__getitem__, default=first)
    known[name] = list(best)
    _keep(device, known)
    return best


def _holds(right: Callable[[Way], bool], way: Way) -> bool:
    try:
        return right(way)
    except Exception:  # what the compiler cannot make, or the machine has no room for
        return False


def _seconds(run: Callable[[Way], object], way: Way, device: torch.device) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    found = []
    for _ in range(_SAMPLES):
        wait()
        start = time.perf_counter()
        run(way)
        wait()
        found.append(time.perf_counter() - start)
    return median(found[1:])


@cache
def _known(device: torch.device) -> dict[str, list[Any]]:
    """What was chosen before, on such a machine."""
    try:
        found = json.loads(_path(device).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep(device: torch.device, known: dict[str, list[Any]]) -> None:
    """Written beside it, then put in its place."""
    path = _path(device)
    try:
        with NamedTemporaryFile("w", dir=path.parent, suffix=".json", delete=False, encoding="utf-8") as text:
            json.dump(known, text, indent=1)
        Path(text.name).replace(path)
    except OSError:
        return  # it is measured anew the next time


def _path(device: torch.device) -> Path:
    try:
        compiler = version("triton")
    except PackageNotFoundError:
        compiler = "none"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "processor"
    plain = "".join(letter if letter.isalnum() else "-" for letter in f"{name}-{torch.__version__}-{compiler}")
    return native.cache_directory() / f"tuned-{plain}.json"
