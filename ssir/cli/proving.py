"""The commands that run what was compiled: verify, bench."""

from __future__ import annotations

from argparse import Namespace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from ssir.cli import say, specs
from ssir.errors import UsageError

if TYPE_CHECKING:
    from ssir.bench import Cell
    from ssir.proof.report import Report

_QUICK = (1, 2, 17)


def verify(options: Namespace) -> int:
    """Hold the forms of each spec against its meaning; 1 if an error is over its limit."""
    import ssir
    from ssir.proof import table
    from ssir.proof.verify import STEPS

    progress = say.console(stderr=True)
    output = Path(options.output) if options.output else None
    if not options.specs and not options.all:
        raise UsageError("there is no spec to verify; name some, or give --all")
    names = zoo_names() if options.all else options.specs
    done = table.held(output) if output else set()
    reports: list[Report] = []
    for spec in specs.several(options, [name for name in names if name not in done]):
        with progress.status(spec.name) as status:
            report = ssir.verify(
                spec,
                steps=_QUICK if options.quick else STEPS,
                progress=lambda text, name=spec.name, status=status: status.update(f"{name}: {text}"),  # type: ignore[misc]
                seed=options.seed,
                every_form=not options.quick,
                thorough=not options.quick,
            )
        reports.append(report)
        if output:
            table.append(output, report)
        if not options.json:
            _tell(report)
    good = all(report.ok for report in reports)
    if options.json:
        say.record(ok=good, specs=[report.record() for report in reports])
    return 0 if good else 1


def zoo_names() -> list[str]:
    from ssir.spec.load import zoo

    return [name for name, _ in zoo()]


def _tell(report: Report) -> None:
    console = say.console()
    dims = ", ".join(f"{name}={'unbounded' if size is None else size}" for name, size in report.dims.items())
    console.print(report.name, style="bold")
    console.print(f"small dims: {dims}")
    for place, dims in report.places.items():
        console.print(f"{place}: {dims}")
    numbers = ("output", "memory", "gradient", "limit", "condition", "rows")
    table = say.table("state", "form", "at", "dtype", *numbers, "", right=numbers)
    for one in report.summary():
        errors = ["" if one[key] is None else f"{one[key]:.1e}" for key in ("forward", "after", "gradient", "limit")]
        condition = "" if one["condition"] is None else f"{one['condition']:.0e}"
        state = one["state"] or "(as planned)"
        table.add_row(
            state, one["form"], one["at"], one["dtype"], *errors, condition, str(one["comparisons"]), one["verdict"]
        )
    console.print(table)
    for name, holder in report.merged.items():
        console.print(f"the passes keep `{name}` in `{holder}`")
    for note in report.notes:
        console.print(note)
    if not report.has_step:
        console.print("no step form: the graph reads the future (`ssir explain SSIR022`)")
    for row in report.rows:
        if not row.ok:
            place = f"{row.at}, {row.threads} threads" if row.threads > 1 else row.at
            console.print(
                f"WRONG: {row.state or 'as planned'}, {row.form}, {row.dtype}, {place}, {row.steps} steps, {row.case}: {row.tensor}"
            )
    for row in report.worst():
        if row.verdict == "ill-conditioned":
            console.print(
                f"ill-conditioned: in {row.dtype}, moving inputs, parameters and memories by one rounding moves {row.tensor} by "
                f"{row.condition:.0e} roundings, whatever computes it; no error beyond that was found in {row.form}"
            )


def bench(options: Namespace) -> int:
    """Measure, and tell each result as it comes."""
    import torch

    from ssir import bench as harness

    report = harness.run(
        options.specs,
        options.model or harness.DIMS,
        layers=options.layers,
        shapes=list(product(options.batch or [1], options.steps or [1024])) if options.batch or options.steps else None,
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
