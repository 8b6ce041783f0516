import pytest

from focus_detr.printable import counted, finite, in_line, in_number, listed, percent, printable, unicode_name


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain 猫 é", "plain 猫 é"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x07\r", "\\x1b[31mred\\x07\\r"),
        ("\x9b31m, \u202e, \u2028", "\\x9b31m, \\u202e, \\u2028"),
        ("b\udcff.jpg", "b\\xff.jpg"),
        ("\ud800.jpg", "\\ud800.jpg"),
    ],
)
def test_control_characters_and_lone_surrogates_are_escaped(text, shown):
    assert printable(text) == shown
    assert printable(text).encode("utf-8").decode("utf-8") == shown


def test_long_text_keeps_its_beginning_and_its_end():
    shown = printable("a" * 50_000 + "z" * 20_000, longest=300)
    assert len(shown) < 400 and shown.startswith("aaa") and shown.endswith("zzz")
    assert "69700 characters left out" in shown


def test_a_name_of_bytes_becomes_text_and_a_good_one_stays():
    assert unicode_name("caf\udce9.png") == "caf\\xe9.png"
    assert unicode_name("café.png") == "café.png"


def test_a_part_of_a_line_stays_within_it():
    assert in_line("cat\n\x1b[2Jerror:\tx") == "cat\\n\\x1b[2Jerror:\\tx"
    assert len(in_line("x" * 70_000)) < 300


def test_of_many_names_the_first_are_listed():
    assert listed(["cat", "a\nb"]) == "cat, a\\nb"
    assert listed(range(100), most=3) == "0, 1, 2, 97 more"


@pytest.mark.parametrize(
    "share, shown",
    [(0.0045, "0.45%"), (0.05, "5%"), (0.051, "5.1%"), (0.5, "50%"), (0.996, "100%"), (1, "100%"), (0, "0%")],
)
def test_shares_have_two_significant_digits(share, shown):
    assert percent(share) == shown


def test_values_are_such_that_json_can_hold_them():
    value = {1: [float("nan"), (float("inf"), 2.5)], "deep": {"b": -float("inf")}, "kept": [True, None, "x"]}
    assert finite(value) == {"1": [None, [None, 2.5]], "deep": {"b": None}, "kept": [True, None, "x"]}


def test_numbers_are_said_of_one_and_of_several() -> None:
    assert [counted(count, "class", "classes") for count in (0, 1, 2)] == [
        "0 classes",
        "1 class",
        "2 classes",
    ]
    said = "{count} picture[|s] of [x, y] [is|are] left out"
    assert in_number(said, 1) == "1 picture of [x, y] is left out"
    assert in_number(said, 3) == "3 pictures of [x, y] are left out"
