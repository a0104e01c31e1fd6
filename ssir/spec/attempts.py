"""Attempts at a graph. A value that is remembered before it is known (``delay(y)`` in the graph of y) gets its axes by trying again: each
attempt starts from the axes that the last one found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from ssir.errors import Report, Span
from ssir.ir.graph import Graph, Node, Type
from ssir.ir.op import UNKNOWN
from ssir.spec.build import Builder, is_unknown
from ssir.spec.calls import fail
from ssir.spec.written import Values

if TYPE_CHECKING:
    from ssir.spec.instance import Instance

_MOST_ATTEMPTS = 64
_MOST_CALLS = 2_000


class Attempts:
    """Elaborates one graph until the axes of what is remembered agree with what they were taken to be."""

    def __init__(
        self,
        name: str,
        inputs: list[tuple[str, Type, Span]],
        start: Callable[[Elaborator, Values], Instance],
        gather: bool,
        calls: Calls | None = None,
    ) -> None:
        self.name, self.inputs, self.start, self.gather, self.calls = name, inputs, start, gather, calls

    def graph(self) -> Graph:
        assumed: dict[str, Type] = {}
        for _ in range(_MOST_ATTEMPTS):
            elaborator = Elaborator(dict(assumed), self.gather, self.calls or Calls())
            values = {name: elaborator.builder.add(name, "input", (), type, span) for name, type, span in self.inputs}
            instance = self.start(elaborator, values)
            report = Report()
            with report.catching():
                outputs = instance.outputs()
            if self.gather or not report.failed:
                with report.catching():
                    found = elaborator.settle()
            report.raise_if_any()
            if found == assumed or not found:
                return elaborator.finish(self.name, outputs)
            assumed = found
        span = instance.module.document.span(instance.path, key=True)
        fail("SSIR014", "the axes of what is remembered here grow without end", span, "use up an axis before `delay`")


class Calls:
    """How many components an attempt has inlined, in the bodies of its stacks too. Each may call another twice, so that a short
    file can stand for any number of them."""

    def __init__(self) -> None:
        self.made = 0

    def count(self, at: Span | None) -> None:
        self.made += 1
        if self.made > _MOST_CALLS:
            words = f"more than {_MOST_CALLS} calls of components are inlined here"
            fail("SSIR004", words, at, "repeat components with a stack")


class Elaborator:
    """One attempt at a graph: the builder, what is put off, and what was assumed of it. With ``gather`` every node is looked at,
    needed or not, and a fault does not end the attempt."""

    def __init__(self, assumed: dict[str, Type], gather: bool, calls: Calls) -> None:
        self.builder = Builder()
        self.assumed = assumed
        self.gather = gather
        self.put_off: list[tuple[Node, Callable[[], Node]]] = []
        self.known: dict[str, Node] = {}
        self.calls = calls

    def later(self, name: str, span: Span | None, evaluate: Callable[[], Node]) -> Node:
        """A stand-in for a value that is needed only at the next step."""
        unique = self.builder.fresh(f"{name}/later")
        stand_in = self.builder.add(unique, "later", (), self.assumed.get(unique, Type(dtype=UNKNOWN)), span)
        self.put_off.append((stand_in, evaluate))
        return stand_in

    def settle(self) -> dict[str, Type]:
        found: dict[str, Type] = {}
        report = Report()
        while self.put_off and (self.gather or not report.failed):
            stand_in, evaluate = self.put_off.pop(0)
            with report.catching():
                node = evaluate()
                self.known[stand_in.name] = node
                found[stand_in.name] = node.type
        report.raise_if_any()
        if found == self.assumed:
            for name, node in self.known.items():
                if is_unknown(node):
                    fail(
                        "SSIR014",
                        "the axes of this cannot be inferred: it depends on nothing but itself",
                        self.builder.nodes[name].at,
                        help="add a term whose axes are known, such as an input or a `param`",
                    )
        return found

    def finish(self, name: str, outputs: dict[str, Node]) -> Graph:
        def actual(operand: str) -> str:
            while operand in self.known:
                operand = self.known[operand].name
            return operand

        nodes = {
            node.name: node.with_(inputs=tuple(map(actual, node.inputs)))
            for node in self.builder.nodes.values()
            if node.op != "later"
        }
        _refuse_unclear_slots(nodes.values())
        return Graph(
            name,
            nodes,
            tuple((label, actual(node.name)) for label, node in outputs.items()),
            dict(self.builder.bodies),
            dict(self.builder.calls),
        )


def _refuse_unclear_slots(nodes: Collection[Node]) -> None:
    """An axis without a size is that of registers or of a whole sequence, so that its indices have a meaning."""
    registers = {name for node in nodes if node.op == "state" for name, size in node.attrs["axes"] if size is None}
    given = {axis.name for node in nodes if node.op == "input" for axis in node.type.axes}
    sequences = {node.attrs["axis"] for node in nodes if node.op == "context"}
    for node in nodes:
        if node.op == "context" and node.attrs["axis"] in registers:
            words = f"`{node.attrs['axis']}` holds the steps so far elsewhere, and here the whole sequence"
            fail("SSIR014", words, node.at, "declare a second unbounded dim for one of the two")
        if node.op == "input" and (along := [axis.name for axis in node.type.axes if axis.name in registers]):
            words = f"`{along[0]}` holds the steps so far elsewhere, and here a sequence that is there as a whole"
            fail("SSIR014", words, node.at, "declare a second unbounded dim for one of the two")
        unsized = node.type.names[0] if node.op == "arange" and node.type.axes[0].size is None else None
        if unsized is not None and unsized not in registers | given | sequences:
            words = f"`{unsized}` is unbounded, and nothing here remembers or reads along it"
            fail("SSIR014", words, node.at, f"give `{unsized}` a size under `dims:`")
