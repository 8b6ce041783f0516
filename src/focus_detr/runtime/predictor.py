"""Predictor: of a file that `focus-detr export` wrote as ONNX."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from focus_detr.errors import FocusDetrError
from focus_detr.export.detector import load_exported
from focus_detr.inference import predictor
from focus_detr.inference.results import BadImage, Detections
from focus_detr.inference.sources.files import Sources
from focus_detr.structures.auto_budget import BudgetLike


class Predictor(predictor.Predictor):
    """Finds objects in pictures with an exported model.

    Args:
        file: an ONNX file of `focus-detr export`; class names, preprocessing, sizes and the batch it takes
            are read from it.
        budget: mean share of tokens that an encoder layer works on, where a call says none; of files that
            were exported with ``--budget any``.
        device: "cpu", or as in "cuda" where this ONNX Runtime has it.

    Raises:
        FocusDetrError: no such file, not one of ours, or ONNX Runtime is not installed.
    """

    def __init__(
        self, file: str | os.PathLike[str], *, budget: BudgetLike = None, device: str | None = None
    ) -> None:
        if Path(file).suffix != ".onnx":
            raise FocusDetrError(
                f"{file}: the runtime reads ONNX files; write one: focus-detr export MODEL --output a.onnx"
            )
        detector = load_exported(file, device)
        super().__init__(detector, detector.processor)
        self.set_budget(budget)

    def predict(self, sources: Sources, **options: Any) -> Generator[Detections | BadImage]:
        """The objects of each picture, in order, as they are found; see
        `focus_detr.inference.predictor.Predictor.predict`, whose options these are.

        Raises:
            FocusDetrError: as there; a deadline, which measures budgets by the whole package.
        """
        if options.get("deadline") is not None:
            _need_torch()
        return super().predict(sources, **options)


def _need_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise FocusDetrError("deadline: needs the whole package: pip install focus-detr") from error
