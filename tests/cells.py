"""What a cell costs beside the LSTM, for each of its gates: `python -m tests.cells [-o docs/cells.md]`.

Forward and backward over a sequence, projections of the input included, one thread, by turns in one process. A gate is a matrix that the
last output is multiplied by; a cell without any counts as one gate.

The first row is torch alone, without SSIR and without a loop: a projection, a function of autograd that hands on what it is given, and the
gradients of both. No cell can be called for less. So one gate cannot stand at 1: if F is what a call takes and g what a gate adds, the LSTM
takes F + 4 g, and one gate 4 (F + g) / (F + 4 g) of what the LSTM takes for one. The last line is that, where a call takes no more than torch's
floor: what a cell of one gate would stand at if SSIR took nothing.

The last cell is a mixer of the zoo: outside its loop stand a filter of four steps, a SiLU and a norm by heads, which are no gates.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from statistics import median
from typing import Any

import torch

import ssir

from .small import component

SIZES = ((32, 1, 256), (64, 4, 256), (256, 1, 256), (512, 1, 256))
LINEAR = "linear(u, n) + linear(m, n)"
BY_HEADS = "linear(u, [head, w]) + linear(m, w, per=head, over=w)"
FLOOR, MIXER = "torch's floor", "sLSTM, with its filter and norm"
CELLS = {
    "LSTM": (4, f"i: sigmoid({LINEAR})\nf: sigmoid({LINEAR})\ng: tanh({LINEAR})\nc: {{state: [n], A: f, B: i, input: g}}\nh: sigmoid({LINEAR}) * tanh(c)"),
    "GRU": (3, f"r: sigmoid({LINEAR})\nz: sigmoid({LINEAR})\nh: {{state: [n], A: z, B: 1 - z, input: 'tanh(linear(u, n) + r * linear(m, n, bias=true))'}}"),
    "LSTM, coupled gates": (3, f"f: sigmoid({LINEAR})\nc: {{state: [n], A: f, B: 1 - f, input: 'tanh({LINEAR})'}}\nh: sigmoid({LINEAR}) * tanh(c)"),
    "LSTM with peepholes": (4, f"i: sigmoid({LINEAR} + param([n]) * delay(c))\nf: sigmoid({LINEAR} + param([n]) * delay(c))\nc: {{state: [n], A: f, B: i, input: 'tanh({LINEAR})'}}\nh: sigmoid({LINEAR} + param([n]) * c) * tanh(c)"),
    "LSTM, normed": (4, f"i: sigmoid({LINEAR})\nf: sigmoid({LINEAR} + 1)\nc: {{state: [n], A: f, B: i, input: 'tanh({LINEAR})'}}\nh: sigmoid({LINEAR}) * tanh(layer_norm(c, over=n))"),
    "LSTM, projected to half": (4, "i: sigmoid(linear(u, n) + linear(m, n))\nf: sigmoid(linear(u, n) + linear(m, n))\nc: {state: [n], A: f, B: i, input: 'tanh(linear(u, n) + linear(m, n))'}\nh: linear(sigmoid(linear(u, n) + linear(m, n)) * tanh(c), p)"),
    "GRU, reset before": (3, f"z: sigmoid({LINEAR})\nr: sigmoid({LINEAR})\nh: {{state: [n], A: 1 - z, B: z, input: 'tanh(linear(u, n) + linear(r * m, n))'}}"),
    "Elman": (1, f"h: tanh({LINEAR})"),
    "elementwise": (1, "f: sigmoid(linear(u, n) + param([n]) * m)\nh: {state: [n], A: f, B: 1 - f, input: 'linear(u, n)'}"),
    "by heads": (2, "f: sigmoid(linear(u, [head, w]) + linear(m, w, per=head, over=w))\nh: {state: [head, w], A: f, B: 1 - f, input: 'tanh(linear(u, [head, w]) + linear(m, w, per=head, over=w))'}"),
    "sLSTM": (4, f"i: {BY_HEADS}\nf: {BY_HEADS}\ns: {{state: [head, w], A: logsigmoid(f), input: i, algebra: max_plus}}\nfade: exp(logsigmoid(f) + delay(s, initial=-1e38) - s)\nc: {{state: [head, w], A: fade, B: exp(i - s), input: 'tanh({BY_HEADS})'}}\nd: {{state: [head, w], A: fade, input: exp(i - s)}}\nh: sigmoid({BY_HEADS}) * c / d"),
}  # fmt: skip
GATES = {FLOOR: 1, **{name: gates for name, (gates, _) in CELLS.items()}, MIXER: 4}


class _Nothing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad.clone()


class Floor(torch.nn.Module):
    """What a call costs where nothing is computed."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.project = torch.nn.Linear(n, n, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Nothing.apply(self.project(x)), None  # type: ignore[no-untyped-call]


def cell(name: str, n: int) -> Any:
    _, graph = CELLS[name]
    dims = f"{{n: {n}, p: {n // 2}, head: 4, w: {n // 4}}}"
    return ssir.compile(component(f"{graph}\nm: delay(h)\ny: h * 1", "{u: [n]}", dims), seed=0)


def mixer(name: str, n: int) -> Any:
    """A cell of the zoo, with its heads."""
    return ssir.compile(ssir.load(f"{name}.mixer", model=n), seed=0)


def measured(models: dict[str, Any], x: torch.Tensor, rounds: int) -> dict[str, float]:
    """Milliseconds of each, forward and backward, by turns."""
    found: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            start = time.perf_counter()
            y, _ = model(x)
            y.sum().backward()
            found[name].append(1e3 * (time.perf_counter() - start))
    return {name: median(times[2:]) for name, times in found.items()}


def _least(found: dict[str, float]) -> float:
    """What one gate would stand at if a call took no more than the floor: a gate adds what the LSTM takes beyond one gate's cell."""
    gate = (found["LSTM"] - found["Elman"]) / 3
    return 4 * (found[FLOOR] + gate) / (found[FLOOR] + 4 * gate)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = []
    for n, batch, steps in SIZES:
        x = torch.randn(batch, steps, n, generator=torch.Generator().manual_seed(0))
        models = {FLOOR: Floor(n)} | {name: cell(name, n) for name in CELLS} | {MIXER: mixer("slstm", n)}
        columns.append(measured(models, x, options.rounds))
    heads = " | ".join(f"n = {n}, batch {batch}" for n, batch, _ in SIZES)
    lines = [f"| cell | gates | {heads} |", f"|---|---:|{'---:|' * len(SIZES)}"]
    for name in columns[0]:
        gates = GATES[name]
        cells = [f"{found[name]:.2f} ms ({found[name] / gates / (found['LSTM'] / 4):.2f})" for found in columns]
        lines.append(f"| {name} | {gates} | {' | '.join(cells)} |")
    least = [f"({_least(found):.2f})" for found in columns]
    lines.append(f"| one gate, at least | 1 | {' | '.join(least)} |")
    page = f"# Cells\n\n{(__doc__ or '').strip()}\n\nIn brackets: the time of a gate over that of a gate of the LSTM. 256 steps, float32, torch {torch.__version__}.\n\n"
    text = page + "\n".join(lines) + "\n"
    if options.output:
        options.output.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
