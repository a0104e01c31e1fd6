"""The step of a model in C: a function for each graph, the layers of a stack called one after another, one team of threads for all.

    NAME(constants, old state, new state, registers, what whole sequences decide, position, inputs, outputs)

What varies with the layer goes by place: constants, memories and registers of a layer follow those of the layer before. Memories are
[rows][axes], one after another; a register is [rows][room][axes], the new entry written behind those that are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import prod

from ssir.analysis.whole import Wholly, wholly
from ssir.compilers.loops.nests import Nests
from ssir.compilers.loops.phases import Extent, Layers, Product
from ssir.compilers.loops.region import Region
from ssir.compilers.loops.spelling import Unfit
from ssir.compilers.step.region import POSITION, step_region, whole_region
from ssir.ir.graph import Graph, Node

GROUP = 32
"""Neighbouring numbers of a row that share a scale."""


@dataclass(frozen=True)
class Kept:
    """What the step of one graph keeps and reads, in order: the nodes of its constants, and of those that are kept as whole numbers of 8 bits
    the sizes as a matrix; of each memory its states and the sizes of what is kept of it; of each register with room for more its state, its
    group and the sizes of an entry; of each value that whole sequences decide its numbers, and along how many axes there are so many for each
    entry; and its stacks."""

    constants: tuple[str, ...]
    narrow: tuple[tuple[int, int] | None, ...]
    memories: tuple[tuple[tuple[str, ...], tuple[int, ...]], ...]
    rooms: tuple[tuple[str, int, tuple[int, ...]], ...]
    wholes: tuple[tuple[int, int], ...]
    stacks: tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """What a function is given or gives, by its name in the spec: its C type, and the numbers of a row, or of an entry of one."""

    name: str
    type: str
    numbers: int


@dataclass(frozen=True)
class Root:
    """An outermost function. ``scratch``: numbers that a team shares, and that each member has, for each of ROWS rows. ``team``: the members
    that are worth while, as C."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    scratch: tuple[Extent, Extent]
    team: str


@dataclass(frozen=True)
class Step:
    """The functions of a step: ``step``, and ``whole``, what whole sequences decide (None: nothing). ``kept``: by graph (its path among
    bodies). ``groups``: how many entries registers keep that have room for more, None for all; registers of a group go through the same
    lengths."""

    text: str
    step: Root
    whole: Root | None
    kept: Mapping[str, Kept]
    groups: tuple[int | None, ...]


def print_step(graph: Graph, name: str, int8: bool = False) -> Step:
    """The C text of the step of a model. int8: matrices are whole numbers of 8 bits, with a scale for each GROUP. Raises Unfit."""
    return _Writer(name, int8).written(graph)


@dataclass
class _Writer:
    name: str
    int8: bool
    units: dict[str, _Unit] = field(default_factory=dict)
    groups: tuple[int | None, ...] = ()
    names: dict[str, str] = field(default_factory=dict)

    def written(self, graph: Graph) -> Step:
        lengths = {axis.name for node in graph.inputs for axis in node.type.axes if axis.size is None}
        if len(lengths) > 1:
            raise Unfit(f"`{'` and `'.join(sorted(lengths))}` are lengths of their own")
        for where, one, whole in reversed(list(_bodies(graph, "", wholly(graph, graph.whole)))):
            self.units[where] = _Unit(self, one, where, whole)
        regions = [unit.region for unit in self.units.values() if unit.region is not None]
        sizes = {region.body[room.slots].type.axes[0].size for region in regions for room in region.rooms}
        self.groups = tuple(sorted(sizes, key=lambda size: (size is not None, size or 0)))
        texts = []
        for unit in self.units.values():
            unit.frame()
            texts += [frame.text() for frame in (unit.whole, unit.step) if frame is not None]
        root = self.units[""]
        assert root.step is not None
        kept = {where: self.units[where].kept for where in reversed(self.units)}
        return Step(
            "\n".join(texts), root.step.root(), None if root.whole is None else root.whole.root(), kept, self.groups
        )

    def function(self, where: str) -> str:
        """The name of the function of a graph."""
        if where not in self.names:
            plain = f"{self.name}__{re.sub('[^A-Za-z0-9]+', '_', where).strip('_') or 'model'}"
            same = sum(name == plain or name.startswith(f"{plain}__") for name in self.names.values())
            self.names[where] = f"{plain}__{same}" if same else plain
        return self.names[where]


def _bodies(graph: Graph, where: str, whole: Wholly) -> Iterator[tuple[str, Graph, Wholly]]:
    yield where, graph, whole
    for name, inner in whole.bodies.items():
        yield from _bodies(graph.bodies[name], f"{where}{name}/", inner)


@dataclass(frozen=True)
class _Count:
    """How many constants, numbers of memory for a row, registers, and values that whole sequences decide there are."""

    constants: int = 0
    memory: int = 0
    rooms: int = 0
    wholes: int = 0

    def __add__(self, other: _Count) -> _Count:
        return _Count(
            self.constants + other.constants,
            self.memory + other.memory,
            self.rooms + other.rooms,
            self.wholes + other.wholes,
        )


class _Unit:
    """One graph: its step, and what whole sequences decide of it, if there is anything of either."""

    step: _Frame | None = None
    whole: _Frame | None = None

    def __init__(self, writer: _Writer, graph: Graph, where: str, whole: Wholly) -> None:
        self.writer, self.graph, self.where = writer, graph, where
        self.region: Region | None = None
        self.before: Region | None = None
        if not whole.all or not where:
            self.region = step_region(graph, whole)
        outputs = [name for _, name in graph.outputs] if whole.all and where else []
        self.wholes = () if self.region is None else tuple(dict.fromkeys(self.region.wholes.values()))
        inner = any(self.body(name).before is not None for name in whole.bodies)
        if whole.values and (outputs or self.wholes or inner):
            self.before = whole_region(graph, whole, [*outputs, *self.wholes])

    def frame(self) -> None:
        """Put what is computed in order."""
        labels = [] if self.region is not None else self.graph.outputs
        if self.before is not None:
            results = [*(name for _, name in labels), *self.wholes]
            self.whole = _Frame(self, self.before, "whole", labels, results)
        if self.region is not None:
            self.step = _Frame(self, self.region, "", self.graph.outputs, [name for _, name in self.graph.outputs])

    def body(self, name: str) -> _Unit:
        return self.writer.units[f"{self.where}{name}/"]

    @property
    def frames(self) -> list[_Frame]:
        return [frame for frame in (self.step, self.whole) if frame is not None]

    @property
    def stacks(self) -> list[Node]:
        return [node for node in self.graph if node.op == "stack"]

    @property
    def kept(self) -> Kept:
        step, before = self.step, self.whole
        return Kept(
            tuple(name for frame in self.frames for name in frame.region.constants.values()),
            tuple(frame.narrow(name) for frame in self.frames for name in frame.constants),
            () if step is None else tuple(step.kept_memories()),
            () if step is None else tuple(step.kept_rooms()),
            () if before is None else tuple(map(before.spanned, range(len(before.outs), len(before.results)))),
            tuple(node.name for node in self.stacks),
        )

    def own(self) -> _Count:
        step = self.step
        memory = 0 if step is None else sum(step.numbers(memory.old) for memory in step.memories)
        constants = sum(len(frame.constants) for frame in self.frames)
        return _Count(constants, memory, 0 if step is None else len(step.rooms), len(self.wholes))

    def count(self) -> _Count:
        """Of it and all layers in it."""
        return sum(map(self.of_stack, self.stacks), self.own())

    def of_stack(self, node: Node) -> _Count:
        return sum((self.body(name).count() for name in node.attrs["pattern"]), _Count())


class _Frame(Nests):
    """A function of one graph: of a ``kind``, its step ("") or what whole sequences decide. ``outs``: the results that it gives; the others are
    kept."""

    def __init__(
        self, unit: _Unit, region: Region, kind: str, outs: Sequence[tuple[str, str]], results: Sequence[str]
    ) -> None:
        self.unit, self.region, self.kind, self.outs = unit, region, kind, outs
        self.graph, self.where = unit.graph, unit.where
        # Results in this order, whose values may be the same.
        super().__init__(
            region.body,
            region.memories,
            region.rooms,
            (*region.columns, *region.wholes),
            tuple(region.constants),
            [region.outputs[name] for name in results],
            again=False,
        )
        self.group = {
            room.slots: unit.writer.groups.index(region.body[room.slots].type.axes[0].size) for room in region.rooms
        }
        for label, name in outs if not self.where else ():
            if self.graph[name].type.dtype != "real" or self.dynamic & set(self.graph[name].type.names):
                raise Unfit(f"the output `{label}` is no array of real numbers")

    def root(self) -> Root:
        team = f"worth({self.total_work()} * B, {16384 * max(1, self.total_waits())}, min64(threads, PROCESSORS))"
        return Root(self.function, tuple(self.inputs()), tuple(self.outputs()), self.scratch(), team)

    @property
    def function(self) -> str:
        return self.unit.writer.function(f"{self.where}{self.kind}")

    # What it keeps.

    def kept_rooms(self) -> Iterator[tuple[str, int, tuple[int, ...]]]:
        return ((room.state, self.group[room.slots], self._inner(room.slots)) for room in self.region.rooms)

    def kept_memories(self) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
        return ((m.states, tuple(self.sizes[n] for n in self.body[m.old].type.names)) for m in self.region.memories)

    def spanned(self, k: int) -> tuple[int, int]:
        """The numbers of a result, and along how many axes there are so many for each entry of a whole sequence."""
        axes = self.results[k].axes
        return prod(self.sizes[n] for n in axes if n not in self.dynamic), sum(n in self.dynamic for n in axes)

    def span(self, axes: Sequence[str]) -> str:
        """The numbers of a value, without any between."""
        long = ["length" for n in axes if n in self.dynamic]
        return " * ".join([str(prod(self.sizes[n] for n in axes if n not in self.dynamic)), *long])

    def narrow(self, constant: str) -> tuple[int, int] | None:
        """The results and operands of a matrix that is kept in 8 bits: one that is looked up in, or multiplied by along rows of whole groups."""
        users = [self.body[name] for name in self.body.users[constant]]
        products = [one for one in self.phases if isinstance(one, Product) and one.matrix == constant]
        looked = [node.name for node in users if node.op == "embed" and node.inputs[1] == constant != node.inputs[0]]
        if not self.unit.writer.int8 or {*looked, *(one.node for one in products)} != {node.name for node in users}:
            return None
        size = self.numbers(constant)
        inner = size // (self.sizes[self.body[constant].type.names[0]] if looked else size // products[0].inner)
        straight = all(one.strides[1:] == (inner, 1) and one.inner == inner for one in products)
        return (size // inner, inner) if straight and inner % GROUP == 0 else None

    def inputs(self) -> Iterator[Value]:
        for k, kind, _ in self._inputs():
            numbers = prod(axis.size or 1 for axis in self.body[self.columns[k]].type.axes)
            yield Value(self.region.columns[self.columns[k]], kind[:-2], numbers)

    def outputs(self) -> Iterator[Value]:
        for (label, _), one in zip(self.outs, self.results, strict=False):
            yield Value(label, "REAL", prod(self.sizes[axis] for axis in one.axes))

    def _inner(self, slots: str) -> tuple[int, ...]:
        return tuple(axis.size or 0 for axis in self.body[slots].type.axes[1:])

    def numbers(self, name: str) -> int:
        return prod(self.sizes[axis] for axis in self.body[name].type.names)

    def _stacks(self) -> Iterator[Node]:
        return (node for node in self.body if node.op == "stack")

    def _body(self, name: str) -> _Frame | None:
        unit = self.unit.body(name)
        return unit.whole if self.kind else unit.step

    def _bodies(self, node: Node) -> Iterator[_Frame]:
        return (frame for name in node.attrs["pattern"] if (frame := self._body(name)) is not None)

    # Where things lie.

    def kept_apart(self, name: str) -> bool:
        return name in self.rooms or name in self.olds

    def base(self, name: str, old: bool = True) -> str:
        if name in self.olds:
            return f"{'old' if old else 'new'}{self.olds[name]}"
        if name in self.rooms:
            return f"room_{list(self.rooms).index(name)}"
        return super().base(name, old)

    def row_of(self, name: str) -> str:
        if name in self.olds:
            return str(self.numbers(name))
        if name in self.rooms:
            return f"room{self.group[name]} * {prod(self._inner(name))}"
        return super().row_of(name)

    def constant_at(self, name: str, index: Mapping[str, str]) -> str:
        k, at = self.constants.index(name), self.offset(self.body[name].type.names, index)
        if self.narrow(name) is None:
            return super().constant_at(name, index)
        return f"((REAL)constant{k}[{at}] * scale{k}[({at}) / GROUP])"

    def is_given(self, name: str) -> bool:
        return name in self.olds

    def behind(self, name: str) -> str:
        return f"used{self.group[name]}"

    def entries(self) -> str:
        return f"used{self.unit.writer.groups.index(None)} + 1"

    def column_at(self, k: int) -> tuple[str, str]:
        name = self.columns[k]
        axes = self.body[name].type.names
        if name in self.region.wholes:
            return f"whole{self.unit.wholes.index(self.region.wholes[name])}", self.span(axes)
        if self.region.columns[name] == POSITION:
            return "position", "1"
        return f"in{k}", self.row(axes) if self.where else self.span(axes)

    def given_at(self, k: int) -> str:
        at, row = self.column_at(k)
        return f"{at} + r * {row}"

    def handed_at(self, kind: str, k: int) -> tuple[str, str]:
        axes = self.results[k].axes
        if k >= len(self.outs):
            return f"whole{k - len(self.outs)} + r * {self.span(axes)}", "="
        return f"out{k} + r * {self.row(axes) if self.where else self.span(axes)}", "="

    def product_call(
        self, phase: Product, x: str, x_stride: str, y: str, y_stride: str, own: str, rows: str = "rows"
    ) -> list[str]:
        _, out, over = phase.strides
        k, along = self.constants.index(phase.matrix), self.along(phase)
        w = f"constant{k}{along}"
        if self.narrow(phase.matrix) is not None:
            scale = f"scale{k}{f' + (0{along}) / GROUP' if along else ''}"
            return [f"product_int8({w}, {scale}, {x}, {x_stride}, {y}, {y_stride}, {phase.inner}, {own}, {rows});"]
        return [f"product_once({w}, {out}, {over}, {x}, {x_stride}, {y}, {y_stride}, {phase.inner}, {own}, {rows});"]

    # Text.

    def scratch(self) -> tuple[Extent, Extent]:
        """Of it and all layers in it; layers, which do not run at the same time, have the same."""
        inner = [one.scratch() for node in self._stacks() for one in self._bodies(node)]
        return tuple(  # type: ignore[return-value]
            own.plus(reduce(Extent.either, (one[k] for one in inner), Extent()))
            for k, own in enumerate((self.shared, self.private))
        )

    def total_work(self) -> int:
        return self.work() + sum(one.total_work() for node in self._stacks() for one in self._bodies(node))

    def total_waits(self) -> int:
        return len(self.waits) + sum(1 + one.total_waits() for node in self._stacks() for one in self._bodies(node))

    def _inputs(self) -> list[tuple[int, str, str]]:
        """Index, type and name of the columns that are given."""
        found = []
        for k, name in enumerate(self.columns):
            if self.region.columns.get(name, POSITION) != POSITION:
                kind = "int64_t" if self.body[name].type.dtype == "int" else "REAL"
                found.append((k, f"const {kind} *", f"in{k}"))
        return found

    def text(self) -> str:
        arguments = [f"{kind}{name}" for _, kind, name in self._inputs()]
        arguments += [f"REAL *out{k}" for k in range(len(self.outs))]
        lines = [
            f"/* {self._about()} */",
            f"static void {self.function}(step_t *step, member_t *member, const REAL *const *constants, const REAL *old, REAL *new,",
            f"    REAL *const *rooms, REAL *const *wholes, REAL *shared, REAL *own{''.join(f', {one}' for one in arguments)}) {{",
            "    const int64_t rows = step->rows, length = step->length, rank = member->rank, team = member->team, *position = step->position;",
        ]
        for g, size in enumerate(self.unit.writer.groups if not self.kind else ()):
            lines.append(f"    const int64_t used{g} = step->used[{g}], room{g} = step->room[{g}];")
            lines += [f"    const int64_t room = room{g};"] if size is None else []
            lines += [f"    (void)used{g}, (void)room{g};"] + (["    (void)room;"] if size is None else [])
        first = len(self.unit.step.constants) if self.kind and self.unit.step is not None else 0
        for k, name in enumerate(self.constants):
            narrow = self.narrow(name)
            if narrow is None:
                lines.append(f"    const REAL *constant{k} = constants[{first + k}];")
                continue
            lines.append(f"    const int8_t *constant{k} = (const int8_t *)constants[{first + k}];")
            lines.append(
                f"    const REAL *scale{k} = (const REAL *)(constant{k} + {-(-narrow[0] * narrow[1] // 64) * 64});"
            )
        at = 0
        for k, memory in enumerate(self.memories):
            lines.append(f"    const REAL *old{k} = old + rows * {at};")
            lines.append(f"    REAL *new{k} = new + rows * {at};")
            at += self.numbers(memory.old)
        lines += [f"    REAL *room_{k} = rooms[{k}];" for k in range(len(self.rooms))]
        lines += [f"    REAL *whole{k} = wholes[{k}];" for k in range(len(self.unit.wholes))]
        lines += [f"    (void){name};" for _, _, name in self._inputs()]  # nothing may read it
        for axis in dict.fromkeys(phase.partition for phase in self.phases if phase.partition):
            lines.append(
                f"    range_t part_{self.index[axis]} = part_of({self.sizes[axis]}, {self.align(axis)}, rank, team);"
            )
        lines.append(
            "    (void)rows, (void)rank, (void)team, (void)position, (void)constants, (void)old, (void)new, (void)rooms, (void)wholes, (void)length, (void)shared, (void)own;"
        )
        for i in range(len(self.phases)):
            if i in self.waits:
                lines.append("    wait_for_all(member->arrived, &member->round, team);")
            lines += [f"    {line}" for line in self.phase_text(i)]
        return "\n".join([*lines, "}", ""])

    def _about(self) -> str:
        def shown(axes: Sequence[object]) -> str:
            return f"[{', '.join(map(str, axes))}]"

        takes = ", ".join(f"{node.name} {shown(node.type.axes)}" for node in self.graph.inputs)
        gives = ", ".join(f"{label} {shown(self.graph[name].type.axes)}" for label, name in self.graph.outputs)
        what = ", what whole sequences decide" if self.kind else ""
        return f"{self.graph.name}{what}: {takes} -> {gives}"

    def layers_text(self, phase: Layers) -> list[str]:
        """Calls of the layers of a stack: a loop over the repeats of its pattern."""
        node = self.body[phase.node]
        pattern: tuple[str, ...] = node.attrs["pattern"]
        size = len(pattern)
        period = next(n for n in range(1, size + 1) if size % n == 0 and pattern == pattern[:n] * (size // n))
        at = self.unit.own()
        for stack in self.unit.stacks:
            if stack.name == node.attrs["path"]:
                break
            at += self.unit.of_stack(stack)
        each = sum((self.unit.body(name).count() for name in pattern[:period]), _Count())
        n = range(self._moved(phase))
        layer = f"layer / {period}"
        lines = [
            "{",
            *(f"    const REAL *x{k} = {self.base(phase.values[k])};" for k in n),
            f"    for (int64_t layer = 0; layer < {size}; layer += {period}) {{",
            f"        const REAL *const *c = constants + {at.constants} + {layer} * {each.constants};",
            f"        const REAL *o = old + rows * ({at.memory} + {layer} * {each.memory});",
            f"        REAL *w = new + rows * ({at.memory} + {layer} * {each.memory});",
            f"        REAL *const *k = rooms + {at.rooms} + {layer} * {each.rooms};",
            f"        REAL *const *v = wholes + {at.wholes} + {layer} * {each.wholes};",
            "        (void)c, (void)o, (void)w, (void)k, (void)v;",
            *(f"        REAL *y{k};" for k in n),
        ]
        inside = _Count()
        shared, own = (f"{one} + ROWS * ({extent})" for one, extent in (("shared", self.shared), ("own", self.private)))
        for place, name in enumerate(pattern[:period]):
            body, unit = self._body(name), self.unit.body(name)
            if body is not None:
                for k in n:
                    result, other = self._turns(phase, k)
                    lines.append(f"        y{k} = ({size - 1 - place} - layer) % 2 ? {other} : {result};")
                given = [*self._given(body, phase), *(f"y{k}" for k in n)]
                lines += [
                    "        wait_for_all(member->arrived, &member->round, team);",
                    f"        {body.function}(step, member, c + {inside.constants}, o + rows * {inside.memory}, w + rows * {inside.memory}, "
                    f"k + {inside.rooms}, v + {inside.wholes}, {shared}, {own}{''.join(f', {one}' for one in given)});",
                    *(f"        x{k} = y{k};" for k in n),
                ]
            inside += unit.count()
        return [*lines, "    }", "}"]

    def _moved(self, phase: Layers) -> int:
        """How many values run through the layers: none where they only keep what whole sequences decide."""
        node = self.body[phase.node]
        return len(phase.values) - len(node.attrs["given"])

    def _turns(self, phase: Layers, k: int) -> tuple[str, str]:
        """The two places by turns of what runs through a stack; the first is where it is at the end."""
        label = "" if k == 0 else self.body[phase.node].attrs["carried"][k - 1]
        result = next(
            one
            for one in phase.results
            if (one == phase.node if k == 0 else self.body[one].attrs.get("label") == label)
        )
        return self.base(result), f"{self.base(result)} + ROWS * {self.row(self.body[result].type.names)}"

    def _given(self, body: _Frame, phase: Layers) -> Iterator[str]:
        """The arguments of a layer for its inputs: what runs through the stack, then what is given by name."""
        node, moved = self.body[phase.node], self._moved(phase)
        names = [one.name for one in body.graph.inputs]
        labels = [*[*names[:1], *node.attrs["carried"]][:moved], *node.attrs["given"]]
        for k, _, _ in body._inputs():
            place = labels.index(body.region.columns[body.columns[k]])
            yield f"x{place}" if place < moved else self.base(phase.values[place])

    def extent_of(self, name: str) -> Extent:
        """What runs through a stack has two places."""
        whole = super().extent_of(name)
        at = self.phase_of.get(name)
        return whole.times(2) if at is not None and isinstance(self.phases[at], Layers) else whole
