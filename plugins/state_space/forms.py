"""h[d, n] = exp(g[d] L[d, n]) h[d, n] + u[d] b[n], y[d] = sum_n c[n] h[d, n]: the selective scan (arXiv:2312.00752, section 3.3).

The expanded state is never written out over a sequence. Channels may lie in groups, each with a b and a c of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from ssir.compilers.core import input_words
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.torch import ops, system
from ssir.compilers.torch.emit import Emitter
from ssir.ir.graph import Dependence, Graph
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

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        return self._write(e, fact, match, "")

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return self._write(e, fact, match, ".unsqueeze(1)")

    def _write(self, e: Emitter, fact: Facts, match: Match, lengthen: str) -> str:
        node, parts = fact.node, match.details["parts"]
        sizes = dict(node.attrs["axes"])
        own = [name for name in system.axes_of(node) if name not in parts.expansion]
        groups = [name for name in own if name in parts.groups]
        channels = [*groups, *(name for name in own if name not in groups)]
        expansion = [name for name in system.axes_of(node) if name in parts.expansion]
        x = node.role("x") or ""

        def over(names: Sequence[str], axes: Sequence[str]) -> str:
            product = " * ".join(ops.operand(e, name, axes) for name in names)
            whole = f"{e.function('operations', 'spread')}(time, {product}, {ops.shape([sizes[name] for name in axes])}, time.dtype)"
            return whole + (f".flatten({-len(axes)})" if len(axes) > 1 else "") + lengthen

        gate = e.let(f"{node.name}_gate", over(parts.gate, channels))
        into = e.let(f"{node.name}_in", over([*parts.wide, x], channels))
        b = e.let(f"{node.name}_b", over(parts.narrow, [*groups, *expansion]))
        c = e.let(f"{node.name}_c", over([node.role("C") or ""], [*groups, *expansion]))
        rate = self._rate(e, fact, channels, expansion)
        flat = f"({_product(sizes, channels)}, {_product(sizes, expansion)})"
        h0 = e.let(f"{node.name}_before", f"old.get({e.key(node)})")
        order = [system.axes_of(node).index(name) + 1 for name in [*channels, *expansion]]
        if order != sorted(order) or len(order) > 2:
            h0 = f"{e.function('memory', 'arranged')}({h0}, {ops.shape([0, *order])}, {flat})"
        y, last = e.fresh(f"{node.name}_read"), e.fresh(f"{node.name}_last")
        reset = "time.reset" if not lengthen else "None if time.reset is None else time.reset.unsqueeze(1)"
        call = f'{gate}, {rate}, {into}, {b}, {c}, {h0}, {reset}, "{node.attrs["read"]}"'
        if groups:
            call = f"{e.function('selective', 'grouped_scan')}({_product(sizes, groups)}, {call})"
        else:
            call = f"{e.function('selective', 'selective_scan')}({call})"
        e.line(f"{y}, {last} = {call}")
        e.line(f"new[{e.key(node)}] = {self._back(last, sizes, channels, expansion, order)}")
        text = f"{y}.squeeze(1)" if lengthen else y
        if len(channels) > 1:
            text = f"{text}.unflatten(-1, {ops.shape([sizes[name] for name in channels])})"
        return system.feed_through(e, node, ops.fit(text, channels, node.type.names, ops.LEADS[e.mode]))

    def _rate(self, e: Emitter, fact: Facts, channels: Sequence[str], expansion: Sequence[str]) -> str:
        """The constant factors of log A as [channels, expansion]."""
        node = fact.node
        parts: _Parts = e.match[node.name].details["parts"]
        sizes = dict(node.attrs["axes"])
        axes = [*channels, *expansion]
        key = f"rate {node.name}"
        c = e.unit.constant
        if key not in c.names:
            product = " * ".join(ops.operand(c, name, axes) for name in parts.rate)
            sign = "-" if parts.minus else ""
            known = all(e.node(name).op == "const" for name in parts.rate)
            text = f"({sign}{product})"
            if known:
                text = f"torch.full((), {sign}{product or 1.0}, dtype=time.dtype, device=time.device)"
            text += f".expand({', '.join(str(sizes[name]) for name in axes)})"
            if len(axes) > 2:
                text += f".reshape({_product(sizes, channels)}, {_product(sizes, expansion)})"
            c.names[key] = c.let(f"{node.name}_rate", text)
        return e.unit.keep_text(c.names[key])

    def _back(
        self, last: str, sizes: dict[str, int], channels: Sequence[str], expansion: Sequence[str], order: list[int]
    ) -> str:
        if len(order) > 2:
            last = f"{last}.reshape(-1, {', '.join(str(sizes[name]) for name in [*channels, *expansion])})"
        if order != sorted(order):
            last = f"{last}.permute(0, {', '.join(str(order.index(i) + 1) for i in sorted(order))})"
        return last


def _product(sizes: dict[str, int], names: Sequence[str]) -> int:
    total = 1
    for name in names:
        total *= sizes[name]
    return total
