import math

from focus_detr.evaluation.tables import table


def test_columns_line_up_and_gaps_are_dashes():
    text = table(("class", "objects", "AP"), [["red", 12, 0.5], ["aubergine", 3, math.nan], ["x", 1, None]])
    assert text.splitlines() == [
        "class      objects     AP",
        "-------------------------",
        "red             12  0.500",
        "aubergine        3      -",
        "x                1      -",
    ]


def test_a_table_may_have_no_rows():
    assert table(("a", "b"), []).splitlines() == ["a  b", "----"]
