"""The picture of training samples shows every sample with its boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from focus_detr.data import TransformedDataset, build_transforms, load_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.pictures.palette import class_color
from focus_detr.pictures.samples import sample_grid
from helpers.tiny_datasets import write_coco


def test_grid_shows_boxes_in_the_colors_of_their_classes(tmp_path: Path) -> None:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train")
    dataset = load_dataset(tmp_path)
    for i in range(3):
        Image.new("RGB", (40, 30)).save(tmp_path / "train" / f"{i}.png")
    plain = TransformedDataset(dataset, build_transforms("none"))
    for source in (dataset, plain):
        path = sample_grid(source, tmp_path / "out" / "grid.png", count=9, columns=2, cell=202)
        page = np.asarray(Image.open(path))
        assert page.shape == (404, 404, 3)
        # Scale 5: the dog's box is 25..75 by 30..90, in the second cell as in the first; no cat in the third.
        for top, left in ((0, 0), (0, 202), (202, 0)):
            assert page[top + 60, left + 25].tolist() == list(class_color(1))
        assert page[62, 100].tolist() == list(class_color(0)) and page[264, 100].tolist() == [0, 0, 0]
    with pytest.raises(FocusDetrError, match="count=0"):
        sample_grid(dataset, path, count=0)
