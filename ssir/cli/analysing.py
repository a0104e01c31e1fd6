"""The command that looks at numbers: analyze."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ssir.cli import say, specs
from ssir.errors import UsageError

if TYPE_CHECKING:
    from ssir.compilers.runtime.model import Model
    from ssir.spec.load import Spec


def analyze(options: Namespace) -> int:
    """Tell poles, half-lives, responses and costs; plot them."""
    from ssir.compilers.forms import MACHINES, Setting

    device = options.device.partition(":")[0]
    if device not in MACHINES:
        raise UsageError(f"the costs of a device `{options.device}` are not known; there are {', '.join(MACHINES)}")
    out = None if options.output is None else Path(options.output)
    if out is not None:
        from ssir.analyze import plots

        plots.kind_of(out)
    text = None if options.text is None else _read(options.text)
    subject = _subject(options)
    import ssir

    progress = say.console(stderr=True)
    with progress.status("looking at A") as status:
        found = ssir.analyze(
            subject,
            text,
            options.steps,
            options.seed,
            Setting(device=device),
            progress=lambda words: status.update(f"looking at A: {words}"),
        )
    if out is not None:
        found.plot(out)
    if options.json:
        say.record(**found.record())
    else:
        from ssir.analyze.table import parts

        for part in parts(found):
            say.console().print(part, soft_wrap=isinstance(part, str))
    if out is not None:
        progress.print(f"wrote {out}", soft_wrap=True)
    return 0


def _subject(options: Namespace) -> Spec | Model:
    """The spec, or the model of an artifact."""
    trained = options.trained
    if options.spec is None and trained is None:
        raise UsageError("there is nothing to analyse; name a spec, or an artifact: --trained DIR")
    if trained is None and (Path(options.spec) / "manifest.json").is_file():
        raise UsageError(f"{options.spec} is an artifact; --trained {options.spec} analyses it")
    if trained is None:
        return specs.one(options)
    if options.set or options.size:
        raise UsageError(f"{trained} is an artifact: its dims are what they are")
    import ssir

    model: Model = ssir.open(trained)
    if options.spec is not None and options.spec != model.spec.name:
        raise UsageError(f"the artifact in {trained} is of `{model.spec.name}`, not of `{options.spec}`")
    return model


def _read(name: str) -> bytes:
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"there is no file `{name}` to read a text from")
    return path.read_bytes()
