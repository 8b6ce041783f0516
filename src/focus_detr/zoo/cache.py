"""The folder that downloaded and converted models are kept in."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from focus_detr.errors import FocusDetrError
from focus_detr.folders import from_home, writable_folder

logger = logging.getLogger(__name__)

VARIABLE = "FOCUS_DETR_CACHE"


def cache_folder() -> Path:
    """What ``FOCUS_DETR_CACHE`` says, else the platform's folder for caches."""
    said = os.environ.get(VARIABLE)
    if said:
        return Path(from_home(said)).absolute()
    from pooch import os_cache

    return Path(os_cache("focus-detr"))


@dataclass(frozen=True)
class Place:
    """Where a model of some name is kept.

    Attributes:
        by_hand: for its files as they were published, where a person gets them.
        downloads: for the same files, where this package gets them; gone once the model is made.
        checksum: that of the first such file, where none was published; as `sha256sum` writes it.
        model: the model folder made of them, whole or not there.
    """

    name: str
    by_hand: Path
    downloads: Path
    checksum: Path
    model: Path

    @property
    def is_complete(self) -> bool:
        """Whether the model is there."""
        return (self.model / "config.json").is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time fill this place; others wait, and find it filled.

        Raises:
            FocusDetrError: the cache cannot be written to.
        """
        from filelock import FileLock, Timeout

        writable_folder(self.downloads, VARIABLE)
        try:
            for folder in (self.by_hand, self.downloads, self.checksum.parent, self.model.parent):
                folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.checksum.with_suffix(".lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                logger.info("%s: waiting for another process that is getting it", self.name)
                lock.acquire()
        except (OSError, NotImplementedError) as error:
            raise FocusDetrError(
                f"{VARIABLE} {self.downloads}: cannot be used ({error}); name another folder"
            ) from error
        try:
            yield
        finally:
            lock.release()


def place_of(name: str) -> Place:
    """Where the model of that name is kept, or would be."""
    folder = cache_folder()
    return Place(
        name,
        by_hand=folder / "by-hand" / name,
        downloads=folder / "downloads" / name,
        checksum=folder / "checksums" / f"{name}.sha256",
        model=folder / "models" / name,
    )
