"""The main job from end to end: draw architectures side by side, compile the first of them, prove its forms, train a small one on
text, and let it write with a memory of constant size.    python -m ssir.demo NAME [NAME...] [-o DIR]
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import ssir
from ssir.api import parameter_groups
from ssir.compilers.runtime.model import Model

WIDTH, LAYERS = 128, 2
STEPS, BATCH, LENGTH = 160, 8, 128
RATE, DECAY = 4e-3, 0.1
WRITTEN = 240


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(prog="python -m ssir.demo")
    parser.add_argument("names", nargs="+", help="architectures to draw; the first is compiled, proved and trained")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), help="where pictures and the artifact go")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    console = Console()
    options.output.mkdir(exist_ok=True)
    first = options.names[0]
    draw(console, options.names, options.output)
    compile_and_save(console, first, options.output)
    prove(console, first)
    spec = ssir.load(first, vocab=256, model=WIDTH, layers=LAYERS)
    model = ssir.compile(spec, seed=0)
    text = corpus()
    train(console, model, text)
    write(console, model, text)


def draw(console: Console, names: list[str], where: Path) -> None:
    """All mixers in one picture."""
    console.rule("draw")
    path = where / "side-by-side.svg"
    ssir.draw([ssir.load(name) for name in names], path)
    console.print(f"{', '.join(names)}, side by side: {path}")


def compile_and_save(console: Console, name: str, where: Path) -> None:
    """A model of real sizes, as a directory that can be opened again."""
    console.rule("compile")
    begin = time.perf_counter()
    model = ssir.compile(ssir.load(name, layers=LAYERS))
    target = where / name
    if target.exists():
        shutil.rmtree(target)
    ssir.save(model, target)
    for entry in model.plan.entries:
        console.print(
            f"{entry.path}: {entry.facts.structure}; {entry.match.form.name}; {entry.bytes} bytes", highlight=False
        )
    again = ssir.open(target)
    same = all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    console.print(
        f"{model.plan.parameters / 1e6:.1f} M parameters, written to {target} and opened again "
        f"({'the same' if same else 'NOT the same'}) in {time.perf_counter() - begin:.1f} s"
    )


def prove(console: Console, name: str) -> None:
    """Every form against the meaning."""
    console.rule("verify")
    report = ssir.verify(ssir.load(name), steps=(1, 2, 63))
    for row in report.summary():
        where = row["state"] or "as planned"
        verdict = "agrees" if row["ok"] else "DISAGREES"
        error = f"forward {row['forward']:.0e}, gradient {row['gradient']:.0e}"
        console.print(f"{where}: {row['form']}, {row['dtype']}: {verdict} ({error})", highlight=False)
    if not report.ok:
        raise SystemExit("a form disagrees with the meaning")


def corpus() -> torch.Tensor:
    """The project's own sources and specs as bytes."""
    root = Path(str(files("ssir")))
    parts = sorted(path for pattern in ("**/*.py", "zoo/**/*.yaml") for path in root.glob(pattern))
    return torch.frombuffer(bytearray(b"\n".join(path.read_bytes() for path in parts)), dtype=torch.uint8).long()


def batches(text: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Random pieces of the text, and the byte that follows each of theirs."""
    while True:
        at = torch.randint(0, len(text) - LENGTH - 1, (BATCH,))
        rows = torch.stack([text[i : i + LENGTH + 1] for i in at.tolist()])
        yield rows[:, :-1], rows[:, 1:]


def train(console: Console, model: Model, text: torch.Tensor) -> None:
    """Next-byte prediction by the parallel form."""
    console.rule("train")
    optimizer = torch.optim.AdamW(parameter_groups(model, RATE, DECAY), betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], STEPS, pct_start=0.15
    )
    losses: list[float] = []
    model.train()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    begin = time.perf_counter()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("loss    -", total=STEPS)
        for _, (x, y) in zip(range(STEPS), batches(text), strict=False):
            logits, _ = model(x)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            progress.update(task, advance=1, description=f"loss {loss.item():.3f}")
    model.eval()
    seconds = time.perf_counter() - begin
    last = sum(losses[-10:]) / 10
    console.print(
        f"{len(text)} bytes of source; loss {losses[0]:.2f} -> {last:.2f} nats a byte in {seconds:.0f} s "
        f"({STEPS * BATCH * LENGTH / seconds:.0f} bytes a second, forward and backward)"
    )
    if last > 0.75 * losses[0]:
        raise SystemExit("the loss has not fallen")


def write(console: Console, model: Model, text: torch.Tensor) -> None:
    """Read a prompt in parallel, then go on byte by byte."""
    with torch.no_grad(), model.frozen():
        _write(console, model, text)


def _write(console: Console, model: Model, text: torch.Tensor) -> None:
    console.rule("generate")
    prompt = text[:512][None]
    model(prompt)
    begin = time.perf_counter()
    logits, state = model(prompt)
    parallel = prompt.shape[1] / (time.perf_counter() - begin)
    size = sum(value.nbytes for value in state.values())
    written = list(b"def ")
    for byte in written:
        logits, state = model.step(torch.tensor([byte]), state)
    begin = time.perf_counter()
    for _ in range(WRITTEN):
        byte = int(torch.multinomial(torch.softmax(logits[0] / 0.7, -1), 1))
        written.append(byte)
        logits, state = model.step(torch.tensor([byte]), state)
    step = WRITTEN / (time.perf_counter() - begin)
    after = sum(value.nbytes for value in state.values())
    console.print(bytes(written).decode("utf-8", "replace"), markup=False, highlight=False)
    console.print(
        f"parallel form {parallel:.0f} bytes a second, step form {step:.0f}; state {size} bytes before, {after} after"
    )


if __name__ == "__main__":
    main()
