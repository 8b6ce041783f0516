"""What messages suggest in place of a name that is not known."""

import pytest

from focus_detr.errors import did_you_mean

NAMES = ["pixel_values", "pixel_mask", "labels"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("label", " (did you mean 'labels'?)"),
        ("pixel_masks", " (did you mean 'pixel_mask'?)"),
        ("mask", " (did you mean 'pixel_mask'?)"),  # a part of it, though not spelled alike
        ("targets", ""),
        ("el", ""),
        (3, ""),
    ],
)
def test_the_nearest_name_is_suggested(name, hint):
    assert did_you_mean(name, NAMES) == hint
