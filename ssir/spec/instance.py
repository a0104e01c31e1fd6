"""A component with its inputs bound: what the names in its graph are, as nodes. Components that it calls are inlined; a stack keeps its
pattern as bodies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ssir.errors import Report, Span, SpecError, nearest
from ssir.functions.operators import lifted
from ssir.functions.systems import system
from ssir.ir.graph import WHOLE, Graph, Node, Type
from ssir.ir.op import UNKNOWN
from ssir.spec.attempts import Attempts, Elaborator
from ssir.spec.build import Site, is_unknown
from ssir.spec.calls import Layer, Path, axes_of, fail, unified
from ssir.spec.module import Module
from ssir.spec.paths import refuse_clashes
from ssir.spec.sampling import sampled
from ssir.spec.schema import Component, Discretize, Stack, State
from ssir.spec.static import NUMBERS
from ssir.spec.written import BUILT_IN, Text, Values

_MOST_LAYERS = 10_000


@dataclass
class Instance:
    """A component with its inputs bound: the meaning of the names in its graph."""

    graph: Elaborator
    module: Module
    name: str
    dims: dict[str, float | None]
    constants: Mapping[str, float]
    inputs: Values
    scope: str
    shared: str | None
    callers: tuple[tuple[str, str], ...]
    done: dict[str, Values] = field(default_factory=dict)
    doing: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.definition: Component = self.module.component(self.name)
        self.path: Path = ("components", self.name)
        self.targets: dict[str, str] = {}
        report = Report()
        for key in self.definition.graph:
            for target in map(str.strip, key.split(",")):
                taken = "an input" if target in self.definition.input else "a node" if target in self.targets else None
                if taken:
                    span = self.module.document.span((*self.path, "graph", key), key=True)
                    report.error("SSIR024", f"`{target}` is {taken} already", span, help="give the node another name")
                self.targets[target] = key
        with report.catching():
            refuse_clashes(self.module, self.name)
        report.raise_if_any()

    def outputs(self, operators: bool = False) -> Values:
        report = Report()
        if self.graph.gather:
            for key in self.definition.graph:
                with report.catching():
                    self.node(key, None)
        wanted = self.definition.output
        path: Path = (*self.path, "output")
        if isinstance(wanted, str):
            labels = {wanted: (wanted, path)}
        elif isinstance(wanted, dict):
            labels = {label: (name, (*path, label)) for label, name in wanted.items()}
        else:
            labels = {name: (name, (*path, i)) for i, name in enumerate(wanted)}
            if len(labels) < len(wanted):
                report.error(
                    "SSIR024",
                    "the same output twice",
                    self.module.document.span(path),
                    help="name each once, or give labels: {label: node}",
                )
        if not labels:
            report.error(
                "SSIR007",
                f"`{self.name}` has no output",
                self.module.document.span(path, key=True),
                help="name the node that it gives",
            )
        values: Values = {}
        for label, (name, place) in labels.items():
            span = self.module.document.span(place)
            with report.catching():
                values[label] = self.named(name, span)
                if values[label].type.operator and not operators:
                    fail(
                        "SSIR019",
                        f"`{name}` is an operator, and an output is a value",
                        span,
                        "an operator can only be the A of a state",
                    )
        report.raise_if_any()
        return values

    def named(self, name: str, span: Span | None, at: str | None = None) -> Node:
        """What a bare name stands for, in the expression with the path ``at``."""
        if name in self.targets:
            return self.node(self.targets[name], span)[name]
        if name in self.inputs:
            return self.inputs[name]
        own = f"{self._join(name) if at is None else at}/{name}"
        if name in self.constants or name in self.dims:
            value = self.constants.get(name, self.dims.get(name))
            if value is None:
                help = "`position + 1` is the number of steps so far"
                fail("SSIR018", f"`{name}` is unbounded: it has no size to reckon with", span, help)
            return self.graph.builder.add(own, "const", (), Type(), span, value=value)
        if name in BUILT_IN:
            dtype = "bool" if name == "start" else "int"
            return self.graph.builder.add(own, name, (), Type(dtype=dtype), span)
        if name in NUMBERS:
            return self.graph.builder.add(own, "const", (), Type(), span, value=NUMBERS[name])
        near = nearest(name, [*self.targets, *self.inputs, *self.constants, *self.dims, *BUILT_IN])
        fail(
            "SSIR011",
            f"nothing here is called `{name}`",
            span,
            f"the nearest is `{near}`" if near else "name a node of this graph, an input, a constant or a dim",
        )

    def node(self, key: str, span: Span | None) -> Values:
        """The values of a node of the graph, by name (several for `a, b: ...`)."""
        if key in self.done:
            return self.done[key]
        if key in self.doing:
            ring = self.doing[self.doing.index(key) :]
            order = list(self.definition.graph)
            at = ring.index(min(ring, key=order.index))
            ring = [*ring[at:], *ring[: at + 1]]
            fail(
                "SSIR016",
                f"a cycle without memory: {' -> '.join(ring)}",
                self.module.document.span((*self.path, "graph", ring[0]), key=True),
                f"read one of them as it was a step before: delay({ring[-2]})",
                ["each needs the next one within the same step"] if len(ring) > 2 else [],
            )
        if key in self.broken:
            raise SpecError([])
        self.doing.append(key)
        try:
            self.done[key] = self._define(key)
        except SpecError:
            self.broken.add(key)
            raise
        finally:
            self.doing.pop()
        return self.done[key]

    def _define(self, key: str) -> Values:
        body = self.definition.graph[key]
        path = (*self.path, "graph", key)
        names = [part.strip() for part in key.split(",")]
        own = self._join(names[0])
        if isinstance(body, State):
            self._count(names, 1, path)
            return {names[0]: self._state(body, own, path)}
        if isinstance(body, Stack):
            results = self._stack(body, own, path)
        else:
            text = self._text(path)
            results = text.results(own)
        if len(names) == 1:
            return {names[0]: next(iter(results.values()))}
        self._count(names, len(results), path)
        return dict(zip(names, results.values(), strict=True))

    def _count(self, names: Sequence[str], values: int, path: Path) -> None:
        if len(names) > 1 and len(names) != values:
            words = f"there are {len(names)} names for {values} value{'s' * (values != 1)}"
            fail("SSIR013", words, self.module.document.span(path, key=True), "give one name for each output")

    def callers_of(self, module: Module, component: str, span: Span) -> tuple[tuple[str, str], ...]:
        """Who calls a component that is called here; a component that contains itself is an error."""
        callers = (*self.callers, (self.module.document.source.name, self.name))
        called = (module.document.source.name, component)
        if called in callers:
            ring = [name for _, name in callers[callers.index(called) :]]
            words = f"a component contains itself: {' -> '.join([*ring, component])}"
            fail("SSIR017", words, span, "to repeat a component, stack it in another one")
        return callers

    def called(
        self,
        module: Module,
        component: str,
        dims: dict[str, float | None],
        constants: Mapping[str, float],
        inputs: Values,
        scope: str,
        shared: str | None,
        callers: tuple[tuple[str, str], ...],
        operators: bool = False,
    ) -> Values:
        """The outputs of a component that is inlined here; operators: whether one may be among them."""
        span = self.module.document.span(self.path, key=True)
        self.graph.builder.refuse_more(span)
        self.graph.calls.count(span)
        made = Instance(self.graph, module, component, dims, constants, inputs, scope, shared, callers)
        return made.outputs(operators)

    def _join(self, name: str) -> str:
        return f"{self.scope}.{name}" if self.scope else name

    def _text(self, path: Path) -> Text:
        return Text(self, path)

    def _state(self, body: State, own: str, path: Path) -> Node:
        span = self.module.document.span(path, key=True)
        places = self.module.document
        report = Report()
        with report.catching():
            axes = axes_of(self.module, self.dims, body.state, (*path, "state"), "the state")
        roles: dict[str, Node] = {}
        spans: dict[str, Span] = {}
        for role, key in (("A", "A"), ("B", "B"), ("x", "input"), ("C", "C"), ("D", "D"), ("initial", "initial")):
            if getattr(body, key) is None:
                continue
            field_path = (*path, key)
            spans[role] = places.span(field_path)
            try:
                text = self._text(field_path)
            except SpecError as error:
                report.diagnostics += error.diagnostics
                continue
            name = f"{own}.{key}"
            if (
                body.read == "before"
                and (role in ("A", "B") or (role == "x" and body.D is None))
                and body.discretize is None
            ):
                roles[role] = self.graph.later(name, spans[role], partial(self._role, text, name, role))
            else:
                with report.catching():
                    roles[role] = self._role(text, name, role)
        report.raise_if_any()
        told = None
        if body.discretize is not None and not is_unknown(*roles.values()):
            roles = self._sampled(roles, body.discretize, own, path, spans)
            rates = [f"{key} = {value}" for key, value in (("A", body.A), ("B", body.B)) if value is not None]
            told = f"sampled by {body.discretize.method} with step {body.discretize.dt}: {', '.join(rates)}"
        site = Site(self.graph.builder, own, own, self.shared, span, spans, self)
        return system(site, axes, roles, body.read, body.algebra, body.dtype, told)

    def _role(self, text: Text, name: str, role: str) -> Node:
        node = text.value(name)
        text.refuse_condition(node, text.tree)
        if role == "A":
            return (
                node
                if is_unknown(node)
                else lifted(Site(self.graph.builder, name, None, None, node.at, {}, self), node)
            )
        if node.type.operator:
            fail(
                "SSIR019",
                f"an operator can only be the A of a state, not its {role}",
                text.span(),
                "use its entries: a `param` or another value",
            )
        return node

    def _sampled(self, roles: Values, how: Discretize, own: str, path: Path, spans: dict[str, Span]) -> Values:
        if "A" not in roles:
            fail(
                "SSIR007",
                "a continuous-time state needs A",
                self.module.document.span(path, key=True),
                "give A, the rate of change",
            )
        builder = self.graph.builder
        site = Site(builder, f"{own}/sampled", None, None, spans["A"], spans, self)
        dt = self._handed((*path, "discretize"), "dt", own)
        a = roles["A"]
        rate = builder.nodes[a.inputs[0]] if a.op == "op.diag" else a
        b = roles["B"] if "B" in roles else site.number(1)
        place = self.module.document.span((*path, "discretize", "method"))
        return roles | sampled(self, how.method, {"A": rate, "B": b, "dt": dt}, own, place, site, spans)

    def _stack(self, body: Stack, own: str, path: Path) -> Values:
        document = self.module.document
        span = document.span(path, key=True)
        times = (
            self._text((*path, "times")).integer("times", at_least=1)
            if "times" in body.model_fields_set
            else len(body.stack)
        )
        x = self._handed(path, "input", own)
        given = {name: self._handed(path, "with", own, name) for name in body.with_}
        carried = {name: self._handed(path, "carry", own, name) for name in body.carry}
        if both := sorted(given.keys() & carried.keys()):
            fail(
                "SSIR024",
                f"`{both[0]}` is given with: and carried",
                document.span((*path, "carry", both[0]), key=True),
                "do one of the two",
            )
        if is_unknown(x, *given.values(), *carried.values()):
            unknown = self.graph.builder.add(own, "stack", (), Type(dtype=UNKNOWN), span)
            return {"x": unknown, **dict.fromkeys(carried, unknown)}
        bodies: list[str] = []
        made: dict[str, str] = {}
        for i in range(len(body.stack)):
            text = self._text((*path, "stack", i))
            layer = text.component_call()
            key = str(
                (
                    layer.module.document.source.name,
                    layer.name,
                    sorted((k, v) for k, v in layer.dims.items() if v is not None),
                    sorted(layer.constants.items()),
                )
            )
            if key not in made:
                made[key] = self._body(layer, own, x, carried, given, text.span())
            bodies.append(made[key])
        self._each_used(path, given, carried, bodies)
        inside = [one for name in set(bodies) for one in self.graph.builder.bodies[name].walk()]
        if self.shared is not None and any(one.params for one in inside):
            words = f"calls that share `{self.shared.partition('=')[0]}` have a stack in them, whose parameters they do not share"
            fail("SSIR023", words, span, "stack the shared component instead, with `share: true`")
        layers = sum(_layers(self.graph.builder.bodies[name]) for name in bodies) * times // len(bodies)
        if max(times, layers) > _MOST_LAYERS:
            place = document.span((*path, "times"))
            fail("SSIR004", f"{max(times, layers)} layers; at most {_MOST_LAYERS} are allowed", place, "stack fewer")
        pattern = tuple(bodies[i % len(bodies)] for i in range(times))
        operands = [x, *carried.values(), *given.values()]
        stack = self.graph.builder.add(
            own,
            "stack",
            operands,
            x.type,
            span,
            pattern=pattern,
            share=body.share,
            carried=tuple(carried),
            given=tuple(given),
        )
        results = {"x": stack}
        for name, value in carried.items():
            results[name] = self.graph.builder.add(f"{own}/{name}", "part", (stack,), value.type, span, label=name)
        return results

    def _handed(self, path: Path, key: str, own: str, name: str | None = None) -> Node:
        """A value that a stack is given, or a step."""
        text = self._text((*path, key) if name is None else (*path, key, name))
        node = text.value(f"{own}.{key}" if name is None else f"{own}.{key}.{name}")
        text.refuse_condition(node, text.tree)
        if node.type.operator:
            fail(
                "SSIR019",
                "this is an operator, and a value is needed",
                text.span(),
                "an operator can only be the A of a state",
            )
        return node

    def _each_used(self, path: Path, given: Values, carried: Values, bodies: Sequence[str]) -> None:
        """What is given is taken by a layer, and what is carried is given back by one."""
        graphs = [self.graph.builder.bodies[name] for name in bodies]
        taken = {node.name for graph in graphs for node in graph.inputs[1:]}
        returned = {label for graph in graphs for label, _ in graph.outputs[1:]}
        report = Report()
        for key, names in (("with", given), ("carry", carried)):
            for name in names:
                span = self.module.document.span((*path, key, name), key=True)
                if name not in taken:
                    near = nearest(name, taken - given.keys() - carried.keys())
                    help = (
                        f"the nearest input is `{near}`" if near else "remove it, or declare it as an input of a layer"
                    )
                    report.error("SSIR013", f"no layer of this stack has an input `{name}`", span, help=help)
                elif key == "carry" and name not in returned:
                    help = f"add `{name}` to the outputs of a layer, after the first, or hand it on with `with:`"
                    report.error("SSIR013", f"no layer of this stack gives back `{name}`", span, help=help)
        report.raise_if_any()

    def _body(self, layer: Layer, own: str, x: Node, carried: Values, given: Values, span: Span) -> str:
        definition = layer.module.component(layer.name)
        if not definition.input:
            help = "declare the value that runs through the stack: input: {x: [axis]}"
            fail("SSIR013", f"the layer `{layer.name}` has no input", span, help)
        first, *others = definition.input
        offered = {first: x, **carried, **given}
        for name in others:
            if name not in offered:
                fail(
                    "SSIR013",
                    f"the layer `{layer.name}` needs an input `{name}`",
                    span,
                    f"give it to every layer: with: {{{name}: ...}}",
                )
        types = {name: replace(offered[name].type, absent=_of_sequences(offered[name])) for name in definition.input}
        inputs = [(name, type, span) for name, type in types.items()]
        dims = unified(
            layer.module,
            layer.name,
            layer.dims,
            layer.overrides,
            {name: type for name, type, _ in inputs},
            {},
            span,
            layer.module is not self.module,
        )
        callers = self.callers_of(layer.module, layer.name, span)
        self.graph.calls.count(span)

        def start(attempt: Elaborator, values: Values) -> Instance:
            return Instance(attempt, layer.module, layer.name, dims, layer.constants, values, "", None, callers)

        graph = Attempts(layer.name, inputs, start, self.graph.gather, self.graph.calls).graph()
        out = graph[graph.outputs[0][1]].type
        if set(out.axes) != set(x.type.axes):
            fail(
                "SSIR014",
                f"a layer gives back the axes that it takes: `{layer.name}` takes [{', '.join(map(str, x.type.axes))}] "
                f"and gives [{', '.join(map(str, out.axes))}]",
                span,
                "map its output back, with linear, merge or rename",
            )
        for label, name in graph.outputs[1:]:
            if label in carried and set(graph[name].type.axes) != set(carried[label].type.axes):
                help = "give it back with the axes that it came with"
                fail("SSIR014", f"`{label}` is carried from layer to layer, so its axes must stay", span, help)
        name, n = f"{own}[{layer.name}]", 1
        while name in self.graph.builder.bodies:
            n += 1
            name = f"{own}[{layer.name}_{n}]"
        self.graph.builder.bodies[name] = replace(graph, name=layer.name)
        return name


def _of_sequences(node: Node) -> tuple[tuple[str, int], ...]:
    """What may be absent of a value wherever it is handed to: slots of a whole sequence."""
    return tuple((name, lag) for name, lag in node.type.absent if lag == WHOLE)


def _layers(graph: Graph) -> int:
    """How many layers a graph counts as: one, and those of the stacks in it."""
    return 1 + sum(
        _layers(graph.bodies[name]) for node in graph if node.op == "stack" for name in node.attrs["pattern"]
    )
