"""Compiles the Triton of every loop of the zoo, at the sizes that it has, for a processor that need not be here: sm_90. Prints a line of JSON
for each: what it is, and the bytes of registers that did not fit (run as a program, without Triton's interpreter)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import ssir
from ssir import passes
from ssir.compilers.loops.form import compiled
from ssir.compilers.loops.spelling import Unfit
from ssir.compilers.runtime import tritons
from ssir.compilers.torch.cells import Cell

from ...small import SMALL

_TYPES = {"B": "i32", "T": "i32", "L": "i32", "ROWS": "constexpr", "REAL": "constexpr", "reset": "*i1"}


def loops() -> Iterator[tuple[str, Cell]]:
    for name in SMALL:
        for graph in passes.run(ssir.load(name).graph).walk():
            for cycle in graph.cycles:
                found = compiled(graph, cycle)
                if not isinstance(found, Unfit):
                    yield name, found


def spilled(source: str, name: str) -> int:
    """Bytes of registers that are stored elsewhere."""
    function = tritons.functions(source)[name]
    types = {one: _TYPES.get(one, "i32" if one.endswith("_row") else "*fp32") for one in function.arg_names}
    given = {(function.arg_names.index(one),): value for one, value in (("ROWS", 1), ("REAL", tl.float32))}
    made = triton.compile(
        ASTSource(fn=function, signature=types, constexprs=given, attrs={}),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": tritons.WARPS},
    )
    assembler = next(Path(triton.__file__).parent.rglob("ptxas"))
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as text:
        text.write(made.asm["ptx"])
        text.flush()
        call = [str(assembler), "-arch=sm_90a", "-v", text.name, "-o", "/dev/null"]
        told = subprocess.run(call, capture_output=True, text=True, check=True).stderr
    (stores,) = re.findall(r"(\d+) bytes spill stores", told)
    return int(stores)


if __name__ == "__main__":
    for name, cell in loops():
        for way in ("forward", "backward"):
            line = {"name": name, "way": way, "spilled": spilled(cell.kernels, f"loop_{cell.digest}_{way}")}
            sys.stdout.write(json.dumps(line) + "\n")
