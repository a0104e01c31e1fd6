"""Two architectures compared, as facts: row by row, each of the one, of the other, and whether they are the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import networkx as nx

from ssir import passes
from ssir.cli.say import memory, quantity
from ssir.compilers.plan import Plan, plan
from ssir.diff.around import FEATURES, Block, blocks
from ssir.diff.equal import fingerprint
from ssir.diff.memories import COUNTING, Memory, Pair, memories, parts
from ssir.diff.rows import NONE, Row, Section, facts, renamed, states
from ssir.diff.sentences import sentence
from ssir.diff.width import Setting
from ssir.draw import shown
from ssir.draw.shown import Part
from ssir.ir.graph import Graph, parameters
from ssir.spec.load import Spec

_KINDS = (*COUNTING, "filter", "delay")
_ANY, _WORD = "·", re.compile(r"\w+")
_LONG_NUMBER = re.compile(r"\d+\.\d{5,}(?:e-?\d+)?")
_LONGEST, _MOST_BEGUN = 44, 6


@dataclass(frozen=True)
class Side:
    """One of the two, at the sizes that they are compared at."""

    spec: Spec

    @property
    def name(self) -> str:
        return self.spec.name

    @cached_property
    def graph(self) -> Graph:
        return shown.canonical(self.spec)

    @cached_property
    def plan(self) -> Plan:
        return plan(passes.run(self.spec.graph))

    @cached_property
    def parts(self) -> list[Part]:
        return shown.mixers(self.spec)

    @cached_property
    def memories(self) -> list[list[Memory]]:
        return [memories(part, self.plan) for part in self.parts]


@dataclass(frozen=True)
class Comparison:
    """``a`` and ``b``: at equal width, as far as ``setting`` says."""

    a: Side
    b: Side
    setting: Setting

    @cached_property
    def same(self) -> bool:
        """Whether nothing differs but names, and the order of commuting operands."""
        return fingerprint(self.a.graph) == fingerprint(self.b.graph)

    @cached_property
    def parts(self) -> list[tuple[int | None, int | None, list[Pair]]]:
        return parts(self.a.memories, self.b.memories)

    @property
    def pairs(self) -> list[Pair]:
        return [pair for _, _, found in self.parts for pair in found]

    def sentence(self, pair: Pair) -> str | None:
        """What makes one of two states the other, if few words say it."""
        if pair.a.kind not in COUNTING:
            return None
        alone = all(
            sum(one.kind in COUNTING for part in side.memories for one in part) == 1 for side in (self.a, self.b)
        )
        return sentence(pair, *_names(self.a.name, self.b.name), alone)

    @cached_property
    def sentences(self) -> list[str]:
        """What makes states of the one those of the other."""
        return list(dict.fromkeys(text for text in map(self.sentence, self.pairs) if text))

    @cached_property
    def states(self) -> list[Section]:
        """The states that answer to each other, then those that only one has."""
        pairs = sorted(self.pairs, key=lambda pair: _KINDS.index(pair.a.kind))
        found = [states(pair) for pair in pairs]
        for side, first in ((self.a, True), (self.b, False)):
            taken = {id(pair.a if first else pair.b) for pair in self.pairs}
            for one in (one for part in side.memories for one in part if id(one) not in taken):
                rows = tuple(
                    Row(what, text if first else NONE, NONE if first else text, False)
                    for what, text in facts(one).items()
                )
                found.append(Section("state", one.name if first else "", "" if first else one.name, rows))
        return found

    @cached_property
    def blocks(self) -> list[Section]:
        """What stands around the states, block by block."""
        axes = {**self.setting.axes, **{x: y for pair in self.pairs for x, y in renamed(pair).items()}}
        known = [
            {axis for one in side.graph.walk() for node in one for axis in node.type.names} for side in (self.a, self.b)
        ]
        strange = dict.fromkeys(
            (*(known[0] - known[1] - axes.keys()), *(known[1] - known[0] - set(axes.values()))), _ANY
        )
        return [
            _block(one, other, axes, strange) for one, other in _aligned(blocks(self.a.graph), blocks(self.b.graph))
        ]

    @cached_property
    def begins(self) -> Row | None:
        """How parameters begin and are trained, where that differs."""
        mine, theirs = _trained(self.a.graph), _trained(self.b.graph)
        if mine == theirs:
            return None
        return Row("parameters begin as", _begun(mine - theirs), _begun(theirs - mine), False)

    @cached_property
    def totals(self) -> tuple[Row, ...]:
        mine, theirs = self.a.plan, self.b.plan
        return (
            _number("parameters", mine.parameters, theirs.parameters),
            Row(
                "state of a sequence",
                memory(mine.state_bytes, mine.growth),
                memory(theirs.state_bytes, theirs.growth),
                (mine.state_bytes, mine.growth) == (theirs.state_bytes, theirs.growth),
            ),
            _number("FLOPs per token", mine.flops, theirs.flops),
        )

    @cached_property
    def unseen(self) -> str:
        """What is said where the graphs differ, and no row does."""
        if self.same or not all(section.same for section in (*self.states, *self.blocks)) or self.begins:
            return ""
        mine, theirs = _operations(self.a.graph), _operations(self.b.graph)
        apart = [", ".join(sorted(x)) or NONE for x in (mine - theirs, theirs - mine)]
        return (
            f"elsewhere: {apart[0]}; in the other: {apart[1]}" if any(x != NONE for x in apart) else "wired otherwise"
        )

    def record(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "a": self.a.name,
            "b": self.b.name,
            "same": self.same,
            "set": self.setting.record(),
            "sentences": self.sentences,
            "states": [section.record() for section in self.states],
            "blocks": [section.record() for section in self.blocks],
            "begins": self.begins and self.begins.record(),
            "unseen": self.unseen,
            "totals": {
                letter: {
                    "parameters": side.plan.parameters,
                    "state_bytes": side.plan.state_bytes,
                    "bytes_per_token": side.plan.growth,
                    "flops_per_token": side.plan.flops,
                }
                for letter, side in (("a", self.a), ("b", self.b))
            },
        }


def _names(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a != b else (f"the first {a}", f"the second {b}")


def _number(what: str, a: float, b: float) -> Row:
    return Row(what, quantity(a), quantity(b), a == b)


def _aligned(a: Sequence[Block], b: Sequence[Block]) -> list[tuple[Block | None, Block | None]]:
    """Layers that have most in common, and what stands around them; then the layers of one alone."""
    graph: nx.Graph[tuple[int, int]] = nx.Graph()
    mine, theirs = a[:-1], b[:-1]
    for i, one in enumerate(mine):
        for j, other in enumerate(theirs):
            both = (one.everything & other.everything).total()
            graph.add_edge((0, i), (1, j), weight=1 + both - 0.001 * abs(i - j))
    found = sorted(tuple(sorted(edge)) for edge in nx.max_weight_matching(graph))
    taken = {end for edge in found for end in edge}
    return [
        *((mine[x[1]], theirs[y[1]]) for x, y in found),
        *((one, None) for i, one in enumerate(mine) if (0, i) not in taken),
        *((None, other) for j, other in enumerate(theirs) if (1, j) not in taken),
        (a[-1], b[-1]),
    ]


def _block(one: Block | None, other: Block | None, axes: dict[str, str], strange: dict[str, str]) -> Section:
    """``axes``: the axes that answer to each other; ``strange``: those that nothing in the other answers to."""
    rows = []
    for feature in FEATURES:
        mine = one.features[feature] if one else Counter[str]()
        theirs = other.features[feature] if other else Counter[str]()
        if mine or theirs:
            a = one.said(feature) if one and mine else NONE
            b = other.said(feature) if other and theirs else NONE
            rows.append(Row(feature, a, b, _translated(mine, {**strange, **axes}) == _translated(theirs, strange)))
    if one and other and (one.times, other.times) != (1, 1):
        rows.append(Row("times", str(one.times), str(other.times), one.times == other.times))
    return Section("block", _titled(one), _titled(other), tuple(rows))


def _titled(block: Block | None) -> str:
    if block is None:
        return ""
    return f"{block.title} × {block.times}" if block.times > 1 else block.title


def _translated(found: Counter[str], axes: dict[str, str]) -> Counter[str]:
    """What is counted, with other names for axes."""
    result: Counter[str] = Counter()
    for what, count in found.items():
        result[_WORD.sub(lambda word: axes.get(word[0], word[0]), what)] += count
    return result


def _begun(found: set[str]) -> str:
    """Initialisers, the short ones first, their numbers to four digits."""
    short = sorted(
        (_LONG_NUMBER.sub(lambda n: f"{float(n[0]):.4g}", one) for one in found), key=lambda one: (len(one), one)
    )
    shown = [one if len(one) <= _LONGEST else f"{one[:_LONGEST]}…" for one in short[:_MOST_BEGUN]]
    more = [f"and {len(short) - _MOST_BEGUN} more"] if len(short) > _MOST_BEGUN else []
    return "\n".join([*shown, *more]) or NONE


def _trained(graph: Graph) -> set[str]:
    """How the parameters of a graph begin and are trained."""
    found: set[str] = set()
    for _, node, _, _ in parameters(graph):
        rate = "" if node.attrs["lr"] == 1 else f", rate × {node.attrs['lr']:g}"
        decay = "" if node.attrs["decay"] else ", no decay"
        found.add(
            f"{node.attrs['init']}{decay}{rate}" if node.attrs["learned"] else f"{node.attrs['init']}, not learned"
        )
    return found


def _operations(graph: Graph) -> Counter[str]:
    """What is done in a graph and its layers, with the numbers that go with it."""
    found: Counter[str] = Counter()
    for one in graph.walk():
        for node in one:
            said = [
                f"{key} {value}" for key, value in sorted(node.attrs.items()) if isinstance(value, bool | int | float)
            ]
            found[" ".join([node.op, *said])] += 1
    return found
