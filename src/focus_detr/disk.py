"""What a disk refuses, as an error that says so; and folders that one run at a time writes to."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from focus_detr.errors import FocusDetrError, NotWrittenError

# Full, over a quota or the largest size of a file, read-only, broken, gone.
_REFUSALS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE))
# In the words of safetensors, OpenVINO and torch.
_WORDS = re.compile(r"\(os error (\d+)\)|iostream error|Can't open (xml|bin) file|file write failed")


@contextmanager
def explained_disk(
    place: str | os.PathLike[str], option: str = "output", again: str = "run the same again"
) -> Iterator[None]:
    """What the disk refuses to take in the block, as one error that names ``place`` and the way on.

    Args:
        again: what goes on where this ended.

    Raises:
        NotWrittenError: something could not be written there.
    """
    try:
        yield
    except FocusDetrError:
        raise
    except Exception as error:  # libraries that write by themselves have errors of their own
        reason = refusal(error, Path(place))
        if reason is None:
            raise
        raise NotWrittenError(
            f"{option} {place}: cannot be written to ({reason}); make room there or allow writing, and "
            f"{again}; or give another place"
        ) from error


def refusal(error: BaseException | None, place: Path | None = None) -> str | None:
    """Why something could not be written, in ``place`` or anywhere; None for errors of other things."""
    while error is not None:
        if isinstance(error, OSError):
            if error.errno in _REFUSALS or (place is not None and _names(error, place)):
                return error.strerror or str(error)
        elif found := _WORDS.search(str(error)):
            return os.strerror(int(found[1])) if found[1] else "no space, or no permission"
        error = error.__cause__ or error.__context__
    return None


def _names(error: OSError, place: Path) -> bool:
    """Whether it is of a file in ``place``, or of that itself."""
    if not isinstance(error.filename, str | os.PathLike):
        return False
    file = Path(error.filename).absolute()
    return place.absolute() in (file, *file.parents)


@contextmanager
def only_run(folder: Path, option: str = "output", patience: float = 0.0) -> Iterator[None]:
    """Nobody else is within such a block of the same folder, which is made where it is not there.

    By a lock of the system's on the folder itself: nothing is left behind, however the process ends, and no
    clock decides whether it holds. Systems and file systems without such locks go on without.

    Args:
        patience: seconds to wait for the end of another.

    Raises:
        FocusDetrError: another run is.
    """
    made = not folder.exists()
    with explained_disk(folder, option):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder, patience) as held:
            if not held:
                raise FocusDetrError(
                    f"{option} {folder}: another run writes there; wait for its end, or give another place"
                )
            yield
    finally:
        if made:
            with suppress(OSError):
                folder.rmdir()  # of a run that was refused, and wrote nothing


@contextmanager
def _locked(folder: Path, patience: float) -> Iterator[bool]:
    """Whether the lock of a folder is held within the block, or there are none."""
    try:
        import fcntl

        place = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows, or a folder that may be written to and not listed
        yield True
        return
    try:
        end = time.monotonic() + patience
        while not (held := _lock(fcntl, place)) and time.monotonic() < end:
            time.sleep(0.1)
        yield held
    finally:
        os.close(place)


def _lock(fcntl: Any, place: int) -> bool:
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # file systems of networks know none
        pass
    return True
