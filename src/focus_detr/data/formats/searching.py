"""Looking through folders: sorted, without hidden files, with bounds, and never through a whole machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePath

from focus_detr.errors import FocusDetrError

IMAGE_SUFFIXES = frozenset(".jpg .jpeg .png .bmp .webp .tif .tiff .gif .jfif .ppm .pgm .jp2 .avif".split())
# What macOS and file systems leave beside the files that were meant.
SYSTEM_FOLDERS = frozenset(("__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information"))
_LONGEST_LINK = 1024
# A search that has seen this many names and nothing that was looked for is in the wrong place.
_FRUITLESS = 100_000


def is_image_file(path: PurePath) -> bool:
    """By its name: an ending of images, and not hidden (macOS leaves `._photo.jpg` beside photo.jpg)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def files_in(folder: Path, *suffixes: str) -> list[Path]:
    """The regular files of `folder` itself with one of these endings (or all), sorted; links count."""
    named = (entry for entry in _visible(folder) if entry.name.lower().endswith(suffixes or ""))
    return [Path(entry.path) for entry in named if _is(entry, "file")]


def odd_files_in(folder: Path, *suffixes: str) -> list[Path]:
    """What bears the name of a file, but is a folder, pipe, device or link to nothing."""
    named = (entry for entry in _visible(folder) if entry.name.lower().endswith(suffixes))
    return [Path(entry.path) for entry in named if not _is(entry, "file")]


def folders_in(folder: Path) -> list[Path]:
    """The folders of `folder` itself, sorted; links to folders count."""
    return [Path(entry.path) for entry in _visible(folder) if _is(entry, "dir")]


def files_below(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """The regular files in `folder` and its subfolders that are `wanted`, sorted by path.

    Links to folders are followed, every folder once, and none to where `folder` itself lies.
    Raises `FocusDetrError` for `/`, /proc and the like, and where a long search finds nothing.
    """
    refuse_system_folder(folder)
    top = folder.resolve()
    seen = {_identity(parent) for parent in top.parents}
    found: list[Path] = []
    looked_at = 0
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        if (identity := _identity(place)) in seen or identity[0] in pseudo_file_systems():
            continue
        seen.add(identity)
        for entry in _visible(place):
            looked_at += 1
            if _is(entry, "dir"):
                waiting.append(Path(entry.path))
            elif (target := _written_link(entry)) is not None:
                waiting.append(target)
            elif wanted(path := Path(entry.path)) and _is(entry, "file"):
                found.append(path)
        if looked_at > _FRUITLESS and not found:
            raise FocusDetrError(
                f"{folder}: nothing found among the first {looked_at:,} files. Correct the path."
            )
    return sorted(found)


def refuse_system_folder(folder: Path) -> None:
    """Raises `FocusDetrError` for the root of a machine or drive and what lies in /proc, /sys or /dev."""
    try:
        place = folder.resolve()
        refused = place == place.parent or os.stat(place).st_dev in pseudo_file_systems()
    except (OSError, ValueError, RuntimeError):  # not there, a NUL in its name, a loop of links
        return
    if refused:
        raise FocusDetrError(f"{folder}: is a folder of the system, which is not searched. Correct the path.")


@cache
def pseudo_file_systems() -> frozenset[int]:
    """Device numbers of /proc, /sys and /dev: what lies there may never end, whatever it calls itself."""
    devices = {os.stat(place).st_dev for place in ("/proc", "/sys", "/dev") if os.path.ismount(place)}
    return frozenset(devices)


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            shown = [e for e in entries if not e.name.startswith(".") and e.name not in SYSTEM_FOLDERS]
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return []
    except OSError as error:
        raise FocusDetrError(
            f"{folder}: cannot be listed ({error.strerror}). Check its permissions."
        ) from error
    return sorted(shown, key=lambda entry: entry.name)


def _is(entry: os.DirEntry[str], kind: str) -> bool:
    try:
        return entry.is_dir() if kind == "dir" else entry.is_file()
    except OSError:  # a loop of links
        return False


def _written_link(entry: os.DirEntry[str]) -> Path | None:
    """Where a link leads that git wrote as a text file, as it does where there are none, if to a folder."""
    if "." in entry.name or not _is(entry, "file") or entry.stat().st_size > _LONGEST_LINK:
        return None
    try:
        written = Path(entry.path).read_text(encoding="utf-8")
    except (OSError, ValueError):  # no text, or none that could be a path
        return None
    target = os.path.normpath(Path(entry.path).parent / written)
    return Path(target) if os.path.isdir(target) else None


def _identity(folder: Path) -> tuple[int, int]:
    state = os.stat(folder)
    return state.st_dev, state.st_ino
