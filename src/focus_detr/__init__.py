"""Focus-DETR: a detection transformer that spends its encoder where objects are.

    from focus_detr import FocusDetr
    for detections in FocusDetr("blood-cells").predict("photo.jpg"):
        print(detections.to_dict())

Names are imported on first use (PEP 562), so that `import focus_detr` never pays for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from focus_detr._version import __version__

if TYPE_CHECKING:
    from focus_detr.api import FocusDetr as FocusDetr
    from focus_detr.errors import FocusDetrError as FocusDetrError
    from focus_detr.images.processor import FocusDetrImageProcessor as FocusDetrImageProcessor
    from focus_detr.inference import Detections as Detections
    from focus_detr.inference import Predictor as Predictor
    from focus_detr.models import FocusDetrForInstanceSegmentation as FocusDetrForInstanceSegmentation
    from focus_detr.models import FocusDetrForObjectDetection as FocusDetrForObjectDetection
    from focus_detr.models.configuration import FocusDetrConfig as FocusDetrConfig
    from focus_detr.models.configuration import Quirks as Quirks
    from focus_detr.zoo.presets import list_presets as list_presets
    from focus_detr.zoo.presets import preset as preset
    from focus_detr.zoo.resolve import list_models as list_models
    from focus_detr.zoo.resolve import resolve_model as resolve_model

_HOME = {
    "FocusDetr": "api",
    "FocusDetrConfig": "models.configuration",
    "Quirks": "models.configuration",
    "FocusDetrError": "errors",
    "FocusDetrImageProcessor": "images.processor",
    "Detections": "inference",
    "Predictor": "inference",
    "FocusDetrForObjectDetection": "models",
    "FocusDetrForInstanceSegmentation": "models",
    "list_presets": "zoo.presets",
    "preset": "zoo.presets",
    "list_models": "zoo.resolve",
    "resolve_model": "zoo.resolve",
}

# Whoever asks for one of these may go on to transformers' Auto classes and pipelines, which must know them.
_OF_TRANSFORMERS = {
    "FocusDetrConfig",
    "FocusDetrImageProcessor",
    "FocusDetrForObjectDetection",
    "FocusDetrForInstanceSegmentation",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'focus_detr' has no attribute {name!r}")
    if name in _OF_TRANSFORMERS:
        importlib.import_module("focus_detr.auto")
    value = getattr(importlib.import_module(f"focus_detr.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
