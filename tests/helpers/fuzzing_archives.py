"""Archives broken at random: their pictures are read or passed over with a reason, and nothing else comes.

A round is made of its seed alone, as those of `helpers.fuzzing` are.
"""

from __future__ import annotations

import io
import random
import tarfile
import tempfile
import traceback
import warnings
import zipfile
from functools import cache
from pathlib import Path

from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.inference import BadImage, expand_sources
from helpers.fuzzing import HangError, time_limit

_FORMS = {".zip": "", ".tar": "w:", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}
_NAMES = ("a.png", "b/c.jpg", "../d.png", "/e.png", "f.zip", "notes.txt", "g\0h.png", "C:\\i.png")


def archive_round(seed: int) -> str | None:
    """Breaks an archive and reads it as a source; the traceback of what should not come, or None."""
    chance = random.Random(seed)
    form = chance.choice(list(_FORMS))
    content = bytearray(_archive(form))
    for _ in range(chance.randint(0, 4)):
        place = chance.randrange(len(content) + 1)
        action = chance.randrange(4)
        if action == 0:
            content[place : place + 1] = bytes([chance.randrange(256)])
        elif action == 1:
            del content[place : place + chance.choice((1, 30, 600))]
        elif action == 2:
            content[place:place] = chance.randbytes(chance.choice((1, 30, 600)))
        else:
            content[place : place + 4] = chance.choice((b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"a{form}"
        file.write_bytes(content)
        try:
            with time_limit(), warnings.catch_warnings(action="ignore"):
                for item in expand_sources(file, max_megabytes=2):
                    read = item if isinstance(item, BadImage) else item.load()
                    assert not isinstance(read, BadImage) or read.reason.isprintable(), read
                assert [each.name for each in Path(folder).iterdir()] == [file.name]
        except FocusDetrError as error:
            assert len(str(error)) < 2000
        except (Exception, HangError):
            return "\n".join(line[:200] for line in traceback.format_exc().splitlines())
    return None


@cache
def _archive(form: str) -> bytes:
    stream, pictures = io.BytesIO(), {name: _picture(level) for level, name in enumerate(_NAMES)}
    if form == ".zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in pictures.items():
                archive.writestr(name, content)
        return stream.getvalue()
    with tarfile.open(fileobj=stream, mode=_FORMS[form]) as archive:  # type: ignore[call-overload]
        for name, content in pictures.items():
            member = tarfile.TarInfo(name.replace("\0", "_"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for kind, target in (
            (tarfile.SYMTYPE, "/etc/passwd"),
            (tarfile.LNKTYPE, "a.png"),
            (tarfile.CHRTYPE, ""),
        ):
            link = tarfile.TarInfo("link.png")
            link.type, link.linkname = kind, target
            archive.addfile(link)
    return stream.getvalue()


@cache
def _picture(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (level, 0, 0)).save(stream, "PNG")
    return stream.getvalue()
