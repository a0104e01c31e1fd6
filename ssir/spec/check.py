"""Everything that can be said of a spec without running it."""

from __future__ import annotations

from ssir import passes
from ssir.depth import TooDeep, deep
from ssir.errors import Diagnostic, SpecError
from ssir.spec.elaborate import survey
from ssir.spec.load import Spec


def check(spec: Spec) -> None:
    """Raise SpecError with all that is wrong with the file of a spec, components that nothing uses included."""
    faults = survey(spec.module, spec.overrides)
    if faults:
        raise SpecError(faults)
    try:
        with deep():
            passes.run(spec.graph, check=True)
    except TooDeep:
        span = spec.module.document.span(("components", spec.component), key=True)
        raise SpecError(
            [Diagnostic("SSIR004", "the graph is too deep", span, help="repeat components with a stack")]
        ) from None
