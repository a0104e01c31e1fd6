"""The command line: ``ssir COMMAND``. Results go to stdout, everything else to stderr.

Nothing is imported before it is known to be needed: ``ssir --help`` answers at once, and only what computes imports torch.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module

from ssir.cli.parser import parser
from ssir.errors import EnvironmentLacks, SpecError, SSIRError

INTERRUPTED = 130
INTERNAL = 70


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        options = parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said what is wrong, or has printed the help
        return int(stop.code or 0)
    if not hasattr(options, "runs"):
        parser().print_help(sys.stderr)
        return 2
    try:
        return _run(options)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(options: Namespace) -> int:
    """A command, and what went wrong in it told."""
    module, _, function = options.runs.partition(":")
    try:
        code = int(getattr(import_module(f"ssir.cli.{module}"), function)(options))
    except BrokenPipeError:
        raise
    except Exception as error:
        if getattr(options, "traceback", False):
            raise
        code = _told(error, getattr(options, "json", False))
    sys.stdout.flush()
    return code


def _told(error: Exception, json: bool) -> int:
    """Say what went wrong, and how it counts."""
    if not isinstance(error, SSIRError):
        error = _expected(error) or error
    if isinstance(error, SSIRError):
        if json:
            from ssir.cli.say import faults, record

            found = faults(error) if isinstance(error, SpecError) else []
            record(ok=False, error=str(error), diagnostics=found)
        print(error if isinstance(error, SpecError) else f"error: {error}", file=sys.stderr)
        return error.exit_code
    words = f"{type(error).__name__}: {error}".splitlines()[0]
    from ssir.registry import registry

    plugin = registry.culprit(error)
    if plugin is not None:
        whose = f"of the plugin `{plugin.name}` ({plugin.distribution} {plugin.version}), not of SSIR or the spec"
    else:
        whose = "of SSIR, not of the spec"
    print(f"internal error: {words}\nThis is a fault {whose}; --traceback shows where.", file=sys.stderr)
    return INTERNAL


def _expected(error: Exception) -> SSIRError | None:
    """What the machine may refuse at any time."""
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return EnvironmentLacks(f"{place}{(error.strerror or str(error)).lower()}")
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    ):
        return EnvironmentLacks("there is not enough memory; set smaller dims: --set dim=value")
    if isinstance(error, ModuleNotFoundError):
        return EnvironmentLacks(f"the package `{error.name}` is not installed")
    return None
