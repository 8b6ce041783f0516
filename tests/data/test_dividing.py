"""A data set is divided by chance, every class and no picture on both sides."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from focus_detr.data import DetectionDataset, Record, load_dataset
from focus_detr.data.dividing import divide
from focus_detr.errors import FocusDetrError
from focus_detr.structures.instances import Instances
from helpers.tiny_datasets import write_image


def _dataset(folder: Path, pictures: Sequence[set[int]]) -> DetectionDataset:
    records = []
    for number, labels in enumerate(pictures):
        boxes = np.tile(np.float32([1, 1, 9, 9]), (len(labels), 1))
        objects = Instances(boxes_xyxy=boxes, labels=np.array(sorted(labels), dtype=np.int64))
        records.append(Record(folder / f"{number}.png", number, objects, known_size=(40, 30)))
    count = max((label for labels in pictures for label in labels), default=0) + 1
    return DetectionDataset(records, [f"class {i}" for i in range(count)], list(range(count)))


def _sides(pictures: Sequence[set[int]], held: Sequence[int]) -> tuple[set[int], set[int]]:
    """Classes learned, classes held back."""
    kept = [labels for number, labels in enumerate(pictures) if number not in held]
    return set().union(*kept), set().union(*(pictures[number] for number in held))


@pytest.mark.parametrize("share", [0.01, 0.15, 0.5])
def test_each_class_has_its_share_of_pictures(share: float, tmp_path: Path) -> None:
    pictures: list[set[int]] = [{0}] * 200 + [{1}] * 100 + [{2}] * 20 + [set()] * 60
    held = divide(_dataset(tmp_path, pictures), share, 0)
    for first, count, least in ((0, 200, 1), (200, 100, 1), (300, 20, 1), (320, 60, 0)):
        found = sum(first <= position < first + count for position in held)
        assert found == max(least, round(share * count)), (share, count)


@pytest.mark.parametrize("seed", range(20))
def test_classes_of_two_pictures_are_on_both_sides(seed: int, tmp_path: Path) -> None:
    pictures = [{number % 3, 3 + number // 2} for number in range(60)]
    random.Random(seed).shuffle(pictures)
    learned, measured = _sides(pictures, divide(_dataset(tmp_path, pictures), 0.1, seed))
    assert learned == measured == set(range(33))


@pytest.mark.parametrize("seed", range(20))
def test_rare_classes_that_share_pictures_find_the_one_way_that_there_is(seed: int, tmp_path: Path) -> None:
    pictures = [{0, 1}, {1, 2}, {2, 3}, {3, 0}]  # every other one
    learned, measured = _sides(pictures, divide(_dataset(tmp_path, pictures), 0.25, seed))
    assert learned == measured == {0, 1, 2, 3}


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_scenes_of_many_pictures_leave_each_class_its_share(seed: int, share: float, tmp_path: Path) -> None:
    sizes = [60, 40, 30, 20, 15, 10, 8, 5, *[3] * 20, *[1] * 100]
    random.Random(seed).shuffle(sizes)
    groups, pictures = [], []
    for number, size in enumerate(sizes):
        groups.append(list(range(len(pictures), len(pictures) + size)))
        pictures += [{number % 3}] * size
    held = divide(_dataset(tmp_path, pictures), share, seed, groups)
    assert all(len(set(group) & set(held)) in (0, len(group)) for group in groups)
    for label in range(3):
        count = sum(labels == {label} for labels in pictures)
        assert sum(pictures[each] == {label} for each in held) == pytest.approx(share * count, abs=3)


def test_the_only_picture_of_a_class_is_learned(tmp_path: Path) -> None:
    pictures: list[set[int]] = [{0}] * 10 + [{0, 1}]
    for seed in range(20):
        assert 10 not in divide(_dataset(tmp_path, pictures), 0.5, seed)


def test_the_seed_decides(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, [{0}] * 40)
    draws = [divide(dataset, 0.25, seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_one_picture_under_several_names_is_on_one_side(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for number in range(12):
        name = f"{number}.png"
        if number % 3 == 0:
            write_image(tmp_path / "images" / name, seed=number)
        elif number % 3 == 1:
            shutil.copy(tmp_path / "images" / f"{number - 1}.png", tmp_path / "images" / name)
        else:
            (tmp_path / "images" / name).symlink_to(f"{number - 2}.png")
        (tmp_path / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat]\n")
    dataset = load_dataset(tmp_path, on_problem="ignore")
    assert len(dataset) == 12
    for seed in range(10):
        held = {dataset.records[i].path.stem for i in divide(dataset, 0.5, seed)}
        assert len(held) == 6
        assert all(len(held & {str(i), str(i + 1), str(i + 2)}) in (0, 3) for i in range(0, 12, 3))


@pytest.mark.parametrize("pictures", [[{0}], [{0}, {1}], [{0}, set(), set(), set()]])
def test_too_few_pictures_are_refused(pictures: list[set[int]], tmp_path: Path) -> None:
    with pytest.raises(FocusDetrError, match="cannot be held back: no class has two pictures"):
        divide(_dataset(tmp_path, pictures), 0.5, 0)
