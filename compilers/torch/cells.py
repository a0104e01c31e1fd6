"""A region for the runtime: its steps, or those of a scan all at once, as functions in torch, its loops as functions in C, and what they take
and give."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from string import ascii_lowercase
from typing import Any

from ssir.compilers.loops.adjoint import Adjoint, adjoint, products
from ssir.compilers.loops.c import Loop, print_loop
from ssir.compilers.loops.pairs import PARTS
from ssir.compilers.loops.region import Affine, Memory, Region, Result
from ssir.compilers.loops.scans import print_scans
from ssir.compilers.loops.spelling import Unfit
from ssir.compilers.loops.tiled import Tiled, print_tiles
from ssir.compilers.loops.tiles import cut
from ssir.compilers.loops.triton import print_kernel
from ssir.compilers.torch.code import Code, Line, called, code, literal, method, text, variable
from ssir.compilers.torch.emit import Emitter, Mode, Unit
from ssir.compilers.torch.operands import TIME, scalar
from ssir.compilers.torch.program import OLD, as_kept
from ssir.compilers.torch.regions import Regions
from ssir.ir.graph import Graph, Node


@dataclass(frozen=True)
class Cell:
    """The C of a region, forwards and backwards, and its Triton, if it has one. ``digest`` tells it from others."""

    region: Region
    adjoint: Adjoint
    source: str
    signatures: tuple[str, str]
    kernels: str
    deltas: tuple[Result, ...]
    sums: tuple[Result, ...]
    digest: str


def cell(region: Region) -> Cell:
    """The loops of a region. Raises Unfit where a step or its derivative cannot be written in C."""
    back = adjoint(region)
    deltas, sums = tuple(dict.fromkeys(back.deltas.values())), tuple(dict.fromkeys(back.sums.values()))
    given = tuple(region.columns), tuple(region.constants)
    kept = tuple(_own(region, name) for name in products(region))
    taken = (*back.grads, *back.olds, *back.columns, *back.values), tuple(back.constants)
    forward = Loop("LOOP_forward", region.body, region.memories, *given, region.results, kept, (), False)
    backward = Loop("LOOP_backward", back.body, back.memories, *taken, deltas, (), sums, True)
    printed = [print_loop(loop) for loop in (forward, backward)]
    digest = hashlib.sha256("".join(one.text for one in printed).encode()).hexdigest()[:12]
    texts = [one.text.replace("LOOP_", f"loop_{digest}_") for one in printed]
    one, other = (one.signature.replace("LOOP_", f"loop_{digest}_") for one in printed)
    kernels = _kernels(lambda: "\n\n".join(map(print_kernel, (forward, backward)))).replace("LOOP_", f"loop_{digest}_")
    return Cell(region, back, '#include "loops.h"\n\n' + "\n".join(texts), (one, other), kernels, deltas, sums, digest)


@dataclass(frozen=True)
class Scanned:
    """The C of the region of a scan, and what tells it from others."""

    region: Region
    tiled: Tiled
    kernels: str
    digest: str


def scanned(region: Region) -> Scanned:
    """The scan of a region. Raises Unfit where it does not go tile by tile, or its derivative cannot be written in C."""
    places = cut(region)
    if places is None or not region.columns:
        raise Unfit("there is nothing to scan" if places else "the step runs along all axes of the memory")
    printed = print_tiles(region, places, "LOOP")
    digest = hashlib.sha256(printed.text.encode()).hexdigest()[:12]
    one, other = (signature.replace("LOOP_", f"loop_{digest}_") for signature in printed.signatures)
    text = '#include "loops.h"\n\n' + printed.text.replace("LOOP_", f"loop_{digest}_")
    kernels = _kernels(lambda: print_scans(region, places, printed, f"loop_{digest}"))
    return Scanned(region, replace(printed, text=text, signatures=(one, other)), kernels, digest)


def _kernels(printed: Callable[[], str]) -> str:
    """What is printed in Triton; nothing if it lacks something."""
    try:
        return printed()
    except Unfit:
        return ""


def loop_call(e: Emitter, node: Node) -> Code:
    """Write the call of a loop, and what it keeps; one of its results."""
    loop, about = _known(e, node), node.attrs
    region = loop.region
    if isinstance(loop, Scanned):
        name = e.unit.define(loop.digest, "SCAN", lambda name: scan_definition(loop, name, e.unit))
        kept_last, handed_out = loop.tiled.again, loop.tiled.results
    else:
        name = e.unit.define(loop.digest, "LOOP", lambda name: definition(loop, name, e.unit))
        kept_last, handed_out = False, region.results
    columns, constants, starts = _parted(node)
    column = e.function("loops", "column")
    complex = [region.body[old].type.names[-1:] == (PARTS,) for old, *_ in about["memories"]]

    def parts(pair: bool, text: Code) -> Code:
        return called(e.function("loops", "parts"), text, TIME) if pair else text

    def own_parts(name: str, text: Code) -> Code:
        return parts(e.node(name).type.dtype == "complex", text)

    pairs = list(zip(about["memories"], about["started"], complex, strict=True))
    given = (
        tuple(parts(pair, method(OLD, "get", e.key(names[0]))) for (_, _, names, _), _, pair in pairs),
        tuple(parts(pair, _tensor(e, starts.pop(0))) if started else None for _, started, pair in pairs),
        tuple(own_parts(name, called(column, _tensor(e, name), TIME, _sizes(e, name))) for name in columns),
        tuple(own_parts(name, _tensor(e, name)) for name in constants),
    )
    results = [e.fresh(f"{node.name}_{result.value.partition('/')[0]}") for result in handed_out]
    last = [e.fresh(f"{node.name}_last")] if kept_last else []
    step = e.mode == "step"
    if step:
        e.unpack([*results, *last], method(variable(name), "once", TIME, *given))
    else:
        resets = called(e.function("loops", "resets"), TIME)
        call = (
            called(e.function("newton", "solved"), variable(name), *about["newton"], resets, *given)
            if about["newton"]
            else called(variable(name), resets, *given)
        )
        e.unpack([*results, *last], call)

    def whole(axes: Sequence[str], one: ast.Name) -> ast.Name:
        return e.let(one.id, code("torch.view_as_complex({0})", one)) if axes[-1:] == (PARTS,) else one

    results = [whole(result.axes, one) for result, one in zip(handed_out, results, strict=True)]
    last = [whole(region.kept(region.memories[0]).axes, one) for one in last]
    named = dict(zip(handed_out, results, strict=True))
    for memory in region.memories:
        kept: Code = last[0] if last else named[region.kept(memory)]
        kept = kept if step or last else code("{0}[:, -1]", kept)
        for state in memory.states:
            e.remember(state, as_kept(e, state, kept))
    e.results[node.name] = results
    return results[0]


def _known(e: Emitter, node: Node) -> Cell | Scanned:
    """The loop that a node is."""
    body, about = e.graph.bodies[node.attrs["body"]], node.attrs
    if "cell" not in body.known:
        columns, constants, _ = _parted(node)
        region = Region(
            body,
            tuple(Memory(*one) for one in about["memories"]),
            dict(zip(about["columns"], columns, strict=True)),
            dict(zip(about["constants"], constants, strict=True)),
            {str(i): Result(*one) for i, one in enumerate(about["results"])},
            affine=None if about["affine"] is None else Affine(*about["affine"]),
        )
        body.known["cell"] = cell(region) if region.affine is None else scanned(region)
    found: Cell | Scanned = body.known["cell"]
    return found


def _parted(node: Node) -> tuple[list[str], list[str], list[str]]:
    """The operands of a loop: columns, constants, what memories are before the first step."""
    names = list(node.inputs)
    columns, constants = len(node.attrs["columns"]), len(node.attrs["constants"])
    return names[:columns], names[columns : columns + constants], names[columns + constants :]


def _tensor(e: Emitter, name: str) -> Code:
    """A value from around a loop, as a tensor over its own axes."""
    node = e.node(name)
    if node.op == "layer":
        return scalar(e.value(name))
    return e.tensor(name, node.type.names) if node.op == "const" else e.fitted(name, node.type.names, e.number(name))


def _sizes(e: Emitter, name: str) -> tuple[int, ...]:
    return tuple(axis.size or 0 for axis in e.node(name).type.axes)


def definition(cell: Cell, name: str, unit: Unit) -> str:
    """The text of what a module defines for a cell: two functions, and the loop, called ``name``."""
    region, body = cell.region, cell.region.body
    inputs = [*(memory.old for memory in region.memories), *region.columns, *region.constants]
    made = products(region)
    operands = [_own(region, operand) for _, operand in made.values()]
    known = body.with_nodes(node.with_(op="input", inputs=(), attrs={}) if node.name in made else node for node in body)
    step, given = f"{name.lower()}_step", f"{name.lower()}_operands"
    functions = [
        _function(unit, body, step, "step", inputs, region.results),
        _function(unit, known, given, "sequence", [*inputs, *made], operands),
    ]
    runtime = Emitter(unit, "constant")
    loop, layout = (runtime.function("loops", one).id for one in ("Loop", "Layout"))
    further = [f'"""\n{cell.kernels}"""'] if cell.kernels else []
    arguments = [_layout(cell, layout), *_native(cell.source, cell.signatures), step, given, *further]
    return _made(name, loop, arguments, functions)


def scan_definition(scan: Scanned, name: str, unit: Unit) -> str:
    """The text of what a module defines for a scan: two functions, and the scan, called ``name``."""
    region, tiled = scan.region, scan.tiled
    body, affine, (memory,) = region.body, region.affine, region.memories
    assert affine is not None
    given = [*region.columns, *region.constants]
    gates, reads = f"{name.lower()}_gates", f"{name.lower()}_reads"
    own = body[memory.old].type.names
    own = tuple(axis for axis in own if axis != PARTS)
    wanted = [Result(one, own) for one in (*affine.gate, *affine.into)]
    others = [result for result in tiled.results if result != region.kept(memory)]
    functions = [
        _function(unit, body, gates, "sequence", given, wanted),
        _function(unit, body, reads, "sequence", [memory.old, *given], others),
    ]
    runtime = Emitter(unit, "constant")
    made, tiling = (runtime.function("tiled", one).id for one in ("Scan", "Tiling"))
    further = [f'"""\n{scan.kernels}"""'] if scan.kernels else []
    given_c = _native(tiled.text, tiled.signatures)
    return _made(name, made, [_tiling(scan, tiling), *given_c, gates, reads, *further], functions)


def _native(source: str, signatures: Sequence[str]) -> list[str]:
    """C and what its functions take, as arguments."""
    return [f'"""\n{source}"""', "(\n" + "".join(f'        "{one}",\n' for one in signatures) + "    )"]


def _made(name: str, kind: str, arguments: Sequence[str], functions: Sequence[str]) -> str:
    """Functions, and what is made of them."""
    call = f"{name} = {kind}(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")"
    return "\n\n\n".join([*functions, call])


def _tiling(scan: Scanned, name: str) -> str:
    """The tiling, as Python."""
    region, tiled, (memory,) = scan.region, scan.tiled, scan.region.memories
    body, back = region.body, tiled.adjoint
    sizes = {axis.name: axis.size or 0 for node in body for axis in node.type.axes}

    def shape(result: Result) -> tuple[int, ...]:
        return tuple(sizes[axis] for axis in result.axes)

    kept = region.kept(memory)
    parts: dict[str, Any] = {
        "memory": shape(kept),
        "fill": memory.fill,
        "maximum": region.affine is not None and region.affine.maximum,
        "complex": kept.axes[-1:] == (PARTS,),
        "gates": 0 if region.affine is None else len(region.affine.gate),
        "results": tuple(map(shape, tiled.results)),
        "new": None if tiled.again else tiled.results.index(kept),
        "kept": tiled.kept,
        "deltas": tuple((shape(one), tiled.parts.get(one.value, 1)) for one in tiled.deltas),
        "sums": tuple(map(shape, tiled.sums)),
        "columns": tuple(tiled.deltas.index(back.deltas[n]) if n in back.deltas else None for n in region.columns),
        "constants": tuple(tiled.sums.index(back.sums[n]) if n in back.sums else None for n in region.constants),
    }
    return _written(name, parts)


def _written(name: str, parts: dict[str, Any]) -> str:
    """A call with these arguments."""
    lines = (f"        {key}={value!r},\n".replace("-inf", 'float("-inf")') for key, value in parts.items())
    return f"{name}(\n{''.join(lines)}    )"


def _function(unit: Unit, body: Graph, name: str, mode: Mode, inputs: Sequence[str], wanted: Iterable[Result]) -> str:
    """A function of inputs of a body, over a sequence or for a step."""
    own = Unit(body, "", {}, unit.imports, Regions(body), unit.definitions)
    own.begin(name, body)
    e = Emitter(own, mode)
    arguments = [own.constant.fresh(one) for one in inputs]
    for one, argument in zip(inputs, arguments, strict=True):
        (own.constant.names if e.is_constant(one) else e.names)[one] = argument
    found = [e.tensor(result.value, result.axes) for result in wanted]
    lines = [*own.constant.lines, *e.lines, Line(ast.Return(literal(tuple(found))))]
    given = ", ".join(f"{argument.id}: Tensor" for argument in arguments)
    return f"def {name}(time: Any, {given}) -> tuple[Tensor, ...]:\n{text(lines, '    ')}"


def _own(region: Region, name: str) -> Result:
    """A value of a body with its axes as they are."""
    return Result(name, region.body[name].type.names)


def _layout(cell: Cell, layout: str) -> str:
    """The layout, as Python."""
    region, back = cell.region, cell.adjoint
    nodes = [node for graph in (region.body, back.body) for node in graph]
    sizes = {axis.name: axis.size or 0 for node in nodes for axis in node.type.axes}

    def shape(axes: Iterable[str]) -> tuple[int, ...]:
        return tuple(sizes[name] for name in axes)

    results, made, constants = region.results, products(region), list(region.constants)
    places = {"old": [m.old for m in region.memories], "column": list(region.columns), "product": list(made)}
    taken = [("grad", results.index(result)) for result in back.grads.values()]
    for kind, names in (("old", back.olds), ("column", back.columns), ("product", back.values)):
        taken += [(kind, places[kind].index(node)) for node in names.values()]
    parts: dict[str, Any] = {
        "memories": tuple(
            (results.index(region.kept(m)), m.fill, shape(region.body[m.old].type.names)) for m in region.memories
        ),
        "results": tuple(shape(result.axes) for result in results),
        "kept": tuple(shape(region.body[name].type.names) for name in made),
        "deltas": tuple(shape(result.axes) for result in cell.deltas),
        "sums": tuple(shape(result.axes) for result in cell.sums),
        "backward": tuple(taken),
        "constant": tuple(constants.index(name) for name in back.constants.values()),
        "columns": tuple(
            cell.deltas.index(back.deltas[name]) if name in back.deltas else None for name in region.columns
        ),
        "constants": tuple(cell.sums.index(back.sums[name]) if name in back.sums else None for name in constants),
        "products": tuple(
            (constants.index(matrix), cell.deltas.index(back.deltas[node]), _equation(region, node, operand, matrix))
            for node, (matrix, operand) in made.items()
        ),
    }
    return _written(layout, parts)


def _equation(region: Region, node: str, operand: str, matrix: str) -> str | None:
    """How the gradient of a matrix is made of that of the product [B,T,...] and the operand [B,T,...], as an einsum; None: it is the
    plain product of the two over all steps."""
    one, other, result = (region.body[name].type.names for name in (node, operand, matrix))
    if one and other and result == (*one, *other):
        return None
    letters = dict(zip(dict.fromkeys((*one, *other, *result)), ascii_lowercase[2:], strict=False))
    words = ["".join(letters[axis] for axis in axes) for axes in (one, other, result)]
    return f"ab{words[0]},ab{words[1]}->{words[2]}"
