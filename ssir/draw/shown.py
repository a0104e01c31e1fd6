"""Which part of a spec a picture shows: the components in it, and those that mix over time, found by structure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ssir import passes
from ssir.draw.words import THROUGH
from ssir.ir.graph import Dependence, Graph, Node, attrs, parents
from ssir.spec.load import Spec
from ssir.spec.module import Module
from ssir.spec.schema import REST

Called = Mapping[str, Mapping[str, frozenset[str]]]
_ON_THE_WAY = THROUGH | {"add", "rms_norm", "layer_norm", "l2_norm"}


@dataclass(frozen=True)
class Part:
    """A graph to draw: a component, with what it is called, and the symbols of its paper for the names of nodes."""

    graph: Graph
    title: str
    symbols: Mapping[str, str]


def canonical(spec: Spec) -> Graph:
    """The graph of a spec after all passes, without what only forms need."""
    return plain(passes.run(spec.graph))


def plain(graph: Graph) -> Graph:
    """A graph after all passes, without what only forms need."""
    nodes = [_without_log(node) if node.op == "state" else node for node in graph]
    bodies = {name: plain(body) for name, body in graph.bodies.items()}
    graph = replace(graph.with_nodes(nodes), bodies=bodies)
    wanted = ancestors(graph, [name for _, name in graph.outputs])
    return graph.with_nodes(node for node in graph if node.name in wanted or node.op == "input")


def _without_log(state: Node) -> Node:
    kept = [(role, name) for role, name in zip(state.attrs["roles"], state.inputs, strict=True) if role != "logA"]
    return state.with_(
        inputs=tuple(name for _, name in kept), attrs=attrs(**{**state.attrs, "roles": tuple(role for role, _ in kept)})
    )


def ancestors(graph: Graph, names: Iterable[str], within: Collection[str] | None = None) -> set[str]:
    """Values and what they are made of; of signals only those ``within``, if that is given."""
    seen: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in seen and (within is None or name in within or graph[name].type.dependence < Dependence.INPUT):
            seen.add(name)
            todo.extend(graph[name].inputs)
    return seen


def callables(module: Module) -> dict[str, dict[str, frozenset[str]]]:
    """The names by which components can be called, in a spec and in those that it imports, with the axes of their inputs."""
    found: dict[str, dict[str, frozenset[str]]] = {}
    for name in module.callable_names():
        callee = module.callee(name)
        if callee is not None:
            component = callee[0].component(callee[1])
            marks = {key: ["token"] if component.is_token(key) else [] for key in component.input}
            found[name] = {key: frozenset([*component.axes(key), *marks[key]]) for key in marks}
    for imported in module.imported.values():
        for name, taken in callables(imported).items():
            found.setdefault(name, taken)
    return found


def symbols(module: Module) -> dict[str, str]:
    """The paper's signs for nodes, by the glossary: dt is written Δ, mu_k of `μ: mu_k mu_v` is written μ_k."""
    found: dict[str, str] = {}
    for sign, meaning in module.file.glossary.items():
        names = meaning.split()
        if (
            not sign.isascii()
            and sign.isprintable()
            and all(name.isidentifier() and name not in module.file.dims for name in names)
        ):
            for name in names:
                found[name] = sign if len(names) == 1 else sign + name[name.find("_") :]
    return found


def scope(graph: Graph, name: str) -> str | None:
    """The outermost component call that a node belongs to."""
    return next((path for path in parents(name) if path in graph.calls), None)


def mixers(spec: Spec, every: bool = False) -> list[Part]:
    """The components that mix over time: down stacks and through residual wrappers to those that hold memories, or read whole
    sequences; those that are alike once. Where nothing does, the layers.

    Where some hold more than delays, those that hold only delays are left out, unless ``every`` one is wanted.
    """
    called, signs = callables(spec.module), symbols(spec.module)
    whole = canonical(spec)
    found = list(_mixers(whole, called, "", ""))
    rich = [one for one in found if every or any(_remembers(one[0], node) for node in _mixing(one[0]))]
    distinct: dict[str, tuple[Graph, dict[str, str]]] = {}
    layers = [(body, body.name, "") for body in bodies(whole)] or [(whole, "", "")]
    for graph, title, path in rich or found or layers:
        titles = distinct.setdefault(_content(graph), (graph, {}))[1]
        if title:
            titles.setdefault(title, path)
    often = Counter(title for _, titles in distinct.values() for title in titles)
    parts: list[Part] = []
    for graph, titles in distinct.values():
        said = [title if often[title] == 1 else path or title for title, path in titles.items()]
        parts.append(
            Part(graph, f"{spec.name} · {', '.join(said)}" if said and len(distinct) > 1 else spec.name, signs)
        )
    return parts


def _content(graph: Graph) -> str:
    """What a graph is, whatever its parameters are called."""
    return repr(
        [
            (
                node.name,
                node.op,
                node.inputs,
                node.type,
                {k: v for k, v in node.attrs.items() if k not in ("key", "shared")},
            )
            for node in graph
        ]
    )


def bodies(graph: Graph) -> Iterator[Graph]:
    """The layers: what stacks repeat, down to what stacks nothing itself; each kind once."""
    for node in graph:
        if node.op == "stack":
            for name in dict.fromkeys(node.attrs["pattern"]):
                body = graph.bodies[name]
                yield from list(bodies(body)) or [body]


def _mixing(graph: Graph) -> tuple[Node, ...]:
    """What looks beyond the moment."""
    return tuple(node for node in graph if node.op in ("state", "context"))


def _remembers(graph: Graph, state: Node) -> bool:
    """Whether a state is more than a delay or a filter with constant taps."""
    if state.op == "context":
        return True
    a, c = state.role("A"), state.role("C")
    if a is None:
        return True
    if graph[a].op == "op.diag":
        value = graph[graph[a].inputs[0]]
        return not (value.op == "const" and value.attrs["value"] == 0)
    return graph[a].op != "op.shift" or (c is not None and graph[c].type.dependence > Dependence.CONSTANT)


def _mixers(graph: Graph, called: Called, title: str, path: str) -> Iterator[tuple[Graph, str, str]]:
    """Graphs that mix, each with the component that it is, and the path by which that is called."""
    stacks = [node for node in graph if node.op == "stack"]
    for stack in stacks:
        for name in dict.fromkeys(stack.attrs["pattern"]):
            yield from _mixers(graph.bodies[name], called, graph.bodies[name].name, "")
    scopes = list(dict.fromkeys(filter(None, (scope(graph, state.name) for state in _mixing(graph)))))
    if scopes and (stacks or wraps(graph)):
        for name in scopes:
            said = title if title and len(scopes) == 1 else graph.calls[name]
            yield from _mixers(extract(graph, name, called), called, said, f"{path}.{name}" if path else name)
    elif _mixing(graph):
        yield graph, title, path


def wraps(graph: Graph) -> bool:
    """Whether a graph only adds the outputs of components to its input, or is a whole model over tokens."""
    if any(node.type.dtype == "int" for node in graph.inputs):
        return True
    if all(scope(graph, state.name) for state in _mixing(graph)) and not any(
        scope(graph, node.name) is None
        and node.type.dependence > Dependence.CONSTANT
        and node.op not in _ON_THE_WAY | {"input"}
        for node in graph
    ):
        return True
    todo, seen = [graph.outputs[0][1]], set()
    while todo:
        node = graph[todo.pop()]
        if node.op == "input":
            return True
        if node.name not in seen and node.op in _ON_THE_WAY and scope(graph, node.name) is None:
            seen.add(node.name)
            todo.extend(node.inputs)
    return False


def extract(graph: Graph, name: str, called: Called) -> Graph:
    """A component call as a graph of its own: what comes from outside becomes an input, constants come along."""
    return traced(graph, name, called)[0]


def traced(graph: Graph, name: str, called: Called) -> tuple[Graph, dict[str, str]]:
    """A component call as a graph of its own, and what its nodes are called in the whole."""
    inside = {node.name for node in graph if node.name.startswith(f"{name}.")}
    labels = {node: label for label, node in graph.outputs}
    seen = [n for n in graph.seen_outside(inside) if not graph[n].type.operator]
    used = [n for n in seen if n in labels or graph[n].type.dependence >= Dependence.INPUT] or seen
    wanted: dict[str, Node] = {}
    todo = list(used)
    while todo:
        current = todo.pop()
        if current not in wanted:
            node = graph[current]
            if current not in inside and node.type.dependence >= Dependence.INPUT:
                node = Node(current, "input", (), attrs(), node.type, node.at)
            wanted[current] = node
            todo.extend(node.inputs)
    short = _short(wanted, inside, name, called[graph.calls[name]])
    nodes = [
        wanted[n].with_(name=short[n], inputs=tuple(short[i] for i in wanted[n].inputs))
        for n in graph.nodes
        if n in wanted
    ]
    calls = {path.removeprefix(f"{name}."): one for path, one in graph.calls.items() if path.startswith(f"{name}.")}
    outputs = tuple((short[n], short[n]) for n in used)
    cut = Graph(graph.calls[name], {node.name: node for node in nodes}, outputs, bodies=graph.bodies, calls=calls)
    return cut, {said: whole for whole, said in short.items()}


def _takes(declared: frozenset[str], axes: frozenset[str]) -> bool:
    """Whether an input takes a value of these axes."""
    return declared - {REST} <= axes if REST in declared else declared == axes


def _short(
    wanted: Mapping[str, Node], inside: set[str], name: str, declared: Mapping[str, frozenset[str]]
) -> dict[str, str]:
    """Names within the component: what comes from outside has the name of the one input that has its axes, if there is one."""
    short = {n: n.removeprefix(f"{name}.") for n in wanted if n in inside}
    taken = set(short.values())
    for n, node in wanted.items():
        if n not in inside:
            fitting = (
                [key for key, axes in declared.items() if _takes(axes, frozenset(node.type.names))]
                if node.op == "input"
                else []
            )
            fresh = fitting[0] if len(fitting) == 1 and fitting[0] not in taken else n
            while fresh in taken:
                fresh += "'"
            short[n] = fresh
            taken.add(fresh)
    return short
