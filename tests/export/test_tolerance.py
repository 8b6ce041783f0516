"""INT8 within a drop in average precision."""

import pytest

from focus_detr.errors import FocusDetrError
from focus_detr.export.tolerance import Tolerance, search

BLOCKS = {"stem": 0.001, "stage": 0.02, "neck": 0.004, "ffn": 0.0}


def drop_without(given_back):
    return sum(loss for block, loss in BLOCKS.items() if block not in given_back)


@pytest.mark.parametrize(
    ("max_drop", "given_back"),
    [(0.03, ()), (0.005, ("stage",)), (0.002, ("stage", "neck")), (0.0005, ("stage", "neck", "stem"))],
)
def test_the_fewest_of_the_worst_blocks_are_given_back(max_drop, given_back):
    found = search(BLOCKS, BLOCKS.__getitem__, drop_without, max_drop)
    assert found.given_back == given_back
    assert found.drops[len(given_back)] <= max_drop


def test_costs_are_not_measured_where_nothing_is_lost():
    assert search(BLOCKS, lambda block: pytest.fail(block), lambda given_back: 0.0, 0.005).given_back == ()


def test_a_drop_that_no_block_in_8_bits_keeps_to_is_refused():
    with pytest.raises(FocusDetrError, match="nothing can be in 8 bits"):
        search(BLOCKS, BLOCKS.__getitem__, lambda given_back: 0.1, 0.005)


@pytest.mark.parametrize("max_drop", [0, 1, -0.1, 2, "much"])
def test_a_drop_that_is_none_is_refused(max_drop):
    with pytest.raises(FocusDetrError, match=r"max_drop=.*0\.005 is half a point"):
        Tolerance(max_drop, dataset=None)
