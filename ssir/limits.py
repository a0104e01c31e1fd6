"""What a machine can do at best: multiply matrices, and read memory. Other programs take some of it, from one second to the next, so what is
compared with it has to be measured by turns with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

_SHAPES = ((1024, 768, 3072), (1024, 2048, 2048), (2048, 4096, 1024))
_WIDE = 1 << 26  # numbers: more than caches hold


class Limits:
    """The fastest way of multiplying in ``dtype`` that there is here, by torch or by oneDNN with packed weights; and memory to be read."""

    def __init__(self, dtype: torch.dtype) -> None:
        ways = []
        with torch.no_grad():
            for rows, inner, outer in _SHAPES:
                x, w = torch.randn(rows, inner, dtype=dtype), torch.randn(outer, inner, dtype=dtype)
                work = 2e-9 * rows * inner * outer
                ways.append((work, partial(F.linear, x, w)))
                with suppress(RuntimeError, AttributeError):
                    packed = torch.ops.mkldnn._reorder_linear_weight(w, rows)
                    way = partial(torch.ops.mkldnn._linear_pointwise, x, packed, None, "none", [], "")
                    way()
                    ways.append((work, way))
            self._work, self._multiply = max(ways, key=lambda way: way[0] / _best(way[1], 0.3))
        self._wide = torch.ones(_WIDE)

    def multiply(self, seconds: float) -> float:
        """GFLOP/s."""
        with torch.no_grad():
            return self._work / _best(self._multiply, seconds)

    def read(self, seconds: float) -> float:
        """GB/s."""
        return 4e-9 * self._wide.numel() / _best(self._wide.sum, seconds)


def _best(call: Callable[[], Any], seconds: float) -> float:
    """The shortest time that a call takes."""
    call()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)
