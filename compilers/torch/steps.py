"""The native step in a written module: its C text, what it keeps, and the constants that it is given."""

from __future__ import annotations

import ast
import hashlib
from copy import copy

from ssir.compilers.loops.spelling import Unfit
from ssir.compilers.step.c import Kept, Step, print_step
from ssir.compilers.step.door import doors
from ssir.compilers.torch.code import Line, literal
from ssir.compilers.torch.emit import Emitter, Unit
from ssir.compilers.torch.methods import defined
from ssir.compilers.torch.regions import Regions
from ssir.ir.graph import Graph


def native_step(graph: Graph) -> Step | None:
    """The step of a model as one C function, if it can be written so."""
    if not graph.has_step:
        return None
    try:
        return print_step(graph, "STEP")
    except Unfit:
        return None


def natives(unit: Unit, kept: Kept) -> list[str]:
    """The method that gives the constants of the step of one graph."""
    unit = copy(unit)
    unit.regions = Regions(unit.source, whole=True)
    unit.begin("_natives", unit.source)
    e = unit.constant
    found = [e.value(name) for name in kept.constants]
    return [defined("_natives", (), "tuple[Any, ...]", [*e.lines, Line(ast.Return(literal(tuple(found))))])]


def own(unit: Unit, kept: Kept) -> dict[str, str]:
    """The class attributes that say what the step of one graph keeps."""
    name = Emitter(unit, "constant").function("step", "Own").id
    found = {"OWN": f"{name}({kept.memories!r}, {kept.rooms!r}, {kept.wholes!r})"}
    return found | ({"LAYERS": repr(kept.stacks)} if kept.stacks else {})


def definition(unit: Unit, step: Step, position: bool) -> str:
    """The name of the step that the module defines."""
    text = f'#include "step.h"\n\n{step.text}\n{doors(step, "STEP")}'
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    name = f"step_{digest}"
    made = Emitter(unit, "constant").function("step", "Step").id
    scratch = [tuple(map(tuple, root.scratch)) for root in (step.step, step.whole) if root is not None]
    arguments = f'    "{name}",\n    {step.groups!r},\n    {position},\n    {tuple(scratch)!r},\n'
    text = text.replace("STEP", name)
    return unit.define(f"step {digest}", "STEP", lambda own: f'{own} = {made}(\n{arguments}    """\n{text}""",\n)')
