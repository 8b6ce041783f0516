"""Where the weights of an ONNX file lie: in it, or in files beside it, and nowhere else on the disk.

The file is read as its bytes stand, by protocol buffers' wire format: what runs models has no package `onnx`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from focus_detr.errors import FocusDetrError

# Of each message, its fields that lead to tensors: their numbers in onnx.proto, and what messages they are.
_LEADING: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external data"},
}
_KEY, _VALUE = 1, 2  # of an entry of a tensor's external data


def refuse_outside(path: Path) -> None:
    """Raise `FocusDetrError` for an ONNX file that has other files read as its weights than those beside it.

    Newer runtimes refuse most of it by themselves.
    """
    try:
        places = set(_places(memoryview(path.read_bytes()), "model"))
    except (OSError, ValueError) as error:
        raise FocusDetrError(f"{path}: cannot be read as an ONNX file ({error}); copy it again") from error
    for place in sorted(places):
        file = path.parent / place
        beside = place not in ("", ".", "..") and Path(place).name == place and not file.is_symlink()
        if not beside or (file.is_file() and file.stat().st_nlink > 1):
            raise FocusDetrError(
                f"{path}: not loaded, since it takes weights from {place[:80]!r}, which is no file of its "
                "own beside it; export the model anew with focus-detr export"
            )


def _places(content: memoryview, kind: str) -> Iterator[str]:
    """The files that any tensor of a message names."""
    waiting = [(content, kind)]
    while waiting:
        message, kind = waiting.pop()
        if kind == "external data":
            entry = [(number, bytes(value)) for number, value in _fields(message)]
            if (_KEY, b"location") in entry:
                yield from (text.decode("utf-8", "replace") for number, text in entry if number == _VALUE)
            continue
        leading = _LEADING[kind]
        waiting += [(value, leading[number]) for number, value in _fields(message) if number in leading]


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Numbers and contents of the fields that have a length, as messages and texts do."""
    at = 0
    while at < len(message):
        tag, at = _number(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _number(message, at)
            continue
        if kind == 2:
            length, at = _number(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("it is no protocol buffer")
        if at + length > len(message):
            raise ValueError("it is cut short")
        if kind == 2:
            yield tag >> 3, message[at : at + length]
        at += length


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = 0
    for place, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("it is cut short")
