"""What a terminal is helped with: names that are completed, files that are checked whenever they change."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ssir.cli.parser import parser
from ssir.errors import UsageError

_BASH = """\
_ssir_specs() {{
  compgen -W '{names}' -- "$1"
  compgen -f -X '!*.y*ml' -- "$1"
  compgen -d -S / -- "$1"
}}
"""
_ZSH = """\
_ssir_specs() {{
  _alternative 'specs:spec:({names})' 'files:file:_files -g "*.y(a|)ml"'
}}
"""
_PAUSE = 0.2


def completion(options: Namespace) -> int:
    """Print a script that makes a shell complete commands, options, and the names of specs."""
    import shtab

    from ssir.spec.load import zoo

    whole = parser()
    for command in whole._subparsers._group_actions[0].choices.values():  # type: ignore[union-attr]
        for action in command._actions:
            if action.dest in ("spec", "specs"):
                action.complete = {"bash": "_ssir_specs", "zsh": "_ssir_specs"}
            elif action.dest == "output":
                action.complete = shtab.FILE
    names = " ".join(sorted(name for name, _ in zoo()))
    preamble: Any = {"bash": _BASH.format(names=names), "zsh": _ZSH.format(names=names)}
    print(shtab.complete(whole, options.shell, preamble=preamble))
    return 0


def watched(check: Callable[[], int], names: Sequence[str], changes: Callable[[], Any] | None = None) -> int:
    """Check now, and whenever a spec in the folder of one of these files changes, until interrupted; the last exit code.

    changes: waits for the next change; left out, files are looked at several times a second. Raises UsageError if one is no file.
    """
    for name in names:
        if not Path(name).is_file():
            raise UsageError(f"`{name}` is no file, so it cannot be watched")
    folders = {Path(name).parent for name in names}
    wait = changes or (lambda: _change(folders))
    code = 0
    try:
        while True:
            code = check()
            print(f"{time.strftime('%H:%M:%S')} watching {', '.join(names)}", file=sys.stderr, flush=True)
            wait()
    except KeyboardInterrupt:
        return code


def _change(folders: Iterable[Path]) -> None:
    """Return when a spec in one of these folders is another than it was."""
    before = _seen(folders)
    while _seen(folders) == before:
        time.sleep(_PAUSE)


def _seen(folders: Iterable[Path]) -> set[tuple[str, int, int]]:
    found = set()
    for folder in folders:
        for path in [*folder.glob("*.yaml"), *folder.glob("*.yml")]:
            try:
                state = path.stat()
            except FileNotFoundError:  # an editor replaces it just now
                continue
            found.add((str(path), state.st_mtime_ns, state.st_size))
    return found
