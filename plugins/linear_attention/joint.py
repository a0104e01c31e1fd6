"""States of a cycle that are affine in one another, a matrix per head between them plus an outer product along the keys: in chunks.

W[t] = keep W[t-1] + M[t],  M[t] = beta M[t-1] - rate k (k . W[t-1] - v),  y[t] = q . W[t]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import mul, truediv

import networkx as nx

from ssir.analysis import joint
from ssir.analysis.facts import Facts
from ssir.compilers.forms import Cost, Match, Setting
from ssir.compilers.loops.region import Region, region
from ssir.compilers.loops.spelling import Unfit
from ssir.compilers.program.function import Function, Taken, taken
from ssir.ir.builder import Value
from ssir.ir.graph import Axis, Graph
from ssir.plugins.linear_attention.forms import CHUNK, KERNELS, Axes, sizes_of


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

    def sequence(self, f: Function, fact: Facts, match: Match) -> Mapping[str, Value]:
        found: _Found = match.details["found"]
        what, axes = found.what, found.axes
        row, column, entry, read = (f"{what.over}.{word}" for word in ("row", "column", "entering", "read"))

        def product(one: joint.Product) -> Value:
            factors, under = ([f.value(found.around[n]) for n in names] for names in (one.factors, one.under))
            return reduce(truediv, under, reduce(mul, factors, f.b.number(1.0)))

        def total(products: joint.Sum) -> Value:
            return sum((product(one) * n for one, n in products.items()), f.b.number(0.0))

        def table(rows: Sequence[Sequence[joint.Sum]], along: str) -> Taken:
            """Numbers per head, [rows, columns], float32 at least."""
            packed = f.b("pack", *(f.b("pack", *map(total, one), axis=column) for one in rows), axis=along)
            return taken("full", f.as_wide(packed), axes.heads, [along], [column])

        keys = f.b("pack", *(product(one.key) for one in what.entering), axis=entry)
        values = f.b("pack", *(total(one.value) for one in what.entering), axis=entry)
        queries = f.b("pack", *(product(one.query) for one in what.reads), axis=read)
        state = f.node(found.step.memories[0].states[0])
        y = f.kernel(
            f"{KERNELS}.joint.joint_states",
            table(what.between, row),
            taken("full", product(what.right), axes.heads, axes.keys),
            taken("full", keys, axes.heads, [entry], axes.keys),
            table([one.into for one in what.entering], entry),
            taken("full", values, axes.heads, [entry], axes.values),
            taken("full", queries, axes.heads, [read], axes.keys),
            gives=[axes.heads, [read], axes.values],
            memories=[memory.states for memory in found.step.memories],
            held=[axes.heads, axes.keys, axes.values],
            several=True,
            given="reset",
            options=[what.read, what.source, tuple(one.state for one in what.reads)],
            axes=[Axis(name, size) for name, size in state.attrs["axes"]],
        )
        return {name: f.b("select", y, i, axis=read) for i, name in enumerate(found.readouts)}


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
