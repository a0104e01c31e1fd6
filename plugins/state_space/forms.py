"""h[d, n] = exp(g[d] L[d, n]) h[d, n] + u[d] b[n], y[d] = sum_n c[n] h[d, n]: the selective scan (arXiv:2312.00752, section 3.3).

The expanded state is never written out over a sequence. Channels may lie in groups, each with a b and a c of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from operator import mul

from ssir.compilers.core import input_words
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.program.function import Function, taken
from ssir.ir.builder import Value
from ssir.ir.graph import Dependence, Graph, Type
from ssir.passes.facts import Facts


@dataclass(frozen=True)
class _Parts:
    """The factors of log A and of B, sorted: what varies with the input over channels, over the expansion, and constants; ``minus``
    is the sign of log A. ``groups`` are the axes of the channels that b and c vary over."""

    channels: tuple[str, ...]
    groups: tuple[str, ...]
    expansion: tuple[str, ...]
    gate: tuple[str, ...]
    rate: tuple[str, ...]
    wide: tuple[str, ...]
    narrow: tuple[str, ...]
    minus: bool


def _factors(graph: Graph, name: str, negative: bool = False) -> Iterator[tuple[str, bool]]:
    """The factors of a product, each with its sign."""
    node = graph[name]
    if node.op == "mul":
        left, right = node.inputs
        yield from _factors(graph, left, negative)
        yield from _factors(graph, right)
    elif node.op == "neg":
        yield from _factors(graph, node.inputs[0], not negative)
    else:
        yield name, negative


class SelectiveScan:
    name = "selective scan"
    native = True

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        node = facts.node
        x, b, c = (node.role(role) for role in ("x", "B", "C"))
        if (
            not facts.diagonal
            or facts.cycle is not None
            or facts.log is None
            or node.role("initial")
            or node.attrs["algebra"] != "plus_times"
        ):
            return None
        if x is None or b is None or c is None or not facts.contracted or facts.contracted != facts.expansion:
            return None
        if any(graph[name].type.dtype == "complex" for name in node.inputs):
            return None
        expansion = {axis.name for axis in facts.contracted}
        channels = {axis.name for axis in facts.axes} - expansion
        parts = self._parts(graph, facts.log, b, c, channels, expansion)
        if parts is None or not channels - set(parts.groups) or not set(graph[x].type.names) <= channels:
            return None
        groups = f", for each {'×'.join(parts.groups)} apart" if parts.groups else ""
        why = f"A is {facts.structure}, log A a product of a gate over {'×'.join(sorted(channels))} and a constant, and C sums over {'×'.join(sorted(expansion))} ({input_words(facts)}): a fused scan that never writes the expanded state out{groups}"
        return Match(self, why, details={"parts": parts})

    def _parts(self, graph: Graph, log: str, b: str, c: str, channels: set[str], expansion: set[str]) -> _Parts | None:
        gate: list[str] = []
        rate: list[str] = []
        wide: list[str] = []
        narrow: list[str] = []
        minus = False
        for name, negative in _factors(graph, log):
            minus ^= negative
            if graph[name].type.dependence is Dependence.CONSTANT:
                rate.append(name)
            elif set(graph[name].type.names) <= channels:
                gate.append(name)
            else:
                return None
        for name, negative in _factors(graph, b):
            if negative or not set(graph[name].type.names) <= channels | expansion:
                return None
            (wide if set(graph[name].type.names) <= channels else narrow).append(name)
        if not gate or not narrow:
            return None
        groups = {axis for name in (*narrow, c) for axis in graph[name].type.names} & channels
        return _Parts(
            tuple(sorted(channels)),
            tuple(sorted(groups)),
            tuple(sorted(expansion)),
            tuple(gate),
            tuple(rate),
            tuple(wide),
            tuple(narrow),
            minus,
        )

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        channels = facts.entries
        for axis in facts.contracted:
            channels //= axis.size or 1
        groups = [axis.size or 1 for axis in facts.axes if axis.name in match.details["parts"].groups]
        return Cost(10.0 * facts.entries, 16.0 * channels, at.scan / 3 * prod(groups))

    def sequence(self, f: Function, fact: Facts, match: Match) -> Value:
        node, parts = fact.node, match.details["parts"]
        own = [axis.name for axis in fact.axes if axis.name not in parts.expansion]
        groups = [name for name in own if name in parts.groups]
        channels = [*groups, *(name for name in own if name not in groups)]
        expansion = [axis.name for axis in fact.axes if axis.name in parts.expansion]
        x, c = (f.value(node.role(role) or "") for role in ("x", "C"))
        rate = _product(f, parts.rate)
        rate = -rate if parts.minus else rate
        sizes = {axis.name: axis.size or 1 for axis in fact.axes}
        y = f.kernel(
            "selective.grouped_scan" if groups else "selective.selective_scan",
            taken("full", _product(f, parts.gate), channels),
            taken("still", f.b.expand(rate, Type(fact.axes)), channels, expansion),
            taken("full", _product(f, parts.wide) * x, channels),
            taken("full", _product(f, parts.narrow), [*groups, *expansion]),
            taken("full", c, [*groups, *expansion]),
            gives=[channels],
            memories=[[node.name]],
            held=[channels, expansion],
            given="reset",
            options=[node.attrs["read"], *([prod(sizes[name] for name in groups)] if groups else [])],
        )
        return f.fed_through(node, y)


def _product(f: Function, names: Sequence[str]) -> Value:
    return reduce(mul, map(f.value, names), f.b.number(1.0))
