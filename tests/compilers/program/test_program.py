"""Programs: well formed, said whole by their text, and as they were."""

import os
from pathlib import Path

import pytest

import ssir
from ssir.compilers.plan import plan
from ssir.compilers.program.function import written
from ssir.compilers.program.program import Program, program
from ssir.ir.graph import Graph
from ssir.ir.text import parse, render
from ssir.ir.verifier import IllFormed, verify
from ssir.passes import run
from ssir.spec.load import load, zoo

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "SSIR_UPDATE_GOLDEN=1 pytest tests/compilers/program"
NAMES = [name for name, _ in zoo()]
# One with kernels of each kind, small enough to be read: registers and a scan, a loop that is compiled, attention, matrix products in chunks,
# a whole sequence, a convolution, an operator of its own.
READ = ["mamba", "lstm", "transformer", "delta_net", "vaswani", "s4", "retnet"]
LOOP = """
ssir: 1
name: one
dims: {n: 3, m: 2, slot: 2}
components:
  main:
    input: {x: [n]}
    graph:
      h: {state: [n, m], A: "sigmoid(linear(y, n))", input: x, initial: "param([m], init=ones)"}
      w: {state: [slot, n], A: shift(slot), input: "sum(delay(h), over=m)", C: "param([slot], init=ones)"}
      y: delay(w)
    output: h
main: main
"""


def made(graph: Graph) -> Program:
    return program(graph, plan(graph).chosen)


@pytest.mark.parametrize("name", NAMES)
def test_every_program_is_well_formed_and_comes_back_from_its_text(name: str) -> None:
    for function in made(run(load(name).graph)).functions.values():
        verify(function)
        assert parse(render(function)) == function
        assert not any(node.op == "state" for one in function.walk() for node in one)


@pytest.mark.parametrize("name", NAMES)
def test_every_function_writes_every_memory_once(name: str) -> None:
    def check(graph: Graph, program: Program) -> None:
        for function in program.functions.values():
            assert sorted(name for node in function for name in written(node)) == sorted(
                node.name for node in graph.states
            )
        for body, inner in program.bodies.items():
            check(graph.bodies[body], inner)

    graph = run(load(name).graph)
    check(graph, made(graph))


@pytest.mark.parametrize("name", READ)
def test_the_program_is_as_it_was(name: str) -> None:
    """What a change to the plan, a form or the lowering does to a spec is seen, and agreed to."""
    path = GOLDEN / f"{name}.txt"
    text = str(made(run(load(name).graph)))
    if os.environ.get("SSIR_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    assert path.exists(), f"there is no {path.name}; write it with: {UPDATE}"
    assert path.read_text("utf-8") == text, f"the program of {name} has changed; if that is meant: {UPDATE}"


def test_a_loop_that_is_not_compiled_has_its_step_as_a_body() -> None:
    graph = run(ssir.loads(LOOP).graph)
    function = made(graph).functions["sequence"]
    (loop,) = [node for node in function if node.op == "loop"]
    body = function.bodies[loop.attrs["body"]]
    assert [graph_input.name for graph_input in body.inputs] == list(loop.inputs)
    assert {node.op for node in body} >= {"old", "new", "push", "slots", "weigh"}


@pytest.mark.parametrize(
    ("op", "change", "words"),
    [
        ("kernel", {"inputs": ()}, "operands for"),
        ("loop", {"inputs": ()}, "gives its body"),
        ("result", {"inputs": ("x",)}, "which is no loop"),
    ],
)
def test_a_program_that_is_ill_formed_is_told(op: str, change: dict[str, tuple[str, ...]], words: str) -> None:
    kernel = "h: delay(x)"
    text = LOOP[: LOOP.index("      h:")] + f"      {kernel}\n    output: h\nmain: main\n" if op == "kernel" else LOOP
    function = made(run(ssir.loads(text).graph)).functions["sequence"]
    victim = next(node for node in function if node.op == op)
    with pytest.raises(IllFormed, match=words):
        verify(function.with_nodes(victim.with_(**change) if node is victim else node for node in function))
