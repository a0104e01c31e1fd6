"""From a spec to the IR: names become nodes, calls become what they call, every axis gets its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ssir.depth import TooDeep, deep
from ssir.errors import Diagnostic, Report, Span, SpecError
from ssir.ir.graph import Axis, Graph, Type
from ssir.spec.attempts import Attempts, Elaborator
from ssir.spec.calls import Path, fail, input_type
from ssir.spec.instance import Instance
from ssir.spec.module import Module, sized
from ssir.spec.schema import REST
from ssir.spec.written import Values

_OF_A_RING = ("SSIR016", "SSIR017")


def elaborate(module: Module, component: str, overrides: Mapping[str, float] | None = None) -> Graph:
    """The IR of a component of a spec. Raises SpecError with everything that is wrong with the file."""
    try:
        if not module.component(component).input:
            span = module.document.span(("components", component), key=True)
            help = "declare what it reads: input: {x: [axis]}, or {tokens: token}"
            fail("SSIR007", f"`{component}` has no input, so nothing says how long its sequences are", span, help)
        return _elaborate(module, component, overrides or {}, False)
    except SpecError as error:
        if any(fault.code == "SSIR004" for fault in error.diagnostics):
            raise
        raise SpecError(_each_once([*error.diagnostics, *survey(module, overrides or {})])) from None


def alone(module: Module, component: str, overrides: Mapping[str, float]) -> tuple[Graph, dict[str, str]]:
    """The IR of a component by itself, needed or not all that is in it, and which node each name in it stands for. It may be one that reads
    nothing. Raises SpecError."""
    last: list[Instance] = []
    graph = _elaborate(module, component, overrides, True, last)
    return graph, {name: node.name for values in last[-1].done.values() for name, node in values.items()}


def survey(module: Module, overrides: Mapping[str, float]) -> list[Diagnostic]:
    """Everything that is wrong with a file: each component is elaborated by itself, and each of its nodes."""
    report = Report()
    for path in module.expressions():
        with report.catching():
            module.expression(path)
    for name in module.file.imports:
        with report.catching():
            module.callee(name)
    with report.catching():
        module.component(module.file.main)
    sizes = Report()
    with sizes.catching():
        sized(module, overrides)
    if not sizes.failed:
        for component in module.file.components:
            with report.catching():
                _by_itself(module, component, overrides)
            if any(fault.code == "SSIR004" for fault in report.diagnostics):
                break  # what is too large once is too large each time that it is looked at
    return _each_once([*sizes.diagnostics, *report.diagnostics])


_SOME = Axis("axis", 2)
"""Stands for what a caller gives where an input is nothing but [...]."""


def _by_itself(module: Module, component: str, overrides: Mapping[str, float]) -> None:
    try:
        _elaborate(module, component, overrides, True)
    except SpecError:
        if not any(module.component(component).axes(name) == [REST] for name in module.component(component).input):
            raise
        try:
            _elaborate(module, component, overrides, True, rest=(_SOME,))
            return
        except SpecError:
            pass
        raise


def _each_once(faults: Sequence[Diagnostic]) -> list[Diagnostic]:
    """One fault a place, for what is inlined twice fails twice; and one a ring, wherever it was entered."""
    found: dict[Any, Diagnostic] = {}
    for fault in faults:
        place: Any = (fault.span.source.name, fault.span.line, fault.span.column) if fault.span else fault
        if fault.code in _OF_A_RING:
            place = frozenset(fault.message.split())
        found.setdefault((fault.code, place), fault)
    return list(found.values())


def _elaborate(
    module: Module,
    component: str,
    overrides: Mapping[str, float],
    gather: bool,
    made: list[Instance] | None = None,
    rest: tuple[Axis, ...] = (),
) -> Graph:
    dims = sized(module, overrides)
    definition = module.component(component)
    inputs: list[tuple[str, Type, Span]] = []
    report = Report()
    for name in definition.input:
        path: Path = ("components", component, "input", name)
        with report.catching():
            inputs.append((name, input_type(module, dims, definition, name, path, rest), module.document.span(path)))
    report.raise_if_any()

    def start(graph: Elaborator, values: Values) -> Instance:
        instance = Instance(graph, module, component, dims, module.constants, values, "", None, ())
        if made is not None:
            made.append(instance)
        return instance

    attempts = Attempts(component, inputs, start, gather)
    try:
        with deep():
            graph = attempts.graph()
    except TooDeep:
        fail(
            "SSIR004",
            "the graph is too deep",
            module.document.span(("components", component), key=True),
            "repeat components with a stack",
        )
    _refuse_shares_of_a_node(graph)
    return graph


def _refuse_shares_of_a_node(graph: Graph) -> None:
    """What calls share stands beside the nodes of the whole, so it cannot be called like one that has parameters of its own."""
    own = {node.attrs["key"].partition(".")[0] for node in graph.params if not node.attrs["shared"]}
    own |= {node.name for node in graph if node.op == "stack"}
    for node in (node for one in graph.walk() for node in one.params if node.attrs["shared"]):
        name = node.attrs["key"].partition(".")[0]
        if name in own:
            words = f"calls share `{name}`, which is a node of `{graph.name}` with parameters of its own"
            fail("SSIR024", words, node.at, "give share= another name")
