"""Writes the source of a graph: one method for a sequence, one for a step, one for what only parameters decide.

Values become local variables on demand, so what no output needs is never written. Axes are counted from the right, which makes
the text of most operations the same over a sequence [batch, steps, *axes], in a step [batch, *axes] and for constants [*axes].
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Literal

from ssir.compilers.forms import Match
from ssir.compilers.torch import ops
from ssir.compilers.torch.methods import written
from ssir.compilers.torch.parts import Parts
from ssir.compilers.torch.regions import Regions
from ssir.ir.graph import Dependence, Graph, Node, parents
from ssir.ir.ops import is_elementwise
from ssir.passes.facts import facts, is_complex

Mode = Literal["constant", "sequence", "step"]
LEAD = {"constant": 0, "sequence": 2, "step": 1}


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
    """One graph being compiled: what its emitters share. ``loops`` holds for every state the loop over the steps, where one can be had."""

    def __init__(
        self,
        graph: Graph,
        where: str,
        chosen: Mapping[tuple[str, str], Match],
        loops: Mapping[str, Match],
        imports: dict[str, dict[str, str]],
        regions: Regions,
        definitions: dict[str, tuple[str, str]],
    ) -> None:
        self.graph, self.where, self.imports, self.regions = graph, where, imports, regions
        self.definitions = definitions
        self.region = ""
        self.match = {node.name: chosen[where, node.name] for node in graph.states}
        self.loops = {**self.match, **loops}
        self.facts = {node.name: facts(graph, node) for node in graph.states}
        self.given = {name: graph.cycle_of[state] for state, match in self.match.items() for name in match.gives}
        self.parts = Parts(graph)
        self.groups = _groups(graph, self.parts, regions)
        self.entries = ops.entry_axes(graph, self.match)
        self.begin("")

    def begin(self, method: str) -> None:
        """A new method, with constants of its own."""
        self.method = method
        self.borrow: Callable[[str], str] | None = None
        self.constant = Emitter(self, "constant")
        self.kept: list[str] = []
        self.taken: set[str] = set()
        self.locals: set[str] = set()

    def keep(self, name: str) -> str:
        """A constant as a variable that the method unpacks, or is given if it is made of what is not in its region."""
        if self.borrow is not None and not self._owns(name):
            return self.borrow(name)
        return self.keep_text(self.constant.value(name))

    def keep_text(self, text: str) -> str:
        if text.isidentifier() and text not in self.kept:
            self.kept.append(text)
        return text

    def _owns(self, name: str) -> bool:
        """Whether all parameters that a constant is made of are in the region."""
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
        inner.begin(self.method)
        return inner

    def kind(self, node: Node) -> str:
        """The kind of dtype that a memory is kept in: the data's, a wide one (float32 at least), or complex. A register or a delay keeps
        what it is given as it is given."""
        if is_complex(self.graph, node):
            return "complex"
        kept = self.facts[node.name].structure.kind in ("shift", "zero")
        entering = [name for role in ("x", "B", "initial") if (name := node.role(role)) is not None]
        if kept and node.attrs["dtype"] is not None:
            return {"float32": "wide", "data": "data"}[node.attrs["dtype"]]
        return "wide" if not kept or any(name in self.wide for name in entering) else "data"

    @cached_property
    def wide(self) -> frozenset[str]:
        """The nodes whose values are float32 at least, whatever the data is: what positions, indices and written numbers decide, and what
        is read from a wide memory, until it enters a product."""
        return ops.wide(self.graph)

    @property
    def fused(self) -> bool:
        """Whether a form uses the weights of parts without calling them."""
        return any(getattr(match.form, "reads_weights", False) for match in self.match.values())


class Emitter:
    """Writes one method of a graph, or the cell of a loop (``inside``: the nodes that it computes). ``apart``: memories step by step, every
    part called by itself."""

    def __init__(
        self,
        unit: Unit,
        mode: Mode,
        outer: Emitter | None = None,
        inside: frozenset[str] | None = None,
        apart: bool = False,
    ) -> None:
        self.unit, self.graph, self.mode = unit, unit.graph, mode
        self.outer, self.inside, self.apart = outer, inside, apart
        self.lines: list[str] = []
        self.names: dict[str, str] = {}
        self.columns: dict[str, str] = {}
        self.used: set[str] = set()
        self.registers: dict[str, str] = {}
        self.pending: list[Callable[[], None]] = []
        self.called: set[str] = set()

    @property
    def match(self) -> Mapping[str, Match]:
        """The form of each state."""
        return self.unit.loops if self.apart else self.unit.match

    def finish(self) -> None:
        """Write what must come last: what a memory read before its input keeps for the next step."""
        while self.pending:
            self.pending.pop(0)()

    # Names and lines.

    def fresh(self, hint: str) -> str:
        """A name that nothing else has: a variable of this method, or a constant of all of them."""
        imported = (own for names in self.unit.imports.values() for own in names)
        locals_ = self.unit.locals if self.mode == "constant" else ()
        defined = (known for known, _ in self.unit.definitions.values())
        name = unused(self.unit.local(hint), self.unit.taken.union(self.used, imported, locals_, RESERVED, defined))
        self.used.add(name)
        (self.unit.taken if self.mode == "constant" else self.unit.locals).add(name)
        return name

    def line(self, text: str) -> None:
        self.lines.append(text)

    def let(self, hint: str, text: str) -> str:
        """Assign an expression to a new variable."""
        name = self.fresh(hint)
        self.line(f"{name} = {text}")
        return name

    def function(self, module: str, name: str) -> str:
        """A function of a runtime module, imported; under another name where a variable, or another function, has its own."""
        of_module = self.unit.imports.setdefault(module, {})
        others = {own for other, names in self.unit.imports.items() if other != module for own in names}
        own, n = name, 1
        while own in self.unit.taken | self.used | others or of_module.get(own, name) != name:
            n += 1
            own = f"{name}_{n}"
        of_module[own] = name
        return own

    def once(self, node: Node, text: str, what: str = "") -> str:
        """An expression that only the position decides, computed once for all layers. ``what`` is done to the node in it."""
        if self.mode == "constant" or node.type.dependence is not Dependence.POSITION:
            return text
        known = _formula(self.graph, node.name)
        return text if known is None else f'time.once("{what}{known}", lambda: {text})'

    # Values.

    def node(self, name: str) -> Node:
        return self.graph[name]

    def is_constant(self, name: str) -> bool:
        return self.graph[name].type.dependence is Dependence.CONSTANT

    def lead(self, name: str) -> int:
        """How many axes stand in front of the named ones."""
        return 0 if self.is_constant(name) else LEAD[self.mode]

    def value(self, name: str) -> str:
        """The expression (a variable, or a number) of a node."""
        if self.is_constant(name) and self.mode != "constant":
            return self.unit.keep(name)
        if name not in self.names:
            if self.inside is not None and name not in self.inside:
                self.names[name] = self._column(name)
            elif self.mode != "constant" and (region := self.unit.regions.below(self.unit.region, name)):
                self._call(region, name)
            elif not self.in_cell and (cycle := self._cycle_with(name)) and self._cycle(cycle):
                pass
            else:
                self.names[name] = ops.emit(self, self.graph[name])
        return self.names[name]

    @property
    def in_cell(self) -> bool:
        """Whether this is the cell of a loop, not a method."""
        return self.outer is not None and self.outer.unit is self.unit

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
        inner = Emitter(unit, self.mode, self, regions.nodes(region), self.apart)
        unit.borrow = inner.borrowed
        ys = [inner.value(one) for one in wanted]
        inner.finish()
        lines = [*inner.lines, f"return {', '.join(ys)}"]
        regions.texts.setdefault(region, []).extend(written(unit, inner, lines))
        found = [self.fresh(one) for one in wanted]
        given = "".join(f", {text}" for text in inner.columns.values())
        self.line(f'{", ".join(found)} = run.part(self, "{self.unit.local(region)}")(run{given})')
        self.names |= zip(wanted, found, strict=True)

    def borrowed(self, name: str) -> str:
        """A constant of the code around a region, as an argument."""
        if name not in self.names:
            self.names[name] = self._column(name)
        return self.names[name]

    def _cycle_with(self, name: str) -> frozenset[str] | None:
        """The cycle that a value is on, or with whose states a form gives it."""
        return self.graph.cycle_of.get(name) or (None if self.apart else self.unit.given.get(name))

    def _cycle(self, cycle: frozenset[str]) -> bool:
        """Have the form that takes a cycle compute all that it gives to the outside; in a step the nodes may do so one by one."""
        first = next(node for node in self.graph.states if node.name in cycle)
        match = self.match[first.name]
        if self.mode == "step" and getattr(match.form, "steps_by_node", False):
            return False
        write = match.form.sequence if self.mode == "sequence" else match.form.step
        write(self, self.unit.facts[first.name], match)
        return True

    def _column(self, name: str) -> str:
        assert self.outer is not None
        self.columns[name] = self.outer.value(name)
        return self.fresh(name)

    def fitted(self, name: str, wanted: Sequence[str], text: str | None = None) -> str:
        """A value with its axes permuted to ``wanted`` and an axis of size 1 for each that it lacks."""
        return ops.fit(
            text if text is not None else self.value(name), self.graph[name].type.names, wanted, self.lead(name)
        )

    def number(self, name: str) -> str:
        """``value``, made real if it is a whole number or a truth value."""
        node, text = self.graph[name], self.value(name)
        if node.type.dtype in ("int", "bool") and node.op != "const":
            return (
                "time.real_position"
                if node.op == "position"
                else self.let(f"{name}_real", f"{text}.to(time.dtype)")
                if self.mode != "constant"
                else f"float({text})"
            )
        return text

    # Memory.

    def key(self, node: Node) -> str:
        """The expression of the name that a memory is filed under. It is written only in the code of its own region."""
        regions, region = self.unit.regions, self.unit.region
        if regions.of(node.name) != region:
            regions.dissolve(regions.below(region, node.name) or region)
        return f'at + "{node.name}"'

    def is_complex(self, node: Node) -> bool:
        return is_complex(self.graph, node)

    def sizes(self, node: Node) -> str:
        return ops.shape([size for _, size in node.attrs["axes"] if size is not None])

    def start(self, node: Node) -> str | None:
        """The expression of h[-1], over the axes of the state, if the spec gives it."""
        role = node.role("initial")
        if role is None:
            return None
        return f"{self.tensor(role, [name for name, _ in node.attrs['axes']])}.expand({self.sizes(node)})"

    def tensor(self, name: str, wanted: Sequence[str]) -> str:
        """``fitted``, as a tensor even where it is a number."""
        node = self.graph[name]
        if node.op == "const":
            return f"torch.full((), {ops.literal(node)}, dtype=time.dtype, device=time.device)"
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
