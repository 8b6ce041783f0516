"""The salience policy: quotas, cascade and background mark on the focus policy's parts (spec 4.5)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focus_detr.errors import FocusDetrError
from focus_detr.models.policies.salience import BackgroundEmbedding
from focus_detr.models.selection import plan_by_quotas
from focus_detr.structures.geometry import Geometry
from helpers.small_models import batch, image, labels, small_config, small_model

QUOTAS = (0.4, 0.8, 1.0, 1.0)
PAPER = (1.0, 0.8, 0.6, 0.6, 0.4, 0.2)
PICTURE = image(96, 128)[None]


def salience(quirks="corrected", **options):
    return small_model(token_policy="salience", policy_options=options, quirks=quirks)


def unpadded(*shapes, batch=1):
    return Geometry.unpadded(list(shapes), batch, torch.device("cpu"))


def test_counts_at_800_by_1333():
    geometry = unpadded((100, 167), (50, 84), (25, 42), (13, 21))
    plan = plan_by_quotas(torch.randn(1, geometry.num_tokens), geometry, QUOTAS, PAPER)
    # 6680 of 16700, 3360 of 4200, 1050 and 273: 11363, and its shares.
    assert plan.counts == (11363, 9090, 6817, 6817, 4545, 2272)
    assert plan.valid_counts is None and plan.indices.shape == (1, 11363)


@given(st.lists(st.sampled_from([0.1, 0.25, 0.5, 0.8, 1.0]), min_size=2, max_size=2), st.integers(0, 99))
def test_quotas_then_one_sort(quotas, seed):
    geometry = unpadded((5, 6), (2, 3))
    scores = torch.randn(1, 36, generator=torch.Generator().manual_seed(seed))
    plan = plan_by_quotas(scores, geometry, tuple(quotas), (1.0, 0.5))
    best = []
    for quota, (first, length) in zip(quotas, [(0, 30), (30, 6)], strict=True):
        ranked = sorted(range(first, first + length), key=lambda token: -scores[0, token])
        best += ranked[: max(1, int(quota * length))]
    best.sort(key=lambda token: -scores[0, token])
    assert plan.counts == (len(best), max(1, len(best) // 2))
    assert plan.indices[0].tolist() == best


def test_images_of_a_batch_have_their_own_quotas():
    sizes = torch.tensor([[[8, 8], [4, 4]], [[4, 5], [2, 3]]])
    geometry = Geometry.padded([(8, 8), (4, 4)], sizes)
    scores = torch.randn(2, 80)
    plan = plan_by_quotas(scores, geometry, (0.25, 0.5), (1.0, 0.5))
    assert plan.counts == (24, 12)
    assert plan.valid_counts.tolist() == [[24, 12], [8, 4]]
    kept, valid = plan.kept(0)
    assert geometry.valid.gather(1, kept)[valid].all()
    # As released the largest image sets the counts, and nothing is cut layer by layer.
    released = plan_by_quotas(scores, geometry, (0.25, 0.5), (1.0, 0.5), batch_counts=True, batch_fill=True)
    assert released.counts == (24, 12) and released.valid_counts.tolist() == [[24, 24], [8, 8]]


def test_every_level_keeps_a_token():
    plan = plan_by_quotas(torch.randn(1, 5), unpadded((2, 2), (1, 1)), (0.1, 0.1), (1.0, 0.1))
    assert plan.counts == (2, 1) and 4 in plan.indices[0]


@torch.no_grad()
def test_it_is_the_focus_policy_but_for_quotas_and_background():
    model = salience(background_embedding=False, level_quotas=[1.0, 1.0, 1.0, 1.0])
    focus = small_model(keep_ratio=1.0)
    focus.load_state_dict(model.state_dict())
    one, other = model(PICTURE), focus(PICTURE)
    assert torch.equal(one.plan.indices, other.plan.indices)
    assert torch.equal(one.memory, other.memory) and torch.equal(one.logits, other.logits)


@torch.no_grad()
def test_background_is_marked_outside_the_last_layer_s_set():
    model = salience()
    output = model(PICTURE)
    embedding, model.encoder.background = model.encoder.background, None
    plain = model(PICTURE)
    geometry = unpadded(*output.spatial_shapes)
    marks = embedding(geometry)
    kept = output.plan.kept(2)[0][0].tolist()
    for token in range(geometry.num_tokens):
        added = output.memory[0, token] - plain.memory[0, token]
        expected = torch.zeros_like(added) if token in kept else marks[token]
        torch.testing.assert_close(added, expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_padding_is_no_background():
    model = salience()
    output = model(*batch([image(96, 128), image(64, 70, seed=1)]))
    embedding, model.encoder.background = model.encoder.background, None
    plain = model(*batch([image(96, 128), image(64, 70, seed=1)]))
    geometry = Geometry.padded(output.spatial_shapes, output.level_sizes)
    changed = (output.memory != plain.memory).any(-1)
    indices, rows = output.plan.kept(2)
    last = torch.zeros_like(changed).scatter(1, indices, rows)
    assert torch.equal(changed, geometry.valid & ~last)
    assert embedding.rows.shape == (200, 16)


def test_a_place_s_mark_is_its_column_s_and_its_row_s():
    embedding = BackgroundEmbedding(8)
    with torch.no_grad():
        embedding.columns.normal_()
        embedding.rows.normal_()
    marks = embedding(unpadded((3, 210), (2, 2)))
    assert torch.equal(marks[210 + 4], torch.cat([embedding.columns[4], embedding.rows[1]]))
    assert torch.equal(marks[630 + 1], torch.cat([embedding.columns[1], embedding.rows[0]]))
    # Tables of the release end at 200 cells; larger images have the last one beyond.
    assert torch.equal(marks[209], marks[199])


def test_it_starts_as_released():
    background = small_model(token_policy="salience", seed=3).encoder.background
    # The small model's noise has a deviation of 0.1 around the uniform start.
    assert -0.5 < background.rows.min() and background.rows.max() < 1.5
    assert 0.4 < background.rows.mean() < 0.6 and 0.25 < background.rows.std() < 0.35


@torch.no_grad()
def test_as_released_every_layer_samples_the_neck_s_features():
    original, corrected = salience("original"), salience()
    assert not torch.allclose(original(PICTURE).memory, corrected(PICTURE).memory)
    switched = salience({"frozen_values": True, "raw_category_product": True})
    torch.testing.assert_close(switched(PICTURE).memory, original(PICTURE).memory)


def test_as_released_on_padded_batches_and_without_objects():
    model = salience("original").train()
    pictures = [image(96, 128), image(80, 70, seed=1)]
    for counts in ([2, 1], [0, 0]):
        output = model(*batch(pictures), labels=labels(counts, [(96, 128), (80, 70)]))
        assert output.loss.isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"level_quotas": [0.5, 1.0]},
            r"\['level_quotas'\]=\[0.5, 1.0\]: needs one share in \(0, 1\].* 4 levels",
        ),
        ({"level_quotas": [0.0, 1.0, 1.0, 1.0]}, "level_quotas"),
        ({"level_quotas": [0.5, 1.5, 1.0, 1.0]}, "level_quotas"),
        ({"level_quota": [0.5]}, r"unknown key 'level_quota' \(did you mean 'level_quotas'\?\)"),
    ],
)
def test_unusable_options_are_refused(options, message):
    with pytest.raises(FocusDetrError, match=message):
        small_config(token_policy="salience", policy_options=options)
