"""Progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress_bar(unit: str, options: Mapping[str, Any]) -> Iterator[Callable[[int], Any]]:
    """What is told how many more are done. For a bar that nobody sees, nothing is imported.

    Args:
        options: tqdm's, with "disable".
    """
    if options["disable"]:
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(unit=unit, **options) as bar:
        yield bar.update
