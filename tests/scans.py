"""What a compiled scan takes beside the loop that was written by hand: `python -m tests.scans [-o docs/scans.md]`.

The hand-written C is that of `scan.c` (h = a h + b) and `selective.c` (h = exp(g L) h + u b, y = c h) as they stood before compiled loops
took their place; it is read from the history of the repository. Both sides run by turns in one process, as their Python calls them, without
autograd around them: float32, 16 states a channel where the state is expanded. One thread is measured by the time of the processor, two
by the clock. On a machine that is not idle both sides then wait for the scheduler: rows of two threads whose times are multiples of some
8 ms compare waits, not loops.
"""

from __future__ import annotations

import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles

import torch
from torch import Tensor

from ssir.compilers.runtime import native
from tests.compilers.loops.made import made_scan

LAST = "1fa8510"  # the commit that has them
STATES, STEPS = 16, 1024
SIZES = [(width, batch) for batch in (1, 8) for width in (256, 768, 1536)]
BY_HAND = {
    "scan": (
        "scan_forward a{B:a_batch,T:a_time,D:1} b(B,T,D) start(B,D) clear(D) reset?:bool[B,T] h(B,T,D)"
        " B T D a_batch a_time maximum",
        "scan_backward a{B:a_batch,T:a_time,D:1} b(B,T,D) start(B,D) clear(D) reset?:bool[B,T] h(B,T,D) grad(B,T,D)"
        " da(B,T,D) db(B,T,D) dstart(B,D) dclear(B,D) B T D a_batch a_time maximum",
    ),
    "selective": (
        "selective_forward g[B,T,D] rates[N,D] u[B,T,D] b[B,T,N] c[B,T,N] start[B,N,D] reset?:bool[B,T] y[B,T,D]"
        " last[B,N,D] kept?[B,T/16,N,D] B T D N before",
        "selective_backward g[B,T,D] rates[N,D] u[B,T,D] b[B,T,N] c[B,T,N] reset?:bool[B,T] kept[B,T/16,N,D] dy[B,T,D]"
        " dg[B,T,D] drates[B,N,D] du[B,T,D] db[threads,B,T,N] dc[threads,B,T,N] flow[B,N,D] B T D N before",
    ),
}
COMPILED = {
    "scan": ("y: {state: [d], A: a, input: b}", "{a: [d], b: [d]}"),
    "selective": (
        "y: {state: [d, n], A: 'exp(g * param([d, n]))', B: b, input: u, C: c}",
        "{g: [d], u: [d], b: [n], c: [n]}",
    ),
}
Ways = dict[str, Callable[[], object]]


def by_hand(name: str, given: dict[str, Tensor], grad: Tensor) -> Ways:
    """The functions in C, called as their Python did."""
    call = ["git", "show", f"{LAST}:compilers/kernels/{name}.c"]
    text = subprocess.run(call, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout
    native.declare(*BY_HAND[name], source=text)
    return (_scan if name == "scan" else _selective)(given, grad)


def _scan(given: dict[str, Tensor], grad: Tensor) -> Ways:
    a, b = given["a"], given["b"]
    batch, steps, width = b.shape
    clear = b.new_zeros(width)
    start, sizes = clear.expand(batch, width).contiguous(), (batch, steps, width, steps * width, width, 0)

    def forward() -> Tensor:
        h = torch.empty_like(b)
        native.call("scan_forward", b.dtype, a, b, start, clear, None, h, *sizes)
        return h

    def both() -> list[Tensor]:
        h = forward()
        found = [*map(torch.empty_like, (a, b, start)), torch.zeros_like(start)]
        native.call("scan_backward", b.dtype, a, b, start, clear, None, h, grad, *found, *sizes)
        return [h, *found[:3], found[3].sum(0)]

    return {"forward": forward, "both": both}


def _selective(given: dict[str, Tensor], grad: Tensor) -> Ways:
    g, rates, u, b, c = (given[name] for name in ("g", "rates", "u", "b", "c"))
    batch, steps, width = u.shape
    states = rates.shape[1]
    sizes = (batch, steps, width, states, 0)
    start = u.new_zeros(batch, states, width)

    def forward(keep: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
        y, last = torch.empty_like(u), torch.empty_like(start)
        kept = u.new_empty(batch, -(-steps // 16), states, width) if keep else None
        turned = rates.t().contiguous()
        native.call("selective_forward", u.dtype, g, turned, u, b, c, start, None, y, last, kept, *sizes)
        return y, last, kept

    def both() -> list[Tensor]:
        y, last, kept = forward(keep=True)
        flow = torch.zeros_like(start)
        dg, du, drates = torch.empty_like(g), torch.empty_like(u), torch.empty_like(flow)
        db, dc = b.new_zeros(2, torch.get_num_threads(), *b.shape).unbind()
        read = (g, rates.t().contiguous(), u, b, c, None, kept, grad)
        native.call("selective_backward", u.dtype, *read, dg, drates, du, db, dc, flow, *sizes)
        return [y, last, dg, drates.sum(0).t(), du, db.sum(0), dc.sum(0), flow.transpose(1, 2)]

    return {"forward": forward, "both": both}


def compiled(name: str, given: dict[str, Tensor], grad: Tensor) -> Ways:
    """The scan that a model would call."""
    width = grad.shape[-1]
    found, scan = made_scan(*COMPILED[name], f"{{d: {width}, n: {STATES}}}", name == "selective")
    inputs = [given[node] for node in found.region.columns.values()]
    inputs += [given["rates"]] if found.region.constants else []
    whole = (None, None, None, *inputs)

    def both() -> object:
        results, kept = scan._run_forward(True, *whole)
        grads = [grad, *(torch.zeros_like(last) for last in results[1:])]
        return results, scan._run_backward(whole, results, kept, grads)

    return {"forward": lambda: scan._run_forward(False, *whole), "both": both}


def drawn(name: str, width: int, batch: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def some(*sizes: int) -> Tensor:
        return torch.rand(sizes, generator=generator)

    lead = (batch, STEPS)
    if name == "scan":
        return {"a": some(*lead, width), "b": some(*lead, width)}
    given = {"g": 0.1 * some(*lead, width), "u": some(*lead, width), "rates": -8 * some(width, STATES)}
    return given | {"b": some(*lead, STATES), "c": some(*lead, STATES)}


def measured(
    name: str, width: int, batch: int, rounds: int, clock: Callable[[], float]
) -> dict[str, tuple[float, float]]:
    """By way, milliseconds by hand and compiled; every other turn is turned around."""
    given, grad = drawn(name, width, batch), torch.ones(batch, STEPS, width)
    sides = by_hand(name, given, grad), compiled(name, given, grad)
    found = {}
    for way in sides[0]:
        times: tuple[list[float], list[float]] = ([], [])
        held: list[object] = [None, None]  # as a caller would
        for turn in range(rounds + 2):
            for i in (0, 1) if turn % 2 else (1, 0):
                start = clock()
                held[i] = sides[i][way]()
                times[i].append(1e3 * (clock() - start))
        hand, ours = (quantiles(one[2:], n=4)[0] for one in times)
        found[way] = hand, ours
    return found


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    lines = [
        "| scan | channels | batch | threads | forward: by hand | compiled | speed | forward and backward: by hand | compiled | speed |"
    ]
    lines.append("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in BY_HAND:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for width, batch in SIZES:
                clock = time.thread_time if threads == 1 else time.perf_counter
                pairs = measured(name, width, batch, options.rounds, clock).values()
                cells = [f"{hand:.2f} ms | {ours:.2f} ms | {hand / ours:.2f}" for hand, ours in pairs]
                lines.append(f"| {name} | {width} | {batch} | {threads} | {' | '.join(cells)} |")
                sys.stderr.write(f"{lines[-1]}\n")
    page = f"# Scans\n\n{(__doc__ or '').strip()}\n\nSpeed: that of the compiled scan over that by hand. {STEPS} steps, lower quartiles, torch {torch.__version__}.\n\n"
    text = page + "\n".join(lines) + "\n"
    if options.output:
        options.output.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
