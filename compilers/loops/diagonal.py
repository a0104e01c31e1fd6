"""The region of a memory off every cycle whose operator is diagonal: h = gate h + into, or h = max(gate + h, into).

What is larger than all that it is made of is computed inside the loop, and never written out; what is summed over axes that the memory
lacks is computed outside, as one product over all steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ssir.analysis.facts import state_axes
from ssir.compilers.loops.pairs import Pair, lying
from ssir.compilers.loops.region import Affine, Maker, Region, Result
from ssir.compilers.loops.spelling import Unfit
from ssir.ir.builder import Value
from ssir.ir.graph import Dependence, Graph, Node, Type
from ssir.ir.op import TypeFault
from ssir.ir.ops import operation

IN = ""
"""What a column is that no node is: all that enters the memory."""
_BOUND = 1e30  # keeps infinite gates out of 0 * inf


def scan(graph: Graph, node: Node, readout: bool) -> Region:
    """The region of a memory, with or without its readout; without, its output is the memory that is read. Raises Unfit."""
    try:
        return _Maker(graph, node, readout).scanned()
    except TypeFault as fault:
        raise Unfit(fault.message) from None


def _enlarged(graph: Graph, node: Node) -> frozenset[str]:
    """The memory, its operator, and what is larger than what it is made of."""
    found = {node.name}

    def grows(name: str) -> bool:
        own = graph[name]
        if (
            own.type.dependence is not Dependence.INPUT
            or own.type.dtype not in ("real", "complex")
            or not operation(own.op).elementwise
        ):
            return False
        sizes = [graph[one].type.numel() for one in own.inputs if graph[one].type.dependence >= Dependence.INPUT]
        return any([own.type.numel() > max(sizes, default=own.type.numel()), *map(visit, own.inputs)])

    def visit(name: str) -> bool:
        if name not in found and grows(name):
            found.add(name)
        return name in found

    for role in ("A", "B", "x"):
        name = node.role(role)
        if name is not None and graph[name].type.operator:
            found.add(name)
            name = graph[name].inputs[0] if graph[name].op == "op.diag" else None
        if name is not None:
            visit(name)
    return frozenset(found)


class _Maker(Maker):
    def __init__(self, graph: Graph, node: Node, readout: bool) -> None:
        self.node, self.read = node, readout
        self.affine: Affine | None = None
        super().__init__(graph, _enlarged(graph, node))

    def scanned(self) -> Region:
        region = self.made([self.node.name])
        outputs, affine = region.outputs, self.affine
        assert affine is not None
        if not {*affine.into, *affine.gate} <= region.body.nodes.keys():
            raise Unfit("nothing becomes of the memory")
        if not self.read:
            (memory,) = region.memories
            axes = region.body[memory.old].type.names
            outputs = {name: Result(one.value, axes) for name, one in outputs.items()}
        return replace(region, outputs=outputs, affine=affine)

    def _next(self, node: Node) -> Value:
        if node.name not in self.new:
            plus, a = node.attrs["algebra"] == "plus_times", node.role("A")
            all_axes = Type(state_axes(node))
            into, moved = self.b.expand(self.entering(node), all_axes), self.old[node.name]
            gate: tuple[str, ...] = ()
            if a is not None and self.graph[a].op == "op.diag":
                by = self.b.expand(self.value(self.graph[a].inputs[0]), all_axes)
                moved, gate = by * moved if plus else by + moved, _parts(by)
            self.new[node.name] = into + moved if plus else self.b("maximum", moved, into)
            self.affine = Affine(gate, _parts(into), not plus)
        return self.new[node.name]

    def _written(self, node: Node, known: bool) -> Value:
        if node.op != "mul" or node.name not in self._exponents():
            return super()._written(node, known)
        bounded = [
            self.b("clamp", self.value(one), low=-_BOUND, high=_BOUND)
            if self.graph[one].type.dependence is Dependence.INPUT
            and self.graph[one].type.dtype == "real"
            and one not in self.inside
            else self.value(one)
            for one in node.inputs
        ]
        return bounded[0] * bounded[1]

    def _exponents(self) -> set[str]:
        """What the logarithm of the operator is made of, inside."""
        found, todo = set[str](), [self.node.role("logA")]
        while todo:
            name = todo.pop()
            if name in self.inside and name not in found:
                found.add(name)
                todo += self.graph[name].inputs
        return found

    def entering(self, node: Node) -> Value:
        x, b = node.role("x"), node.role("B")
        axes = state_axes(node)
        if x is not None and b is not None:
            state = {axis.name for axis in axes}
            if set(self.graph[x].type.names) & set(self.graph[b].type.names) - state:
                pair = "complex" in (self.graph[x].type.dtype, self.graph[b].type.dtype)
                type = Type(axes, dependence=Dependence.INPUT)
                value = self.b.input("in", lying(type) if pair else type)
                self.columns[value.name] = IN
                return self.b.read(value) if pair else value
            if node.attrs["algebra"] == "plus_times":
                return self._product([*self._factors(b), *self._factors(x)])
        return super().entering(node)

    def _product(self, factors: list[Value]) -> Value:
        """The product of small factors first."""
        groups: dict[frozenset[str], Value] = {}
        for one in factors:
            axes = frozenset(one.type.names)
            groups[axes] = groups[axes] * one if axes in groups else one
        first, *rest = sorted(groups.values(), key=lambda one: one.type.numel())
        for one in rest:
            first = first * one
        return first

    def _factors(self, name: str) -> Iterator[Value]:
        if name in self.inside and self.graph[name].op == "mul":
            for one in self.graph[name].inputs:
                yield from self._factors(one)
        else:
            yield self.value(name)

    def readout(self, node: Node, h: Value) -> Value:
        return super().readout(node, h) if self.read else h


def _parts(x: Value) -> tuple[str, ...]:
    return (x.re.name, x.im.name) if isinstance(x, Pair) else (x.name,)
