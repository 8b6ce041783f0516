import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from focus_detr.errors import FocusDetrError
from focus_detr.inference import BadImage, Detections, write_coco, write_csv, write_jsonl
from focus_detr.structures.frame import Frame
from focus_detr.structures.instances import Instances

NAMES = ("cat", "dog", "猫")


def detections(count: int = 3, path: str = "a.jpg", **kwargs) -> Detections:
    boxes = np.array([[1, 2, 11, 22], [0, 0, 5, 5], [3, 3, 4, 6]], dtype=np.float32)[:count]
    scores = np.array([0.9, 0.5, 0.25], dtype=np.float32)[:count]
    labels = np.array([2, 0, 2])[:count]
    return Detections(path, Instances(boxes, labels, scores), NAMES, (48, 64), **kwargs)


def test_a_fact_of_an_object_stays_with_it_through_a_filter():
    found = detections()
    known = replace(found, instances=replace(found.instances, areas=np.array([7.0, 8.0, 9.0])))
    assert known.filter(classes="猫").instances.areas.tolist() == [7, 9]
    assert known.filter(threshold=0.5).instances.areas.tolist() == [7, 8]
    assert known.to_dict() == found.to_dict()


def test_objects_without_scores_are_no_detections():
    with pytest.raises(FocusDetrError, match="a.jpg.*scores"):
        Detections("a.jpg", Instances.empty(), NAMES, (48, 64))


def test_an_image_without_objects_is_a_result():
    empty = detections(0)
    assert (
        len(empty) == 0
        and not empty
        and detections()
        and empty.counts() == {}
        and empty.to_dict()["objects"] == []
    )
    assert len(empty.to_supervision()) == 0


def test_filter_keeps_threshold_and_classes():
    assert detections().filter(threshold=0.5).scores.tolist() == [pytest.approx(0.9), 0.5]
    assert detections().filter(classes="猫").labels.tolist() == [2, 2]
    assert detections().filter(threshold=0.5, classes=["cat", 2]).boxes_xyxy.tolist() == [
        [1, 2, 11, 22],
        [0, 0, 5, 5],
    ]


@pytest.mark.parametrize(
    "classes, named", [("cta", "'cat'"), (3, "0 to 2"), (-1, "0 to 2"), ([True], "True")]
)
def test_unknown_classes_are_refused(classes, named):
    with pytest.raises(FocusDetrError, match=named):
        detections().filter(classes=classes)


def test_a_threshold_by_class_holds_for_that_class_alone():
    found = detections()  # 猫 0.9, cat 0.5, 猫 0.25
    assert found.filter(threshold={"猫": 0.3}).scores.tolist() == [pytest.approx(0.9), 0.5]
    assert found.filter(threshold={"cat": 0.6, 2: 0.25}).labels.tolist() == [2, 2]
    assert found.filter(threshold={"猫": 0.9}).labels.tolist() == [2, 0]  # 0.9 is reached, as float32 has it
    with pytest.raises(FocusDetrError, match=r"threshold: the model has no class 'ct' \(did you mean 'cat'"):
        found.filter(threshold={"ct": 0.3})
    with pytest.raises(FocusDetrError, match="threshold=1.5"):
        found.filter(threshold={"cat": 1.5})


@pytest.mark.parametrize(
    ("classes", "labels", "names"),
    [
        ({"猫": "tom"}, [2, 2], ["cat", "dog", "tom"]),
        ({"猫": "猫"}, [2, 2], ["cat", "dog", "猫"]),
        ({"cat": "pet", "dog": "pet", "猫": "猫"}, [2, 0, 2], ["pet", "dog", "猫"]),
        ({2: "pet", 0: "pet"}, [0, 0, 0], ["pet", "dog", "猫"]),
        ({"猫": "dog"}, [1, 1], ["cat", "dog", "猫"]),
        ({"cat": "猫", "猫": "cat"}, [2, 0, 2], ["猫", "dog", "cat"]),
        ({"cat": "猫", "猫": "tom"}, [2, 0, 2], ["猫", "dog", "tom"]),
        ({"dog": "pet"}, [], ["cat", "pet", "猫"]),
    ],
)
def test_classes_are_reported_by_new_names_and_keep_their_labels(classes, labels, names):
    reported = detections().filter(classes=classes)
    assert reported.labels.tolist() == labels and list(reported.names) == names
    assert set(reported.class_names) <= set(classes.values())


def test_of_one_box_in_merged_classes_the_best_stays_that_reaches_its_threshold():
    boxes = np.array([[1, 1, 9, 9], [1, 1, 9, 9], [1, 1, 9, 8]], dtype=np.float32)
    scores = np.array([0.9, 0.5, 0.4], dtype=np.float32)
    found = Detections("a.jpg", Instances(boxes, np.array([0, 1, 1]), scores), NAMES, (48, 64))
    merged = {"cat": "pet", "dog": "pet"}
    assert found.filter(classes=merged).scores.tolist() == [scores[0], scores[2]]
    assert found.filter({"cat": 0.95}, merged).scores.tolist() == [scores[1], scores[2]]
    assert len(found.filter(classes={"cat": "cat", "dog": "dog"})) == 3


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ({"ct": "pet"}, "did you mean 'cat'"),
        ({"cat": " "}, "'cat' is to be reported as ' ', which is no name"),
        ({"cat": 3}, "'cat' is to be reported as 3"),
        ({}, "classes: none given"),
    ],
)
def test_new_names_that_cannot_be_used_are_refused(classes, said):
    with pytest.raises(FocusDetrError, match=said):
        detections().filter(classes=classes)


def test_counts_are_in_class_order():
    assert list(detections().counts().items()) == [("cat", 1), ("猫", 2)]


def test_dict_is_plain_json():
    assert json.loads(json.dumps(detections(1).to_dict())) == {
        "path": "a.jpg",
        "width": 64,
        "height": 48,
        "objects": [{"label": 2, "name": "猫", "score": pytest.approx(0.9), "box_xyxy": [1, 2, 11, 22]}],
    }


def test_supervision_holds_the_same():
    converted = detections().to_supervision()
    assert converted.xyxy.tolist() == detections().boxes_xyxy.tolist()
    assert converted.class_id.tolist() == [2, 0, 2]
    assert converted.data["class_name"].tolist() == ["猫", "cat", "猫"]


def test_coco_file_uses_the_data_sets_own_ids(tmp_path):
    results = [BadImage("x.jpg", "damaged"), detections(1, "b.jpg"), detections(1, "c.jpg", image_id=70)]
    assert write_coco(results, tmp_path / "r.json", category_ids=[10, 20, 90], image_ids={"b.jpg": 5}) == 2
    first, second = json.loads((tmp_path / "r.json").read_text())
    assert first == {
        "image_id": 5,
        "category_id": 90,
        "bbox": [1, 2, 10, 20],
        "score": pytest.approx(0.9),
        "file_name": "b.jpg",
    }
    assert second["image_id"] == 70


def test_coco_file_counts_images_that_have_no_id(tmp_path):
    write_coco([BadImage("x.jpg", "damaged"), detections(1)], tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())[0]["image_id"] == 2
    with pytest.raises(FocusDetrError, match="image_id"):
        detections().to_coco()


def test_csv_has_one_row_an_object(tmp_path):
    assert write_csv([detections(), BadImage("x.jpg", "damaged"), detections(0)], tmp_path / "r.csv") == 3
    rows = list(csv.DictReader((tmp_path / "r.csv").open(encoding="utf-8")))
    assert [row["name"] for row in rows] == ["猫", "cat", "猫"] and rows[0]["bottom"] == "22.0"


def test_json_lines_are_written_as_results_arrive(tmp_path):
    file = tmp_path / "r.jsonl"

    def results():
        yield detections(0)
        assert len(file.read_text(encoding="utf-8").splitlines()) == 1
        yield BadImage("x.jpg", "damaged")

    assert write_jsonl(results(), file) == 2
    assert json.loads(file.read_text(encoding="utf-8").splitlines()[1]) == {
        "path": "x.jpg",
        "error": "damaged",
    }


def test_index_and_time_of_a_frame_are_in_json_and_csv(tmp_path):
    place = Frame("clip.mp4", index=12, seconds=0.48, rate=25.0)
    frame, still = detections(frame=place), detections()
    assert (frame.to_dict()["frame"], frame.to_dict()["seconds"]) == (12, 0.48)
    assert not {"frame", "seconds"} & set(still.to_dict())
    write_csv([frame, still], tmp_path / "x.csv")
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert {(row["frame"], row["seconds"]) for row in rows} == {("12", "0.48"), ("", "")}
