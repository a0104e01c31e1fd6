"""Is the form that a plan chooses the fastest here? `python -m tests.order [SPEC ...] [--steps N] [--batch N] [--device D]`

For every state of the zoo that several forms fit: what each was expected to take, and what a model with it takes, forwards and backwards,
measured by turns. A choice that takes half as long again as the fastest is told as wrong, and makes the exit code 1.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from ssir import passes
from ssir.compilers.forms import Setting
from ssir.compilers.plan import plan
from ssir.errors import SSIRError
from ssir.spec.load import load
from ssir.tune import tune

from .small import SMALL

_TIES = 1.5


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("specs", nargs="*", default=sorted(SMALL))
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each form, at least")
    options = parser.parse_args()
    at = Setting(options.batch, options.steps, device=options.device)
    wrong = 0
    for name in options.specs:
        try:
            spec = load(name)
            expected = {entry.path: entry.seconds for entry in plan(passes.run(spec.graph), at).entries}
            found = tune(spec, at, options.seconds)
        except SSIRError as error:
            sys.stdout.write(f"{name}: not measured: {error}\n")
            continue
        for state, measured in found.measured.items():
            chosen = next(form for form in expected[state] if form in measured)
            far = measured[chosen] > _TIES * min(measured.values())
            wrong += far
            told = ", ".join(
                f"{form} {1e3 * seconds:.3g} ms (expected {1e3 * expected[state][form]:.3g})"
                for form, seconds in sorted(measured.items(), key=lambda pair: pair[1])
            )
            sys.stdout.write(f"{'WRONG: ' if far else ''}{name}, {state}: {told}\n")
            sys.stdout.flush()
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
