"""What a picture is answered with."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from focus_detr.inference.looking import places_looked_at
from helpers.fake_detector import picture
from helpers.services import fake_predictor, file_of, send, service, small_predictor

RED, GREEN = (4, 4, 20, 12), (30, 20, 60, 44)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 130, 3), dtype=np.uint8))


def test_a_form_and_a_bare_picture_are_answered_alike():
    with service() as client:
        form = send(client).json()
        bare = client.post("/v1/detect", content=file_of(), headers={"content-type": "image/png"}).json()
    assert form["detections"] == bare["detections"]
    assert [each["class"] for each in form["detections"]] == ["red", "green"]
    np.testing.assert_allclose([each["box"] for each in form["detections"]], [RED, GREEN], atol=0.01)
    np.testing.assert_allclose([each["score"] for each in form["detections"]], [0.9, 0.7], atol=1e-5)
    assert form["image"] == {"width": 64, "height": 48} and form["model"] == "fake"
    assert set(form["milliseconds"]) == {"decode", "wait", "model", "total"}
    assert form["kept"] is None and form["budget"] is None and "heatmap" not in form
    assert "where" not in form["detections"][0]


def test_threshold_and_classes_choose():
    with service() as client:
        found = {
            asked: [
                each["class"] for each in send(client, address=f"/v1/detect?{asked}").json()["detections"]
            ]
            for asked in ("threshold=0.8", "classes=green", "classes=green,red", "threshold=0.95")
        }
    assert list(found.values()) == [["red"], ["green"], ["red", "green"], []]


def test_answers_are_those_of_predict():
    predictor = small_predictor()
    (expected,) = predictor.predict(NOISE, threshold=0.015, budget=0.4)
    with service({"small": predictor}) as client:
        answer = send(client, file_of(NOISE), "/v1/detect?threshold=0.015&budget=0.4").json()
    assert 2 < len(expected) < 20 and answer["budget"] == 0.4
    found = answer["detections"]
    assert [each["label"] for each in found] == expected.labels.tolist()
    np.testing.assert_allclose([each["score"] for each in found], expected.scores, atol=1e-5)
    np.testing.assert_allclose([each["box"] for each in found], expected.boxes_xyxy, atol=0.01)


def test_a_budget_says_how_much_is_kept():
    with service({"small": small_predictor()}) as client:
        kept = [
            send(client, file_of(NOISE), f"/v1/detect?budget={share}").json()["kept"]
            for share in (0.1, 0.5, 1)
        ]
        own = send(client, file_of(NOISE)).json()
        (model,) = client.get("/v1/models").json()["models"]
    np.testing.assert_allclose(kept, [0.1, 0.5, 1], atol=0.02)
    assert own["budget"] is None and model["budget"]["default"] == pytest.approx(own["kept"], abs=0.02)
    assert model["budget"]["accepted"] and model["budget"]["smallest"] == 0.05


def test_a_model_with_a_rule_chooses_a_budget_for_each_picture():
    rule = {"share": 0.9, "background": 0.1, "buckets": [0.1, 0.3, 0.6, 1.0]}
    predictor = small_predictor(auto_budget=rule)
    pictures = [NOISE, Image.new("RGB", (130, 100), "white")]
    chosen = [each.budget for each in predictor.predict(pictures, budget="auto")]
    with service({"small": predictor, "without": small_predictor()}) as client:
        first, second = client.get("/v1/models").json()["models"]
        answers = [send(client, file_of(each), "/v1/detect?budget=auto").json() for each in pictures]
        refused = send(client, file_of(NOISE), "/v1/detect?budget=auto&model=without")
        predictor.set_budget("auto")
        own = send(client, file_of(NOISE)).json()
    assert first["budget"]["auto"] and not second["budget"]["auto"]
    assert [each["budget"] for each in answers] == chosen and own["budget"] == chosen[0]
    assert all(each["kept"] == pytest.approx(each["budget"], abs=0.03) for each in answers)
    assert refused.status_code == 422 and refused.json()["error"]["code"] == "no_budget"
    assert "give a number" in refused.json()["error"]["message"]


def test_a_model_that_is_set_to_choose_says_so():
    rule = {"share": 0.9, "background": 0.1, "buckets": [0.1, 0.3, 1.0]}
    with service({"small": small_predictor(auto_budget=rule, budget="auto")}) as client:
        (model,) = client.get("/v1/models").json()["models"]
        answer = send(client, file_of(NOISE)).json()
    assert model["budget"]["default"] == "auto" and answer["budget"] in rule["buckets"]


def test_where_says_what_the_queries_looked_at():
    predictor = small_predictor()
    outputs = predictor.run([NOISE], with_samples=True)
    (expected,) = predictor.decode(outputs, [NOISE])
    places = places_looked_at(outputs, 0, expected.instances.queries, expected.image_size)
    with service({"small": predictor}) as client:
        found = send(client, file_of(NOISE), "/v1/detect?where=true").json()["detections"]
    assert len(found) > 2
    for each, own in zip(found, places, strict=True):
        said = np.array(each["where"])
        assert (np.diff(said[:, 2]) <= 0).all()  # the most looked at come first
        best = own[np.argsort(-own[:, 2], kind="stable")]
        np.testing.assert_allclose(said, best, atol=0.06)


def test_the_heat_map_is_a_picture_of_the_images_shape():
    with service({"small": small_predictor()}) as client:
        address = send(client, file_of(NOISE), "/v1/detect?heatmap=true").json()["heatmap"]
    kind, _, data = address.partition(",")
    assert kind == "data:image/png;base64"
    heat = Image.open(io.BytesIO(base64.b64decode(data)))
    assert heat.mode == "RGBA" and heat.size == NOISE.size
    assert np.ptp(np.asarray(heat)[..., 3]) > 50  # hot here, clear there


def test_models_are_chosen_by_name():
    large = fake_predictor(num_detections=100, score_threshold=0.8)
    with service({"first": fake_predictor(), "second": large}) as client:
        models = client.get("/v1/models").json()["models"]
        counts = [
            len(send(client, address=f"/v1/detect{asked}").json()["detections"])
            for asked in ("", "?model=first", "?model=second")
        ]
        unknown = send(client, address="/v1/detect?model=third")
    assert [(each["name"], each["default"]) for each in models] == [("first", True), ("second", False)]
    assert models[1]["threshold"] == 0.8 and models[0]["classes"] == ["red", "green"]
    assert not models[0]["heatmap"] and not models[0]["budget"]["accepted"]
    assert counts == [2, 2, 1]
    own = fake_predictor(num_detections=100, score_threshold=0.95, class_thresholds={"green": 0.5})
    with service({"own": own}) as client:
        (model,) = client.get("/v1/models").json()["models"]
        answers = [send(client, address=f"/v1/detect{asked}").json() for asked in ("", "?threshold=0.5")]
    assert model["class_thresholds"] == {"green": 0.5}
    assert [[each["class"] for each in answer["detections"]] for answer in answers] == [
        ["green"],
        ["red", "green"],
    ]
    assert unknown.status_code == 422 and unknown.json()["error"]["code"] == "unknown_model"


def test_pictures_of_one_request_are_answered_in_order_and_a_bad_one_alone_fails():
    contents = [file_of(picture(red=RED)), b"no picture", file_of(picture(green=GREEN))]
    with service() as client:
        files = [("image", (f"{index}.png", content)) for index, content in enumerate(contents)]
        answer = client.post("/v1/detect-batch", files=files)
    assert answer.status_code == 200
    first, second, third = answer.json()["results"]
    assert [each["name"] for each in (first, second, third)] == ["0.png", "1.png", "2.png"]
    assert first["detections"][0]["class"] == "red" and third["detections"][0]["class"] == "green"
    assert second["error"]["code"] == "unreadable_picture" and "detections" not in second


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("threshold=2", "invalid_parameter"),
        ("threshold=nan", "invalid_parameter"),
        ("treshold=0.5", "invalid_parameter"),
        ("classes=blue", "unknown_class"),
        ("classes=,", "unknown_class"),
        ("budget=0.5", "no_budget"),
        ("budget=0.01", "invalid_parameter"),
        ("budget=many", "invalid_parameter"),
        ("budget=auto", "no_budget"),
        ("heatmap=true", "no_heatmap"),
        ("heatmap=maybe", "invalid_parameter"),
        ("threshold=0.5&threshold=0.6", "invalid_parameter"),
    ],
)
def test_what_the_model_cannot_do_is_said(asked, code):
    with service() as client:
        answer = send(client, address=f"/v1/detect?{asked}")
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == code and error["request_id"] == answer.headers["x-request-id"]


def test_what_a_picture_cannot_be_taken_from_is_said():
    with service() as client:
        packed = client.post(
            "/v1/detect", content=file_of(), headers={"content-type": "image/png", "content-encoding": "gzip"}
        )
        unnamed = client.post(
            "/v1/detect",
            content=b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
            + b"x" * 9000
            + b"\r\n--b--",
            headers={"content-type": "multipart/form-data; boundary=b"},
        )
    assert packed.status_code == 415 and "Content-Encoding 'gzip'" in packed.json()["error"]["message"]
    assert unnamed.status_code == 400 and "give 'image' a file name" in unnamed.json()["error"]["message"]
