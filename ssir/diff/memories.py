"""The memories of two architectures side by side: which answers to which, by what they are, and which axes do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import networkx as nx

from ssir.analysis.facts import Facts, facts
from ssir.compilers.plan import Entry, Plan
from ssir.diff import law
from ssir.draw.circuit import System
from ssir.draw.equations import system
from ssir.draw.shown import Part
from ssir.draw.signals import Signals
from ssir.draw.values import delayed_by, is_filter
from ssir.ir.graph import Graph, Node

COUNTING = ("memory", "cache")
_MOST_PUT = 2


@dataclass(frozen=True)
class Memory:
    """A state in the part of an architecture that mixes over time. ``entry``: what the plan says of it."""

    part: Part
    node: Node
    entry: Entry | None

    @property
    def graph(self) -> Graph:
        return self.part.graph

    @cached_property
    def facts(self) -> Facts:
        return facts(self.graph, self.node)

    @cached_property
    def signals(self) -> Signals:
        return Signals(self.graph, self.part.symbols)

    @cached_property
    def system(self) -> System:
        return system(self.graph, self.node, "", self.part.symbols)

    @property
    def name(self) -> str:
        return self.system.title.rpartition(" · ")[2]

    @cached_property
    def law(self) -> law.Law:
        return law.law(self.graph, self.node)

    @cached_property
    def kind(self) -> str:
        """What it is for: a delay, a filter with constant taps, a cache that something else reads out, or a memory that counts."""
        if delayed_by(self.graph, self.node) is not None:
            return "delay"
        if is_filter(self.graph, self.node):
            return "filter"
        return "cache" if self.facts.structure.kind == "shift" and self.node.role("C") is None else "memory"

    def over(self, role: str) -> tuple[str, ...]:
        """The axes that a coefficient varies over, those of the state first, less those of size 1."""
        name = self.node.role(role)
        given = self.graph[name].type.axes if name else ()
        own = [axis.name for axis in self.facts.axes]
        found = [axis.name for axis in given if axis.size != 1]
        return tuple(sorted(found, key=lambda axis: own.index(axis) if axis in own else len(own)))

    def place(self, axis: str) -> tuple[bool, bool, bool]:
        """What an axis is for: the input has it; the readout uses it up; the memory shifts along it."""
        c, x = self.node.role("C"), self.node.role("x")
        entering = x is not None and axis in self.graph[x].type.names
        return entering, c is not None and axis in self.graph[c].type.names, axis == self.facts.structure.over


def memories(part: Part, plan: Plan) -> list[Memory]:
    """The states of a part, with what the plan of the whole says of each."""
    found: list[Memory] = []
    for node in part.graph.states:
        axes = tuple(tuple(pair) for pair in node.attrs["axes"])
        fitting = [
            entry
            for entry in plan.entries
            if f".{entry.path}".endswith(f".{node.name}")
            and tuple((axis.name, axis.size) for axis in entry.facts.axes) == axes
        ]
        found.append(Memory(part, node, fitting[0] if fitting else None))
    return found


@dataclass(frozen=True)
class Same:
    """One state follows from another's law: which of the two it is that does, and what is put in."""

    second: bool
    put: Mapping[str, law.Put]


@dataclass(frozen=True)
class Pair:
    a: Memory
    b: Memory

    @cached_property
    def axes(self) -> dict[frozenset[str], frozenset[str]]:
        """Which axes answer to which: one to one where there are as many of a kind, by name, then in order; else all to all."""
        found: dict[frozenset[str], frozenset[str]] = {}
        sides = [[axis for axis in one.facts.axes if axis.size != 1] for one in (self.a, self.b)]
        for place in dict.fromkeys(self.a.place(axis.name) for axis in sides[0]):
            mine = [axis.name for axis in sides[0] if self.a.place(axis.name) == place]
            theirs = [axis.name for axis in sides[1] if self.b.place(axis.name) == place]
            if len(mine) == len(theirs):
                shared = [name for name in mine if name in theirs]
                rest = zip((n for n in mine if n not in shared), (n for n in theirs if n not in shared), strict=True)
                found |= {frozenset({x}): frozenset({y}) for x, y in [*((n, n) for n in shared), *rest]}
            elif theirs:
                found[frozenset(mine)] = frozenset(theirs)
        return found

    def alike(self, mine: Sequence[str], theirs: Sequence[str]) -> bool:
        """Whether axes of the one are those of the other; of those that the states lack as many."""
        left, right = set(mine), set(theirs)
        for x, y in self.axes.items():
            if x <= left and y <= right:
                left -= x
                right -= y
        inside = (left & {axis.name for axis in self.a.facts.axes}) | (
            right & {axis.name for axis in self.b.facts.axes}
        )
        return not inside and len(left) == len(right)

    @cached_property
    def same(self) -> Same | None:
        """How one state is a case of the other, if few words say it."""
        a, b = self.a, self.b
        if any(a.node.attrs[key] != b.node.attrs[key] for key in ("read", "algebra")):
            return None
        ways: list[Same] = []
        for second, one, other in ((True, a, b), (False, b, a)):
            for put in law.follow(one.law, other.law):
                ways.append(Same(second, law.told(one.law, put)))
        best = min(ways, key=lambda way: (len(way.put), sum(p.term.size for p in way.put.values())), default=None)
        return best if best is not None and len(best.put) <= _MOST_PUT else None

    @property
    def affinity(self) -> float:
        """How much the two have in common; 0 where they are for different things."""
        a, b = self.a, self.b
        if a.kind != b.kind:
            return 0.0
        score: float = 1.0 + 3 * (a.facts.structure.kind == b.facts.structure.kind)
        score += 2 * (("C" in a.node.attrs["roles"]) == ("C" in b.node.attrs["roles"]))
        score += sum(a.facts.dependence.get(r) == b.facts.dependence.get(r) for r in "ABCD") / 4
        score += 0.5 * (set(a.node.attrs["roles"]) == set(b.node.attrs["roles"]))
        score += 0.5 * (a.node.attrs["read"] == b.node.attrs["read"])
        score += 0.2 * (a.name == b.name) + 0.2 * (a.facts.axes == b.facts.axes)
        return score + 0.3 * (self._mean() == 1.0)

    def _mean(self) -> float:
        """How large a part of their readers is called alike: which of several like memories is meant."""
        mine, theirs = ({one.graph[user].op for user in one.graph.users[one.node.name]} for one in (self.a, self.b))
        return len(mine & theirs) / max(len(mine | theirs), 1)


def paired(a: Sequence[Memory], b: Sequence[Memory]) -> tuple[list[Pair], float]:
    """The memories that answer to each other, so that they have most in common as a whole; and how much that is."""
    graph: nx.Graph[tuple[int, int]] = nx.Graph()
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            affinity = Pair(one, other).affinity
            if affinity:
                # What counts most is counted first: a memory before filters and delays. Ties go by the order in the text.
                weight = affinity * (10 if one.kind in COUNTING else 1) - 0.001 * abs(i - j)
                graph.add_edge((0, i), (1, j), weight=weight)
    matching = [tuple(sorted(edge)) for edge in nx.max_weight_matching(graph)]
    found = sorted((x[1], y[1]) for x, y in matching)
    total = sum(graph.edges[(0, i), (1, j)]["weight"] for i, j in found)
    return [Pair(a[i], b[j]) for i, j in found], total


def parts(a: Sequence[list[Memory]], b: Sequence[list[Memory]]) -> list[tuple[int | None, int | None, list[Pair]]]:
    """Which part answers to which, by their memories, and those; a part that is left over stands alone."""
    graph: nx.Graph[tuple[int, int]] = nx.Graph()
    pairs: dict[tuple[int, int], list[Pair]] = {}
    for i, mine in enumerate(a):
        for j, theirs in enumerate(b):
            pairs[i, j], weight = paired(mine, theirs)
            graph.add_edge((0, i), (1, j), weight=weight + 1 / (1 + len(mine) + len(theirs)) - 0.0001 * abs(i - j))
    matching = [tuple(sorted(edge)) for edge in nx.max_weight_matching(graph)]
    found = sorted((x[1], y[1]) for x, y in matching)
    taken: tuple[set[int], set[int]] = ({i for i, _ in found}, {j for _, j in found})
    return [
        *((i, j, pairs[i, j]) for i, j in found),
        *((i, None, []) for i in range(len(a)) if i not in taken[0]),
        *((None, j, []) for j in range(len(b)) if j not in taken[1]),
    ]
