"""``python -m ssir`` is the command ``ssir``."""

import sys

from ssir.cli import main

if __name__ == "__main__":
    sys.exit(main())
