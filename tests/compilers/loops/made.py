"""Loops of cycles that a test writes down, and the same steps by the operations of the reference."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ssir import passes
from ssir.compilers.loops import diagonal
from ssir.compilers.loops.region import Memory, Region, region
from ssir.compilers.runtime.loops import Loop
from ssir.compilers.runtime.tiled import Scan
from ssir.compilers.torch.cells import Scanned, cell, definition, scan_definition, scanned
from ssir.compilers.torch.emit import Unit
from ssir.compilers.torch.regions import Regions
from ssir.ir.builder import GraphBuilder
from ssir.ir.graph import Axis, Dependence, Graph, Type
from ssir.ir.ops import operation
from ssir.reference.ops import Step, evaluate

from ...small import component

LSTM = """
i: sigmoid(xi + linear(m, n, init=normal(1)))
f: sigmoid(xf + linear(m, n, init=normal(1)))
g: tanh(xg + linear(m, n, init=normal(1)))
o: sigmoid(xo + linear(m, n, init=normal(1)))
c: {state: [n], A: f, B: i, input: g}
h: o * tanh(c)
m: delay(h)
y: h + c
"""
GRU = """
r: sigmoid(xr + linear(m, n, init=normal(1)))
z: sigmoid(xz + linear(m, n, init=normal(1)))
g: tanh(xg + r * linear(m, n, bias=true, init=normal(1)))
h: {state: [n], A: z, B: 1 - z, input: g}
m: delay(h)
y: h + 0
"""


@cache
def graph(text: str, inputs: str, dims: str) -> Graph:
    """What the passes make of it."""
    return passes.run(component(text, inputs, dims).graph)


@cache
def made(text: str, inputs: str, dims: str) -> tuple[Region, Loop]:
    """The loop of the only cycle of a component."""
    whole = graph(text, inputs, dims)
    (cycle,) = whole.cycles
    found = region(whole, cycle, whole.seen_outside(cycle))
    return found, loop(found)


def loop(region: Region) -> Loop:
    """The loop of a region, as a model's module defines it."""
    made: Loop = _executed("LOOP", region.body, lambda unit: definition(cell(region), "LOOP", unit))
    return made


@cache
def made_scan(text: str, inputs: str, dims: str, readout: bool) -> tuple[Scanned, Scan]:
    """The scan of the only memory of a component."""
    whole = graph(text, inputs, dims)
    (node,) = whole.states
    found = scanned(diagonal.scan(whole, node, readout))
    made: Scan = _executed("SCAN", found.region.body, lambda unit: scan_definition(found, "SCAN", unit))
    return found, made


def _executed(name: str, body: Graph, write: Callable[[Unit], str]) -> Any:
    """What a module calls by this name."""
    imports: dict[str, dict[str, str]] = {}
    written = write(Unit(body, "", {}, imports, Regions(body), {}))
    lines = [
        f"from ssir.compilers.runtime.{module} import {own} as {here}"
        for module, names in imports.items()
        for here, own in names.items()
    ]
    head = "import torch\nimport torch.nn.functional as F\nfrom torch import Tensor\nfrom typing import Any\n"
    scope: dict[str, Any] = {}
    exec(head + "\n".join(lines) + "\n" + written, scope)  # noqa: S102 - the text of a module
    return scope[name]


@cache
def function(op: str, positive: bool = False) -> tuple[Region, Loop]:
    """The loop y = op(a, ...), each operand made of a column of its own and of y before."""
    b, axes = GraphBuilder("one"), (Axis("n", 5),)
    count = len(operation(op).operands)
    old = b.input("y.old", Type(axes, dependence=Dependence.STATE))
    columns = [b.input(f"x{i}", Type(axes, dependence=Dependence.INPUT)) for i in range(count)]
    operands = [0.3 * x + 0.1 * old for x in columns]
    operands = [0.5 + a * a for a in operands] if positive else operands
    given: dict[str, Any] = {"low": -0.2, "high": 0.3} if op == "clamp" else {}
    if op == "where":
        operands[0] = operands[0] > 0
    y = b(op, *operands, **given)
    y = b("where", y, 1.0, -0.5) if y.type.dtype == "bool" else y
    y = 0.3 * y + 0.1 * old
    body = b.graph([("y", y)])
    memory = Memory("y.old", y.name, ("y",))
    names = {x.name: x.name for x in columns}
    found = Region(body, (memory,), names, {}, {})
    return found, loop(found)


def steps(
    region: Region, values: Mapping[str, Tensor], starts: list[Tensor], clears: list[Tensor], reset: Tensor | None
) -> list[Tensor]:
    """The results of a region, one step after another, by the operations of the reference: columns [B,T,*axes], constants [*axes]."""
    batch, time = values[next(iter(region.columns))].shape[:2]
    olds, found = starts, []
    for t in range(time):
        if reset is not None:
            olds = [
                torch.where(reset[:, t].view(-1, *[1] * clear.dim()), clear, old)
                for clear, old in zip(clears, olds, strict=True)
            ]
        known = {memory.old: old for memory, old in zip(region.memories, olds, strict=True)}
        known |= {name: values[name][:, t] for name in region.columns}
        known |= {name: values[name][None] for name in region.constants}
        moment = Step(torch.full((batch,), t), 0, olds[0].dtype, torch.ones(batch, 1, dtype=torch.bool))
        for node in region.body:
            if node.op == "const":
                known[node.name] = torch.full((1,), float(node.attrs["value"]), dtype=olds[0].dtype)
            elif node.op != "input":
                types = [region.body[name].type for name in node.inputs]
                known[node.name] = evaluate(node, [known[name] for name in node.inputs], types, moment)
        results = []
        for result in region.results:
            own = region.body[result.value].type.names
            value = known[result.value].permute(0, *(own.index(name) + 1 for name in result.axes))
            results.append(value.expand(batch, *value.shape[1:]))
        found.append(results)
        olds = [results[region.results.index(region.kept(memory))] for memory in region.memories]
    return [torch.stack(one, 1) for one in zip(*found, strict=True)]


def drawn(region: Region, batch: int, time: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Values for all inputs of a region."""
    generator = torch.Generator().manual_seed(0)
    sizes = {axis.name: axis.size or 0 for node in region.body for axis in node.type.axes}
    found = {}
    for name in (*(memory.old for memory in region.memories), *region.columns, *region.constants):
        own = [sizes[axis] for axis in region.body[name].type.names]
        lead = () if name in region.constants else (batch, time) if name in region.columns else (batch,)
        scale = 1.0 if not own or name not in region.constants else own[-1] ** -0.5
        found[name] = (scale * torch.randn(*lead, *own, generator=generator, dtype=torch.float64)).to(dtype)
    return found
