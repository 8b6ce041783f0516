"""Open a foreign checkpoint without running any code in it."""

import argparse
import io
import json
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from focus_detr.errors import FocusDetrError

_WEIGHT_SUFFIXES = (".pth", ".pt")
# Weights are noise to a compressor, which takes a tenth off them; the largest models have a few gigabytes.
_LARGEST, _MOST_SHRUNK = 16 * 2**30, 100
# Cut, encrypted, packed in a way that Python does not know, or no archive after all.
_UNPACKING = (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def open_model(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict in ``path``, and the configuration beside it, if there is one.

    Args:
        path: what `open_checkpoint` takes, a .safetensors file, or a folder with model.safetensors in it.

    Raises:
        FocusDetrError: as `open_checkpoint`.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "model.safetensors").is_file():
            raise FocusDetrError(f"{path}: has no model.safetensors; give a folder that save_pretrained made")
        path = path / "model.safetensors"
    if path.suffix != ".safetensors":
        return open_checkpoint(path), {}
    if not path.is_file():
        raise FocusDetrError(f"{path}: no such file")
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise FocusDetrError(f"{path}: not a readable safetensors file ({error})") from error
    settings = path.with_name("config.json")
    try:
        return state, json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    except ValueError as error:
        raise FocusDetrError(f"{settings}: not JSON ({error})") from error


def open_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """State dict in ``path``: a torch file, or a zip archive that holds one.

    The state dict may lie under ``model`` beside an optimizer's state, which is left out, and its keys may
    start with the ``module.`` of distributed training, which is cut.

    Raises:
        FocusDetrError: the file is missing, is no checkpoint, or would need more than plain tensors to open.
    """
    path = Path(path)
    if not path.is_file():
        raise FocusDetrError(f"{path}: no such file; give a .pth checkpoint or a .zip that holds one")
    if _is_archive(path):
        name, content = _read_archive(path)
        return _state_dict(_load(io.BytesIO(content), f"{path} ({name})"), f"{path} ({name})")
    return _state_dict(_load(path, str(path)), str(path))


def _is_archive(path: Path) -> bool:
    """Whether it is a zip archive, but for torch's own, in which the structure is always called data.pkl."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return not any(name.split("/")[-1] == "data.pkl" for name in archive.namelist())
    except _UNPACKING as error:
        raise FocusDetrError(f"{path}: a damaged zip archive ({error})") from error


def _read_archive(path: Path) -> tuple[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        names = [
            name
            for name in archive.namelist()
            if name.endswith(_WEIGHT_SUFFIXES) and not name.startswith("__MACOSX/")
        ]
        if len(names) != 1:
            found = ", ".join(names) or "none"
            raise FocusDetrError(f"{path}: holds {found} where one .pth is needed; unpack the one you want")
        entry = archive.getinfo(names[0])
        packed = min(entry.compress_size, path.stat().st_size)
        if entry.file_size > min(_LARGEST, _MOST_SHRUNK * packed):
            raise FocusDetrError(
                f"{path}: {entry.filename} would unpack from {packed:,} to {entry.file_size:,} bytes, which "
                "no weights do; it is not opened"
            )
        try:
            return entry.filename, archive.read(entry)
        except _UNPACKING as error:
            raise FocusDetrError(f"{path}: {entry.filename} cannot be unpacked ({error})") from error


def _load(file: Path | io.BytesIO, source: str) -> Any:
    memory_map = isinstance(file, Path) and zipfile.is_zipfile(file)
    try:
        # The original DINO stores its command line too, in a class that holds values and does nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=memory_map)
    except pickle.UnpicklingError as error:
        # Torch's first lines advise to open the file with all that is in it, which is what must not be done.
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
        if "lobal" not in reason:  # it names no class that it would need
            raise FocusDetrError(f"{source}: not a readable torch checkpoint ({reason})") from error
        raise FocusDetrError(
            f"{source}: cannot be opened as plain tensors ({reason}); save its state dict alone with "
            "torch.save({'model': model.state_dict()}, ...) where it comes from"
        ) from error
    except Exception as error:  # of bytes that are no pickle, the unpickler raises whatever it stumbles over
        raise FocusDetrError(
            f"{source}: not a readable torch checkpoint ({type(error).__name__}: {error})"
        ) from error


def _state_dict(content: Any, source: str) -> dict[str, Tensor]:
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not content:
        raise FocusDetrError(f"{source}: holds no state dict, neither by itself nor under 'model'")
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise FocusDetrError(f"{source}: {key!r} is a {type(value).__name__} and not a tensor")
    if all(key.startswith("module.") for key in content):
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)
