"""The parts together: a real model, saved and loaded, predicts, is scored and drawn."""

import numpy as np
import pytest
from PIL import Image

from focus_detr.data import Collator, DetectionDataset, Record
from focus_detr.errors import FocusDetrError
from focus_detr.evaluation import evaluate, evaluate_batches
from focus_detr.inference import Predictor
from focus_detr.pictures.heatmap import draw_heatmap
from focus_detr.structures.instances import Instances
from helpers.fake_detector import picture


@pytest.fixture(scope="module")
def predictor(tiny_model):
    return Predictor.from_pretrained(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def images():
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    return [Image.fromarray(noise), picture(64, 48, red=(4, 4, 20, 12)), picture(30, 90), picture(150, 40)]


def test_batches_give_the_same_answers(predictor, images):
    single = list(predictor.predict(images, threshold=0.0))
    batched = list(predictor.predict(images, threshold=0.0, batch_size=4))
    for one, other in zip(single, batched, strict=True):
        assert len(one) > 0 and one.labels.tolist() == other.labels.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-2)
        height, width = one.image_size
        assert (one.boxes_xyxy >= 0).all() and (one.boxes_xyxy <= [width, height] * 2).all()


def test_unusable_names_and_devices_are_refused(tiny_model):
    with pytest.raises(FocusDetrError, match="no-such-model"):
        Predictor.from_pretrained("no-such-model")
    with pytest.raises(FocusDetrError, match="device='tpu9'"):
        Predictor.from_pretrained(tiny_model, device="tpu9")


def test_evaluation_reports_what_the_selection_keeps(predictor, images, tmp_path):
    records = []
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
        boxes = np.array([[2, 2, 22, 30]], dtype=np.float32)
        records.append(Record(tmp_path / f"{number}.png", number, Instances(boxes, np.array([0]))))
    names = list(predictor.class_names)
    dataset = DetectionDataset(records, names, list(range(len(names))), name="noise", split="val")
    report = evaluate(predictor, dataset, batch_size=3, output=tmp_path / "out", progress=False)
    assert report.tokens["objects"]["all"] == 4
    recalls = report.tokens["recall"]["all"]
    assert len(recalls) == predictor.model.config.encoder_layers
    assert recalls == sorted(recalls, reverse=True) and 0 < recalls[0] <= 1
    assert "objects with a kept token" in report.summary()
    assert report.to_dict()["foreground_recall"]["recall"]["all"] == recalls

    collate = Collator(predictor.processor, do_resize=True)
    samples = [dataset[index] for index in range(4)]
    measures = evaluate_batches(
        predictor.model, [collate(samples[:1]), collate(samples[1:])], dataset.to_coco()
    )
    assert measures["AP"] == pytest.approx(report.metrics.summary["AP"], abs=1e-6)
    assert measures["foreground_recall"] == recalls[0]
    assert measures["foreground_recall_last"] == recalls[-1]


def test_heat_maps_of_padded_images_are_cut_to_the_image(predictor, images):
    page = draw_heatmap(predictor, images[3])
    assert page.width == 1800
