"""explain(): a picture or a data set, as files in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.formats.searching import is_image_file
from focus_detr.disk import explained_disk
from focus_detr.errors import FocusDetrError
from focus_detr.explaining.models import explainable
from focus_detr.explaining.picture import PictureExplanation, explain_picture
from focus_detr.explaining.picture_html import explanation_html
from focus_detr.explaining.picture_page import explanation_page
from focus_detr.explaining.recall import DataExplanation, explain_data
from focus_detr.explaining.recall_html import recall_html
from focus_detr.explaining.recall_page import lost_sheet, plot_recall
from focus_detr.folders import from_home, whole_file, writable_folder
from focus_detr.inference.choosing import Threshold
from focus_detr.inference.results import BadImage
from focus_detr.inference.sources.files import expand_sources

if TYPE_CHECKING:
    from focus_detr.inference import Predictor


def explain(
    predictor: Predictor,
    source: Any,
    output: str | os.PathLike[str] | None = None,
    *,
    split: str | None = "val",
    budgets: Sequence[float] | None = None,
    threshold: Threshold | None = None,
    progress: bool = False,
) -> PictureExplanation | DataExplanation:
    """What the model looks at in a picture, or which objects of a data set each budget keeps.

    Args:
        source: an image, or the file or URL of one; or a data set, or the path of one.
        output: folder for explanation.html (one file that needs nothing else) and explanation.json; of a
            picture, explanation.jpg; of a data set, recall.png, lost.jpg and the table as explanation.txt.
        split: of a data set.
        budgets: those to look at beside the model's own; nine from 0.05 to 1 when not given.
        threshold: score that objects of a picture must reach, or scores by class; the model's own when not
            given.

    Raises:
        FocusDetrError: a model that does not say where it looks, as exported files do not; nothing to look
            at; an option that cannot be used.
    """
    explainable(predictor)
    folder = None if output is None else writable_folder(output)
    if not _is_picture(source):
        found = explain_data(predictor, source, split=split, budgets=budgets, progress=progress)
        if folder is not None:
            with _written(folder):
                _write_data(found, folder)
        return found
    name, image = _picture(source, folder)
    seen = explain_picture(predictor, image, name, budgets=budgets, threshold=threshold, progress=progress)
    if folder is not None:
        with _written(folder):
            _write_picture(seen, folder)
    return seen


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    with explained_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        yield


def _is_picture(source: Any) -> bool:
    if isinstance(source, Image.Image | DetectionDataset):
        return isinstance(source, Image.Image)
    return "://" in str(source) or is_image_file(Path(source))


def _picture(source: Any, folder: Path | None) -> tuple[str, Image.Image]:
    if isinstance(source, Image.Image):
        return "picture", source.convert("RGB")
    path = Path(from_home(Path(source)))
    if folder is not None and path.resolve() == (folder / "explanation.jpg").resolve():
        raise FocusDetrError(f"output {folder}: {path} would be written over; give another folder")
    item = next(expand_sources([os.fspath(source)]))  # of several pages, the first
    loaded = item if isinstance(item, BadImage) else item.load()
    if isinstance(loaded, BadImage):
        raise FocusDetrError(f"{loaded.path}: {loaded.reason}")
    return path.name, loaded


def _write_picture(found: PictureExplanation, folder: Path) -> None:
    with whole_file(folder / "explanation.jpg") as stream:
        explanation_page(found).save(stream, "JPEG", quality=90)
    _write_text(folder / "explanation.html", explanation_html(found))
    _write_text(folder / "explanation.json", json.dumps(found.to_dict(), indent=2))


def _write_data(found: DataExplanation, folder: Path) -> None:
    plot_recall(found, folder / "recall.png")
    sheet = lost_sheet(found)
    if sheet is not None:
        with whole_file(folder / "lost.jpg") as stream:
            sheet.save(stream, "JPEG", quality=90)
    else:
        # Of an earlier run, whose objects these are not.
        (folder / "lost.jpg").unlink(missing_ok=True)
    _write_text(folder / "explanation.html", recall_html(found))
    _write_text(folder / "explanation.json", json.dumps(found.to_dict(), indent=2))
    _write_text(folder / "explanation.txt", found.summary() + "\n")


def _write_text(file: Path, text: str) -> None:
    with whole_file(file) as stream:
        stream.write(text.encode("utf-8"))
