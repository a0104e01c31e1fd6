"""A random spec, proved: every form that fits, forwards and backwards, against its meaning."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, assume, given, settings

import ssir
from ssir.errors import SpecError

from .specs import specs

STEPS = (1, 2, 19)


def prove(text: str) -> None:
    """Raise AssertionError with the spec and the rows that are wrong."""
    try:
        spec = ssir.loads(text)
        spec.graph  # noqa: B018 - what is not well typed is told here
    except SpecError:
        assume(False)
    report = ssir.verify(spec, steps=STEPS)
    wrong = [row for row in report.worst() if not row.ok]
    assert not wrong, "\n".join([*map(str, wrong), text])


def campaign(count: int, seed: int | None = None) -> None:
    """Prove so many specs. A failure is shrunk, and raised."""
    from hypothesis import seed as seeded

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=seed is None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )
    @given(specs())
    def each(text: str) -> None:
        prove(text)

    (each if seed is None else seeded(seed)(each))()
