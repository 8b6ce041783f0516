"""Exported models on ONNX Runtime, numpy and Pillow alone: neither torch nor transformers is imported.

    from focus_detr.runtime import Predictor
    for found in Predictor("model.onnx").predict("photos/"):
        print(found.to_dict())

It is the `Predictor` of the whole package, and finds the same to the bit.
"""

from focus_detr.errors import FocusDetrError
from focus_detr.inference.results import BadImage, Detections
from focus_detr.runtime.predictor import Predictor

__all__ = ["BadImage", "Detections", "FocusDetrError", "Predictor"]
