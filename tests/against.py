"""This tree beside another commit: `python -m tests.against COMMIT`.

A process for each tree, which measure by turns: for every spec that has a peer and every mode the ratio of tokens per second, this tree
over the other, pair by pair. Where a process finds its memory decides a tenth, so there are several of each. Told are the median and the
quartiles.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

ROOT = Path(__file__).parent.parent
SPECS = ["lstm", "gru", "mamba", "hawk", "griffin", "rwkv4", "transformer", "gpt2"]
MODES = ("forward", "forward+backward", "decode")
# glibc hands freed memory back by thresholds that follow the largest block so far: which side has the larger one would decide a tenth.
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(1 << 29), "MALLOC_MMAP_THRESHOLD_": str(1 << 29)}

_WORKER = textwrap.dedent(
    """
    import contextlib, json, sys, time
    import torch, ssir
    from ssir.registry import registry

    spec, width, steps, seconds, threads = json.loads(sys.argv[1])
    torch.set_num_threads(threads)
    dims = {"model": width, "layers": 4, "vocab": 256, **registry.require("peer", spec).dims(width)}
    model = ssir.compile(ssir.load(spec, **dims))
    x = torch.randint(0, 256, (1, steps), generator=torch.Generator().manual_seed(0))
    columns = [x[:, t].contiguous() for t in range(64)]

    def forward():
        with torch.no_grad():
            model(x)
        return steps

    def backward():
        model.zero_grad()
        y, _ = model(x)
        y.backward(torch.ones_like(y))
        return steps

    def decode():
        with torch.no_grad(), getattr(model, "frozen", contextlib.nullcontext)():
            _, state = model(x[:, :64])
            for column in columns[:4]:
                _, state = model.step(column, state)
            start = time.perf_counter()
            for column in columns:
                _, state = model.step(column, state)
            return len(columns), time.perf_counter() - start

    runs = {"forward": forward, "forward+backward": backward, "decode": decode}
    for line in sys.stdin:
        run, done, spent = runs[line.strip()], 0, 0.0
        while spent < seconds:
            start = time.perf_counter()
            found = run()
            count, took = found if isinstance(found, tuple) else (found, time.perf_counter() - start)
            done, spent = done + count, spent + took
        print(done / spent, flush=True)
    """
)


class Side:
    """A tree, and a process that measures it."""

    def __init__(self, tree: Path, *given: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, json.dumps(given)],
            cwd=tree,
            env={**os.environ, **_MALLOC, "PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def rate(self, mode: str) -> float:
        """Tokens per second."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{mode}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side has ended with {self.process.wait()}")
        return float(line)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def _pairs(ours: Side, theirs: Side, mode: str, count: int) -> Iterator[float]:
    ours.rate(mode)
    theirs.rate(mode)
    for turn in range(count):
        pair = [ours, theirs] if turn % 2 == 0 else [theirs, ours]
        rates = {id(side): side.rate(mode) for side in pair}
        yield rates[id(ours)] / rates[id(theirs)]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("specs", nargs="*", default=SPECS)
    parser.add_argument("--model", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=5, help="of measurements, for each pair of processes")
    parser.add_argument("--processes", type=int, default=4, help="pairs of them")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each measurement")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mode", action="append", choices=MODES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", other, options.commit], cwd=ROOT, check=True)
        try:
            for spec in options.specs:
                given = (spec, options.model, options.steps, options.seconds, options.threads)
                ratios: dict[str, list[float]] = {mode: [] for mode in options.mode or MODES}
                for _ in range(options.processes):
                    ours, theirs = Side(ROOT, *given), Side(other, *given)
                    for mode, found in ratios.items():
                        found += _pairs(ours, theirs, mode, options.pairs)
                    ours.end()
                    theirs.end()
                for mode, found in ratios.items():
                    low, middle, high = quantiles(found, n=4)
                    sys.stdout.write(f"{spec:12} {mode:17} {middle:.2f} ({low:.2f} to {high:.2f})\n")
                    sys.stdout.flush()
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", other], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
