"""The sizes that transforms can give are known before there is a picture, and the largest batch by them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from focus_detr.data import Collator, DetectionDataset, TransformedDataset, build_transforms
from focus_detr.data.records import Record
from focus_detr.data.transforms.dataset import Place
from focus_detr.data.transforms.outcomes import outcomes
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.structures.instances import Instances
from focus_detr.training.largest_batch import largest_batch, largest_sizes

SIZE = {"shortest_edge": 40, "longest_edge": 66}
KINDS = {
    "detr": {},
    "small-data": {"mosaic": 0.5, "scale": (0.5, 2.0)},
    "none": {},
    "fixed": {"size": {"height": 48, "width": 24}},
}


def data(folder: Path, *sizes: tuple[int, int]) -> DetectionDataset:
    """Pictures of (width, height) with one object more each."""
    records = []
    for number, size in enumerate(sizes):
        path = folder / f"{number}.png"
        Image.new("RGB", size, (9, 9, 9)).save(path)
        boxes = np.tile(np.float32([1, 1, 9, 9]), (number, 1))
        records.append(Record(path, number, Instances(boxes, np.zeros(number, dtype=np.int64))))
    return DetectionDataset(records, ["dot"], [0])


def seen(kind: str, dataset: DetectionDataset) -> TransformedDataset:
    name = "detr" if kind == "fixed" else kind
    return TransformedDataset(dataset, build_transforms(name, **{"size": SIZE, **KINDS[kind]}))


@pytest.mark.parametrize("kind", KINDS)
def test_no_batch_is_larger_than_what_is_foretold(kind, tmp_path):
    transformed = seen(kind, data(tmp_path, (64, 48), (48, 64), (120, 60), (50, 50)))
    pairs = largest_sizes(transformed, 2)
    most = max(height for height, _ in pairs) * max(width for _, width in pairs)
    one = np.prod(largest_sizes(transformed, 1)[0])
    found, alone = [], []
    for number in range(100):
        sizes = [transformed[Place(item, number)].image.size for item in range(4)]
        found.append(max(width for width, _ in sizes) * max(height for _, height in sizes))
        alone += [width * height for width, height in sizes]
    assert max(found) <= most <= 1.1 * max(found)
    assert max(alone) <= one <= 1.2 * max(alone)


def test_pictures_that_lie_are_not_padded_to_those_that_stand(tmp_path):
    assert set(largest_sizes(seen("none", data(tmp_path, (80, 60), (64, 48))), 3)) == {(40, 53)}


def test_draws_are_shared_by_a_batch():
    crops = build_transforms("detr", size=SIZE)
    for batch in outcomes(crops, ((200, 300), (300, 300))):
        assert batch[0] == batch[1] or batch[0][0] <= 40


def test_the_largest_batch_is_one_of_training(tmp_path):
    transformed = seen("none", data(tmp_path, (64, 48), (48, 64), (50, 50)))
    batch = largest_batch(transformed, Collator(FocusDetrImageProcessor(size=SIZE)), 3)
    assert batch["pixel_values"].shape == (3, 3, 53, 53) and batch["pixel_mask"].sum() == 3 * 40 * 53
    real = Collator(FocusDetrImageProcessor(size=SIZE))([transformed[1]])["labels"][0]
    for label in batch["labels"]:
        assert {name: value.dtype for name, value in label.items()} == {n: v.dtype for n, v in real.items()}
        assert len(label["boxes"]) == 2
