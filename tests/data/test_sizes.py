"""Sizes of pictures: what the annotations do not give is read from each file once."""

from collections import Counter
from pathlib import Path

import pytest

from focus_detr.data import TransformedDataset, build_transforms, headers, load_dataset, records
from focus_detr.data.formats import recognise
from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.training.evaluating import CocoEvaluator
from helpers.tiny_datasets import write_coco, write_image, write_voc, write_yolo


@pytest.fixture
def reads(monkeypatch) -> Counter[str]:
    """How often the header of each file was read, whoever asked."""
    counts: Counter[str] = Counter()
    for module in (headers, records):

        def counting(path: Path, read=module.image_header):
            counts[Path(path).name] += 1
            return read(path)

        monkeypatch.setattr(module, "image_header", counting)
    return counts


def train_and_evaluate(dataset) -> list[int]:
    """What a run asks of sizes, at its start and again."""
    shapes = TransformedDataset(dataset, build_transforms("none", size={"shortest_edge": 32})).shapes
    CocoEvaluator(dataset, FocusDetrImageProcessor(), 2)
    assert TransformedDataset(dataset, build_transforms("none", size={"shortest_edge": 32})).shapes == shapes
    return shapes


@pytest.mark.parametrize("few", [0, 100], ids=["large", "small"])
def test_a_run_reads_each_size_once_and_when_loading(few, tmp_path, monkeypatch, reads):
    write_yolo(tmp_path)
    monkeypatch.setattr(recognise, "_FEW_IMAGES", few)
    dataset = load_dataset(tmp_path, "train", on_problem="ignore")
    assert reads == {record.path.name: 1 for record in dataset.records} and len(dataset) > 1
    train_and_evaluate(dataset)
    assert set(reads.values()) == {1}


def test_sizes_that_annotations_give_are_not_read(tmp_path, monkeypatch, reads):
    monkeypatch.setattr(recognise, "_FEW_IMAGES", 0)
    write_coco(tmp_path / "coco" / "instances_train.json", tmp_path / "coco" / "train")
    write_voc(tmp_path / "voc")
    for folder in ("coco", "voc"):
        train_and_evaluate(load_dataset(tmp_path / folder, "train", on_problem="ignore"))
    assert not reads


def test_a_large_data_set_leaves_out_what_it_finds_unreadable(tmp_path, monkeypatch):
    write_yolo(tmp_path)
    monkeypatch.setattr(recognise, "_FEW_IMAGES", 0)
    whole = load_dataset(tmp_path, "train", on_problem="ignore")
    broken = whole.records[0].path
    broken.write_bytes(b"no picture")
    dataset = load_dataset(tmp_path, "train", on_problem="ignore")
    assert len(dataset) == len(whole) - 1
    assert ("unreadable-image", str(broken)) in [(each.kind, each.file) for each in dataset.problems]


def test_one_unreadable_picture_does_not_end_a_run_of_unchecked_data(tmp_path, reads):
    write_yolo(tmp_path)
    dataset = load_dataset(tmp_path, "train", on_problem="ignore", check_images="none")
    assert not reads
    broken = dataset.records[0].path
    broken.write_bytes(b"no picture")
    write_image(dataset.records[1].path, 30, 60)
    assert dataset.sizes()[:2] == [None, (30, 60)]
    training_set = TransformedDataset(dataset, build_transforms("none", size={"shortest_edge": 32}))
    assert training_set.shapes[:2] == [16, -32]
    assert set(reads.values()) == {1}
    assert [(each.kind, each.file) for each in dataset.problems][-1] == ("unreadable-image", str(broken))
    assert dataset[0].path != broken
    with pytest.raises(FocusDetrError, match="not an image"):
        dataset.read(0)
