"""Makes the helper module of this folder importable, here and by the processes that tests start."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
