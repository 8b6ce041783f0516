"""Makes `fake_detector` importable from the tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
