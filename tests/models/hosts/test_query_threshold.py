"""The number of queries follows the scores: tokens that are unlikely to be anything become none."""

import pytest
import torch

from focus_detr.benchmarking import count_macs
from focus_detr.deploy.deploy import deploy
from focus_detr.errors import FocusDetrError
from focus_detr.models import proposals
from helpers.small_models import batch, image, labels, small_config, small_model

PICTURES = [image(96, 128), image(64, 96, seed=1), image(150, 80, seed=2)]
HOSTS = ["dino", "salience-detr"]
LEAST = torch.finfo(torch.float64).min


def model_of(host="dino", threshold=0.0, **changes):
    return small_model(host=host, host_options={"query_threshold": threshold}, **changes)


def scores_of(model, pixels):
    """Class probabilities of an image's queries, as the encoder proposes them: best first."""
    found = []
    select = model.proposals.select

    def watched(*args, **options):
        found.append(select(*args, **options))
        return found[-1]

    model.proposals.select = watched
    try:
        output = model(pixels)
    finally:
        del model.proposals.select
    return found[0].class_logits.amax(-1).sigmoid(), output


@pytest.mark.parametrize("host", HOSTS)
@torch.no_grad()
def test_queries_are_the_likely_ones_and_their_answers_those_of_a_model_of_so_many(host):
    picture = PICTURES[0][None]
    scores, _ = scores_of(model_of(host), picture)
    threshold = float(scores[0, :9].min() + scores[0, 9:].max()) / 2
    count = int((scores[0] >= threshold).sum())
    few = model_of(host, threshold)(picture)
    assert few.logits.shape[1] == count < scores.shape[1]
    fewer = model_of(host)
    fewer.config.num_queries = count
    fewer.host.query_content.weight = torch.nn.Parameter(fewer.host.query_content.weight[:count])
    expected = fewer(picture)
    if host == "dino":
        torch.testing.assert_close(few.logits, expected.logits, rtol=0, atol=1e-10)
        torch.testing.assert_close(few.pred_boxes, expected.pred_boxes, rtol=0, atol=1e-10)


@pytest.mark.parametrize("host", HOSTS)
@torch.no_grad()
def test_an_image_in_a_batch_has_the_queries_it_has_alone(host):
    scores, _ = scores_of(model_of(host), PICTURES[0][None])
    model = model_of(host, float(scores[0, 8:10].mean()))
    together = model(*batch(PICTURES, (8, 30)))
    counts = []
    for i, picture in enumerate(PICTURES):
        alone = model(picture[None])
        counts.append(alone.logits.shape[1])
        torch.testing.assert_close(together.logits[i, : counts[-1]], alone.logits[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(
            together.pred_boxes[i, : counts[-1]], alone.pred_boxes[0], rtol=0, atol=1e-9
        )
        assert (together.logits[i, counts[-1] :] <= LEAST).all()
    assert len(set(counts)) > 1 and together.logits.shape[1] == max(counts)


@torch.no_grad()
def test_a_picture_of_nothing_has_one_query():
    assert model_of(threshold=1.0)(PICTURES[0][None]).logits.shape[1] == 1


@torch.no_grad()
def test_graphs_have_all_queries_of_which_the_likely_ones_find_the_same(monkeypatch):
    scores, _ = scores_of(model_of(dtype=torch.float32), PICTURES[0][None].float())
    model = deploy(model_of(threshold=float(scores[0, 8:10].mean()), dtype=torch.float32))
    images = PICTURES[0][None].float()
    few = model(images)
    count = few.logits.shape[1]
    monkeypatch.setattr(proposals, "in_graph", lambda device: True)
    whole = model(images)
    assert whole.logits.shape[1] == 20 > count
    torch.testing.assert_close(whole.logits[:, :count], few.logits, rtol=0, atol=1e-5)
    assert (whole.logits[:, count:] <= torch.finfo(torch.float32).min).all()


def test_training_has_all_of_them():
    model = model_of(threshold=1.0).train()
    output = model(PICTURES[0][None], labels=labels([2], [(96, 128)]))
    assert output.logits.shape[1] == 20
    output.loss.backward()


@pytest.mark.slow
def test_operations_are_those_of_so_many_queries():
    config = small_config(host_options={"query_threshold": 0.1})
    most, few = count_macs(config, 96, 128), count_macs(config, 96, 128, queries=5)
    assert few.decoder < most.decoder and few.encoder == most.encoder and few.parameters == most.parameters
    assert most == count_macs(small_config(), 96, 128)


@pytest.mark.parametrize("threshold", [-0.1, 1.5])
def test_what_is_no_probability_is_refused(threshold):
    with pytest.raises(FocusDetrError, match=r"host_options\['query_threshold'\].*\[0, 1\]"):
        small_config(host_options={"query_threshold": threshold})
