"""Tiles: where they lie, and that objects at their edges come out once and whole."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch import nn

from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor
from focus_detr.inference.merging import merge
from focus_detr.inference.predictor import RawOutput
from focus_detr.inference.tiles import Tile, Tiling
from focus_detr.structures.auto_budget import AutoBudget
from focus_detr.structures.instances import Instances
from helpers.fake_detector import CLASS_NAMES, plain_processor
from helpers.small_models import small_model


class Finder(nn.Module):
    """Finds every patch of pure red and green, up to 120: what a detector of these would see in any part."""

    def __init__(self, largest=10**9, smallest=1):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.config = SimpleNamespace(id2label=dict(enumerate(CLASS_NAMES)), num_detections=200)
        self.smallest, self.largest = smallest, largest
        self.sizes = []

    def forward(self, pixel_values, pixel_mask):
        self.sizes.append((len(pixel_values), *pixel_values.shape[2:]))
        logits = torch.full((len(pixel_values), 120, 2), -99.0)
        boxes = torch.full((len(pixel_values), 120, 4), 0.5)
        for index, pixels in enumerate(pixel_values):
            height, width = pixels.shape[1:]
            query = 0
            for channel in range(2):
                patches, _ = ndimage.label((pixels[channel] > 0.5).numpy())
                for rows, columns in ndimage.find_objects(patches):
                    top, bottom = rows.start / height, rows.stop / height
                    left, right = columns.start / width, columns.stop / width
                    longest = max(rows.stop - rows.start, columns.stop - columns.start)
                    if self.smallest <= longest <= self.largest:
                        boxes[index, query] = torch.tensor(
                            [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
                        )
                        logits[index, query, channel] = 2.0 + 1e-3 * longest
                        query += 1
        return RawOutput(logits=logits * self.scale, pred_boxes=boxes)


def predictor(processor=None, **options):
    return Predictor(Finder(**options), processor or plain_processor())


def drawn(size, boxes, color=(255, 0, 0)):
    image = Image.new("RGB", size)
    for left, top, right, bottom in boxes:
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=color)
    return image


def found_boxes(image, **options):
    (found,) = predictor(options.pop("processor", None)).predict(image, **options)
    return np.array(sorted(found.boxes_xyxy.tolist()))


# Tiles of 100 with an overlap of 20 begin at 0, 80, 160, 240 and 300 of 400, at 0, 66, 133 and 200 of 300.
@pytest.mark.parametrize(
    "box",
    [
        (10, 10, 30, 30),  # in one tile
        (92, 40, 108, 56),  # on a seam
        (76, 62, 94, 80),  # at a corner of four
        (85, 68, 95, 78),  # in the strips that four tiles share
        (80, 66, 100, 80),  # exactly such a strip
        (0, 0, 18, 12),  # at the picture's own corner, where nothing is cut
        (395, 290, 400, 300),
    ],
)
def test_a_small_object_comes_out_once_and_exactly_wherever_seams_lie(box):
    for batch_size in (1, 5):
        boxes = found_boxes(drawn((400, 300), [box]), tile=100, overlap=0.2, batch_size=batch_size)
        np.testing.assert_allclose(boxes, [box], atol=1e-3)


@pytest.mark.parametrize(
    "box",
    [
        (60, 40, 110, 90),  # larger than the overlap
        (50, 50, 150, 160),  # as large as a tile
        (20, 100, 390, 130),  # across all of them
        (10, 10, 390, 290),  # almost the picture
        (0, 0, 400, 300),  # the picture
    ],
)
@pytest.mark.parametrize("overlap", [0, 0.2, 0.5])
def test_an_object_larger_than_the_overlap_comes_out_once_and_whole(box, overlap):
    boxes = found_boxes(drawn((400, 300), [box]), tile=100, overlap=overlap)
    assert len(boxes) == 1
    np.testing.assert_allclose(boxes, [box], atol=4)  # to a pixel of the look that shows it whole


def test_parts_of_what_no_larger_tile_finds_are_joined():
    box = (30, 40, 350, 90)
    found = predictor(largest=99).predict(drawn((400, 300), [box]), tile=100, overlap=0.2)
    whole = [each for each in next(found).boxes_xyxy]
    assert len(whole) == 1
    np.testing.assert_allclose(whole, [box], atol=4)


def test_objects_side_by_side_stay_apart():
    rows = [(left, top, left + 11, top + 16) for left in range(3, 380, 21) for top in (5, 90, 128, 190)]
    boxes = found_boxes(drawn((400, 300), rows), tile=100, overlap=0.2)
    np.testing.assert_allclose(boxes, sorted(rows), atol=1e-3)


def test_classes_do_not_mix_and_those_reported_alike_merge():
    image = drawn((400, 300), [(85, 20, 130, 60)])
    image.paste(drawn((400, 300), [(85, 60, 130, 100)], (0, 255, 0)).crop((0, 60, 400, 300)), (0, 60))
    (found,) = predictor().predict(image, tile=100)
    assert sorted(found.class_names) == ["green", "red"]
    (found,) = predictor().predict(image, tile=100, classes={"red": "thing", "green": "thing"})
    assert found.class_names == ["thing", "thing"]  # one tile saw both


@pytest.mark.parametrize("tile", [100, "auto"])
def test_a_picture_no_larger_than_a_tile_is_predicted_as_without(tile):
    image = drawn((90, 80), [(10, 10, 30, 30)])
    finder = predictor()
    (found,), (plain,) = finder.predict(image, tile=tile), finder.predict(image)
    np.testing.assert_array_equal(found.boxes_xyxy, plain.boxes_xyxy)
    assert finder.model.sizes == [(1, 80, 90)] * 2


def test_tiles_of_a_batch_are_of_one_size():
    finder = predictor(
        FocusDetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}, do_normalize=False)
    )
    list(finder.predict(drawn((700, 300), [(10, 10, 30, 30)]), tile=100, batch_size=7))
    whole = finder.model.sizes[-1]
    assert whole == (1, 41, 96)
    closest, larger = set(finder.model.sizes[:6]), set(finder.model.sizes[6:-1])
    assert closest == {(7, 64, 64), (1, 64, 64)}
    assert larger
    assert {(height, width) for _, height, width in larger} == {(64, 64), (64, 85)}


def test_auto_takes_the_size_that_the_model_sees():
    rule = FocusDetrImageProcessor(size={"shortest_edge": 320, "longest_edge": 448}).size_of
    tiling = Tiling.of("auto")
    assert [len(level) for level in tiling.levels((880, 600), rule)] == [1]  # seen at half of its size
    levels = tiling.levels((3000, 2000), rule)
    assert levels[0][0].size == (320, 320) and levels[1][0].size == (640, 640)
    assert [level[0].seen_size for level in levels] == [(320, 320), (320, 320), (320, 320), (448, 299)]
    assert Tiling.of("auto").levels((3000, 2000), None)[0][0].size == (1024, 1024)


@given(
    width=st.integers(1, 3000), height=st.integers(1, 3000), side=st.integers(32, 700),
    overlap=st.floats(0, 0.75), edge=st.sampled_from([None, 64, 320, 800]),
    share=st.tuples(*[st.floats(0, 1)] * 3),
)  # fmt: skip
@settings(deadline=None, max_examples=100)
def test_every_object_lies_whole_in_a_tile_of_its_size(width, height, side, overlap, edge, share):
    size = (width, height)
    rule = None
    if edge is not None:
        rule = FocusDetrImageProcessor(size={"shortest_edge": edge, "longest_edge": edge * 5 // 3}).size_of
    levels = Tiling.of(side, overlap).levels(size, rule)
    assert levels[-1][0].box == (0, 0, width, height)
    for number, level in enumerate(levels):
        assert len({tile.size for tile in level}) == 1 and {tile.level for tile in level} == {number}
        for tile in level:
            left, top, right, bottom = tile.box
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
            assert tile.inner == (left > 0, top > 0, right < width, bottom < height)
            assert all(seen <= own for seen, own in zip(tile.seen_size, tile.size, strict=True))
    if len(levels) == 1:
        return
    for number, level in enumerate(levels[:-1]):
        extent = int(overlap * side * 2**number)
        assume(0 < extent <= min(size))
        x, y = (int(share[axis] * (size[axis] - extent)) for axis in (0, 1))
        assert any(
            tile.box[0] <= x and tile.box[1] <= y and x + extent <= tile.box[2] and y + extent <= tile.box[3]
            for tile in level
        )


@st.composite
def scenes(draw):
    """Rectangles that do not touch, of any size up to the picture's."""
    size = (draw(st.integers(120, 500)), draw(st.integers(120, 500)))
    boxes = []
    for _ in range(draw(st.integers(1, 6))):
        width, height = (draw(st.integers(24, max(25, side * 3 // 4))) for side in size)
        left, top = draw(st.integers(0, size[0] - width)), draw(st.integers(0, size[1] - height))
        box = left, top, left + width, top + height
        if all(gap(box, other) > 6 for other in boxes):
            boxes.append(box)
    return size, boxes


def gap(one, other):
    """Pixels between two rectangles, along the axis that parts them; less than 0 where they overlap."""
    return max(one[0] - other[2], other[0] - one[2], one[1] - other[3], other[1] - one[3])


@given(scene=scenes(), side=st.integers(64, 160), overlap=st.sampled_from([0.0, 0.1, 0.2, 0.5]))
@settings(deadline=None, max_examples=60)
def test_any_objects_come_out_once_and_whole(scene, side, overlap):
    size, boxes = scene
    coarsest = max(size) / side  # pixels that are one there
    # Nearer to each other, large objects are one to any detector.
    boxes = [each for i, each in enumerate(boxes) if all(gap(each, o) > 2 * coarsest for o in boxes[:i])]
    found = found_boxes(drawn(size, boxes), tile=side, overlap=overlap)
    assert len(found) == len(boxes)
    # To a pixel, left and right, of the coarsest look; which may change their order.
    apart = np.abs(found[:, None] - np.array(boxes)).max(-1)
    assert apart[linear_sum_assignment(apart)].max() <= 1.5 * coarsest


@given(scene=scenes(), side=st.integers(64, 160), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=50)
def test_the_order_of_tiles_changes_nothing(scene, side, seed):
    size, boxes = scene
    tiles = [tile for level in Tiling.of(side).levels(size, None) for tile in level]
    chance = np.random.default_rng(seed)
    found = []
    for tile in tiles:
        everything = Instances(
            np.array(boxes, np.float32), np.zeros(len(boxes), int), chance.uniform(0.5, 1, len(boxes)),
        )  # fmt: skip
        seen = everything.transform(tile.size, shift=(-tile.box[0], -tile.box[1]))
        found.append(seen.transform(size, shift=tile.box[:2]))
    order = chance.permutation(len(tiles))
    one = merge(tiles, found)
    other = merge([tiles[i] for i in order], [found[i] for i in order])
    np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
    np.testing.assert_array_equal(one.scores, other.scores)


def instances(*boxes, scores=None):
    return Instances(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.zeros(len(boxes), int),
        np.full(len(boxes), 0.8, np.float32) if scores is None else np.array(scores, np.float32),
    )


LEFT = Tile((0, 0, 100, 100), (False, False, True, False), 0, (100, 100))
RIGHT = Tile((80, 0, 180, 100), (True, False, False, False), 0, (100, 100))
WHOLE = Tile((0, 0, 180, 100), (False,) * 4, 1, (100, 56))


def test_what_one_tile_tells_apart_stays_apart():
    crowd = [(82, 10, 94, 60), (84, 10, 96, 60)]
    merged = merge([LEFT, RIGHT], [instances(*crowd), instances(*crowd)])
    np.testing.assert_array_equal(sorted(merged.boxes_xyxy.tolist()), crowd)
    # The other tile missed one of the two: it is not taken for the one that is left.
    merged = merge([LEFT, RIGHT], [instances(*crowd), instances(crowd[0])])
    np.testing.assert_array_equal(sorted(merged.boxes_xyxy.tolist()), crowd)


def test_the_closest_look_gives_the_box_and_the_best_one_the_score():
    merged = merge(
        [LEFT, WHOLE], [instances((10, 10, 30, 30), scores=[0.6]), instances((8, 8, 33, 30), scores=[0.9])]
    )
    np.testing.assert_allclose(merged.boxes_xyxy, [(10, 10, 30, 30)])
    np.testing.assert_allclose(merged.scores, [0.9])


def test_a_part_goes_with_its_whole_and_a_lone_part_stays():
    part, whole = instances((70, 10, 100, 60), scores=[0.95]), instances((69, 9, 140, 62))
    merged = merge([LEFT, WHOLE], [part, whole])
    np.testing.assert_allclose(merged.boxes_xyxy, whole.boxes_xyxy)
    merged = merge([LEFT, WHOLE], [part, instances()])
    np.testing.assert_allclose(merged.boxes_xyxy, part.boxes_xyxy)


def test_parts_that_disagree_on_the_strip_both_see_are_two_objects():
    merged = merge([LEFT, RIGHT], [instances((40, 10, 100, 30)), instances((80, 60, 150, 90))])
    assert len(merged) == 2


def test_merging_keeps_what_else_is_known():
    found = instances((10, 10, 30, 30), (50, 50, 60, 60), scores=[0.5, 0.9])
    found = Instances(found.boxes_xyxy, found.labels, found.scores, areas=np.array([1.0, 2.0]))
    merged = merge([LEFT, WHOLE], [found, instances()])
    assert merged.areas.tolist() == [2.0, 1.0] and merged.scores.tolist() == pytest.approx([0.9, 0.5])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"tile": 16}, "tile=16: must be the side of a tile in pixels, 32 or more, or 'auto'"),
        ({"tile": "large"}, "tile='large'"),
        ({"tile": True}, "tile=True"),
        ({"tile": 64.0}, "tile=64.0"),
        ({"tile": 64, "overlap": 0.9}, "overlap=0.9: must be a share of a tile's side, 0 to 0.75"),
        ({"tile": 64, "overlap": float("nan")}, "overlap=nan"),
        ({"overlap": 0.2}, "overlap=0.2: is of tiles; give tile=1024 or tile='auto'"),
    ],
)
def test_an_unusable_tile_is_refused_at_once(options, problem):
    with pytest.raises(FocusDetrError, match=problem):
        predictor().predict(drawn((90, 80), []), **options)


def test_batches_of_tiles_give_what_single_ones_give_and_budgets_reach_them():
    model = small_model(dtype=torch.float32)
    counts = []
    model.register_forward_hook(lambda *each: counts.append(tuple(each[-1].plan.counts)), with_kwargs=True)
    finder = Predictor(model, FocusDetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}))
    chance = np.random.default_rng(0)
    image = Image.fromarray(chance.integers(0, 255, (230, 330, 3), np.uint8))
    results = [
        next(finder.predict(image, tile=100, threshold=0.0, budget=0.2, batch_size=size)) for size in (1, 4)
    ]
    assert len(results[0]) == len(results[1]) > 0
    np.testing.assert_allclose(results[0].scores, results[1].scores, atol=1e-5)
    np.testing.assert_allclose(results[0].boxes_xyxy, results[1].boxes_xyxy, atol=1e-2)
    assert results[0].instances.queries is None
    few = set(counts)
    counts.clear()
    next(finder.predict(image, tile=100, budget=1.0))
    assert max(few) < min(counts)


def test_with_auto_each_tile_has_a_budget_of_its_own_and_the_picture_says_their_mean():
    model = small_model(dtype=torch.float32)
    finder = Predictor(model, FocusDetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}))
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 255, (230, 330, 3), np.uint8)
    pixels[:, 150:] = 90 + pixels[:, 150:] // 16
    image = Image.fromarray(pixels)
    cut = [tile.cut_from(image) for level in Tiling.of(100).levels(image.size, None) for tile in level]
    scores = torch.cat([finder.run([each]).plan.scores.sigmoid().flatten() for each in cut])
    rule = AutoBudget(0.6, float(scores.median()), (0.05, 0.1, 0.2, 0.4, 0.7, 1.0))
    budgets = []
    model.register_forward_hook(lambda *each: budgets.extend(each[-1].plan.budgets), with_kwargs=True)
    results = []
    for size in (1, 4):
        budgets.clear()
        results.append(next(finder.predict(image, tile=100, threshold=0.0, budget=rule, batch_size=size)))
        assert len(set(budgets)) > 1
        assert results[-1].budget == pytest.approx(np.mean(budgets))
    assert results[0].budget == results[1].budget
    np.testing.assert_allclose(results[0].boxes_xyxy, results[1].boxes_xyxy, atol=1e-2)


def test_what_is_one_from_afar_and_several_from_near_is_several():
    near = instances((10, 10, 40, 50), (42, 12, 70, 50))
    group = instances((9, 9, 72, 52), scores=[0.99])
    merged = merge([LEFT, WHOLE], [near, group])
    np.testing.assert_allclose(sorted(merged.boxes_xyxy.tolist()), near.boxes_xyxy)
    # One alone may be a part that looks whole, few may stand before it, and a tile tells what it saw apart.
    few = instances((10, 10, 20, 20), (42, 12, 50, 20))
    for found in ([near[:1], group], [few, group]):
        assert len(merge([LEFT, WHOLE], found)) == len(found[0]) + 1
    both = Instances.concatenate([near, group])
    assert len(merge([LEFT, WHOLE], [near, both])) == 3
