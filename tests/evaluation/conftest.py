"""Makes `scenes`, and `fake_detector` of the inference tests, importable."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "inference"))

sys.path.append(str(Path(__file__).parent))
