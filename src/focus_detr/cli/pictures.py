"""The pictures that `focus-detr predict` writes: objects drawn, and where the model looked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from focus_detr.errors import FocusDetrError

if TYPE_CHECKING:
    from focus_detr.inference import Detections, Predictor


def keep_sources(sources: list[str], output: Path) -> None:
    """Refuse an output folder that holds a source, which its annotated picture could replace.

    Raises:
        FocusDetrError: a picture to look at lies in ``output``.
    """
    from focus_detr.inference.results import BadImage
    from focus_detr.inference.sources import expand_sources

    if not output.is_dir():
        return
    place = output.resolve()
    for item in expand_sources(sources):
        if not isinstance(item, BadImage) and "://" not in item.name:
            if Path(item.name).resolve().parent == place:
                raise FocusDetrError(
                    f"--output {output}: {item.name} is one of the pictures to look at, and drawing there "
                    "could replace it; give another folder"
                )


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
