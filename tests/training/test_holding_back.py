"""Pictures held back for validation stay so for the whole run and after it; what is learned is not a test."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import yaml

from focus_detr.data import list_splits, load_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.training import Recipe, holding_back, train
from focus_detr.training.holding_back import FILE, hold_back, write_held_back
from focus_detr.training.setup import load_datasets
from helpers.tiny_training import RECIPE, finish, losses, start, start_two, tiny_detector

SHARE = {"val_share": 0.3}


@pytest.fixture(scope="module")
def undivided(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of ten pictures without a split for validation."""
    folder = tmp_path_factory.mktemp("undivided") / "data"
    shutil.copytree(tiny_data / "train", folder / "train")
    return folder


def held_back(run: Path) -> list[int]:
    return sorted(image["id"] for image in json.loads((run / FILE).read_text())["images"])


def evaluations(run: Path) -> list[str]:
    import csv

    with (run / "metrics.csv").open(newline="") as file:
        return [row["eval_AP"] for row in csv.DictReader(file) if row["eval_AP"]]


def recipe(**fields: object) -> Recipe:
    return Recipe.from_dict({**RECIPE, **SHARE, **fields})


@pytest.mark.slow
def test_a_resumed_run_keeps_what_it_holds_back(undivided, tmp_path):
    options = {"evaluator": False, "overrides": SHARE}
    finish(start(undivided, tmp_path / "undisturbed", **options))
    finish(start(undivided, tmp_path / "run", die_at=3, **options), killed=True)
    finish(start(undivided, tmp_path / "run", resume=True, **options))
    assert losses(tmp_path / "run") == losses(tmp_path / "undisturbed")
    assert evaluations(tmp_path / "run") == evaluations(tmp_path / "undisturbed") != []
    assert held_back(tmp_path / "run") == held_back(tmp_path / "undisturbed")
    origin = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())
    counts = [origin[key]["images"] for key in ("training_data", "evaluation_data")]
    assert counts == [7, 3] and len(held_back(tmp_path / "run")) == 3


@pytest.mark.slow
def test_two_processes_hold_back_the_same(undivided, tmp_path):
    options = {"evaluator": False, "noise": 0.0, "overrides": {**SHARE, "epochs": 1}}
    finish(start(undivided, tmp_path / "one", **options))
    finish(*start_two(undivided, tmp_path / "two", **options))
    assert held_back(tmp_path / "two") == held_back(tmp_path / "one")
    assert losses(tmp_path / "two").keys() == losses(tmp_path / "one").keys()
    assert [float(ap) for ap in evaluations(tmp_path / "two")] == pytest.approx(
        [float(ap) for ap in evaluations(tmp_path / "one")], abs=1e-3
    )


def test_the_list_of_the_run_decides_and_not_the_seed(undivided, tmp_path, monkeypatch):
    dataset = load_dataset(undivided)
    kept, held = hold_back(dataset, 0.3, seed=1, run=None)
    write_held_back(tmp_path, held)
    again = hold_back(load_dataset(undivided), 0.3, seed=2, run=tmp_path)
    for ours, theirs in zip(again, (kept, held), strict=True):
        assert [record.path for record in ours.records] == [record.path for record in theirs.records]
    (tmp_path / FILE).write_text('{"images": 3')
    with pytest.raises(FocusDetrError, match="annotations.json: cannot be read .* delete it"):
        hold_back(dataset, 0.3, seed=1, run=tmp_path)
    (tmp_path / FILE).write_text('{"images": []}')
    with pytest.raises(FocusDetrError, match="has none of the pictures"):
        hold_back(dataset, 0.3, seed=1, run=tmp_path)


def test_the_folder_of_the_run_is_a_data_set_of_what_was_held_back(undivided, tmp_path):
    result = train(
        undivided, model=tiny_detector(), recipe=RECIPE, output=tmp_path / "run", device="cpu",
        overrides={**SHARE, "epochs": 1},
    )  # fmt: skip
    assert list_splits(result.output) == ["validation"]
    listed = load_dataset(result.output, "val", on_problem="raise")
    assert [record.image_id for record in listed.records] == held_back(result.output)
    original = {record.image_id: record for record in load_dataset(undivided).records}
    for record in listed.records:
        assert record.path.samefile(original[record.image_id].path)
        assert (record.boxes == original[record.image_id].boxes).all()
        assert (record.labels == original[record.image_id].labels).all()


def test_what_is_learned_is_not_measured_on(undivided):
    learned, measured = load_datasets(undivided, None, recipe())
    assert measured is not None
    paths = [{record.path for record in dataset.records} for dataset in (learned, measured)]
    assert not paths[0] & paths[1] and len(paths[0] | paths[1]) == 10
    fewer, same = load_datasets(undivided, None, recipe(skip_empty=True))
    assert same is not None
    assert {record.path for record in same.records} == paths[1]
    assert {record.path for record in fewer.records} == {
        record.path for record in learned.records if len(record.labels)
    }


def test_data_without_any_split_need_none_named(undivided, tmp_path):
    content = json.loads((undivided / "train" / "_annotations.coco.json").read_text())
    shutil.copytree(undivided / "train", tmp_path / "images", ignore=shutil.ignore_patterns("*.json"))
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    learned, measured = load_datasets(tmp_path, None, recipe())
    assert measured is not None and (len(learned), len(measured)) == (7, 3)
    with pytest.raises(FocusDetrError, match="'trian' does not exist"):
        load_datasets(tmp_path, None, recipe(train_split="trian"))


def test_a_share_beside_a_split_to_evaluate_on_is_refused(tiny_data, undivided):
    with pytest.raises(FocusDetrError, match=r"val_share=0.3: .*has the split 'val' .*eval_split=null"):
        load_datasets(tiny_data, None, recipe())
    with pytest.raises(FocusDetrError, match=r"val_share=0.3: not beside eval_data"):
        load_datasets(undivided, tiny_data, recipe())
    learned, measured = load_datasets(tiny_data, None, recipe(eval_split=None))
    assert measured is not None and (len(learned), len(measured)) == (7, 3)


@pytest.mark.parametrize("share", [0, 0.0, -0.1, 0.51, 1, "half", True, float("nan")])
def test_unusable_shares_are_refused(share):
    with pytest.raises(FocusDetrError, match="val_share"):
        recipe(val_share=share)


def test_data_without_the_split_are_told_of_the_share(undivided):
    with pytest.raises(FocusDetrError, match=r"'val' does not exist.*--val-share 0.15"):
        load_datasets(undivided, None, recipe(val_share=None))


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"train_split": "train+val"}, "3 of the 3 pictures of 'val' are in 'train+val'"),
        ({"eval_split": "train"}, "10 of the 10 pictures of 'train' are in 'train'"),
        ({}, None),
        (SHARE | {"eval_split": None}, None),
    ],
)
def test_a_run_says_that_it_is_evaluated_on_what_it_learns(splits, said, tiny_data, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger=holding_back.__name__):
        train(
            tiny_data, model=tiny_detector(), recipe=RECIPE, output=tmp_path / "run", device="cpu",
            overrides={**splits, "max_steps": 1}, evaluator=lambda model: {"AP": 0.5},
        )  # fmt: skip
    messages = [record.getMessage() for record in caplog.records if "learns from" in record.getMessage()]
    assert [said in message for message in messages] == ([True] if said else [])
