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

    def made(mode: Mode, match: Mapping[str, Match], *names: str) -> Graph:
        """A function; ``names``: that of the layers in it, the first that there is."""
        return Function(graph, match, mode).made(graph.outputs, bodies(*names))

    match = {node.name: chosen[where, node.name] for node in graph.states}
    loops = {node.name: one for node in graph.states if (one := Loop().match(graph, facts(graph, node))) is not None}
    apart = {**match, **loops}
    if training:
        functions = {"training": made(training, match, "training")}
        if loops and training == "sequence":
            functions["training_apart"] = made(training, apart, "training_apart", "training")
        return Program(functions, inner)
    fused = any(getattr(one.form, "reads_weights", False) for one in match.values())
    functions = {"sequence": made("sequence", match, "sequence")}
    if graph.has_step:
        functions["step"] = made("step", match, "step")
        if loops:
            functions["apart"] = made("sequence", apart, "apart", "sequence")
        if fused:
            functions["step_apart"] = made("step", apart, "step_apart", "step")
    functions["begin"] = begin(graph, match, bodies("begin"))
    return Program(functions, inner)
