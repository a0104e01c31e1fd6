"""A random spec, proved: every form that fits, forwards and backwards, against its meaning."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import seed as seeded

import ssir
from ssir.errors import SpecError, SSIRError

from .specs import specs

STEPS = (1, 2, 19)


def prove(text: str, steps: Sequence[int] = STEPS) -> None:
    """Raise AssertionError with the spec and the rows that are wrong."""
    try:
        spec = ssir.loads(text)
        spec.graph  # noqa: B018 - what is not well typed is told here
        report = ssir.verify(spec, steps=steps)
    except SpecError:
        assume(False)
    except SSIRError as error:
        assume("grows without bound" not in str(error))
        raise
    wrong = [row for row in report.worst() if not row.ok]
    assert not wrong, "\n".join([*map(str, wrong), text])


def campaign(count: int, seed: int, steps: Sequence[int] = STEPS) -> int:
    """Prove so many specs, and say how many were well typed. The first failure is shrunk, and raised."""
    proved = 0

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
        nonlocal proved
        prove(text, steps)
        proved += 1

    each()
    return proved
