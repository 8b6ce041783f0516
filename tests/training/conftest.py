"""Makes the helper module of this folder importable, here and in the processes that tests start."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    from helpers import tiny_training

    return tiny_training.write_dataset(tmp_path_factory.mktemp("tiny") / "data")
