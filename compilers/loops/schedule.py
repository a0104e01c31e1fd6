"""What is computed in which order: the phases of a body, the buffers between them, where threads wait.

A phase is a nest of loops over the axes of the values that it computes, a product with a constant matrix, or the layers of a stack. Values
of one phase live in registers; what another phase reads, or the next step, lies in a buffer. Threads form a team: each owns a part of one
axis of a phase, and waits for the others before it reads what they have written. Axes become loops only here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import prod

from ssir.compilers.loops.phases import Buffer, Extent, Lags, Layers, Nest, Phase, Product, Solve, lags_of
from ssir.compilers.loops.region import Memory, Result, Room, by_matrix
from ssir.compilers.loops.spelling import CHOSEN, JOINED, LEAVES, REDUCED, VIEWS, Unfit, spelled
from ssir.ir.graph import Graph, Node
from ssir.ir.ops import operation

_LEAST = 16
"""An axis that is shorter is not shared by threads, unless what is computed along it is large: everyone computes all of it."""
_LARGE = 2048
MANY = 256  # slots of a register that grows


class Schedule:
    """The phases of a body. ``results`` are handed out, ``sums`` summed over the steps. ``again``: whether steps follow one another, so
    that what one member of a team still reads, another may already write for the next."""

    def __init__(
        self,
        body: Graph,
        memories: Sequence[Memory],
        rooms: Sequence[Room],
        columns: Sequence[str],
        constants: Sequence[str],
        results: Sequence[Result],
        sums: Sequence[Result] = (),
        again: bool = True,
    ) -> None:
        self.body, self.memories, self.columns, self.constants = body, memories, columns, constants
        self.results, self.sums, self.again = results, sums, again
        self.sizes = {axis.name: axis.size or 0 for node in body for axis in node.type.axes}
        self.dynamic = {axis.name for node in body for axis in node.type.axes if axis.size is None}
        self.growing = self._growing(rooms)
        self.index = {name: f"i{n}" for n, name in enumerate(self.sizes)}
        self.olds = {memory.old: k for k, memory in enumerate(memories)}
        self.rooms = {room.slots: room for room in rooms}
        self.phases: list[Phase] = []
        self.phase_of: dict[str, int] = {}
        self.buffers: dict[str, Buffer] = {}
        self.copies: dict[str, str] = {}
        self.copy_axes: dict[str, tuple[str, ...]] = {}
        self.parallel = parallel_axes(body, memories)
        self.asked = dict(self._asked())
        self.packed = 0
        self.schedule()

    def schedule(self) -> None:
        for node in self._order():
            if node.name in self.rooms:
                self._hand_on(self.rooms[node.name].entering)
            elif node.op == "stack":
                self._place_layers(node)
            elif node.op == "solve":
                self._place_solve(node)
            elif node.op not in (*LEAVES, "part") and node.op not in VIEWS:
                self._place(node)
        self.stores = self._stores()
        for phase in self.phases:
            if isinstance(phase, Nest | Product):
                phase.partition = self._partition(phase)
        self._find_buffers()

    def _growing(self, rooms: Sequence[Room]) -> set[str]:
        """The axes that grow with registers; others without a size run along whole sequences."""
        found = {room.axis for room in rooms} & self.dynamic
        pairs = [pair for node in self.body if node.op == "rename" for pair in node.attrs["axes"]]
        while more := {one for pair in pairs if found & {*pair} for one in pair} & self.dynamic - found:
            found |= more
        return found

    # Order.

    def _order(self) -> Iterator[Node]:
        """The nodes, each after what it needs: products as early as they can be, so that what follows them shares loops."""
        placed: set[str] = set()
        for node in [*(node for node in self.body if by_matrix(node, self.constants)), *self.body]:
            todo = [node.name]
            while todo:
                name = todo[-1]
                needed = self.body[name].inputs if name not in self.rooms else (self.rooms[name].entering,)
                missing = [one for one in needed if one not in placed]
                todo += missing
                if not missing:
                    todo.pop()
                    if name not in placed:
                        placed.add(name)
                        yield self.body[name]

    def _place(self, node: Node) -> None:
        product = self._product(node)
        if product is not None:
            self.phase_of[node.name] = len(self.phases)
            self.phases.append(product)
            return
        if not spelled(node.op) and node.op not in REDUCED and node.op not in JOINED:
            raise Unfit(f"`{node.op}` is not spelled in C")
        over = tuple(node.attrs["over"]) if node.op in REDUCED else ()
        # What is joined is read at other places than those that the nest is at, and so is what is looked up.
        first = max(map(self._ready_whole, node.inputs)) if node.op in ("concat", "embed") else 0
        lags = lags_of(self.body, node)
        self._enter(node.name, (*node.type.names, *over), node.inputs, lags, over, first)

    def _place_layers(self, node: Node) -> None:
        values = []
        for one in node.inputs:
            axes = self.body[one].type.names
            values.append(self._whole(one, axes, in_buffer=True))
        results = (node.name, *(other.name for other in self.body if other.op == "part" and node.name in other.inputs))
        for one in results:
            self.phase_of[one] = len(self.phases)
        self.phases.append(Layers(node.name, tuple(values), results))

    def _place_solve(self, node: Node) -> None:
        n, (a, b) = node.attrs["over"], node.inputs
        square, right = (n, f"{n}_"), self.body[b].type.names
        if set(self.body[a].type.names) != set(square) or right not in ((n,), square):
            raise Unfit(f"`{node.name}` solves more than one system")
        size = self.sizes[n]
        places = self._whole(a, square, in_buffer=True), self._whole(b, right, in_buffer=True)
        self.phase_of[node.name] = len(self.phases)
        self.phases.append(Solve(node.name, *places, size, size if len(right) == 2 else 1, (*square, *right[1:])))

    def _enter(
        self,
        name: str,
        axes: tuple[str, ...],
        inputs: Sequence[str],
        lags: Lags,
        over: tuple[str, ...] = (),
        first: int = 0,
    ) -> None:
        """Put a value into the first nest over its axes that comes after what it needs."""
        first = max([first, *(self._ready(one, axes) for one in inputs)])
        for i in range(first, len(self.phases)):
            phase = self.phases[i]
            fits = isinstance(phase, Nest) and set(phase.axes) == set(axes) and phase.lags == lags
            if fits and self._joins(phase, axes, over):  # type: ignore[arg-type]
                assert isinstance(phase, Nest)
                if over:
                    phase.axes, phase.over = axes, over
                phase.nodes.append(name)
                self.phase_of[name] = i
                return
        self.phase_of[name] = len(self.phases)
        self.phases.append(Nest(axes, [name], over, lags))

    def _joins(self, phase: Nest, axes: Sequence[str], over: tuple[str, ...]) -> bool:
        """Whether sums stand beside what is not summed: only if threads share an axis of both, for to a sum over all of them each would
        have to compute everything."""
        if over == phase.over:
            return True
        return bool(self.parallel & (set(axes) - {*over, *phase.over})) and not (over and phase.over)

    def _ready(self, name: str, axes: tuple[str, ...]) -> int:
        """The first phase that can use a value, in a nest over these axes."""
        node = self.body[name]
        if node.op in LEAVES or node.op in VIEWS:
            return self._ready_whole(name)
        phase = self.phases[self.phase_of[name]]
        inside = isinstance(phase, Nest) and node.op not in REDUCED and set(phase.axes) == set(axes)
        return self.phase_of[name] + (0 if inside else 1)

    def _ready_whole(self, name: str) -> int:
        node = self.body[name]
        if name in self.rooms:
            room = self.rooms[name]
            return 0 if room.lag else self.phase_of[self._handed(room.entering)] + 1
        if node.op in LEAVES:
            return 0
        if node.op in VIEWS:
            return self._ready_whole(node.inputs[0])
        return self.phase_of[name] + 1

    def _product(self, node: Node) -> Product | None:
        """A dot with a constant matrix, if it is one whose operand can be read in one piece."""
        found = node.inputs[:2] if node.op == CHOSEN else by_matrix(node, self.constants)
        if found is None or lags_of(self.body, node):
            return None
        matrix, operand = found
        own, given = self.body[matrix].type.names, self.body[operand].type.names
        along = tuple(name for name in given if name in self.dynamic - self.growing)
        given = tuple(name for name in given if name not in along)
        over = tuple(name for name in own if name in node.attrs["over"])
        shared = (*given, node.attrs["axis"]) if node.op == CHOSEN else given
        per = tuple(name for name in own if name in shared and name not in over)
        out = tuple(name for name in own if name not in shared)
        strides = self._flat(own, per, out, over) if out and set(shared) == {*per, *over} else None
        if strides is None or self.dynamic & {*own, *given} or along[1:] or (along and node.op == CHOSEN):
            if node.op == CHOSEN:
                raise Unfit(f"`{node.name}` is no plain product")
            return None
        results, inner = (prod(self.sizes[name] for name in group) for group in (out, over))
        whole = self._whole(operand, (*along, *(name for name in (*per, *over) if name in given)))
        product = Product(node.name, matrix, whole, per, out, over, strides, results, inner, self.packed, along)
        if node.op == CHOSEN:
            product.chosen = self._whole(node.inputs[2], per[:1], in_buffer=True)
        self.packed += prod(self.sizes[name] for name in per) * (-(-results // 16) * 16 * inner)
        return product

    def _asked(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """For each value that a product with a constant matrix reads, the order of axes in which it can read it as it lies."""
        for node in self.body:
            found = by_matrix(node, self.constants)
            if found is None:
                continue
            matrix, name = found
            over, given = node.attrs["over"], self.body[name].type.names
            order = [axis for axis in self.body[matrix].type.names if axis in given]
            along = [axis for axis in self.body[name].type.names if axis in self.dynamic - self.growing]
            axes = (*along, *sorted(order, key=lambda axis: axis in over))
            while self.body[name].op == "rename":
                back = {new: old for old, new in self.body[name].attrs["axes"]}
                axes, name = tuple(back.get(axis, axis) for axis in axes), self.body[name].inputs[0]
            if set(axes) == set(self.body[name].type.names):
                yield name, axes

    def _flat(
        self, own: Sequence[str], per: Sequence[str], out: Sequence[str], over: Sequence[str]
    ) -> tuple[list[int], int, int] | None:
        """The strides of a matrix along each of ``per``, along all of ``out`` and along all of ``over`` as one; None if it has none."""
        strides = {name: prod(self.sizes[other] for other in own[i + 1 :]) for i, name in enumerate(own)}
        for group in (out, over):
            for name, following in pairwise(group):
                if strides[name] != strides[following] * self.sizes[following]:
                    return None
        found = [strides[name] for name in per], strides[out[-1]], strides[over[-1]]
        return found if 1 in found[1:] else None

    def _whole(self, name: str, axes: tuple[str, ...], in_buffer: bool = False) -> str:
        """A value that lies in one piece in this order of axes, or its copy that does; ``in_buffer``: among the buffers."""
        leaf, mapping = name, {axis: axis for axis in axes}
        while self.body[leaf].op == "rename":
            back = {new: old for old, new in self.body[leaf].attrs["axes"]}
            mapping = {axis: back.get(at, at) for axis, at in mapping.items()}
            leaf = self.body[leaf].inputs[0]
        node = self.body[leaf]
        ordered = self.axes_of(leaf) == tuple(mapping[axis] for axis in axes)
        turned = leaf in self.rooms or (leaf in self.olds and self.memories[self.olds[leaf]].slots is not None)
        elsewhere = turned or node.op in ("const", "arange") or (in_buffer and node.op == "input")
        if ordered and node.op not in VIEWS and not elsewhere:
            return leaf
        copy = f"{name}.copy"
        if copy not in self.copies:
            self.copies[copy], self.copy_axes[copy] = name, axes
            self._enter(copy, axes, [name], lags_of(self.body, self.body[name]))
        return copy

    def _handed(self, name: str) -> str:
        """What hands a value on: itself, if it is computed in a nest, or a copy."""
        node = self.body[name]
        return name if spelled(node.op) or node.op in JOINED else f"{name}.stored"

    def _hand_on(self, name: str) -> int:
        """The phase that hands a value on."""
        handed = self._handed(name)
        if handed != name and handed not in self.copies:
            axes = self.body[name].type.names
            self.copies[handed], self.copy_axes[handed] = name, axes
            self._enter(handed, axes, [name], lags_of(self.body, self.body[name]))
        return self.phase_of[handed]

    def _stores(self) -> dict[int, list[tuple[str, str]]]:
        """By phase, what is handed on: (what it is, the value)."""
        found: dict[int, list[tuple[str, str]]] = {}
        wanted = [
            *(("memory", memory.new) for memory in self.memories),
            *(("room", room.entering) for room in self.rooms.values()),
            *(("result", one.value) for one in self.results),
            *(("sum", one.value) for one in self.sums),
        ]
        for kind, name in dict.fromkeys(wanted):
            found.setdefault(self._hand_on(name), []).append((kind, name))
        return found

    def _partition(self, phase: Nest | Product) -> str | None:
        """The axis that threads share: one along which nothing is summed if there is one, else that of most parts."""
        axes = phase.kept if isinstance(phase, Nest) else self._shared(phase)
        fixed = [name for name in axes if name not in self.dynamic]
        whole = prod(self.sizes[name] or MANY for name in phase.axes)
        whole *= phase.inner if isinstance(phase, Product) else 1
        least = 2 if whole >= _LARGE else _LEAST
        long = [name for name in fixed if self.sizes[name] >= least or name in self.parallel]
        if not long:
            return None

        def parts(name: str) -> int:
            return -(-self.sizes[name] // (16 if self.align(name) == "LANES" else 1))

        return max(long, key=lambda name: (name in self.parallel, parts(name), self.sizes[name], -axes.index(name)))

    def _shared(self, product: Product) -> tuple[str, ...]:
        """The axes of a product that threads may share: parts of its results begin at whole vectors."""
        behind = prod(self.sizes[name] for name in product.out[1:])
        return (*product.per, *(product.out[:1] if behind == 1 or behind % 16 == 0 else ()))

    # Buffers.

    def _reads(self, i: int) -> Iterator[tuple[str, Mapping[str, str]]]:
        """What a phase reads of other phases or of the step before: the value, and by axis of it the axis of the phase that runs along it
        ("" where it is none)."""
        phase = self.phases[i]
        if isinstance(phase, Layers | Solve):
            for one in phase.values:
                yield one, dict.fromkeys(self.axes_of(one), "")
            return
        if isinstance(phase, Product):
            # The axes that it shares with its operand come first there.
            leaf_axes = self.axes_of(phase.operand)
            shared = phase.per[len(phase.along) + len(phase.per) + len(phase.over) - len(leaf_axes) :]
            axes = (*phase.along, *shared, *("" for _ in phase.over))
            yield phase.operand, dict(zip(leaf_axes, axes, strict=True))
            if phase.chosen is not None:
                yield phase.chosen, dict.fromkeys(self.axes_of(phase.chosen), "")
            return
        for name in phase.nodes:
            inputs = [self.copies[name]] if name in self.copies else self.body[name].inputs
            joined = self.body[name].attrs["axes"] if name not in self.copies and self.body[name].op == "concat" else ()
            for one in inputs:
                along = {axis: "" if axis in joined else axis for axis in self.body[one].type.names}
                yield from self._leaves(one, along, i)
        for _, name in self.stores.get(i, []):
            yield from self._leaves(name, {axis: axis for axis in self.body[name].type.names}, i)

    def _leaves(self, name: str, along: Mapping[str, str], i: int) -> Iterator[tuple[str, Mapping[str, str]]]:
        node = self.body[name]
        if node.op in VIEWS:
            yield from self._leaves(node.inputs[0], self._through(node, along), i)
        elif (
            name in self.olds
            or name in self.rooms
            or (node.op not in LEAVES and self.phase_of[name] != i)
            or (node.op not in LEAVES and node.op in REDUCED)
        ):
            yield name, along

    def _through(self, view: Node, along: Mapping[str, str]) -> dict[str, str]:
        """By axis of what a view looks at, the axis of the nest that runs along it."""
        own = self.body[view.inputs[0]].type.names
        if view.op == "rename":
            new = dict(view.attrs["axes"])
            return {axis: along[new.get(axis, axis)] for axis in own}
        return {axis: along.get(axis, "") for axis in own}

    def axes_of(self, name: str) -> tuple[str, ...]:
        """The axes of a value, or copy, as it lies."""
        if name in self.copies:
            return self.copy_axes[name]
        phase = self.phases[self.phase_of[name]] if name in self.phase_of else None
        if isinstance(phase, Product):
            return phase.axes
        if not isinstance(phase, Nest):
            return self.body[name].type.names
        axes = self.asked.get(name, self.body[name].type.names)
        for user in self.body.users[name]:
            if self.body[user].op == "merge":
                axes = _adjacent(axes, self.body[user].attrs["axes"])
        # Slots are many: what is computed for each of them lies in one piece along them.
        slots = {room.axis for room in self.rooms.values()}
        return (*(axis for axis in axes if axis not in slots), *(axis for axis in axes if axis in slots))

    def _find_buffers(self) -> None:
        """Which values lie in buffers, and before which phases threads wait."""
        for memory in self.memories:
            at = self._storing("memory", memory.new)
            private = self.phases[at].partition is None
            self.buffers[memory.old] = Buffer(self.body[memory.old].type.names, at, private, True)
        for name, room in self.rooms.items():
            at = self._storing("room", room.entering)
            self.buffers[name] = Buffer(self.body[name].type.names, at)
        for i, phase in enumerate(self.phases):
            if isinstance(phase, Product):
                self.buffers[phase.node] = Buffer(phase.axes, i, phase.partition is None)
            if isinstance(phase, Solve):
                self.buffers[phase.node] = Buffer(self.body[phase.node].type.names, i, True)
                self.buffers[phase.place] = Buffer(self.axes_of(phase.matrix), i, True)
            if isinstance(phase, Layers):
                self.buffers |= {one: Buffer(self.body[one].type.names, i) for one in phase.results}
            for name, _ in self._reads(i):
                if name not in self.buffers and (name in self.phase_of or name in self.copies):
                    at = self.phase_of[name]
                    self.buffers[name] = Buffer(self.axes_of(name), at, self.phases[at].partition is None)
            for name in phase.nodes if isinstance(phase, Nest) else ():
                if self.sums_up(name):
                    self.buffers[name] = Buffer(self.axes_of(name), i, phase.partition is None)
        self.waits = self._find_waits()
        self._lay_out()

    def sums_up(self, name: str) -> bool:
        return name in self.body.nodes and self.body[name].op in REDUCED

    def _storing(self, kind: str, name: str) -> int:
        return next(i for i, stores in self.stores.items() if (kind, name) in stores)

    def _find_waits(self) -> set[int]:
        """The phases before which all wait: they read what others have written since the last time."""
        dirty = {name for name, buffer in self.buffers.items() if not buffer.private}
        if not self.again:
            dirty = set()
        waits: set[int] = set()
        for i in range(len(self.phases)):
            crossing = [name for name, along in self._reads(i) if not self._own(i, name, along)]
            for name in crossing:
                self.buffers[name].twice = self.again
            if dirty & set(crossing):
                waits.add(i)
                dirty = set()
            dirty |= {
                name for name, b in self.buffers.items() if b.phase == i and not b.private and name not in self.olds
            }
        return waits

    def _own(self, i: int, name: str, along: Mapping[str, str]) -> bool:
        """Whether a phase reads of a buffer only what the same thread has written."""
        if name not in self.buffers:
            return True
        buffer = self.buffers[name]
        written = self.phases[buffer.phase].partition
        if buffer.private:
            return True
        if written is None or self.phases[i].partition is None:
            return False
        partition = self.phases[i].partition
        return along.get(written) == partition and self.align(written) == self.align(partition or "")

    def kept_apart(self, name: str) -> bool:
        """Whether a buffer is laid out elsewhere, with the state."""
        return name in self.rooms

    def _lay_out(self) -> None:
        self.shared, self.private = Extent(), Extent()
        for name, buffer in self.buffers.items():
            if self.kept_apart(name):
                continue
            size = self.extent_of(name)
            if buffer.private:
                buffer.at, self.private = str(self.private), self.private.plus(size)
            else:
                buffer.at, self.shared = str(self.shared), self.shared.plus(size)

    def extent_of(self, name: str) -> Extent:
        """The numbers of a row of a buffer."""
        buffer = self.buffers[name]
        return self.extent(buffer.axes).times(2 if buffer.twice else 1)

    def extent(self, axes: Sequence[str]) -> Extent:
        """Numbers from row to row of a buffer: whole vectors."""
        size = prod(self.sizes[name] for name in axes if name not in self.dynamic)
        grown = sum(name in self.growing for name in axes)
        long = sum(name in self.dynamic - self.growing for name in axes)
        match grown, long:
            case 0, 0:
                return Extent(-(-size // 16) * 16)
            case 1, 0:
                return Extent(room=size)
            case 0, 1:
                return Extent(length=size)
            case 0, 2:
                return Extent(pairs=size)
        raise Unfit("a value has several axes that grow")

    def row(self, axes: Sequence[str]) -> str:
        return str(self.extent(axes))

    def align(self, axis: str) -> str:
        """Where parts of an axis begin: at whole vectors, where it is the one that runs fastest; of a short one only if products must."""
        fastest = any(axes[-1:] == (axis,) for axes in self._layouts(self.again or self.sizes[axis] >= _LEAST * 4))
        return "LANES" if fastest else "1"

    def _layouts(self, nests: bool) -> Iterator[tuple[str, ...]]:
        """The axes of everything that is written, as it lies."""
        for phase in self.phases:
            if isinstance(phase, Product):
                yield phase.axes
            elif isinstance(phase, Nest) and nests:
                yield from map(self.axes_of, phase.nodes)

    def work(self) -> int:
        """Operations a step and row, roughly."""
        total = 0
        for phase in self.phases:
            size = prod(self.sizes[name] or MANY for name in phase.axes)
            if isinstance(phase, Product):
                total += size * prod(self.sizes[name] for name in phase.over)
            elif isinstance(phase, Solve):
                total += phase.size**2 * (phase.size // 3 + phase.columns)
            elif isinstance(phase, Nest):
                total += size * sum(operation(self.body[n].op).work if n in self.body.nodes else 1 for n in phase.nodes)
        return total


def _adjacent(axes: Sequence[str], together: Sequence[str]) -> tuple[str, ...]:
    """Axes, some of which are to stand in a row, in this order."""
    at = min(axes.index(name) for name in together)
    before = [name for name in axes[:at] if name not in together]
    return (*before, *together, *(name for name in axes[at:] if name not in together))


def parallel_axes(body: Graph, memories: Sequence[Memory]) -> frozenset[str]:
    """The axes that all memories have and along which nothing in the step runs."""
    if not memories:
        return frozenset()
    used: set[str] = set()
    for node in body:
        match node.op:
            case "rename":
                used |= {name for pair in node.attrs["axes"] for name in pair}
            case "split":
                used |= {node.attrs["axis"], *(name for name, _ in node.attrs["into"])}
            case "merge":
                used |= {node.attrs["out"], *node.attrs["axes"]}
            case "slice" | "select" | "concat" | "pack":
                used |= {node.attrs["axis"], *node.attrs.get("axes", ())} | {node.attrs.get("out", "")}
            case "dot" | "sum" | "mean" | "max" | "min":
                used |= set(node.attrs["over"])
    common = set.intersection(*({*body[m.new].type.names} for m in memories))
    return frozenset(common - used)
