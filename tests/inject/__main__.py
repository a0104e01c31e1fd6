"""Injects faults one at a time into a copy of the tree, and says which of them the quick tests see.

python -m tests.inject [--only ROOM] [--count N] [--seed N] [--list] [--jobs N]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests.inject.mutants import Mutant, of_file
from tests.inject.reviewed import FAULTS, harmless
from tests.inject.rooms import ROOMS, ROOT, files

_SEEN = 0.9  # of all faults: what is asked of the tests
_ENOUGH = 100
_LATE = "out of time"


@dataclass(frozen=True)
class Injected:
    room: str
    file: str
    words: str
    text: str
    """The file with its fault."""


def faults(only: Sequence[str], count: int, seed: int) -> Iterator[Injected]:
    """The faults that people thought of, then so many made by rule, the same for a seed; as many of each room as there are."""
    for fault in FAULTS:
        path = ROOT / fault.file
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if fault.room in only and text.count(fault.old) == 1:
            words = f"{fault.file}: {fault.what}"
            yield Injected(fault.room, fault.file, words, text.replace(fault.old, fault.new))
    drawn = [iter(_drawn(room, seed)) for room in only]
    while count > 0 and drawn:
        for one in list(drawn):
            found = next(one, None)
            if found is None:
                drawn.remove(one)
            elif count > 0:
                count -= 1
                yield found


def stale() -> list[str]:
    """The faults that people thought of whose place is no longer there."""
    texts = {fault.file: (ROOT / fault.file) for fault in FAULTS}
    return [
        f"{fault.file}: {fault.what}"
        for fault in FAULTS
        if not texts[fault.file].exists() or texts[fault.file].read_text(encoding="utf-8").count(fault.old) != 1
    ]


def _drawn(room: str, seed: int) -> Iterator[Injected]:
    """Faults made by rule, in an order that a seed decides: of every kind in turn, so that what is frequent does not drown the rest."""
    chance = random.Random(f"{seed} {room}")
    kinds: dict[str, list[Mutant]] = {}
    for path in files(room):
        name = path.relative_to(ROOT).as_posix()
        for mutant in of_file(path, name, ROOMS[room].skip):
            if harmless(name, mutant.function, mutant.old) is None:
                kinds.setdefault(mutant.kind, []).append(mutant)
    for mutants in kinds.values():
        chance.shuffle(mutants)
    while kinds:
        for kind in sorted(kinds):
            mutant = kinds[kind].pop()
            text = (ROOT / mutant.file).read_text(encoding="utf-8")
            yield Injected(room, mutant.file, mutant.words, mutant.applied(text))
            if not kinds[kind]:
                del kinds[kind]


class Copy:
    """A copy of the tree in which faults are made and mended again."""

    def __init__(self, at: Path) -> None:
        self.at = at / "tree"
        self.cache = at / "cache"
        self.cache.mkdir()
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in filter(None, names.stdout.decode().split("\0")):
            source, target = ROOT / name, self.at / name
            if not source.exists() and not source.is_symlink():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                target.symlink_to(os.readlink(source))
            else:
                shutil.copyfile(source, target)

    def run(self, fault: Injected | None, tests: Sequence[str], limit: float) -> str:
        """What became of a fault: killed by a test, by a crash or by the time; or survived."""
        there = [test for test in tests if (self.at / test).exists()]
        place = self.at / fault.file if fault else None
        right = place.read_bytes() if place else b""
        native = fault is not None and fault.file.endswith((".c", ".h"))
        with tempfile.TemporaryDirectory() as private:
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": str(self.at),
                "XDG_CACHE_HOME": private if native else str(self.cache),
            }
            command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *there]
            try:
                if place and fault:
                    place.write_text(fault.text, encoding="utf-8")
                done = subprocess.run(
                    command, cwd=self.at, env=environment, capture_output=True, timeout=limit, text=True
                )
            except subprocess.TimeoutExpired:
                return _LATE
            finally:
                if place:
                    place.write_bytes(right)
        if done.returncode == 0:
            return "survived"
        if done.returncode in (1, 2):
            failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
            return f"killed by {failed[0].split(' - ')[0].split(' ', 1)[1]}" if failed else "killed"
        return "killed (crash)" if done.returncode != 5 else "survived (no test ran)"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.inject", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", metavar="ROOM", action="append", choices=list(ROOMS), help=f"one of {', '.join(ROOMS)}"
    )
    parser.add_argument("--count", metavar="N", type=int, default=_ENOUGH, help="faults made by rule (default 100)")
    parser.add_argument("--skip", metavar="N", type=int, default=0, help="so many of all: to go on after a stop")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="which of them (default 0)")
    parser.add_argument(
        "--limit", metavar="SECONDS", type=float, default=600, help="for the tests of one fault (default 600)"
    )
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="copies to work in at once (default 1)")
    parser.add_argument("--trust", action="store_true", help="take it that the tests pass where there is no fault")
    parser.add_argument("--list", action="store_true", help="say what would be injected, and stop")
    options = parser.parse_args()
    rooms = options.only or list(ROOMS)
    chosen = list(faults(rooms, options.count, options.seed))[options.skip :]
    for one in stale():
        print(f"out of date, to be mended in tests/inject/reviewed.py: {one}")
    if options.list:
        for fault in chosen:
            print(f"{fault.room}: {fault.words}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return _inject(chosen, [] if options.trust else rooms, Path(folder), options.jobs, options.limit)


def _inject(chosen: Sequence[Injected], checked: Sequence[str], folder: Path, jobs: int, limit: float) -> int:
    free: SimpleQueue[Copy] = SimpleQueue()
    for i in range(jobs):
        (folder / str(i)).mkdir()
        free.put(Copy(folder / str(i)))
    limits = dict.fromkeys(ROOMS, limit)
    first = free.get()
    for room in checked:
        start = time.monotonic()
        before = first.run(None, ROOMS[room].tests, limit)
        if before != "survived":
            print(f"the tests of {room} do not pass without a fault: {before}")
            return 2
        limits[room] = 3 * (time.monotonic() - start) + 60
    free.put(first)

    def one(fault: Injected) -> tuple[Injected, str]:
        copy, start = free.get(), time.monotonic()
        try:
            found = copy.run(fault, ROOMS[fault.room].tests, limits[fault.room])
        finally:
            free.put(copy)
        print(f"{fault.room}: {fault.words}: {found} ({time.monotonic() - start:.0f} s)", flush=True)
        return fault, found

    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(one, chosen))
    # A run three times as long as without a fault hangs; where that is not known, nothing is.
    seen = ("killed", _LATE) if checked else ("killed",)
    survivors = [fault for fault, found in results if not found.startswith(seen)]
    print(f"\n{len(results) - len(survivors)} of {len(results)} killed")
    for fault in survivors:
        print(f"not killed: {fault.room}: {fault.words}")
    return 0 if len(survivors) <= (1 - _SEEN) * len(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
