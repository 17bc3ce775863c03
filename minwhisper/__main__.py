"""``python -m minwhisper`` is the command ``minwhisper``."""

import sys

from .cli import main

sys.exit(main())
