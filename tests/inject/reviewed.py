"""Faults that a person put in mind of what went unseen once, and faults that are none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """In ``file``, ``old`` (which stands there once) becomes ``new``."""

    room: str
    file: str
    what: str
    old: str
    new: str


FAULTS = (
    Fault(
        "spec",
        "ssir/spec/module.py",
        "a derived dim that is overridden is computed all the same",
        "value = overrides[name] if name in overrides else _written(module, name, dims)",
        "value = overrides[name] if name in overrides and not isinstance(given, str) else _written(module, name, dims)",
    ),
    Fault(
        "spec",
        "ssir/spec/load.py",
        "an import takes the zoo's spec before that of the folder beside",
        "    if beside is not None:\n",
        "    if beside is not None and name not in dict(zoo()):\n",
    ),
    Fault(
        "spec",
        "ssir/spec/instance.py",
        "entries of a stack that differ in constants are one",
        "                    sorted(layer.constants.items()),\n",
        "",
    ),
    Fault(
        "spec",
        "ssir/spec/instance.py",
        "entries of a stack that differ in dims are one",
        "                    sorted((k, v) for k, v in layer.dims.items() if v is not None),\n",
        "",
    ),
    Fault(
        "initialisers",
        "ssir/initial.py",
        "the fan of a map counts its outputs",
        'return math.prod(sizes[per + len(graph[user].attrs["out"]) :]), math.prod(sizes[:per])',
        "return math.prod(sizes[per:]), math.prod(sizes[:per])",
    ),
    Fault(
        "initialisers",
        "ssir/initial.py",
        "the bound of fan_in is not the root",
        "(args[0] if args else 1.0) / math.sqrt(max(draw.fan_in, 1))",
        "(args[0] if args else 1.0) / max(draw.fan_in, 1)",
    ),
    Fault(
        "passes",
        "ssir/passes/dependence.py",
        "what a stack is given depends on nothing",
        "return max(min(found[arguments[name]], Dependence.INPUT), Dependence.POSITION)",
        "return Dependence.CONSTANT",
    ),
    Fault(
        "passes",
        "ssir/passes/dependence.py",
        "the layer's input counts as a position",
        "first.name: Dependence.INPUT,",
        "first.name: Dependence.POSITION,",
    ),
    Fault(
        "kernels",
        "compilers/runtime/support.py",
        "the sign of a double backward",
        "return tuple(next(found) if choose else None for choose in chosen)",
        "return tuple(-next(found) if choose else None for choose in chosen)",
    ),
    Fault(
        "kernels",
        "plugins/state_space/kernels/invariant.py",
        "remainders of 32 and more lose what A^32 does to the state",
        "for i in range(steps.bit_length()):",
        "for i in range(min(steps.bit_length(), 5)):",
    ),
    Fault(
        "kernels",
        "plugins/state_space/kernels/invariant.py",
        "read before, a reset leaves the last document to be read",
        "            states = torch.where(reset[..., None, None], clear, states)\n",
        "",
    ),
    Fault(
        "memories",
        "compilers/runtime/memory.py",
        "read before, a reset leaves the last document to be read",
        "    return torch.where(reset.reshape(*reset.shape, *[1] * (x.dim() - 2)), cleared[:, None], moved)",
        "    return moved",
    ),
    Fault(
        "memories",
        "compilers/runtime/memory.py",
        "a reset clears to zero, not to what memory is at the start",
        "    kept = old.get(key)\n    if kept is None:\n        return initial(time, sizes, dtype, start, fill)\n    if time.reset",
        "    kept = old.get(key)\n    if kept is None:\n        return initial(time, sizes, dtype, start, fill)\n    start = None\n    if time.reset",
    ),
    Fault(
        "forms",
        "compilers/program/systems.py",
        "rotations turn back",
        'c, s = b("cos", angle), b("sin", angle)',
        'c, s = b("cos", angle), -b("sin", angle)',
    ),
    Fault(
        "native",
        "compilers/runtime/pointwise.c",
        "all threads add into the share of the first",
        "REAL *restrict share = dw ? dw + THREAD * width : NULL;",
        "REAL *restrict share = dw;",
    ),
    Fault(
        "loops",
        "compilers/loops/tiles.py",
        "all tiles write their sums where the first does",
        'at = f"({at} * {count} + ',
        'at = f"(0 * {at} * {count} + 0 * ',
    ),
    Fault(
        "native",
        "compilers/runtime/team.h",
        "threads do not wait for one another",
        "    if (team == 1) return;",
        "    if (team >= 1) return;",
    ),
    Fault(
        "step",
        "compilers/runtime/step.py",
        "two continuations of a state write the same entries",
        "        if free == n:\n",
        "        if free >= n:\n",
    ),
    Fault(
        "step",
        "compilers/runtime/body.py",
        "what somebody has put into a model is not called in a native step",
        "            if not plain((top if path in self.SHARED else self).part(path), kind):\n",
        "            if not (top if path in self.SHARED else self).part(path):\n",
    ),
    Fault(
        "loops",
        "compilers/loops/nests.py",
        "slots that are not there yet are visited",
        'return f"min64({size}, position[r] + {1 - lags[axis]})" if axis in lags else size',
        "return size",
    ),
    Fault(
        "reference",
        "ssir/reference/interpreter.py",
        "a rotation of the state turns back",
        "c, s = torch.cos(angle), torch.sin(angle)",
        "c, s = torch.cos(angle), -torch.sin(angle)",
    ),
)


@dataclass(frozen=True)
class Harmless:
    """A change that changes no behaviour: where (a part of the file's name, a function, a part of what stood there) and why."""

    file: str
    function: str
    old: str
    why: str


HARMLESS: tuple[Harmless, ...] = (
    Harmless("ssir/passes/gates.py", "", "_DEEPEST", "how deep is looked bounds time, not what is found"),
    Harmless("compilers/runtime/memory.py", "_append", "2 * max(entries, 32)", "how much room is spare"),
    Harmless("compilers/runtime/memory.py", "_append", "32", "how much room is spare"),
    Harmless("compilers/runtime/memory.py", "_push_one", "_SMALL", "which of two ways to append is quicker"),
    Harmless("plugins/convolution/kernels/fir.py", "fir", "DIRECT_TAPS", "which of two ways is quicker"),
    Harmless("compilers/runtime/memory.py", "_stride", "", "strides are at least 1 where there are entries"),
    Harmless("compilers/runtime/", "", "is_grad_enabled()", "whether memory is saved by computing again"),
    Harmless("compilers/runtime/", "worth", "", "how many threads pay"),
    Harmless("compilers/loops/tiles.py", "", "_ROOM", "how large a tile is"),
    Harmless("compilers/loops/tiles.py", "", "_LONG", "how large a tile is"),
    Harmless("compilers/loops/tiled.py", "", "_COSTLY", "what is computed again, and what again and again"),
    Harmless("", "", "65536", "how much work pays for threads"),
    Harmless("", "", "32768", "how much work pays for threads"),
    Harmless(
        "plugins/convolution/kernels/fir.py",
        "_convolve_segments",
        "clamp(min=1)",
        "documents of one step would have a bucket to themselves",
    ),
    Harmless("ssir/ir/intervals.py", "exp", "700", "above it, exp is as good as infinite"),
    Harmless(
        "ssir/ir/ops/elementwise.py",
        "power",
        "1",
        "what overflows says so by itself; this only keeps whole numbers small",
    ),
    Harmless("ssir/ir/ops/elementwise.py", "power", "math.log2(abs(a))", "the same"),
    Harmless(
        "compilers/torch/operands.py", "cleared", "mask is None", "to clear twice, or by no mask, changes nothing"
    ),
    Harmless("ssir/functions/", "", "is_unknown", "after an error only more errors are kept away"),
)


def harmless(file: str, function: str, old: str) -> str | None:
    """Why a change there changes nothing, if a person has found so."""
    for one in HARMLESS:
        if file.startswith(one.file) and function.endswith(one.function) and one.old in old:
            return one.why
    return None
