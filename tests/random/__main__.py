"""A campaign over random specs: `python -m tests.random --count 10000 [--seed N]`. What it finds is shrunk and told."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser

import torch

from .proof import campaign


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    proved = campaign(options.count, options.seed)
    sys.stdout.write(f"{proved} specs proved in {time.monotonic() - start:.0f} s, seed {options.seed}\n")


if __name__ == "__main__":
    main()
