"""What is most likely not meant, though it has a meaning: nodes, dims and constants that nothing reads, readouts that sum nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ssir.errors import Diagnostic
from ssir.ir.graph import Graph, Node
from ssir.spec import expr as syntax
from ssir.spec.load import Spec
from ssir.spec.module import Module
from ssir.spec.paths import expressions
from ssir.spec.schema import Component, Stack, State

_HELP = "remove it, or read it"


def warnings(spec: Spec) -> list[Diagnostic]:
    """The warnings of a spec that has no fault, in the order of the file."""
    found = [*_unread_nodes(spec.module), *_unread_sizes(spec.module)]
    for graph in spec.graph.walk():
        found += [warning for node in graph.states if (warning := _idle_readout(graph, node))]
    return list(dict.fromkeys(found))


def _read(module: Module, component: str) -> dict[str, set[str]]:
    """For each node of a component the names that its expressions read."""
    read: dict[str, set[str]] = {key: set() for key in module.component(component).graph}
    for key, path in expressions(module, component):
        read[key] |= syntax.names(module.expression(path))
    return read


def _unread_nodes(module: Module) -> Iterator[Diagnostic]:
    for component, definition in module.file.components.items():
        read = _read(module, component)
        targets = {name.strip(): key for key in read for name in key.split(",")}
        todo, reached = _outputs(definition), set[str]()
        while todo:
            key = targets.get(todo.pop())
            if key is not None and key not in reached:
                reached.add(key)
                todo += read[key]
        for key in read:
            if key not in reached:
                span = module.document.span(("components", component, "graph", key), key=True)
                yield Diagnostic("SSIR040", f"nothing reads `{key}`", span, (), _HELP, "warning")


def _outputs(definition: Component) -> list[str]:
    output = definition.output
    return [output] if isinstance(output, str) else list(output.values() if isinstance(output, dict) else output)


def _unread_sizes(module: Module) -> Iterator[Diagnostic]:
    used: set[str] = set()
    for path in [*module.expressions(), *_written(module)]:
        tree = module.expression(path)
        used |= syntax.names(tree)
    for definition in module.file.components.values():
        for name in definition.input:
            used |= set(definition.axes(name))
        for body in definition.graph.values():
            if isinstance(body, State):
                used |= {body.state} if isinstance(body.state, str) else set(body.state)
    used |= {name.rstrip("_") for name in used}
    for kind, names in (("dims", module.file.dims), ("constants", module.file.constants)):
        for name in names:
            if name not in used:
                span = module.document.span((kind, name), key=True)
                yield Diagnostic("SSIR040", f"nothing reads the {kind[:-1]} `{name}`", span, (), _HELP, "warning")


def _written(module: Module) -> Iterator[tuple[str | int, ...]]:
    """Where dims, constants and the entries of stacks are arithmetic."""
    for name, value in module.file.dims.items():
        if isinstance(value, str) and value != "unbounded":
            yield "dims", name
    for name, constant in module.file.constants.items():
        if isinstance(constant, str):
            yield "constants", name
    for component, definition in module.file.components.items():
        for key, body in definition.graph.items():
            if isinstance(body, Stack):
                yield from (("components", component, "graph", key, "stack", i) for i in range(len(body.stack)))


def _idle_readout(graph: Graph, state: Node) -> Diagnostic | None:
    """C sums over the axes that the input lacks; an input that was multiplied out beforehand lacks none of them."""
    x, c = state.role("x"), state.role("C")
    if x is None or c is None or graph[x].op != "mul" or state.role("B") is not None:
        return None
    kept = {name for name, _ in state.attrs["axes"]}
    read, given = set(graph[c].type.names) & kept, set(graph[x].type.names)
    sides = [set(graph[name].type.names) for name in graph[x].inputs]
    could = [name for name in graph[c].type.names if name in read and (name in sides[0]) != (name in sides[1])]
    if read - given or not could:
        return None
    axes = ", ".join(could)
    words = f"C contracts none of the axes of the state: the input has all of them, `{axes}` too"
    help = f"give the factor with `{axes}` as B, and the other one as the input, and C contracts `{axes}`"
    return Diagnostic("SSIR041", words, state.at, (), help, "warning")
