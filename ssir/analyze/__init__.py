"""Numbers of a model: poles and half-lives of its states, responses of those that are constant, and what each form costs over the length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssir.compilers.forms import Setting

if TYPE_CHECKING:
    from ssir.analyze.costs import Costs
    from ssir.analyze.poles import Poles
    from ssir.analyze.responses import Response
    from ssir.compilers.runtime.model import Model
    from ssir.spec.load import Spec

STEPS = 64  # of a sequence, where A depends on it


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found. ``words``: what was run over, if anything had to be; printed, it is a table."""

    name: str
    trained: bool
    seed: int
    words: str | None
    poles: tuple[Poles, ...]
    responses: tuple[Response, ...]
    costs: tuple[Costs, ...]
    at: Setting

    def record(self) -> dict[str, Any]:
        """All of it as plain data, laid out as docs/analyze.md says."""
        from ssir.analyze.costs import LENGTHS

        return {
            "name": self.name,
            "trained": self.trained,
            "seed": self.seed,
            "looked_at": self.words,
            "states": [one.record() for one in self.poles],
            "responses": [one.record() for one in self.responses],
            "device": self.at.device,
            "dtype": self.at.dtype,
            "batch": self.at.batch,
            "lengths": list(LENGTHS),
            "costs": [one.record() for one in self.costs],
        }

    def plot(self, out: str | PathLike[str]) -> None:
        """One figure of all of it, as an .svg, .png or .pdf file. Raises UsageError; EnvironmentLacks without matplotlib."""
        from ssir.analyze.plots import write

        write(self, Path(out))

    def __str__(self) -> str:
        from ssir.analyze.table import text

        return text(self)


def analyze(
    spec: Spec | Model | str | PathLike[str],
    text: str | bytes | None = None,
    steps: int = STEPS,
    seed: int = 0,
    at: Setting | None = None,
    progress: Callable[[str], None] = lambda words: None,
) -> Analysis:
    """Poles, half-lives, responses and costs of a spec, with the parameters that a seed draws, or of a compiled model with its own.

    text: what a model that takes tokens is run over where A depends on the input, a token a byte; without it, or where no input is a token,
    the input is drawn from the seed. steps: at most so many of it. at: the batch, dtype and device that costs are asked for (one sequence, float32,
    the CPU). Raises SpecError, UsageError, and EnvironmentLacks if the parameters of a spec that has to be run do not fit into memory.
    """
    from ssir.analyze.costs import costs
    from ssir.analyze.poles import poles
    from ssir.analyze.responses import responses
    from ssir.analyze.subject import Subject
    from ssir.errors import UsageError

    if steps < 1:
        raise UsageError(f"a sequence has one step at least, not {steps}")
    at = at or Setting()
    subject = Subject.of(spec, text.encode() if isinstance(text, str) else text, steps, seed)
    found = poles(subject, progress)
    words = subject.words if any(one.place.moves for one in found) else None
    return Analysis(subject.name, subject.trained, seed, words, found, responses(subject), costs(subject.graph, at), at)
