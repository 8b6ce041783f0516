"""The pictures that `focus-detr predict` writes: objects drawn, and where the model looked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from focus_detr.errors import FocusDetrError
from focus_detr.folders import whole_file

if TYPE_CHECKING:
    from PIL import Image

    from focus_detr.inference import Detections, Predictor
    from focus_detr.inference.tracking import Counts
    from focus_detr.structures.auto_budget import BudgetLike


def keep_sources(sources: list[str], output: Path) -> None:
    """Refuse an output folder that holds a source, which its annotated picture could replace.

    Raises:
        FocusDetrError: a picture to look at lies in ``output``.
    """
    from focus_detr.inference.results import BadImage
    from focus_detr.inference.sources.files import source_entries
    from focus_detr.inference.sources.named import Series
    from focus_detr.inference.sources.options import SourceOptions

    if not output.is_dir():
        return
    place = output.resolve()
    for item in source_entries(sources, SourceOptions()):
        if isinstance(item, Series) and item.live:
            continue
        if not isinstance(item, BadImage) and "://" not in item.name:
            if Path(item.name).resolve().parent == place:
                raise FocusDetrError(
                    f"--output {output}: {item.name} is one of the pictures to look at, and drawing there "
                    "could replace it; give another folder"
                )


class Pictures:
    """Writes `<image>.jpg` and `<image>.heatmap.jpg` into a folder; images of one name get numbers.

    Where budgets were chosen for them, `budgets.png` says which, in the end.
    `filmed`: objects of a video's frames are drawn elsewhere.
    """

    def __init__(
        self,
        folder: Path,
        predictor: Predictor,
        boxes: bool,
        heatmap: bool,
        budget: BudgetLike = None,
        counts: Counts | None = None,
        filmed: bool = False,
    ) -> None:
        from focus_detr.data.naming import FreeNames
        from focus_detr.pictures.budgets import BudgetPage

        self.folder, self.predictor, self.boxes, self.heatmap = folder, predictor, boxes, heatmap
        self.budget, self._page = budget, BudgetPage()
        self.counts, self.filmed = counts, filmed
        # Both names are kept free, or the heat map of `a` would be drawn over the objects of `a.heatmap`.
        self._names = FreeNames((".jpg", ".heatmap.jpg"))

    def write(self, detections: Detections) -> None:
        """The pictures of one image; its detections hold it (`keep_images`)."""
        self._page.add(detections)
        name = self._names.of_image(detections.path)
        if detections.earlier or detections.image is None:
            return
        if self.boxes and not (self.filmed and detections.frame is not None):
            _save(self.drawn(detections), self.folder / f"{name}.jpg")
        if self.heatmap:
            from focus_detr.pictures.heatmap import draw_heatmap

            budget = self.budget if detections.budget is None else detections.budget
            page = draw_heatmap(self.predictor, detections.image, budget)
            _save(page, self.folder / f"{name}.heatmap.jpg")

    def drawn(self, detections: Detections, legend: bool = True) -> Image.Image:
        """The image with its objects, and with what has been counted until it."""
        from focus_detr.inference.folder_writer import kept_image
        from focus_detr.pictures.boxes import draw_detections
        from focus_detr.pictures.counted import draw_counts

        page = kept_image(detections)
        if self.counts and detections.frame is not None:
            page = draw_counts(page, self.counts, detections.frame.video)
        return draw_detections(page, detections, legend=legend)

    def finish(self) -> None:
        """The page of budgets, where any were chosen."""
        if (self.boxes or self.heatmap) and self._page.counts:
            with whole_file(self.folder / "budgets.png") as stream:
                self._page.save(stream)


def _save(picture: Image.Image, file: Path) -> None:
    with whole_file(file) as stream:
        picture.save(stream, "JPEG", quality=92)
