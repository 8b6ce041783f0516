"""Where the weights of an ONNX file lie: in it, or in files beside it, and nowhere else on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from focus_detr.errors import FocusDetrError
from focus_detr.export.packages import need


def refuse_outside(path: Path) -> None:
    """Raise `FocusDetrError` for an ONNX file that has other files read as its weights than those beside it.

    Newer runtimes refuse most of it by themselves.
    """
    onnx = need("onnx")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors and the system's share no base
        raise FocusDetrError(f"{path}: cannot be read as an ONNX file ({error}); copy it again") from error
    for place in _places(model):
        file = path.parent / place
        beside = place not in ("", ".", "..") and Path(place).name == place and not file.is_symlink()
        if not beside or (file.is_file() and file.stat().st_nlink > 1):
            raise FocusDetrError(
                f"{path}: not loaded, since it takes weights from {place[:80]!r}, which is no file of its "
                "own beside it; export the model anew with focus-detr export"
            )


def _places(message: Any) -> Iterator[str]:
    """The files that any tensor of a protobuf message names."""
    for field, value in message.ListFields():
        if field.name == "external_data":
            yield from (entry.value for entry in value if entry.key == "location")
        elif field.message_type is not None:
            for each in value if hasattr(value, "__len__") else (value,):
                if hasattr(each, "ListFields"):
                    yield from _places(each)
