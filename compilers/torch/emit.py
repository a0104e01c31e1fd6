"""Writes the source of a graph: one method for a sequence, one for a step, one for what only parameters decide.

Values become local variables on demand, so what no output needs is never written. Axes are counted from the right, which makes
the text of most operations the same over a sequence [batch, steps, *axes], in a step [batch, *axes] and for constants [*axes].
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from typing import Literal

from ssir.compilers.forms import Match
from ssir.compilers.program.dtypes import wide
from ssir.compilers.program.entries import entry_axes
from ssir.compilers.program.function import written as memories_written
from ssir.compilers.torch import operands, ops
from ssir.compilers.torch.code import Code, Line, binding, bound, called, code, literal, name_of, variable
from ssir.compilers.torch.methods import written
from ssir.compilers.torch.program import PROGRAM
from ssir.compilers.torch.regions import Regions
from ssir.compilers.torch.submodules import Parts
from ssir.ir.answers import answers
from ssir.ir.graph import Dependence, Graph, Node, parents
from ssir.ir.ops import is_elementwise
from ssir.ir.slots import gaps

Mode = Literal["constant", "sequence", "step"]


def unused(hint: str, taken: Collection[str], joint: str = "_") -> str:
    """A name like the hint that Python takes for one, and that is not taken."""
    base = re.sub(r"\W+", "_", hint).strip("_") or "v"
    if base[0].isdigit():
        base = f"v{base}"
    name, n = base, 1
    while name in taken:
        n += 1
        name = f"{base}{joint}{n}"
    return name


class Unit:
    """One graph being compiled: what its emitters share. ``source`` is the graph of the spec, ``graph`` the function that is being written,
    ``match`` the form of each state."""

    def __init__(
        self,
        source: Graph,
        where: str,
        match: Mapping[str, Match],
        imports: dict[str, dict[str, str]],
        regions: Regions,
        definitions: dict[str, tuple[str, str]],
    ) -> None:
        self.source, self.where, self.match = source, where, match
        self.imports, self.regions, self.definitions = imports, regions, definitions
        self.region = ""
        self.parts = Parts(source)
        self.groups = _groups(source, self.parts, regions)
        self.entries = entry_axes(source, match)
        self.gaps = gaps(source)
        self.answers = frozenset() if where else answers(source)
        self.begin("", source)

    def begin(self, method: str, graph: Graph) -> None:
        """A new method, with constants of its own."""
        self.method, self.graph = method, graph
        self.borrow: Callable[[str], Code] | None = None
        self.constant = Emitter(self, "constant")
        self.kept: list[str] = []
        self.taken: set[str] = set()
        self.locals: set[str] = set()

    def keep(self, name: str) -> Code:
        """A constant as a variable that the method unpacks, or is given if it is made of what is not in its region."""
        if not self.owns(name) and self.borrow is not None:
            return self.borrow(name)
        return self.keep_code(self.constant.value(name))

    def keep_code(self, found: Code) -> Code:
        if (name := name_of(found)) is not None and name not in self.kept:
            self.kept.append(name)
        return found

    def owns(self, name: str) -> bool:
        """Whether all parameters that a constant is made of are in the region."""
        if self.borrow is None:
            return True
        todo, seen = [name], {name}
        while todo:
            node = self.graph[todo.pop()]
            if node.op == "param" and self.region not in parents(node.name):
                return False
            todo += [one for one in node.inputs if one not in seen]
            seen.update(node.inputs)
        return True

    def local(self, path: str) -> str:
        """A path of the graph as the module of the region sees it."""
        return path.removeprefix(f"{self.region}.") if self.region else path

    def define(self, digest: str, hint: str, make: Callable[[str], str]) -> str:
        """The name of something that the module defines once, outside its classes; make: from the name to its text."""
        if digest not in self.definitions:
            name = unused(
                hint, {*self.taken, *self.locals, *RESERVED, *(known for known, _ in self.definitions.values())}
            )
            self.definitions[digest] = name, ""
            self.definitions[digest] = name, make(name)
        return self.definitions[digest][0]

    def within(self, region: str) -> Unit:
        """The unit of a region, for the same method."""
        inner = copy(self)
        inner.region = region
        inner.begin(self.method, self.graph)
        return inner

    @property
    def fused(self) -> bool:
        """Whether a form uses the weights of parts without calling them."""
        return any(getattr(match.form, "reads_weights", False) for match in self.match.values())


class Emitter:
    """Writes one method of a graph, or the cell of a loop (``graph``: its body). ``inside``: the nodes that it computes, if not all.
    ``apart``: every part called by itself."""

    def __init__(
        self,
        unit: Unit,
        mode: Mode,
        outer: Emitter | None = None,
        inside: frozenset[str] | None = None,
        apart: bool = False,
        graph: Graph | None = None,
    ) -> None:
        self.unit, self.mode = unit, mode
        self.graph = unit.graph if graph is None else graph
        self.outer, self.inside, self.apart = outer, inside, apart
        self.lines: list[Line] = []
        self.names: dict[str, Code] = {}
        self.columns: dict[str, Code] = {}
        self.results: dict[str, list[ast.Name]] = {}
        self.used: set[str] = set()
        self.called: set[str] = set()
        self.user: Node | None = None  # what is being made

    def finish(self) -> None:
        """Write what nothing but the next call needs: memories."""
        regions = self.unit.regions
        for node in self.graph:
            if not memories_written(node) or (self.inside is not None and node.name not in self.inside):
                continue
            below = regions.below(self.unit.region, node.name)
            if below is None or below not in self.called:
                self.value(node.name)

    # Names and lines.

    def fresh(self, hint: str) -> ast.Name:
        """A name that nothing else has: a variable of this method, or a constant of all of them."""
        imported = (own for names in self.unit.imports.values() for own in names)
        locals_ = self.unit.locals if self.mode == "constant" else ()
        defined = (known for known, _ in self.unit.definitions.values())
        name = unused(self.unit.local(hint), self.unit.taken.union(self.used, imported, locals_, RESERVED, defined))
        self.used.add(name)
        (self.unit.taken if self.mode == "constant" else self.unit.locals).add(name)
        return variable(name)

    def statement(self, one: ast.stmt) -> None:
        self.lines.append(Line(one))

    def bind(self, targets: Sequence[Code], value: Code) -> None:
        """Assign a value to a variable, or what it gives to several."""
        self.statement(binding(targets[0] if len(targets) == 1 else literal(tuple(targets)), value))

    def unpack(self, targets: Sequence[Code], value: Code) -> None:
        """Assign the values of a tuple, be it of one."""
        self.statement(binding(literal(tuple(targets)), value))

    def let(self, hint: str, value: Code) -> ast.Name:
        """Assign an expression to a new variable."""
        name = self.fresh(hint)
        self.bind([name], value)
        return name

    def remember(self, memory: str, value: Code) -> None:
        """Keep a value as a memory, for the next call."""
        self.statement(ast.Assign([ast.Subscript(variable("new"), self.key(memory), ast.Store())], value))

    def function(self, module: str, name: str) -> ast.Name:
        """A function of a runtime module, imported; under another name where a variable, or another function, has its own."""
        of_module = self.unit.imports.setdefault(module, {})
        others = {own for other, names in self.unit.imports.items() if other != module for own in names}
        own, n = name, 1
        while own in self.unit.taken | self.used | others | RESERVED or of_module.get(own, name) != name:
            n += 1
            own = f"{name}_{n}"
        of_module[own] = name
        return variable(own)

    def once(self, node: Node, value: Code, what: str = "") -> Code:
        """An expression that only the position decides, computed once for all layers. ``what`` is done to the node in it."""
        if self.mode == "constant" or node.type.dependence is not Dependence.POSITION:
            return value
        known = _formula(self.graph, node.name)
        return value if known is None else code("time.once({0}, lambda: {1})", f"{what}{known}", value)

    # Values.

    def node(self, name: str) -> Node:
        return self.graph[name]

    def is_constant(self, name: str) -> bool:
        return self.graph[name].type.dependence is Dependence.CONSTANT

    def lead(self, name: str) -> int:
        """How many axes stand in front of the named ones."""
        return 0 if self.is_constant(name) else operands.LEADS[self.mode]

    def value(self, name: str) -> Code:
        """The expression (a variable, or a number) of a node."""
        if self.mode != "constant" and self.is_constant(name) and name in self.unit.graph.nodes:
            return self.unit.keep(name)
        if name not in self.names:
            node = self.graph[name]
            if self.inside is not None and name not in self.inside:
                self.names[name] = self._column(name)
            elif self.mode != "constant" and (region := self.unit.regions.below(self.unit.region, name)):
                self._call(region, name)
            else:
                user, self.user = self.user, node
                self.names[name] = PROGRAM[node.op](self, node) if node.op in PROGRAM else ops.emit(self, node)
                self.user = user
                self._note(node)
        return self._widened(name) if self._narrow(name) else self.names[name]

    def _narrow(self, name: str) -> bool:
        """Whether a constant is not wide, and what is being made of it is."""
        if self.mode != "constant" or self.user is None or self.user.name not in self.wide or name in self.wide:
            return False
        return self.graph[name].type.dtype == "real" and self.graph[name].op not in ("const", "layer")

    def _widened(self, name: str) -> Code:
        if (key := f"{name}/wide") not in self.names:
            self.names[key] = self.let(f"{name}_wide", code("time.as_wide({0})", self.names[name]))
        return self.names[key]

    def as_data(self, name: str) -> Code:
        """A wide constant in the dtype of the data, which is made with it unless it is another's."""
        own, key = self.unit.constant, f"{name}/data"
        if name not in self.unit.graph.nodes or not self.unit.owns(name):
            return code("time.as_data({0})", self.value(name))
        if key not in own.names:
            own.names[key] = own.let(f"{name}_data", code("time.as_data({0})", own.value(name)))
        return self.unit.keep_code(own.names[key])

    def _note(self, node: Node) -> None:
        """Say the shape of a value behind the line that makes it."""
        made = name_of(self.names[node.name])
        line = self.lines[-1] if self.lines else None
        if (
            line is None
            or made is None
            or bound(line.statement) != [made]
            or node.type.names == ()
            or node.op == "past"
        ):
            return
        axes, lead = node.type.names, self.lead(node.name)
        front = ("batch", "steps")[:lead]
        if node.op in ("push", "held"):
            axes, front = axes[1:], ("batch", "entries")
        self.lines[-1] = Line(line.statement, f"[{', '.join([*front, *axes])}]")

    @property
    def wide(self) -> frozenset[str]:
        """The nodes whose values are float32 at least, whatever the data is."""
        return wide(self.graph)

    def _call(self, region: str, name: str) -> None:
        """Write the call of the module of a region, and its method; it gives all values of it that were ever asked for here."""
        regions = self.unit.regions
        wanted = regions.wanted.setdefault((region, self.unit.method), [])
        if name not in wanted:
            wanted.append(name)
        elif region in self.called:
            regions.dissolve(region)  # to know this value it needs one of its own
        if region in self.called:
            regions.again()
        self.called.add(region)
        unit = self.unit.within(region)
        inner = Emitter(unit, self.mode, self, regions.nodes(region, self.graph), self.apart)
        unit.borrow = inner.borrowed
        ys = [inner.value(one) for one in wanted]
        inner.finish()
        lines = [*inner.lines, Line(ast.Return(literal(tuple(ys)) if len(ys) > 1 else ys[0]))]
        regions.texts.setdefault(region, []).extend(written(unit, inner, lines))
        found = [self.fresh(one) for one in wanted]
        part = code("run.part(self, {0})", self.unit.local(region))
        self.bind(found, called(part, variable("run"), *inner.columns.values()))
        self.names |= zip(wanted, found, strict=True)

    def borrowed(self, name: str) -> Code:
        """A constant of the code around a region, as an argument."""
        if name not in self.names:
            self.names[name] = self._column(name)
        return self.names[name]

    def _column(self, name: str) -> ast.Name:
        assert self.outer is not None
        self.columns[name] = self.outer.value(name)
        return self.fresh(name)

    def fitted(self, name: str, wanted: Sequence[str], value: Code | None = None) -> Code:
        """A value with its axes permuted to ``wanted`` and an axis of size 1 for each that it lacks."""
        return operands.fit(
            value if value is not None else self.value(name), self.graph[name].type.names, wanted, self.lead(name)
        )

    def number(self, name: str) -> Code:
        """``value``, made real if it is a whole number or a truth value."""
        node, value = self.graph[name], self.value(name)
        if node.type.dtype not in ("int", "bool") or node.op == "const":
            return value
        if node.op == "position":
            return code("time.real_position")
        if self.mode == "constant":
            return code("float({0})", value)
        return self.let(f"{name}_real", code("{0}.to(time.dtype)", value))

    def key(self, memory: str) -> Code:
        """The expression of the name that a memory is filed under. It is written only in the code of its own region."""
        regions, region = self.unit.regions, self.unit.region
        if regions.of(memory) != region:
            regions.dissolve(regions.below(region, memory) or region)
        return code("at + {0}", memory)

    def tensor(self, name: str, wanted: Sequence[str]) -> Code:
        """``fitted``, as a tensor even where it is a number."""
        node = self.graph[name]
        if node.op == "const":
            return operands.scalar(node.attrs["value"])
        return self.fitted(name, wanted)


RESERVED = frozenset(
    {
        *keyword.kwlist,
        *keyword.softkwlist,
        *dir(builtins),
        *"self run time old new at i kind body torch F nn Tensor Any Mapping Body Model annotations model load".split(),
    }
)


def _formula(graph: Graph, name: str) -> str | None:
    """What a node computes, the same words for the same values in any graph; None if not only numbers and positions go in."""
    node = graph[name]
    if node.op == "const":
        return repr(node.attrs["value"])
    if node.op == "arange":
        size = node.type.axes[0].size
        return None if size is None else f"arange({size})"
    if node.op in ("position", "start"):
        return node.op
    if not is_elementwise(node.op) or node.op == "clamp" or node.type.dtype == "complex":
        return None
    parts = [_formula(graph, one) for one in node.inputs]
    shapes = [graph[one].type.names for one in node.inputs]
    if any(part is None for part in parts):
        return None
    letters = {axis: chr(97 + i) for i, axis in enumerate(node.type.names)}
    words = ", ".join(
        f"{part}{''.join(letters[axis] for axis in shape)}" for part, shape in zip(parts, shapes, strict=True)
    )
    return f"{node.op}({words})"


def _groups(graph: Graph, parts: Parts, regions: Regions) -> dict[str, tuple[str, ...]]:
    """Projections of one input that become one product: for each, all of them in order."""
    by_input: dict[tuple[object, ...], list[str]] = {}
    for node in graph:
        part = parts.of(node)
        if part is None or part.kind != "Linear" or part.shared or node.type.dependence is Dependence.CONSTANT:
            continue
        rest = [name for name in graph[node.inputs[0]].type.names if name not in node.attrs["over"]]
        if node.op != "linear" or rest:
            continue
        same_cycle = graph.cycle_of.get(node.name)
        region = regions.of(node.name)
        by_input.setdefault((node.inputs[0], node.attrs["over"], same_cycle, region), []).append(node.name)
    return {name: tuple(names) for names in by_input.values() if len(names) > 1 for name in names}
