"""The step of a model in C: a function for each graph, the layers of a stack called one after another, one team of threads for all.

    NAME(constants, old state, new state, registers, position, inputs, outputs)

What varies with the layer goes by place: constants, memories and registers of a layer follow those of the layer before. Memories are
[rows][axes], one after another; a register is [rows][room][axes], the new entry written behind those that are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from ssir.compilers.loops.nests import Nests
from ssir.compilers.loops.phases import Extent, Layers, Product
from ssir.compilers.loops.region import Region, Unfit
from ssir.compilers.step.region import POSITION, step_region
from ssir.ir.graph import Graph, Node

GROUP = 32
"""Neighbouring numbers of a row that share a scale."""


@dataclass(frozen=True)
class Kept:
    """What the step of one graph keeps and reads, in order: the nodes of its constants, and of those that are kept as whole numbers of 8 bits
    the sizes as a matrix; of each memory its states and the sizes of what is kept of it; of each register with room for more its state, its
    group and the sizes of an entry; and its stacks."""

    constants: tuple[str, ...]
    narrow: tuple[tuple[int, int] | None, ...]
    memories: tuple[tuple[tuple[str, ...], tuple[int, ...]], ...]
    rooms: tuple[tuple[str, int, tuple[int, ...]], ...]
    stacks: tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """What a step is given or gives, by its name in the spec: its C type, and the numbers of a row."""

    name: str
    type: str
    numbers: int


@dataclass(frozen=True)
class Step:
    """The functions of a step, the outermost of which is called ``root``. ``kept``: by graph (its path among bodies). ``groups``: how many
    entries registers keep that have room for more, None for all; registers of a group go through the same lengths. ``scratch``: numbers that
    a team shares, and that each member has, for each of ROWS rows. ``team``: the members that are worth while, as C."""

    text: str
    root: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    kept: Mapping[str, Kept]
    groups: tuple[int | None, ...]
    scratch: tuple[Extent, Extent]
    team: str


def print_step(graph: Graph, name: str, int8: bool = False) -> Step:
    """The C text of the step of a model. int8: matrices are whole numbers of 8 bits, with a scale for each GROUP. Raises Unfit."""
    return _Writer(name, int8).written(graph)


@dataclass
class _Writer:
    name: str
    int8: bool
    regions: dict[str, Region] = field(default_factory=dict)
    frames: dict[str, _Frame] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    groups: tuple[int | None, ...] = ()
    names: dict[str, str] = field(default_factory=dict)

    def written(self, graph: Graph) -> Step:
        graphs = dict(_bodies(graph, ""))
        self.regions = {where: step_region(one) for where, one in graphs.items()}
        sizes = {self._entries(region, room.slots) for region in self.regions.values() for room in region.rooms}
        self.groups = tuple(sorted(sizes, key=lambda size: (size is not None, size or 0)))
        for where, one in reversed(graphs.items()):
            frame = _Frame(self, one, where)
            self.frames[where] = frame
            self.texts.append(frame.text())
        root = self.frames[""]
        return Step(
            "\n".join(self.texts),
            self.function(""),
            tuple(root.inputs()),
            tuple(root.outputs()),
            {where: frame.kept for where, frame in self.frames.items()},
            self.groups,
            root.scratch(),
            f"worth({root.total_work()} * B, {16384 * max(1, root.total_waits())}, min64(threads, PROCESSORS))",
        )

    def _entries(self, region: Region, slots: str) -> int | None:
        return region.body[slots].type.axes[0].size

    def function(self, where: str) -> str:
        """The name of the function of a graph."""
        if where not in self.names:
            plain = f"{self.name}_{re.sub('[^A-Za-z0-9]+', '_', where).strip('_') or 'model'}"
            same = sum(name == plain or name.startswith(f"{plain}__") for name in self.names.values())
            self.names[where] = f"{plain}__{same}" if same else plain
        return self.names[where]


def _bodies(graph: Graph, where: str) -> Iterator[tuple[str, Graph]]:
    yield where, graph
    used = {name for node in graph if node.op == "stack" for name in node.attrs["pattern"]}
    for name, body in graph.bodies.items():
        if name in used:
            yield from _bodies(body, f"{where}{name}/")


@dataclass(frozen=True)
class _Count:
    """How many constants, numbers of memory for a row, and registers there are."""

    constants: int = 0
    memory: int = 0
    rooms: int = 0

    def __add__(self, other: _Count) -> _Count:
        return _Count(self.constants + other.constants, self.memory + other.memory, self.rooms + other.rooms)


class _Frame(Nests):
    """The function of one graph."""

    def __init__(self, writer: _Writer, graph: Graph, where: str) -> None:
        self.writer, self.graph, self.where = writer, graph, where
        self.region = region = writer.regions[where]
        # Results in the order of the outputs, whose values may be the same.
        results = [region.outputs[name] for _, name in graph.outputs]
        super().__init__(
            region.body,
            region.memories,
            region.rooms,
            tuple(region.columns),
            tuple(region.constants),
            results,
            again=False,
        )
        self.group = {
            room.slots: writer.groups.index(region.body[room.slots].type.axes[0].size) for room in region.rooms
        }
        for label, name in graph.outputs:
            if graph[name].type.dtype != "real" or self.dynamic & set(graph[name].type.names):
                raise Unfit(f"the output `{label}` is no array of real numbers")

    # What it keeps.

    @property
    def kept(self) -> Kept:
        rooms = ((room.state, self.group[room.slots], self._inner(room.slots)) for room in self.region.rooms)
        memories = ((m.states, tuple(self.sizes[n] for n in self._memory_axes(m.old))) for m in self.region.memories)
        return Kept(
            tuple(self.region.constants.values()),
            tuple(map(self._narrow, self.constants)),
            tuple(memories),
            tuple(rooms),
            tuple(node.attrs["path"] for node in self._stacks()),
        )

    def _narrow(self, constant: str) -> tuple[int, int] | None:
        """The results and operands of a matrix that is kept in 8 bits: one that is looked up in, or multiplied by along rows of whole groups."""
        users = [self.body[name] for name in self.body.users[constant]]
        products = [one for one in self.phases if isinstance(one, Product) and one.matrix == constant]
        looked = [node.name for node in users if node.op == "embed" and node.inputs[1] == constant != node.inputs[0]]
        if not self.writer.int8 or {*looked, *(one.node for one in products)} != {node.name for node in users}:
            return None
        size = self._numbers(constant)
        inner = size // (self.sizes[self.body[constant].type.names[0]] if looked else size // products[0].inner)
        straight = all(one.strides[1:] == (inner, 1) and one.inner == inner for one in products)
        return (size // inner, inner) if straight and inner % GROUP == 0 else None

    def inputs(self) -> Iterator[Value]:
        for k, kind, _ in self._inputs():
            yield Value(self.region.columns[self.columns[k]], kind[:-2], self._numbers(self.columns[k]))

    def outputs(self) -> Iterator[Value]:
        for (label, _), one in zip(self.graph.outputs, self.results, strict=True):
            yield Value(label, "REAL", prod(self.sizes[axis] for axis in one.axes))

    def _memory_axes(self, old: str) -> tuple[str, ...]:
        return self.body[old].type.names

    def _inner(self, slots: str) -> tuple[int, ...]:
        return tuple(axis.size or 0 for axis in self.body[slots].type.axes[1:])

    def own(self) -> _Count:
        memory = sum(self._numbers(memory.old) for memory in self.memories)
        return _Count(len(self.constants), memory, len(self.rooms))

    def _numbers(self, name: str) -> int:
        return prod(self.sizes[axis] for axis in self.body[name].type.names)

    def count(self) -> _Count:
        """Of it and all layers in it."""
        return sum((self._of_stack(node) for node in self._stacks()), self.own())

    def _stacks(self) -> Iterator[Node]:
        return (node for node in self.body if node.op == "stack")

    def _of_stack(self, node: Node) -> _Count:
        return sum((self._body(name).count() for name in node.attrs["pattern"]), _Count())

    def _body(self, name: str) -> _Frame:
        return self.writer.frames[f"{self.where}{name}/"]

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
            return str(self._numbers(name))
        if name in self.rooms:
            return f"room{self.group[name]} * {prod(self._inner(name))}"
        return super().row_of(name)

    def constant_at(self, name: str, index: Mapping[str, str]) -> str:
        k, at = self.constants.index(name), self.offset(self.body[name].type.names, index)
        if self._narrow(name) is None:
            return super().constant_at(name, index)
        return f"((REAL)constant{k}[{at}] * scale{k}[({at}) / GROUP])"

    def is_given(self, name: str) -> bool:
        return name in self.olds

    def behind(self, name: str) -> str:
        return f"used{self.group[name]}"

    def entries(self, axis: str) -> str:
        return f"used{self.writer.groups.index(None)} + 1"

    def column_at(self, k: int) -> tuple[str, str]:
        name = self.columns[k]
        if self.region.columns[name] == POSITION:
            return "position", "1"
        axes = self.body[name].type.names
        return f"in{k}", self.row(axes) if self.where else str(self._numbers(name))

    def given_at(self, k: int) -> str:
        at, row = self.column_at(k)
        return f"{at} + r * {row}"

    def handed_at(self, kind: str, k: int) -> tuple[str, str]:
        axes = self.results[k].axes
        return f"out{k} + r * {self.row(axes) if self.where else prod(self.sizes[n] for n in axes)}", "="

    def product_call(
        self, phase: Product, x: str, x_stride: str, y: str, y_stride: str, own: str, rows: str = "rows"
    ) -> list[str]:
        _, out, over = phase.strides
        k, along = self.constants.index(phase.matrix), self.along(phase)
        w = f"constant{k}{along}"
        if self._narrow(phase.matrix) is not None:
            scale = f"scale{k}{f' + (0{along}) / GROUP' if along else ''}"
            return [f"product_int8({w}, {scale}, {x}, {x_stride}, {y}, {y_stride}, {phase.inner}, {own}, {rows});"]
        return [f"product_once({w}, {out}, {over}, {x}, {x_stride}, {y}, {y_stride}, {phase.inner}, {own}, {rows});"]

    # Text.

    def scratch(self) -> tuple[Extent, Extent]:
        """Of it and all layers in it; layers, which do not run at the same time, have the same."""
        inner = [self._body(name).scratch() for node in self._stacks() for name in dict.fromkeys(node.attrs["pattern"])]
        both = []
        for k, own in enumerate((self.shared, self.private)):
            fixed, grown = (max((getattr(one[k], part) for one in inner), default=0) for part in ("fixed", "grown"))
            both.append(own + Extent(fixed, grown))
        return both[0], both[1]

    def total_work(self) -> int:
        return self.work() + sum(
            self._body(name).total_work() for node in self._stacks() for name in node.attrs["pattern"]
        )

    def total_waits(self) -> int:
        inner = sum(1 + self._body(name).total_waits() for node in self._stacks() for name in node.attrs["pattern"])
        return len(self.waits) + inner

    def _inputs(self) -> list[tuple[int, str, str]]:
        """Index, type and name of the columns that are given."""
        found = []
        for k, name in enumerate(self.columns):
            if self.region.columns[name] != POSITION:
                kind = "int64_t" if self.body[name].type.dtype == "int" else "REAL"
                found.append((k, f"const {kind} *", f"in{k}"))
        return found

    def text(self) -> str:
        arguments = [f"{kind}{name}" for _, kind, name in self._inputs()]
        arguments += [f"REAL *out{k}" for k in range(len(self.results))]
        lines = [
            f"/* {self._about()} */",
            f"static void {self.writer.function(self.where)}(step_t *step, member_t *member, const REAL *const *constants, const REAL *old, REAL *new,",
            f"    REAL *const *rooms, REAL *shared, REAL *own{''.join(f', {one}' for one in arguments)}) {{",
            "    const int64_t rows = step->rows, rank = member->rank, team = member->team, *position = step->position;",
        ]
        for g, size in enumerate(self.writer.groups):
            lines.append(f"    const int64_t used{g} = step->used[{g}], room{g} = step->room[{g}];")
            lines += [f"    const int64_t room = room{g};"] if size is None else []
            lines += [f"    (void)used{g}, (void)room{g};"] + (["    (void)room;"] if size is None else [])
        for k, name in enumerate(self.constants):
            narrow = self._narrow(name)
            if narrow is None:
                lines.append(f"    const REAL *constant{k} = constants[{k}];")
                continue
            lines.append(f"    const int8_t *constant{k} = (const int8_t *)constants[{k}];")
            lines.append(
                f"    const REAL *scale{k} = (const REAL *)(constant{k} + {-(-narrow[0] * narrow[1] // 64) * 64});"
            )
        at = 0
        for k, memory in enumerate(self.memories):
            lines.append(f"    const REAL *old{k} = old + rows * {at};")
            lines.append(f"    REAL *new{k} = new + rows * {at};")
            at += self._numbers(memory.old)
        lines += [f"    REAL *room_{k} = rooms[{k}];" for k in range(len(self.rooms))]
        lines += [f"    (void){name};" for _, _, name in self._inputs()]  # nothing may read it
        for axis in dict.fromkeys(phase.partition for phase in self.phases if phase.partition):
            lines.append(
                f"    range_t part_{self.index[axis]} = part_of({self.sizes[axis]}, {self.align(axis)}, rank, team);"
            )
        lines.append(
            "    (void)rows, (void)rank, (void)team, (void)position, (void)constants, (void)old, (void)new, (void)rooms, (void)shared, (void)own;"
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
        return f"{self.graph.name}: {takes} -> {gives}"

    def layers_text(self, phase: Layers) -> list[str]:
        """Calls of the layers of a stack: a loop over the repeats of its pattern."""
        node = self.body[phase.node]
        pattern: tuple[str, ...] = node.attrs["pattern"]
        size = len(pattern)
        period = next(n for n in range(1, size + 1) if size % n == 0 and pattern == pattern[:n] * (size // n))
        at = self.own()
        for stack in self._stacks():
            if stack.name == node.name:
                break
            at += self._of_stack(stack)
        each = sum((self._body(name).count() for name in pattern[:period]), _Count())
        moved = 1 + len(node.attrs["carried"])
        values = [self.base(one) for one in phase.values]
        n = range(moved)
        layer = f"layer / {period}"
        lines = [
            "{",
            *(f"    const REAL *x{k} = {values[k]};" for k in n),
            f"    for (int64_t layer = 0; layer < {size}; layer += {period}) {{",
            f"        const REAL *const *c = constants + {at.constants} + {layer} * {each.constants};",
            f"        const REAL *o = old + rows * ({at.memory} + {layer} * {each.memory});",
            f"        REAL *w = new + rows * ({at.memory} + {layer} * {each.memory});",
            f"        REAL *const *k = rooms + {at.rooms} + {layer} * {each.rooms};",
            f"        REAL {', '.join(f'*y{k}' for k in n)};",
        ]
        inside = _Count()
        shared, own = (f"{one} + ROWS * ({extent})" for one, extent in (("shared", self.shared), ("own", self.private)))
        for place, name in enumerate(pattern[:period]):
            body = self._body(name)
            for k in n:
                result, other = self._turns(phase, k)
                lines.append(f"        y{k} = ({size - 1 - place} - layer) % 2 ? {other} : {result};")
            given = ", ".join([*self._given(body, phase), *(f"y{k}" for k in n)])
            lines += [
                "        wait_for_all(member->arrived, &member->round, team);",
                f"        {self.writer.function(body.where)}(step, member, c + {inside.constants}, o + rows * {inside.memory}, "
                f"w + rows * {inside.memory}, k + {inside.rooms}, {shared}, {own}, {given});",
                *(f"        x{k} = y{k};" for k in n),
            ]
            inside += body.count()
        return [*lines, "    }", "}"]

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
        node = self.body[phase.node]
        labels = (*node.attrs["carried"], *node.attrs["given"])
        names = [one.name for one in body.graph.inputs]
        for k, _, _ in body._inputs():
            at = names.index(body.region.columns[body.columns[k]])
            if at == 0:
                yield "x0"
                continue
            place = 1 + labels.index(names[at])
            yield f"x{place}" if place <= len(node.attrs["carried"]) else self.base(phase.values[place])

    def extent_of(self, name: str) -> Extent:
        """What runs through a stack has two places."""
        whole = super().extent_of(name)
        at = self.phase_of.get(name)
        return whole * 2 if at is not None and isinstance(self.phases[at], Layers) else whole
