"""From samples to batches: replay of randomness, and what the collator writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from focus_detr.data import Collator, DetectionDataset, TransformedDataset, build_transforms, load_dataset
from focus_detr.data.transforms.dataset import Place
from focus_detr.data.transforms.geometric import Compose, OneOf
from focus_detr.data.transforms.mosaic import Mosaic
from focus_detr.images.processor import FocusDetrImageProcessor
from helpers.tiny_datasets import write_coco

SIZE = {"shortest_edge": 24, "longest_edge": 40}


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train")
    return load_dataset(tmp_path)


def _same(left: dict, right: dict) -> bool:
    if left["pixel_values"].shape != right["pixel_values"].shape:
        return False
    boxes = [label["boxes"] for label in left["labels"]], [label["boxes"] for label in right["labels"]]
    return torch.equal(left["pixel_values"], right["pixel_values"]) and all(
        torch.equal(a, b) for a, b in zip(*boxes, strict=True)
    )


def test_samples_depend_on_seed_epoch_and_index_alone(dataset: DetectionDataset) -> None:
    """Workers that outlive an epoch must see the next one, and give what no workers give."""
    collator = Collator(FocusDetrImageProcessor(size=SIZE))
    recipe = build_transforms("small-data", size=SIZE, mosaic=0.5)
    in_process = TransformedDataset(dataset, recipe, seed=5)
    with_workers = TransformedDataset(dataset, recipe, seed=5)
    loader = DataLoader(
        with_workers, batch_size=1, num_workers=2, persistent_workers=True, collate_fn=collator
    )
    epochs = []
    for epoch in (0, 1, 0):
        in_process.set_epoch(epoch)
        with_workers.set_epoch(epoch)
        epochs.append(list(loader))
        for index, batch in enumerate(epochs[-1]):
            assert _same(batch, collator([in_process[index]]))
    assert not all(_same(a, b) for a, b in zip(epochs[0], epochs[1], strict=True))
    assert all(_same(a, b) for a, b in zip(epochs[0], epochs[2], strict=True))
    other_seed = TransformedDataset(dataset, recipe, seed=6)
    assert not all(_same(collator([other_seed[i]]), epochs[0][i]) for i in range(len(dataset)))


def test_collator_pads_after_normalising_and_writes_labels(dataset: DetectionDataset) -> None:
    wide = TransformedDataset(dataset, build_transforms("none", size={"height": 15, "width": 40}))[0]
    tall = TransformedDataset(dataset, build_transforms("none", size={"height": 30, "width": 20}))[2]
    batch = Collator(FocusDetrImageProcessor(size=SIZE))([wide, tall])
    assert batch["pixel_values"].shape == (2, 3, 30, 40) and batch["pixel_values"].dtype == torch.float32
    assert batch["pixel_mask"].shape == (2, 30, 40)
    assert batch["pixel_mask"][0].nonzero().amax(0).tolist() == [14, 39]
    assert batch["pixel_mask"][1].nonzero().amax(0).tolist() == [29, 19]
    assert (batch["pixel_values"] * (1 - batch["pixel_mask"])[:, None]).abs().max() == 0
    label = batch["labels"][0]
    assert label["size"].tolist() == [15, 40] and label["orig_size"].tolist() == [30, 40]
    assert label["image_id"].tolist() == [10] and label["class_labels"].tolist() == [1, 0]
    # The dog is at 5..15 of 40 and 6..18 of 30, however the image is stretched.
    np.testing.assert_allclose(label["boxes"][0], [10 / 40, 12 / 30, 10 / 40, 12 / 30], atol=1e-6)


def test_collator_resizes_like_the_processor_only_when_asked(dataset: DetectionDataset) -> None:
    processor = FocusDetrImageProcessor(size={"shortest_edge": 12})
    sample = dataset[0]
    assert Collator(processor)([sample])["pixel_values"].shape[-2:] == (30, 40)
    resized = Collator(processor, do_resize=True)([sample])
    assert torch.equal(resized["pixel_values"], processor(sample.image)["pixel_values"])
    assert resized["labels"][0]["size"].tolist() == [12, 16]


def test_an_image_without_objects_gives_empty_labels(dataset: DetectionDataset) -> None:
    sample = dataset[0]
    sample.instances = sample.instances[:0]
    (label,) = Collator(FocusDetrImageProcessor(size=SIZE))([sample])["labels"]
    assert label["boxes"].shape == (0, 4) and label["class_labels"].shape == (0,)


def test_mosaic_is_lent_the_data_set_wherever_it_stands(dataset: DetectionDataset) -> None:
    mosaic = Mosaic(SIZE)
    for transform in (mosaic, Compose((mosaic,)), OneOf((mosaic,)), OneOf((Compose((mosaic,)),))):
        assert TransformedDataset(dataset, transform)[0].image.size == (32, 24)
    assert mosaic.others is None


@pytest.mark.parametrize("name", ["detr", "small-data"])
def test_a_batch_draws_one_scale_and_another_batch_another(dataset: DetectionDataset, name: str) -> None:
    size = {"shortest_edge": 300, "longest_edge": 500}
    seen = TransformedDataset(dataset, build_transforms(name, size=size))
    sizes = [{seen[Place(index, batch)].image.size for index in range(len(seen))} for batch in range(8)]
    assert all(len(each) == 1 for each in sizes) and len(set.union(*sizes)) > 3
    alone = {seen[index].image.size for index in range(len(seen))}
    assert len(alone) > 1
