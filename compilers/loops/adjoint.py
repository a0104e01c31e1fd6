"""The derivative of a region: a region that runs backwards through time.

In each step it takes the gradients of the results and that of the new memories, and gives those of the old memories and the columns.
What it needs of the forward pass: the old memories, which the loop has kept, and the products with constant matrices, which are
computed for all steps at once before it; the rest it computes again. The gradient of a matrix is no part of it: it hands out that of
each product (a delta), and one product over all steps after it gives that of the matrix. Those of other constants are summed up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ssir.compilers.loops.region import Memory, Region, Result, by_matrix
from ssir.compilers.loops.spelling import Unfit
from ssir.ir.builder import GraphBuilder, Value
from ssir.ir.graph import Dependence, Graph, Node, Type
from ssir.ir.ops import operation


@dataclass(frozen=True)
class Adjoint:
    """``memories``: the gradients that go from step to step, one for each memory of the region. ``grads``, ``olds``, ``columns``,
    ``values``, ``constants``: by input of the body, the result, the memory (its ``old``), the column, the value or the constant of the
    region that it is.
    ``deltas``: by column or product of the region, the gradient of it; ``sums``: by constant, what is summed up."""

    body: Graph
    memories: tuple[Memory, ...]
    grads: Mapping[str, Result]
    olds: Mapping[str, str]
    columns: Mapping[str, str]
    values: Mapping[str, str]
    constants: Mapping[str, str]
    deltas: Mapping[str, Result]
    sums: Mapping[str, Result]


def products(region: Region) -> dict[str, tuple[str, str]]:
    """The products with constant matrices: for each, the matrix and what it is multiplied by."""
    found = {node.name: by_matrix(node, region.constants) for node in region.body}
    return {name: pair for name, pair in found.items() if pair is not None}


def adjoint(region: Region, values: Collection[str] | None = None, results: Sequence[Result] | None = None) -> Adjoint:
    """The derivative of a region. ``values``: what it is given of the forward pass instead of the products with constant matrices, whose
    gradients are then summed up too; ``results``: those that have gradients, if not all. Raises Unfit where an operation has none."""
    return _Maker(region, values, region.results if results is None else results).made()


class _Maker:
    def __init__(self, region: Region, values: Collection[str] | None, results: Sequence[Result]) -> None:
        self.region, self.results = region, results
        self.b = GraphBuilder(f"{region.body.name}_backward")
        self.products = products(region) if values is None else {}
        self.given = frozenset(self.products if values is None else values)
        self.values: dict[str, Value] = {}
        self.adjoints: dict[str, Value] = {}
        self.named: dict[str, str] = {}

    def made(self) -> Adjoint:
        body, b = self.region.body, self.b
        for node in body:
            self.values[node.name] = self._again(node)
        carried: dict[str, str] = {}
        grads: dict[str, Result] = {}
        for memory in self.region.memories:
            d = b.input(f"{memory.old}.grad", _column(body[memory.old].type, Dependence.STATE))
            carried[memory.old] = d.name
            self._add(memory.new, d)
        for result in self.results:
            type = body[result.value].type
            g = b.input(f"{result.value}.grad", Type(tuple(map(type.axis, result.axes)), dependence=Dependence.INPUT))
            grads[g.name] = result
            self._add(result.value, g)
        for node in reversed(list(body)):
            self._back(node)
        return self._adjoint(carried, grads)

    def _adjoint(self, carried: Mapping[str, str], grads: Mapping[str, Result]) -> Adjoint:
        region, b = self.region, self.b
        news = {m.old: self._whole(m.old) for m in region.memories}
        deltas = {name: self._whole(name) for name in (*region.columns, *self.products) if name in self.adjoints}
        sums = {name: self._whole(name) for name in region.constants if name in self.adjoints}
        ends = {value.name: value for value in (*news.values(), *deltas.values(), *sums.values())}
        graph = b.graph(ends.items())
        used = {name for node in graph for name in node.inputs} | {name for _, name in graph.outputs}
        kept = {n: x for n, x in graph.nodes.items() if x.op != "input" or n in used or n in carried.values()}
        own = {name: node for node, name in self.named.items() if name in kept}
        return Adjoint(
            Graph(graph.name, kept, graph.outputs),
            tuple(Memory(carried[m.old], news[m.old].name, ()) for m in region.memories),
            {name: result for name, result in grads.items() if name in kept},
            {name: node for name, node in own.items() if node in {m.old for m in region.memories}},
            {name: node for name, node in own.items() if node in region.columns},
            {name: node for name, node in own.items() if node in self.given},
            {name: node for name, node in own.items() if node in region.constants},
            {name: Result(value.name, region.body[name].type.names) for name, value in deltas.items()},
            {name: Result(value.name, region.body[name].type.names) for name, value in sums.items()},
        )

    def _again(self, node: Node) -> Value:
        """A value of the forward pass: given, or computed again."""
        if node.op == "input" or node.name in self.given:
            constant = node.name in self.region.constants
            value = self.b.input(node.name, node.type if constant else _column(node.type))
            self.named[node.name] = value.name
            return value
        return self.b(node.op, *(self.values[name] for name in node.inputs), name=node.name, **node.attrs)

    def _add(self, name: str, value: Value) -> None:
        own = self.region.body[name].type
        value = self.b.sum(value, set(value.type.names) - set(own.names))
        known = self.adjoints.get(name)
        self.adjoints[name] = value if known is None else known + value

    def _back(self, node: Node) -> None:
        """From the gradient of a node to those of its operands."""
        g = self.adjoints.get(node.name)
        if g is None or not node.inputs:
            return
        gradient = operation(node.op).gradient
        operands = [self.values[name] for name in node.inputs]
        matrix = self.products.get(node.name, (None,))[0]
        try:
            if gradient is None:
                raise NotImplementedError
            found = gradient(self.values[node.name], g, *operands)
        except NotImplementedError:
            raise Unfit(f"`{node.op}` has no derivative in the IR") from None
        for name, value in zip(node.inputs, found, strict=True):
            if value is not None and name != matrix and self.region.body[name].type.dtype == "real":
                self._add(name, value)

    def _whole(self, name: str) -> Value:
        """The gradient of a value, over all its axes."""
        value = self.adjoints.get(name)
        return self.b.expand(self.b.number(0.0) if value is None else value, self.region.body[name].type)


def _column(type: Type, dependence: Dependence = Dependence.INPUT) -> Type:
    return Type(type.axes, type.dtype, dependence)
