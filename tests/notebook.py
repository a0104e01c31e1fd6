"""Runs the cells of a notebook, one after another, as IPython does, and keeps what they show: `python -m tests.notebook FILE [-o FILE]`.

IPython alone does it: a kernel would bring sockets and a debugger, and run the same cells by the same displays.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

Cell = dict[str, Any]


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with the outputs of its code. Raises RuntimeError at the first cell that fails."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell: Any = InteractiveShell.instance()
    shell.display_formatter.active_types = shell.display_formatter.format_types  # not only text, as in a terminal
    results: list[Any] = []
    shell.display_trap.hook = results.append
    cells: list[Cell] = []
    count = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            results.clear()
            with capture_output() as shown:
                done = shell.run_cell("".join(cell["source"]), store_history=True)
            if not done.success:
                words = f"cell {count} failed: {done.error_in_exec or done.error_before_exec!r}\n{shown.stdout}"
                raise RuntimeError(words)
            cell = {**cell, "execution_count": count, "outputs": outputs(shown)}
            for value in filter(lambda value: value is not None, results):
                data, _ = shell.display_formatter.format(value)
                cell["outputs"].append({"output_type": "execute_result", "execution_count": count, **held(data)})
        cells.append(cell)
    return {**notebook, "cells": cells}


def outputs(shown: Any) -> list[dict[str, Any]]:
    """What a cell printed and displayed, as a notebook holds it."""
    found: list[dict[str, Any]] = []
    printed = [("stdout", shown.stdout), ("stderr", shown.stderr)]
    found += [{"output_type": "stream", "name": name, "text": lines(text)} for name, text in printed if text]
    return [*found, *({"output_type": "display_data", **held(one.data)} for one in shown.outputs)]


def held(data: dict[str, str]) -> dict[str, Any]:
    """The kinds of a display, as a notebook holds them."""
    return {"data": {kind: lines(text) for kind, text in data.items()}, "metadata": {}}


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def kinds(cell: Cell) -> list[str]:
    """What a cell shows: `stdout`, or the kinds of a display."""
    return [one["name"] if one["output_type"] == "stream" else " ".join(sorted(one["data"])) for one in cell["outputs"]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.notebook")
    parser.add_argument("file", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="(default: the file itself)")
    options = parser.parse_args()
    target = (options.output or options.file).resolve()
    notebook = json.loads(options.file.read_text(encoding="utf-8"))
    os.chdir(options.file.resolve().parent)
    text = json.dumps(run(notebook), indent=1, ensure_ascii=False) + "\n"
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
