import numpy as np
import pytest

from focus_detr.data import load_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.evaluation import evaluate
from focus_detr.explaining import explain_data
from focus_detr.explaining.recall_page import crops, lost_sheet, plot_recall
from helpers.explained import data_explanation, small_predictor
from helpers.tiny_datasets import coco_content, write_coco

BUDGETS = (0.05, 0.4, 1.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Three pictures of 200 x 150 with dogs and cats of many sizes."""
    folder = tmp_path_factory.mktemp("data")
    content = coco_content(3, 200, 150)
    for number, item in enumerate(content["annotations"]):
        side = 6 + 25 * number
        item["bbox"] = [10 + 7 * number, 5, side, side]
    file = write_coco(folder / "annotations.json", folder, content)
    return load_dataset(file, None, classes=["cat", "dog", "bird"])


@pytest.fixture(scope="module")
def found(dataset):
    return explain_data(small_predictor(), dataset, budgets=BUDGETS)


@pytest.mark.parametrize("budget", [None, *BUDGETS])
def test_recall_is_that_of_an_evaluation_at_the_budget(dataset, found, budget):
    tokens = evaluate(small_predictor(), dataset, budget=budget, progress=False).tokens
    place = found.own if budget is None else found.budgets.index(budget)
    for last, layer in ((False, 0), (True, -1)):
        for group in found.by_size(last):
            assert group.recall[place] == pytest.approx(tokens["recall"][group.name][layer])
            assert group.objects == tokens["objects"][group.name]
            assert group.unreachable == tokens["unreachable"][group.name]


def test_a_larger_budget_keeps_what_a_smaller_one_does(found):
    kept = np.array([each.kept for each in found.objects])
    assert (kept[:, 1:] >= kept[:, :-1]).all() and not kept[:, 0].all()
    reachable = [each.reachable for each in found.objects]
    assert kept[:, -1].tolist() == reachable


def test_classes_are_told_apart(found):
    groups = found.by_class()
    assert [(group.name, group.objects) for group in groups] == [("cat", 2), ("dog", 3)]
    for label, group in enumerate(groups):
        kept = [each.kept for each in found.objects if each.label == label]
        assert group.recall == pytest.approx(np.mean(kept, axis=0))


def test_objects_are_lost_first_that_already_large_budgets_lose(tmp_path):
    made = data_explanation(tmp_path)
    lost = made.first_lost(10)
    assert [made.budgets[made.lost_at(each)] for each in lost] == [0.5, 0.1]
    assert made.first_lost(1) == lost[:1]
    values = made.to_dict()
    assert [each["largest_budget_that_loses_it"] for each in values["lost"]] == [0.5, 0.1]
    assert values["unreachable"]["all"] == 1 and values["own"] == 0.5


def test_crops_show_the_object_in_the_middle_of_its_own_picture(tmp_path):
    made = data_explanation(tmp_path)
    pictures = crops(made, made.first_lost(2)[::-1])
    assert [picture.size for picture in pictures] == [(240, 240)] * 2
    # Box edges are drawn around the middle; the two are of different pictures.
    assert np.abs(np.asarray(pictures[0], int) - np.asarray(pictures[1], int)).mean() > 5


def test_figures_are_written_and_a_sheet_only_where_something_is_lost(tmp_path, found):
    plot_recall(found, tmp_path / "recall.png")
    assert (tmp_path / "recall.png").stat().st_size > 10_000
    made = data_explanation(tmp_path)
    assert lost_sheet(made).width > 400
    kept = [each for each in made.objects if all(each.kept)]
    assert lost_sheet(type(made)(made.dataset, "focus", made.budgets, 1, kept, [])) is None


def test_a_picture_that_cannot_be_read_is_left_out_and_said(tmp_path):
    file = write_coco(tmp_path / "annotations.json", tmp_path)
    dataset = load_dataset(file, None, classes=["cat", "dog", "bird"], check_images="none")
    dataset.records[1].path.write_bytes(b"nothing")
    found = explain_data(small_predictor(), dataset, budgets=[1.0])
    assert [bad.path for bad in found.unreadable] == [str(dataset.records[1].path)]
    assert len(found.objects) == 3 and found.to_dict()["images"] == 2


def test_where_no_token_is_left_out_there_is_nothing_to_lose(dataset):
    with pytest.raises(FocusDetrError, match="no object is lost; give a picture"):
        explain_data(small_predictor(token_policy="dense"), dataset)


def test_a_policy_without_budgets_shows_its_own_alone(dataset):
    found = explain_data(small_predictor(token_policy="interleaved", policy_options={"blocks": 1}), dataset)
    assert len(found.budgets) == 1 and found.own == 0
    assert found.by_size(last=True)[0].recall[0] == pytest.approx(
        np.mean([each.reachable for each in found.objects])
    )


def test_data_without_objects_is_refused(tmp_path):
    content = coco_content(2)
    content["annotations"] = []
    file = write_coco(tmp_path / "annotations.json", tmp_path, content)
    dataset = load_dataset(file, None, classes=["cat", "dog", "bird"], on_problem="ignore")
    with pytest.raises(FocusDetrError, match="no readable object"):
        explain_data(small_predictor(), dataset)


def test_a_budget_chosen_picture_by_picture_is_its_mean_and_keeps_what_it_keeps(dataset):
    used = small_predictor(
        auto_budget={"share": 0.3, "background": 0.0, "buckets": [0.1, 0.4]}, budget="auto"
    )
    found = explain_data(used, dataset, budgets=[0.05, 1.0])
    chosen = [float(used.run([dataset[i].image]).plan.budgets[0]) for i in range(3)]
    assert found.budgets[found.own] == pytest.approx(np.mean(chosen), abs=0.02)
    assert found.budgets == sorted(found.budgets) and len(found.budgets) == 3
    tokens = evaluate(used, dataset, progress=False).tokens
    assert found.by_size()[0].recall[found.own] == pytest.approx(tokens["recall"]["all"][0])
