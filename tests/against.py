"""This tree beside another commit: `python -m tests.against COMMIT`, both measured by turns, one process at a time.

For every spec that has a peer and every mode the ratio of tokens per second, this tree over the other: the median over the rounds,
and the smallest and largest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
SPECS = ["lstm", "gru", "mamba", "hawk", "griffin", "rwkv4", "transformer", "gpt2"]
_MODES = ("forward", "forward+backward", "decode")


def measured(tree: Path, spec: str, width: int, seconds: float, threads: int) -> dict[str, float]:
    """Tokens per second, by mode."""
    call = [sys.executable, "-m", "ssir.cli", "bench", spec, "--no-peers", "--json"]
    call += ["--model", str(width), "--seconds", str(seconds), "--threads", str(threads)]
    done = subprocess.run(
        call,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(call)} in {tree}:\n{done.stderr[-2000:]}")
    return {cell["mode"]: cell["tokens"]["median"] for cell in json.loads(done.stdout)["cells"]}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("specs", nargs="*", default=SPECS)
    parser.add_argument("--model", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        subprocess.run(["git", "worktree", "add", "--detach", other, options.commit], cwd=ROOT, check=True)
        try:
            for spec in options.specs:
                ratios: dict[str, list[float]] = {mode: [] for mode in _MODES}
                for turn in range(options.rounds):
                    trees = [ROOT, other] if turn % 2 == 0 else [other, ROOT]
                    found = {
                        tree: measured(tree, spec, options.model, options.seconds, options.threads) for tree in trees
                    }
                    for mode in _MODES:
                        ratios[mode].append(found[ROOT][mode] / found[other][mode])
                told = (f"{mode} {median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for mode, r in ratios.items())
                sys.stdout.write(f"{spec}: {', '.join(told)}\n")
                sys.stdout.flush()
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", other], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
