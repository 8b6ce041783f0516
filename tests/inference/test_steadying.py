"""Steady selection: frames of a stream rank tokens by those before, and nothing else is any different."""

import numpy as np
import pytest
import torch
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.inference import Predictor
from focus_detr.inference.sources.named import NamedImage
from focus_detr.inference.steadying import Steadying
from focus_detr.structures.frame import Frame
from focus_detr.structures.geometry import Geometry
from helpers.explained import small_predictor
from helpers.fake_detector import FakeModel, plain_processor

SIZE = (128, 96)


def scene(seed, size=SIZE):
    """Smooth blobs, which noise does not change beyond recognition."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def noisy(image, seed):
    noise = np.random.default_rng(seed).normal(0, 12, (*image.size[::-1], 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def clip(count=6, seed=0, video="clip.mp4", first=0):
    image = scene(seed)
    return [(noisy(image, n), Frame(video, first + n, (first + n) / 10, 10.0)) for n in range(count)]


def kept_sets(predictor, frames, share, batch_size=1, budget=0.2):
    """The tokens that the first layer works on, of each frame, and all outputs' plans."""
    steadying, kept, plans = Steadying(share) if share else None, [], []
    for begin in range(0, len(frames), batch_size):
        images, places = zip(*frames[begin : begin + batch_size], strict=True)
        ranking = steadying.of(places) if steadying else None
        plan = predictor.run(list(images), budget, ranking=ranking).plan
        indices, valid = plan.kept(0)
        kept += [set(row[own].tolist()) for row, own in zip(indices, valid, strict=True)]
        plans.append(plan)
    return kept, plans


def flicker(kept):
    return np.mean([1 - len(a & b) / len(a | b) for a, b in zip(kept, kept[1:], strict=False)])


@pytest.mark.parametrize("options", [{}, {"token_policy": "salience"}, {"token_policy": "sparse"}])
def test_fewer_tokens_change_from_frame_to_frame_and_scores_stay_the_frames_own(options):
    predictor = small_predictor(**options)
    plain, alone = kept_sets(predictor, clip(), 0)
    steady, plans = kept_sets(predictor, clip(), 0.8)
    assert 0 < flicker(steady) < 0.7 * flicker(plain)
    assert steady[0] == plain[0]
    for one, other in zip(plans, alone, strict=True):
        torch.testing.assert_close(one.scores, other.scores)


def test_frames_of_one_batch_follow_each_other_as_alone():
    predictor, frames = small_predictor(), clip(7)
    assert kept_sets(predictor, frames, 0.6)[0] == kept_sets(predictor, frames, 0.6, batch_size=3)[0]
    two = [frame for pair in zip(clip(4), clip(4, 1, "other.mp4"), strict=True) for frame in pair]
    mixed, apart = kept_sets(predictor, two, 0.6, batch_size=4)[0], kept_sets(predictor, clip(4), 0.6)[0]
    assert mixed[::2] == apart


def test_a_frame_of_another_size_in_the_batch_changes_nothing():
    # Grids of one scene with and without padding: what is kept of it is the same tokens, by their order.
    shapes, share = [(4, 6), (2, 3)], 0.5
    scores = [torch.randn(30, generator=torch.Generator().manual_seed(n)) for n in range(2)]
    scores[1] = scores[0] + 0.1 * scores[1]
    alone = Steadying(share)
    plain = [
        alone.of([Frame("a", n, 0.0)])(each[None], Geometry.unpadded(shapes, 1, each.device))[0]
        for n, each in enumerate(scores)
    ]
    sizes = torch.tensor([[[4, 6], [2, 3]], [[8, 6], [4, 3]]])
    padded = Geometry.padded([(8, 6), (4, 3)], sizes)
    together = Steadying(share)
    for n, each in enumerate(scores):
        canvas = torch.full((2, 60), -9.0)
        canvas[0, padded.valid[0]] = each
        ranked = together.of([Frame("a", n, 0.0), None])(canvas, padded)
        torch.testing.assert_close(ranked[0, padded.valid[0]], plain[n])
        torch.testing.assert_close(ranked[1], canvas[1])
        assert (ranked[0, ~padded.valid[0]] == -9).all()


def test_a_cut_another_start_and_another_stream_begin_afresh():
    predictor = small_predictor()
    plain = {seed: kept_sets(predictor, clip(2, seed), 0)[0] for seed in (0, 1)}
    cut = clip(3) + clip(2, 1, first=3)
    assert kept_sets(predictor, cut, 0.9)[0][3] == plain[1][0]
    again = clip(3) + clip(2)
    assert kept_sets(predictor, again, 0.9)[0][3] == plain[0][0]
    other = clip(3) + clip(2, video="b.mp4")
    assert kept_sets(predictor, other, 0.9)[0][3] == plain[0][0]


def predicted(predictor, frames, **options):
    items = [NamedImage(place.name, lambda image=image: image, frame=place) for image, place in frames]
    return [(each.labels.tolist(), each.boxes_xyxy) for each in _results(predictor, items, **options)]


def _results(predictor, items, **options):
    import focus_detr.inference.predictor as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "source_entries", lambda *_: items)
        yield from predictor.predict("clip.mp4", threshold=0.0, **options)


def same(a, b):
    return all(x[0] == y[0] and np.allclose(x[1], y[1], atol=0.01) for x, y in zip(a, b, strict=True))


def test_predict_steadies_where_it_is_asked_to_and_each_run_for_itself():
    predictor = small_predictor()
    plain = predicted(predictor, clip(4), budget=0.2)
    steady = predicted(predictor, clip(4), budget=0.2, steady=0.9)
    assert same(plain[:1], steady[:1]) and not same(plain[1:], steady[1:])
    assert same(steady, predicted(predictor, clip(4), budget=0.2, steady=0.9, batch_size=3))
    assert same(plain, predicted(predictor, clip(4), budget=0.2, steady=0.0))


def test_each_picture_has_its_own_automatic_budget_all_the_same():
    predictor = small_predictor(
        auto_budget={"share": 0.9, "background": 0.1, "buckets": [0.1, 0.3, 0.6, 1.0]}
    )
    results = list(_results(predictor, _items(clip(3)), budget="auto", steady=0.5))
    assert all(each.budget in (0.1, 0.3, 0.6, 1.0) for each in results)


def _items(frames):
    return [NamedImage(place.name, lambda image=image: image, frame=place) for image, place in frames]


def test_pictures_that_are_no_frames_are_ranked_by_themselves():
    assert Steadying(0.5).of([None, None]) is None
    predictor, image = small_predictor(), scene(0)
    plain = [each.boxes_xyxy for each in predictor.predict([image, image], threshold=0.0)]
    steady = [each.boxes_xyxy for each in predictor.predict([image, image], threshold=0.0, steady=0.9)]
    assert all(np.array_equal(a, b) for a, b in zip(plain, steady, strict=True))


def test_a_run_does_not_remember_every_stream():
    steadying = Steadying(0.5)
    for number in range(500):
        steadying.of([Frame(f"{number}.mp4", 0, 0.0)])
    assert len(steadying._streams) < 100


def test_what_cannot_be_steadied_is_refused():
    predictor = small_predictor()
    for share in (-0.1, 1, 1.5, float("nan"), True, "0.5"):
        with pytest.raises(FocusDetrError, match="steady=.*must be a share above 0 and below 1"):
            predictor.predict(scene(0), steady=share)
    with pytest.raises(FocusDetrError, match="steady: is of pictures looked at whole"):
        predictor.predict(scene(0), steady=0.5, tile=64)
    with pytest.raises(FocusDetrError, match="steady: token_policy='dense' chooses no tokens.*focus"):
        small_predictor(token_policy="dense").predict(scene(0), steady=0.5)
    with pytest.raises(FocusDetrError, match="steady: needs a model of ours"):
        Predictor(FakeModel(), plain_processor()).predict(scene(0), steady=0.5)
