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
