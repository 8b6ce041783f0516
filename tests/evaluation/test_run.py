import csv
import json

import pytest
from PIL import Image

from focus_detr.data import Collator, load_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.evaluation import evaluate, evaluate_batches
from focus_detr.evaluation.batches import restrict
from focus_detr.inference import Predictor
from helpers.fake_detector import CLASS_NAMES, FakeModel, picture, plain_processor

RED, GREEN = (4, 4, 20, 12), (30, 20, 60, 44)
FILES = {"metrics.json", "predictions.json", "ground_truth.json", "per_class.csv", "report.txt"}
FILES |= {"precision_recall.png", "f1.png", "confusion_matrix.png"}


def coco_folder(folder, objects, split="test"):
    """A COCO data set of the images named in `objects`: {name: [(category, xyxy)]}, drawn as they say."""
    (folder / split).mkdir(parents=True)
    images, annotations = [], []
    for number, (name, boxes) in enumerate(objects.items(), start=1):
        image = picture(**{("red", "green")[category]: box for category, box in boxes})
        image.save(folder / split / name)
        images.append({"id": number, "file_name": name, "width": image.width, "height": image.height})
        for category, (left, top, right, bottom) in boxes:
            width, height = right - left, bottom - top
            item = {"id": len(annotations) + 1, "image_id": number, "category_id": 10 * (category + 1)}
            annotations.append(
                {**item, "bbox": [left, top, width, height], "area": width * height, "iscrowd": 0}
            )
    categories = [{"id": 10 * (label + 1), "name": name} for label, name in enumerate(CLASS_NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def data(tmp_path):
    return coco_folder(
        tmp_path / "shapes", {"a.png": [(0, RED), (1, GREEN)], "b.png": [(0, GREEN)], "c.png": []}
    )


@pytest.fixture
def predictor():
    return Predictor(FakeModel(), plain_processor())


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_detector_that_is_right_scores_one(data, predictor, batch_size):
    report = evaluate(predictor, data, split="test", batch_size=batch_size, progress=False)
    assert report.metrics.summary["AP"] == pytest.approx(1) and report.metrics.images == 3
    assert {item["category_id"] for item in report.predictions if item["score"] > 0.5} == {10, 20}
    assert report.confusion.tolist() == [[2, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert 0 < report.threshold < 0.7 and report.tokens == {}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_it_scores_what_is_found_in_tiles(data, predictor, batch_size):
    report = evaluate(predictor, data, tile=32, overlap=0.25, batch_size=batch_size, progress=False)
    assert report.metrics.summary["AP50"] == pytest.approx(1)
    assert report.tokens == {}
    assert max(predictor.model.batch_sizes) == batch_size


@pytest.mark.parametrize(
    ("threshold", "found"), [(0.5, [3, 2, 1]), ({CLASS_NAMES[0]: 0.99}, [1, 0, 1]), (1.0, [0, 0, 0])]
)
def test_at_thresholds_asked_for_it_counts_what_is_right(data, predictor, threshold, found, tmp_path):
    report = evaluate(predictor, data, threshold=threshold, output=tmp_path / "out", progress=False)
    points = report.at_threshold
    assert [point.name for point in points] == ["all", *CLASS_NAMES]
    assert [point.objects for point in points] == [3, 2, 1]
    assert [point.found for point in points] == [point.right for point in points] == found
    assert points[0].recall == found[0] / 3 and points[0].precision == (1 if found[0] else None)
    assert report.confusion.tolist() == [[found[1], 0, 2 - found[1]], [0, found[2], 1 - found[2]], [0, 0, 0]]
    assert report.metrics.summary["AP"] == pytest.approx(1) and "At the scores asked for" in report.summary()
    said = json.loads((tmp_path / "out" / "metrics.json").read_text())["at_threshold"]
    assert [each["f1"] for each in said] == [point.f1 for point in points]


def test_thresholds_count_by_the_names_that_there_are_before(data, predictor):
    merged = dict.fromkeys(CLASS_NAMES, "thing")
    threshold = {CLASS_NAMES[0]: 0.99}
    report = evaluate(predictor, data, threshold=threshold, classes=merged, progress=False)
    assert [(each.name, each.objects, each.right) for each in report.at_threshold] == [
        ("all", 3, 1),
        ("thing", 3, 1),
    ]
    with pytest.raises(FocusDetrError, match="threshold"):
        evaluate(predictor, data, threshold={"unicorn": 0.5}, progress=False)


def test_the_split_scored_is_named_and_no_other_is_taken(data, predictor):
    report = evaluate(predictor, data, split="test", progress=False)
    assert report.split == "test" and "split 'test'" in report.summary()
    assert report.to_dict()["split"] == "test"
    with pytest.raises(FocusDetrError, match="val"):
        evaluate(predictor, data, split="val", progress=False)


def test_files(data, predictor, tmp_path):
    report = evaluate(predictor, data, output=tmp_path / "out" / "deep", progress=False)
    folder = tmp_path / "out" / "deep"
    assert {file.name for file in folder.iterdir()} == FILES
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["metrics"]["AP"] == pytest.approx(1) and metrics["metrics"]["AP_large"] is None
    assert len(json.loads((folder / "predictions.json").read_text())) == len(report.predictions)
    rows = list(csv.DictReader((folder / "per_class.csv").open()))
    assert [row["name"] for row in rows] == ["red", "green"] and float(rows[0]["ap"]) == pytest.approx(1)
    assert float(rows[1]["best_f1"]) == 1 and 0 < float(rows[1]["threshold"]) <= 0.7
    assert min(Image.open(folder / name).width for name in FILES if name.endswith("png")) > 400


def test_summary_is_readable(data, predictor):
    text = evaluate(predictor, data, progress=False).summary()
    lines = text.splitlines()
    assert lines[0] == "shapes, split 'test': 3 images, 3 objects"
    red = next(line for line in lines if line.startswith("red"))
    assert red.split()[:4] == ["red", "2", "2", "1.000"]
    assert "100 best detections of an image" in text and "nan" not in text


def test_unreadable_images_are_counted_and_left_out(data, predictor):
    dataset = load_dataset(data, "test", on_problem="ignore")
    (data / "test" / "b.png").write_bytes(b"damaged")
    report = evaluate(predictor, dataset, batch_size=2, progress=False)
    assert [bad.path[-5:] for bad in report.unreadable] == ["b.png"]
    assert report.metrics.images == 2 and report.metrics.objects == 2
    assert report.metrics.summary["AP"] == pytest.approx(1)
    assert "1 images could not be read" in report.summary()
    assert "b.png" in report.to_dict()["unreadable_images"][0]["path"]


def test_images_already_refused_by_the_data_set_are_counted_too(data, predictor):
    (data / "test" / "b.png").write_bytes(b"damaged")
    report = evaluate(predictor, data, progress=False)
    assert [bad.path[-5:] for bad in report.unreadable] == ["b.png"] and report.metrics.images == 2


@pytest.mark.parametrize("objects", [{"a.png": []}, {"a.png": [(0, RED)]}])
def test_a_detector_that_finds_nothing(tmp_path, objects):
    class Blind(FakeModel):
        def forward(self, pixel_values, pixel_mask):
            outputs = super().forward(pixel_values, pixel_mask)
            outputs.logits = outputs.logits - float("inf")
            return outputs

    data = coco_folder(tmp_path / "shapes", objects)
    blind = Predictor(Blind(), plain_processor())
    report = evaluate(blind, data, output=tmp_path / "out", progress=False)
    assert report.predictions == [] and report.threshold is None
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES
    expected = 0.0 if objects["a.png"] else None
    assert report.to_dict()["metrics"]["AP"] == expected and "nan" not in report.summary()


def test_classes_of_another_order_are_refused(data):
    swapped = Predictor(FakeModel(), plain_processor(), ["green", "red"])
    with pytest.raises(FocusDetrError, match="order differs"):
        evaluate(swapped, load_dataset(data, "test"), progress=False)
    loaded = evaluate(swapped, data, progress=False)  # in the model's own order
    assert [item.name for item in loaded.metrics.per_class] == ["green", "red"]
    assert loaded.metrics.summary["AP"] < 0.5


def test_unusable_batch_size(data, predictor):
    with pytest.raises(FocusDetrError, match="batch_size=0"):
        evaluate(predictor, data, batch_size=0)


def batches(data, size):
    dataset = load_dataset(data, "test")
    collate = Collator(plain_processor())
    samples = [dataset[index] for index in range(len(dataset))]
    return dataset, [collate(samples[start : start + size]) for start in range(0, len(samples), size)]


def test_batches_give_the_numbers_of_the_report(data, predictor):
    dataset, loader = batches(data, 2)
    measures = evaluate_batches(predictor.model, loader, dataset.to_coco())
    report = evaluate(predictor, data, progress=False)
    expected = {name: value for name, value in report.metrics.summary.items() if value == value}
    assert measures == pytest.approx(expected) and "AP_large" not in measures


def test_images_that_come_twice_count_once(data, predictor):
    dataset, loader = batches(data, 1)
    assert evaluate_batches(predictor.model, loader + loader[:1], dataset.to_coco())["AP"] == pytest.approx(1)


def test_only_images_that_came_are_scored(data, predictor):
    dataset, loader = batches(data, 1)
    assert evaluate_batches(predictor.model, loader[:1], dataset.to_coco())["AP"] == pytest.approx(1)
    assert [image["id"] for image in restrict(dataset.to_coco(), {2})["images"]] == [2]


RENAMED = {"red": "thing", "green": "thing"}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_merged_classes_are_one_of_answers_and_truth_alike(data, predictor, batch_size):
    report = evaluate(predictor, data, classes=RENAMED, batch_size=batch_size, progress=False)
    assert [(each.name, each.objects) for each in report.metrics.per_class] == [("thing", 3)]
    assert report.metrics.summary["AP"] == pytest.approx(1)
    assert {item["category_id"] for item in report.predictions} == {10}
    assert {item["category_id"] for item in report.ground_truth["annotations"]} == {10}


def test_merging_forgives_what_is_mistaken_among_the_merged(data):
    swapped = Predictor(FakeModel(), plain_processor(), ["green", "red"])
    assert evaluate(swapped, data, progress=False).metrics.summary["AP"] < 0.5
    report = evaluate(swapped, data, classes=RENAMED, progress=False)
    assert report.metrics.summary["AP"] == pytest.approx(1)


def test_classes_left_out_are_neither_found_nor_missed(data, predictor):
    report = evaluate(predictor, data, classes=["green"], progress=False)
    assert [(each.name, each.objects) for each in report.metrics.per_class] == [("green", 1)]
    assert report.metrics.summary["AP"] == pytest.approx(1) and report.metrics.images == 3
    assert {item["category_id"] for item in report.predictions} == {20}


def test_data_may_have_the_new_name_already_and_so_may_the_model(tmp_path, data, predictor):
    content = json.loads((data / "annotations" / "instances_test.json").read_text())
    for each in content["annotations"]:
        each["category_id"] = 10
    content["categories"] = [{"id": 10, "name": "thing"}]
    (data / "annotations" / "instances_test.json").write_text(json.dumps(content))
    report = evaluate(predictor, data, classes=RENAMED, progress=False)
    assert report.metrics.summary["AP"] == pytest.approx(1) and report.metrics.objects == 3


def test_a_model_of_the_new_name_is_measured_on_the_old_ones(data):
    class One(FakeModel):
        def forward(self, pixel_values, pixel_mask):
            outputs = super().forward(pixel_values, pixel_mask)
            outputs.logits = outputs.logits.max(-1, keepdim=True).values
            return outputs

    report = evaluate(Predictor(One(), plain_processor(), ["thing"]), data, classes=RENAMED, progress=False)
    assert report.metrics.summary["AP"] == pytest.approx(1) and report.metrics.objects == 3


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ({"rad": "thing"}, r"the model and the data set have no class 'rad' \(did you mean 'red'"),
        ({"red": " "}, "which is no name"),
        ([], "none given"),
        ([7], "7 is no label"),
    ],
)
def test_classes_that_cannot_be_used_are_refused(data, predictor, classes, said):
    with pytest.raises(FocusDetrError, match=said):
        evaluate(predictor, data, classes=classes, progress=False)
