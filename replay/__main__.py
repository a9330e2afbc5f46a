"""``python -m replay`` is the command ``replay``."""

import sys

from .tools.cli import main

sys.exit(main())
