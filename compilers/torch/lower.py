"""From a graph and its plan to a module: the source of its classes, the classes, and parameters in them."""

from __future__ import annotations

import ast
import hashlib
import linecache
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.resources import files
from types import ModuleType
from typing import Any, Literal

import torch

from ssir.analysis.facts import facts
from ssir.compilers.forms import Match
from ssir.compilers.plan import Plan, Trained
from ssir.compilers.program.dtypes import memory_kind
from ssir.compilers.program.program import Program, program
from ssir.compilers.runtime.model import Model
from ssir.compilers.step.c import Step
from ssir.compilers.torch import operands, steps
from ssir.compilers.torch.code import Code, Line, called, code, literal, statements
from ssir.compilers.torch.emit import RESERVED, Emitter, Mode, Unit, unused
from ssir.compilers.torch.methods import with_constants, written
from ssir.compilers.torch.operands import TIME
from ssir.compilers.torch.regions import Again, Regions
from ssir.compilers.torch.submodules import Part
from ssir.ir.graph import Graph, Node, parents

RUNTIME = "ssir.compilers.runtime"


@dataclass(frozen=True)
class Source:
    """The text of a Python module, which a program became. ``classes``: the class of each graph, by its path among bodies. ``modules``: the
    runtime modules that it imports (those of the core by their short name)."""

    program: Program
    text: str
    classes: Mapping[str, str]
    modules: tuple[str, ...]


def write(graph: Graph, plan: Plan, title: str, package: str = "ssir") -> Source:
    """The source of the classes of a graph and its bodies. It imports torch and runtime modules only; those of this project lie in ``package``
    as they do in ssir."""
    writer, made = _Writer(plan, steps.native_step(graph)), program(graph, plan.chosen)
    writer.visit(graph, "", made, title, _trained(plan.trained))
    body = "\n\n\n".join([*(text for _, text in writer.definitions.values()), *writer.texts])
    body += _MODEL.format(root=writer.classes[""])
    lines = [
        f"from {located(name, package)} import {', '.join(_imported_as(name, own) for own, name in sorted(used.items()))}"
        for name, used in sorted(writer.imports.items())
    ]
    if "layers." in body:
        lines.insert(0, f"from {located('layers', package).rpartition('.')[0]} import layers")
    functional = "import torch.nn.functional as F\n" if "F." in body else ""
    head = f'"""{title}"""\n\nfrom __future__ import annotations\n\nfrom collections.abc import Mapping\nfrom typing import Any\n\nimport torch\n{functional}from torch import Tensor\n\n'
    modules = tuple(sorted({*writer.imports, *(["layers"] if "layers." in body else [])}))
    return Source(made, f"{head}{chr(10).join(lines)}\n\n\n{body}\n", writer.classes, modules)


@dataclass(frozen=True)
class _Training:
    """A graph as it is while training, its plan, its program."""

    graph: Graph
    plan: Plan
    program: Program
    mode: Mode

    def body(self, name: str) -> _Training:
        return _Training(self.graph.bodies[name], self.plan, self.program.bodies[name], self.mode)


def _trained(trained: Trained | None) -> _Training | None:
    if trained is None:
        return None
    mode: Literal["sequence", "step"] = "sequence" if trained.graph.has_time else "step"
    made = program(trained.graph, trained.plan.chosen, training=mode)
    return _Training(trained.graph, trained.plan, made, mode)


def _imported_as(name: str, own: str) -> str:
    return name if name == own else f"{name} as {own}"


_MODEL = '''


def model(dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Model:
    """The whole, its parameters not yet given values."""
    return {root}(dtype, device)
'''


@dataclass
class _Writer:
    plan: Plan
    native: Step | None
    imports: dict[str, dict[str, str]] = field(
        default_factory=lambda: {"body": {"Body": "Body"}, "model": {"Model": "Model"}}
    )
    classes: dict[str, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    definitions: dict[str, tuple[str, str]] = field(default_factory=dict)

    def visit(self, graph: Graph, where: str, program: Program, title: str, training: _Training | None) -> None:
        for name, body in graph.bodies.items():
            inner = training.body(name) if training else None
            self.visit(body, f"{where}{name}/", program.bodies[name], title, inner)
        regions = Regions(graph, _chosen(graph, self.plan, where).items())
        if training:
            regions.hold(training.graph, _chosen(training.graph, training.plan, where).items())
        before, known = deepcopy(self.imports), dict(self.definitions)
        while True:
            try:
                self._classes(graph, where, program, title, regions, training)
                return
            except Again:
                self.imports.clear()
                self.imports.update(deepcopy(before))
                self.definitions.clear()
                self.definitions.update(known)

    def _classes(
        self, graph: Graph, where: str, program: Program, title: str, regions: Regions, training: _Training | None
    ) -> None:
        """Write the class of a graph, and those of the components in it."""
        match = _chosen(graph, self.plan, where)
        unit = Unit(graph, where, match, self.imports, regions, self.definitions)
        methods = []
        for name, function in program.functions.items():
            if name == "begin":
                methods += _begin(unit, function)
            else:
                mode: Mode = "step" if name.startswith("step") else "sequence"
                methods += _method(unit, f"_{name}", mode, function, apart="apart" in name)
        if training:
            methods += self._training(unit, where, training)
        if self.native is not None:
            methods += steps.natives(unit, self.native.kept[where])
        if not where:
            methods += _doors([argument.id for argument in _arguments(unit, "", graph)], training is not None)
        silent = regions.paths - regions.texts.keys()
        if silent:
            regions.dissolve(min(silent))
        inner: dict[str, str] = {}
        for region in sorted(regions.paths, key=lambda path: (-path.count("."), path)):
            about = f'    """The component {graph.calls[region]}."""'
            parts = [about, *self._layout(unit, region, inner), *regions.texts[region]]
            inner[region] = self._named(graph.calls[region], "Body", "\n\n".join(parts))
        text = "\n\n".join(
            [f'    """{_signature(graph)}"""', *self._layout(unit, "", inner, "" if where else title), *methods]
        )
        self.classes[where] = self._named(graph.name, "Body" if where else "Model", text)

    def _training(self, unit: Unit, where: str, training: _Training) -> list[str]:
        """What the same class computes while training: other methods over the same parts."""
        match = _chosen(training.graph, training.plan, where)
        own = Unit(training.graph, where, match, self.imports, unit.regions, self.definitions)
        assert {*own.parts.all} <= {*unit.parts.all}, f"dropout changes the parts of `{training.graph.name}`"
        known = {tuple(_projection(unit, name) for name in names) for names in unit.groups.values()}
        own.groups = {
            name: names for name, names in own.groups.items() if tuple(_projection(own, one) for one in names) in known
        }
        methods: list[str] = []
        for name, function in training.program.functions.items():
            methods += _method(own, f"_{name}", training.mode, function, apart="apart" in name)
        return methods

    def _named(self, component: str, base: str, text: str) -> str:
        """The name of the class with this text, written if there is none yet."""
        key = f"{base}:{text}"
        if key not in self.known:
            short = "".join(part[:1].upper() + part[1:] for part in component.split("_")) or "Main"
            name = unused(short, [*self.known.values(), *RESERVED, "layers"], "")
            self.known[key] = name
            self.texts.append(f"class {name}({base}):\n{text}")
        return self.known[key]

    def _layout(self, unit: Unit, region: str, inner: Mapping[str, str], title: str = "") -> list[str]:
        """The class attributes that say what there is in a region; title: of the whole model, if this is its class."""
        graph, where, regions = unit.source, unit.where, unit.regions
        own = unit.within(region) if region else unit

        def here(path: str) -> bool:
            return regions.of(f"{path}.") == region

        attributes: dict[str, str] = {}
        parts = [part for part in unit.parts.all if here(part.path)]
        if parts:
            attributes["PARTS"] = _rows(
                f"({_path(own, part)!r}, layers.{part.kind}, {', '.join(map(repr, part.arguments))})" for part in parts
            )
        values = [node for node in unit.parts.values() if regions.of(node.name) == region]
        if values:
            rows = [(_key(own, n), tuple(_sizes(n)), n.attrs["dtype"], n.attrs.get("learned", True)) for n in values]
            attributes["VALUES"] = _rows(map(repr, dict.fromkeys(rows)))
        common = [part.path for part in parts if part.shared]
        common += [node.attrs["key"] for node in values if node.attrs["shared"]]
        if common:
            attributes["SHARED"] = repr(tuple(dict.fromkeys(common)))
        calls = [
            path
            for path in regions.paths
            if path != region and regions.below(region, f"{path}.x") == path and (not region or region in parents(path))
        ]
        if calls:
            attributes["CALLS"] = _rows(f"({own.local(path)!r}, {inner[path]})" for path in sorted(calls))
        stacks = [node for node in graph if node.op == "stack" and regions.of(node.name) == region]
        if stacks:
            attributes["STACKS"] = _rows(
                f"({own.local(n.name)!r}, {n.name!r}, {self._pattern(n, where)}, {n.attrs['share']})" for n in stacks
            )
        memories = [(n.name, *_stored(graph, n)) for n in graph.states if regions.of(n.name) == region]
        if memories:
            attributes["MEMORIES"] = _rows(map(repr, memories))
        groups = [names for names in dict.fromkeys(unit.groups.values()) if regions.of(names[0]) == region]
        together = [tuple(own.local(_projection(unit, name)) for name in names) for names in groups]
        if together:
            attributes["TOGETHER"] = _rows(map(repr, dict.fromkeys(together)))
        inside = {path for paths in together for path in paths}
        linear = [own.local(part.path) for part in parts if part.kind == "Linear" and not part.shared]
        grouped = [path for path in linear if unit.fused or path in inside]
        if grouped:
            attributes["GROUPED"] = repr(tuple(grouped))
        if unit.fused:
            attributes["FUSED"] = "True"
        if not region and self.native is not None:
            attributes |= steps.own(unit, self.native.kept[where])
        if title:
            if self.native is not None:
                attributes["NATIVE"] = steps.definition(unit, self.native, needs_position(graph))
            attributes["INPUTS"] = _rows(
                repr((n.name, n.type.sizes, n.type.dtype, n.name in graph.whole)) for n in graph.inputs
            )
            attributes["OUTPUTS"] = _rows(
                repr((label, graph[name].type.sizes, graph[name].type.dtype)) for label, name in graph.outputs
            )
            said = tuple(label for label, name in graph.outputs if name in unit.answers)
            if said:
                attributes["ANSWERS"] = repr(said)
            attributes["POSITION"] = repr(needs_position(graph))
            attributes["STEPS"] = repr(graph.has_step)
            if self.plan.trained:
                attributes["DROPS"] = "True"
            attributes["TITLE"] = repr(title.partition(",")[0])
        return ["\n".join(f"    {name} = {text}" for name, text in attributes.items())] if attributes else []

    def _pattern(self, stack: Node, where: str) -> str:
        pattern = stack.attrs["pattern"]
        period = next(
            n
            for n in range(1, len(pattern) + 1)
            if len(pattern) % n == 0 and pattern == pattern[:n] * (len(pattern) // n)
        )
        layers = ", ".join(f"({name!r}, {self.classes[f'{where}{name}/']})" for name in pattern[:period])
        return f"({layers},) * {len(pattern) // period}"


def _chosen(graph: Graph, plan: Plan, where: str) -> dict[str, Match]:
    return {node.name: plan.chosen[where, node.name] for node in graph.states}


def _path(unit: Unit, part: Part) -> str:
    return part.path if part.shared else unit.local(part.path)


def _projection(unit: Unit, name: str) -> str:
    part = unit.parts.of(unit.source[name])
    assert part is not None
    return part.path


def _key(unit: Unit, param: Node) -> str:
    key: str = param.attrs["key"]
    return key if param.attrs["shared"] else unit.local(key)


def _rows(rows: Iterable[str]) -> str:
    return "(\n" + "".join(f"        {row},\n" for row in rows) + "    )"


def _doors(arguments: Sequence[str], drops: bool) -> list[str]:
    """What a user calls, with the inputs that the spec names; and masks, if entries are dropped."""
    inputs = ", ".join(arguments) + ("," if len(arguments) == 1 else "")
    given = ", ".join(f"{name}: Tensor" for name in arguments)
    own = "state: Mapping[str, Tensor] | None = None, reset: Tensor | None = None"
    more, masks = (", masks: Any = None", ", masks") if drops else ("", "")
    return [
        f"    def forward(self, {given}, {own}, lengths: Tensor | None = None, states: str | None = None{more}) -> Any:\n"
        f"        return self.over(({inputs}), state, reset, lengths, states{masks})",
        f"    def step(self, {given}, {own}) -> Any:\n        return self.one(({inputs}), state, reset)",
    ]


def _arguments(unit: Unit, method: str, function: Graph) -> list[ast.Name]:
    """The inputs, as arguments of a new method."""
    unit.begin(method, function)
    return [unit.constant.fresh(node.name) for node in unit.source.inputs]


def _method(unit: Unit, name: str, mode: Mode, function: Graph, apart: bool = False) -> list[str]:
    arguments = _arguments(unit, name, function)
    e = Emitter(unit, mode, apart=apart)
    e.names |= zip((node.name for node in unit.source.inputs), arguments, strict=True)
    e.columns |= e.names
    whole = unit.source.whole if not unit.where else ()
    if mode == "sequence":
        for one in whole:
            e.bind([e.names[one]], code("{0}.unsqueeze(1)", e.names[one]))
    outputs = [_output(e, unit.source[one]) for _, one in unit.source.outputs]
    if mode == "sequence" and whole:
        names = [name for _, name in unit.source.outputs]
        outputs = [
            one if name in unit.answers else called(e.function("operations", "lengthened"), one, TIME)
            for name, one in zip(names, outputs, strict=True)
        ]
    e.finish()
    given = outputs[0] if len(outputs) == 1 else literal(tuple(outputs))
    return written(unit, e, [*e.lines, Line(ast.Return(given))])


def _signature(graph: Graph) -> str:
    takes = ", ".join(f"{node.name} [{', '.join(map(str, node.type.axes))}]" for node in graph.inputs)
    gives = ", ".join(f"{label} [{', '.join(map(str, graph[name].type.axes))}]" for label, name in graph.outputs)
    return f"{takes} -> {gives}"


def _sizes(node: Node) -> list[int]:
    return [axis.size or 0 for axis in node.type.axes]


def _output(e: Emitter, node: Node) -> Code:
    """An output in full size, even if it does not vary, in the dtype of the data unless it is said to be wide. What only a whole sequence
    decides is the same on every step of it; within the model it is computed once."""
    once = e.mode == "sequence" and node.name in e.unit.answers
    still = e.mode == "sequence" and not e.unit.where and not e.unit.source.has_step and not once
    if e.is_constant(node.name) or still:
        sizes = tuple(axis.size or -1 for axis in node.type.axes)
        value = called(e.function("operations", "spread"), TIME, e.value(node.name), sizes, code("time.dtype"))
    else:
        value = e.tensor(node.name, node.type.names)
        given_back = node.type.dtype == "real" and node.op != "float32"
        value = operands.as_data(e, node.name, value) if given_back else value
    return called(e.function("operations", "answer"), value, TIME) if once else value


def _stored(graph: Graph, node: Node) -> tuple[tuple[int | None, ...], str]:
    """How a memory is kept: its sizes, the entries of a register first, and its kind of dtype."""
    slots = facts(graph, node).slots
    sizes = [size for name, size in node.attrs["axes"] if slots is None or name != slots.name]
    kind = memory_kind(graph, node)
    return tuple(sizes if slots is None else [slots.size, *sizes]), (
        "rounded" if kind == "wide" and node.attrs["dtype"] == "data" else kind
    )


def _begin(unit: Unit, function: Graph) -> list[str]:
    """The method that writes every memory as it is before the first step."""
    unit = copy(unit)
    unit.regions = Regions(unit.source, whole=True)
    unit.begin("_begin", function)
    e = Emitter(unit, "step")
    e.finish()
    for node in unit.source:
        if node.op == "stack":
            for one in statements(
                "for i, kind, body in self.layers({0}):\n    body._begin(run.inside({0}, i))", node.name
            ):
                e.statement(one)
    return with_constants(unit, (), "None", e.lines or [Line(ast.Pass())])


def build(source: Source, dtype: torch.dtype, device: torch.device | None = None) -> Model:
    """The model that a source describes, its parameters uninitialised."""
    return imported(source).model(dtype, device)  # type: ignore[no-any-return]


def needs_position(graph: Graph) -> bool:
    """Whether a state must say how many steps lie behind it."""
    return any(
        node.op in ("position", "start") or node.type.absent or _growing(one, node)
        for one in graph.walk()
        for node in one
    )


def _growing(graph: Graph, node: Node) -> bool:
    return node.op == "state" and facts(graph, node).grows


def imported(source: Source) -> ModuleType:
    """The written module, imported without a file. The text has only names that this package made."""
    name = f"ssir_compiled_{hashlib.sha256(source.text.encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    file = f"<{name}>"
    linecache.cache[file] = (len(source.text), None, source.text.splitlines(True), file)
    exec(compile(source.text, file, "exec"), module.__dict__)
    return sys.modules.setdefault(name, module)


@cache
def _core() -> frozenset[str]:
    return frozenset(path.name.removesuffix(".py") for path in files(RUNTIME).iterdir())


def located(module: str, package: str = "ssir") -> str:
    """The full name of a runtime module, those of this project in a package that is laid out like ssir."""
    name = f"{RUNTIME}.{module}" if is_core(module) else module
    return f"{package}{name.removeprefix('ssir')}" if name.startswith("ssir.") else name


def is_core(module: str) -> bool:
    """Whether a runtime module is the core's, called by its short name."""
    return module in _core()


def runtime_modules(source: Source) -> Iterator[tuple[str, Any]]:
    """The runtime modules of a source, by name."""
    for name in source.modules:
        yield name, import_module(located(name))
