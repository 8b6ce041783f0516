"""The pictures that `focus-detr predict` writes: objects drawn, and where the model looked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from focus_detr.inference import Detections, Predictor


class Pictures:
    """Writes `<image>.jpg` and `<image>.heatmap.jpg` into a folder; images of one name get numbers."""

    def __init__(self, folder: Path, predictor: Predictor, boxes: bool, heatmap: bool) -> None:
        self.folder, self.predictor, self.boxes, self.heatmap = folder, predictor, boxes, heatmap
        self._names: Counter[str] = Counter()

    def write(self, detections: Detections) -> None:
        """The pictures of one image; its detections hold it (`keep_images`)."""
        if not (self.boxes or self.heatmap) or detections.image is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = self._free_name(detections.path)
        if self.boxes:
            from focus_detr.inference.draw import draw_detections

            draw_detections(detections.image, detections).save(self.folder / f"{name}.jpg", quality=92)
        if self.heatmap:
            from focus_detr.inference.heatmap import draw_heatmap

            draw_heatmap(self.predictor, detections.image).save(
                self.folder / f"{name}.heatmap.jpg", quality=92
            )

    def _free_name(self, path: str) -> str:
        stem = Path(urlsplit(path).path if "://" in path else path).stem or "image"
        self._names[stem] += 1
        return stem if self._names[stem] == 1 else f"{stem}-{self._names[stem]}"
