"""Trained models by name: those in the package, a folder, those that others published, or one of the hub."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focus_detr.errors import FocusDetrError, did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

EXPORTED_SUFFIXES = (".onnx", ".xml", ".pt2")
_BUNDLED = Path(__file__).parent / "bundled"
_FOLDERS_OF_RUNS = ("runs", "outputs", "checkpoints")
_SUFFIXES_OF_FILES = (".pt", ".pth", ".bin", ".safetensors", ".json", ".yaml", ".engine")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def list_models() -> list[str]:
    """Names of the trained models that come with the package."""
    return sorted(path.parent.name for path in _BUNDLED.glob("*/config.json"))


def resolve_model(name_or_path: str | os.PathLike[str]) -> Path:
    """Folder of a trained model (`config.json`, weights, image processor), or the file of an exported one.

    Args:
        name_or_path: a bundled name (`list_models()`; it goes before a folder of that name: write `./name`
            for the folder), a folder of a model or of a training run (its best model is taken, or the last
            where none was evaluated), a file that `focus-detr export` wrote, a published name
            (`focus-detr models`), or a hub id `owner/name`. The last two are downloaded once and cached.

    Raises:
        FocusDetrError: nothing of that name, a folder without a model, or one that cannot be downloaded.
    """
    name = os.fspath(name_or_path)
    if name in list_models():
        return _BUNDLED / name
    path = Path(os.path.expanduser(name))
    if os.path.isdir(path):
        for folder in (path, path / "best", path / "last"):
            if (folder / "config.json").is_file():
                return folder
        raise FocusDetrError(f"{path}: no model in this folder (it has no config.json). {_what_would_work()}")
    if os.path.isfile(path) and path.suffix in EXPORTED_SUFFIXES:
        return path
    if os.path.exists(path):
        raise FocusDetrError(
            f"{path}: is a file, and a model is a folder with config.json and weights, or an exported file "
            f"({', '.join(EXPORTED_SUFFIXES)}). "
            "Foreign checkpoints become one by: focus-detr convert CHECKPOINT --output FOLDER"
        )
    if _HUB_ID.fullmatch(name) and not _is_meant_here(name_or_path):
        return _download(name)
    from focus_detr.zoo.presets import is_preset, list_presets
    from focus_detr.zoo.published import find_published, list_published

    if isinstance(name_or_path, str) and name in list_published():
        from focus_detr.zoo.fetching import fetch

        return fetch(find_published(name))

    if is_preset(name):
        alike = next((each for each in list_published() if each.startswith(f"{name}-")), None)
        raise FocusDetrError(
            f"{name!r} is a preset: a configuration without trained weights. Train it first: "
            f"focus-detr train DATA --model {name}"
            + (f", or take published weights: {alike}" if alike else "")
        )
    beside = sorted(str(each) for each in path.parent.iterdir()) if os.path.isdir(path.parent) else []
    hint = did_you_mean(name, [*list_models(), *list_presets(), *list_published(), *beside])
    raise FocusDetrError(f"model {name!r} not found{hint}. {_what_would_work()}")


def configuration_of(model: str | os.PathLike[str] | PreTrainedModel) -> dict[str, Any]:
    """Fields of a model's configuration, its weights unread; none where there is no such model, or a damaged
    one, which is said where it is loaded."""
    if not isinstance(model, str | os.PathLike):
        return model.config.to_dict()
    try:
        fields = json.loads((resolve_model(model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _is_meant_here(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether a name like ``owner/name`` is a place here that is not there, and no id of the hub.

    A mistyped `runs/mine` is said at once, and is no question to a server on the other side of the world.
    """
    name = os.fspath(name_or_path)
    parent = name.split("/")[0]
    return (
        isinstance(name_or_path, os.PathLike)
        or name[0] in "./~"
        or parent in _FOLDERS_OF_RUNS
        or os.path.isdir(parent)
        or Path(name).suffix in (*EXPORTED_SUFFIXES, *_SUFFIXES_OF_FILES)
    )


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    logger.info("%s: no folder here; asking the Hugging Face hub, or its cache here", hub_id)
    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # the client's errors share no base: offline, unknown, private, no space ...
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FocusDetrError(
            f"model {hub_id!r}: not a folder here, and the Hugging Face hub did not give it: {reason[0]} "
            f"{_what_would_work()}"
        ) from error


def _what_would_work() -> str:
    bundled = ", ".join(list_models()) or "none"
    return (
        f"A model is a bundled name ({bundled}), a published one (`focus-detr models`), a folder with "
        "config.json, or a hub id owner/name; training also starts from a preset (`focus-detr presets`)."
    )
