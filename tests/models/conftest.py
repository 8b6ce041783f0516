"""Tests are imported by path, so the folder of their shared builders has to be named."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
