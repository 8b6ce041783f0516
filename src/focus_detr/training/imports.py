"""Importing transformers' Trainer whatever the folder around it holds."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def without_local_datasets_folder() -> Iterator[None]:
    """Import transformers' Trainer while a local folder named "datasets" cannot pass for the package.

    Python takes any folder of that name beside the script for a package, and transformers would import it.
    """
    spec = importlib.util.find_spec("datasets") if "datasets" not in sys.modules else None
    if spec is None or spec.origin is not None:
        yield
        return
    hidden = {str(Path(place).parent) for place in spec.submodule_search_locations or []}
    kept = list(sys.path)
    sys.path[:] = [place for place in sys.path if str(Path(place or ".").resolve()) not in hidden]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = kept
