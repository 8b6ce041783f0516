"""What is known of an object stays with it from record to labels, also what no transform has heard of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from focus_detr.data import Collator, DetectionDataset, Record, Sample
from focus_detr.data.transforms.augmentations import build_transforms
from focus_detr.data.transforms.draws import Draws
from focus_detr.data.transforms.geometric import (
    HorizontalFlip,
    RandomCrop,
    Resize,
    ScaleJitter,
    Transform,
    VerticalFlip,
)
from focus_detr.data.transforms.mosaic import Mosaic
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.structures.instances import Instances
from helpers.tiny_datasets import write_image

SIZE = {"shortest_edge": 60, "longest_edge": 100}


@dataclass(frozen=True, eq=False)
class Tracked(Instances):
    tracks: np.ndarray | None = None


def tracked(first: int) -> Tracked:
    """Twelve objects on a grid, each with a class and a track of its own."""
    left, top = (places.ravel() * 20 + 4 for places in np.meshgrid(np.arange(4), np.arange(3)))
    boxes = np.stack([left, top, left + 12, top + 12], axis=1).astype(np.float32)
    labels = np.arange(first, first + 12)
    return Tracked(boxes, labels, tracks=labels * 10)


def sample(first: int = 0) -> Sample:
    return Sample(
        Image.new("RGB", (80, 60)), tracked(first), first, Path("a.png"), (60, 80), tracked(first + 50)
    )


TRANSFORMS: dict[str, Transform] = {
    "horizontal flip": HorizontalFlip(1.0),
    "vertical flip": VerticalFlip(1.0),
    "resize": Resize({"height": 30, "width": 90}),
    "crop": RandomCrop(20, 50),
    "scale jitter": ScaleJitter(SIZE, (1.2, 1.6)),
    "mosaic": Mosaic(SIZE, others=[sample(100), sample(200)]),
    "detr": build_transforms("detr", size=SIZE),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_fact_of_an_object_stays_with_it(name: str) -> None:
    kept = set()
    for seed in range(20):
        changed = TRANSFORMS[name](sample(), Draws.alone(seed))
        assert isinstance(changed.instances, Tracked) and isinstance(changed.crowds, Tracked)
        assert changed.instances.tracks.tolist() == (changed.labels * 10).tolist()
        assert changed.crowds.tracks.tolist() == (changed.crowds.labels * 10).tolist()
        (labels,) = Collator(FocusDetrImageProcessor(size=SIZE))([changed])["labels"]
        assert labels["tracks"].tolist() == (labels["class_labels"] * 10).tolist()
        kept.add(len(changed.labels))
    if name not in ("horizontal flip", "vertical flip", "resize"):
        assert min(kept) < (48 if name == "mosaic" else 12), "nothing was cut off"


def test_a_fact_of_an_object_goes_from_record_to_sample(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", 80, 60)
    objects = tracked(0)
    # The data set says 90 x 60, so that what lies beyond 80 is cut.
    objects = Tracked(objects.boxes_xyxy + np.float32([10, 0, 10, 0]), objects.labels, tracks=objects.tracks)
    wide = Record(path, 1, objects, known_size=(90, 60))
    fractions = Tracked(
        tracked(0).boxes_xyxy / np.float32([80, 60, 80, 60]), objects.labels, tracks=objects.tracks
    )
    relative = Record(path, 2, fractions, relative=True)
    dataset = DetectionDataset([wide, relative], [str(label) for label in range(12)], list(range(12)))
    for read, boxes in zip(
        map(dataset.read, range(2)), (objects.boxes_xyxy, tracked(0).boxes_xyxy), strict=True
    ):
        assert read.instances.tracks.tolist() == (read.labels * 10).tolist() and len(read.labels) == 12
        np.testing.assert_allclose(read.boxes_xyxy, boxes.clip(0, 80), rtol=1e-6)
        assert not np.shares_memory(read.labels, objects.labels)


def test_areas_of_the_source_reach_the_labels(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", 80, 60)
    objects = Instances(np.float32([[10, 10, 30, 30]]), np.zeros(1, np.int64), areas=np.array([300.0]))
    dataset = DetectionDataset([Record(path, 1, objects, known_size=(80, 60))], ["cell"], [1])
    (label,) = Collator(FocusDetrImageProcessor(size=SIZE))([dataset[0]])["labels"]
    assert label["areas"].tolist() == [300] and str(label["areas"].dtype) == "torch.float32"
