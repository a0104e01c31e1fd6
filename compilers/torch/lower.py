"""From a graph and its plan to a module: the source of its classes, the classes, and parameters in them."""

from __future__ import annotations

import hashlib
import linecache
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

from ssir.compilers.core import Loop
from ssir.compilers.kernels.module import Model
from ssir.compilers.plan import Plan
from ssir.compilers.torch import ops, system
from ssir.compilers.torch.emit import RESERVED, Emitter, Mode, Unit
from ssir.ir.graph import Graph, Node
from ssir.passes.facts import facts

RUNTIME = "ssir.compilers.kernels"


@dataclass(frozen=True)
class Source:
    """The text of a Python module. ``classes``: the class of each graph, by its path among bodies. ``modules``: the runtime
    modules that it imports (relative to the package of the core's, or by full name)."""

    text: str
    classes: Mapping[str, str]
    modules: tuple[str, ...]


def write(graph: Graph, plan: Plan, title: str, package: str = RUNTIME) -> Source:
    """The source of the classes of a graph and its bodies. It imports torch and runtime modules only."""
    writer = _Writer(plan)
    writer.visit(graph, "", title)
    body = "\n\n\n".join(writer.texts)
    body += _MODEL.format(root=writer.classes[""])
    lines = [
        f"from {name if '.' in name else f'{package}.{name}'} import {', '.join(_imported_as(name, own) for own, name in sorted(used.items()))}"
        for name, used in sorted(writer.imports.items())
    ]
    if "layers." in body:
        lines.insert(0, f"from {package} import layers")
    functional = "import torch.nn.functional as F\n" if "F." in body else ""
    head = f'"""{title}"""\n\nfrom __future__ import annotations\n\nfrom collections.abc import Mapping\nfrom typing import Any\n\nimport torch\n{functional}from torch import Tensor\n\n'
    modules = tuple(sorted({*writer.imports, *(["layers"] if "layers." in body else [])}))
    return Source(f"{head}{chr(10).join(lines)}\n\n\n{body}\n", writer.classes, modules)


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
    imports: dict[str, dict[str, str]] = field(default_factory=lambda: {"module": {"Body": "Body", "Model": "Model"}})
    classes: dict[str, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)

    def visit(self, graph: Graph, where: str, title: str) -> None:
        for name, body in graph.bodies.items():
            self.visit(body, f"{where}{name}/", title)
        text = self._class(graph, where, title)
        if text not in self.known:
            base = "".join(part[:1].upper() + part[1:] for part in graph.name.split("_")) or "Main"
            name, n = base, 1
            while name in self.known.values() or name in RESERVED or name == "layers":
                n += 1
                name = f"{base}{n}"
            self.known[text] = name
            self.texts.append(f"class {name}({'Body' if where else 'Model'}):\n{text}")
        self.classes[where] = self.known[text]

    def _class(self, graph: Graph, where: str, title: str) -> str:
        loops = {}
        for node in graph.states:
            match = Loop().match(graph, facts(graph, node))
            if match is not None:
                loops[node.name] = match
        unit = Unit(graph, where, self.plan.chosen, loops, self.imports)
        methods = _method(unit, "_sequence", "sequence")
        if loops and graph.has_step:
            methods += _method(unit, "_apart", "sequence", apart=True)
        if graph.has_step:
            methods += _method(unit, "_step", "step")
            if unit.fused:
                methods += _method(unit, "_step_apart", "step", apart=True)
        methods += _begin(unit)
        if not where:
            methods += _doors(_arguments(unit))
        return "\n\n".join([f'    """{_signature(graph)}"""', *self._layout(graph, where, unit, title), *methods])

    def _layout(self, graph: Graph, where: str, unit: Unit, title: str) -> list[str]:
        """The class attributes that say what there is."""
        attributes: dict[str, str] = {}
        shared = {node.attrs["key"] for node in graph.params if node.attrs["shared"]}
        parts = unit.parts.all
        if parts:
            attributes["PARTS"] = _rows(
                f"({part.path!r}, layers.{part.kind}, {', '.join(map(repr, part.arguments))})" for part in parts
            )
        values = list(
            dict.fromkeys(
                (n.attrs["key"], tuple(_sizes(n)), n.attrs["dtype"], n.attrs.get("learned", True))
                for n in unit.parts.values()
            )
        )
        if values:
            attributes["VALUES"] = _rows(map(repr, values))
        common = [part.path for part in parts if part.shared] + [key for key, *_ in values if key in shared]
        if common:
            attributes["SHARED"] = repr(tuple(common))
        stacks = [node for node in graph if node.op == "stack"]
        if stacks:
            attributes["STACKS"] = _rows(f"({n.name!r}, {self._pattern(n, where)}, {n.attrs['share']})" for n in stacks)
        memories = [(node.name, *system.stored(unit, node)) for node in graph.states]
        if memories:
            attributes["MEMORIES"] = _rows(map(repr, memories))
        every = [part.path for part in parts if part.kind == "Linear"]
        inside = {part.path for name in unit.groups if (part := unit.parts.of(graph[name])) is not None}
        grouped = [path for path in every if unit.fused or path in inside]
        if grouped:
            attributes["GROUPED"] = repr(tuple(grouped))
        if unit.fused:
            attributes["FUSED"] = "True"
        if not where:
            attributes["INPUTS"] = _rows(
                repr((n.name, n.type.sizes, n.type.dtype, n.name in graph.whole)) for n in graph.inputs
            )
            attributes["OUTPUTS"] = _rows(
                repr((label, graph[name].type.sizes, graph[name].type.dtype)) for label, name in graph.outputs
            )
            attributes["POSITION"] = repr(needs_position(graph))
            attributes["STEPS"] = repr(graph.has_step)
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


def _rows(rows: Iterable[str]) -> str:
    return "(\n" + "".join(f"        {row},\n" for row in rows) + "    )"


_RUN = ("time", "old", "new", "at")


def _opened(lines: list[str]) -> list[str]:
    """The lines of a method, behind one that takes out of the run what they use."""
    used = [name for name in _RUN if any(re.search(rf"\b{name}\b", line) for line in lines)]
    if not used:
        return lines
    return [f"{', '.join(used)} = {', '.join(f'run.{name}' for name in used)}", *lines]


def _doors(arguments: list[str]) -> list[str]:
    """What a user calls, with the inputs that the spec names."""
    inputs = ", ".join(arguments) + ("," if len(arguments) == 1 else "")
    given = ", ".join(f"{name}: Tensor" for name in arguments)
    own = "state: Mapping[str, Tensor] | None = None, reset: Tensor | None = None"
    return [
        f"    def forward(self, {given}, {own}, lengths: Tensor | None = None, states: str | None = None) -> Any:\n"
        f"        return self.over(({inputs}), state, reset, lengths, states)",
        f"    def step(self, {given}, {own}) -> Any:\n        return self.one(({inputs}), state, reset)",
    ]


def _arguments(unit: Unit) -> list[str]:
    """The inputs, as arguments of a new method."""
    unit.begin()
    return [unit.constant.fresh(node.name) for node in unit.graph.inputs]


def _method(unit: Unit, name: str, mode: Mode, apart: bool = False) -> list[str]:
    """A method, and one for what only parameters decide, if it needs any of that."""
    arguments = _arguments(unit)
    e = Emitter(unit, mode, apart=apart)
    e.names |= zip((node.name for node in unit.graph.inputs), arguments, strict=True)
    whole = unit.graph.whole if not unit.where else ()
    if mode == "sequence":
        for one in whole:
            e.line(f"{e.names[one]} = {e.names[one]}.unsqueeze(1)")
    outputs = [_output(e, unit.graph[one]) for _, one in unit.graph.outputs]
    if mode == "sequence" and whole:
        outputs = [f"{e.function('operations', 'lengthened')}({text}, time)" for text in outputs]
    e.finish()
    lines = [*e.lines, f"return {', '.join(outputs)}"]
    given = "".join(f", {one}: Tensor" for one in arguments)
    return _with_constants(unit, name, given, "Any", _freed(lines) if mode == "sequence" else lines)


def _with_constants(unit: Unit, name: str, given: str, result: str, lines: list[str]) -> list[str]:
    methods = []
    if unit.kept:
        several = f"{', '.join(unit.kept)}{',' if len(unit.kept) == 1 else ''}"
        made = [*unit.constant.lines, f"return ({several})"]
        methods.append(_defined(f"{name}_constants", "", "tuple[Any, ...]", made))
        lines = [f"{several} = run.constants(self.{name}_constants)", *lines]
    return [*methods, _defined(name, given, result, lines)]


def _defined(name: str, arguments: str, result: str, lines: list[str]) -> str:
    return "\n".join(
        [f"    def {name}(self, run: Any{arguments}) -> {result}:", *(f"        {line}" for line in _opened(lines))]
    )


def _signature(graph: Graph) -> str:
    takes = ", ".join(f"{node.name} [{', '.join(map(str, node.type.axes))}]" for node in graph.inputs)
    gives = ", ".join(f"{label} [{', '.join(map(str, graph[name].type.axes))}]" for label, name in graph.outputs)
    return f"{takes} -> {gives}"


def _sizes(node: Node) -> list[int]:
    return [axis.size or 0 for axis in node.type.axes]


def _freed(lines: Sequence[str]) -> list[str]:
    """The lines, with every variable deleted after its last use: over a sequence memory that is still in the cache is used again."""
    last: dict[str, int] = {}
    inside: set[str] = set()
    for i, line in enumerate(lines):
        words = set(re.findall(r"\w+", line))
        last |= dict.fromkeys(words, i)
        if line.startswith((" ", "def ", "for ")):
            inside |= words
    freed: dict[int, list[str]] = {}
    for i, line in enumerate(lines):
        assigned = re.match(r"(\w[\w, ]*?),? = ", line)
        for name in assigned[1].split(", ") if assigned else ():
            if i < last[name] < len(lines) - 1 and name not in inside and name != "_":
                freed.setdefault(last[name], []).append(name)
    return [
        text
        for i, line in enumerate(lines)
        for text in (line, *([f"del {', '.join(dict.fromkeys(freed[i]))}"] if i in freed else []))
    ]


def _output(e: Emitter, node: Node) -> str:
    """An output in full size, even if it does not vary, in the dtype of the data. What only a whole sequence decides is the same on
    every step of it; within the model it is computed once."""
    still = e.mode == "sequence" and not e.unit.where and not e.graph.has_step
    if not e.is_constant(node.name) and not still:
        text = e.tensor(node.name, node.type.names)
        return f"{text}.to(time.data)" if node.type.dtype == "real" and ops.is_wide(e, node.name) else text
    sizes = ops.shape([axis.size or -1 for axis in node.type.axes])
    return f"{e.function('operations', 'spread')}(time, {e.value(node.name)}, {sizes}, time.dtype)"


def _begin(unit: Unit) -> list[str]:
    """The method that writes every memory as it is before the first step."""
    unit.begin()
    e = Emitter(unit, "step")
    for node in unit.graph.states:
        fact = unit.facts[node.name]
        start, dtype = e.start(node), system.memory_dtype(e, fact)
        sizes = ops.shape([size or 0 for _, size in node.attrs["axes"]])
        text = f"{e.function('memory', 'initial')}(time, {sizes}, {dtype}, {start}, {system.fill(node)})"
        if fact.slots is not None:
            at = system.axes_of(node).index(fact.slots.name) - len(node.attrs["axes"])
            text += f".movedim({at}, 1).flip(1)"
        e.line(f"new[{e.key(node)}] = {text}")
    for node in unit.graph:
        if node.op == "stack":
            e.line(f'for i, kind, body in self.layers("{node.name}"):')
            e.line(f'    body._begin(run.inside("{node.name}", i))')
    return _with_constants(unit, "_begin", "", "None", e.lines or ["pass"])


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


def runtime_modules(source: Source) -> Iterator[tuple[str, Any]]:
    """The runtime modules of a source, by name."""
    for name in source.modules:
        yield name, import_module(name if "." in name else f"{RUNTIME}.{name}")
