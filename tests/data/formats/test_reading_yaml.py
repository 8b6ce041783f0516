"""data.yaml is read for its words; what would make other readers fall over is refused with its line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from focus_detr.data import list_splits, load_dataset
from focus_detr.data.formats.reading_yaml import read_yaml
from focus_detr.errors import FocusDetrError
from helpers.tiny_datasets import write_yolo

SPLITS = "train: images/train\nval: images/val\n"


def _values(tmp_path: Path, text: str) -> dict[str, object]:
    (tmp_path / "x.yaml").write_text(text)
    found = read_yaml(tmp_path / "x.yaml")
    assert found is not None
    return found.values


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("[no, yes]", ["no", "yes"]),
        ("{0: off, 1: on}", ["off", "on"]),
        ("[007, 1.10]", ["007", "1.10"]),
        ("[12_000, 1:30]", ["12_000", "1:30"]),
        ("[2024-02-30, 0x1F]", ["2024-02-30", "0x1F"]),
        ("[!!str 5, 'null']", ["5", "null"]),
        ("\n  - .inf\n  - =", [".inf", "="]),
        ("{1: dog, 0: cat}", ["cat", "dog"]),
        ("['null', \"~\"]", ["null", "~"]),
        ("[2024-01-01, 2001-12-14t21:59:43.10-05:00]", ["2024-01-01", "2001-12-14t21:59:43.10-05:00"]),
        ("[1e3, 0x10]", ["1e3", "0x10"]),
        ("[012, 12:30]", ["012", "12:30"]),
        ("[1_000, +.5]", ["1_000", "+.5"]),
        ("[y, N]", ["y", "N"]),
        ("{00: cat, 01: dog}", ["cat", "dog"]),
        ("[' cat', 'dog ']", ["cat", "dog"]),
    ],
)
def test_class_names_are_the_words_written(tmp_path: Path, written: str, names: list[str]) -> None:
    root = write_yolo(tmp_path, f"{SPLITS}names: {written}\n")
    assert load_dataset(root, on_problem="ignore").class_names == names


@pytest.mark.parametrize(
    "written",
    [
        "[cat, null]",
        "{0: cat, 1: ~}",
        "[Null, dog]",
        "[cat, '']",
        "\n- cat\n-",
        "[[cat], dog]",
        "[cat, {a: b}]",
    ],
)
def test_class_names_that_are_no_words_are_refused(tmp_path: Path, written: str) -> None:
    with pytest.raises(FocusDetrError, match="data.yaml, line 3: a class name is"):
        load_dataset(write_yolo(tmp_path, f"{SPLITS}names: {written}\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{SPLITS}names: [cat, dog]\nnc: abc\n", "line 4: nc is abc but 2 names"),
        (f"{SPLITS}names: [cat, dog]\nnc: [2]\n", "line 4: nc is a list"),
        ("names: [cat, dog]\ntrain:\n", "line 2: 'train' is empty"),
        ("names: [cat, dog]\ntrain: []\n", "line 2: 'train' is empty"),
        ("names: [cat, dog]\ntrain: ''\n", "line 2: 'train' must be a folder"),
        ("names: [cat, dog]\ntrain: {a: b}\n", "line 2: 'train' must be a folder"),
        ("names: [cat, dog]\ntrain: [images/train, [x]]\n", "line 2: 'train' must be a folder"),
        ('names: [cat, dog]\ntrain: "images\\train"\n', "line 2: 'train' holds a control character"),
        ('names: [cat, dog]\ntrain: "a\\0b"\n', "line 2: 'train' holds a control character"),
        (f'{SPLITS}names: [cat, dog]\npath: "a\\0b"\n', "line 4: 'path' must be a folder"),
        (f"{SPLITS}names: [cat, dog]\npath: [a]\n", "line 4: 'path' must be a folder"),
        (f"{SPLITS}names: [cat, dog]\nkpt_shape: 17\n", "line 4: 'kpt_shape' must be"),
        (f"{SPLITS}names: everyone\n", "line 3: 'names' must be a list"),
        (f"{SPLITS}names: {{a: cat}}\n", "line 3: 'names' must be a list"),
        (f"{SPLITS}names: [cat, dog]\nwhen: !!python/name:os.system\n", "line 4: the tag"),
        (f"{SPLITS}names: [cat, dog]\nwhen: !<x y\n", "line 4: not valid yaml"),
        (f"{SPLITS}names: [cat, dog]\n<<: *x\n", "line 4: .*not"),
        (f"{SPLITS}names: [cat, dog]\nnames: [a, b]\n", "line 4: the key 'names' is there twice"),
        (f"{SPLITS}names: [cat, dog]\nx: *gone\n", "line 4: the alias"),
        (f"{SPLITS}names: [cat, dog]\n---\na: b\n", "line 4: a second document"),
        (f"{SPLITS}names: [cat, dog]\nx: a\0b\n", "line 4: not valid yaml"),
        (f"{SPLITS}names: [cat, dog]\nx: {'[' * 10_000}\n", "line 4: nested too deeply"),
        (f"{SPLITS}names: [cat, dog]\n? [a]\n: b\n", "line 4: a list or map stands where a key"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(FocusDetrError, match=f"data.yaml, {said}"):
        load_dataset(write_yolo(tmp_path, text))


@pytest.mark.parametrize("nothing", ["", "null", "~"])
def test_what_yaml_takes_for_nothing_is_nothing_but_in_names(tmp_path: Path, nothing: str) -> None:
    others = "".join(f"{key}: {nothing}\n" for key in ("test", "path", "nc", "kpt_shape"))
    assert list_splits(write_yolo(tmp_path, f"{SPLITS}names: [cat, dog]\n{others}")) == ["train", "val"]


@pytest.mark.parametrize("count", ["2", "'2'", "2.0"])
def test_the_number_of_classes_however_written(tmp_path: Path, count: str) -> None:
    assert len(load_dataset(write_yolo(tmp_path, f"{SPLITS}names: [cat, dog]\nnc: {count}\n"))) == 2


def test_odd_dates_in_keys_nobody_needs_do_not_matter(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, f"{SPLITS}names: [cat, dog]\ndate: 2024-13-45\ncopied: 2001-1-1 99:99:99\n")
    assert len(load_dataset(root)) == 2


def test_aliases_within_reason_are_followed(tmp_path: Path) -> None:
    assert _values(tmp_path, "a: &x [b, c]\nd: *x\ne: {f: *x}")["e"] == {"f": ["b", "c"]}


def _bomb(opening: str) -> str:
    lines = [opening.format("a0", "ha")]
    return "\n".join([*lines, *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 20))])


BOMBS = {
    "aliases": _bomb("{0}: &{0} {1}"),
    "merges": "a0: &a0 {x: y}\n"
    + "\n".join(f"a{i}: &a{i}\n  <<: [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)),
    "nested lists": "x: " + "[" * 100_000,
    "nested maps": "x: " + "{a: " * 100_000,
    "nested blocks": "".join(f"{' ' * i}- \n" for i in range(3000)),
}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("place", ["names: ", "path: ", "train: "])
def test_bombs_are_refused_within_a_second(tmp_path: Path, kind: str, place: str) -> None:
    begun = time.process_time()
    with pytest.raises(FocusDetrError, match="data.yaml"):
        load_dataset(write_yolo(tmp_path, f"{BOMBS[kind]}\n{SPLITS}{place}*a19\n"))
    assert time.process_time() - begun < 1


def test_a_hundred_thousand_names_are_read_within_two_seconds(tmp_path: Path) -> None:
    names = "".join(f"  {i}: class {i}\n" for i in range(100_000))
    root = write_yolo(tmp_path, f"{SPLITS}nc: 100000\nnames:\n{names}")
    begun = time.process_time()
    dataset = load_dataset(root)
    dataset.summary()
    assert time.process_time() - begun < 2 and len(dataset.class_names) == 100_000
