import numpy as np
import pytest
import torch

from focus_detr.deploy.deploy import deploy
from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import BadImage, Predictor
from focus_detr.inference.predictor import checked_device
from helpers.fake_detector import CLASS_NAMES, FakeModel, picture, plain_processor
from helpers.small_models import small_model

BOTH = dict(red=(4, 4, 20, 12), green=(30, 20, 60, 44))


def predictor(**config):
    return Predictor(FakeModel(**config), plain_processor())


def test_boxes_are_pixels_of_the_original_image():
    (found,) = predictor().predict(picture(**BOTH))
    assert found.class_names == ["red", "green"] and found.image_size == (48, 64)
    assert found.boxes_xyxy.dtype == np.float32
    np.testing.assert_allclose(found.boxes_xyxy, [BOTH["red"], BOTH["green"]], atol=1e-3)
    np.testing.assert_allclose(found.scores, [0.9, 0.7], atol=1e-5)


def test_boxes_of_a_picture_decoded_small_are_its_own_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr("focus_detr.images.reduced.LARGE_PIXELS", 0)
    image = picture(1282, 962, red=(80, 80, 400, 240), green=(600, 400, 1200, 880))
    image.save(tmp_path / "large.jpg", quality=95)
    processor = FocusDetrImageProcessor(size=48, do_normalize=False)
    finder = Predictor(FakeModel(), processor)
    small, whole = (next(finder.predict(tmp_path / "large.jpg", keep_images=kept)) for kept in (False, True))
    assert small.image_size == whole.image_size == (962, 1282)
    assert whole.image.size == (1282, 962)  # what is drawn on is the picture itself
    np.testing.assert_allclose(small.boxes_xyxy, whole.boxes_xyxy, atol=0.01)
    np.testing.assert_allclose(small.boxes_xyxy, [(80, 80, 400, 240), (600, 400, 1200, 880)], atol=1.5 * 20)


def test_threshold_comes_from_the_call_then_the_model_then_the_default():
    image = picture(**BOTH)
    assert len(next(predictor().predict(image))) == 2
    assert len(next(predictor(score_threshold=0.8).predict(image))) == 1
    assert len(next(predictor(score_threshold=0.8).predict(image, threshold=0.6))) == 2
    assert len(next(predictor().predict(image, threshold=1))) == 0


def test_classes_may_have_thresholds_of_their_own():
    image, finder = picture(**BOTH), predictor(score_threshold=0.95, class_thresholds={"green": 0.5})

    def found(**options):
        (result,) = finder.predict(image, **options)
        return list(result.counts())

    assert found() == ["green"]
    assert found(threshold={"red": 0.5}) == ["red", "green"]
    assert found(threshold={"green": 0.95, "red": 0.5}) == ["red"]
    assert found(threshold=0.95) == []  # for all
    assert Predictor(finder.model, finder.processor, threshold=0.95).class_thresholds == {}
    assert finder.threshold_by_label(None) == pytest.approx({0: 0.95, 1: 0.5})


@pytest.mark.parametrize(
    ("option", "meant"), [("treshold", "threshold"), ("time_out", "timeout"), ("clases", "classes")]
)
def test_a_misspelt_option_is_named_at_once(option, meant):
    with pytest.raises(FocusDetrError, match=f"unknown option '{option}' .did you mean '{meant}'"):
        predictor().predict(picture(**BOTH), **{option: 0.5})


@pytest.mark.parametrize("deployed", [False, True])
def test_a_budget_reaches_the_model_with_each_batch(deployed):
    model = small_model(dtype=torch.float32)
    model = deploy(model) if deployed else model
    counts = []

    def note(module, inputs, keywords, output):
        counts.append(sum(output.plan.counts) / len(output.plan.counts))

    model.register_forward_hook(note, with_kwargs=True)
    finder = Predictor(model, FocusDetrImageProcessor(size={"shortest_edge": 96, "longest_edge": 128}))
    for budget in (0.1, 0.5, 1):
        assert len(list(finder.predict([picture(**BOTH)] * 3, batch_size=2, budget=budget))) == 3
    tokens = max(counts)
    assert np.allclose(counts, np.repeat([0.1, 0.5, 1.0], 2) * tokens, atol=1.5)


def test_a_budget_that_is_set_is_that_of_calls_that_say_none():
    model = small_model(dtype=torch.float32)
    finder = Predictor(model, FocusDetrImageProcessor(size={"shortest_edge": 96, "longest_edge": 128}))
    pictures = [picture(**BOTH)]
    finder.set_budget(0.1)
    assert finder.run(pictures).plan.counts == finder.run(pictures, 0.1).plan.counts
    assert finder.run(pictures).plan.counts < finder.run(pictures, 1.0).plan.counts
    finder.set_budget(None)
    assert model.config.budget is None
    with pytest.raises(FocusDetrError, match="budget=0.5: this model works on what it was made for"):
        predictor().set_budget(0.5)


@pytest.mark.parametrize(
    ("budget", "message"),
    [(0.5, "budget=0.5: this model works on what it was made for"), (3, "budget=3: must be a number in")],
)
def test_a_budget_that_cannot_be_kept_is_refused_before_anything_is_read(budget, message):
    with pytest.raises(FocusDetrError, match=message):
        predictor().predict("nothing/there/*.jpg", budget=budget)


def test_classes_by_name_or_label():
    assert next(predictor().predict(picture(**BOTH), classes="green")).class_names == ["green"]
    assert next(predictor().predict(picture(**BOTH), classes=[0])).class_names == ["red"]


def test_batches_give_the_same_answers_in_the_same_order():
    images = [picture(64, 48, **BOTH), picture(30, 90, red=(2, 50, 9, 80)), picture(16, 16), picture(99, 12)]
    single = list(predictor().predict(images))
    for size in (2, 3, 8):
        batched = list(predictor().predict(images, batch_size=size))
        assert [each.path for each in batched] == [each.path for each in single]
        for one, other in zip(single, batched, strict=True):
            np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-3)
            assert one.labels.tolist() == other.labels.tolist()


def test_bad_images_keep_their_place_and_full_batches_stay_full(tmp_path):
    picture(**BOTH).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    picture().save(tmp_path / "c.png")
    picture().save(tmp_path / "d.png")
    (tmp_path / "e.png").write_bytes(b"")
    model = FakeModel()
    results = list(Predictor(model, plain_processor()).predict(tmp_path, batch_size=2))
    assert [result.path[-5:] for result in results] == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert [isinstance(result, BadImage) for result in results] == [False, True, False, False, True]
    assert model.batch_sizes == [2, 1]


def test_results_arrive_before_the_last_image_is_read():
    def frames():
        yield np.zeros((8, 8, 3), np.uint8)
        raise AssertionError("read on before the first result was out")

    assert len(next(predictor().predict(frames()))) == 0


def test_images_are_kept_on_request():
    assert next(predictor().predict(picture())).image is None
    assert next(predictor().predict(picture(7, 9), keep_images=True)).image.size == (7, 9)


def test_anything_that_infers_is_a_detector():
    class Exported:
        def infer(self, pixel_values, pixel_mask):
            with torch.no_grad():
                outputs = FakeModel()(pixel_values, pixel_mask)
            return outputs.logits, outputs.pred_boxes

    (found,) = Predictor(Exported(), plain_processor(), CLASS_NAMES).predict(picture(**BOTH))
    assert found.class_names == ["red", "green"]
    with pytest.raises(FocusDetrError, match="class_names"):
        Predictor(Exported(), plain_processor())


@pytest.mark.parametrize(
    "options, named",
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"classes": "blue"}, "'blue'"),
    ],
)
def test_unusable_options_are_refused_at_once(options, named):
    with pytest.raises(FocusDetrError, match=named):
        predictor().predict(picture(), **options)


def test_no_image_is_an_error_at_once(tmp_path):
    with pytest.raises(FocusDetrError, match="no image"):
        predictor().predict(tmp_path)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), MemoryError(), RuntimeError("can't allocate memory")]
)
def test_out_of_memory_says_what_to_lower(error):
    model = FakeModel()
    model.forward = lambda **_: (_ for _ in ()).throw(error)
    with pytest.raises(FocusDetrError, match=r"batch of 2 image\(s\) of 48x64.*batch_size \(now 2\)"):
        list(Predictor(model, plain_processor()).predict([picture(), picture()], batch_size=2))


def test_other_errors_of_the_model_are_not_disguised():
    model = FakeModel()
    model.forward = lambda **_: (_ for _ in ()).throw(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(Predictor(model, plain_processor()).predict(picture()))


def test_the_model_is_put_in_evaluation_mode():
    model = FakeModel().train()
    Predictor(model, plain_processor())
    assert not model.training


@pytest.mark.parametrize("device", ["meta", "gpu", "cuda:99"])
def test_a_device_that_computes_nothing_here_is_refused(device):
    with pytest.raises(FocusDetrError, match=f"device='{device}': cannot be used here"):
        checked_device(device)
