"""The error this package raises on purpose."""


class FocusDetrError(ValueError):
    """Input, option or file that cannot be used. The message names what is wrong, where, and the fix."""


class UnknownSplitError(FocusDetrError):
    """The data set has no such split, or several that could be meant."""
