"""S[t] = A[t] S[t-1] + k[t] v[t], y[t] = q[t] S[t], in chunks of matrix products: A a scalar per head (SSD, arXiv:2405.21060)
or a diagonal over the keys (arXiv:2312.06635)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ssir.compilers.core import input_words
from ssir.compilers.forms import Cost, Match
from ssir.compilers.torch import ops, system
from ssir.compilers.torch.emit import Emitter
from ssir.ir.graph import Graph
from ssir.passes.facts import Facts

_CHUNK = 64


@dataclass(frozen=True)
class _Axes:
    heads: tuple[str, ...]
    keys: tuple[str, ...]
    values: tuple[str, ...]


class Chunked:
    """``by_key``: whether A varies along the keys."""

    def __init__(self, name: str, by_key: bool) -> None:
        self.name, self.by_key = name, by_key

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        node = facts.node
        x, b, c = (node.role(role) for role in ("x", "B", "C"))
        identity = facts.structure.kind == "identity"
        if (
            not facts.diagonal
            or facts.cycle is not None
            or not (facts.log or identity)
            or node.attrs["algebra"] != "plus_times"
        ):
            return None
        if (
            x is None
            or b is None
            or c is None
            or not facts.contracted
            or facts.contracted != facts.expansion
            or node.role("initial")
        ):
            return None
        if any(graph[name].type.dtype == "complex" for name in node.inputs):
            return None
        keys = {axis.name for axis in facts.contracted}
        decay = set(graph[facts.log].type.names) if facts.log else set()
        touched = decay | set(graph[b].type.names) | set(graph[c].type.names)
        inside = [axis.name for axis in facts.axes]
        values = tuple(name for name in inside if name not in touched and name not in keys)
        heads = tuple(name for name in inside if name in touched and name not in keys)
        if not touched <= set(inside) or not set(graph[x].type.names) <= set(inside) or not values:
            return None
        if bool(decay & keys) != self.by_key:
            return None
        axes = _Axes(heads, tuple(name for name in inside if name in keys), values)
        sort = (
            f"a diagonal over {'×'.join(axes.keys)}"
            if self.by_key
            else "one number per head"
            if decay
            else "the identity"
        )
        why = f"A is {sort}, and what enters is an outer product ({input_words(facts)}): matrix products over chunks of {_CHUNK} steps"
        return Match(self, why, details={"axes": axes})

    def cost(self, graph: Graph, facts: Facts, match: Match) -> Cost:
        sizes = {axis.name: axis.size or 1 for axis in facts.axes}
        axes: _Axes = match.details["axes"]
        heads, keys, values = (prod(sizes[name] for name in group) for group in (axes.heads, axes.keys, axes.values))
        return Cost(heads * (4.0 * keys * values + _CHUNK * (keys + values)), 4.0 * heads * (3 * keys + 2 * values), 40)

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        node, axes = fact.node, match.details["axes"]
        sizes = dict(node.attrs["axes"])
        c, b, x = (node.role(role) or "" for role in ("C", "B", "x"))
        shared = not any(axis in axes.heads for name in (b, c) for axis in e.node(name).type.names)
        q = self._operand(e, c, () if shared else axes.heads, axes.keys, sizes)
        k = self._operand(e, b, () if shared else axes.heads, axes.keys, sizes)
        v = self._operand(e, x, axes.heads, axes.values, sizes)
        g = "None" if fact.log is None else self._gate(e, fact, axes, sizes)
        flat = ops.shape([prod(sizes[name] for name in group) for group in (axes.heads, axes.keys, axes.values)])
        order = [*axes.heads, *axes.keys, *axes.values]
        own = system.axes_of(node)
        places = [own.index(name) + 1 for name in order]
        h0 = f"{e.function('memory', 'arranged')}(old.get({e.key(node)}), {ops.shape([0, *places])}, {flat})"
        y, last = e.fresh(f"{node.name}_read"), e.fresh(f"{node.name}_last")
        kernel = e.function("chunked", "key_decay" if self.by_key else "scalar_decay")
        e.line(f'{y}, {last} = {kernel}({q}, {k}, {v}, {g}, {h0}, time.reset, "{node.attrs["read"]}")')
        back = f"{last}.reshape(-1, {', '.join(str(sizes[name]) for name in order)})"
        if order != own:
            back += f".permute(0, {', '.join(str(order.index(name) + 1) for name in own)})"
        e.line(f"new[{e.key(node)}] = {back}")
        whole = [*axes.heads, *axes.values]
        if (len(axes.heads), len(axes.values)) != (1, 1):
            y = f"{y}.reshape(time.batch, time.steps, {', '.join(str(sizes[name]) for name in whole)})"
        return system.feed_through(e, node, ops.fit(y, whole, node.type.names, 2))

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return system.step(e, fact)

    def _operand(self, e: Emitter, name: str, heads: Sequence[str], rest: Sequence[str], sizes: dict[str, int]) -> str:
        """[batch, steps, heads (1 if there are none), rest]."""
        axes = [*heads, *rest]
        size = ops.shape([sizes[axis] for axis in axes])
        wide = f"{e.function('operations', 'spread')}(time, {ops.operand(e, name, axes)}, {size}, time.data)"
        text = e.let(f"{name}_wide", wide)
        if len(rest) > 1:
            text = f"{text}.flatten({-len(rest)})"
        if len(heads) > 1:
            text = f"{text}.flatten({-1 - len(heads)}, -2)"
        return text if heads else f"{text}.unsqueeze(-2)"

    def _gate(self, e: Emitter, fact: Facts, axes: _Axes, sizes: dict[str, int]) -> str:
        log = fact.log or ""
        wanted = [*axes.heads, *(axes.keys if self.by_key else ())]
        text = ops.operand(e, log, wanted)
        spread = f"{e.function('operations', 'spread')}(time, {text}, {ops.shape([sizes[name] for name in wanted])}, time.dtype)"
        gate = e.let(f"{log}_wide", spread)
        if self.by_key and len(axes.keys) > 1:
            gate = f"{gate}.flatten({-len(axes.keys)})"
        after = 1 if self.by_key else 0
        if len(axes.heads) > 1:
            gate = f"{gate}.flatten({-len(axes.heads) - after}, {-1 - after})"
        return gate if axes.heads else f"{gate}.unsqueeze({-1 - after})"


FORMS = (Chunked("chunked, scalar decay", False), Chunked("chunked, decay by key", True))
