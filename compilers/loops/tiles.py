"""What a step computes in a tile: a part of the axes along which nothing in it runs, so that all steps of one tile may come before the next.

A tile has its own buffers, in which these axes come last, for the fastest loops run along them. What a sum over them gives is known in
parts, one for each tile, and only handed out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

from ssir.compilers.loops.nests import Nests
from ssir.compilers.loops.phases import Buffer, Extent, Lags, Nest, Product
from ssir.compilers.loops.region import Memory, Region, Result, by_matrix
from ssir.compilers.loops.schedule import parallel_axes
from ssir.compilers.loops.spelling import REDUCED, VIEWS, Unfit, literal
from ssir.ir.graph import Graph, Node

EVERY = 16
"""Steps from one memory that is kept to the next, where not all are."""
_LANES = 16
_ROOM = 1024  # numbers of a memory in a tile
_LONG = 256  # numbers of a tile that lie in a row


@dataclass(frozen=True)
class Cut:
    """How axes are cut: along ``outer`` one place after another, along ``axis`` into tiles of ``size``, of ``length``. ``parallel``: all along
    which nothing runs."""

    outer: tuple[str, ...]
    axis: str
    size: int
    length: int
    parallel: frozenset[str]


def cut(region: Region) -> Cut | None:
    """How the loop of a region with one memory goes tile by tile; None if it does not."""
    body, (memory,) = region.body, region.memories
    own, parallel = body[memory.old].type.axes, parallel_axes(body, region.memories)
    if (own and not parallel) or any(_has_matrix(body, node, region.constants) for node in body):
        return None
    sizes = {axis.name: axis.size or 0 for axis in own}
    order = [name for name in sizes if name in parallel]
    inside = prod(size for name, size in sizes.items() if name not in parallel)
    most, run = max(_LANES, min(_LONG, _ROOM // inside)), 1
    while len(order) > 1 and run * sizes[order[-1]] <= most:
        run *= sizes[order.pop()]
    *outer, axis = order or [""]  # a memory may be a number
    length = sizes.get(axis, 1)
    count = -(-length // max(1, most // run))
    size = -(-length // (count + count % 2 if count > 1 else 1))  # two threads shall have as many
    if run == 1 and count > 1:
        size = -(-size // _LANES) * _LANES
    return Cut(tuple(outer), axis, size, length, parallel)


def hides(region: Region) -> bool:
    """Whether the memory is larger than anything that enters and leaves, and is not handed out itself."""
    body, (memory,), shown = region.body, region.memories, [one.value for one in region.outputs.values()]
    most = max(body[name].type.numel() for name in (*region.columns, *shown))
    return memory.new not in shown and body[memory.old].type.numel() > most


def _has_matrix(body: Graph, node: Node, constants: Collection[str]) -> bool:
    """Whether a node is a product whose constant matrix has results of its own."""
    found = by_matrix(node, constants)
    return found is not None and not set(body[found[0]].type.names) <= set(body[found[1]].type.names)


def partial(body: Graph, parallel: frozenset[str]) -> dict[str, frozenset[str]]:
    """The values that are known in parts, to be summed up: of each, over which parallel axes. Raises Unfit if more is made of one than sums
    and products."""
    found: dict[str, frozenset[str]] = {}
    for node in body:
        given = {found[name] for name in node.inputs if name in found}
        if node.op in ("sum", "dot") and parallel & set(node.attrs["over"]):
            given.add(frozenset(parallel & set(node.attrs["over"])))
        elif given and node.op in ("add", "sub"):
            given |= {found.get(name, frozenset()) for name in node.inputs}
        elif given and node.op not in VIEWS | {"mul", "neg", "sum", "dot", "where", "pack"}:
            raise Unfit(f"`{node.op}` of a sum over what is tiled")
        most = len(node.inputs) if node.op in ("add", "sub", "pack") else 1
        if (
            len(given) > 1
            or sum(name in found for name in node.inputs) > most
            or (given and node.op in ("where", "pack") and not _chosen(body, node, found))
        ):
            raise Unfit("sums over what is tiled are mixed")
        if given:
            found[node.name] = next(iter(given))
    return found


def _chosen(body: Graph, node: Node, known: Collection[str]) -> bool:
    """Whether a choice is between what is known in parts and nothing."""
    condition = node.inputs[0] if node.op == "where" else ""
    rest = [one for one in node.inputs if one != condition]
    return condition not in known and all(one in known or _nothing(body, one) for one in rest)


def _nothing(body: Graph, name: str) -> bool:
    node = body[name]
    return node.attrs.get("value") == 0 or (node.op == "expand" and _nothing(body, node.inputs[0]))


class Tiles(Nests):
    """The phases of a body in a tile: step t of sequence ``row``, which is step s of a block. ``given``: by column and constant, where it lies.
    ``first``: where buffers begin; ``slots``: the memory is kept for each step of a block; ``local``: by column and result that lies in the
    tile for each step, where it does. They are moved in by `begin`, and sums out by `end`."""

    def __init__(
        self,
        body: Graph,
        memory: Memory,
        columns: Sequence[str],
        constants: Sequence[str],
        results: Sequence[Result],
        sums: Sequence[Result],
        cut: Cut,
        given: Mapping[str, str],
        backwards: bool,
        first: int = 0,
        slots: bool = False,
        local: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.cut, self.given, self.backwards, self.first = cut, given, backwards, first
        self.memory, self.slots, self.local = memory, slots, local
        self.partial = partial(body, cut.parallel)
        super().__init__(body, (memory,), (), columns, constants, results, sums)

    # The schedule.

    def schedule(self) -> None:
        self.whole = dict(self.sizes)
        self.sizes[self.cut.axis] = self.cut.size
        self.index |= {axis: f"u{k}" for k, axis in enumerate(self.cut.outer)}
        super().schedule()

    def _product(self, node: Node) -> Product | None:
        return None

    def _joins(self, phase: Nest, axes: Sequence[str], over: tuple[str, ...]) -> bool:
        return True

    def _partition(self, phase: Nest | Product) -> str | None:
        return None

    def axes_of(self, name: str) -> tuple[str, ...]:
        return self.laid(super().axes_of(name))

    def laid(self, axes: Sequence[str]) -> tuple[str, ...]:
        """Axes as values over them lie in a tile: parallel ones last, for the fastest loop runs along them."""
        inside = [axis for axis in axes if axis not in self.cut.outer]
        return tuple(sorted(inside, key=lambda axis: axis in self.cut.parallel))

    def _find_buffers(self) -> None:
        super()._find_buffers()
        for buffer in self.buffers.values():
            buffer.private, buffer.twice, buffer.axes = True, False, self.laid(buffer.axes)
        if not self._in_place():
            raise Unfit("the memory is read elsewhere than it is written")
        for k, one in enumerate(self.sums):
            self.buffers[f"sum {k}"] = Buffer(self.laid(one.axes), 0, True)
        for name in self.constants:
            own = self.body[name].type.names
            if self.laid(own) != tuple(axis for axis in own if axis not in self.cut.outer):
                self.buffers[f"{name}.turned"] = Buffer(self.laid(own), 0, True)
        self._lay_out()

    def _find_waits(self) -> set[int]:
        return set()

    def _in_place(self) -> bool:
        """Whether the memory may be overwritten where it is read."""
        at, old = self._storing("memory", self.memory.new), self.memory.old
        reads = [(i, along) for i in range(len(self.phases)) for one, along in self._reads(i) if one == old]
        return all(i < at or (i == at and all(a == b for a, b in along.items())) for i, along in reads)

    def extent_of(self, name: str) -> Extent:
        steps = EVERY + 1 if self.slots and name == self.memory.old else 1
        return super().extent_of(name).times(steps)

    def work(self) -> int:
        """Operations a step and row, in all tiles."""
        tile, self.sizes = self.sizes, self.whole
        found = super().work()
        self.sizes = tile
        return found

    @property
    def last(self) -> int:
        """Where buffers end."""
        return self.first + self.private.fixed

    # Places.

    def base(self, name: str, old: bool = True) -> str:
        buffer = self.buffers[name]
        at = f"own + {self.first + int(buffer.at)}"
        slot = f" + (s + {0 if old else 1}) * {self.row(buffer.axes)}" if self.slots and name == self.memory.old else ""
        return f"{at}{slot}"

    def row_at(self, name: str) -> str:
        return self.base(name)

    def column_at(self, k: int) -> tuple[str, str]:
        raise NotImplementedError

    def product_call(
        self, phase: Product, x: str, x_stride: str, y: str, y_stride: str, own: str, rows: str = "rows"
    ) -> list[str]:
        raise NotImplementedError

    def handed_at(self, kind: str, k: int) -> tuple[str, str]:
        raise NotImplementedError

    def given_at(self, k: int) -> str:
        return self.given[self.columns[k]]

    def whole_size(self, axes: Sequence[str]) -> int:
        """The numbers over these axes, in all tiles."""
        return prod(self.whole[axis] for axis in axes)

    def given_offset(self, axes: Sequence[str], index: Mapping[str, str]) -> str:
        """Where something stands among values over all of these axes, of which the tile is a part."""
        shifted = {axis: f"(from + {at})" if axis == self.cut.axis else at for axis, at in index.items()}
        return self.offset(axes, shifted, self.whole)

    def constant_at(self, name: str, index: Mapping[str, str]) -> str:
        turned = f"{name}.turned"
        if turned in self.buffers:
            return f"{self._pointer(turned)}[{self.offset(self.buffers[turned].axes, index)}]"
        return f"{self.given[name]}[{self.given_offset(self.body[name].type.names, index)}]"

    def ref(self, name: str, index: Mapping[str, str], i: int) -> str:
        if name not in self.local or name in self.names:
            return super().ref(name, index, i)
        axes = self.laid(self.body[name].type.names)
        key = f"a{list(self.local).index(name)}"
        self.pointers[key] = f"const REAL *{key} = {self.local[name]};"
        return f"{key}[{self.offset(axes, index)}]"

    # Text.

    def looped(
        self, axes: Sequence[str], partition: str | None, lines: Sequence[str], pragma: str = "", lags: Lags = ()
    ) -> list[str]:
        found = list(lines)
        for axis in reversed([axis for axis in axes if axis not in self.cut.outer]):
            i, end = self.index[axis], "width" if axis == self.cut.axis else self.sizes[axis]
            found = [f"for (int64_t {i} = 0; {i} < {end}; {i}++) {{", *(f"    {line}" for line in found), "}"]
            found, pragma = ([pragma, *found] if pragma else found), ""
        return found

    def nest_text(self, i: int, phase: Nest) -> list[str]:
        self.names, self.pointers, self.parts = {}, {}, {}
        index = {name: self.index[name] for name in phase.axes}
        axes = self.laid(phase.axes)
        fast = axes[-1] if axes else ""
        begun: list[str] = []
        inner: list[str] = []
        behind: list[str] = []
        after: list[str] = []
        simd = "#pragma omp simd"
        for name in phase.nodes:
            if self.sums_up(name):
                start, grown = REDUCED[self.body[name].op]
                place = f"{self._pointer(name)}[{self.offset(self.axes_of(name), index)}]"
                term = self._summand(self.body[name], index, i)
                if fast in self.body[name].attrs["over"] and grown == REDUCED["sum"][1]:
                    terms = f"s{len(begun)}"
                    begun.append(f"REAL {terms}[{self.sizes[fast]}];")
                    inner.append(f"{terms}[{self.index[fast]}] = {term};")
                    term = f"sum_run({terms}, {'width' if fast == self.cut.axis else self.sizes[fast]})"
                    behind.append(f"{place} = {grown.format(place, term)};")
                else:
                    simd = "" if fast in self.body[name].attrs["over"] else simd
                    inner.append(f"{place} = {grown.format(place, term)};")
                begun += self.looped(self.axes_of(name), None, [f"{place} = {start};"])
                continue
            value = (
                self.ref(self.copies[name], index, i)
                if name in self.copies
                else self._computed(self.body[name], index, i)
            )
            variable = f"v{len(self.names)}"
            self.names[name] = variable
            inner.append(f"const REAL {variable} = {value};")
            if name in self.buffers:
                inner.append(f"{self._pointer(name)}[{self.offset(self.axes_of(name), index)}] = {variable};")
        for kind, name in self.stores.get(i, []):
            found, ended = self._store(kind, name, index, i, phase)
            inner += found
            after += ended
        whole = self.looped(axes[:-1], None, [*self.looped(axes[-1:], None, inner, simd), *behind])
        return ["{", *(f"    {line}" for line in [*self.pointers.values(), *begun, *whole, *after]), "}"]

    def _store(
        self, kind: str, name: str, index: Mapping[str, str], i: int, phase: Nest
    ) -> tuple[list[str], list[str]]:
        value = self.names.get(self._handed(name)) or self.ref(name, index, i)
        if kind == "memory":
            return self._store_memory(name, index, value)
        lines = []
        for k, one in enumerate(self.results if kind == "result" else self.sums):
            if one.value != name:
                continue
            key = f"{'y' if kind == 'result' else 'z'}{k}"
            if kind == "sum":
                self.pointers[key] = f"REAL *{key} = {self.base(f'sum {k}')};"
                lines.append(f"{self._once(name)}{key}[{self.offset(self.laid(one.axes), index)}] += {value};")
            elif name in self.local:
                self.pointers[key] = f"REAL *{key} = {self.local[name]};"
                lines.append(f"{key}[{self.offset(self.laid(one.axes), index)}] = {value};")
            else:
                at = f"(({self.shares(name)[1]} * B + row) * T + t) * {self.whole_size(one.axes)}"
                self.pointers[key] = f"REAL *{key} = result{k} + {at};"
                lines.append(f"{self._once(name)}{key}[{self.given_offset(one.axes, index)}] = {value};")
        return lines, []

    def shares(self, name: str) -> tuple[int, str]:
        """In how many parts a value is handed out, and which of them is that of the tile."""
        copies, at = 1, "0"
        for axis in (*self.cut.outer, self.cut.axis):
            if axis in self.partial.get(name, ()):
                count = -(-self.cut.length // self.cut.size) if axis == self.cut.axis else self.whole[axis]
                at = f"({at} * {count} + {'tile' if axis == self.cut.axis else self.index[axis]})"
                copies *= count
        return copies, at

    def _once(self, name: str) -> str:
        """The condition of the one tile that hands on what all of them compute."""
        missing = self.cut.parallel - {*self.body[name].type.names} - self.partial.get(name, frozenset())
        words = [f"{self.index[axis]} == 0" for axis in self.cut.outer if axis in missing]
        words += ["from == 0"] if self.cut.axis in missing else []
        return f"if ({' && '.join(words)}) " if words else ""

    def _store_memory(self, name: str, index: Mapping[str, str], value: str) -> tuple[list[str], list[str]]:
        old = self.memory.old
        self.pointers["m"] = f"REAL *m = {self.base(old, False)};"
        place, own = (
            f"m[{self.offset(self.buffers[old].axes, index)}]",
            self.given_offset(self.body[old].type.names, index),
        )
        if self.backwards:
            size = self.whole_size(self.body[old].type.names)
            condition = "reset[row * T + t]"
            lines = [f"if (dclear) dclear[me * {size} + {own}] += {place};", f"{place} = 0;"]
        else:
            condition, lines = "t + 1 < T && reset[row * T + t + 1]", [f"{place} = {self.cleared(own)};"]
        after = [f"    {line}" for line in self.looped(self.buffers[old].axes, None, lines)]
        return [f"{place} = {value};"], [f"if (reset && {condition}) {{", *after, "}"]

    def cleared(self, at: str) -> str:
        """What the memory is after a reset."""
        return f"(clear ? clear[{at}] : {literal(self.memory.fill)})"

    # Around the steps.

    def moved(self, name: str, axes: Sequence[str], text: str) -> list[str]:
        """Lines for each number of a buffer, in which {0} is it, and {1} where it stands among all, over these axes."""
        place = f"({self.base(name)})[{self.offset(self.buffers[name].axes, self.index)}]"
        return self.looped(self.buffers[name].axes, None, [text.format(place, self.given_offset(axes, self.index))])

    def remembered(self, text: str) -> list[str]:
        """The same for the memory."""
        return self.moved(self.memory.old, self.body[self.memory.old].type.names, text)

    def begin(self) -> list[str]:
        """Before the steps of a tile: constants are turned, sums are nothing."""
        lines: list[str] = []
        for name in self.constants:
            if f"{name}.turned" in self.buffers:
                lines += self.moved(f"{name}.turned", self.body[name].type.names, f"{{0}} = {self.given[name]}[{{1}}];")
        for k, one in enumerate(self.sums):
            lines += self.moved(f"sum {k}", one.axes, "{0} = 0;")
        return lines

    def steps(self) -> list[str]:
        return [line for i in range(len(self.phases)) for line in self.phase_text(i)]

    def end(self) -> list[str]:
        """After them."""
        lines: list[str] = []
        for k, one in enumerate(self.sums):
            size = self.whole_size(one.axes)
            lines += self.moved(f"sum {k}", one.axes, f"sum{k}[me * {size} + {{1}}] += {{0}};")
        return lines
