"""From what stands on the command line to specs."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssir.errors import UsageError, nearest

if TYPE_CHECKING:
    from ssir.spec.load import Spec


def one(options: Namespace) -> Spec:
    """The spec that a command is about, its dims set."""
    return several(options, [options.spec])[0]


def several(options: Namespace, names: Sequence[str]) -> list[Spec]:
    """Specs, each with those of the dims that it has; one that none has is an error."""
    from ssir.spec.load import load

    changes = dict(options.set)
    if len(names) == 1:
        return [load(names[0], options.size, **changes)]
    specs: list[Spec] = []
    settable: set[str] = set()
    sizes: set[str] = set()
    for name in names:
        own = load(name).module.file
        has = {*own.dims, *own.constants}
        settable |= has
        sizes |= own.sizes.keys()
        specs.append(
            load(
                name,
                options.size if options.size in own.sizes else None,
                **{key: value for key, value in changes.items() if key in has},
            )
        )
    if options.size is not None and options.size not in sizes:
        near = nearest(options.size, sizes)
        raise UsageError(
            f"none of these specs has a size `{options.size}`" + (f"; the nearest is `{near}`" if near else "")
        )
    for key in changes:
        if key not in settable:
            near = nearest(key, settable)
            raise UsageError(f"none of these specs has a dim `{key}`" + (f"; the nearest is `{near}`" if near else ""))
    return specs


def standard_input(options: Namespace) -> Spec:
    """The spec that arrives on standard input."""
    from ssir.spec.load import loads
    from ssir.spec.yaml import MAX_BYTES, decoded

    return loads(decoded(sys.stdin.buffer.read(MAX_BYTES + 4), "<stdin>"), "<stdin>", **dict(options.set))


def forms(options: Namespace, spec: Spec) -> dict[str, str]:
    """The forms that are asked for, by state: those of a file, and over them those that are named. Raises UsageError if the file holds
    none, or those of another spec."""
    if options.forms is None:
        return dict(options.form)
    from ssir import passes
    from ssir.ir.text import digest

    path = Path(options.forms)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known, read = found["digest"], {str(state): str(form) for state, form in found["forms"].items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(f"`{path}` holds no forms: {error}") from None
    if known != digest(passes.run(spec.graph)):
        help = "measure it anew with `ssir plan --tune`"
        raise UsageError(f"the forms in `{path}` are of another spec, or of other dims; {help}")
    return read | dict(options.form)
