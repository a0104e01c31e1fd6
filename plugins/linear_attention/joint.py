"""States of a cycle that are affine in one another, a matrix per head between them plus an outer product along the keys: in chunks.

W[t] = keep W[t-1] + M[t],  M[t] = beta M[t-1] - rate k (k . W[t-1] - v),  y[t] = q . W[t]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.loops.region import Region, Unfit, region
from ssir.compilers.torch import ops, system
from ssir.compilers.torch.emit import Emitter
from ssir.ir.graph import Graph
from ssir.passes import joint
from ssir.passes.facts import Facts
from ssir.plugins.linear_attention.forms import CHUNK, Axes, after, before, read, sizes_of, wide


@dataclass(frozen=True)
class _Found:
    """``around``: by input of the step, the node of the graph that it is; ``readouts``: the nodes that are sums
    of its states along the keys."""

    what: joint.Joint
    step: Region
    around: Mapping[str, str]
    readouts: tuple[str, ...]
    axes: Axes


class Joint:
    """All states of a cycle."""

    name = "chunked, joint states"
    steps_by_node = True

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        found = None if facts.cycle is None else _found(graph, facts.cycle)
        if found is None:
            return None
        names = [name for memory in found.step.memories for name in memory.states]
        others = tuple(name for name in names if name != facts.node.name)
        first = ", ".join(f"`{memory.states[-1]}`" for memory in found.step.memories)
        why = f"{first} are affine in one another, by a matrix per head and an outer product along {found.what.over}: matrix products and a triangular system over chunks of {CHUNK} steps"
        return Match(self, why, others, found.readouts, {"found": found})

    def cost(self, graph: Graph, facts: Facts, match: Match, at: Setting) -> Cost:
        what: joint.Joint = match.details["found"].what
        heads, keys, values = sizes_of(facts.node, match.details["found"].axes)
        rows, columns, states = 1 + len(what.reads), len(what.entering), len(what.between)
        pairs = rows * columns * CHUNK
        inside = pairs * (2 * keys + 4 * states) + 2 * CHUNK * (2 * states * keys + (1 + rows) * values)
        along = 2 * states * keys * (states * keys + (1 + rows + columns + states) * values)
        moved = 4.0 * heads * (20 * states * keys + 16 * pairs + 10 * values)
        return Cost(float(heads * (inside + along)), moved, 150.0 + 7 * -(-at.steps // CHUNK))

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        found: _Found = match.details["found"]
        what, axes, node = found.what, found.axes, fact.node
        write = _Writer(e, found)

        def along(product: joint.Product) -> str:
            return wide(e, node, write.product(product, (*axes.heads, what.over)), "keys", axes.heads, axes.keys)

        def value(products: joint.Sum) -> str:
            return wide(e, node, write.sum(products, (*axes.heads, *axes.values)), "values", axes.heads, axes.values)

        def stacked(texts: Sequence[str]) -> str:
            return f"torch.stack(({', '.join(texts)},), 3)"

        firsts = [e.node(memory.states[0]) for memory in found.step.memories]
        operands = [
            write.table(what.between),
            along(what.right),
            str(what.source),
            stacked([along(one.key) for one in what.entering]),
            write.table([one.into for one in what.entering]),
            stacked([value(one.value) for one in what.entering]),
            stacked([along(one.query) for one in what.reads]),
            str([one.state for one in what.reads]),
            f"{e.function('joint', 'together')}({', '.join(before(e, first, axes) for first in firsts)})",
            "time.reset",
            f'"{what.read}"',
        ]
        y, last = e.fresh(f"{node.name}_reads"), e.fresh(f"{node.name}_last")
        e.line(f"{y}, {last} = {e.function('joint', 'joint')}({', '.join(operands)})")
        for i, memory in enumerate(found.step.memories):
            for one in map(e.node, memory.states):
                text = after(one, axes, f"{last}[:, :, {i}]")
                e.line(f"new[{e.key(one)}] = {f'time.as_data({text})' if e.unit.kind(one) == 'data' else text}")
        for i, name in enumerate(found.readouts):
            text = read(node, axes, f"{y}[:, :, :, {i}]", e.node(name).type.names)
            e.names[name] = e.let(name, f"time.as_data({text})")
        return e.names[found.readouts[0]]

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return system.step(e, fact)


@dataclass(frozen=True)
class _Writer:
    """Writes sums of products over axes."""

    e: Emitter
    found: _Found

    def product(self, product: joint.Product, axes: Sequence[str]) -> str:
        factors, under = (
            [ops.operand(self.e, self.found.around[name], axes) for name in names]
            for names in (product.factors, product.under)
        )
        return " / ".join([" * ".join(factors) or "1.0", *under])

    def sum(self, products: joint.Sum, axes: Sequence[str]) -> str:
        signs = {1.0: "", -1.0: "-"}
        terms = (f"{signs.get(n, f'{n!r} * ')}{self.product(one, axes)}" for one, n in products.items())
        return " + ".join(terms) or "0.0"

    def table(self, rows: Sequence[Sequence[joint.Sum]]) -> str:
        """Numbers per head, as [batch, steps, heads, rows, columns]."""
        heads = self.found.axes.heads
        sizes = dict(self.e.node(self.found.step.memories[0].states[0]).attrs["axes"])
        texts = [f"({', '.join(self.sum(one, heads) for one in row)},)" for row in rows]
        shape = ops.shape([sizes[name] for name in heads])
        return f"{self.e.function('joint', 'table')}(time, ({', '.join(texts)},), {shape})"


def _found(graph: Graph, cycle: frozenset[str]) -> _Found | None:
    key = ("joint states", cycle)
    if key not in graph.known:
        graph.known[key] = _look(graph, cycle)
    found: _Found | None = graph.known[key]
    return found


def _look(graph: Graph, cycle: frozenset[str]) -> _Found | None:
    seen = graph.seen_outside(cycle)
    readouts = tuple(dict.fromkeys(user for name in seen for user in graph.users[name] if user not in cycle))
    ends = {name for _, name in graph.outputs}
    alone = all(graph[name].op == "dot" and name not in graph.cycle_of for name in readouts)
    started = any(node.role("initial") for node in graph.states if node.name in cycle)
    if not readouts or not alone or started or ends & cycle:
        return None
    given = cycle | set(readouts)
    try:
        step = region(graph, given | _apart(graph, cycle), readouts)
    except Unfit:
        return None
    around = {**step.columns, **step.constants}
    if any(nx.ancestors(graph.nx, name) & given for name in around.values()):
        return None  # a query is made of what another reads
    states = [(memory.old, memory.new) for memory in step.memories]
    what = joint.joint(step.body, states, [step.outputs[name].value for name in readouts])
    if what is None:
        return None
    return _Found(what, step, around, readouts, Axes(what.heads, (what.over,), what.values))


def _apart(graph: Graph, cycle: frozenset[str]) -> set[str]:
    """What enters a cycle and is taken apart, so that how it was put together does not matter: products of what has fewer axes, and sums
    over all axes of its states."""
    axes = {axis for node in graph.states if node.name in cycle for axis, _ in node.attrs["axes"]}
    found, todo = set[str](), [*cycle]
    while todo:
        for name in graph[todo.pop()].inputs:
            node = graph[name]
            own = set(node.type.names)
            fewer = any(set(one.type.names) < own for one in graph.operands(node))
            fits = (
                node.op == "neg" or (node.op == "mul" and fewer) or (node.op in ("add", "sub", "div") and axes <= own)
            )
            if fits and name not in cycle | found:
                found.add(name)
                todo.append(name)
    return found
