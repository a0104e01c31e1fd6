"""``python -m ssir.cli`` is ``ssir``."""

import sys

from ssir.cli import main

sys.exit(main())
