"""A campaign over random specs: `python -m tests.random --count 10000 [--seed N] [--jobs N]`. What it finds is told, shrunk and told again."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from multiprocessing import get_context

from .proof import piece

PIECE = 250  # specs of one seed


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--dtypes", nargs="+", default=["float64"], choices=["float64", "float32"])
    options = parser.parse_args()
    start = time.monotonic()
    sizes = [min(PIECE, options.count - done) for done in range(0, options.count, PIECE)]
    pieces = [(size, 1000 * options.seed + i, options.dtypes) for i, size in enumerate(sizes)]
    proved = wrong = 0
    with get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for some, found in pool.imap_unordered(piece, pieces):
            proved += some
            wrong += bool(found)
            sys.stdout.write(
                f"{found or ''}{proved} specs proved in {time.monotonic() - start:.0f} s, {wrong} of {len(pieces)} pieces with a mismatch\n"
            )
            sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
