"""A model as C: model.c and model.h, its weights in one file, and a Makefile.

The step is that of the native step (ssir.compilers.step); what only parameters decide is computed here, once, and written down.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from math import prod
from pathlib import Path
from string import Template

import torch
from torch import Tensor

from ssir.api import to_torch
from ssir.compilers.loops.spelling import Unfit
from ssir.compilers.runtime.body import Body, Run
from ssir.compilers.runtime.clock import Time
from ssir.compilers.runtime.model import Model
from ssir.compilers.runtime.step import plain
from ssir.compilers.step.c import GROUP, Kept, Root, Step, Value, print_step
from ssir.errors import UsageError
from ssir.files import written
from ssir.spec.load import Spec

_HEADERS = ("common.h", "team.h", "functions.h", "products.h", "step.h")
_ALIGNED = 64
_NARROW = re.compile(r"#ifdef INT8\n.*\n#endif", re.DOTALL)  # the last part of a header
_RESERVED = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long main register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while step_t member_t vec".split()
)


class Program:
    """A model to be written as C. ``model``: the same in torch, with the weights that will be written."""

    def __init__(self, model: Model) -> None:
        self.model, self.plan, self.spec, self.device = model, model.plan, model.spec, model.device

    def save(self, directory: str | os.PathLike[str], force: bool = False, int8: bool = False) -> Path:
        """Write model.c, model.h, NAME.weights and a Makefile, all or nothing. int8: matrices as whole numbers of 8 bits, groups of 32 with a
        scale. Raises UsageError if the folder is there already (unless ``force``), or if the step cannot be written as C."""
        with written(directory, force, "model.c", "C program of SSIR") as made:
            texts, weights = _written(self.model, int8)
            for name, text in texts.items():
                (made / name).write_text(text, "utf-8")
            with (made / f"{_name(self.spec)}.weights").open("wb") as file:
                file.writelines(weights)
        return Path(directory)


def to_c(
    spec: Spec, device: str | torch.device | None = None, dtype: torch.dtype = torch.float32, **options: object
) -> Program:
    """The backend `c`. Raises UsageError if the step of the spec cannot be written as C."""
    if dtype not in (torch.float32, torch.float64):
        raise UsageError("a C program computes in float32 or float64")
    if torch.device(device or "cpu").type != "cpu":
        raise UsageError("a C program runs on the CPU")
    program = Program(to_torch(spec, "cpu", dtype, **options))  # type: ignore[arg-type]
    _step(program.model, False)
    return program


def _step(model: Model, int8: bool) -> Step:
    try:
        if not model.has_step:
            raise Unfit("`context` reads the whole sequence")
        return print_step(model.graph, _name(model.spec), int8)
    except Unfit as reason:
        raise UsageError(f"`{model.spec.name}` cannot be written as C: {reason}") from None


def _name(spec: Spec) -> str:
    """The name of a spec as C takes it."""
    name = re.sub(r"\W", "_", spec.name, flags=re.ASCII)
    return f"{name}_model" if name in _RESERVED or not name or name[0].isdigit() else name


# Weights.


class _File:
    """Bytes that are written one after another, each piece at a multiple of 64."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = [bytes(_ALIGNED)]
        self.size = _ALIGNED
        self.known: dict[tuple[int, torch.Size, torch.dtype, bool], int] = {}
        self.alive: list[Tensor] = []

    def add(self, x: Tensor, narrow: bool = False) -> int:
        """The place of a tensor; one that is there already is not written again."""
        key = (x.data_ptr(), x.shape, x.dtype, narrow)
        if key not in self.known or not x.numel():
            self.known[key] = self.size
            self.alive.append(x)  # so that its address stays its own
            self._append(_narrow(x) if narrow else x.numpy().tobytes())
        return self.known[key]

    def _append(self, data: bytes) -> None:
        self.pieces.append(data + bytes(-len(data) % _ALIGNED))
        self.size += len(self.pieces[-1])


def _narrow(x: Tensor) -> bytes:
    """A matrix [results, operands] as whole numbers of 8 bits, then a scale for each group."""
    groups = x.reshape(-1, GROUP)
    scale = groups.abs().amax(1) / 127
    whole = (groups / torch.where(scale > 0, scale, 1)[:, None]).round().to(torch.int8)
    data = whole.numpy().tobytes()
    return data + bytes(-len(data) % _ALIGNED) + scale.numpy().tobytes()


def _bodies(body: Body, step: Step, run: Run, where: str) -> Iterable[tuple[Kept, Body, Run]]:
    """What is kept of each graph, with the module and the call that give its constants, in the order of the functions."""
    kept = step.kept[where]
    yield kept, body, run
    for path in kept.stacks:
        for i, kind, layer in body.layers(path):
            assert isinstance(layer, Body)
            yield from _bodies(layer, step, run.inside(path, i), f"{where}{kind}/")


# Texts.


def _written(model: Model, int8: bool) -> tuple[dict[str, str], list[bytes]]:
    """The texts by name, and the pieces of the file of weights."""
    step, name = _step(model, int8), _name(model.spec)
    file = _File()
    constants: list[int] = []
    memories: list[int] = []
    initial: list[Tensor] = []
    rooms: list[tuple[int, int, int]] = []
    wholes: list[tuple[int, int]] = []
    with torch.no_grad():
        start = model.initial_state(1)
        run = Run(model, Time(1, None, None, None, model.dtype, model.device), {}, {}, True, None)
        for kept, body, call in _bodies(model, step, run, ""):
            for x, narrow in zip(body._natives(call), kept.narrow, strict=True):
                constants.append(file.add(plain(x, model.dtype), narrow is not None))
            for states, sizes in kept.memories:
                memories.append(prod(sizes))
                initial.append(plain(start[call.at + states[0]], model.dtype).flatten())
            wholes += kept.wholes
            for state, group, sizes in kept.rooms:
                entries = plain(start[call.at + state], model.dtype)
                rooms.append((group, prod(sizes), file.add(entries) if bool(entries.any()) else -1))
        initial_at = file.add(torch.cat(initial) if initial else torch.zeros(0))
    values: dict[str, object] = {
        "constants": len(constants),
        "memories": len(memories),
        "numbers": sum(memories),
        "registers": len(rooms),
        "groups": len(step.groups),
        "constant_at": _list(constants),
        "memory_size": _list(memories),
        "register_group": _list(group for group, _, _ in rooms),
        "register_size": _list(size for _, size, _ in rooms),
        "register_at": _list(at for _, _, at in rooms),
        "group_size": _list(size or 0 for size in step.groups),
        "initial_at": initial_at,
        "file_size": file.size,
        "growing": f"model->room[{step.groups.index(None)}]" if None in step.groups else "0",
        "wholes": len(wholes),
        "whole_numbers": _list(numbers for numbers, _ in wholes),
        "whole_axes": _list(axes for _, axes in wholes),
        "team": step.step.team,
        "shared": step.step.scratch[0],
        "own": step.step.scratch[1],
        "root": step.step.name,
        "int8": "#define INT8\n" if int8 else "",
    }
    values |= _names(model, step, name)
    if step.whole is not None:
        values |= _whole_names(step.whole, name)
        values |= {"declared": _filled("whole.h", values), "decided": _filled("whole.c", values)}
    digest = hashlib.sha256((step.text + repr(sorted(values.items()))).encode()).hexdigest()[:32]
    signature = f"SSIR {digest}"
    values["signature"] = signature
    file.pieces[0] = signature.encode().ljust(_ALIGNED, b"\0")
    texts = {
        "model.h": _filled("model.h", values),
        "model.c": "\n".join(
            [
                _preamble(values),
                *(_header(one, int8) for one in _HEADERS),
                step.text,
                _filled("context.c", values),
                _filled("main.c", values),
            ]
        ),
        "Makefile": _filled("Makefile.txt", values),
    }
    return texts, file.pieces


def _list(numbers: Iterable[int]) -> str:
    found = list(map(str, numbers)) or ["0"]
    lines = [", ".join(found[i : i + 16]) for i in range(0, len(found), 16)]
    return ",\n    ".join(lines)


def _preamble(values: dict[str, object]) -> str:
    return Template(
        "/* $title\n\n$about\n\nWritten by SSIR. Build it with make, or: cc -std=c11 -O3 -march=native -fopenmp -DMAIN model.c -o $name -lm\n*/\n"
        '#define _POSIX_C_SOURCE 200809L\n${int8}#define REAL $real\n#include "model.h"\n'
        "#include <fcntl.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <sys/mman.h>\n#include <sys/stat.h>\n#include <unistd.h>\n"
        "#ifdef _OPENMP\n#define MOST_THREADS omp_get_max_threads()\n#else\n"
        '#define MOST_THREADS 1\n#pragma GCC diagnostic ignored "-Wunknown-pragmas"\n#endif\n'
    ).substitute(values)


def _header(name: str, int8: bool = True) -> str:
    """The text of a header of the kernels, without what keeps it from being read twice."""
    text = files("ssir.compilers.runtime").joinpath(name).read_text("utf-8")
    text = re.sub(r"#ifndef \w+_H\n#define \w+_H\n", "", text)
    text = re.sub(r'#include "[^"]*"\n', "", text).rstrip().removesuffix("#endif").rstrip()
    return f"{text}\n" if int8 else f"{_NARROW.sub('', text)}\n"


def _filled(name: str, values: dict[str, object]) -> str:
    return Template(files("ssir.compilers.c").joinpath(name).read_text("utf-8")).substitute(values)


def _names(model: Model, step: Step, name: str) -> dict[str, object]:
    """What the texts say of inputs and outputs."""
    inputs, outputs = step.step.inputs, step.step.outputs
    ins = [_own(one, f"in{k}") for k, one in enumerate(inputs)]
    outs = [_own(one, f"out{k}") for k, one in enumerate(outputs)]
    arguments = [f"const {_c(one)} *{own}" for one, own in zip(inputs, ins, strict=True)]
    arguments += [f"{_c(one)} *{own}" for one, own in zip(outputs, outs, strict=True)]
    shapes = [
        f"   {own}: [rows][{one.numbers}]"
        for one, own in (*zip(inputs, ins, strict=True), *zip(outputs, outs, strict=True))
    ]
    tokens = len(inputs) == len(outputs) == 1 and inputs[0].numbers == 1 and inputs[0].type.endswith("int64_t")
    mine = [*(f"in{k}" for k in range(len(inputs))), *(f"out{k}" for k in range(len(outputs)))]
    taken = list(zip(inputs, mine, strict=False))
    both = list(zip((*inputs, *outputs), mine, strict=True))
    title = f"{name}: {model.spec.title}" if getattr(model.spec, "title", "") else name
    return {
        **dict.fromkeys(("declared", "decided", "whole_reads", "whole_read", "lines", "unread", "unread_said"), ""),
        "name": name,
        "guard": name.upper(),
        "title": title,
        "about": _about(model),
        "rows": 8,
        "real": "double" if model.dtype == torch.float64 else "float",
        "arguments": ", ".join(arguments).replace("REAL", f"{name}_real"),
        "shapes": "\n".join(shapes),
        "given": ", ".join([*ins, *outs]),
        "buffers": "\n".join(
            f"    {_c(one)} now_{own}[ROWS * {one.numbers}];" for one, own in zip(inputs, ins, strict=True)
        ),
        "gathered": "\n".join(
            f"        for (int64_t r = 0; r < rows; r++) memcpy(now_{own} + r * {one.numbers}, {own} + (r * steps + t) * {one.numbers}, {one.numbers} * sizeof *{own});"
            for one, own in zip(inputs, ins, strict=True)
        ),
        "passed": ", ".join([*(f"now_{own}" for own in ins), *outs]),
        "reads": ", ".join(f"{one.name} ({one.numbers})" for one in inputs),
        "writes": ", ".join(f"{one.name} ({one.numbers})" for one in outputs),
        "output_sizes": ", ".join(str(one.numbers) for one in outputs),
        "tokens": int(tokens),
        "token": "in0[0]" if tokens else "0",
        "feed": "in0[0] = likeliest;" if tokens else "",
        "locals": "\n".join(f"    {_c(one)} *{own} = calloc({one.numbers}, sizeof *{own});" for one, own in both),
        "allocated": " && ".join(own for _, own in both),
        "read": "\n".join(_read(one, own) for one, own in taken),
        "call": ", ".join(mine),
        "write": "\n".join(
            f'            for (int64_t i = 0; i < {one.numbers}; i++) printf("%.9g ", (double){own}[i]);'
            for one, own in both[len(inputs) :]
        ),
        "freed": f"    {', '.join(f'free({own})' for _, own in both)};",
    }


def _whole_names(root: Root, name: str) -> dict[str, object]:
    """What the texts say of whole sequences."""
    own = [_own(one, f"whole{k}") for k, one in enumerate(root.inputs)]
    arguments = [f"const {_c(one)} *{its}" for one, its in zip(root.inputs, own, strict=True)]
    lines = (f"{one.name} ({one.numbers} for each entry)" for one in root.inputs)
    both = list(enumerate(root.inputs))
    return {
        "whole_team": root.team,
        "whole_shared": root.scratch[0],
        "whole_own": root.scratch[1],
        "whole_root": root.name,
        "whole_given": ", ".join(own),
        "whole_arguments": ", ".join(arguments).replace("REAL", f"{name}_real"),
        "whole_shapes": "\n".join(
            f"   {its}: [rows][length][{one.numbers}]" for one, its in zip(root.inputs, own, strict=True)
        ),
        "whole_reads": f'    "First whole sequences, a line each: {", ".join(lines)}.\\n"\n',
        "lines": "".join(_line(kind) for kind in dict.fromkeys(_c(one) for one in root.inputs)),
        "unread_said": ", -3 if no whole sequence was read",
        "unread": "    if (!model->length) return -3;\n",
        "whole_read": "\n".join(
            [
                *(
                    f"    int64_t length{k}; {_c(one)} *line{k} = {'whole' if 'int64' in one.type else 'real'}_line(&length{k});"
                    for k, one in both
                ),
                f"    int wrong = {' || '.join(f'!line{k} || length{k} != {one.numbers} * (length0 / {root.inputs[0].numbers})' for k, one in both)};",
                f"    wrong = wrong ? -3 : {name}_read(model, length0 / {root.inputs[0].numbers}, {', '.join(f'line{k}' for k, _ in both)});",
                *(f"    free(line{k});" for k, _ in both),
                f'    if (wrong) return fprintf(stderr, "{name}: the first lines: %s\\n", wrong == -1 ? "a token that is not in its table" : wrong == -2 ? "no memory" : "not the numbers of whole sequences of one length"), 1;',
            ]
        ),
    }


def _line(kind: str) -> str:
    """The function that reads numbers up to the end of a line."""
    word, convert = ("whole", "strtoll(from, &to, 10)") if kind == "int64_t" else ("real", "(REAL)strtod(from, &to)")
    return Template(
        "\n/* The numbers of a line; NULL if there are none, or anything else. */\n"
        "static $kind *${word}_line(int64_t *count) {\n"
        "    char *text = NULL, *from, *to;\n"
        "    size_t size = 0;\n"
        "    *count = 0;\n"
        "    if (getline(&text, &size, stdin) < 0) return free(text), NULL;\n"
        "    $kind *found = malloc(sizeof *found * (strlen(text) / 2 + 1));\n"
        "    for (from = text; found; from = to) {\n"
        "        $kind number = $convert;\n"
        "        if (from == to) break;\n"
        "        found[(*count)++] = number;\n"
        "    }\n"
        '    int ended = from[strspn(from, " \\t\\r\\n")] == 0;\n'
        "    free(text);\n"
        "    if (!ended || !*count) return free(found), NULL;\n"
        "    return found;\n"
        "}\n"
    ).substitute(kind=kind, word=word, convert=convert)


def _about(model: Model) -> str:
    plan = model.plan
    grows = f"; it grows by {plan.growth} bytes a step" if plan.growth else ""
    return f"{plan.parameters} parameters, {plan.state_bytes} bytes of state for a sequence{grows}."


def _own(one: Value, other: str) -> str:
    """The name of an argument: its own, unless the program uses that itself."""
    fits = re.fullmatch(r"[A-Za-z]\w*", one.name, re.ASCII) and one.name not in _taken()
    return one.name if fits else other


@cache
def _taken() -> frozenset[str]:
    texts = [*map(_header, _HEADERS), files("ssir.compilers.c").joinpath("context.c").read_text("utf-8")]
    return _RESERVED.union(*(re.findall(r"\w+", text) for text in texts))


def _c(one: Value) -> str:
    return one.type.removeprefix("const ")


def _read(one: Value, own: str) -> str:
    if one.type.endswith("int64_t"):
        text = f'long long number; ended |= scanf("%lld", &number) != 1; {own}[i] = ended ? 0 : number;'
    else:
        text = f'double number; ended |= scanf("%lf", &number) != 1; {own}[i] = ended ? 0 : (REAL)number;'
    return f"        for (int64_t i = 0; i < {one.numbers} && !ended; i++) {{ {text} }}"
