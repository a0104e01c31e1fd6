"""Writes the source of a graph: one method for a sequence, one for a step, one for what only parameters decide.

Values become local variables on demand, so what no output needs is never written. Axes are counted from the right, which makes
the text of most operations the same over a sequence [batch, steps, *axes], in a step [batch, *axes] and for constants [*axes].
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable, Collection, Sequence
from typing import Literal

from ssir.compilers.forms import Match
from ssir.compilers.torch import ops
from ssir.ir.graph import Dependence, Graph, Node
from ssir.ir.ops import ELEMENTWISE
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
    """One graph being compiled: what its emitters share."""

    def __init__(
        self,
        graph: Graph,
        where: str,
        chosen: dict[tuple[str, str], Match],
        imports: dict[str, set[str]],
        data_names: set[str],
    ) -> None:
        self.graph, self.where, self.imports = graph, where, imports
        self.match = {node.name: chosen[where, node.name] for node in graph.states}
        self.facts = {node.name: facts(graph, node) for node in graph.states}
        self.groups = _groups(graph)
        self.entries = ops.entry_axes(graph, self.match)
        self.constant = Emitter(self, "constant")
        self.kept: list[str] = []
        self.taken: set[str] = set(data_names)

    def keep(self, name: str) -> str:
        """A constant as a variable that the other methods unpack."""
        text = self.constant.value(name)
        if not text.isidentifier():
            return text
        if text not in self.kept:
            self.kept.append(text)
        return text

    def keep_text(self, text: str) -> str:
        if text not in self.kept:
            self.kept.append(text)
        return text


class Emitter:
    """Writes one method of a graph, or the cell of a loop (``inside``: the nodes that it computes)."""

    def __init__(
        self, unit: Unit, mode: Mode, outer: Emitter | None = None, inside: frozenset[str] | None = None
    ) -> None:
        self.unit, self.graph, self.mode = unit, unit.graph, mode
        self.outer, self.inside = outer, inside
        self.lines: list[str] = []
        self.names: dict[str, str] = {}
        self.columns: dict[str, str] = {}
        self.used: set[str] = set()
        self.registers: dict[str, str] = {}
        self.pending: list[Callable[[], None]] = []

    def finish(self) -> None:
        """Write what must come last: what a memory read before its input keeps for the next step."""
        while self.pending:
            self.pending.pop(0)()

    # Names and lines.

    def fresh(self, hint: str) -> str:
        imported = {text.rpartition(" ")[2] for names in self.unit.imports.values() for text in names}
        name = unused(hint, self.unit.taken.union(self.used, imported, RESERVED))
        self.used.add(name)
        if self.mode == "constant":
            self.unit.taken.add(name)
        return name

    def line(self, text: str) -> None:
        self.lines.append(text)

    def let(self, hint: str, text: str) -> str:
        """Assign an expression to a new variable."""
        name = self.fresh(hint)
        self.line(f"{name} = {text}")
        return name

    def function(self, module: str, name: str) -> str:
        """A function of a runtime module, imported; under another name where a variable has its own."""
        own = f"{name}_" if name in self.unit.taken or name in self.used else name
        self.unit.imports.setdefault(module, set()).add(name if own == name else f"{name} as {own}")
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
            elif self.inside is None and name in self.graph.cycle_of and self._cycle(self.graph.cycle_of[name]):
                pass
            else:
                self.names[name] = ops.emit(self, self.graph[name])
        return self.names[name]

    def _cycle(self, cycle: frozenset[str]) -> bool:
        """Have the form that takes a cycle compute all that it gives to the outside. In a step a loop is nothing special."""
        first = next(node for node in self.graph.states if node.name in cycle)
        match = self.unit.match[first.name]
        if self.mode == "step" and match.form.name == "loop":
            return False
        write = match.form.sequence if self.mode == "sequence" else match.form.step
        write(self, self.unit.facts[first.name], match)
        return True

    def outside(self, inside: frozenset[str]) -> list[str]:
        """The values among ``inside`` that something else uses, in order."""
        outputs = {name for _, name in self.graph.outputs}
        return [
            node.name
            for node in self.graph
            if node.name in inside
            and not node.type.operator
            and (node.name in outputs or any(u not in inside for u in self.graph.users[node.name]))
        ]

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
        return f'self.at + "{node.name}"'

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
    {*keyword.kwlist, *keyword.softkwlist, *dir(builtins)}
    | set(
        "self time old new torch nn F Any Tensor annotations layer linear softmax model Body Model State Time".split()
    )
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
    if node.op not in ELEMENTWISE or node.op == "clamp" or node.type.dtype == "complex":
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


def _groups(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Projections of one input that become one product: for each, all of them in order."""
    by_input: dict[tuple[object, ...], list[str]] = {}
    for node in graph:
        if node.op != "linear" or node.attrs["per"] or node.type.dependence is Dependence.CONSTANT:
            continue
        weight = graph[node.inputs[1]]
        rest = [name for name in graph[node.inputs[0]].type.names if name not in node.attrs["over"]]
        if weight.op != "param" or rest:
            continue
        same_cycle = graph.cycle_of.get(node.name)
        by_input.setdefault((node.inputs[0], node.attrs["over"], same_cycle), []).append(node.name)
    return {name: tuple(names) for names in by_input.values() if len(names) > 1 for name in names}
