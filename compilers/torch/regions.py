"""Which nodes of a graph become the code of a module of their own: those of each component that was inlined.

Whatever a form computes across the borders of a component (a cycle, a cache in one and its readout in another) stays in the code around it:
such a component is dissolved, and the graph is written again.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ssir.compilers.forms import Match
from ssir.ir.graph import Graph, parents


class Again(Exception):
    """The regions have changed: what was written has to be written anew."""


class Regions:
    """``wanted``: by region and method, the values that the code around it asks for. ``texts``: by region, the methods written so far."""

    def __init__(self, graph: Graph, matches: Iterable[tuple[str, Match]] = (), whole: bool = False) -> None:
        self.paths = set() if whole else set(graph.calls)
        self.graph = graph
        self.wanted: dict[tuple[str, str], list[str]] = {}
        self.texts: dict[str, list[str]] = {}
        self.of = lru_cache(maxsize=None)(self._of)
        self.hold(graph, matches)

    def hold(self, graph: Graph, matches: Iterable[tuple[str, Match]]) -> None:
        """Keep together what forms of a graph compute together."""
        together = [*graph.cycles, *({name, *match.covers, *match.gives} for name, match in matches)]
        for names in together:
            self._keep_together(names)

    def _keep_together(self, names: Iterable[str]) -> None:
        """Dissolve the regions that hold only some of these nodes."""
        above: list[set[str]] = [{path for path in parents(name) if path in self.paths} for name in names]
        self.paths -= set[str]().union(*above) - set[str].intersection(*above)

    def _of(self, name: str) -> str:
        """The innermost region of a node; "" if it is in none."""
        found = ""
        for path in parents(name):
            if path in self.paths:
                found = path
        return found

    def below(self, region: str, name: str) -> str | None:
        """The outermost region inside another that holds a node, if one does."""
        depth = len(region) + 1 if region else 0
        return next((path for path in parents(name) if path in self.paths and len(path) >= depth), None)

    def nodes(self, region: str, graph: Graph) -> frozenset[str]:
        """All nodes of a graph that are in a region."""
        return frozenset(node.name for node in graph if region in parents(node.name))

    def dissolve(self, region: str) -> None:
        """Have its code written into that around it. Raises Again."""
        self.paths.discard(region)
        self.again()

    def again(self) -> None:
        self.of.cache_clear()
        self.texts = {}
        raise Again
