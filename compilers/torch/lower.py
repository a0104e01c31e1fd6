"""From a graph and its plan to a module: the source of its classes, the classes, and parameters in them."""

from __future__ import annotations

import hashlib
import linecache
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

from ssir.compilers.kernels.module import Model
from ssir.compilers.plan import Plan
from ssir.compilers.torch import ops, system
from ssir.compilers.torch.emit import RESERVED, Emitter, Mode, Unit, unused
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
    writer.visit(graph, "")
    imports = "\n".join(
        f"from {name if '.' in name else f'{package}.{name}'} import {', '.join(sorted(used))}"
        for name, used in sorted(writer.imports.items())
    )
    body = "\n\n\n".join(writer.texts)
    body += _MODEL.format(
        root=writer.classes[""],
        inputs=tuple(node.name for node in graph.inputs),
        whole=graph.whole,
        outputs=tuple(label for label, _ in graph.outputs),
        position=needs_position(graph),
    )
    functional = "import torch.nn.functional as F\n" if "F." in body else ""
    head = f'"""{title}"""\n\nfrom __future__ import annotations\n\nfrom typing import Any\n\nimport torch\n{functional}from torch import Tensor\n\n{imports}'
    return Source(f"{head}\n\n\n{body}\n", writer.classes, tuple(sorted(writer.imports)))


_MODEL = '''


def model(dtype: torch.dtype = torch.float32) -> Model:
    """The whole, its parameters not yet given values."""
    return Model({root}(dtype), inputs={inputs}, whole={whole}, outputs={outputs}, needs_position={position})
'''


@dataclass
class _Writer:
    plan: Plan
    imports: dict[str, set[str]] = field(
        default_factory=lambda: {"module": {"Body", "Model"}, "memory": {"State"}, "clock": {"Time"}}
    )
    classes: dict[str, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)

    def visit(self, graph: Graph, where: str) -> None:
        for name, body in graph.bodies.items():
            self.visit(body, f"{where}{name}/")
        text = self._class(graph, where)
        if text not in self.known:
            base = "".join(part.capitalize() for part in graph.name.split("_")) or "Main"
            name = unused(base, [*self.known.values(), *RESERVED], "")
            self.known[text] = name
            self.texts.append(f"class {name}(Body):\n{text}")
        self.classes[where] = self.known[text]

    def _class(self, graph: Graph, where: str) -> str:
        arguments: dict[str, str] = {}
        for node in graph.inputs:
            arguments[node.name] = unused(node.name, [*arguments.values(), *RESERVED])
        unit = Unit(graph, where, dict(self.plan.chosen), self.imports, set(arguments.values()))
        runs = [_run(unit, arguments, "sequence")]
        if graph.has_step:
            runs.append(_run(unit, arguments, "step"))
        begin = _begin(unit)
        unpack = [f"{', '.join(unit.kept)}{',' if len(unit.kept) == 1 else ''} = self.constants()"] if unit.kept else []
        methods = [
            _method(
                "prepare",
                "",
                "tuple[Any, ...]",
                [*unit.constant.lines, f"return ({', '.join(unit.kept)}{',' if len(unit.kept) == 1 else ''})"],
            )
        ]
        given = "".join(f", {name}: Tensor" for name in arguments.values())
        for name, lines in zip(("sequence", "step"), runs, strict=False):
            methods.append(_method(name, f", time: Time, old: State, new: State{given}", "Any", [*unpack, *lines]))
        needed = any(name in line for name in unit.kept for line in begin)
        lines = [*(unpack if needed else []), *begin]
        methods.append(_method("begin", ", time: Time, new: State", "None", lines or ["pass"]))
        return "\n\n".join([f'    """{_signature(graph)}"""', *self._layout(graph, where), *methods])

    def _layout(self, graph: Graph, where: str) -> list[str]:
        """The class attributes that say which parameters and layers there are."""
        parts = []
        if graph.params:
            rows = [(n.attrs["key"], tuple(_sizes(n)), n.attrs["dtype"], n.attrs["shared"]) for n in graph.params]
            parts.append("    PARAMETERS = (\n" + "".join(f"        {row!r},\n" for row in rows) + "    )")
        grows = tuple(node.name for node in graph.states if facts(graph, node).grows)
        if grows:
            parts.append(f"    GROWS = {grows!r}")
        stacks = [node for node in graph if node.op == "stack"]
        if stacks:
            rows_of = "".join(f"        ({n.name!r}, {self._pattern(n, where)}, {n.attrs['share']}),\n" for n in stacks)
            parts.append(f"    STACKS = (\n{rows_of}    )")
        return ["\n".join(parts)] if parts else []

    def _pattern(self, stack: Node, where: str) -> str:
        pattern = stack.attrs["pattern"]
        period = next(
            n
            for n in range(1, len(pattern) + 1)
            if len(pattern) % n == 0 and pattern == pattern[:n] * (len(pattern) // n)
        )
        layers = ", ".join(f"({name!r}, {self.classes[f'{where}{name}/']})" for name in pattern[:period])
        return f"({layers},) * {len(pattern) // period}"


def _method(name: str, arguments: str, result: str, lines: list[str]) -> str:
    return "\n".join([f"    def {name}(self{arguments}) -> {result}:", *(f"        {line}" for line in lines)])


def _signature(graph: Graph) -> str:
    takes = ", ".join(f"{node.name} [{', '.join(map(str, node.type.axes))}]" for node in graph.inputs)
    gives = ", ".join(f"{label} [{', '.join(map(str, graph[name].type.axes))}]" for label, name in graph.outputs)
    return f"{takes} -> {gives}"


def _sizes(node: Node) -> list[int]:
    return [axis.size or 0 for axis in node.type.axes]


def _run(unit: Unit, arguments: Mapping[str, str], mode: Mode) -> list[str]:
    e = Emitter(unit, mode)
    e.names |= arguments
    whole = unit.graph.whole if not unit.where else ()
    if mode == "sequence":
        for name in whole:
            e.line(f"{arguments[name]} = {arguments[name]}.unsqueeze(1)")
    outputs = [_output(e, unit.graph[name]) for _, name in unit.graph.outputs]
    if mode == "sequence" and whole:
        outputs = [f"{e.function('operations', 'lengthened')}({text}, time)" for text in outputs]
    e.finish()
    lines = [*e.lines, f"return {', '.join(outputs)}"]
    return _freed(lines) if mode == "sequence" else lines


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
    """An output in full size, even if it does not vary. What only a whole sequence decides is the same on every step of it; within
    the model it is computed once."""
    still = e.mode == "sequence" and not e.unit.where and not e.graph.has_step
    if not e.is_constant(node.name) and not still:
        return e.tensor(node.name, node.type.names)
    sizes = ops.shape([axis.size or -1 for axis in node.type.axes])
    return f"{e.function('operations', 'spread')}(time, {e.value(node.name)}, {sizes}, time.dtype)"


def _begin(unit: Unit) -> list[str]:
    """Lines that write every memory as it is before the first step."""
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
            e.line(f'for layer in self.layers("{node.name}"):')
            e.line("    layer.begin(time, new)")
    return e.lines


def build(source: Source, dtype: torch.dtype) -> Model:
    """The model that a source describes, its parameters uninitialised."""
    return _imported(source).model(dtype)  # type: ignore[no-any-return]


def needs_position(graph: Graph) -> bool:
    """Whether a state must say how many steps lie behind it."""
    return any(
        node.op in ("position", "start") or node.type.absent or _growing(one, node)
        for one in graph.walk()
        for node in one
    )


def _growing(graph: Graph, node: Node) -> bool:
    return node.op == "state" and facts(graph, node).grows


def _imported(source: Source) -> ModuleType:
    """The written module, imported without a file. The text has only names that this package made."""
    name = f"ssir_compiled_{hashlib.sha256(source.text.encode()).hexdigest()[:16]}"
    module = ModuleType(name)
    file = f"<{name}>"
    linecache.cache[file] = (len(source.text), None, source.text.splitlines(True), file)
    exec(compile(source.text, file, "exec"), module.__dict__)
    return module


def runtime_modules(source: Source) -> Iterator[tuple[str, Any]]:
    """The runtime modules of a source, by name."""
    for name in source.modules:
        yield name, import_module(name if "." in name else f"{RUNTIME}.{name}")
