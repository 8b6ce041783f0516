"""Files and folders, on disks or in stores that fsspec knows, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from focus_detr.errors import FocusDetrError
from focus_detr.folders import from_home


@dataclass(frozen=True)
class Place:
    """A path of this machine, or a URL as in `s3://bucket/folder`; travels to other processes."""

    name: str

    @classmethod
    def of(cls, name: str | os.PathLike[str]) -> Place:
        """Of a name as people write it: `~` is the home folder, and `file://` a path.

        Raises:
            FocusDetrError: a URL of a kind that cannot be read here.
        """
        text = os.fspath(name)
        if text.lower().startswith("file://"):
            text = text[len("file://") :]
        place = cls(from_home(Path(text)).as_posix() if "://" not in text else text.rstrip("/"))
        if not place.is_web:
            _ = place._store
        return place

    @property
    def is_local(self) -> bool:
        return "://" not in self.name

    @property
    def is_web(self) -> bool:
        """Whether it is an address of the web, which is downloaded and not a store."""
        return self.name.lower().startswith(("http://", "https://"))

    @cached_property
    def _store(self) -> tuple[Any, str]:
        import fsspec

        try:
            return fsspec.core.url_to_fs(self.name)
        except (ValueError, ImportError, OSError) as error:
            raise FocusDetrError(f"{self.name}: no place that can be read here ({error})") from error

    def __getstate__(self) -> dict[str, str]:
        return {"name": self.name}  # connections stay where they were made

    def __setstate__(self, state: dict[str, str]) -> None:
        object.__setattr__(self, "name", state["name"])

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.name}/{name}")

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1].lower()

    def exists(self) -> bool:
        store, path = self._store
        store.invalidate_cache()
        return bool(store.exists(path))

    def is_folder(self) -> bool:
        store, path = self._store
        return bool(store.isdir(path))

    def files(self) -> list[Place]:
        """All files below a folder, sorted; none where there is no folder."""
        store, path = self._store
        store.invalidate_cache()
        return [self._beside(found) for found in sorted(store.find(path))]

    def matches(self) -> list[Place]:
        """The files that a pattern stands for, sorted."""
        store, path = self._store
        return [self._beside(found) for found in sorted(store.glob(path)) if not store.isdir(found)]

    def _beside(self, path: str) -> Place:
        return Place(path if self.is_local else self._store[0].unstrip_protocol(path))

    def open(self) -> IO[bytes]:
        """A stream that can be read from any position."""
        store, path = self._store
        return store.open(path, "rb")

    def read(self, first: int = 0, end: int | None = None) -> bytes:
        """The bytes from ``first`` to ``end``, in one request; raises `OSError`."""
        store, path = self._store
        return store.cat_file(path, start=first, end=end)

    def write(self, content: bytes) -> None:
        """Put a whole file here, in place of what there was."""
        with self.whole() as stream:
            stream.write(content)

    @contextmanager
    def whole(self) -> Iterator[IO[bytes]]:
        """A stream to write a file by, which is here once all is written: for all who look, or not at all."""
        with self.whole_path() as path, open(path, "wb") as stream:
            yield stream

    @contextmanager
    def whole_path(self) -> Iterator[str]:
        """As `whole`, the path of a file to be written here: on a disk it is then renamed, in a store put."""
        store, path = self._store
        if not self.is_local:
            with tempfile.TemporaryDirectory(prefix="focus-detr-") as folder:
                writing = os.path.join(folder, os.path.basename(path))
                yield writing
                store.put_file(writing, path)
            return
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        # A name of its own: two may write the same block, where one was taken for dead.
        writing = os.path.join(folder, f".{os.path.basename(path)}.{uuid.uuid4().hex}.part")
        try:
            yield writing
            with open(writing, "rb") as stream:
                os.fsync(stream.fileno())
            os.replace(writing, path)
        finally:
            Path(writing).unlink(missing_ok=True)

    def remove(self) -> None:
        """A file or a folder with all in it; no error where there is none."""
        store, path = self._store
        if self.is_local:
            Path(path).unlink(missing_ok=True) if os.path.isfile(path) else shutil.rmtree(path, True)
        elif store.exists(path):
            store.rm(path, recursive=True)

    @contextmanager
    def here(self) -> Iterator[str]:
        """The file's path on this machine: its own, or that of a copy, gone afterwards; raises `OSError`."""
        store, path = self._store
        if self.is_local:
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="focus-detr-") as folder:
            copy = os.path.join(folder, os.path.basename(path))
            store.get_file(path, copy)
            yield copy
