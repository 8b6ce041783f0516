"""Makes the helper module of this folder importable, here and in the processes that tests start."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    import tiny_training

    return tiny_training.write_dataset(tmp_path_factory.mktemp("tiny") / "data")
