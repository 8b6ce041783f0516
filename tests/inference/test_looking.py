"""Where queries looked: the same for an image alone, among others and in a deployed model."""

import numpy as np
import pytest
import torch

from focus_detr.deploy.deploy import deploy
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor
from focus_detr.inference.looking import places_looked_at
from helpers.pictures import noise
from helpers.small_models import DETR, batch, image, small_model


@torch.no_grad()
@pytest.mark.parametrize("host", ["dino", "deformable-detr", "dn-deformable-detr"])
def test_places_do_not_depend_on_padding(host):
    model = small_model(host=host)
    alone, other = image(97, 130), image(160, 210, seed=1)
    pixels, mask = batch([alone, other])
    queries = np.arange(5)
    first = places_looked_at(model(alone[None], with_samples=True), 0, queries, (97, 130))
    second = places_looked_at(model(pixels, mask, with_samples=True), 0, queries, (97, 130))
    assert first.shape == (5, 4 * 4 * 4, 3)  # heads, levels, points
    np.testing.assert_allclose(first[..., 2].sum(1), 1)
    np.testing.assert_allclose(first, second, atol=1e-4)
    assert np.ptp(first[..., :2]) > 1  # they look at more than one place


@torch.no_grad()
def test_a_deployed_model_says_where_it_looked():
    model = small_model(dtype=torch.float32)
    pixels = image(128, 128, dtype=torch.float32)[None]
    (plain, deployed) = (
        places_looked_at(each(pixels, with_samples=True), 0, range(20), (128, 128))
        for each in (model, deploy(model))
    )
    np.testing.assert_allclose(plain, deployed, atol=1e-2)


@torch.no_grad()
def test_what_was_not_asked_for_and_what_attends_to_everything_has_no_places():
    pixels = image(96, 96)[None]
    assert places_looked_at(small_model()(pixels), 0, [0], (96, 96)) is None
    everywhere = small_model(**DETR, token_policy="full-attention")
    assert places_looked_at(everywhere(pixels, with_samples=True), 0, [0], (96, 96)) is None


def test_detections_name_the_queries_that_found_them():
    model = small_model(dtype=torch.float32)
    predictor = Predictor(model, FocusDetrImageProcessor(size=96), threshold=0.0)
    picture = noise(120, 100)
    outputs = predictor.run([picture], with_samples=True)
    (found,) = predictor.decode(outputs, [picture])
    queries = found.instances.queries
    assert len(found) > 3 and len(set(queries.tolist())) > 1
    scores = outputs.logits[0].sigmoid()[queries, found.labels].numpy()
    np.testing.assert_allclose(found.scores, scores, rtol=1e-6)
    assert places_looked_at(outputs, 0, queries, found.image_size).shape[0] == len(found)
