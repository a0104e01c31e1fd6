"""A loop over time as a C function.

    for each block of rows (sequences), for each step: phases, one after another

A phase is a nest of loops over the axes of the values that it computes, or a product with a constant matrix. Values of one phase live in
registers; what another phase reads, or the next step, lies in a buffer. Threads form a team: each owns a part of one axis of a phase, and
waits for the others before it reads what they have written. Axes become loops only here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isinf, isnan, prod

from ssir.compilers.loops.region import Memory, Result, Unfit, by_matrix
from ssir.ir.graph import Graph, Node

SPELLED: Mapping[str, str] = {
    "neg": "(-{0})",
    "square": "({0} * {0})",
    "rsqrt": "((REAL)1 / sqrt_({0}))",
    "silu": "({0} * sigmoid_({0}))",
    "relu": "maximum_({0}, 0)",
    "elu": "({0} > 0 ? {0} : expm1_({0}))",
    "reciprocal": "((REAL)1 / {0})",
    "detach": "{0}",
    "real": "{0}",
    **{
        name: f"{name}_({{0}})"
        for name in "exp expm1 log log1p sqrt abs sign floor ceil round sin cos tan tanh arctan sigmoid logsigmoid gelu gelu_tanh softplus erf".split()
    },
    "add": "({0} + {1})",
    "sub": "({0} - {1})",
    "mul": "({0} * {1})",
    "div": "({0} / {1})",
    "pow": "pow_({0}, {1})",
    "mod": "({0} - {1} * floor_({0} / {1}))",
    "maximum": "maximum_({0}, {1})",
    "minimum": "minimum_({0}, {1})",
    "lt": "(REAL)({0} < {1})",
    "le": "(REAL)({0} <= {1})",
    "gt": "(REAL)({0} > {1})",
    "ge": "(REAL)({0} >= {1})",
    "eq": "(REAL)({0} == {1})",
    "ne": "(REAL)({0} != {1})",
    "where": "({0} != 0 ? {1} : {2})",
}
_REDUCE: Mapping[str, tuple[str, str]] = {
    "sum": ("0", "{0} + {1}"),
    "mean": ("0", "{0} + {1}"),
    "dot": ("0", "{0} + {1}"),
    "max": ("-INFINITY", "maximum_({0}, {1})"),
    "min": ("INFINITY", "minimum_({0}, {1})"),
}
_VIEWS = frozenset({"rename", "expand", "split", "merge", "slice", "select"})
_WORK = {"exp": 12, "sigmoid": 16, "tanh": 20}  # operations of a function that is not one of the machine
_LEAST = 16
"""An axis that is shorter is not shared by threads: everyone computes all of it."""


@dataclass(frozen=True)
class Loop:
    """What is printed. ``columns`` vary with the step, ``constants`` do not; ``results`` are handed out for every step, ``kept`` (products)
    too if they are asked for, ``sums`` summed over the steps. ``memories``: as in a region."""

    name: str
    body: Graph
    memories: tuple[Memory, ...]
    columns: tuple[str, ...]
    constants: tuple[str, ...]
    results: tuple[Result, ...]
    kept: tuple[Result, ...]
    sums: tuple[Result, ...]
    backwards: bool


@dataclass(frozen=True)
class Printed:
    """The text of a C function, and its signature as the runtime checks it."""

    text: str
    signature: str


def print_loop(loop: Loop) -> Printed:
    """The C function of a loop. Raises Unfit where the body has something that is not spelled in C."""
    return _Printer(loop).printed()


@dataclass
class _Nest:
    """Loops over axes, the last of which may be summed ``over``. ``nodes``: what is computed inside, in order."""

    axes: tuple[str, ...]
    nodes: list[str] = field(default_factory=list)
    over: tuple[str, ...] = ()
    partition: str | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        return self.axes[: len(self.axes) - len(self.over)]


@dataclass
class _Product:
    """A product with a constant matrix: its axes in the result (``per`` and ``out``), and those summed over. ``strides``: of the matrix,
    along each of ``per``, all of ``out`` and all of ``over``; ``packed``: where it stands among the packed ones."""

    node: str
    matrix: str
    operand: str
    per: tuple[str, ...]
    out: tuple[str, ...]
    over: tuple[str, ...]
    strides: tuple[list[int], int, int]
    results: int
    inner: int
    packed: int
    partition: str | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        return (*self.per, *self.out)


_Phase = _Nest | _Product


@dataclass
class _Buffer:
    """Where a value lies between phases: [ROWS][axes], per member of the team if it is private; twice if others read it."""

    axes: tuple[str, ...]
    phase: int
    private: bool = False
    twice: bool = False
    at: int = 0


class _Printer:
    def __init__(self, loop: Loop) -> None:
        self.loop, self.body = loop, loop.body
        self.sizes = {axis.name: axis.size or 0 for node in self.body for axis in node.type.axes}
        self.index = {name: f"i{n}" for n, name in enumerate(self.sizes)}
        self.olds = {memory.old: k for k, memory in enumerate(loop.memories)}
        self.names: dict[str, str] = {}
        self.phases: list[_Phase] = []
        self.phase_of: dict[str, int] = {}
        self.buffers: dict[str, _Buffer] = {}
        self.copies: dict[str, str] = {}
        self.copy_axes: dict[str, tuple[str, ...]] = {}
        self.parallel = self._parallel()
        self.packed = 0

    # Scheduling.

    def printed(self) -> Printed:
        for node in self._order():
            if node.op not in ("input", "const") and node.op not in _VIEWS:
                self._place(node)
        self.stores = self._stores()
        for phase in self.phases:
            phase.partition = self._partition(phase.kept if isinstance(phase, _Nest) else self._shared(phase))
        self._find_buffers()
        return Printed(self._text(), self._signature())

    def _order(self) -> Iterator[Node]:
        """The nodes, each after what it needs: products as early as they can be, so that what follows them shares loops."""
        placed: set[str] = set()
        for node in [*(node for node in self.body if by_matrix(node, self.loop.constants)), *self.body]:
            todo = [node.name]
            while todo:
                name = todo[-1]
                missing = [one for one in self.body[name].inputs if one not in placed]
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
        if node.op not in SPELLED and node.op not in _REDUCE and node.op not in ("clamp", "concat", "pack"):
            raise Unfit(f"`{node.op}` is not spelled in C")
        over = tuple(node.attrs["over"]) if node.op in _REDUCE else ()
        # What is joined is read at other places than those that the nest is at.
        first = max(map(self._ready_whole, node.inputs)) if node.op == "concat" else 0
        self._enter(node.name, (*node.type.names, *over), node.inputs, over, first)

    def _enter(
        self, name: str, axes: tuple[str, ...], inputs: Sequence[str], over: tuple[str, ...] = (), first: int = 0
    ) -> None:
        """Put a value into the first nest over its axes that comes after what it needs."""
        first = max([first, *(self._ready(one, axes) for one in inputs)])
        for i in range(first, len(self.phases)):
            phase = self.phases[i]
            if isinstance(phase, _Nest) and set(phase.axes) == set(axes) and self._joins(phase, axes, over):
                if over:
                    phase.axes, phase.over = axes, over
                phase.nodes.append(name)
                self.phase_of[name] = i
                return
        self.phase_of[name] = len(self.phases)
        self.phases.append(_Nest(axes, [name], over))

    def _joins(self, phase: _Nest, axes: Sequence[str], over: tuple[str, ...]) -> bool:
        """Whether sums stand beside what is not summed: only if threads share an axis of both, for to a sum over all of them each would
        have to compute everything."""
        if over == phase.over:
            return True
        return bool(self.parallel & (set(axes) - {*over, *phase.over})) and not (over and phase.over)

    def _ready(self, name: str, axes: tuple[str, ...]) -> int:
        """The first phase that can use a value, in a nest over these axes."""
        node = self.body[name]
        if node.op in ("input", "const") or node.op in _VIEWS:
            return self._ready_whole(name)
        phase = self.phases[self.phase_of[name]]
        inside = isinstance(phase, _Nest) and node.op not in _REDUCE and set(phase.axes) == set(axes)
        return self.phase_of[name] + (0 if inside else 1)

    def _ready_whole(self, name: str) -> int:
        node = self.body[name]
        if node.op in ("input", "const"):
            return 0
        if node.op in _VIEWS:
            return self._ready_whole(node.inputs[0])
        return self.phase_of[name] + 1

    def _product(self, node: Node) -> _Product | None:
        """A dot with a constant matrix, if it is one whose operand can be read in one piece."""
        found = by_matrix(node, self.loop.constants)
        if found is None:
            return None
        matrix, operand = found
        own, given = self.body[matrix].type.names, self.body[operand].type.names
        over = tuple(name for name in own if name in node.attrs["over"])
        per = tuple(name for name in own if name in given and name not in over)
        out = tuple(name for name in own if name not in given)
        strides = self._flat(own, per, out, over) if out and set(given) == {*per, *over} else None
        if strides is None:
            return None
        results, inner = (prod(self.sizes[name] for name in group) for group in (out, over))
        product = _Product(
            node.name, matrix, self._whole(operand, (*per, *over)), per, out, over, strides, results, inner, self.packed
        )
        self.packed += prod(self.sizes[name] for name in per) * (-(-results // 16) * 16 * inner)
        return product

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

    def _whole(self, name: str, axes: tuple[str, ...]) -> str:
        """A value that lies in one piece in this order of axes, or its copy that does."""
        leaf, mapping = name, {axis: axis for axis in axes}
        while self.body[leaf].op == "rename":
            back = {new: old for old, new in self.body[leaf].attrs["axes"]}
            mapping = {axis: back.get(at, at) for axis, at in mapping.items()}
            leaf = self.body[leaf].inputs[0]
        node = self.body[leaf]
        if node.op not in _VIEWS and node.op != "const" and node.type.names == tuple(mapping[axis] for axis in axes):
            return leaf
        copy = f"{name}.copy"
        if copy not in self.copies:
            self.copies[copy], self.copy_axes[copy] = name, axes
            self._enter(copy, axes, [name])
        return copy

    def _stores(self) -> dict[int, list[tuple[str, str]]]:
        """By phase, what is handed on: (what it is, the value)."""
        found: dict[int, list[tuple[str, str]]] = {}
        wanted = [
            *(("memory", memory.new) for memory in self.loop.memories),
            *(("result", one.value) for one in self.loop.results),
            *(("sum", one.value) for one in self.loop.sums),
        ]
        for kind, name in dict.fromkeys(wanted):
            node = self.body[name]
            if node.op in SPELLED or node.op in ("clamp", "concat", "pack"):
                at = self.phase_of[name]
            else:
                store = f"{name}.stored"
                if store not in self.copies:
                    self.copies[store] = name
                    self.copy_axes[store] = node.type.names
                    self._enter(store, node.type.names, [name])
                at = self.phase_of[store]
            found.setdefault(at, []).append((kind, name))
        return found

    def _partition(self, axes: Sequence[str]) -> str | None:
        """The axis that threads share: one along which nothing is summed if there is one, else the longest."""
        long = [name for name in axes if self.sizes[name] >= _LEAST or name in self.parallel]
        if not long:
            return None
        return max(long, key=lambda name: (name in self.parallel, self.sizes[name], -axes.index(name)))

    def _shared(self, product: _Product) -> tuple[str, ...]:
        """The axes of a product that threads may share: parts of its results begin at whole vectors."""
        behind = prod(self.sizes[name] for name in product.out[1:])
        return (*product.per, *(product.out[:1] if behind == 1 or behind % 16 == 0 else ()))

    def _parallel(self) -> frozenset[str]:
        """The axes that all memories have and along which nothing in the step runs."""
        used: set[str] = set()
        for node in self.body:
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
        common = set.intersection(*({*self.body[m.new].type.names} for m in self.loop.memories))
        return frozenset(common - used)

    # Buffers.

    def _reads(self, i: int) -> Iterator[tuple[str, Mapping[str, str]]]:
        """What a phase reads of other phases or of the step before: the value, and by axis of it the axis of the phase that runs along it
        ("" where it is none)."""
        phase = self.phases[i]
        if isinstance(phase, _Product):
            leaf_axes = self._axes(phase.operand)
            own = dict(zip(leaf_axes, (*phase.per, *("" for _ in phase.over)), strict=True))
            yield phase.operand, own
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
        if node.op in _VIEWS:
            yield from self._leaves(node.inputs[0], self._through(node, along), i)
        elif (
            name in self.olds
            or (node.op not in ("input", "const") and self.phase_of[name] != i)
            or (node.op not in ("input", "const") and node.op in _REDUCE)
        ):
            yield name, along

    def _through(self, view: Node, along: Mapping[str, str]) -> dict[str, str]:
        """By axis of what a view looks at, the axis of the nest that runs along it."""
        own = self.body[view.inputs[0]].type.names
        if view.op == "rename":
            new = dict(view.attrs["axes"])
            return {axis: along[new.get(axis, axis)] for axis in own}
        return {axis: along.get(axis, "") for axis in own}

    def _axes(self, name: str) -> tuple[str, ...]:
        if name in self.copies:
            return self.copy_axes[name]
        if name in self.phase_of and isinstance(self.phases[self.phase_of[name]], _Product):
            return self.phases[self.phase_of[name]].axes
        return self.body[name].type.names

    def _find_buffers(self) -> None:
        """Which values lie in buffers, and before which phases threads wait."""
        writers = {memory.old: self._storing("memory", memory.new) for memory in self.loop.memories}
        for memory in self.loop.memories:
            phase = self.phases[writers[memory.old]]
            self.buffers[memory.old] = _Buffer(
                self.body[memory.old].type.names, writers[memory.old], phase.partition is None, True
            )
        for i, phase in enumerate(self.phases):
            if isinstance(phase, _Product):
                self.buffers[phase.node] = _Buffer(phase.axes, i, phase.partition is None)
            for name, _ in self._reads(i):
                if name not in self.buffers and (name in self.phase_of or name in self.copies):
                    at = self.phase_of[name]
                    self.buffers[name] = _Buffer(self._axes(name), at, self.phases[at].partition is None)
            for name in phase.nodes if isinstance(phase, _Nest) else ():
                if self._sums(name):
                    self.buffers[name] = _Buffer(self.body[name].type.names, i, phase.partition is None)
        self.waits = self._find_waits()
        self._lay_out()

    def _sums(self, name: str) -> bool:
        return name in self.body.nodes and self.body[name].op in _REDUCE

    def _storing(self, kind: str, name: str) -> int:
        return next(i for i, stores in self.stores.items() if (kind, name) in stores)

    def _find_waits(self) -> set[int]:
        """The phases before which all wait: they read what others have written since the last time."""
        dirty = {name for name, buffer in self.buffers.items() if not buffer.private}
        waits: set[int] = set()
        for i in range(len(self.phases)):
            crossing = [name for name, along in self._reads(i) if not self._own(i, name, along)]
            for name in crossing:
                self.buffers[name].twice = True
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
        return along.get(written) == partition and self._align(written) == self._align(partition or "")

    def _lay_out(self) -> None:
        self.shared = self.private = 0
        for buffer in self.buffers.values():
            size = self._row(buffer.axes) * (2 if buffer.twice else 1)
            if buffer.private:
                buffer.at, self.private = self.private, self.private + size
            else:
                buffer.at, self.shared = self.shared, self.shared + size

    def _row(self, axes: Sequence[str]) -> int:
        """Numbers from row to row of a buffer: whole vectors."""
        return -(-prod(self.sizes[name] for name in axes) // 16) * 16

    # Text.

    def _signature(self) -> str:
        def shaped(name: str, lead: str) -> str:
            return self._shape(self.body[name].type.names, lead)

        loop, words = self.loop, []
        for k, memory in enumerate(loop.memories):
            if loop.backwards:
                words += [f"dstart{k}{shaped(memory.old, 'B')}", f"dclear{k}?{shaped(memory.old, 'P')}"]
            else:
                words += [f"start{k}?{shaped(memory.old, 'B')}", f"clear{k}?{self._constant_shape(memory.old)}"]
        words += [f"column{k}({shaped(name, 'B,T')[1:-1]})" for k, name in enumerate(loop.columns)]
        words += [f"constant{k}{self._constant_shape(name)}" for k, name in enumerate(loop.constants)]
        words += ["reset?:bool(B,T)"]
        words += [f"result{k}({self._shape(one.axes, 'B,T')[1:-1]})" for k, one in enumerate(loop.results)]
        words += [f"kept{k}?{self._shape(one.axes, 'B,T')}" for k, one in enumerate(loop.kept)]
        words += [f"sum{k}{self._shape(one.axes, 'P')}" for k, one in enumerate(loop.sums)]
        return f"{loop.name} {' '.join(words)} B T P"

    def _shape(self, axes: Sequence[str], lead: str) -> str:
        return f"[{','.join([lead, *(str(self.sizes[name]) for name in axes)])}]"

    def _constant_shape(self, name: str) -> str:
        sizes = [str(axis.size) for axis in self.body[name].type.axes]
        return f"[{','.join(sizes)}]" if sizes else "(1)"

    def _arguments(self) -> list[tuple[str, str]]:
        """Type and name of each argument that is a pointer."""
        loop = self.loop
        found = []
        for k in range(len(loop.memories)):
            found += (
                [("REAL", f"dstart{k}"), ("REAL", f"dclear{k}")]
                if loop.backwards
                else [("const REAL", f"start{k}"), ("const REAL", f"clear{k}")]
            )
        found += [("const REAL", f"column{k}") for k in range(len(loop.columns))]
        found += [("const REAL", f"constant{k}") for k in range(len(loop.constants))]
        found += [("const uint8_t", "reset")]
        found += [("REAL", f"result{k}") for k in range(len(loop.results))]
        found += [("REAL", f"kept{k}") for k in range(len(loop.kept))]
        found += [("REAL", f"sum{k}") for k in range(len(loop.sums))]
        return found

    def _text(self) -> str:
        loop = self.loop
        arguments = self._arguments()
        lines = [
            f"void {loop.name}({', '.join(f'int64_t {name}_' for _, name in arguments)}, int64_t B, int64_t T, int64_t P, int64_t threads) {{"
        ]
        lines += [f"    {kind} *{name} = PTR({kind}, {name}_);" for kind, name in arguments]
        team = f"worth({self._work()} * min64(B, ROWS), {32768 if self.waits else 4096}, min64(threads, PROCESSORS))"
        lines += [
            "    (void)P;",
            "    int few = B * T <= FEW_STEPS;",
            f"    REAL *packed = few || {self.packed} == 0 ? NULL : aligned_alloc(64, {max(self.packed, 16)} * sizeof(REAL));",
            f"    int64_t arrived = 0, most = {team};",
            f"    REAL *shared = aligned_alloc(64, ROWS * {max(self.shared, 16)} * sizeof(REAL));",
            "#pragma omp parallel num_threads((int)most)",
            "    {",
            "        int64_t rank = THREAD, team = THREADS, round = 0;",
            f"        REAL *own = aligned_alloc(64, ROWS * {max(self.private, 16)} * sizeof(REAL));",
        ]
        for axis in dict.fromkeys(phase.partition for phase in self.phases if phase.partition):
            lines.append(
                f"        range_t part_{self.index[axis]} = part_of({self.sizes[axis]}, {self._align(axis)}, rank, team);"
            )
        lines += ["        (void)own;", "        if (packed) {"]
        for phase in self.phases:
            if isinstance(phase, _Product):
                lines.append(f"            {self._pack_text(phase)}")
        lines += ["            wait_for_all(&arrived, &round, team);", "        }"]
        lines += [
            "        for (int64_t row0 = 0; row0 < B; row0 += ROWS) {",
            "            int64_t rows = min64(ROWS, B - row0), block = row0 / ROWS;",
            "            (void)block;",
        ]
        lines += [f"            {line}" for line in self._begin()]
        step = "int64_t t = T - 1 - s;" if loop.backwards else "int64_t t = s;"
        lines += [
            "            for (int64_t s = 0; s < T; s++) {",
            f"                {step}",
            "                const int64_t odd = s & 1;",
            "                (void)odd;",
        ]
        for i, one in enumerate(self.phases):
            if i in self.waits:
                lines.append("                wait_for_all(&arrived, &round, team);")
            text = self._product_text(one) if isinstance(one, _Product) else self._nest_text(i, one)
            lines += [f"                {line}" for line in text]
        lines += [
            "            }",
            "            wait_for_all(&arrived, &round, team);",
            "        }",
            "        free(own);",
            "    }",
            "    free(shared);",
            "    free(packed);",
            "}",
        ]
        return "\n".join(lines) + "\n"

    def _align(self, axis: str) -> str:
        """Where parts of an axis begin: at whole vectors, where it is the one that runs fastest."""
        return "LANES" if any(phase.axes[-1:] == (axis,) for phase in self.phases) else "1"

    def _work(self) -> int:
        """Operations a step and row, roughly."""
        total = 0
        for phase in self.phases:
            size = prod(self.sizes[name] for name in phase.axes)
            if isinstance(phase, _Product):
                total += size * prod(self.sizes[name] for name in phase.over)
            else:
                total += size * sum(_WORK.get(self.body[n].op, 1) if n in self.body.nodes else 1 for n in phase.nodes)
        return total

    def _places(self, phase: _Product) -> tuple[str, str]:
        """Where the matrix of a product lies, and where it lies packed, at the place along the axes that it shares with its operand."""
        index = {name: self.index[name] for name in phase.per}
        along = "".join(f" + {i} * {stride}" for i, stride in zip(index.values(), phase.strides[0], strict=True))
        size = f"(({phase.results} + LANES - 1) / LANES * LANES * {phase.inner})"
        behind = f" + ({self._offset(phase.per, index)}) * {size}" if phase.per else ""
        return f"constant{self.loop.constants.index(phase.matrix)}{along}", f"packed + {phase.packed}{behind}"

    def _pack_text(self, phase: _Product) -> str:
        loops = "".join(
            f"for (int64_t {self.index[n]} = 0; {self.index[n]} < {self.sizes[n]}; {self.index[n]}++) "
            for n in phase.per
        )
        w, packed = self._places(phase)
        _, out, over = phase.strides
        return f"{loops}pack({w}, {out}, {over}, {packed}, {phase.results}, {phase.inner}, rank, team);"

    def _begin(self) -> list[str]:
        """Fill the memories as they are before the first step."""
        lines = []
        for k, memory in enumerate(self.loop.memories):
            buffer = self.buffers[memory.old]
            size = prod(axis.size or 0 for axis in self.body[memory.old].type.axes)
            who = "" if buffer.private else "if (rank == 0) "
            if self.loop.backwards:
                value = "0"
            else:
                fill = _literal(memory.fill)
                value = f"reset && reset[(row0 + r) * T] ? (clear{k} ? clear{k}[i] : {fill}) : start{k} ? start{k}[(row0 + r) * {size} + i] : clear{k} ? clear{k}[i] : {fill}"
            place = f"{'own' if buffer.private else 'shared'}[ROWS * {buffer.at} + r * {self._row(buffer.axes)} + i]"
            lines.append(
                f"{who}for (int64_t r = 0; r < rows; r++) for (int64_t i = 0; i < {size}; i++) {place} = {value};"
            )
        if not all(self.buffers[m.old].private for m in self.loop.memories):
            lines.append("wait_for_all(&arrived, &round, team);")
        return lines

    def _base(self, name: str, old: bool = True) -> str:
        """The pointer to the first row of a buffer."""
        buffer = self.buffers[name]
        half = ""
        if buffer.twice:
            half = f" + {'odd' if old else '(1 - odd)'} * ROWS * {self._row(buffer.axes)}"
        return f"{'own' if buffer.private else 'shared'} + ROWS * {buffer.at}{half}"

    def _product_text(self, phase: _Product) -> list[str]:
        _, out, over = phase.strides
        w, packed = self._places(phase)
        results, inner = phase.results, phase.inner
        x, x_stride = self._operand(phase.operand)
        y_at = ""
        if phase.per:
            place = self._offset(phase.per, {n: self.index[n] for n in phase.per})
            x, y_at = f"{x} + ({place}) * {inner}", f" + ({place}) * {results}"
        own = f"(range_t){{0, {results}}}"
        if phase.partition in phase.out:
            part, behind = f"part_{self.index[phase.partition or '']}", results // self.sizes[phase.out[0]]
            own = part if behind == 1 else f"(range_t){{{part}.from * {behind}, {part}.to * {behind}}}"
        y = f"{self._base(phase.node)}{y_at}"
        row = self._row(phase.axes)
        lines = [
            f"if (packed) product({packed}, {x}, {x_stride}, {y}, {row}, {inner}, {own}, rows);",
            f"else product_few({w}, {out}, {over}, {x}, {x_stride}, {y}, {row}, {inner}, {own}, rows);",
        ]
        kept = self._kept(phase.node, phase.axes)
        copied = ["for (int64_t r = 0; r < rows; r++) {", *self._looped(phase.axes, phase.partition, kept), "}"]
        return [*self._looped(phase.per, phase.partition, lines), *(copied if kept else [])]

    def _kept(self, name: str, axes: Sequence[str], once: str = "") -> list[str]:
        """Hand out a product, whose buffer has these axes, if it is asked for: text inside loops over them."""
        index = {axis: self.index[axis] for axis in axes}
        y = f"({self._base(name)})[r * {self._row(axes)} + {self._offset(axes, index)}]"
        size = prod(self.sizes[axis] for axis in axes)
        return [
            f"if (kept{k}{once}) kept{k}[((row0 + r) * T + t) * {size} + {self._offset(one.axes, index)}] = {y};"
            for k, one in enumerate(self.loop.kept)
            if one.value == name
        ]

    def _operand(self, name: str) -> tuple[str, str]:
        """Pointer to the first row of a value that lies in one piece, and the numbers from row to row."""
        if name in self.buffers:
            return self._base(name), str(self._row(self.buffers[name].axes))
        size = prod(self.sizes[n] for n in self._axes(name))
        k = self.loop.columns.index(name)
        return f"column{k} + (row0 * T + t) * {size}", f"T * {size}"

    def _looped(self, axes: Sequence[str], partition: str | None, lines: Sequence[str], pragma: str = "") -> list[str]:
        """Lines inside loops over axes."""
        found, depth = [], 0
        for n, axis in enumerate(axes):
            i = self.index[axis]
            low, high = (f"part_{i}.from", f"part_{i}.to") if axis == partition else ("0", str(self.sizes[axis]))
            if pragma and n == len(axes) - 1:
                found.append("    " * depth + pragma)
            found.append("    " * depth + f"for (int64_t {i} = {low}; {i} < {high}; {i}++) {{")
            depth += 1
        found += ["    " * depth + line for line in lines]
        found += ["    " * (len(axes) - 1 - d) + "}" for d in range(len(axes))]
        return found

    def _offset(self, axes: Sequence[str], index: Mapping[str, str]) -> str:
        parts = []
        for i, name in enumerate(axes):
            stride = prod(self.sizes[other] for other in axes[i + 1 :])
            parts.append(index[name] if stride == 1 else f"{index[name]} * {stride}")
        return " + ".join(parts) or "0"

    def _nest_text(self, i: int, phase: _Nest) -> list[str]:
        self.names = {}
        self.pointers: dict[str, str] = {}
        index = {name: self.index[name] for name in phase.axes}
        inner: list[str] = []
        sums: list[tuple[str, str, str]] = []
        for name in phase.nodes:
            if self._sums(name):
                variable = f"s{len(sums)}"
                start, grown = _REDUCE[self.body[name].op]
                inner.append(f"{variable} = {grown.format(variable, self._summand(self.body[name], index, i))};")
                sums.append(
                    (variable, start, f"{self._pointer(name)}[{self._offset(self.body[name].type.names, index)}]")
                )
                continue
            if name in self.copies:
                value = self._ref(self.copies[name], index, i)
            else:
                value = self._computed(self.body[name], index, i)
            variable = f"v{len(self.names)}"
            self.names[name] = variable
            inner.append(f"const REAL {variable} = {value};")
            if name in self.buffers:
                inner.append(f"{self._pointer(name)}[{self._offset(self._axes(name), index)}] = {variable};")
        after: list[str] = []
        for kind, name in self.stores.get(i, []):
            found, behind = self._store(kind, name, index, i, phase)
            inner += found
            after += behind
        added = all(
            grown == _REDUCE["sum"][1] for _, grown in (_REDUCE[self.body[n].op] for n in phase.nodes if self._sums(n))
        )
        if phase.over:
            clause = f" reduction(+:{','.join(variable for variable, _, _ in sums)})" if sums else ""
            whole = self._looped(phase.over, None, inner, f"#pragma omp simd{clause}" if added else "")
            opened = [f"REAL {variable} = {start};" for variable, start, _ in sums]
            closed = [f"{place} = {variable};" for variable, _, place in sums]
            mine = " && rank == 0" if phase.partition is None else ""
            summed = [name for name in phase.nodes if self._sums(name)]
            closed += [line for name in summed for line in self._kept(name, self.body[name].type.names, mine)]
            body = self._looped(phase.kept, phase.partition, [*opened, *whole, *closed])
        else:
            body = self._looped(phase.axes, phase.partition, inner, "#pragma omp simd")
        lines = [*self.pointers.values(), *body, *after]
        return ["for (int64_t r = 0; r < rows; r++) {", *(f"    {line}" for line in lines), "}"]

    def _pointer(self, name: str) -> str:
        """The variable that points at the row of a buffer, for the value of this step."""
        key = f"p{len(self.pointers)}"
        known = next((p for p, line in self.pointers.items() if line.endswith(f"/* {name} */")), None)
        if known is not None:
            return known
        row = self._row(self.buffers[name].axes)
        self.pointers[key] = f"REAL *{key} = {self._base(name)} + r * {row}; /* {name} */"
        return key

    def _ref(self, name: str, index: Mapping[str, str], i: int) -> str:
        """The expression of a value at an index."""
        node = self.body[name]
        if node.op == "const":
            return _literal(node.attrs["value"])
        if node.op in _VIEWS:
            return self._ref(node.inputs[0], self._seen(node, index), i)
        if name in self.names and all(index[axis] == self.index[axis] for axis in node.type.names):
            return self.names[name]
        if name in self.loop.constants:
            k = self.loop.constants.index(name)
            return f"constant{k}[{self._offset(node.type.names, index)}]"
        if name in self.loop.columns:
            k = self.loop.columns.index(name)
            size = prod(self.sizes[n] for n in node.type.names)
            key = f"x{k}"
            self.pointers[key] = f"const REAL *{key} = column{k} + ((row0 + r) * T + t) * {size};"
            return f"{key}[{self._offset(node.type.names, index)}]"
        return f"{self._pointer(name)}[{self._offset(self.buffers[name].axes, index)}]"

    def _seen(self, view: Node, index: Mapping[str, str]) -> dict[str, str]:
        """The index into what a view looks at, from that into the view."""
        own = self.body[view.inputs[0]].type.names
        match view.op:
            case "rename":
                new = dict(view.attrs["axes"])
                return {axis: index[new.get(axis, axis)] for axis in own}
            case "expand":
                return {axis: index[axis] for axis in own}
            case "split":
                into = [name for name, _ in view.attrs["into"]]
                flat = self._offset(into, index)
                return {axis: f"({flat})" if axis == view.attrs["axis"] else index[axis] for axis in own}
            case "merge":
                found, rest = {}, 1
                for axis in reversed(view.attrs["axes"]):
                    found[axis] = f"({index[view.attrs['out']]} / {rest} % {self.sizes[axis]})"
                    rest *= self.sizes[axis]
                return {axis: found[axis] if axis in found else index[axis] for axis in own}
            case "slice":
                moved = f"({index[view.attrs['out']]} + {view.attrs['start']})"
                return {axis: moved if axis == view.attrs["axis"] else index[axis] for axis in own}
            case _:  # select
                chosen = self.body[view.inputs[1]]
                if chosen.op != "const":
                    raise Unfit("an entry that a value chooses is not spelled in C")
                at = str(int(chosen.attrs["value"]))
                return {axis: at if axis == view.attrs["axis"] else index[axis] for axis in own}

    def _computed(self, node: Node, index: Mapping[str, str], i: int) -> str:
        match node.op:
            case "clamp":
                value = self._ref(node.inputs[0], index, i)
                for bound, function in ((node.attrs["low"], "maximum_"), (node.attrs["high"], "minimum_")):
                    value = value if bound is None else f"{function}({value}, {_literal(bound)})"
                return value
            case "pack":
                at = index[node.attrs["axis"]]
                values = [self._ref(one, index, i) for one in node.inputs]
                return _choice([(f"{at} == {k}", value) for k, value in enumerate(values)])
            case "concat":
                at, start, cases = index[node.attrs["axis"]], 0, []
                for one, own in zip(node.inputs, node.attrs["axes"], strict=True):
                    inside = {axis: index[axis] for axis in self.body[one].type.names if axis != own}
                    size = self.sizes[own]
                    # Where it is not chosen, an index that stays inside.
                    inside[own] = f"min64({size - 1}, {at} < {start} ? 0 : {at} - {start})"
                    start += size
                    cases.append((f"{at} < {start}", self._ref(one, inside, i)))
                return _choice(cases)
        return SPELLED[node.op].format(*(self._ref(one, index, i) for one in node.inputs))

    def _summand(self, node: Node, index: Mapping[str, str], i: int) -> str:
        value = " * ".join(self._ref(one, index, i) for one in node.inputs)
        if node.op == "mean":
            value = f"{value} * (REAL)(1.0 / {prod(self.sizes[n] for n in node.attrs['over'])})"
        return value

    def _store(
        self, kind: str, name: str, index: Mapping[str, str], i: int, phase: _Nest
    ) -> tuple[list[str], list[str]]:
        """What hands a value on: inside the loops, and after them."""
        loop, node = self.loop, self.body[name]
        value = self._ref(name, index, i)
        size = prod(self.sizes[n] for n in node.type.names)
        once = "if (rank == 0) " if phase.partition is None else ""
        if kind != "memory":
            lines = []
            for k, one in enumerate(loop.results if kind == "result" else loop.sums):
                if one.value == name:
                    key, base = (
                        (f"y{k}", f"result{k} + ((row0 + r) * T + t)")
                        if kind == "result"
                        else (f"z{k}", f"sum{k} + block")
                    )
                    self.pointers[key] = f"REAL *{key} = {base} * {size};"
                    lines.append(
                        f"{once}{key}[{self._offset(one.axes, index)}] {'=' if kind == 'result' else '+='} {value};"
                    )
            return lines, []
        inner, after = [], []
        for k, memory in enumerate(loop.memories):
            if memory.new != name:
                continue
            buffer, target = self.buffers[memory.old], f"m{k}"
            self.pointers[target] = f"REAL *{target} = {self._base(memory.old, False)} + r * {self._row(buffer.axes)};"
            own = self._offset(buffer.axes, index)
            inner.append(f"{target}[{own}] = {value};")
            for condition, text in self._edges(k, memory, f"{target}[{own}]", own, size, once):
                after += [
                    f"if ({condition}) {{",
                    *(f"    {x}" for x in self._looped(phase.axes, phase.partition, text)),
                    "}",
                ]
        return inner, after

    def _edges(
        self, k: int, memory: Memory, place: str, own: str, size: int, once: str
    ) -> Iterator[tuple[str, list[str]]]:
        """What becomes of a memory at a reset, and its gradient at the start: a condition, and the text for each number."""
        if self.loop.backwards:
            mine = " && rank == 0" if once else ""
            kept = f"if (dclear{k}{mine}) dclear{k}[block * {size} + {own}] += {place};"
            yield "reset && reset[(row0 + r) * T + t]", [kept, f"{place} = 0;"]
            yield "t == 0", [f"{once}dstart{k}[(row0 + r) * {size} + {own}] = {place};"]
        else:
            fill = _literal(memory.fill)
            yield (
                "reset && t + 1 < T && reset[(row0 + r) * T + t + 1]",
                [f"{place} = clear{k} ? clear{k}[{own}] : {fill};"],
            )


def _choice(cases: Sequence[tuple[str, str]]) -> str:
    *some, (_, last) = cases
    text = last
    for condition, value in reversed(some):
        text = f"({condition} ? {value} : {text})"
    return text


def _literal(value: float) -> str:
    if isnan(value):
        return "(REAL)NAN"
    if isinf(value):
        return "(REAL)INFINITY" if value > 0 else "(-(REAL)INFINITY)"
    return f"(REAL){float(value)!r}" if value >= 0 else f"((REAL){float(value)!r})"
