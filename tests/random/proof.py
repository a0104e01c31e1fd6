"""A random spec, proved: every form that fits, forwards and backwards, against its meaning."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence

import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import UnsatisfiedAssumption

import ssir
from ssir.errors import SpecError, SSIRError

from .specs import specs

STEPS = (1, 2, 19)
DTYPES = (torch.float64, torch.float32)


def prove(text: str, steps: Sequence[int] = STEPS, dtypes: Sequence[torch.dtype] = DTYPES) -> None:
    """Raise AssertionError with the spec and the rows that are wrong."""
    try:
        spec = ssir.loads(text)
        spec.graph  # noqa: B018 - what is not well typed is told here
        report = ssir.verify(spec, steps=steps, dtypes=dtypes)
    except SpecError:
        assume(False)
    except SSIRError as error:
        assume("grows without bound" not in str(error))
        raise
    wrong = [row for row in report.worst() if not row.ok]
    assert not wrong, "\n".join([*map(str, wrong), text])


def campaign(
    count: int,
    seed: int,
    steps: Sequence[int] = STEPS,
    dtypes: Sequence[torch.dtype] = DTYPES,
    tell: Callable[[str], None] = lambda text: None,
) -> int:
    """Prove so many specs, and say how many were well typed. The first failure is told at once, shrunk, and raised."""
    proved = failed = 0

    @seeded(seed)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(specs())
    def each(text: str) -> None:
        nonlocal proved, failed
        try:
            prove(text, steps, dtypes)
        except UnsatisfiedAssumption:
            raise
        except Exception as error:
            if not failed:
                tell(f"{type(error).__name__}: {error}\n{text}")
            failed += 1
            raise
        proved += 1

    each()
    return proved


def piece(job: tuple[int, int, Sequence[str]]) -> tuple[int, str]:
    """A part of a campaign, in a process of its own: how many specs of a seed were proved, and what was found."""
    count, seed, dtypes = job
    torch.set_num_threads(1)
    try:
        return campaign(count, seed, STEPS, [getattr(torch, name) for name in dtypes], _say), ""
    except Exception:  # whatever a spec brings about is what was looked for
        return 0, f"campaign({count}, {seed}):\n{traceback.format_exc()}"


def _say(text: str) -> None:
    sys.stderr.write(f"found:\n{text}\n")
    sys.stderr.flush()
