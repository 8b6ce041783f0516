"""Dead letters: pictures that gave no result, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

MISSING = "missing"
UNREACHABLE = "unreachable"
TOO_LARGE = "too large"
UNDECODABLE = "undecodable"
ARCHIVE = "archive"
DEADLY = "deadly"

KINDS = {
    MISSING: "there is no such file, or the table has nothing in this row",
    UNREACHABLE: "its file or server did not answer, several times",
    TOO_LARGE: "more pixels or bytes than allowed",
    UNDECODABLE: "no picture, or damaged",
    ARCHIVE: "it, or all that follows, cannot be taken out of its archive",
    DEADLY: "the process that looked at it ended, twice",
}


@dataclass(frozen=True)
class DeadLetter:
    """A picture's name, one of `KINDS`, and what exactly was wrong."""

    name: str
    kind: str
    reason: str
