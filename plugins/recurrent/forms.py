"""Two cells whose loop over time is compiled: recognised by their graphs, up to the order of sums and products.

gated cell       c = sigmoid(f) c' + sigmoid(i) tanh(g),  h = sigmoid(o) tanh(c)        each of i, f, g, o: P(x) + U h'
gated average    h = z h' + (1 - z) tanh(P(x) + r (U h' + b))                            r, z: sigmoid(P(x) + U h')

P(x) is whatever does not depend on the state; it is computed for all steps at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ssir.compilers.core import loop_reason
from ssir.compilers.forms import Cost, Match
from ssir.compilers.torch import ops
from ssir.compilers.torch.emit import Emitter
from ssir.ir.graph import Graph, Node
from ssir.passes.facts import Facts, facts


@dataclass(frozen=True)
class _Gate:
    """P(x) + U h': ``outside`` are the terms of P(x), ``again`` is the projection of h'."""

    outside: tuple[str, ...]
    again: str


def _terms(graph: Graph, name: str, cycle: frozenset[str]) -> Iterator[str]:
    """The terms of a sum, as far as it is on the cycle."""
    node = graph[name]
    if node.op == "add" and name in cycle:
        for operand in node.inputs:
            yield from _terms(graph, operand, cycle)
    else:
        yield name


def _gate(graph: Graph, name: str, cycle: frozenset[str], delayed: str, inner: str | None = None) -> _Gate | None:
    """A sum with one projection of the delayed state on the cycle (multiplied by ``inner``, if that is given)."""
    outside, again = [], []
    for term in _terms(graph, name, cycle):
        if term not in cycle:
            outside.append(term)
            continue
        node = graph[term]
        if inner is not None:
            if node.op != "mul" or inner not in node.inputs:
                return None
            node = graph[node.inputs[1 - node.inputs.index(inner)]]
        if node.op != "linear" or node.inputs[0] != delayed or node.attrs["per"] or len(node.type.axes) != 1:
            return None
        again.append(node.name)
    return _Gate(tuple(outside), again[0]) if len(again) == 1 and outside else None


def _of(graph: Graph, name: str, op: str) -> str | None:
    """The operand of an elementwise function, if that is what a node is."""
    return graph[name].inputs[0] if graph[name].op == op else None


@dataclass(frozen=True)
class _Cell:
    delayed: str
    memory: str
    output: str
    gates: tuple[_Gate, ...]


class _Compiled:
    """What the cells share: finding the two memories of a cycle, and the operands of the kernel. ``equations`` says what the cell
    computes."""

    name: str
    equations: str
    reads_weights = True  # of projections that it does not call
    native = True

    def match(self, graph: Graph, facts: Facts) -> Match | None:
        states = self._states(graph, facts)
        if states is None or facts.cycle is None:
            return None
        cell = self._cell(graph, facts.cycle, *states)
        if cell is None or facts.cycle != _nodes(graph, cell, facts.cycle):
            return None
        others = tuple(node.name for node in states if node.name != facts.node.name)
        why = (
            f"{loop_reason(graph, facts)}; the cycle is {self.equations}: a compiled loop over the steps, "
            "the projections of the input outside it"
        )
        return Match(self, why, covers=others, details={"cell": cell})

    def _cell(self, graph: Graph, cycle: frozenset[str], delayed: Node, memory: Node) -> _Cell | None:
        raise NotImplementedError

    def _write(self, e: Emitter, fact: Facts, match: Match, lengthen: str) -> str:
        raise NotImplementedError

    def sequence(self, e: Emitter, fact: Facts, match: Match) -> str:
        return self._write(e, fact, match, "")

    def step(self, e: Emitter, fact: Facts, match: Match) -> str:
        return self._write(e, fact, match, ".unsqueeze(1)")

    def cost(self, graph: Graph, facts: Facts, match: Match) -> Cost:
        return Cost(8.0 * facts.entries**2, 32.0 * facts.entries**2 / 64, 3)

    def _states(self, graph: Graph, fact: Facts) -> tuple[Node, Node] | None:
        """The delay and the other memory of a cycle of two."""
        if fact.cycle is None:
            return None
        states = [node for node in graph.states if node.name in fact.cycle]
        if len(states) != 2 or any(node.role("initial") or node.attrs["algebra"] != "plus_times" for node in states):
            return None
        delays = [
            node for node in states if facts(graph, node).structure.kind == "zero" and node.attrs["read"] == "before"
        ]
        others = [node for node in states if node not in delays]
        if (
            len(delays) != 1
            or others[0].attrs["read"] != "after"
            or any(len(node.attrs["axes"]) != 1 for node in states)
        ):
            return None
        if (
            delays[0].role("B")
            or delays[0].role("C")
            or others[0].role("C")
            or others[0].role("D")
            or others[0].type.dtype == "complex"
        ):
            return None
        return delays[0], others[0]

    def _gates(self, e: Emitter, cell: _Cell, bias_last: bool) -> tuple[str, str]:
        """P(x) of all gates, [batch, (steps,) gates, n], and U, [gates, n, n].

        Where P(x) is a projection of one input for every gate, that is one product, and the biases of U h' are added to its own.
        """
        graph, c = e.graph, e.unit.constant
        size = e.node(cell.memory).attrs["axes"][0][1]
        again = [graph[gate.again] for gate in cell.gates]
        key = f"recurrent {cell.memory}"
        if key not in c.names:
            weights = [c.value(node.inputs[1]) for node in again]
            c.names[key] = c.let(f"{cell.memory}_again", f"torch.stack(({', '.join(weights)}))")
        r = e.unit.keep_text(c.names[key])
        biases = [
            c.value(node.inputs[2]) if node.attrs["bias"] and not (bias_last and i == len(again) - 1) else None
            for i, node in enumerate(again)
        ]
        outside = [graph[gate.outside[0]] for gate in cell.gates]
        plain = all(len(gate.outside) == 1 for gate in cell.gates) and all(
            node.op == "linear"
            and not node.attrs["per"]
            and node.inputs[0] == outside[0].inputs[0]
            and node.attrs["over"] == graph[node.inputs[0]].type.names
            for node in outside
        )
        if plain:
            return self._product(e, cell, outside, biases, size), r
        parts = []
        for gate, bias in zip(cell.gates, biases, strict=True):
            terms = [e.fitted(name, e.node(cell.memory).type.names) for name in gate.outside]
            parts.append(" + ".join([*terms, *([e.unit.keep_text(bias)] if bias else [])]))
        whole = [f"{e.function('operations', 'spread')}(time, {part}, ({size},), time.dtype)" for part in parts]
        return e.let(f"{cell.memory}_gates", f"torch.stack(({', '.join(whole)}), -2)"), r

    def _product(self, e: Emitter, cell: _Cell, outside: list[Node], biases: list[str | None], size: int) -> str:
        c = e.unit.constant
        key = f"input {cell.memory}"
        if key not in c.names:
            weights = [ops.flat_weight(c, e.node(node.inputs[1]), 0, 1, len(node.attrs["over"])) for node in outside]
            c.names[key] = c.let(f"{cell.memory}_input", f"torch.cat(({', '.join(weights)}))")
            own = [c.value(node.inputs[2]) if node.attrs["bias"] else None for node in outside]
            parts = [
                " + ".join(filter(None, pair)) or f"{c.names[key]}.new_zeros({size})"
                for pair in zip(own, biases, strict=True)
            ]
            c.names[f"{key} bias"] = c.let(f"{cell.memory}_bias", f"torch.cat(({', '.join(parts)}))")
        x = e.node(outside[0].inputs[0])
        text = e.value(x.name) + (f".flatten({-len(x.type.axes)})" if len(x.type.axes) > 1 else "")
        w, b = e.unit.keep_text(c.names[key]), e.unit.keep_text(c.names[f"{key} bias"])
        return e.let(
            f"{cell.memory}_gates",
            f"{e.function('linear', 'linear')}({text}, {w}, {b}).unflatten(-1, ({len(outside)}, {size}))",
        )


class GatedCell(_Compiled):
    name = "gated cell"
    equations = "c = σ(f) c' + σ(i) tanh(g), h = σ(o) tanh(c)"

    def _cell(self, graph: Graph, cycle: frozenset[str], delayed: Node, memory: Node) -> _Cell | None:
        h = graph[delayed.role("x") or ""]
        a, b, x = (memory.role(role) for role in ("A", "B", "x"))
        if h.op != "mul" or not a or not b or not x or graph[a].op != "op.diag":
            return None
        read = next((name for name in h.inputs if _of(graph, name, "tanh") == memory.name), None)
        if read is None:
            return None
        o = _of(graph, h.inputs[1 - h.inputs.index(read)], "sigmoid")
        f = _of(graph, graph[a].inputs[0], "sigmoid")
        i, g = (
            (_of(graph, b, "sigmoid"), _of(graph, x, "tanh"))
            if graph[b].op == "sigmoid"
            else (_of(graph, x, "sigmoid"), _of(graph, b, "tanh"))
        )
        gates = [_gate(graph, name, cycle, delayed.name) if name else None for name in (i, f, g, o)]
        if any(gate is None for gate in gates):
            return None
        return _Cell(delayed.name, memory.name, h.name, tuple(gate for gate in gates if gate))

    def _write(self, e: Emitter, fact: Facts, match: Match, lengthen: str) -> str:
        cell: _Cell = match.details["cell"]
        m, c = e.node(cell.delayed), e.node(cell.memory)
        gates, r = self._gates(e, cell, bias_last=False)
        hs, cs = e.fresh(f"{cell.output}_all"), e.fresh(f"{cell.memory}_all")
        reset = "time.reset" if not lengthen else "None if time.reset is None else time.reset.unsqueeze(1)"
        e.line(
            f"{hs}, {cs} = {e.function('recurrent', 'gated_cell')}({gates}{lengthen}, {r}, old.get({e.key(m)}), old.get({e.key(c)}), {reset})"
        )
        e.line(f"new[{e.key(m)}], new[{e.key(c)}] = {hs}[:, -1], {cs}[:, -1]")
        return _named(e, cell, hs, cs, match, fact)


class GatedAverage(_Compiled):
    name = "gated average"
    equations = "h = z h' + (1 - z) tanh(P(x) + r (U h' + b))"

    def _cell(self, graph: Graph, cycle: frozenset[str], delayed: Node, memory: Node) -> _Cell | None:
        a, b, x = (memory.role(role) for role in ("A", "B", "x"))
        if delayed.role("x") != memory.name or not a or not b or not x or graph[a].op != "op.diag":
            return None
        gate = graph[a].inputs[0]
        taken, new = (b, x) if graph[b].op == "sub" else (x, b)
        rest = graph[taken]
        if (
            rest.op != "sub"
            or graph[rest.inputs[0]].op != "const"
            or graph[rest.inputs[0]].attrs["value"] != 1
            or rest.inputs[1] != gate
        ):
            return None
        z, n = _of(graph, gate, "sigmoid"), _of(graph, new, "tanh")
        if z is None or n is None:
            return None
        z_gate = _gate(graph, z, cycle, delayed.name)
        for term in _terms(graph, n, cycle):
            if graph[term].op == "mul" and term in cycle:
                for r_name in graph[term].inputs:
                    r = _of(graph, r_name, "sigmoid")
                    r_gate = _gate(graph, r, cycle, delayed.name) if r else None
                    n_gate = _gate(graph, n, cycle, delayed.name, r_name)
                    if r_gate and z_gate and n_gate:
                        return _Cell(delayed.name, memory.name, memory.name, (r_gate, z_gate, n_gate))
        return None

    def _write(self, e: Emitter, fact: Facts, match: Match, lengthen: str) -> str:
        cell: _Cell = match.details["cell"]
        m, h = e.node(cell.delayed), e.node(cell.memory)
        gates, r = self._gates(e, cell, bias_last=True)
        last = e.node(cell.gates[2].again)
        size = h.attrs["axes"][0][1]
        bias = e.value(last.inputs[2]) if last.attrs["bias"] else f"{r}.new_zeros({size})"
        hs = e.fresh(f"{cell.output}_all")
        reset = "time.reset" if not lengthen else "None if time.reset is None else time.reset.unsqueeze(1)"
        e.line(
            f"{hs} = {e.function('recurrent', 'gated_average')}({gates}{lengthen}, {r}, {bias}, old.get({e.key(h)}), {reset})"
        )
        e.line(f"new[{e.key(m)}] = new[{e.key(h)}] = {hs}[:, -1]")
        return _named(e, cell, hs, hs, match, fact)


def _nodes(graph: Graph, cell: _Cell, cycle: frozenset[str]) -> set[str]:
    """What the kernel computes: from the memories back to the projections, as far as it is on the cycle."""
    found: set[str] = set()
    todo = [cell.delayed, cell.memory, cell.output]
    while todo:
        name = todo.pop()
        if name not in found and name in cycle:
            found.add(name)
            todo.extend(graph[name].inputs)
    return found


def _named(e: Emitter, cell: _Cell, hs: str, cs: str, match: Match, fact: Facts) -> str:
    """Give the results their names; whatever else of the cycle is used outside is computed from them."""
    one = e.mode == "step"
    e.names[cell.output] = e.let(cell.output, f"{hs}[:, 0]" if one else hs)
    if cell.memory != cell.output:
        e.names[cell.memory] = e.let(cell.memory, f"{cs}[:, 0]" if one else cs)
    if e.mode == "sequence":
        before = f"{e.function('memory', 'previous')}({e.names[cell.output]}, old.get({e.key(e.node(cell.delayed))}), None, time)"
    else:
        before = f"{e.function('memory', 'recall')}(time, old, {e.key(e.node(cell.delayed))}, {e.sizes(e.node(cell.delayed))}, time.dtype)"
    inside = fact.cycle or frozenset()
    rest = [name for name in e.outside(inside) if name not in (cell.output, cell.memory)]
    if rest:
        e.names[cell.delayed] = e.let(cell.delayed, before)
        for name in rest:
            if name not in e.names:
                e.names[name] = ops.emit(e, e.node(name))
    return e.names[fact.node.name] if fact.node.name in e.names else e.names[cell.output]


FORMS = (GatedCell(), GatedAverage())
