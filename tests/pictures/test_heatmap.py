from types import SimpleNamespace

import numpy as np
import pytest
import torch

from focus_detr.errors import FocusDetrError
from focus_detr.inference import Predictor
from focus_detr.pictures.heatmap import draw_heatmap, foreground_scores, heatmap_page, kept_tokens
from focus_detr.structures.plan import TokenPlan
from helpers.fake_detector import FakeModel, picture, plain_processor

SHAPES = [(4, 6), (2, 3)]
PEAK = 2 * 6 + 4  # row 2, column 4 of the first level


def outputs(level_sizes=None):
    scores = torch.full((2, 30), -6.0)
    scores[1, PEAK] = 4.0
    indices = torch.tensor([[0, 1], [PEAK, 24]])
    plan = TokenPlan(scores, indices, (2, 1), torch.tensor([[2, 1], [2, 1]]))
    return SimpleNamespace(plan=plan, spatial_shapes=SHAPES, level_sizes=level_sizes)


def test_scores_are_probabilities_by_level():
    fine, coarse = foreground_scores(outputs(), 1)
    assert fine.shape == (4, 6) and coarse.shape == (2, 3)
    assert fine[2, 4] == pytest.approx(1 / (1 + np.exp(-4))) and fine.argmax() == PEAK
    assert coarse.max() < 0.01


def test_padding_is_cut_off():
    sizes = torch.tensor([[[4, 6], [2, 3]], [[3, 5], [2, 3]]])
    fine, _ = foreground_scores(outputs(sizes), 1)
    assert fine.shape == (3, 5) and fine[2, 4] > 0.9


def test_kept_tokens_of_each_layer():
    fine, coarse = kept_tokens(outputs(), 0, 1)
    assert fine.sum() == 1 and fine[2, 4] and coarse.sum() == 1 and coarse[0, 0]
    fine, coarse = kept_tokens(outputs(), 1, 1)
    assert fine[2, 4] and coarse.sum() == 0


def test_rows_that_do_not_count_are_not_kept():
    batch = outputs()
    batch.plan.valid_counts = torch.tensor([[1, 1], [1, 1]])
    assert kept_tokens(batch, 0, 1)[1].sum() == 0


def test_the_page_is_warm_where_the_score_is_high():
    image = picture(600, 400)
    page = np.asarray(heatmap_page(outputs(), image, index=1)).astype(int)
    # The score panel is the right half of the first row; (4.5/6, 2.5/4) of it is the peak.
    left, top, width, height = 912, 24, 864, 576
    peak = page[top + int(height * 2.5 / 4), left + int(width * 4.5 / 6)]
    corner = page[top + 40, left + 40]
    assert page.shape[1] == 1800 and peak.sum() > corner.sum() + 150


def test_models_that_select_nothing_say_so():
    with pytest.raises(FocusDetrError, match="selects no tokens"):
        draw_heatmap(Predictor(FakeModel(), plain_processor()), picture())


def test_where_tokens_have_no_scores_the_page_shows_the_kept_ones_alone():
    batch = outputs()
    whole = heatmap_page(batch, picture(600, 400), index=1)
    batch.plan.scores = None
    page = heatmap_page(batch, picture(600, 400), index=1)
    assert page.height < whole.height
    # What is left is the end of the whole page.
    assert np.array_equal(np.asarray(page), np.asarray(whole)[-page.height :])
