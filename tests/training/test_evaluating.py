"""Evaluation in training: shares of several processes are one evaluation; memory and batches of its own."""

import pickle

import pytest
import torch

from focus_detr.data import load_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.training import Recipe, train
from focus_detr.training.evaluating import CocoEvaluator
from helpers.tiny_training import RECIPE, TinyDetector, small_focus_detr, tiny_detector


@pytest.mark.parametrize("processes", [2, 3])
def test_shares_scored_together_are_the_whole(processes, tiny_data):
    evaluator = CocoEvaluator(
        load_dataset(tiny_data, "train"), FocusDetrImageProcessor(size={"height": 64, "width": 64}), 2
    )
    model = small_focus_detr().eval()
    whole = evaluator(model)
    shares = [evaluator.find(model, rank, processes) for rank in range(processes)]
    assert all(len(share.image_ids) < 10 for share in shares)
    sent = [pickle.loads(pickle.dumps(share)) for share in shares]
    assert evaluator.score(sent) == whole
    assert {"AP", "foreground_recall"} <= whole.keys()


def test_memory_that_runs_out_in_evaluation_is_advised_on_evaluation(tiny_data, tmp_path, monkeypatch):
    forward = TinyDetector.forward

    def full(self, pixel_values, pixel_mask, labels=None):
        if labels is None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return forward(self, pixel_values, pixel_mask, labels)

    recipe = {**RECIPE, "epochs": 1, "eval_batch_size": 3}
    with monkeypatch.context() as patch:
        patch.setattr(TinyDetector, "forward", full)
        with pytest.raises(
            FocusDetrError, match="in the evaluation after step 3. Lower eval_batch_size, now 3"
        ):
            train(tiny_data, model=tiny_detector(), recipe=recipe, output=tmp_path / "run", device="cpu")
    # As the message says: the run goes on, with another batch of evaluation.
    advised = {"eval_batch_size": 1}
    result = train(
        tiny_data,
        model=tiny_detector(),
        output=tmp_path / "run",
        resume=True,
        overrides=advised,
        device="cpu",
    )
    assert result.steps == 3 and "AP" in result.metrics


@pytest.mark.parametrize(
    ("fields", "images"),
    [
        ({"batch_size": 64}, 8),
        ({"batch_size": 16, "gradient_accumulation": 8}, 2),
        ({"batch_size": 64, "eval_batch_size": 32}, 32),
    ],
)
def test_evaluation_has_a_batch_of_its_own(fields, images):
    assert Recipe.from_dict({**fields, "name": "mine"}).evaluated_together == images


def test_no_batch_of_evaluation_is_larger(tiny_data, tmp_path, monkeypatch):
    forward, sizes = TinyDetector.forward, []

    def counted(self, pixel_values, pixel_mask, labels=None):
        if labels is None:
            sizes.append(len(pixel_values))
        return forward(self, pixel_values, pixel_mask, labels)

    monkeypatch.setattr(TinyDetector, "forward", counted)
    recipe = {**RECIPE, "epochs": 1, "batch_size": 10, "eval_batch_size": 2}
    train(tiny_data, model=tiny_detector(), recipe=recipe, output=tmp_path / "run", device="cpu")
    assert sizes == [2, 1]  # three images
