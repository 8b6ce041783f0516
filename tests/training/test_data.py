"""The data sets of a run are read as its recipe says."""

from pathlib import Path

import pytest

from focus_detr.errors import FocusDetrError
from focus_detr.training.recipe import load_recipe
from focus_detr.training.setup import load_evaluation_data, load_training_data
from helpers.tiny_datasets import coco_content, write_coco


def test_crowds_are_objects_where_the_recipe_says_so(tmp_path: Path) -> None:
    content = coco_content()
    for each in content["annotations"]:
        each["iscrowd"] = 1
    for split in ("train", "val"):
        write_coco(tmp_path / f"instances_{split}.json", tmp_path / split, content)
    recipe = load_recipe("small-data")
    with pytest.raises(FocusDetrError, match="--set crowds=objects"):
        load_training_data(tmp_path, recipe)
    recipe = recipe.replace({"crowds": "objects"})
    learned = load_training_data(tmp_path, recipe)
    measured = load_evaluation_data(tmp_path, None, recipe, learned)
    assert measured is not None
    assert [len(record.labels) for data in (learned, measured) for record in data.records] == [2, 2, 1] * 2


def labels(dataset):
    return [(dataset.class_names[label]) for record in dataset.records for label in record.labels]


def test_classes_are_learned_and_measured_as_the_recipe_names_them(tmp_path: Path) -> None:
    content = coco_content()
    for split in ("train", "val"):
        write_coco(tmp_path / f"instances_{split}.json", tmp_path / split, content)
    plain = load_training_data(tmp_path, load_recipe("small-data"))
    names = list(plain.class_names)
    recipe = load_recipe("small-data").replace({"classes": {name: "thing" for name in names}})
    learned = load_training_data(tmp_path, recipe)
    measured = load_evaluation_data(tmp_path, None, recipe, learned)
    assert measured is not None
    assert learned.class_names == measured.class_names == ["thing"]
    assert labels(learned) == labels(measured) == ["thing"] * len(labels(plain))
    assert learned.category_ids == [plain.category_ids[0]]

    some = recipe.replace({"classes": {names[0]: names[0]}})
    learned = load_training_data(tmp_path, some)
    assert learned.class_names == names[:1] and len(learned) == len(plain)  # the others are background
    assert labels(learned) == [name for name in labels(plain) if name == names[0]]


def test_classes_to_learn_that_are_not_there_are_refused(tmp_path: Path) -> None:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", coco_content())
    recipe = load_recipe("small-data").replace({"classes": {"nonesuch": "x"}})
    with pytest.raises(FocusDetrError, match="has no class 'nonesuch'"):
        load_training_data(tmp_path, recipe)
    with pytest.raises(FocusDetrError, match="classes=.*give two names"):
        recipe.replace({"classes": {"a": 3}})


def test_thresholds_are_those_of_classes_that_are_learned(tmp_path: Path) -> None:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", coco_content())
    name = load_training_data(tmp_path, load_recipe("small-data")).class_names[0]
    recipe = load_recipe("small-data").replace({"model.class_thresholds": {name: 0.4}})
    assert load_training_data(tmp_path, recipe).class_names[0] == name
    with pytest.raises(FocusDetrError, match=f"class_thresholds: .* no class '{name}'"):
        load_training_data(tmp_path, recipe.replace({"classes": {name: "thing"}}))
