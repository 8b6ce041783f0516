"""The models that are served, by name, and what callers may ask of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.inference import Predictor
from focus_detr.models import FocusDetrForObjectDetection
from focus_detr.service.answers import mean_share_kept
from focus_detr.service.settings import ServiceSettings
from focus_detr.structures.budget import AUTO, SMALLEST
from focus_detr.zoo.resolve import resolve_model


@dataclass(frozen=True)
class ServedModel:
    """A loaded model and what it can do, found out by asking it once.

    Attributes:
        default_budget: what it works with where a request says none; None where it takes none.
        has_scores: whether it scores tokens, which a heat map shows.
        tells_places: whether its decoder samples places, and says which.
        chooses_budget: whether it has a rule to choose a budget by for each picture.
    """

    name: str
    predictor: Predictor
    takes_budget: bool
    default_budget: float | str | None
    has_scores: bool
    tells_places: bool
    size_megabytes: float
    parameters: int | None
    chooses_budget: bool = False

    @property
    def configured_budget(self) -> float | str | None:
        """The budget of a model that was given one; None where its own shares hold."""
        return _configured_budget(self.predictor)

    @classmethod
    def of(cls, name: str, predictor: Predictor, file: Path | None = None) -> ServedModel:
        """Loads nothing; runs the model once, which also warms it up."""
        model: Any = predictor.model
        picture = Image.new("RGB", (320, 240), (128, 128, 128))
        outputs = predictor.run([picture], with_samples=isinstance(model, FocusDetrForObjectDetection))
        plan = getattr(outputs, "plan", None)
        policy = getattr(model, "encoder", None)
        # An exported file says so itself.
        takes_budget = bool(getattr(policy or model, "takes_budget", False))
        default = _configured_budget(predictor)
        if default is None and takes_budget and plan is not None:
            default = round(mean_share_kept(outputs, 0) or 1.0, 2)
        parameters = None
        if isinstance(model, torch.nn.Module):
            parameters = sum(each.numel() for each in model.parameters())
        return cls(
            name,
            predictor,
            takes_budget,
            default if takes_budget else None,
            plan is not None and plan.scores is not None,
            bool(getattr(outputs, "samples", None)),
            round(_size(file, model) / 1e6, 1),
            parameters,
            takes_budget and _chooses(predictor),
        )

    def describe(self, is_default: bool) -> dict[str, Any]:
        """As `GET /v1/models` lists it."""
        return {
            "name": self.name,
            "default": is_default,
            "classes": list(self.predictor.class_names),
            "threshold": self.predictor.threshold,
            "class_thresholds": self.predictor.class_thresholds,
            "budget": {
                "accepted": self.takes_budget,
                "auto": self.chooses_budget,
                "default": self.default_budget,
                "smallest": SMALLEST,
            },
            "heatmap": self.has_scores,
            "where": self.tells_places,
            "size_megabytes": self.size_megabytes,
            "parameters": self.parameters,
        }


def load_served(settings: ServiceSettings) -> dict[str, ServedModel]:
    """The models of the settings, by name; the first is the default.

    Raises:
        FocusDetrError: one of them cannot be loaded.
    """
    served = {}
    for name, model in settings.named_models().items():
        place = resolve_model(model)
        # An exported file is in the form that infers already.
        predictor = Predictor.from_pretrained(
            place, device=settings.device, deploy=settings.deploy and place.is_dir()
        )
        if settings.setting is not None:
            predictor = predictor.at(settings.setting)
        served[name] = ServedModel.of(name, predictor, place)
    return served


def served_of(predictors: Mapping[str, Predictor]) -> dict[str, ServedModel]:
    """Models that are loaded already."""
    return {name: ServedModel.of(name, predictor) for name, predictor in predictors.items()}


def _configured_budget(predictor: Predictor) -> Any:
    if predictor.setting.budget is not None:
        return predictor.setting.budget
    return getattr(getattr(predictor.model, "config", None), "budget", None)


def _chooses(predictor: Predictor) -> bool:
    try:
        predictor.accept_budget(AUTO)
    except FocusDetrError:
        return False
    return True


def _size(place: Path | None, model: Any) -> float:
    """Bytes of the files that hold the weights."""
    if place is None:
        parameters = model.parameters() if isinstance(model, torch.nn.Module) else ()
        return math.fsum(each.numel() * each.element_size() for each in parameters)
    if place.is_file():
        return sum(
            file.stat().st_size for file in place.parent.glob(f"{place.stem}.*") if _is_part(file, place)
        )
    return sum(file.stat().st_size for file in place.glob("model*.safetensors"))


def _is_part(file: Path, exported: Path) -> bool:
    return file == exported or (exported.suffix == ".xml" and file.suffix == ".bin")
