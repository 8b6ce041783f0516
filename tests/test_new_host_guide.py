"""The guide's own host works as it says: with token policies it never heard of, trained, saved, deployed."""

import pytest
import torch

from focus_detr import FocusDetrForObjectDetection
from focus_detr.deploy.deploy import deploy
from focus_detr.errors import FocusDetrError
from focus_detr.models.hosts import HOSTS
from focus_detr.models.policies import POLICIES
from helpers.guides import module, python_of
from helpers.small_models import DETR, batch, image, labels, small_config, small_model

SHAPES = [(96, 80), (64, 96)]


@pytest.fixture
def host(tmp_path, monkeypatch):
    (source,) = python_of("new-host.md")
    assert len(source.splitlines()) < 60
    with module("grid_host", source, tmp_path, monkeypatch) as name:
        yield name


@pytest.mark.parametrize("policy", ["focus", "dense", "sparse", "interleaved", "salience"])
def test_it_is_trained_with_every_policy_of_several_levels(host, policy):
    model = small_model(plugins=[host], host="grid", token_policy=policy).train()
    pixels, mask = batch([image(*shape, seed=i) for i, shape in enumerate(SHAPES)])
    output = model(pixels, mask, labels([2, 1], SHAPES))
    output.loss.backward()
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    assert not [name for name, p in trained if p.grad is None or not p.grad.isfinite().all()]
    assert output.proposal_boxes.shape == (2, 20, 4)


def test_and_refused_with_those_of_one_level(host):
    with pytest.raises(FocusDetrError, match="does not work with host='grid'; it works with detr"):
        small_config(**{**DETR, "plugins": [host], "host": "grid", "token_policy": "full-attention"})
    pairs = {name for name in POLICIES.names() if POLICIES[name].works_with("grid")}
    assert "grid" in HOSTS.names() and pairs == set(POLICIES.names()) - {"full-attention", "poll-and-pool"}


@torch.no_grad()
def test_an_image_alone_is_what_it_is_in_a_batch(host):
    model = small_model(plugins=[host], host="grid")
    pictures = [image(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    together = model(*batch(pictures, extra=(8, 40)))
    for i, picture in enumerate(pictures):
        alone = model(picture[None])
        torch.testing.assert_close(together.logits[i], alone.logits[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(together.pred_boxes[i], alone.pred_boxes[0], rtol=0, atol=1e-9)


@torch.no_grad()
def test_it_is_saved_and_deployed_like_any_other(host, tmp_path):
    model = small_model(plugins=[host], host="grid", dtype=torch.float32)
    picture = image(64, 96, dtype=torch.float32)[None]
    model.save_pretrained(tmp_path / "saved")
    loaded = FocusDetrForObjectDetection.from_pretrained(tmp_path / "saved", trust_plugins=True)
    expected = model(picture)
    assert torch.equal(loaded(picture).pred_boxes, expected.pred_boxes)
    torch.testing.assert_close(deploy(loaded)(picture).pred_boxes, expected.pred_boxes, rtol=0, atol=1e-4)
