"""Where faults are injected, and which tests are to see them there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Room:
    """Files, as patterns from the root, and the tests of the same room, the quickest first. ``skip``: functions that decide no value."""

    files: tuple[str, ...]
    tests: tuple[str, ...]
    skip: frozenset[str] = frozenset()

    def paths(self, root: Path = ROOT) -> list[Path]:
        return sorted(path for pattern in self.files for path in root.glob(pattern))


# What forms cost, say and record is compared with no meaning; other tests look at it.
_WORDS = frozenset(
    {"cost", "flops", "record", "reason", "loop_reason", "input_words", "why", "complex_scan", "register_cost"}
)

_FORMS = (
    "tests/compilers/test_spelled.py",
    "tests/compilers/test_edges.py",
    "tests/compilers/test_threads.py",
    "tests/compilers/test_forms.py",
    "tests/compilers/test_state.py",
    "tests/proof/test_verify.py",
)

ROOMS: Mapping[str, Room] = {
    "spellings": Room(
        (
            "compilers/torch/operands.py",
            "compilers/torch/elementwise.py",
            "compilers/torch/products.py",
            "compilers/torch/shapes.py",
            "compilers/torch/sources.py",
            "compilers/runtime/operations.py",
        ),
        (*_FORMS[:2], "tests/compilers/test_context.py", *_FORMS[2:]),
        _WORDS,
    ),
    "reference": Room(
        ("ssir/reference/*.py",),
        ("tests/reference", "tests/compilers/test_spelled.py", "tests/compilers/test_edges.py"),
    ),
    "functions": Room(
        (
            "ssir/functions/systems.py",
            "ssir/functions/reductions.py",
            "ssir/functions/learned.py",
            "ssir/functions/shapes.py",
        ),
        (
            "tests/reference",
            "tests/compilers/test_spelled.py",
            "tests/spec/test_dims.py",
            "tests/test_initial_values.py",
            "tests/test_initial.py",
            "tests/spec/test_diagnostics.py",
        ),
    ),
    "spec": Room(
        ("ssir/spec/load.py", "ssir/spec/module.py", "ssir/spec/calls.py", "ssir/spec/static.py"),
        ("tests/spec/test_dims.py", "tests/reference", "tests/spec"),
    ),
    "operations": Room(
        ("ssir/ir/op.py", "ssir/ir/intervals.py", "ssir/ir/ops/*.py"),
        (
            "tests/ir/test_ops.py",
            "tests/passes",
            "tests/spec/test_diagnostics.py",
            "tests/compilers/test_spelled.py",
            "tests/compilers/loops/test_loops.py",
            "tests/spec",
        ),
    ),
    "initialisers": Room(("ssir/initial.py",), ("tests/test_initial_values.py", "tests/test_initial.py")),
    "passes": Room(
        ("ssir/passes/*.py", "ssir/analysis/*.py"),
        (
            "tests/passes/test_given.py",
            "tests/analysis/test_facts.py",
            "tests/analysis/test_coupling.py",
            "tests/analysis/test_memories.py",
            "tests/passes/test_passes.py",
            "tests/passes/test_affine.py",
            "tests/analysis/test_joint.py",
        ),
    ),
    "analyze": Room(
        tuple(f"ssir/analyze/{name}.py" for name in ("poles", "jacobian", "channel", "responses", "costs", "subject")),
        ("tests/analyze/test_poles.py", "tests/analyze/test_responses.py", "tests/analyze"),
    ),
    "forms": Room(
        (
            "compilers/core.py",
            "compilers/program/*.py",
            "compilers/torch/program.py",
            "plugins/*/forms.py",
            "plugins/linear_attention/joint.py",
            "plugins/state_space/invariant.py",
        ),
        (*_FORMS, "tests/compilers/program", "tests/compilers/test_joint.py"),
        _WORDS,
    ),
    "memories": Room(
        ("compilers/runtime/memory.py", "compilers/runtime/clock.py"),
        (*_FORMS[:2], "tests/compilers/test_exported.py", "tests/compilers/runtime/test_states.py", *_FORMS[2:]),
    ),
    "kernels": Room(
        ("compilers/runtime/*.py", "plugins/*/kernels/*.py"),
        (
            "tests/plugins",
            "tests/compilers/test_edges.py",
            "tests/compilers/test_threads.py",
            "tests/compilers/test_context.py",
            "tests/compilers/runtime",
            "tests/compilers/loops/test_loops.py",
        ),
        _WORDS,
    ),
    "loops": Room(
        (
            "compilers/loops/*.py",
            "compilers/runtime/loops.py",
            "compilers/runtime/tiled.py",
            "compilers/torch/cells.py",
            "ssir/ir/builder.py",
        ),
        (
            "tests/compilers/runtime/test_tiled.py",
            "tests/compilers/loops",
            "tests/compilers/test_threads.py",
            "tests/compilers/runtime/test_native_step.py",
            "tests/compilers/test_forms.py",
        ),
        _WORDS,
    ),
    "step": Room(
        ("compilers/step/*.py", "compilers/runtime/step.py", "compilers/torch/steps.py", "compilers/c/export.py"),
        ("tests/compilers/runtime/test_native_step.py", "tests/compilers/c"),
    ),
    "native": Room(
        ("compilers/runtime/*.c", "compilers/runtime/*.h", "plugins/*/kernels/*.c"),
        (
            "tests/plugins",
            "tests/compilers/test_threads.py",
            "tests/compilers/loops",
            "tests/compilers/runtime",
            "tests/compilers/runtime/test_native_step.py",
            "tests/compilers/c",
        ),
    ),
}
_NOT_KERNELS = {
    "memory.py",
    "clock.py",
    "operations.py",
    "model.py",
    "native.py",
    "loops.py",
    "tiled.py",
    "step.py",
    "__init__.py",
}


def files(name: str, root: Path = ROOT) -> list[Path]:
    found = ROOMS[name].paths(root)
    return [path for path in found if path.name not in _NOT_KERNELS] if name == "kernels" else found
