"""A loop over time as a C function.

for each block of rows (sequences), for each step: phases, one after another
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from ssir.compilers.loops.nests import Nests
from ssir.compilers.loops.phases import Product
from ssir.compilers.loops.region import Memory, Result
from ssir.compilers.loops.spelling import literal
from ssir.ir.graph import Graph


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

    @property
    def pointers(self) -> list[tuple[str, str]]:
        """Type, as C, and name of each argument that is a pointer."""
        numbers, found = range(len(self.memories)), []
        if self.backwards:
            found += [("REAL", f"{name}{k}") for k in numbers for name in ("dstart", "dclear")]
        else:
            found += [("const REAL", f"{name}{k}") for k in numbers for name in ("start", "clear")]
        found += [("const REAL", f"column{k}") for k in range(len(self.columns))]
        found += [("const REAL", f"constant{k}") for k in range(len(self.constants))]
        found += [("const uint8_t", "reset")]
        found += [("REAL", f"result{k}") for k in range(len(self.results))]
        found += [("REAL", f"kept{k}") for k in range(len(self.kept))]
        return found + [("REAL", f"sum{k}") for k in range(len(self.sums))]


@dataclass(frozen=True)
class Printed:
    """The text of a C function, and its signature as the runtime checks it."""

    text: str
    signature: str


def print_loop(loop: Loop) -> Printed:
    """The C function of a loop. Raises Unfit where the body has something that is not spelled in C."""
    return _Frame(loop).printed()


class _Frame(Nests):
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        super().__init__(loop.body, loop.memories, (), loop.columns, loop.constants, loop.results, loop.sums)

    def printed(self) -> Printed:
        return Printed(self._text(), self._signature())

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

    def _text(self) -> str:
        loop = self.loop
        arguments = loop.pointers
        lines = [
            f"void {loop.name}({', '.join(f'int64_t {name}_' for _, name in arguments)}, int64_t B, int64_t T, int64_t P, int64_t threads) {{"
        ]
        lines += [f"    {kind} *{name} = PTR({kind}, {name}_);" for kind, name in arguments]
        team = f"worth({self.work()} * min64(B, ROWS), {32768 if self.waits else 4096}, min64(threads, PROCESSORS))"
        lines += [
            "    (void)P;",
            "    int few = B * T <= FEW_STEPS;",
            f"    REAL *packed = few || {self.packed} == 0 ? NULL : aligned_alloc(64, {max(self.packed, 16)} * sizeof(REAL));",
            f"    int64_t arrived = 0, most = {team};",
            f"    REAL *shared = aligned_alloc(64, ROWS * {max(self.shared.fixed, 16)} * sizeof(REAL));",
            "#pragma omp parallel num_threads((int)most)",
            "    {",
            "        int64_t rank = THREAD, team = THREADS, round = 0;",
            f"        REAL *own = aligned_alloc(64, ROWS * {max(self.private.fixed, 16)} * sizeof(REAL));",
        ]
        for axis in dict.fromkeys(phase.partition for phase in self.phases if phase.partition):
            lines.append(
                f"        range_t part_{self.index[axis]} = part_of({self.sizes[axis]}, {self.align(axis)}, rank, team);"
            )
        lines += ["        (void)own;", "        if (packed) {"]
        for phase in self.phases:
            if isinstance(phase, Product):
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
        for i in range(len(self.phases)):
            if i in self.waits:
                lines.append("                wait_for_all(&arrived, &round, team);")
            lines += [f"                {line}" for line in self.phase_text(i)]
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

    def _pack_text(self, phase: Product) -> str:
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
                fill = literal(memory.fill)
                value = f"reset && reset[(row0 + r) * T] ? (clear{k} ? clear{k}[i] : {fill}) : start{k} ? start{k}[(row0 + r) * {size} + i] : clear{k} ? clear{k}[i] : {fill}"
            place = f"{'own' if buffer.private else 'shared'}[ROWS * {buffer.at} + r * {self.row(buffer.axes)} + i]"
            lines.append(
                f"{who}for (int64_t r = 0; r < rows; r++) for (int64_t i = 0; i < {size}; i++) {place} = {value};"
            )
        if not all(self.buffers[m.old].private for m in self.loop.memories):
            lines.append("wait_for_all(&arrived, &round, team);")
        return lines

    def handed_out(self, name: str, axes: Sequence[str], once: str = "") -> list[str]:
        """Products are handed out if they are asked for."""
        index = {axis: self.index[axis] for axis in axes}
        y = f"({self.base(name)})[r * {self.row(axes)} + {self.offset(axes, index)}]"
        size = prod(self.sizes[axis] for axis in axes)
        return [
            f"if (kept{k}{once}) kept{k}[((row0 + r) * T + t) * {size} + {self.offset(one.axes, index)}] = {y};"
            for k, one in enumerate(self.loop.kept)
            if one.value == name
        ]

    def column_at(self, k: int) -> tuple[str, str]:
        size = self._size(k)
        return f"column{k} + (row0 * T + t) * {size}", f"T * {size}"

    def given_at(self, k: int) -> str:
        return f"column{k} + ((row0 + r) * T + t) * {self._size(k)}"

    def _size(self, k: int) -> int:
        return prod(self.sizes[n] for n in self.body[self.columns[k]].type.names)

    def handed_at(self, kind: str, k: int) -> tuple[str, str]:
        one = (self.results if kind == "result" else self.sums)[k]
        size = prod(self.sizes[n] for n in one.axes)
        if kind == "result":
            return f"result{k} + ((row0 + r) * T + t) * {size}", "="
        return f"sum{k} + block * {size}", "+="

    def product_call(
        self, phase: Product, x: str, x_stride: str, y: str, y_stride: str, own: str, rows: str = "rows"
    ) -> list[str]:
        _, out, over = phase.strides
        w, packed = self._places(phase)
        behind = f"{x}, {x_stride}, {y}, {y_stride}, {phase.inner}, {own}, {rows}"
        return [
            f"if (packed) product({packed}, {behind});",
            f"else product_few({w}, {out}, {over}, {behind});",
        ]

    def _places(self, phase: Product) -> tuple[str, str]:
        """Where the matrix of a product lies, and where it lies packed, at the place along the axes that it shares with its operand."""
        index = {name: self.index[name] for name in phase.per}
        size = f"(({phase.results} + LANES - 1) / LANES * LANES * {phase.inner})"
        behind = f" + ({self.offset(phase.per, index)}) * {size}" if phase.per else ""
        return f"constant{self.constants.index(phase.matrix)}{self.along(phase)}", f"packed + {phase.packed}{behind}"

    def edges(
        self, k: int, memory: Memory, place: str, own: str, size: int, once: str
    ) -> Iterator[tuple[str, list[str]]]:
        """What becomes of a memory at a reset, and its gradient at the start: a condition, and the text for each number."""
        if self.loop.backwards:
            mine = " && rank == 0" if once else ""
            kept = f"if (dclear{k}{mine}) dclear{k}[block * {size} + {own}] += {place};"
            yield "reset && reset[(row0 + r) * T + t]", [kept, f"{place} = 0;"]
            yield "t == 0", [f"{once}dstart{k}[(row0 + r) * {size} + {own}] = {place};"]
        else:
            fill = literal(memory.fill)
            yield (
                "reset && t + 1 < T && reset[(row0 + r) * T + t + 1]",
                [f"{place} = clear{k} ? clear{k}[{own}] : {fill};"],
            )
