"""The error this package raises on purpose."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FocusDetrError(ValueError):
    """Input, option or file that cannot be used. The message names what is wrong, where, and the fix."""


class NotWrittenError(FocusDetrError):
    """The disk did not take what was to be written; nothing is wrong with what was given."""


class TooLargeError(FocusDetrError):
    """A picture or file above the limit that was set for it."""


class UnknownSplitError(FocusDetrError):
    """The data set has no such split, or several that could be meant."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)``, to stand behind a name that is not known; empty where none is near.

    Near are names spelled alike, and those that ``name`` is a part of.
    """
    names, given = list(known), str(name)
    close = difflib.get_close_matches(given, names, n=1)
    if not close and len(given) > 2:
        close = [each for each in names if given in each]
    return f" (did you mean {close[0]!r}?)" if close else ""
