"""sample_grid: a picture of training samples with their boxes, to look at before training."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.records import Sample
from focus_detr.data.transforms.dataset import TransformedDataset
from focus_detr.errors import FocusDetrError
from focus_detr.folders import whole_files
from focus_detr.pictures.boxes import tinted
from focus_detr.pictures.palette import class_color, ink_on

_BACKGROUND = (40, 40, 40)


def sample_grid(
    dataset: DetectionDataset | TransformedDataset,
    path: str | Path,
    count: int = 16,
    columns: int = 4,
    cell: int = 320,
) -> Path:
    """Saves `count` samples, spread evenly over `dataset` and as its transforms make them, as one picture.

    Every sample is shown `cell` pixels wide or high, with boxes, masks that were read, and class
    names in a color a class and crowd regions in thin white. Returns `path`.
    """
    if min(count, columns, cell) < 1:
        raise FocusDetrError(f"count={count}, columns={columns}, cell={cell}: must all be 1 or more.")
    names = (dataset.dataset if isinstance(dataset, TransformedDataset) else dataset).class_names
    count = min(count, len(dataset))
    columns = min(columns, count)
    page = Image.new("RGB", (columns * cell, -(-count // columns) * cell), _BACKGROUND)
    for position in range(count):
        drawn = _draw(dataset[position * len(dataset) // count], names, cell)
        page.paste(drawn, (position % columns * cell, position // columns * cell))
    path = Path(path)
    with whole_files(path.parent) as writing:
        page.save(writing / path.name)
    return path


def _draw(sample: Sample, names: list[str], cell: int) -> Image.Image:
    scale = (cell - 2) / max(sample.image.size)
    width, height = (max(1, round(side * scale)) for side in sample.image.size)
    image = sample.image.resize((width, height), Image.Resampling.BILINEAR)
    if sample.instances.masks is not None:
        moved = [mask and mask.transform(image.size, (scale, scale)) for mask in sample.instances.masks]
        image = tinted(image, moved, sample.labels)
    canvas = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(10, cell // 28))
    for box in sample.ignored * scale:
        canvas.rectangle(tuple(box.tolist()), outline="white")
    objects = list(zip((sample.boxes_xyxy * scale).tolist(), sample.labels.tolist(), strict=True))
    for box, label in objects:
        canvas.rectangle(tuple(box), outline=class_color(label), width=2)
    for (left, top, _, _), label in objects:
        color = class_color(label)
        _, _, text_right, text_bottom = canvas.textbbox((0, 0), names[label], font=font)
        # Above its box where there is room, so that small objects stay visible.
        bottom = top if top > text_bottom + 2 else top + text_bottom + 2
        canvas.rectangle((left, bottom - text_bottom - 2, left + text_right + 4, bottom), fill=color)
        canvas.text((left + 2, bottom - text_bottom - 1), names[label], fill=ink_on(color), font=font)
    return image
