"""What is known of every trained model that has a name, for tables and machines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from focus_detr.convert.coco import COCO_CLASS_NAMES
from focus_detr.zoo.cache import place_of
from focus_detr.zoo.published import Published, published_models
from focus_detr.zoo.resolve import list_models, resolve_model


def list_known() -> list[dict[str, Any]]:
    """A dictionary for each model: those in the package, then the published ones.

    The keys are the same for all, None where nothing is known: name, family, ap (0..1), epochs, megabytes,
    licence, licence_of, data, classes, here ("in the package", "yes", "no", or "by hand" where a person has
    to fetch it), folder, address, layout, sha256, real_file, unusable (why, if so) and note.
    """
    return [*map(_bundled, list_models()), *map(_published, published_models().values())]


def _bundled(name: str) -> dict[str, Any]:
    folder = resolve_model(name)
    config = json.loads(_text(folder / "config.json"))
    measured = json.loads(_text(folder / "evaluation.json") or "{}")
    recipe = config.get("training_recipe") or {}
    licence = re.search(r"^Licence of the weights: (.+)\.$", _text(folder / "README.md"), re.MULTILINE)
    return {
        **dict.fromkeys(("family", "address", "layout", "sha256", "unusable", "note")),
        "name": name,
        "ap": measured.get("metrics", {}).get("AP"),
        "epochs": recipe.get("epochs"),
        "megabytes": _megabytes(folder),
        "licence": licence[1] if licence else None,
        "licence_of": "the model card" if licence else None,
        "data": " ".join(measured[key] for key in ("data", "split") if key in measured) or None,
        "classes": _class_names(folder),
        "here": "in the package",
        "folder": str(folder),
        "real_file": True,
    }


def _published(model: Published) -> dict[str, Any]:
    place = place_of(model.name)
    by_hand = "no" if model.is_downloadable else "by hand"
    return {
        "name": model.name,
        "family": model.family,
        "ap": model.ap,
        "epochs": model.epochs,
        "megabytes": _megabytes(place.model) if place.is_complete else model.megabytes,
        "licence": model.licence,
        "licence_of": model.licence_of,
        "data": model.data,
        "classes": _class_names(place.model) if place.is_complete else list(COCO_CLASS_NAMES),
        "here": "yes" if place.is_complete else by_hand,
        "folder": str(place.model) if place.is_complete else None,
        "address": model.address,
        "layout": model.layout,
        "sha256": model.sha256,
        "real_file": model.real_file,
        "unusable": model.unusable,
        "note": model.note,
    }


def _class_names(folder: Path) -> list[str]:
    return list(json.loads(_text(folder / "config.json")).get("id2label", {}).values())


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _megabytes(folder: Path) -> int:
    return max(1, round(sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6))
