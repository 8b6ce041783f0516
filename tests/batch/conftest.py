"""A Ray of this machine that the tests of this folder share: it takes seconds to start, gigabytes to keep."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package")
def local_ray() -> Iterator[None]:
    pytest.importorskip("ray.data")
    from focus_detr.batch.cluster import connected

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        # Workers find the package as this process does.
        patch.setenv("PYTHONPATH", os.pathsep.join(["src", os.environ.get("PYTHONPATH", "")]))
        with connected(None):
            yield
