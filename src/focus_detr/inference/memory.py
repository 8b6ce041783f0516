"""Batches that memory does not hold, said in words that help."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from focus_detr.errors import FocusDetrError


@contextmanager
def explained_memory(shape: Sequence[int]) -> Iterator[None]:
    """Raise `FocusDetrError` where memory ends inside, computing a batch of this shape (B,3,H,W)."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        torch = sys.modules.get("torch")
        full = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
        if not isinstance(error, full) and "can't allocate memory" not in str(error):
            raise
        count, _, height, width = shape
        advice = f"lower batch_size (now {count}), or " if count > 1 else "lower "
        raise FocusDetrError(
            f"out of memory on a batch of {count} image(s) of {height}x{width} pixels: {advice}"
            "the size images are resized to (the image processor's size)"
        ) from error
