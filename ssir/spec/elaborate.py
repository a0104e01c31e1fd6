"""From a spec to the IR: names become nodes, calls become what they call, every axis gets its size.

Components are inlined; a stack keeps its pattern as bodies. A value that is remembered before it is known (``delay(y)`` in the
graph of y) gets its axes by trying again: each attempt starts from the axes that the last one found.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin

from ssir.depth import TooDeep, deep
from ssir.errors import Diagnostic, Report, Span, SpecError, nearest
from ssir.functions.kinds import Init, Later, Nested, Symbol
from ssir.functions.memory import discretized, system
from ssir.functions.operators import combine, lifted, turn
from ssir.ir.graph import Axis, Graph, Node, Type
from ssir.registry import registry
from ssir.spec import expr as syntax
from ssir.spec import init as initial
from ssir.spec.build import UNKNOWN, Builder, Site, is_unknown
from ssir.spec.module import Module, sized
from ssir.spec.schema import Component, Discretize, Stack, State
from ssir.spec.static import StaticError, evaluate, is_static

BUILT_IN = ("position", "start", "layer")
_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div", "**": "pow", "%": "mod"}
_COMPARISON = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
_DEEPEST = 64
_MOST_LAYERS = 10_000

Path = tuple[str | int, ...]
Values = dict[str, Node]


def fail(code: str, message: str, span: Span | None, help: str | None = None, notes: Sequence[str] = ()) -> NoReturn:
    raise SpecError([Diagnostic(code, message, span, tuple(notes), help)])


def elaborate(module: Module, component: str, overrides: Mapping[str, float] | None = None) -> Graph:
    """The IR of a component of a spec. Raises SpecError with everything that is wrong with the file."""
    try:
        return _elaborate(module, component, overrides or {}, False)
    except SpecError as error:
        raise SpecError(_each_once([*error.diagnostics, *survey(module, overrides or {})])) from None


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
                _elaborate(module, component, overrides, True)
    return _each_once([*sizes.diagnostics, *report.diagnostics])


def _each_once(faults: Sequence[Diagnostic]) -> list[Diagnostic]:
    """One fault a place: what is inlined twice fails twice."""
    found: dict[Any, Diagnostic] = {}
    for fault in faults:
        place = (fault.span.source.name, fault.span.line, fault.span.column) if fault.span else fault
        found.setdefault((fault.code, place), fault)
    return list(found.values())


def _elaborate(module: Module, component: str, overrides: Mapping[str, float], gather: bool) -> Graph:
    dims = sized(module, overrides)
    definition = module.component(component)
    inputs: list[tuple[str, Type, Span]] = []
    report = Report()
    for name, axes in definition.input.items():
        path: Path = ("components", component, "input", name)
        with report.catching():
            inputs.append((name, _input_type(module, dims, axes, path), module.document.span(path)))
    report.raise_if_any()
    attempts = _Attempts(
        component, inputs, lambda graph, values: _Instance(graph, module, component, dims, values, "", None, ()), gather
    )
    try:
        with deep():
            return attempts.graph()
    except TooDeep:
        fail(
            "SSIR004",
            "the graph is too deep",
            module.document.span(("components", component), key=True),
            "repeat components with a stack",
        )


def _input_type(module: Module, dims: Mapping[str, float | None], axes: str | list[str], path: Path) -> Type:
    if axes == "token":
        return Type(dtype="int")
    return Type(_axes(module, dims, axes, path, "the input"))


def _axes(
    module: Module, dims: Mapping[str, float | None], names: str | list[str], path: Path, what: str
) -> tuple[Axis, ...]:
    """The axes that a key lists; each stands once."""
    found: list[Axis] = []
    for i, name in enumerate([names] if isinstance(names, str) else names):
        span = module.document.span(path if isinstance(names, str) else (*path, i))
        axis = _axis(module, dims, name, span)
        if axis in found:
            fail(
                "SSIR014",
                f"{what} has the axis `{name}` twice",
                span,
                f"call the second one `{name}_`, a further axis of the same size",
            )
        found.append(axis)
    return tuple(found)


def _axis(module: Module, dims: Mapping[str, float | None], name: str, span: Span | None) -> Axis:
    base = name if name in dims else name.rstrip("_")
    if base not in dims:
        near = nearest(name, [*dims, "token"])
        fail(
            "SSIR011",
            f"no dim is called `{name}`",
            span,
            f"the nearest is `{near}`" if near else f"declare it: dims: {{{name}: 64}}",
        )
    size = dims[base]
    if size is not None and (size != int(size) or size < 1):
        fail("SSIR018", f"`{name}` is {size}: the size of an axis is a whole number of at least 1", span)
    return Axis(name, None if size is None else int(size))


class _Attempts:
    """Elaborates one graph until the axes of what is remembered agree with what they were taken to be."""

    def __init__(
        self,
        name: str,
        inputs: list[tuple[str, Type, Span]],
        start: Callable[[_Elaborator, Values], _Instance],
        gather: bool,
    ) -> None:
        self.name, self.inputs, self.start, self.gather = name, inputs, start, gather

    def graph(self) -> Graph:
        assumed: dict[str, Type] = {}
        for _ in range(_DEEPEST):
            elaborator = _Elaborator(dict(assumed), self.gather)
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
        raise AssertionError("unreachable: axes only grow")


class _Elaborator:
    """One attempt at a graph: the builder, what is put off, and what was assumed of it. With ``gather`` every node is looked at,
    needed or not, and a fault does not end the attempt."""

    def __init__(self, assumed: dict[str, Type], gather: bool) -> None:
        self.builder = Builder()
        self.assumed = assumed
        self.gather = gather
        self.put_off: list[tuple[Node, Callable[[], Node]]] = []
        self.known: dict[str, Node] = {}

    def later(self, name: str, span: Span | None, evaluate: Callable[[], Node]) -> Node:
        """A stand-in for a value that is needed only at the next step."""
        unique = self.builder.fresh(f"{name}.later")
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
        return Graph(
            name, nodes, tuple((label, actual(node.name)) for label, node in outputs.items()), dict(self.builder.bodies)
        )


@dataclass
class _Instance:
    """A component with its inputs bound: the meaning of the names in its graph."""

    graph: _Elaborator
    module: Module
    name: str
    dims: dict[str, float | None]
    inputs: Values
    scope: str
    shared: str | None
    callers: tuple[tuple[str, str], ...]
    done: dict[str, Values] = field(default_factory=dict)
    doing: list[str] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
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
        report.raise_if_any()

    def outputs(self) -> Values:
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
                if values[label].type.operator:
                    fail(
                        "SSIR019",
                        f"`{name}` is an operator, and an output is a value",
                        span,
                        "an operator can only be the A of a state",
                    )
        report.raise_if_any()
        return values

    def named(self, name: str, span: Span | None) -> Node:
        """What a bare name stands for."""
        if name in self.targets:
            return self.node(self.targets[name], span)[name]
        if name in self.inputs:
            return self.inputs[name]
        if name in self.module.constants or name in self.dims:
            value = self.module.constants.get(name, self.dims.get(name))
            if value is None:
                fail("SSIR018", f"`{name}` is unbounded: it has no size to reckon with", span)
            return self.graph.builder.add(self._join(name), "const", (), Type(), span, value=value)
        if name in BUILT_IN:
            dtype = "bool" if name == "start" else "int"
            return self.graph.builder.add(self._join(name), name, (), Type(dtype=dtype), span)
        near = nearest(name, [*self.targets, *self.inputs, *self.module.constants, *self.dims, *BUILT_IN])
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
            ring = [*self.doing[self.doing.index(key) :], key]
            fail(
                "SSIR016",
                f"`{key}` depends on itself within one step: {' -> '.join(ring)}",
                self.module.document.span((*self.path, "graph", key), key=True),
                help=f"read what it was a step before: delay({key})",
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
            return {names[0]: self._state(body, own, path)}
        if isinstance(body, Stack):
            results = self._stack(body, own, path)
        else:
            text = self._text(path)
            results = text.results(own)
        if len(names) == 1:
            return {names[0]: next(iter(results.values()))}
        if len(results) != len(names):
            fail(
                "SSIR013",
                f"there are {len(names)} names for {len(results)} outputs: {', '.join(results)}",
                self.module.document.span(path, key=True),
            )
        return dict(zip(names, results.values(), strict=True))

    def call_scope(self, name: str) -> str:
        """The path of a called component: its name, numbered from the second call on."""
        self.calls[name] = n = self.calls.get(name, 0) + 1
        return self._join(name if n == 1 else f"{name}_{n}")

    def _join(self, name: str) -> str:
        return f"{self.scope}.{name}" if self.scope else name

    def _text(self, path: Path) -> _Text:
        return _Text(self, path)

    def _state(self, body: State, own: str, path: Path) -> Node:
        span = self.module.document.span(path, key=True)
        places = self.module.document
        report = Report()
        with report.catching():
            axes = _axes(self.module, self.dims, body.state, (*path, "state"), "the state")
        own = self.graph.builder.reserve(own)
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
                roles[role] = self.graph.later(
                    name, spans[role], lambda text=text, name=name, role=role: self._role(text, name, role)
                )  # type: ignore[misc]
            else:
                with report.catching():
                    roles[role] = self._role(text, name, role)
        report.raise_if_any()
        if body.discretize is not None and not is_unknown(*roles.values()):
            roles = self._sampled(roles, body.discretize, own, path, axes, spans)
        site = Site(self.graph.builder, own, self.scope, self.shared, span, spans, self)
        return system(site, axes, roles, body.read, body.algebra)

    def _role(self, text: _Text, name: str, role: str) -> Node:
        node = text.value(name)
        if role == "A":
            return (
                node
                if is_unknown(node)
                else lifted(Site(self.graph.builder, name, self.scope, None, node.at, {}, self), node)
            )
        if node.type.operator:
            fail(
                "SSIR019",
                f"an operator can only be the A of a state, not its {role}",
                text.span(),
                "use its entries: a `param` or another value",
            )
        return node

    def _sampled(
        self, roles: Values, how: Discretize, own: str, path: Path, axes: tuple[Axis, ...], spans: dict[str, Span]
    ) -> Values:
        if "A" not in roles:
            fail(
                "SSIR007",
                "a continuous-time state needs A",
                self.module.document.span(path, key=True),
                "give A, the rate of change",
            )
        builder = self.graph.builder
        site = Site(builder, own, self.scope, self.shared, spans["A"], spans, self)
        dt = self._text((*path, "discretize", "dt")).value(f"{own}.dt")
        a = roles["A"]
        rate = builder.nodes[a.inputs[0]] if a.op == "op.diag" else a
        sampled_a, sampled_b = discretized(site, rate, roles.get("B"), how.method, dt, axes)
        return {**roles, "A": sampled_a, "B": sampled_b}

    def _stack(self, body: Stack, own: str, path: Path) -> Values:
        document = self.module.document
        span = document.span(path, key=True)
        times = (
            self._text((*path, "times")).integer("times", at_least=1)
            if "times" in body.model_fields_set
            else len(body.stack)
        )
        x = self._text((*path, "input")).value(f"{own}.input")
        given = {name: self._text((*path, "with", name)).value(f"{own}.{name}") for name in body.with_}
        carried = {name: self._text((*path, "carry", name)).value(f"{own}.{name}") for name in body.carry}
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
                )
            )
            if key not in made:
                made[key] = self._body(layer, own, x, carried, given, text.span())
            bodies.append(made[key])
        pattern = tuple(bodies[i % len(bodies)] for i in range(times))
        operands = [x, *carried.values(), *given.values()]
        stack = self.graph.builder.add(
            own, "stack", operands, x.type, span, pattern=pattern, carried=tuple(carried), given=tuple(given)
        )
        results = {"x": stack}
        for name, value in carried.items():
            results[name] = self.graph.builder.add(f"{own}.{name}", "part", (stack,), value.type, span, label=name)
        return results

    def _body(self, layer: _Layer, own: str, x: Node, carried: Values, given: Values, span: Span) -> str:
        definition = layer.module.component(layer.name)
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
        inputs = [(name, replace(offered[name].type, absent=()), span) for name in definition.input]
        dims = _unified(
            layer.module,
            layer.name,
            layer.dims,
            layer.overrides,
            {name: type for name, type, _ in inputs},
            {},
            span,
            layer.module is not self.module,
        )
        callers = (*self.callers, (self.module.document.source.name, self.name))
        if (layer.module.document.source.name, layer.name) in callers:
            fail("SSIR017", f"the component `{layer.name}` is a layer of itself", span)

        def start(attempt: _Elaborator, values: Values) -> _Instance:
            return _Instance(attempt, layer.module, layer.name, dims, values, "", None, callers)

        graph = _Attempts(layer.name, inputs, start, self.graph.gather).graph()
        out = graph[graph.outputs[0][1]].type
        if set(out.axes) != set(x.type.axes):
            fail(
                "SSIR014",
                f"a layer of a stack gives back what it takes: `{layer.name}` takes [{', '.join(map(str, x.type.axes))}] and gives [{', '.join(map(str, out.axes))}]",
                span,
            )
        for label, name in graph.outputs[1:]:
            if label in carried and set(graph[name].type.axes) != set(carried[label].type.axes):
                fail("SSIR014", f"`{label}` is carried from layer to layer, so its axes must stay", span)
        name, n = f"{own}[{layer.name}]", 1
        while name in self.graph.builder.bodies:
            n += 1
            name = f"{own}[{layer.name}_{n}]"
        self.graph.builder.bodies[name] = replace(graph, name=layer.name)
        return name


@dataclass(frozen=True)
class _Layer:
    """A component named in a stack, with the dims that the entry changes."""

    module: Module
    name: str
    dims: dict[str, float | None]
    overrides: dict[str, float]


def _unified(
    module: Module,
    component: str,
    dims: dict[str, float | None],
    overrides: Mapping[str, float],
    types: Mapping[str, Type],
    spans: Mapping[str, Span],
    span: Span | None,
    borrowed: bool,
) -> dict[str, float | None]:
    """The dims of a call: those of the spec, changed by the sizes of the axes of the arguments and by keyword."""
    definition = module.component(component)
    changes = dict(overrides)
    for name, type in types.items():
        declared = definition.input[name]
        names = [] if declared == "token" else [declared] if isinstance(declared, str) else declared
        place = spans.get(name, span)
        if declared == "token" and type.dtype != "int":
            fail("SSIR019", f"the input `{name}` of `{component}` is a token", place)
        if set(names) != set(type.names):
            fail(
                "SSIR014",
                f"the input `{name}` of `{component}` has axes [{', '.join(names)}], and is given [{', '.join(type.names)}]",
                place,
                help="rename the axes: rename(x, old=new)" if len(names) == len(type.names) else None,
            )
        for axis in type.axes:
            if axis.name in dims and dims[axis.name] != axis.size and axis.size is not None:
                if changes.get(axis.name, axis.size) != axis.size:
                    fail(
                        "SSIR015",
                        f"`{axis.name}` is {axis.size} in `{name}`, but {changes[axis.name]} elsewhere in this call",
                        place,
                    )
                changes[axis.name] = axis.size
    return sized(module, {**module.overrides_of(dims), **changes}, span, whole=not borrowed) if changes else dims


class _Text:
    """An expression of the spec and the instance that it belongs to."""

    def __init__(self, instance: _Instance, path: Path) -> None:
        self.instance, self.path = instance, path
        self.document = instance.module.document
        self.tree = instance.module.expression(path)

    def span(self, tree: syntax.Expr | None = None) -> Span:
        if tree is None:
            return self.document.span(self.path)
        return self.document.locate(self.path, tree.start, tree.end)

    def place(self, start: int, end: int) -> Span:
        return self.document.locate(self.path, start, end)

    # What an expression can be asked for: values, numbers, axes, a component.

    def results(self, name: str) -> Values:
        """The values of a root expression: several, if it calls a component with several outputs."""
        if isinstance(self.tree, syntax.Call) and (callee := self.instance.module.callee(self.tree.function)):
            return self._component(self.tree, callee, name)
        return {"": self._value(self.tree, name, root=True)}

    def value(self, name: str) -> Node:
        return next(iter(self.results(name).values()))

    def integer(self, what: str, at_least: int = 0) -> int:
        value = self._number(self.tree)
        if value != int(value) or value < at_least:
            fail("SSIR018", f"{what} is a whole number of at least {at_least}, not {value}", self.span())
        return int(value)

    def component_call(self) -> _Layer:
        """A component named, or called with dims alone."""
        tree, instance = self.tree, self.instance
        name = tree.id if isinstance(tree, syntax.Name) else tree.function if isinstance(tree, syntax.Call) else None
        callee = instance.module.callee(name) if name else None
        if name is None or callee is None:
            known = instance.module.callable_names()
            near = nearest(name or "", known)
            fail(
                "SSIR020",
                f"no component is called `{name}`" if name else "a component is named here",
                self.span(),
                f"the nearest is `{near}`" if near else f"there are {', '.join(known)}",
            )
        module, component = callee
        overrides: dict[str, float] = {}
        if isinstance(tree, syntax.Call):
            if tree.args:
                fail(
                    "SSIR013",
                    "a layer is given only dims: its inputs come from the stack",
                    self.span(tree.args[0]),
                    "use `with:` for further inputs",
                )
            overrides = {key: self._number(value) for key, value, _, _ in tree.kwargs}
            self._check_dims(module, component, tree, ())
        borrowed = module is not instance.module
        base = sized(module, {}, self.span()) if borrowed else instance.dims
        dims = (
            sized(module, {**module.overrides_of(base), **overrides}, self.span(), whole=not borrowed)
            if overrides
            else dict(base)
        )
        return _Layer(module, component, dims, overrides)

    # The walk over the tree.

    def _statics(self) -> dict[str, float | None]:
        instance = self.instance
        names: dict[str, float | None] = {**instance.dims, **instance.module.constants}
        return {
            name: value for name, value in names.items() if name not in instance.targets and name not in instance.inputs
        }

    def _number(self, tree: syntax.Expr) -> float:
        try:
            return evaluate(tree, {**self.instance.dims, **self.instance.module.constants})
        except StaticError as error:
            fail(error.code, error.message, self.place(error.start, error.end), error.help)

    def _site(self, tree: syntax.Expr, name: str, label: str, root: bool, spans: dict[str, Span] | None = None) -> Site:
        builder = self.instance.graph.builder
        unique = builder.reserve(name if root else f"{name}.{label}")
        return Site(
            builder, unique, self.instance.scope, self.instance.shared, self.span(tree), spans or {}, self.instance
        )

    def _value(self, tree: syntax.Expr, name: str, root: bool = False) -> Node:
        if not isinstance(tree, syntax.Name | syntax.Number) and is_static(tree, self._statics()):
            value = self._number(tree)
            return self._site(tree, name, "const", root).emit("const", (), Type(), value=value)
        match tree:
            case syntax.Number(value=number):
                return self._site(tree, name, "const", root).emit("const", (), Type(), value=number)
            case syntax.Name(id=identifier):
                return self.instance.named(identifier, self.span(tree))
            case syntax.Unary(operand=operand):
                return self._operation(tree, "neg", (operand,), name, root)
            case syntax.Binary(op=op, left=left, right=right):
                return self._operation(tree, _ARITHMETIC[op], (left, right), name, root)
            case syntax.Compare(op=op, left=left, right=right):
                return self._operation(tree, _COMPARISON[op], (left, right), name, root, "bool")
            case syntax.Call(function=function):
                callee = self.instance.module.callee(function)
                if callee is not None:
                    return next(iter(self._component(tree, callee, name).values()))
                return self._call(tree, name, root)
            case syntax.Bool():
                fail("SSIR019", "`true` and `false` are only arguments, not values", self.span(tree), "use 1 and 0")
            case syntax.List():
                fail(
                    "SSIR019",
                    "a list is only an argument, not a value",
                    self.span(tree),
                    "join values with pack or concat, or write array([...], axes)",
                )

    def _operation(
        self,
        tree: syntax.Expr,
        op: str,
        operands: tuple[syntax.Expr, ...],
        name: str,
        root: bool,
        dtype: str | None = None,
    ) -> Node:
        nodes = [self._value(operand, name) for operand in operands]
        site = self._site(tree, name, op, root)
        if any(node.type.operator for node in nodes):
            if op not in ("add", "sub", "mul", "neg"):
                fail("SSIR019", f"operators have sums, differences and products, but no `{op}`", self.span(tree))
            return combine(site, op, *nodes)
        return site.elementwise(op, nodes, dtype)

    def _call(self, tree: syntax.Call, name: str, root: bool) -> Node:
        function = registry.get("function", tree.function)
        span = self.place(tree.function_start, tree.function_end)
        if tree.function == "rotate" and len(tree.args) == 1:
            function = turn
        if function is None:
            known = [*registry.names("function"), *self.instance.module.callable_names()]
            near = nearest(tree.function, known)
            broken = [plugin.name for plugin in registry.plugins if plugin.error]
            notes = [f"the plugin `{plugin}` failed; `ssir plugins` says why" for plugin in broken]
            fail(
                "SSIR012",
                f"there is no function or component `{tree.function}`",
                span,
                f"the nearest is `{near}`"
                if near
                else "`ssir list` shows the architectures, docs/language.md the functions",
                notes,
            )
        arguments, spans = self._bind(tree, function, name)
        return function(self._site(tree, name, tree.function, root, spans), **arguments)  # type: ignore[no-any-return]

    def _bind(
        self, tree: syntax.Call, function: Callable[..., Node], name: str
    ) -> tuple[dict[str, Any], dict[str, Span]]:
        parameters, rest = _signature(function)
        given: dict[str, syntax.Expr] = {}
        usage = _usage(tree.function, parameters)
        positional = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        for i, arg in enumerate(tree.args):
            if i >= len(positional):
                fail("SSIR013", f"`{tree.function}` takes at most {len(positional)} arguments", self.span(arg), usage)
            given[positional[i].name] = arg
        extra: dict[str, syntax.Expr] = {}
        for key, value, start, end in tree.kwargs:
            if key in given or key in extra:
                fail("SSIR013", f"`{key}` is given twice", self.place(start, end), usage)
            if any(p.name == key for p in parameters):
                given[key] = value
            elif rest is not None:
                extra[key] = value
            else:
                near = nearest(key, [p.name for p in parameters])
                fail(
                    "SSIR013",
                    f"`{tree.function}` has no argument `{key}`",
                    self.place(start, end),
                    f"the nearest is `{near}`" if near else usage,
                )
        for parameter in parameters:
            if parameter.default is inspect.Parameter.empty and parameter.name not in given:
                fail(
                    "SSIR013",
                    f"`{tree.function}` lacks the argument `{parameter.name}`",
                    self.place(tree.function_start, tree.function_end),
                    usage,
                )
        spans = {key: self.span(value) for key, value in {**given, **extra}.items()}
        kinds = {p.name: p.annotation for p in parameters}
        if tree.function == "param":
            self._param_axes(given)
        values = {key: self._argument(value, kinds[key], name) for key, value in given.items()}
        values.update({key: self._argument(value, rest, name) for key, value in extra.items()})
        return values, spans

    def _param_axes(self, given: dict[str, syntax.Expr]) -> None:
        axes = given.get("axes")
        if isinstance(axes, syntax.Number | syntax.Bool):
            fail(
                "SSIR014",
                "the axes of a parameter are named",
                self.span(axes),
                "write param([axis, ...]), or param([]) for one number",
            )

    def _argument(self, tree: syntax.Expr, kind: Any, name: str) -> Any:
        options = (
            [option for option in get_args(kind) if option is not NoneType]
            if get_origin(kind) not in (None, tuple, list, Literal)
            else [kind]
        )
        kind = options[0]
        if kind is Node:
            node = self._value(tree, name)
            if node.type.operator:
                fail(
                    "SSIR019",
                    "this is an operator, and a value is needed",
                    self.span(tree),
                    "an operator can only be the A of a state",
                )
            return node
        if kind is Later:
            return self.instance.graph.later(name, self.span(tree), lambda: self._value(tree, name))
        if kind is Axis:
            return self._axis(tree)
        if get_origin(kind) is tuple:
            return tuple(map(self._axis, tree.items)) if isinstance(tree, syntax.List) else (self._axis(tree),)
        if get_origin(kind) is list:
            if not isinstance(tree, syntax.List) or not tree.items:
                fail("SSIR013", "values in brackets are needed: [a, b]", self.span(tree))
            return [self._value(item, name) for item in tree.items]
        if kind is Nested:
            return self._nested(tree, name)
        if kind is Init:
            return syntax.unparse(self._initialiser(tree))
        if kind is Symbol:
            if not isinstance(tree, syntax.Name):
                fail("SSIR013", "a bare word is needed", self.span(tree))
            return tree.id
        if get_origin(kind) is Literal:
            if not isinstance(tree, syntax.Name) or tree.id not in get_args(kind):
                fail("SSIR013", f"one of {', '.join(map(str, get_args(kind)))} is needed", self.span(tree))
            return tree.id
        if kind is bool:
            if not isinstance(tree, syntax.Bool):
                fail("SSIR013", "`true` or `false` is needed", self.span(tree))
            return tree.value
        if kind is str:
            if not isinstance(tree, syntax.Name):
                fail("SSIR013", "a name is needed", self.span(tree))
            return tree.id
        number = self._number(tree)
        if kind is int:
            if number != int(number):
                fail("SSIR018", f"a whole number is needed, not {number}", self.span(tree))
            return int(number)
        return float(number)

    def _axis(self, tree: syntax.Expr) -> Axis:
        if not isinstance(tree, syntax.Name):
            fail(
                "SSIR014",
                "an axis is named by a dim",
                self.span(tree),
                "declare the size under `dims:` and name it here",
            )
        return _axis(self.instance.module, self.instance.dims, tree.id, self.span(tree))

    def _nested(self, tree: syntax.Expr, name: str) -> Nested:
        if not isinstance(tree, syntax.List):
            fail("SSIR013", "values in brackets are needed: [[0, 1], [1, 0]]", self.span(tree))
        return Nested(
            [
                self._nested(item, name) if isinstance(item, syntax.List) else self._value(item, name)
                for item in tree.items
            ]
        )

    def _initialiser(self, tree: syntax.Expr) -> syntax.Expr:
        """Close an initialiser over dims and constants, and check its words."""
        statics = {**self.instance.dims, **self.instance.module.constants}
        match tree:
            case syntax.Number():
                return tree
            case _ if not isinstance(tree, syntax.Name) and is_static(tree, statics):
                value = self._number(tree)
                return (
                    syntax.Number(value, tree.start, tree.end)
                    if value >= 0
                    else syntax.Unary("-", syntax.Number(-value, tree.start, tree.end), tree.start, tree.end)
                )
            case syntax.Name(id=name):
                if name in initial.WORDS or registry.get("initializer", name):
                    return tree
                return syntax.Number(self._number(tree), tree.start, tree.end)
            case syntax.Unary(operand=operand):
                return replace(tree, operand=self._initialiser(operand))
            case syntax.Binary(left=left, right=right) | syntax.Compare(left=left, right=right):
                return replace(tree, left=self._initialiser(left), right=self._initialiser(right))
            case syntax.Call(function="arange", args=(syntax.Name() as axis,), kwargs=()):
                self._axis(axis)
                return tree
            case syntax.Call(function=function, args=args, kwargs=()):
                bounds = initial.DRAWS.get(function) or initial.FUNCTIONS.get(function)
                if bounds is None and registry.get("initializer", function) is None:
                    near = nearest(function, [*initial.DRAWS, *initial.FUNCTIONS, *initial.WORDS])
                    fail(
                        "SSIR012",
                        f"`{function}` is no initialiser",
                        self.place(tree.function_start, tree.function_end),
                        f"the nearest is `{near}`" if near else None,
                    )
                if bounds and not bounds[0] <= len(args) <= bounds[1]:
                    fail(
                        "SSIR013",
                        f"`{function}` takes {bounds[0] if bounds[0] == bounds[1] else f'{bounds[0]} to {bounds[1]}'} arguments here",
                        self.span(tree),
                    )
                return replace(tree, args=tuple(self._initialiser(arg) for arg in args))
        fail(
            "SSIR013",
            "this is no initialiser",
            self.span(tree),
            "write zeros, ones, normal(0.02), uniform(a, b), or arithmetic over arange(axis)",
        )

    # Calls of components.

    def _check_dims(self, module: Module, component: str, tree: syntax.Call, allowed: Sequence[str]) -> None:
        definition = module.component(component)
        for key, _, start, end in tree.kwargs:
            if (
                key not in module.file.dims
                and key not in module.file.constants
                and key not in definition.input
                and key not in allowed
            ):
                near = nearest(key, [*definition.input, *module.file.dims, *module.file.constants, *allowed])
                fail(
                    "SSIR013",
                    f"`{component}` has no input or dim `{key}`",
                    self.place(start, end),
                    f"the nearest is `{near}`" if near else None,
                )

    def _component(self, tree: syntax.Call, callee: tuple[Module, str], name: str) -> Values:
        module, component = callee
        instance, definition = self.instance, module.component(component)
        place = self.place(tree.function_start, tree.function_end)
        callers = (*instance.callers, (instance.module.document.source.name, instance.name))
        if (module.document.source.name, component) in callers:
            ring = [name for _, name in callers[callers.index((module.document.source.name, component)) :]]
            fail(
                "SSIR017",
                f"the component `{component}` calls itself: {' -> '.join([*ring, component])}",
                place,
                "use a stack to repeat a component",
            )
        names = list(definition.input)
        usage = f"its inputs are {', '.join(names)}"
        if len(tree.args) > len(names):
            fail("SSIR013", f"`{component}` takes {len(names)} inputs", self.span(tree.args[len(names)]), usage)
        self._check_dims(module, component, tree, ("share",))
        given = dict(zip(names, tree.args, strict=False))
        overrides: dict[str, float] = {}
        share: str | None = None
        for key, value, start, end in tree.kwargs:
            if key in given:
                fail("SSIR013", f"`{key}` is given twice", self.place(start, end), usage)
            if key in definition.input:
                given[key] = value
            elif key == "share":
                share = (
                    value.id if isinstance(value, syntax.Name) else fail("SSIR013", "share is a name", self.span(value))
                )
            else:
                overrides[key] = self._number(value)
        for key in names:
            if key not in given:
                fail("SSIR013", f"`{component}` lacks its input `{key}`", place, usage)
        scope = instance.call_scope(tree.function)
        inputs = {key: self._value(value, name) for key, value in given.items()}
        known = {key: node.type for key, node in inputs.items() if not is_unknown(node)}
        base = instance.dims if module is instance.module else sized(module, {}, place)
        dims = _unified(
            module,
            component,
            base,
            overrides,
            known,
            {key: self.span(value) for key, value in given.items()},
            place,
            module is not instance.module,
        )
        shared = f"{share}={scope}" if share is not None else instance.shared
        call = _Instance(instance.graph, module, component, dims, inputs, scope, shared, callers)
        return call.outputs()


@cache
def _signature(function: Callable[..., Node]) -> tuple[tuple[inspect.Parameter, ...], Any]:
    """The parameters after the site, and the kind of further keywords."""
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    rest = next((p.annotation for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD), None)
    return tuple(p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD), rest


def _usage(name: str, parameters: Sequence[inspect.Parameter]) -> str:
    shown = [p.name if p.default is inspect.Parameter.empty else f"{p.name}=..." for p in parameters]
    return f"write {name}({', '.join(shown)})"
