"""The commands that run what was compiled: verify, bench."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ssir.cli import say, specs

if TYPE_CHECKING:
    from ssir.bench import Cell
    from ssir.verify import Report

_QUICK = (1, 2, 17)


def verify(options: Namespace) -> int:
    """Hold the forms of each spec against its meaning; 1 if an error is over its limit."""
    import ssir
    from ssir.verify import STEPS

    progress = say.console(stderr=True)
    reports: list[Report] = []
    for spec in specs.several(options, options.specs):
        with progress.status(spec.name) as status:
            report = ssir.verify(
                spec,
                steps=_QUICK if options.quick else STEPS,
                progress=lambda text, name=spec.name, status=status: status.update(f"{name}: {text}"),  # type: ignore[misc]
                seed=options.seed,
                every_form=not options.quick,
            )
        reports.append(report)
        if not options.json:
            _tell(report)
    good = all(report.ok for report in reports)
    if options.json:
        say.record(ok=good, specs=[report.record() for report in reports])
    return 0 if good else 1


def _tell(report: Report) -> None:
    console = say.console()
    dims = ", ".join(f"{name}={'unbounded' if size is None else size}" for name, size in report.dims.items())
    console.print(report.name, style="bold")
    console.print(f"at {dims}")
    table = say.table(
        "state",
        "form",
        "dtype",
        "forward",
        "gradient",
        "limit",
        "comparisons",
        "",
        right=("forward", "gradient", "limit", "comparisons"),
    )
    for one in report.summary():
        gradient = "" if one["gradient"] is None else f"{one['gradient']:.1e}"
        verdict = "good" if one["ok"] else "WRONG"
        state = one["state"] or "(as planned)"
        errors = (f"{one['forward']:.1e}", gradient, f"{one['limit']:.0e}")
        table.add_row(state, one["form"], one["dtype"], *errors, str(one["comparisons"]), verdict)
    console.print(table)
    if not report.has_step:
        console.print("no step form: the graph reads the future (`ssir explain SSIR022`)")
    for row in report.rows:
        if not row.ok:
            console.print(f"WRONG: {row.state or 'as planned'}, {row.form}, {row.dtype}, {row.steps} steps, {row.case}")


def bench(options: Namespace) -> int:
    """Measure, and tell each result as it comes."""
    import torch

    from ssir import bench as harness

    report = harness.run(
        options.specs,
        options.model or harness.DIMS,
        layers=options.layers,
        steps=options.steps,
        batch=options.batch,
        dtype=getattr(torch, options.dtype),
        threads=options.threads,
        seconds=float(options.seconds),
        modes=options.mode or harness.MODES,
        overrides=dict(options.set),
        peers=not options.no_peers,
        tell=_progress,
    )
    if options.output:
        harness.write(report, Path(options.output))
    if options.json:
        say.record(**report.record())
    else:
        say.console().print(harness.render(report))
    return 0


def _progress(cell: Cell) -> None:
    rate = say.quantity(cell.tokens.median)
    said = f"{cell.name}, {cell.model}, {cell.mode}: {rate} tokens/s"
    if cell.ratio and cell.peer:
        said += f", {cell.ratio.median:.2f} times {cell.peer}"
    say.console(stderr=True).print(said)
