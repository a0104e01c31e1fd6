"""A loop over time as a Triton kernel: the rows of a block, all of the step in one program, which goes through the steps one after another.

Values are blocks of numbers over their own axes, [rows, *axes], each axis filled up to a power of two. Memories stay in registers from step
to step, and so do matrices that are small; larger ones are read tile by tile, and what they are multiplied by lies in scratch memory then, as
does what is read at another place than it was computed at. Axes become blocks only here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import isinf, prod
from types import MappingProxyType

from ssir.compilers.loops.c import Loop
from ssir.compilers.loops.region import Result, by_matrix
from ssir.compilers.loops.schedule import parallel_axes
from ssir.compilers.loops.spelling import VIEWS, Unfit, indented
from ssir.compilers.loops.views import looked_at
from ssir.ir.graph import Node
from ssir.ir.ops import is_elementwise
from ssir.registry import registry

SPELLED: Mapping[str, str] = {
    "neg": "(-{0})",
    "square": "({0} * {0})",
    "silu": "({0} * tl.sigmoid({0}))",
    "relu": "largest({0}, 0.0)",
    "elu": "tl.where({0} > 0, {0}, expm1(least({0}, 0.0)))",
    "reciprocal": "(1.0 / {0})",
    "detach": "{0}",
    "float32": "{0}",
    "final": "{0}",
    "real": "{0}",
    "exp": "tl.exp({0})",
    "log": "tl.log({0})",
    "sqrt": "tl.sqrt({0})",
    "rsqrt": "tl.rsqrt({0})",
    "abs": "tl.abs({0})",
    "floor": "tl.floor({0})",
    "ceil": "tl.ceil({0})",
    "sin": "tl.sin({0})",
    "cos": "tl.cos({0})",
    "tan": "(tl.sin({0}) / tl.cos({0}))",
    "sigmoid": "tl.sigmoid({0})",
    "erf": "tl.erf({0})",
    **{
        name: f"{name}({{0}})"
        for name in "expm1 log1p sign round tanh arctan logsigmoid gelu gelu_tanh softplus".split()
    },
    "add": "({0} + {1})",
    "sub": "({0} - {1})",
    "mul": "({0} * {1})",
    "div": "({0} / {1})",
    "pow": "power({0}, {1})",
    "mod": "({0} - {1} * tl.floor({0} / {1}))",
    "maximum": "largest({0}, {1})",
    "minimum": "least({0}, {1})",
    "lt": "({0} < {1}).to(REAL)",
    "le": "({0} <= {1}).to(REAL)",
    "gt": "({0} > {1}).to(REAL)",
    "ge": "({0} >= {1}).to(REAL)",
    "eq": "({0} == {1}).to(REAL)",
    "ne": "({0} != {1}).to(REAL)",
    "where": "tl.where({0} != 0, {1}, {2})",
}
"""The elementwise operations, as expressions of Triton and of ssir.compilers.runtime.elementary."""
REDUCED = {
    "sum": ("tl.sum", "0.0"),
    "dot": ("tl.sum", "0.0"),
    "mean": ("tl.sum", "0.0"),
    "max": ("tl.max", '-float("inf")'),
    "min": ("tl.min", 'float("inf")'),
}
RESIDENT = 8192
"""Numbers of matrices that stay in registers: 32 in each of 256 threads; half of that where programs share them."""
_TILE = 64
_LARGEST = 32768  # numbers of a block: 128 in each of 256 threads
_STATE = 2048  # numbers of a memory, where programs share an axis of it
_MOST = 256  # entries of an axis that programs share
_ARITHMETIC = frozenset({"add", "sub", "mul", "div"})
"""What keeps the type of a block beside a literal."""
GONE = ("if reset is not None:", "    gone = tl.load(reset + at, mask=alive, other=0) != 0")


def print_kernel(loop: Loop) -> str:
    """The Triton function of a loop. Raises Unfit where the body has something that is not spelled in Triton."""
    return Kernel(loop).text()


def _literal(value: float) -> str:
    if isinf(value):
        return 'float("inf")' if value > 0 else '-float("inf")'
    return repr(value) if value >= 0 else f"({value!r})"


def _number(value: float) -> str:
    """A number as a block: a literal would be one of float32."""
    return f"tl.full((1,), {_literal(value)}, REAL)"


def _padded(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _part(whole: str, rest: int, size: int, total: int) -> str:
    """The index along one of several axes that are one."""
    return f"({whole} // {rest} % {size})"


class Kernel:
    """``parallel``: the axes that programs may share, if not those along which nothing in the body runs; ``partial``: the values that are known
    in parts, then, one for each program; ``given``: by column and constant, where it lies, if not as the loop has it; ``local``: by column
    that lies in scratch memory, where it does."""

    value = "v"
    memory = "m"
    since, until = "0", "T"  # the steps of a program
    partial: Collection[str] = ()
    local: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self,
        loop: Loop,
        parallel: Collection[str] | None = None,
        given: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.loop, self.body = loop, loop.body
        self.given = {
            **{name: f"column{k}" for k, name in enumerate(loop.columns)},
            **{name: f"constant{k}" for k, name in enumerate(loop.constants)},
            **given,
        }
        self.sizes = {axis.name: axis.size or 0 for node in loop.body for axis in node.type.axes}
        self.index = {name: f"i{n}" for n, name in enumerate(self.sizes)}
        self.olds = {memory.old: k for k, memory in enumerate(loop.memories)}
        self.halves: dict[str, str] = {}
        self.before: list[str] = []  # the loop over time
        self.inside: list[str] = []
        self.names: dict[str, str] = {}
        self.spilled: dict[str, int] = {}
        self.scratch = 0
        self.blocks = {name: _padded(size) for name, size in self.sizes.items()}
        self.shared: str | None = None
        self.products = self._divided(parallel_axes(loop.body, loop.memories) if parallel is None else parallel)

    def _divided(self, parallel: Collection[str]) -> set[str]:
        """Give each program a part of an axis along which nothing is summed, if there is one. The products whose matrices do not stay in
        registers: all, or none."""
        products = {node.name: pair for node in self.body if (pair := by_matrix(node, self.loop.constants))}
        matrices = {matrix for matrix, _ in products.values()}
        if parallel:
            self.shared = max(sorted(parallel), key=lambda name: self.sizes[name])
            self.blocks[self.shared] = min(self.blocks[self.shared], _MOST)
            olds = [memory.old for memory in self.loop.memories]
            while max(map(self._size, olds), default=0) > _STATE and self.blocks[self.shared] > 1:
                self.blocks[self.shared] //= 2
            while self._numbers(matrices) > RESIDENT // 2 and self.blocks[self.shared] > 1:
                self.blocks[self.shared] //= 2
        if self._numbers(matrices) <= RESIDENT:
            return set()
        if self.shared is not None:
            self.blocks[self.shared], self.shared = _padded(self.sizes[self.shared]), None
        return {name for name, pair in products.items() if self._plain(*pair)}

    def _numbers(self, matrices: Iterable[str]) -> int:
        return sum(map(self._size, matrices))

    def _size(self, name: str) -> int:
        """Numbers of a block."""
        return prod(self.blocks[axis] for axis in self.body[name].type.names)

    def _plain(self, matrix: str, operand: str) -> bool:
        """Whether all axes of an operand are in its matrix, so that tiles of the two can be multiplied."""
        return set(self.body[operand].type.names) <= set(self.body[matrix].type.names)

    # The whole.

    def text(self) -> str:
        loop = self.loop
        for k, memory in enumerate(loop.memories):
            self.names[memory.old] = f"{self.memory}{k}"
        self._step()
        lines = [
            f"{loop.name}_scratch, {loop.name}_parts = {self.scratch}, {self._parts()}",
            "",
            "",
            "@triton.jit",
            f"def {loop.name}({', '.join([*self._arguments(), *self._rows()])}, scratch, B, T, L, ROWS: tl.constexpr, REAL: tl.constexpr):",
        ]
        head = [*self._head(), "alive = rows < B"]
        for name, block in self.blocks.items():
            begin = f"tl.program_id(1) * {block} + " if name == self.shared else ""
            head.append(f"{self.index[name]} = {begin}tl.arange(0, {block})")
        if self.scratch:
            head.append(f"place = scratch + own * {self.scratch}")
        head += [*self.before, *self._begin(), *self._steps(), *self._after()]
        return "\n".join([*lines, *indented(head)]) + "\n"

    def _head(self) -> list[str]:
        """The sequences of a program, and where it has a place of its own."""
        return [
            "block = tl.program_id(0)",
            "rows = (block * ROWS + tl.arange(0, ROWS)).to(tl.int64)",
            "own = rows",
        ]

    def _arguments(self) -> list[str]:
        return [name for _, name in self.loop.pointers]

    def _rows(self) -> list[str]:
        """How far apart the rows of each column lie, in numbers."""
        return [f"{name}_row" for name in self._arguments() if name.startswith("column")]

    def _parts(self) -> int:
        """How many programs share the axis."""
        return 1 if self.shared is None else -(-self.sizes[self.shared] // self.blocks[self.shared])

    def _steps(self) -> list[str]:
        """The loop over time."""
        backwards = self.loop.backwards
        step = [f"t = {self.until} - 1 - s" if backwards else f"t = {self.since} + s", "at = rows * T + t"]
        if self.scratch:
            step.append("tl.debug_barrier()")
        step += [*([] if backwards else self._clear()), *self.inside, *self._end()]
        return [f"for s in range({self.until} - {self.since}):", *indented(step)]

    def _begin(self) -> list[str]:
        """Memories and sums as they are before the first step."""
        lines = []
        for k, memory in enumerate(self.loop.memories):
            axes = self.body[memory.old].type.names
            if self.loop.backwards:
                lines += [f"m{k} = {self._full(axes, '0.0')}", f"dc{k} = {self._full(axes, '0.0')}"]
                continue
            lines += [
                *self._cleared(k, axes, memory.fill),
                f"m{k} = c{k}",
                f"if start{k} is not None:",
                f"    m{k} = {self._load(f'start{k}', axes, 'rows')}",
            ]
        return lines + [f"z{k} = {self._full(one.axes, '0.0', 1)}" for k, one in enumerate(self.loop.sums)]

    def _cleared(self, k: int, axes: Sequence[str], fill: float) -> list[str]:
        """What a memory is after a reset."""
        return [
            f"c{k} = {self._full(axes, _literal(fill))}",
            f"if clear{k} is not None:",
            f"    c{k} = tl.broadcast_to({self._load(f'clear{k}', axes, None)}, {self._shape(axes)})",
        ]

    def _clear(self) -> list[str]:
        """What memories are at a reset."""
        lines = list(GONE)
        for k, memory in enumerate(self.loop.memories):
            gone = self._lead("gone", len(self.body[memory.old].type.axes))
            lines.append(f"    m{k} = tl.where({gone}, c{k}, m{k})")
        return lines

    def _end(self) -> list[str]:
        """What a step hands on."""
        lines = []
        for k, one in enumerate(self.loop.results):
            lines.append(self._put(self._share(f"result{k}", one, "B * T"), one))
        for k, one in enumerate(self.loop.kept):
            lines += [f"if kept{k} is not None:", f"    {self._put(f'kept{k}', one)}"]
        for k, one in enumerate(self.loop.sums):
            alive, value = self._lead("alive", len(one.axes)), self._whole(one.value, one.axes)
            lines.append(f"z{k} += tl.sum(tl.where({alive}, {value}, 0.0), axis=0, keep_dims=True)")
        news = [self._whole(memory.new, self.body[memory.old].type.names) for memory in self.loop.memories]
        lines += [f"n{k} = {new}" for k, new in enumerate(news)]
        lines += [f"m{k} = n{k}" for k in range(len(news))]
        if self.loop.backwards:
            lines += GONE
            for k, memory in enumerate(self.loop.memories):
                gone = self._lead("gone", len(self.body[memory.old].type.axes))
                lines += [f"    if dclear{k} is not None:", f"        dc{k} += tl.where({gone}, m{k}, 0.0)"]
                lines.append(f"    m{k} = tl.where({gone}, 0.0, m{k})")
        return lines

    def _after(self) -> list[str]:
        """What is handed out after the last step."""
        lines = []
        if self.loop.backwards:
            for k, memory in enumerate(self.loop.memories):
                axes = self.body[memory.old].type.names
                size, alive = prod(self.sizes[n] for n in axes), self._lead("alive", len(axes))
                lines += [
                    self._store(f"dstart{k}", f"m{k}", axes, "own"),
                    f"if dclear{k} is not None:",
                    f"    dc{k} = tl.sum(tl.where({alive}, dc{k}, 0.0), axis=0, keep_dims=True)",
                    f"    {self._store(f'dclear{k} + block * {size}', f'dc{k}', axes, None)}",
                ]
        for k, one in enumerate(self.loop.sums):
            size = prod(self.sizes[n] for n in one.axes)
            lines.append(
                self._store(self._share(f"sum{k} + block * {size}", one, "tl.num_programs(0)"), f"z{k}", one.axes, None)
            )
        return lines

    def _share(self, where: str, one: Result, count: str) -> str:
        """Where a program hands out its share of something that is known in parts, ``count`` times over its axes in each of them."""
        size = prod(self.sizes[n] for n in one.axes)
        return f"{where} + tl.program_id(1).to(tl.int64) * ({count} * {size})" if one.value in self.partial else where

    def _put(self, where: str, one: Result) -> str:
        return self._store(where, self._whole(one.value, one.axes), one.axes, "at")

    # Blocks and places.

    def _shape(self, axes: Sequence[str], rows: str = "ROWS") -> str:
        if prod(self.blocks[name] for name in axes) > _LARGEST:
            raise Unfit(f"a value over {', '.join(axes)} does not fit the registers of a GPU")
        sizes = ", ".join([rows, *(str(self.blocks[name]) for name in axes)])
        return f"({sizes})" if axes else f"({sizes},)"

    def _full(self, axes: Sequence[str], value: str, rows: object = "ROWS") -> str:
        return f"tl.full({self._shape(axes, str(rows))}, {value}, REAL)"

    def _lead(self, name: str, rank: int) -> str:
        """A value of each row, beside values of so many axes."""
        return f"{name}[{', '.join([':'] + ['None'] * rank)}]" if rank else name

    def _own(self, axis: str, axes: Sequence[str]) -> str:
        """The index along an axis, as a block over axes."""
        return f"{self.index[axis]}[{', '.join(['None', *(':' if name == axis else 'None' for name in axes)])}]"

    def _indices(self, axes: Sequence[str]) -> dict[str, str]:
        return {axis: self._own(axis, axes) for axis in axes}

    def _inside(self, axes: Sequence[str]) -> list[str]:
        """Where a block is more than filling."""
        return [
            f"({self._own(axis, axes)} < {size})" for axis in axes if (size := self.sizes[axis]) % self.blocks[axis]
        ]

    def _offset(self, own: Sequence[str], index: Mapping[str, str]) -> str:
        stride, parts = 1, []
        for axis in reversed(own):
            parts.append(index[axis] if stride == 1 else f"{index[axis]} * {stride}")
            stride *= self.sizes[axis]
        return " + ".join(reversed(parts))

    def _place(
        self, base: str, own: Sequence[str], axes: Sequence[str], index: Mapping[str, str], lead: str | None
    ) -> str:
        """Pointers to the entries of something over ``own`` axes, as a block over ``axes``; ``lead``: the number of the row that it has."""
        parts = [base, self._offset(own, index)]
        if lead is not None:
            row = f"{base}_row" if base.startswith("column") else prod(self.sizes[name] for name in own)
            parts.insert(1, self._lead(f"({lead} * {row})", len(axes)))
        found = " + ".join(part for part in parts if part)
        return found if lead or axes else f"{found} + tl.zeros((1,), tl.int32)"

    def _scratch(self, at: int | str, own: Sequence[str], axes: Sequence[str], index: Mapping[str, str]) -> str:
        """Pointers into scratch memory."""
        return " + ".join(part for part in (self._lead("place", len(axes)), self._offset(own, index), str(at)) if part)

    def _masked(self, axes: Sequence[str], lead: str | None, also: Sequence[str] = ()) -> str | None:
        parts = [*([] if lead is None else [self._lead("alive", len(axes))]), *self._inside(axes), *also]
        return " & ".join(parts) or None

    def _load(self, base: str, axes: Sequence[str], lead: str | None) -> str:
        place, mask = self._place(base, axes, axes, self._indices(axes), lead), self._masked(axes, lead)
        return f"tl.load({place}, mask={mask}, other=0.0).to(REAL)" if mask else f"tl.load({place}).to(REAL)"

    def _store(self, base: str, value: str, axes: Sequence[str], lead: str | None) -> str:
        place, mask = self._place(base, axes, axes, self._indices(axes), lead), self._masked(axes, lead)
        return f"tl.store({place}, {value}, mask={mask})" if mask else f"tl.store({place}, {value})"

    # Values.

    def _step(self) -> None:
        """Compute all values; products of large matrices together, when nothing else is left to do."""
        todo, done = list(self.body), set[str]()
        while todo:
            ready = [node for node in todo if all(one in done for one in node.inputs)]
            small = [node for node in ready if node.name not in self.products]
            for node in small:
                self._value(node)
            if not small:
                self._tiles(ready)
            done |= {node.name for node in small or ready}
            todo = [node for node in todo if node.name not in done]

    def _value(self, node: Node) -> None:
        """Compute a node."""
        if node.name in self.olds or node.op in ("const", "arange"):
            return
        name, axes = f"{self.value}{len(self.names)}", node.type.names
        if node.op == "input":
            if node.name in self.loop.constants:
                users = [one for one in self.body if node.name in one.inputs]
                if any(one.name not in self.products for one in users):
                    load = self._load(self.given[node.name], axes, None)
                    self.before.append(f"{name} = tl.broadcast_to({load}, {self._shape(axes, '1')})")
                    self.names[node.name] = name
                return
            load = self._kept(node.name) if node.name in self.local else self._load(self.given[node.name], axes, "at")
            self.inside.append(f"{name} = {load}")
        elif node.op == "rename":
            self.names[node.name] = self._register(node.inputs[0])
            return
        else:
            self.inside.append(f"{name} = {self._computed(node)}")
        self.names[node.name] = name

    def _register(self, name: str) -> str:
        """A value as a block over its axes, in order."""
        if name not in self.names:
            node = self.body[name]
            if node.op == "const":
                return _number(node.attrs["value"])
            assert node.op == "arange", "values are computed before they are used"
            return f"{self._own(node.attrs['axis'], node.type.names)}.to(REAL)"
        return self.names[name]

    def _fit(self, name: str, wanted: Sequence[str]) -> str:
        """A value as a block over other axes, of size 1 where it has none."""
        own, text = self.body[name].type.names, self._register(name)
        order = [own.index(axis) for axis in wanted if axis in own]
        if order != sorted(order):
            text = f"tl.permute({text}, ({', '.join(map(str, [0, *(i + 1 for i in order)]))}))"
        if set(wanted) - set(own):
            text += f"[{', '.join([':', *(':' if axis in own else 'None' for axis in wanted)])}]"
        return text

    def _whole(self, name: str, axes: Sequence[str]) -> str:
        return f"tl.broadcast_to({self._fit(name, axes)}, {self._shape(axes)})"

    def _computed(self, node: Node) -> str:
        axes = node.type.names
        if is_elementwise(node.op):
            return self._elementwise(node)
        if node.op in REDUCED:
            return self._reduced(node)
        match node.op:
            case "expand":
                rows = "ROWS" if self._varies(node.name) else "1"
                return f"tl.broadcast_to({self._fit(node.inputs[0], axes)}, {self._shape(axes, rows)})"
            case "concat":
                at, start, parts = node.attrs["axis"], 0, []
                for one, own in zip(node.inputs, node.attrs["axes"], strict=True):
                    size, here = self.sizes[own], self._own(at, axes)
                    index = {**self._indices(axes), own: f"({here} - {start})"}
                    parts.append(self._at(one, axes, index, [f"({here} >= {start})", f"({here} < {start + size})"]))
                    start += size
                return " + ".join(parts)
            case "pack" if self._is_pair(node.attrs["axis"], axes):
                rows = "ROWS" if self._varies(node.name) else "1"
                shape = self._shape(axes[:-1], rows)
                both = (f"tl.broadcast_to({self._fit(one, axes[:-1])}, {shape})" for one in node.inputs)
                return f"tl.join({', '.join(both)})"
            case "pack":
                here, index = self._own(node.attrs["axis"], axes), self._indices(axes)
                return " + ".join(self._at(one, axes, index, [f"({here} == {k})"]) for k, one in enumerate(node.inputs))
        if (half := self._half(node)) is not None:
            return half
        if node.op in VIEWS:
            return self._at(node.name, axes, self._indices(axes), [])
        raise Unfit(f"`{node.op}` is not spelled in Triton")

    def _is_pair(self, axis: str, axes: Sequence[str]) -> bool:
        """Whether two halves of a value lie side by side along its last axis."""
        return axes[-1] == axis and self.sizes[axis] == self.blocks[axis] == 2

    def _half(self, node: Node) -> str | None:
        """One of two halves of a value that is in registers, if a node is that."""
        if node.op != "select":
            return None
        whole, index = (self.body[name] for name in node.inputs)
        apart = index.op == "const" and self._is_pair(node.attrs["axis"], whole.type.names)
        if not apart or (whole.op == "input" and whole.name not in self.olds):
            return None
        if whole.name not in self.halves:
            self.halves[whole.name] = f"half{len(self.halves)}"
            first, second = (f"{self.value}{self.halves[whole.name]}_{k}" for k in (0, 1))
            self.inside.append(f"{first}, {second} = tl.split({self._register(whole.name)})")
        return f"{self.value}{self.halves[whole.name]}_{int(index.attrs['value'])}"

    def _varies(self, name: str) -> bool:
        """Whether a value has a row for each sequence: it is no constant's, and no number's."""
        node = self.body[name]
        if node.op == "input":
            return name not in self.loop.constants
        return any(map(self._varies, node.inputs))

    def _elementwise(self, node: Node) -> str:
        written = node.op in _ARITHMETIC and any(self.body[name].op != "const" for name in node.inputs)
        texts = [
            _literal(one.attrs["value"]) if written and one.op == "const" else self._fit(one.name, node.type.names)
            for one in map(self.body.__getitem__, node.inputs)
        ]
        if node.op == "clamp":
            text = texts[0]
            for bound, function in ((node.attrs["low"], "largest"), (node.attrs["high"], "least")):
                text = text if bound is None else f"{function}({text}, {_number(bound)})"
            return text
        spelled = SPELLED.get(node.op) or getattr(registry.get("op", node.op), "triton", None)
        if spelled is None:
            raise Unfit(f"`{node.op}` is not spelled in Triton")
        return spelled.format(*texts)

    def _reduced(self, node: Node) -> str:
        over = tuple(node.attrs["over"])
        whole = (*node.type.names, *over)
        text = " * ".join(self._fit(name, whole) for name in node.inputs)
        function, start = REDUCED[node.op]
        rows = "ROWS" if self._varies(node.name) else "1"
        text = f"tl.broadcast_to({text}, {self._shape(whole, rows)})"
        short = [axis for axis in over if self.sizes[axis] != self.blocks[axis]]
        if short:
            mask = " & ".join(f"({self._own(axis, whole)} < {self.sizes[axis]})" for axis in short)
            text = f"tl.where({mask}, {text}, {start})"
        for _ in over:
            text = f"{function}({text}, axis={len(node.type.names) + 1})"
        return f"{text} * {1.0 / prod(self.sizes[a] for a in over)!r}" if node.op == "mean" else text

    # What is read at another place.

    def _at(self, name: str, axes: Sequence[str], index: Mapping[str, str], where: Sequence[str]) -> str:
        """A value at an index, as a block over axes; zero elsewhere than ``where``."""
        node = self.body[name]
        if node.op == "const":
            return self._chosen(_number(node.attrs["value"]), where)
        if node.op == "arange":
            return self._chosen(f"{index[node.attrs['axis']]}.to(REAL)", where)
        if node.op in VIEWS:
            return self._at(node.inputs[0], axes, looked_at(self.body, node, index, self._offset, _part), where)
        own = node.type.names
        if name in self.loop.constants:
            place, lead = self._place(self.given[name], own, axes, index, None), None
        elif name in self.loop.columns:
            place, lead = self._column(name, own, axes, index)
        else:
            place, lead = self._scratch(self._spill(name), own, axes, index), "place"
        mask = self._masked(axes, lead, where)
        return f"tl.load({place}, mask={mask}, other=0.0).to(REAL)" if mask else f"tl.load({place}).to(REAL)"

    def _column(self, name: str, own: Sequence[str], axes: Sequence[str], index: Mapping[str, str]) -> tuple[str, str]:
        """Pointers to the entries of a column in this step, and the number of the row that it has."""
        if name in self.local:
            return self._scratch(self.local[name], own, axes, index), "place"
        return self._place(self.given[name], own, axes, index, "at"), "at"

    def _kept(self, name: str) -> str:
        """A column that lies in scratch memory, as a block."""
        axes = self.body[name].type.names
        place, mask = self._scratch(self.local[name], axes, axes, self._indices(axes)), self._masked(axes, "place")
        return f"tl.load({place}, mask={mask}, other=0.0)"

    def _chosen(self, value: str, where: Sequence[str]) -> str:
        return f"tl.where({' & '.join(where)}, {value}, 0.0)" if where else value

    def _room(self, name: str) -> int:
        """A place in scratch memory for a value."""
        at = self.scratch
        self.scratch += prod(self.sizes[axis] for axis in self.body[name].type.names)
        return at

    def _spill(self, name: str, wait: bool = True) -> int:
        """Where a value lies in scratch memory, for this step."""
        if name not in self.spilled:
            self.spilled[name] = self._room(name)
            axes = self.body[name].type.names
            place = self._scratch(self.spilled[name], axes, axes, self._indices(axes))
            self.inside.append(f"tl.store({place}, {self._whole(name, axes)}, mask={self._masked(axes, 'place')})")
            if wait:
                self.inside.append("tl.debug_barrier()")
        return self.spilled[name]

    # Products, tile by tile.

    def _tiles(self, nodes: Sequence[Node]) -> None:
        """Products with constant matrices, their operands and results in scratch memory."""
        pairs = [(node, *(by_matrix(node, self.loop.constants) or ("", ""))) for node in nodes]
        sources = [self._source(operand) for _, _, operand in pairs]
        fresh = {leaf for leaf, _ in sources if leaf not in self.spilled}
        for leaf in dict.fromkeys(leaf for leaf, _ in sources):
            self._spill(leaf, wait=False)
        if fresh:
            self.inside.append("tl.debug_barrier()")
        rooms = {node.name: self._room(node.name) for node in nodes}
        for (node, matrix, _), (leaf, names) in zip(pairs, sources, strict=True):
            self._product(node, matrix, leaf, names, rooms[node.name])
        self.inside.append("tl.debug_barrier()")
        for node in nodes:
            name, axes = f"{self.value}{len(self.names)}", node.type.names
            place = self._scratch(rooms[node.name], axes, axes, self._indices(axes))
            self.inside.append(f"{name} = tl.load({place}, mask={self._masked(axes, 'place')}, other=0.0)")
            self.names[node.name] = name
            self.spilled[node.name] = rooms[node.name]

    def _source(self, name: str) -> tuple[str, dict[str, str]]:
        """What lies in scratch memory for an operand, and how its axes are called there, by those of the operand."""
        node, names = self.body[name], {axis: axis for axis in self.body[name].type.names}
        while node.op == "rename":
            back = {new: old for old, new in node.attrs["axes"]}
            names = {axis: back.get(at, at) for axis, at in names.items()}
            node = self.body[node.inputs[0]]
        return node.name, names

    def _product(self, node: Node, matrix: str, leaf: str, names: Mapping[str, str], at: int) -> None:
        own, given, over = self.body[matrix].type.names, names.keys(), tuple(node.attrs["over"])
        kept = tuple(name for name in own if name not in over)
        results, inner = (prod(self.sizes[name] for name in group) for group in (kept, over))
        outs, ins = min(_TILE, _padded(results)), f"{_TILE} // ROWS"  # as many numbers, however many rows

        def apart(axes: Sequence[str], flat: str) -> dict[str, str]:
            found, rest = {}, 1
            for axis in reversed(axes):
                found[axis] = flat if len(axes) == 1 else _part(flat, rest, self.sizes[axis], 0)
                rest *= self.sizes[axis]
            return found

        index = apart(kept, "o[None, :, None]") | apart(over, "i[None, None, :]")
        leaves = self.body[leaf].type.names
        x_index = {names[axis]: index[axis] for axis in given}
        x = self._scratch(self.spilled[leaf], leaves, ("o", "i"), x_index)
        there, reach = f"(o[None, :, None] < {results})", f"(i[None, None, :] < {inner})"
        y = self._scratch(at, node.type.names, ("o",), apart(kept, "o[None, :]"))
        self.inside += [
            f"for first in range(0, {results}, {outs}):",
            f"    o = first + tl.arange(0, {outs})",
            f"    total = tl.zeros((ROWS, {outs}, {ins}), REAL)",
            f"    for begin in range(0, {inner}, {ins}):",
            f"        i = begin + tl.arange(0, {ins})",
            f"        w = tl.load({self.given[matrix]} + {self._offset(own, index)}, mask={there} & {reach}, other=0.0).to(REAL)",
            f"        x = tl.load({x}, mask={self._lead('alive', 2)} & {there} & {reach}, other=0.0)",
            "        total += w * x",
            f"    tl.store({y}, tl.sum(total, axis=2), mask={self._lead('alive', 1)} & (o[None, :] < {results}))",
        ]
