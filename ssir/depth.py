"""Room for walks as deep as what they walk over."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_FRAMES = 12_000


class TooDeep(Exception):
    """What was walked is deeper than there is room for."""


@contextmanager
def deep() -> Iterator[None]:
    """Let a walk call itself a few thousand deep, and raise TooDeep beyond. Python's own limit fits no graph of 200 nodes in a row."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _FRAMES))
    try:
        yield
    except RecursionError:
        raise TooDeep from None
    finally:
        sys.setrecursionlimit(before)
