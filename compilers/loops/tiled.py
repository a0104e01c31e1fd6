"""A loop over time with one memory, as C that goes tile by tile.

forward    for each sequence and tile: for each step: phases, one after another
backward   the same, and the steps from the last to the first

The memory of a tile stays in the cache while all steps run, and threads wait for nobody. What steps have seen of the memory is read from
the results, where it is among them. Where it is larger than anything that enters and leaves, it is not handed out at all: the first loop
keeps it before every `EVERY`-th step, and the second computes the steps between again, block after block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ssir.compilers.loops.adjoint import Adjoint, adjoint
from ssir.compilers.loops.region import Region, Result
from ssir.compilers.loops.spelling import Unfit, indented
from ssir.compilers.loops.tiles import EVERY, Cut, Tiles, hides
from ssir.ir.graph import Graph
from ssir.ir.ops import operation

_COSTLY = 8  # operations of what is not computed a third time
_PER_THREAD = 65536  # operations that are worth a thread

Pointers = list[tuple[str, str, bool]]
"""The arguments of a function: name, shape as in a signature, and whether it is written."""


@dataclass(frozen=True)
class Tiled:
    """Both functions. ``again``: the memory is not handed out for every step, and ``kept`` numbers of it are in each that is kept. ``results``:
    what the first hands out; ``deltas`` and ``sums``: what the second does; ``parts``: of how many parts, by tiles, a value is the sum. ``work``: operations
    of the first in a step."""

    text: str
    signatures: tuple[str, str]
    again: bool
    kept: int
    adjoint: Adjoint
    results: tuple[Result, ...]
    deltas: tuple[Result, ...]
    sums: tuple[Result, ...]
    parts: dict[str, int]
    work: int


def print_tiles(region: Region, cut: Cut, name: str) -> Tiled:
    """The loops of a region. Raises Unfit where something has no place in them."""
    return _Frame(region, cut, name).printed()


class _Frame:
    def __init__(self, region: Region, cut: Cut, name: str) -> None:
        self.region, self.cut, self.name, self.body = region, cut, name, region.body
        (self.memory,) = region.memories
        self.axes = self.body[self.memory.old].type.names
        self.sizes = {axis.name: axis.size or 0 for node in self.body for axis in node.type.axes}
        self.tiles = -(-cut.length // cut.size)
        self.units = self.tiles * self._size(cut.outer)
        self.tile = self._size(self.axes) // self._size(cut.outer) // cut.length * cut.size
        self.again = hides(region)
        self.results = tuple(dict.fromkeys(region.outputs.values())) if self.again else region.results
        self.places = {name: f"column{k}" for k, name in enumerate(region.columns)}
        self.places |= {name: f"constant{k}" for k, name in enumerate(region.constants)}

    def printed(self) -> Tiled:
        region, body, cut = self.region, self.body, self.cut
        columns, constants = tuple(region.columns), tuple(region.constants)
        given = self.places | {name: self._step(self.places[name], body[name].type.names) for name in columns}
        forward = Tiles(body, self.memory, columns, constants, self.results, (), cut, given, False)
        if forward.partial:
            raise Unfit("a sum over what is tiled")
        costly = [node.name for node in body if node.op != "input" and operation(node.op).work >= _COSTLY]
        back = adjoint(region, costly if self.again else (), self.results)
        deltas, sums = tuple(dict.fromkeys(back.deltas.values())), tuple(dict.fromkeys(back.sums.values()))
        again, local, first = None, dict[str, str](), 0
        if self.again:
            values = tuple(dict.fromkeys(back.values.values()))
            again = self._computed_again(values, given)
            sizes = [EVERY * again.extent(again.laid(body[one].type.names)).fixed for one in values]
            first = again.last + sum(sizes)
            local = {name: again.local[one] for name, one in back.values.items()}
            local |= {name: again.base(one) for name, one in back.olds.items()}
        theirs = {name: self._step(f"grad{self.results.index(one)}", one.axes) for name, one in back.grads.items()}
        theirs |= {name: given[one] for name, one in (*back.columns.items(), *back.constants.items())}
        theirs |= dict.fromkeys(back.olds, self._old())
        names, (flow,) = (*back.grads, *back.columns, *back.olds, *back.values), back.memories
        backward = Tiles(
            back.body, flow, names, tuple(back.constants), deltas, sums, cut, theirs, True, first, local=local
        )
        parts = {name: backward.shares(name)[0] for name in backward.partial}
        (one, first_text), (other, second_text) = self._forward(forward), self._backward(backward, again)
        return Tiled(
            f"{first_text}\n{second_text}",
            (one, other),
            self.again,
            self.tile * self.units,
            back,
            self.results,
            deltas,
            sums,
            parts,
            forward.work(),
        )

    def _computed_again(self, values: Sequence[str], given: dict[str, str]) -> Tiles:
        """The steps of a block that are computed again: the memory, and some values, which lie behind it."""
        body, local = pruned(self.body, (self.memory.new, *values)), dict.fromkeys(values, "")
        columns, constants = (
            [one for one in names if one in body.nodes] for names in (self.region.columns, self.region.constants)
        )
        results = [Result(one, body[one].type.names) for one in values]
        tiles = Tiles(body, self.memory, columns, constants, results, (), self.cut, given, False, 0, True, local)
        at = tiles.last
        for one in values:
            size = tiles.extent(tiles.laid(body[one].type.names)).fixed
            local[one] = f"own + {at} + s * {size}"
            at += EVERY * size
        return tiles

    def _size(self, axes: Sequence[str]) -> int:
        return prod(self.sizes[axis] for axis in axes)

    def _step(self, place: str, axes: Sequence[str]) -> str:
        """The pointer to a step of a sequence."""
        return f"{place} + (row * T + t) * {self._size(axes)}"

    def _old(self) -> str:
        """The pointer to what a step saw of the memory."""
        size = self._size(self.axes)
        return f"(reset && reset[row * T + t] ? clear : t ? memory + (row * T + t - 1) * {size} : start + row * {size})"

    def _block(self, t: str) -> str:
        """The pointer to the memory of the tile that is kept for a block of steps."""
        return f"kept + ((row * ((T + {EVERY - 1}) / {EVERY}) + {t} / {EVERY}) * {self.units} + unit) * {self.tile}"

    # The two functions: signature and text.

    def _forward(self, tiles: Tiles) -> tuple[str, str]:
        pointers: Pointers = [
            ("start", f"?{self._shape(self.axes, 'B')}", False),
            ("clear", f"?{self._constant(self.axes)}", False),
        ]
        pointers += [*self._given(), *self._handed("result", self.results)]
        size, copied = self._size(self.axes), f"{self.tile} * sizeof(REAL)"
        start = f"start ? start[row * {size} + {{1}}] : {tiles.cleared('{1}')}"
        lines = tiles.begin() + tiles.remembered(f"{{0}} = reset && reset[row * T] ? {tiles.cleared('{1}')} : {start};")
        lines.append("for (int64_t t = 0; t < T; t++) {")
        if self.again:
            pointers += [
                ("last", self._shape(self.axes, "B"), True),
                ("kept", f"?[B,T/{EVERY},{self.tile * self.units}]", True),
            ]
            keep = f"memcpy({self._block('t')}, {tiles.base(self.memory.old)}, {copied});"
            lines.append(f"    if (kept && t % {EVERY} == 0) {keep}")
        lines += [*indented(tiles.steps()), "}"]
        lines += tiles.remembered(f"last[row * {size} + {{1}}] = {{0}};") if self.again else []
        return self._function("forward", pointers, tiles.last, tiles.work(), lines)

    def _backward(self, tiles: Tiles, again: Tiles | None) -> tuple[str, str]:
        pointers: Pointers = [
            ("dstart", self._shape(self.axes, "B"), True),
            ("dclear", f"?{self._shape(self.axes, 'P')}", True),
        ]
        grads = [(name, shape, False) for name, shape, _ in self._handed("grad", self.results)]
        pointers += [*grads, *self._given(), ("clear", self._constant(self.axes), False)]
        if again:
            pointers += [("kept", f"[B,T/{EVERY},{self.tile * self.units}]", False)]
        else:
            pointers += [
                ("memory", self._shape(self.axes, "B,T"), False),
                ("start", self._shape(self.axes, "B"), False),
            ]
        pointers += self._handed("result", tiles.results, tiles)
        pointers += [(f"sum{k}", self._shape(one.axes, "P"), True) for k, one in enumerate(tiles.sums)]
        place = f"dstart[row * {self._size(self.axes)} + {{1}}]"
        # The gradient of the last memory is handed over where that of the first will be.
        lines = tiles.begin() + tiles.remembered(f"{{0}} = {place if again else '0'};")
        if again:
            old = again.base(self.memory.old).replace("(s + 0)", "0")
            lines += [
                *again.begin(),
                f"for (int64_t t0 = (T - 1) / {EVERY} * {EVERY}; t0 >= 0; t0 -= {EVERY}) {{",
                f"    const int64_t steps = min64({EVERY}, T - t0);",
                f"    memcpy({old}, {self._block('t0')}, {self.tile} * sizeof(REAL));",
                "    for (int64_t s = 0, t = t0; s < steps; s++, t++) {",
                *indented(indented(again.steps())),
                "    }",
                "    for (int64_t s = steps - 1, t = t0 + s; s >= 0; s--, t--) {",
                *indented(indented(tiles.steps())),
                "    }",
                "}",
            ]
        else:
            lines += ["for (int64_t t = T - 1; t >= 0; t--) {", *indented(tiles.steps()), "}"]
        lines += [*tiles.remembered(f"{place} = {{0}};"), *tiles.end()]
        return self._function("backward", pointers, tiles.last, tiles.work() + (again.work() if again else 0), lines)

    def _function(self, way: str, pointers: Pointers, own: int, work: int, lines: Sequence[str]) -> tuple[str, str]:
        """A function that runs lines for each sequence and tile."""
        name, unit, loops = f"{self.name}_{way}", "0", ["for (int64_t row = 0; row < B; row++)"]
        for k, axis in enumerate(self.cut.outer):
            loops.append(f"for (int64_t u{k} = 0; u{k} < {self.sizes[axis]}; u{k}++)")
            unit = f"({unit} * {self.sizes[axis]} + u{k})"
        loops.append(f"for (int64_t tile = 0; tile < {self.tiles}; tile++) {{")
        kinds = {one: "uint8_t" if one == "reset" else "REAL" for one, _, _ in pointers}
        arguments = ", ".join(f"int64_t {one}_" for one in kinds)
        text = [
            f"void {name}({arguments}, int64_t B, int64_t T, int64_t P, int64_t threads) {{",
            *(
                f"    {'' if written else 'const '}{kinds[one]} *{one} = PTR({kinds[one]}, {one}_);"
                for one, _, written in pointers
            ),
            "    (void)P;",
            f"#pragma omp parallel num_threads(worth({work} * B * T, {_PER_THREAD}, min64(threads, PROCESSORS)))",
            "    {",
            "        const int64_t me = THREAD;",
            "        (void)me;",
            f"        REAL *own = aligned_alloc(64, {-(-own // 16) * 16} * sizeof(REAL));",
            f"#pragma omp for collapse({len(loops)}) schedule(static) nowait",
            *(f"        {line}" for line in loops),
            f"            const int64_t unit = {unit} * {self.tiles} + tile, from = tile * {self.cut.size};",
            f"            const int64_t width = min64({self.cut.size}, {self.cut.length} - from);",
            "            (void)unit, (void)width;",
            *(f"            {line}" for line in lines),
            "        }",
            "        free(own);",
            "    }",
            "}",
        ]
        signature = f"{name} {' '.join(one + shape for one, shape, _ in pointers)} B T P"
        return signature, "\n".join(text) + "\n"

    # Arguments.

    def _shape(self, axes: Sequence[str], lead: str) -> str:
        return f"({','.join([lead, *(str(self.sizes[axis]) for axis in axes)])})"

    def _constant(self, axes: Sequence[str]) -> str:
        return f"({','.join(str(self.sizes[axis]) for axis in axes) or 1})"

    def _given(self) -> Pointers:
        found: Pointers = []
        for name, place in self.places.items():
            axes = self.body[name].type.names
            found.append(
                (place, self._shape(axes, "B,T") if name in self.region.columns else self._constant(axes), False)
            )
        return [*found, ("reset", "?:bool(B,T)", False)]

    def _handed(self, name: str, results: Sequence[Result], tiles: Tiles | None = None) -> Pointers:
        copies = [tiles.shares(one.value)[0] if tiles else 1 for one in results]
        return [
            (f"{name}{k}", self._shape(one.axes, f"{count},B,T"), True)
            for k, (one, count) in enumerate(zip(results, copies, strict=True))
        ]


def pruned(body: Graph, wanted: Sequence[str]) -> Graph:
    """What is needed of a body for some of its values."""
    needed, todo = set[str](), list(wanted)
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo += body[name].inputs
    nodes = {name: node for name, node in body.nodes.items() if name in needed or name.endswith(".old")}
    return Graph(body.name, nodes, tuple((name, name) for name in dict.fromkeys(wanted)))
