"""The one way annotation files are read: regular files of bounded size, decoded as they say, or refused.

Every function raises `UnreadableFileError` that names the file and the fix, and nothing else.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from focus_detr.data.formats.searching import pseudo_file_systems
from focus_detr.errors import FocusDetrError
from focus_detr.printable import in_line

_MEGABYTE = 2**20
# The largest json files of public data sets hold some gigabytes, lists millions of names; the labels of one
# picture never come near 8 MB.
_JSON_LIMIT = 16_384 * _MEGABYTE
LIST_LIMIT = 256 * _MEGABYTE
LABEL_LIMIT = 8 * _MEGABYTE

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_XML_ENCODING = re.compile(rb"""\A\s*<\?xml[^>]*?\sencoding\s*=\s*["']\s*([^"'>]*?)\s*["']""")
# Labelling tools declare the small standard and write characters that only its successor has.
_SUCCESSORS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "cp950",
}
# Codecs of Python that are no way to write a text file down.
_NO_ENCODINGS = frozenset(("idna", "punycode", "unicode-escape", "raw-unicode-escape"))


class UnreadableFileError(FocusDetrError):
    """A file that cannot be read as what it is to be; another in its place may do."""


def read_text(file: Path, limit: int = LABEL_LIMIT) -> str:
    """A text file, by its byte order mark or as UTF-8."""
    content = _read_bytes(file, limit)
    return _decoded(content, _marked_encoding(content) or "utf-8", file)


def read_lines(file: Path, limit: int = LABEL_LIMIT) -> list[str]:
    """The lines of a text file that are not empty, without surrounding spaces."""
    return [line for raw in read_text(file, limit).splitlines() if (line := raw.strip())]


def read_json(file: Path) -> Any:
    try:
        return json.loads(_read_bytes(file, _JSON_LIMIT))
    except UnreadableFileError:
        raise
    except RecursionError as error:
        raise UnreadableFileError(f"{file}: not valid json for a data set: nested too deeply.") from error
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{file}: not valid json ({error.reason}). Save it as UTF-8.") from error
    except ValueError as error:  # a JSONDecodeError, or a number of thousands of digits
        raise UnreadableFileError(
            f"{file}: not valid json ({error}). It may be empty or cut short: copy it again."
        ) from error


def read_xml(file: Path) -> ElementTree.Element:
    """The root of an xml file, read in the encoding it declares; elements are named in lower case, without
    namespace."""
    content = _read_bytes(file, LABEL_LIMIT)
    declared = _XML_ENCODING.match(content)
    # A file that begins with plain "<?xml" is not in the UTF-16 that some writers declare all the same.
    encoding = declared[1].decode("ascii", "replace") if declared else "utf-8"
    if encoding.lower().startswith(("utf-16", "utf16", "utf-32", "ucs")):
        encoding = "utf-8"
    text = _decoded(content, _marked_encoding(content) or encoding, file)
    if "<!ENTITY" in text:
        raise UnreadableFileError(f"{file}: not readable as xml: it defines entities. Write them out.")
    try:
        root = ElementTree.fromstring(text.lstrip())  # a declaration may come after nothing, also no line
    except (ElementTree.ParseError, ValueError) as error:
        raise UnreadableFileError(
            f"{file}: not readable as xml ({error}). It may be empty or cut short: write it again."
        ) from error
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2].lower()
    return root


def _read_bytes(file: Path, limit: int, most: int | None = None) -> bytes:
    """The whole file, which may have `limit` bytes, or its first `most`."""
    try:
        state = os.stat(file)
        regular = stat.S_ISREG(state.st_mode) and state.st_dev not in pseudo_file_systems()
        if regular and state.st_size <= limit:
            with open(file, "rb") as stream:
                content = stream.read(limit + 1 if most is None else most)
            if len(content) <= limit:
                return content
    except FileNotFoundError as error:
        what = "is a link to nothing" if os.path.islink(file) else "is not there"
        raise UnreadableFileError(f"{file}: {what}. Check the path.") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnreadableFileError(f"{file}: cannot be read ({reason}).") from error
    if not regular:
        what = "a folder" if stat.S_ISDIR(state.st_mode) else "a device, pipe or socket"
        raise UnreadableFileError(f"{file}: is {what}, not a regular file. Put the file itself there.")
    raise UnreadableFileError(
        f"{file}: larger than {limit // _MEGABYTE} MB, the most it may have. Is it the right one?"
    )


def _marked_encoding(content: bytes) -> str | None:
    return next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), None)


def _decoded(content: bytes, encoding: str, file: Path) -> str:
    try:
        known = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        known = ""
    if known in _NO_ENCODINGS:
        known = ""
    failure = f"declares the encoding {in_line(encoding, 40)!r}, which is not known"
    for name in filter(None, (known, _SUCCESSORS.get(known))):
        try:
            return content.decode(name)
        except UnicodeDecodeError as error:
            failure = f"is not {encoding} text (byte {error.start})"
        except (LookupError, ValueError):  # a codec that is none of text, as base64
            failure = f"declares the encoding {encoding!r}, which is none of text"
    raise UnreadableFileError(f"{file}: {failure}. Save it as UTF-8.")


def read_start(file: Path, length: int) -> bytes:
    """The first bytes of a file; none where it is no regular file or cannot be read."""
    try:
        return _read_bytes(file, _JSON_LIMIT, length)
    except UnreadableFileError:
        return b""
