"""Variables of the environment that processes of a run begin with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

WAIT_ASLEEP = {"OMP_WAIT_POLICY": "passive"}
"""Before torch is imported: a thread of a model that waits for another leaves its core to those that read.

By default it keeps the core for a while, and where something else has the one that it waits for, each of some
thousand such places of a forward pass costs a time slice: seconds a picture, in place of a tenth of one.
"""


@contextmanager
def unless_set(settings: Mapping[str, str]) -> Iterator[None]:
    """``settings`` inside, but for those that somebody has set, which stay."""
    new = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
