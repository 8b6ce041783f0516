"""Objects: every field follows its object through selection, joining and moving."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from focus_detr.errors import FocusDetrError
from focus_detr.structures.instances import Instances


@dataclass(frozen=True, eq=False)
class Tracked(Instances):
    """A field that nobody else knows of."""

    tracks: np.ndarray | None = None


def tracked(numbers: np.ndarray | list[int]) -> Tracked:
    """One object a number, which stands in each of its fields."""
    numbers = np.asarray(numbers, dtype=np.int64).reshape(-1)
    corner = numbers[:, None].repeat(2, 1).astype(np.float32)
    boxes = np.concatenate([corner, corner + 10], axis=1)
    return Tracked(boxes, numbers, numbers / 100.0, numbers * 2.0 + 1, tracks=numbers.copy())


def numbers_of(instances: Instances) -> list[int]:
    """The numbers of the objects, each told alike by all fields."""
    numbers = instances.labels
    fields = instances.known()
    assert set(fields) == {"boxes_xyxy", "labels", "scores", "areas", "tracks"}
    np.testing.assert_array_equal(fields["boxes_xyxy"], numbers[:, None] + np.float32([0, 0, 10, 10]))
    np.testing.assert_array_equal(fields["scores"], numbers / 100.0)
    np.testing.assert_array_equal(fields["areas"], numbers * 2.0 + 1)
    np.testing.assert_array_equal(fields["tracks"], numbers)
    return numbers.tolist()


@given(st.lists(st.tuples(st.integers(0, 80), st.booleans()), max_size=8), st.randoms())
@settings(max_examples=50, deadline=None)
def test_selection_keeps_the_fields_of_an_object_together(objects: list[tuple[int, bool]], random) -> None:
    numbers = [number for number, _ in objects]
    instances = tracked(numbers)
    mask = np.array([chosen for _, chosen in objects], dtype=bool)
    assert numbers_of(instances[mask]) == [number for number, chosen in objects if chosen]
    order = random.sample(range(len(numbers)), len(numbers))
    assert numbers_of(instances[order]) == [numbers[index] for index in order]
    assert numbers_of(instances[1:]) == numbers[1:] and len(instances[mask]) == mask.sum()


@given(st.lists(st.lists(st.integers(0, 80), max_size=4), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_joining_keeps_the_fields_of_an_object_together(groups: list[list[int]]) -> None:
    joined = Instances.concatenate([tracked(group) for group in groups])
    assert numbers_of(joined) == [number for group in groups for number in group]


@given(st.lists(st.integers(0, 80), max_size=8), st.integers(5, 100), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_objects_that_leave_the_picture_take_their_fields_along(
    numbers: list[int], side: int, tenths: int
) -> None:
    """A box from n to n + 10 shows the square of (side - n) / 10 in a picture of that side."""
    left = tracked(numbers).transform((side, side), min_visible=tenths / 10)
    seen = {number: min(side - number, 10) for number in numbers if number < side}
    expected = [number for number in numbers if seen.get(number, 0) ** 2 >= 10 * tenths and number < side]
    assert left.labels.tolist() == expected == left.tracks.tolist()
    np.testing.assert_array_equal(left.boxes_xyxy[:, 2], [min(number + 10, side) for number in expected])
    shares = np.array([seen[number] ** 2 / 100 for number in expected])
    np.testing.assert_allclose(left.areas, (np.array(expected) * 2.0 + 1) * shares, rtol=1e-5)


def test_moving_by_hand() -> None:
    flipped = tracked([3, 30]).transform((100, 100), scale=(-1, 1), shift=(100, 0))
    assert flipped.boxes_xyxy.tolist() == [[87, 3, 97, 13], [60, 30, 70, 40]]
    assert flipped.areas.tolist() == [7, 61] and flipped.boxes_xyxy.dtype == np.float32
    stretched = tracked([3]).transform((200, 50), scale=(2, 0.5))
    assert stretched.boxes_xyxy.tolist() == [[6, 1.5, 26, 6.5]] and stretched.areas.tolist() == [7]
    assert tracked([3]).transform((200, 200), scale=(2, 2)).areas.tolist() == [28]


def test_a_field_that_some_do_not_know_is_unknown_when_joined() -> None:
    plain = Instances(np.float32([[0, 0, 4, 4]]), np.array([7]))
    joined = Instances.concatenate([tracked([1, 2]), plain])
    assert (
        joined.labels.tolist() == [1, 2, 7]
        and joined.areas is None
        and joined.known().keys()
        == {
            "boxes_xyxy",
            "labels",
        }
    )
    # Who has no objects does not know less.
    assert numbers_of(Instances.concatenate([Instances.empty(), tracked([4])])) == [4]
    assert len(Instances.concatenate([Instances.empty(), Instances.empty()])) == 0


def test_a_copy_shares_nothing() -> None:
    instances = tracked([1, 2])
    copied = instances.copy()
    assert numbers_of(copied) == [1, 2]
    for name, values in copied.known().items():
        assert not np.shares_memory(values, instances.known()[name])


def test_fields_of_different_lengths_are_refused() -> None:
    with pytest.raises(FocusDetrError, match="boxes_xyxy of 2, labels of 2, areas of 3"):
        Instances(np.zeros((2, 4)), np.zeros(2, np.int64), areas=np.zeros(3))
