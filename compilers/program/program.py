"""The program of a graph: its functions, after the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ssir.analysis.facts import facts
from ssir.compilers.core import Loop
from ssir.compilers.forms import Match
from ssir.compilers.program.function import Function, Mode, begin
from ssir.ir.graph import Graph
from ssir.ir.text import render


@dataclass(frozen=True)
class Program:
    """``functions``, by name: ``sequence``; ``step``; ``begin``, every memory as it is before the first step; ``apart`` and ``step_apart``,
    the same as the first two, memories step by step, and every part called by itself, where that is something else. Or, while training with
    dropout, ``training`` and ``training_apart``, a sequence. ``bodies``: the programs of the graphs that stacks repeat."""

    functions: Mapping[str, Graph]
    bodies: Mapping[str, Program]

    def __str__(self) -> str:
        return "\n".join(f"function {name}\n{render(graph)}" for name, graph in self.functions.items())


def program(
    graph: Graph, chosen: Mapping[tuple[str, str], Match], where: str = "", training: Mode | None = None
) -> Program:
    """The program of a graph; ``chosen``: by graph (its path among bodies) and state, the form. training: only what is trained with dropout,
    in a mode."""
    inner = {name: program(body, chosen, f"{where}{name}/", training) for name, body in graph.bodies.items()}

    def bodies(*names: str) -> dict[str, Graph]:
        of = {body: found.functions for body, found in inner.items()}
        return {body: next(found[name] for name in names if name in found) for body, found in of.items()}

    match = {node.name: chosen[where, node.name] for node in graph.states}
    loops = {node.name: one for node in graph.states if (one := Loop().match(graph, facts(graph, node))) is not None}
    if training:
        functions = {"training": Function(graph, match, training).made(graph.outputs, bodies("training"))}
        if loops and training == "sequence":
            apart = Function(graph, {**match, **loops}, training)
            functions["training_apart"] = apart.made(graph.outputs, bodies("training_apart", "training"))
        return Program(functions, inner)
    fused = any(getattr(one.form, "reads_weights", False) for one in match.values())
    functions = {"sequence": Function(graph, match, "sequence").made(graph.outputs, bodies("sequence"))}
    if graph.has_step:
        functions["step"] = Function(graph, match, "step").made(graph.outputs, bodies("step"))
        if loops:
            apart = Function(graph, {**match, **loops}, "sequence")
            functions["apart"] = apart.made(graph.outputs, bodies("apart", "sequence"))
        if fused:
            apart = Function(graph, {**match, **loops}, "step")
            functions["step_apart"] = apart.made(graph.outputs, bodies("step_apart", "step"))
    functions["begin"] = begin(graph, match, bodies("begin"))
    return Program(functions, inner)
