"""Every consumer of the IR has a spelling for every operation of the table, or a reason why it needs none."""

from collections.abc import Container

import pytest

from ssir.compilers.loops import spelling as c
from ssir.compilers.loops import triton
from ssir.compilers.loops.pairs import COMPLEX
from ssir.compilers.torch import elementwise, ops, program
from ssir.ir.ops import TABLE
from ssir.ir.ops.program import PROGRAM
from ssir.reference import ops as reference

OPERATORS = {name for name in TABLE if name.startswith("op.")}  # what a state is given: its forms read them
READING = {"later"}  # gone when a spec has been read
SAID = {"dropout"}  # which the passes leave out, or write as a product with what is `kept`
PLANNED = PROGRAM  # made by a plan: the reference has no plan, and loops and steps are written from the graph
SPELLED: dict[str, tuple[Container[str], ...]] = {
    "reference": (
        PLANNED,
        {"kept"},  # made by a pass
        reference.FUNCTIONS,
        reference.OTHER,
        # what the interpreter itself is
        {
            "state",
            "context",
            "stack",
            "part",
            "input",
            "param",
            "const",
            "arange",
            "eye",
            "position",
            "start",
            "layer",
            "dropout",
        },
    ),
    "torch": (
        elementwise.SPELLED,
        elementwise.RUNTIME,
        ops.OTHER,
        program.PROGRAM,
        SAID,
        {"state"},  # of which the plan has made something else
    ),
    "c": (
        PLANNED,
        c.SPELLED,
        c.REDUCED,
        c.JOINED,
        c.VIEWS,
        c.LEAVES,
        COMPLEX,
        # what a region writes out in other operations
        {"state", "linear", "rms_norm", "layer_norm", "l2_norm", "softmax"},
        # what a step is given
        {"position", "start", "stack", "part"},
        # a phase of its own
        {"solve"},
        # what only constants need, which torch has computed: parameters and layers, matrices of state space models
        {"param", "layer", "eye", "matmul", "expm"},
        # what a step cannot know
        {"context"},
        # what is trained only, by torch, and given to loops
        SAID,
        {"kept"},
    ),
    "triton": (
        PLANNED,
        triton.SPELLED,
        triton.REDUCED,
        c.VIEWS,
        c.LEAVES,
        {"clamp", "dot", "concat", "pack"},
        # what a region writes out in other operations
        {"state", "linear", "rms_norm", "layer_norm", "l2_norm", "softmax"},
        # what no loop has: complex numbers, and what steps have beside loops
        COMPLEX,
        {"embed", "solve", "position", "start", "stack", "part", "param", "layer", "eye", "matmul", "expm", "context"},
        SAID,
        {"kept"},
    ),
}


@pytest.mark.parametrize("consumer", SPELLED)
@pytest.mark.parametrize("op", sorted(TABLE.keys() - OPERATORS - READING))
def test_every_consumer_knows_every_operation(op: str, consumer: str) -> None:
    assert any(op in known for known in SPELLED[consumer]), f"`{op}` has no spelling in {consumer}"


@pytest.mark.parametrize(
    "table",
    [reference.FUNCTIONS, elementwise.SPELLED, c.SPELLED, triton.SPELLED],
    ids=["reference", "torch", "c", "triton"],
)
def test_no_consumer_spells_what_is_no_operation(table: dict[str, object]) -> None:
    assert table.keys() <= {name for name, op in TABLE.items() if op.elementwise}
