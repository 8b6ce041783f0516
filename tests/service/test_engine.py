"""The engine: what shares a batch, how long it waits, and that company changes no answer."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from focus_detr.service.answers import Wanted
from focus_detr.service.engine import Engine, Ticket
from focus_detr.service.errors import ServiceError
from focus_detr.service.served import ServedModel
from helpers.fake_detector import FakeModel, picture
from helpers.services import BlockingModel, fake_predictor, file_of, send, service, small_predictor

BOXES = [{"red": (4 + 3 * index, 4, 20 + 3 * index, 12)} for index in range(8)]


def ticket(model, image, seconds=30.0, **wanted):
    pixel_values, pixel_mask = model.predictor.prepare([image])
    size = (image.height, image.width)
    return Ticket(model, pixel_values, pixel_mask, size, Wanted(**wanted), time.monotonic() + seconds)


@pytest.fixture
def blocking():
    model = BlockingModel()
    served = ServedModel.of("fake", fake_predictor(model))
    model.batch_sizes.clear()
    return served


def engine_of(blocking, max_batch=8, max_wait=0.0001):
    """An engine that is busy with a first picture, until the model is let go."""
    model = blocking.predictor.model
    engine = Engine(max_batch, max_wait)
    model.hold()
    first = engine.submit(ticket(blocking, picture(red=(1, 1, 5, 5))))
    assert model.begun.wait(10)
    return engine, first


def test_those_that_wait_share_a_batch_and_get_their_own_answers(blocking):
    engine, first = engine_of(blocking, max_batch=3)
    answers = [engine.submit(ticket(blocking, picture(**boxes))) for boxes in BOXES]
    blocking.predictor.model.go.set()
    found = [each.result(10) for each in (first, *answers)]
    engine.close()
    assert blocking.predictor.model.batch_sizes == [1, 3, 3, 2]
    assert [each.batch for each in found] == [1, 3, 3, 3, 3, 3, 3, 2, 2]
    for boxes, each in zip(BOXES, found[1:], strict=True):
        np.testing.assert_allclose(each.detections.boxes_xyxy, [boxes["red"]], atol=0.01)


def test_only_pictures_of_one_size_and_budget_share_a_batch(blocking):
    engine, _ = engine_of(blocking)
    sizes = [(64, 48), (80, 48), (64, 48), (64, 64)]
    answers = [engine.submit(ticket(blocking, picture(*size, **BOXES[0]))) for size in sizes]
    blocking.predictor.model.go.set()
    batches = [each.result(10).batch for each in answers]
    engine.close()
    assert batches == [2, 1, 2, 1]
    small = ServedModel.of("small", small_predictor())
    kinds = {ticket(small, picture(), budget=share, where=where).kind
             for share in (None, 0.3, 0.5) for where in (True, False)}  # fmt: skip
    assert len(kinds) == 6


def test_an_answer_does_not_depend_on_its_company():
    small = ServedModel.of("small", small_predictor())
    # Of noise: tokens of an even background are equal but for rounding, which then decides their order.
    noise = np.random.default_rng(0).integers(0, 256, (len(BOXES), 48, 64, 3), dtype=np.uint8)
    images = [Image.fromarray(each) for each in noise]
    alone, together = Engine(1, 0.001), Engine(8, 0.2)
    first = [alone.submit(ticket(small, image, threshold=0.01)).result(20) for image in images]
    # Company that asks for more, too.
    asked = [{"threshold": 0.01}, {"threshold": 0.0, "heatmap": True}] * 4
    tickets = [ticket(small, image, **each) for image, each in zip(images, asked, strict=True)]
    second = [each.result(20) for each in [together.submit(each) for each in tickets]]
    alone.close(), together.close()
    assert {each.batch for each in second} == {8}
    for one, other in list(zip(first, second, strict=True))[::2]:
        assert len(one.detections) > 2 and one.kept == other.kept
        assert one.detections.labels.tolist() == other.detections.labels.tolist()
        np.testing.assert_allclose(one.detections.boxes_xyxy, other.detections.boxes_xyxy, atol=1e-3)
        np.testing.assert_allclose(one.detections.scores, other.detections.scores, atol=1e-5)


def test_waiting_for_company_has_an_end(blocking):
    engine = Engine(8, 0.15)
    started = time.monotonic()
    answer = engine.submit(ticket(blocking, picture(**BOXES[0])))
    found = answer.result(10)
    took = time.monotonic() - started
    engine.close()
    assert found.batch == 1 and 0.1 < found.waited < 0.3 and took < 1


def test_a_full_batch_waits_for_nothing(blocking):
    engine = Engine(2, 30.0)
    answers = [engine.submit(ticket(blocking, picture(**each))) for each in BOXES[:2]]
    assert [each.result(5).batch for each in answers] == [2, 2]
    engine.close()


def test_what_nobody_waits_for_is_not_computed(blocking):
    engine, first = engine_of(blocking)
    late = engine.submit(ticket(blocking, picture(**BOXES[0]), seconds=0.0))
    gone = engine.submit(ticket(blocking, picture(**BOXES[1])))
    kept = engine.submit(ticket(blocking, picture(**BOXES[2])))
    assert gone.cancel()
    blocking.predictor.model.go.set()
    assert kept.result(10).batch == 1
    with pytest.raises(ServiceError, match="not computed in time"):
        late.result(1)
    engine.close()
    assert blocking.predictor.model.batch_sizes == [1, 1]


def test_one_that_breaks_the_model_breaks_no_other():
    class Picky(FakeModel):
        def forward(self, pixel_values, pixel_mask):
            if pixel_values[:, 2].any():
                raise RuntimeError("blue")
            return super().forward(pixel_values, pixel_mask)

    model = ServedModel("picky", fake_predictor(Picky()), False, None, False, False, 0.0, 1)
    blue = picture(**BOXES[1])
    blue.putpixel((0, 0), (0, 0, 255))
    engine = Engine(3, 0.2)
    answers = [
        engine.submit(ticket(model, each)) for each in (picture(**BOXES[0]), blue, picture(**BOXES[2]))
    ]
    assert len(answers[0].result(10).detections) == len(answers[2].result(10).detections) == 1
    with pytest.raises(ServiceError, match="the model failed"):
        answers[1].result(10)
    engine.close()


def test_memory_that_ends_in_a_batch_is_found_by_each_alone():
    class Small(FakeModel):
        def forward(self, pixel_values, pixel_mask):
            if len(pixel_values) > 1:
                raise torch.OutOfMemoryError("no")
            return super().forward(pixel_values, pixel_mask)

    with service({"small": fake_predictor(Small())}, max_batch=4, max_wait=0.2) as client:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda each: send(client, file_of(picture(**each))), BOXES[:4]))
    assert [each.status_code for each in answers] == [200] * 4


def test_closing_answers_all_that_wait_and_takes_no_more(blocking):
    engine, first = engine_of(blocking, max_batch=2)
    answers = [engine.submit(ticket(blocking, picture(**each))) for each in BOXES[:5]]
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(engine.close)
        time.sleep(0.05)
        with pytest.raises(ServiceError, match="shutting down"):
            engine.submit(ticket(blocking, picture()))
        blocking.predictor.model.go.set()
        closing.result(10)
    assert all(each.done() for each in (first, *answers)) and not engine.alive
