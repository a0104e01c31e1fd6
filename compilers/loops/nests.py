"""The text of phases in C. What stands around them, and where what they are given lies, is said by the frame that prints them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import NamedTuple

from ssir.compilers.loops.phases import Lags, Layers, Nest, Product, Solve, lags_of
from ssir.compilers.loops.region import Memory
from ssir.compilers.loops.schedule import MANY, Schedule
from ssir.compilers.loops.spelling import REDUCED, VIEWS, literal, spelled
from ssir.compilers.loops.views import looked_at
from ssir.ir.graph import Node

_RUN = 256
_LOCAL = 128
_SOME = 16  # entries of a whole sequence that a matrix is read once for


class _Part(NamedTuple):
    """An index that is part of another: whole / rest % size, where the whole goes up to ``total``."""

    whole: str
    rest: int
    size: int
    total: int


class Nests(Schedule):
    """A schedule, and the text of its phases. Around them stand loops over ``r``, a row."""

    names: dict[str, str]
    pointers: dict[str, str]
    parts: dict[str, _Part]

    def schedule(self) -> None:
        self.parts = {}
        super().schedule()

    # Said by the frame.

    @abstractmethod
    def column_at(self, k: int) -> tuple[str, str]:
        """Where the first row of a column begins, and the numbers from row to row."""

    @abstractmethod
    def given_at(self, k: int) -> str:
        """The pointer to what a column is in a row."""

    @abstractmethod
    def handed_at(self, kind: str, k: int) -> tuple[str, str]:
        """The pointer to which a row of a result, or sum, is written, and the sign that does it."""

    @abstractmethod
    def product_call(
        self, phase: Product, x: str, x_stride: str, y: str, y_stride: str, own: str, rows: str = "rows"
    ) -> list[str]:
        """The call of a product with a matrix for so many rows."""

    def handed_out(self, name: str, axes: Sequence[str], once: str = "") -> list[str]:
        """What else becomes of a product or sum, whose buffer has these axes: text inside loops over them."""
        return []

    def edges(
        self, k: int, memory: Memory, place: str, own: str, size: int, once: str
    ) -> Iterable[tuple[str, list[str]]]:
        """What becomes of a memory at the edges of time: a condition, and the text for each number."""
        return ()

    def base(self, name: str, old: bool = True) -> str:
        """The pointer to the first row of a buffer."""
        buffer = self.buffers[name]
        half = ""
        if buffer.twice:
            half = f" + {'odd' if old else '(1 - odd)'} * ROWS * {self.row(buffer.axes)}"
        return f"{'own' if buffer.private else 'shared'} + ROWS * {buffer.at}{half}"

    def row_at(self, name: str) -> str:
        """The pointer to a row of a buffer."""
        return f"{self.base(name)} + r * {self.row_of(name)}"

    def row_of(self, name: str) -> str:
        """The numbers from row to row of a buffer."""
        return self.row(self.buffers[name].axes)

    def phase_text(self, i: int) -> list[str]:
        phase = self.phases[i]
        if isinstance(phase, Nest):
            return self.nest_text(i, phase)
        if isinstance(phase, Product):
            return self.product_text(phase)
        return self._solve_text(phase) if isinstance(phase, Solve) else self.layers_text(phase)

    def _solve_text(self, phase: Solve) -> list[str]:
        a, b, y, work = (
            f"{self.base(one)} + r * {self.row_of(one)}" for one in (phase.matrix, phase.right, phase.node, phase.place)
        )
        return [f"for (int64_t r = 0; r < rows; r++) solve({a}, {b}, {y}, {work}, {phase.size}, {phase.columns});"]

    def layers_text(self, phase: Layers) -> list[str]:
        """The calls of the layers of a stack."""
        raise NotImplementedError

    # Products.

    def along(self, phase: Product) -> str:
        """The offset into the matrix of a product along the axes that it shares with its operand."""
        return "".join(f" + {self.index[n]} * {stride}" for n, stride in zip(phase.per, phase.strides[0], strict=True))

    def product_text(self, phase: Product) -> list[str]:
        results, inner = phase.results, phase.inner
        x, x_stride = self._operand(phase.operand)
        y_at = ""
        index = {n: self.index[n] for n in phase.per}
        shared = [n for n in phase.per if n in self.axes_of(phase.operand)] if phase.chosen else phase.per
        if shared:
            x = f"{x} + ({self.offset(shared, index)}) * {inner}"
        if phase.per:
            y_at = f" + ({self.offset(phase.per, index)}) * {results}"
        own = f"(range_t){{0, {results}}}"
        if phase.partition in phase.out:
            part, behind = f"part_{self.index[phase.partition or '']}", results // self.sizes[phase.out[0]]
            own = part if behind == 1 else f"(range_t){{{part}.from * {behind}, {part}.to * {behind}}}"
        y = f"{self.base(phase.node)}{y_at}"
        if phase.chosen is not None:
            return self.looped(phase.per, phase.partition, self._chosen_text(phase, x, x_stride, y, own))
        if phase.along:
            entries = inner * prod(self.sizes[n] for n in shared), results * prod(self.sizes[n] for n in phase.per)
            x = f"{x} + r * {x_stride} + t * {entries[0]}"
            y = f"{y} + r * {self.row(phase.axes)} + t * {entries[1]}"
            some = f"min64({_SOME}, length - t)"
            call = self.product_call(phase, x, str(entries[0]), y, str(entries[1]), own, some)
            lines = [
                "for (int64_t r = 0; r < rows; r++)",
                f"    for (int64_t t = 0; t < length; t += {_SOME}) {{",
                *(f"        {line}" for line in call),
                "    }",
            ]
        else:
            lines = self.product_call(phase, x, x_stride, y, self.row(phase.axes), own)
        kept = self.handed_out(phase.node, phase.axes)
        copied = ["for (int64_t r = 0; r < rows; r++) {", *self.looped(phase.axes, phase.partition, kept), "}"]
        return [*self.looped(phase.per, phase.partition, lines), *(copied if kept else [])]

    def _chosen_text(self, phase: Product, x: str, x_stride: str, y: str, own: str) -> list[str]:
        """Row by row, for each chooses by itself."""
        assert phase.chosen is not None
        row = self.row(phase.axes)
        at = f"({self.base(phase.chosen)})[r * {self.row_of(phase.chosen)} + {self.index[phase.per[0]]}]"
        call = self.product_call(phase, f"{x} + r * {x_stride}", x_stride, "to", row, "own_part", "1")
        return [
            "for (int64_t r = 0; r < rows; r++) {",
            f"    const range_t own_part = {own};",
            f"    REAL *to = {y} + r * {row};",
            f"    if ({at} == 0) {{ for (int64_t i = own_part.from; i < own_part.to; i++) to[i] = 0; continue; }}",
            *(f"    {line}" for line in call),
            "}",
        ]

    def _operand(self, name: str) -> tuple[str, str]:
        """Pointer to the first row of a value that lies in one piece, and the numbers from row to row."""
        if name in self.buffers:
            return self.base(name), self.row_of(name)
        return self.column_at(self.columns.index(name))

    # Loops.

    def looped(
        self,
        axes: Sequence[str],
        partition: str | None,
        lines: Sequence[str],
        pragma: str = "",
        lags: Lags = (),
    ) -> list[str]:
        """Lines inside loops over axes."""
        found, depth = [], 0
        for n, axis in enumerate(axes):
            i = self.index[axis]
            low, high = (f"part_{i}.from", f"part_{i}.to") if axis == partition else ("0", self._end(axis, dict(lags)))
            if pragma and n == len(axes) - 1:
                found.append("    " * depth + pragma)
            found.append("    " * depth + f"for (int64_t {i} = {low}; {i} < {high}; {i}++) {{")
            depth += 1
        found += ["    " * depth + line for line in lines]
        found += ["    " * (len(axes) - 1 - d) + "}" for d in range(len(axes))]
        return found

    def _end(self, axis: str, lags: Mapping[str, int]) -> str:
        """How far a loop over an axis goes: over the slots that are there."""
        size = self.reach(axis) if axis in self.dynamic else str(self.sizes[axis])
        return f"min64({size}, position[r] + {1 - lags[axis]})" if axis in lags else size

    def reach(self, axis: str) -> str:
        """How far an axis without a size goes in this step."""
        return self.entries() if axis in self.growing else "length"

    def entries(self) -> str:
        """How many entries registers that grow may have in this step."""
        raise NotImplementedError

    def offset(self, axes: Sequence[str], index: Mapping[str, str], sizes: Mapping[str, int] | None = None) -> str:
        """Where something stands among values over these axes, of other ``sizes`` than those of loops."""
        parts: list[str] = []
        sizes = self.sizes if sizes is None else sizes
        end = len(axes)
        while end > 0:
            place, first = self._run(axes[:end], index)
            stride = prod(sizes[other] for other in axes[end:] if other not in self.dynamic)
            words = [place] if stride == 1 else [place, str(stride)]
            long = ["room" if other in self.growing else "length" for other in axes[end:] if other in self.dynamic]
            parts.insert(0, " * ".join([*words, *long]))
            end = first
        return " + ".join(parts) or "0"

    def given_offset(self, axes: Sequence[str], index: Mapping[str, str]) -> str:
        """Where something stands in a row of what is given."""
        return self.offset(axes, index)

    def _run(self, axes: Sequence[str], index: Mapping[str, str]) -> tuple[str, int]:
        """The place along the last of these axes, and as many before it as are parts of one index; and how many are left."""
        first = len(axes) - 1
        last = self.parts.get(index[axes[first]])
        if last is None:
            return index[axes[first]], first
        covered = last.size
        while first > 0:
            part = self.parts.get(index[axes[first - 1]])
            if part is None or part.whole != last.whole or part.rest != last.rest * covered:
                break
            covered, first = covered * part.size, first - 1
        place = last.whole if last.rest == 1 else f"{last.whole} / {last.rest}"
        if last.rest * covered < last.total:
            return f"({place} % {covered})", first
        return place if last.rest == 1 else f"({place})", first

    def nest_text(self, i: int, phase: Nest) -> list[str]:
        self.names, self.pointers, self.parts = {}, {}, {}
        index = {name: self.index[name] for name in phase.axes}
        fast = self._fastest(phase)
        inner: list[str] = []
        sums: list[tuple[str, str]] = []
        inside, local = fast in phase.over, self._is_local(phase, fast)
        run = self._is_run(phase, fast)
        for name in phase.nodes:
            if self.sums_up(name):
                start, grown = REDUCED[self.body[name].op]
                place = f"{self._pointer(name)}[{self.offset(self.axes_of(name), index)}]"
                sums.append((place, start))
                variable = f"s{len(sums) - 1}" if inside else place
                variable = f"s{len(sums) - 1}[{self.index[fast or '']}]" if local else variable
                if run:
                    inner.append(f"{variable}[{self.index[fast or '']}] = {self._summand(self.body[name], index, i)};")
                    continue
                inner.append(f"{variable} = {grown.format(variable, self._summand(self.body[name], index, i))};")
                continue
            if name in self.copies:
                value = self.ref(self.copies[name], index, i)
            else:
                value = self._computed(self.body[name], index, i)
            variable = f"v{len(self.names)}"
            self.names[name] = variable
            inner.append(f"const REAL {variable} = {value};")
            if name in self.buffers:
                inner.append(f"{self._pointer(name)}[{self.offset(self.axes_of(name), index)}] = {variable};")
        after: list[str] = []
        for kind, name in self.stores.get(i, []):
            found, behind = self._store(kind, name, index, i, phase)
            inner += found
            after += behind
        lines = [*self.pointers.values(), *self._loops(phase, fast, run, inner, sums), *after]
        return ["for (int64_t r = 0; r < rows; r++) {", *(f"    {line}" for line in lines), "}"]

    def _loops(
        self, phase: Nest, fast: str | None, run: bool, inner: list[str], sums: list[tuple[str, str]]
    ) -> list[str]:
        """The loops of a nest around what is computed inside; sums, as place and start, stay in variables where the fastest loop runs over
        them (``run``: as terms), or is short, and else where they end up."""
        lags, partition = phase.lags, phase.partition
        if not phase.over:
            axes = [*(axis for axis in phase.axes if axis != fast), *([] if fast is None else [fast])]
            return self.looped(axes, partition, inner, "#pragma omp simd", lags)
        summed = [name for name in phase.nodes if self.sums_up(name)]
        mine = " && rank == 0" if partition is None else ""
        closed = [line for name in summed for line in self.handed_out(name, self.axes_of(name), mine)]
        added = all(REDUCED[self.body[name].op][1] == REDUCED["sum"][1] for name in summed)
        if run:
            assert fast is not None
            opened = [f"REAL s{n}[{self.sizes[fast]}];" for n in range(len(sums))]
            whole = self.looped([fast], None, inner, "#pragma omp simd", lags)
            ended = [f"{place} = sum_run(s{n}, {self.sizes[fast]});" for n, (place, _) in enumerate(sums)]
            return self.looped(phase.kept, partition, [*opened, *whole, *ended, *closed], lags=lags)
        if fast in phase.over:
            over = [*(axis for axis in phase.over if axis != fast), fast]
            clause = f" reduction(+:{','.join(f's{n}' for n in range(len(sums)))})" if sums else ""
            whole = self.looped(over, None, inner, f"#pragma omp simd{clause}" if added else "", lags)
            opened = [f"REAL s{n} = {start};" for n, (_, start) in enumerate(sums)]
            ended = [f"{place} = s{n};" for n, (place, _) in enumerate(sums)]
            return self.looped(phase.kept, partition, [*opened, *whole, *ended, *closed], lags=lags)
        assert fast is not None
        kept = [axis for axis in phase.kept if axis != fast]
        local, at, opened, ended = self._is_local(phase, fast), self.index[fast], list[str](), list[str]()
        if local:
            opened = [f"REAL s{n}[{self.sizes[fast]}];" for n in range(len(sums))]
            ended = [f"{place} = s{n}[{at}];" for n, (place, _) in enumerate(sums)]
        begun = [f"{f's{n}[{at}]' if local else place} = {start};" for n, (place, start) in enumerate(sums)]
        start = self.looped([fast], partition, begun, lags=lags)
        whole = self.looped([*phase.over, fast], partition, inner, "#pragma omp simd", lags)
        end = self.looped([fast], partition, [*ended, *closed], lags=lags) if ended or closed else []
        return self.looped(kept, partition, [*opened, *start, *whole, *end], lags=lags)

    # The fastest loop.

    def _is_run(self, phase: Nest, fast: str | None) -> bool:
        """Whether sums run over one short axis: compilers add up the lanes of a vector one after another, which takes longer than the
        rest; so the terms are written down and added up by hand."""
        if phase.over != (fast,) or not 1 < self.sizes[fast or ""] <= _RUN or fast in dict(phase.lags):
            return False
        return all(REDUCED[self.body[name].op][1] == REDUCED["sum"][1] for name in phase.nodes if self.sums_up(name))

    def _is_local(self, phase: Nest, fast: str | None) -> bool:
        """Whether sums along a short axis stay in registers while what they sum runs: compilers keep them there if nothing else can be where
        they end up."""
        if fast is None or not phase.over or fast in phase.over or fast in dict(phase.lags) or fast in self.dynamic:
            return False
        return fast != phase.partition and self.sizes[fast] <= _LOCAL

    def _fastest(self, phase: Nest) -> str | None:
        """The axis along which most of what a nest reads and writes lies in one piece."""
        weights = dict.fromkeys(reversed(phase.axes), 0)
        # Of a whole sequence nobody knows how long it is; but every value is read as often.
        alike = not (self.dynamic - self.growing).isdisjoint(phase.axes)
        for name in phase.nodes:
            own = name if self.sums_up(name) or name in self.buffers else None
            inputs = [self.copies[name]] if name in self.copies else self.body[name].inputs
            for one in dict.fromkeys([*inputs, *([own] if own else [])]):
                axis = self._unit(one)
                if axis in weights and (one == own or one not in phase.nodes):
                    weights[axis] += 1 if alike else self._read_size(one)
        return max(weights, key=lambda axis: weights[axis]) if weights else None

    def _read_size(self, name: str) -> int:
        node = self.body[self.copies.get(name, name)]
        return prod(self.sizes[axis] or MANY for axis in node.type.names)

    def _unit(self, name: str) -> str | None:
        """The axis of a value along which it lies in one piece."""
        if name in self.copies:
            return self.copy_axes[name][-1] if self.copy_axes[name] else None
        node = self.body[name]
        if node.op not in VIEWS:
            axes = self.axes_of(name)
            return axes[-1] if axes and node.op not in ("const", "arange") else None
        unit = self._unit(node.inputs[0])
        match node.op:
            case "rename":
                return dict(node.attrs["axes"]).get(unit, unit)
            case "split" if unit == node.attrs["axis"]:
                last: str = node.attrs["into"][-1][0]
                return last
            case "merge" if unit in node.attrs["axes"]:
                return node.attrs["out"] if unit == node.attrs["axes"][-1] else None
            case "slice" if unit == node.attrs["axis"]:
                return node.attrs["out"]  # type: ignore[no-any-return]
            case "select" if unit == node.attrs["axis"]:
                return None
        return unit

    # Values.

    def _pointer(self, name: str) -> str:
        """The variable that points at the row of a buffer, for the value of this step."""
        key = f"p{len(self.pointers)}"
        known = next((p for p, line in self.pointers.items() if line.endswith(f"/* {name} */")), None)
        if known is not None:
            return known
        kind = "const REAL" if self.is_given(name) else "REAL"
        self.pointers[key] = f"{kind} *{key} = {self.row_at(name)}; /* {name} */"
        return key

    def is_given(self, name: str) -> bool:
        """Whether a buffer is somebody else's, to be read only."""
        return False

    def ref(self, name: str, index: Mapping[str, str], i: int) -> str:
        """The expression of a value at an index."""
        node = self.body[name]
        if node.op == "const":
            return literal(node.attrs["value"])
        if node.op == "arange":
            return f"(REAL){index[node.attrs['axis']]}"
        if node.op in VIEWS:
            return self.ref(node.inputs[0], looked_at(self.body, node, index, self.offset, self._part), i)
        if name in self.names and all(index[axis] == self.index[axis] for axis in node.type.names):
            return self.names[name]
        if name in self.constants:
            return self.constant_at(name, index)
        if name in self.columns:
            k = self.columns.index(name)
            key = f"x{k}"
            kind = "int64_t" if node.type.dtype == "int" else "REAL"
            self.pointers[key] = f"const {kind} *{key} = {self.given_at(k)};"
            value = f"{key}[{self.given_offset(node.type.names, index)}]"
            return f"(REAL){value}" if kind == "int64_t" else value
        axes = self.buffers[name].axes
        turned = self._turned(name)
        if turned is not None:
            newest = self.newest(name) if name in self.rooms else str(self.sizes[turned] - 1)
            index = {**index, turned: f"({newest} - {index[turned]})"}
        return f"{self._pointer(name)}[{self.offset(axes, index)}]"

    def constant_at(self, name: str, index: Mapping[str, str]) -> str:
        """The expression of a constant at an index."""
        return f"constant{self.constants.index(name)}[{self.offset(self.body[name].type.names, index)}]"

    def _turned(self, name: str) -> str | None:
        """The axis along which a register lies, oldest entry first."""
        if name in self.rooms:
            return self.rooms[name].axis
        return self.memories[self.olds[name]].slots if name in self.olds else None

    def behind(self, name: str) -> str:
        """The place behind the entries of a register with room for more."""
        raise NotImplementedError

    def newest(self, name: str) -> str:
        """The place of the newest entry that is read of it."""
        lag = self.rooms[name].lag
        return f"({self.behind(name)} - {lag})" if lag else self.behind(name)

    def _part(self, whole: str, rest: int, size: int, total: int) -> str:
        """The index along one of several axes that are one."""
        found = f"({whole} / {rest} % {size})"
        self.parts[found] = _Part(whole, rest, size, total)
        return found

    def _computed(self, node: Node, index: Mapping[str, str], i: int) -> str:
        match node.op:
            case "clamp":
                value = self.ref(node.inputs[0], index, i)
                for bound, function in ((node.attrs["low"], "maximum_"), (node.attrs["high"], "minimum_")):
                    value = value if bound is None else f"{function}({value}, {literal(bound)})"
                return value
            case "embed":
                tokens, table = node.inputs
                axis, *rest = self.body[table].type.names
                out = {name: index[new] for name, new in zip(rest, node.attrs["out"], strict=True)}
                at = f"entry({self.ref(tokens, index, i)}, {self.sizes[axis]}, &step->fault)"
                return self.ref(table, {axis: at, **out}, i)
            case "pack":
                at = index[node.attrs["axis"]]
                values = [self.ref(one, index, i) for one in node.inputs]
                return _choice([(f"{at} == {k}", value) for k, value in enumerate(values)])
            case "concat":
                at, start, cases = index[node.attrs["axis"]], 0, []
                for one, own in zip(node.inputs, node.attrs["axes"], strict=True):
                    inside = {axis: index[axis] for axis in self.body[one].type.names if axis != own}
                    size = self.sizes[own]
                    # Where it is not chosen, an index that stays inside.
                    inside[own] = f"min64({size - 1}, {at} < {start} ? 0 : {at} - {start})"
                    start += size
                    cases.append((f"{at} < {start}", self.ref(one, inside, i)))
                return _choice(cases)
        text = spelled(node.op)
        assert text is not None, "the schedule takes nothing that has no spelling"
        return text.format(*(self.ref(one, index, i) for one in node.inputs))

    def _summand(self, node: Node, index: Mapping[str, str], i: int) -> str:
        value = " * ".join(self.ref(one, index, i) for one in node.inputs)
        if node.op != "mean":
            return value
        over, lags = node.attrs["over"], dict(lags_of(self.body, node))
        count = prod(self.sizes[n] for n in over if n not in lags and n not in self.dynamic)
        there = [f" / {self._end(n, lags)}" for n in over if n in lags or n in self.dynamic]
        return f"{value} * (REAL)(1.0 / {count}{''.join(there)})"

    def _store(
        self, kind: str, name: str, index: Mapping[str, str], i: int, phase: Nest
    ) -> tuple[list[str], list[str]]:
        """What hands a value on: inside the loops, and after them."""
        node = self.body[name]
        value = self.names.get(self._handed(name)) or self.ref(name, index, i)
        size = prod(self.sizes[n] for n in node.type.names)
        once = "if (rank == 0) " if phase.partition is None else ""
        if kind in ("result", "sum"):
            lines = []
            for k, one in enumerate(self.results if kind == "result" else self.sums):
                if one.value == name:
                    key = f"{'y' if kind == 'result' else 'z'}{k}"
                    base, sign = self.handed_at(kind, k)
                    self.pointers[key] = f"REAL *{key} = {base};"
                    lines.append(f"{once}{key}[{self.offset(one.axes, index)}] {sign} {value};")
            return lines, []
        if kind == "room":
            return [
                line
                for room in self.rooms.values()
                if room.entering == name
                for line in self._enter_room(room.slots, index, value, once)
            ], []
        inner, after = [], []
        for k, memory in enumerate(self.memories):
            if memory.new != name:
                continue
            buffer, target = self.buffers[memory.old], f"m{k}"
            self.pointers[target] = f"REAL *{target} = {self.base(memory.old, False)} + r * {self.row_of(memory.old)};"
            turned = index
            if memory.slots is not None:
                turned = {**index, memory.slots: f"({self.sizes[memory.slots] - 1} - {index[memory.slots]})"}
            own = self.offset(buffer.axes, turned)
            inner.append(f"{once if self.kept_apart(memory.old) else ''}{target}[{own}] = {value};")
            for condition, text in self.edges(k, memory, f"{target}[{own}]", own, size, once):
                after += [
                    f"if ({condition}) {{",
                    *(f"    {x}" for x in self.looped(phase.axes, phase.partition, text)),
                    "}",
                ]
        return inner, after

    def _enter_room(self, slots: str, index: Mapping[str, str], value: str, once: str) -> list[str]:
        """The new entry of a register, behind those that are there."""
        at = self.offset(self.buffers[slots].axes, {**index, self.rooms[slots].axis: self.behind(slots)})
        return [f"{once}{self._pointer(slots)}[{at}] = {value};"]


def _choice(cases: Sequence[tuple[str, str]]) -> str:
    *some, (_, last) = cases
    text = last
    for condition, value in reversed(some):
        text = f"({condition} ? {value} : {text})"
    return text
