"""Archives, opened and not unpacked: their members one by one, in memory, none of them on disk."""

from __future__ import annotations

import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath
from typing import IO, Any

from focus_detr.data.formats.searching import SYSTEM_FOLDERS
from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import ImageSource
from focus_detr.inference.results import BadImage
from focus_detr.inference.sources.options import SourceOptions
from focus_detr.printable import printable

_ZIP = (".zip", ".cbz")
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".cbt")
_MEGABYTE = 2**20
_BOMB_RATIO = 200
"""An archive of pictures holds hardly more than itself; what unpacks to so many times its size is no such."""
_LONGEST_HEADER = _MEGABYTE
_ENCRYPTED = 1  # of the flags of a file in a zip file
_HEADER_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_LEADS_OUT = "its name leads out of the archive, as those do that are made to write elsewhere; rename it"
_Wanted = Callable[[PurePosixPath], bool]
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    TypeError,  # of `tarfile`, where the header of gzip ends
    IndexError,
    struct.error,
)


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name, archive and all, and its content, read when it is asked for.

    Reading raises `FocusDetrError` for one that is too large, encrypted or damaged.
    """

    name: str
    read: Callable[[], IO[bytes]]


def is_archive(name: str) -> bool:
    """By its name."""
    return name.lower().endswith((*_ZIP, *_TAR))


def archive_members(
    name: str,
    kind: str,
    source: Callable[[], ImageSource],
    options: SourceOptions,
    wanted: _Wanted,
) -> Iterator[Member | BadImage]:
    """The files of an archive, of the kind that the ending of ``kind`` says, that are ``wanted``: by name in
    a zip file, as they come in a tar file.

    Links and devices are left out, and so are hidden files. What cannot be read is a `BadImage`, as is a name
    that leads out of the archive.
    """
    members = _zip_members if kind.lower().endswith(_ZIP) else _tar_members
    try:
        yield from members(name, source(), options, wanted)
    except FocusDetrError as error:
        yield BadImage(name, str(error).removeprefix(f"{name}: "))
    except _DAMAGE as error:
        yield BadImage(name, f"the archive is damaged or cut short ({_reason(error)})")


def expected_members(kind: str, source: Callable[[], ImageSource], wanted: _Wanted) -> int | None:
    """How many files of a zip file are ``wanted``; of a tar file, only reading all of it would say."""
    if not kind.lower().endswith(_ZIP):
        return None
    try:
        with zipfile.ZipFile(source()) as archive:
            return sum(_is_wanted(member, wanted) for member in archive.namelist())
    except _DAMAGE:
        return 1  # the one that says so


class _Allowance:
    """How much an archive may still unpack to."""

    def __init__(self, name: str, size: int, options: SourceOptions) -> None:
        self._name, self._most = name, options.max_megabytes
        self._largest = int(options.max_megabytes * _MEGABYTE)
        self._left = max(self._largest, size * _BOMB_RATIO)

    def read(self, stream: IO[bytes], size: int) -> IO[bytes]:
        """A member's content, of ``size`` bytes as the archive says."""
        content = b"" if size > self._largest else stream.read(self._largest + 1)
        if max(size, len(content)) > self._largest:
            raise FocusDetrError(
                f"larger than the limit of {self._most:g} MB; unpack it, or allow more: "
                "in Python max_megabytes=..."
            )
        return io.BytesIO(content)

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise FocusDetrError(
                f"{self._name}: unpacks to more than {_BOMB_RATIO} times its size, as archives made to fill "
                "the memory do; unpack it yourself where it can be trusted, and give the folder"
            )


def _zip_members(
    name: str, source: ImageSource, options: SourceOptions, wanted: _Wanted
) -> Iterator[Member | BadImage]:
    archive = zipfile.ZipFile(source)  # closed with the last member that may be read from it
    allowance = _Allowance(name, _size(source), options)
    files = {member.filename: member for member in archive.infolist() if not member.is_dir()}

    def content(member: zipfile.ZipInfo) -> IO[bytes]:
        if member.flag_bits & _ENCRYPTED:
            raise FocusDetrError("encrypted; unpack the archive by its password, and give the folder")
        try:
            with archive.open(member) as stream:
                return allowance.read(stream, member.file_size)
        except (*_DAMAGE, NotImplementedError) as error:
            if isinstance(error, FocusDetrError):
                raise
            raise FocusDetrError(f"cannot be taken out of the archive ({_reason(error)})") from error

    for filename, member in sorted(files.items()):
        if stat.S_ISLNK(member.external_attr >> 16) or not _is_wanted(filename, wanted):
            continue
        if _leads_out(filename):
            yield BadImage(f"{name}/{filename}", _LEADS_OUT)
            continue
        allowance.take(member.file_size)
        yield Member(f"{name}/{filename}", partial(content, member))


def _tar_members(
    name: str, source: ImageSource, options: SourceOptions, wanted: _Wanted
) -> Iterator[Member | BadImage]:
    allowance, end = _Allowance(name, _size(source), options), _End()
    with open(source, "rb") if isinstance(source, str | os.PathLike) else source as file:
        file.seek(0)
        # As a stream: nothing is read twice, and what lies behind is not looked for.
        with tarfile.open(fileobj=file, mode="r|*", tarinfo=end.header()) as archive:
            for member in archive:
                allowance.take(max(0, member.size))
                if not member.isreg() or not _is_wanted(member.name, wanted):
                    continue
                full = f"{name}/{member.name}"
                stream = archive.extractfile(member)
                if stream is None or _leads_out(member.name):
                    yield BadImage(full, _LEADS_OUT)
                    continue
                try:
                    content = allowance.read(stream, member.size)
                except FocusDetrError as error:
                    yield BadImage(full, str(error))
                    continue
                yield Member(full, partial(_again, content))
    if not end.reached:
        yield BadImage(name, "the archive is cut short: its end is missing")


class _End:
    """Whether the end of a tar file was seen: `tarfile` takes a cut for one."""

    def __init__(self) -> None:
        self.reached = False

    def header(self) -> type[tarfile.TarInfo]:
        end = self

        class Header(tarfile.TarInfo):
            @classmethod
            def frombuf(cls, buf: Any, encoding: str, errors: str) -> Any:
                end.reached = len(buf) == tarfile.BLOCKSIZE and not any(buf)
                found = super().frombuf(buf, encoding, errors)
                if found.type in _HEADER_TYPES and found.size > _LONGEST_HEADER:
                    raise tarfile.ReadError(f"a header of {found.size} bytes")  # it would be read whole
                return found

        return Header


def _again(content: IO[bytes]) -> IO[bytes]:
    content.seek(0)
    return content


def _size(source: ImageSource) -> int:
    if isinstance(source, str | os.PathLike):
        return os.stat(source).st_size
    return source.seek(0, io.SEEK_END)


def _is_wanted(filename: str, wanted: _Wanted) -> bool:
    path = PurePosixPath(filename)
    hidden = any(part.startswith(".") and part not in (".", "..") for part in path.parts)
    return not hidden and SYSTEM_FOLDERS.isdisjoint(path.parts) and wanted(path)


def _leads_out(filename: str) -> bool:
    path = PurePosixPath(filename.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or bool(PureWindowsPath(filename).drive)


def _reason(error: Exception) -> str:
    return printable(str(error) or type(error).__name__, longest=200)
