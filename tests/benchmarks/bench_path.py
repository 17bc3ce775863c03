"""Put this checkout first on the path: its package, its test helpers, and this folder."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [path for path in map(str, (ROOT, ROOT / "tests" / "support")) if path not in sys.path]
