"""Annotation files are read as they declare, from regular files of bounded size, or refused by name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from focus_detr.data import load_dataset
from focus_detr.data.formats import reading
from focus_detr.data.formats.reading import UnreadableFileError, read_json, read_lines, read_text, read_xml
from focus_detr.errors import FocusDetrError
from helpers.tiny_datasets import voc_xml, write_coco, write_voc, write_yolo


def _folder(path: Path) -> None:
    path.mkdir()


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("gone"))


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


NO_FILES = {"a folder": _folder, "link to nothing": _dangling, "a device, pipe": _pipe, "a device,": _endless}


@pytest.mark.parametrize("read", [read_text, read_json, read_xml])
@pytest.mark.parametrize("said", NO_FILES)
def test_only_regular_files_are_read(tmp_path: Path, read: Any, said: str) -> None:
    NO_FILES[said](tmp_path / "file")
    with pytest.raises(UnreadableFileError, match=f"file.*{said}"):
        read(tmp_path / "file")


@pytest.mark.parametrize("said", NO_FILES)
def test_a_data_set_file_that_is_no_file_is_refused_at_once(tmp_path: Path, said: str) -> None:
    for name in ("instances_train.json", "data.yaml"):
        place = tmp_path / name.partition(".")[0]
        place.mkdir()
        NO_FILES[said](place / name)
        for path in (place, place / name):
            with pytest.raises(FocusDetrError, match=name):
                load_dataset(path)
    root = write_voc(tmp_path / "voc")
    (root / "Annotations" / "a.xml").unlink()
    NO_FILES[said](root / "Annotations" / "a.xml")
    dataset = load_dataset(root, on_problem="ignore")
    assert [record.path.stem for record in dataset.records] == ["b"]
    assert [problem.severity for problem in dataset.problems] == ["error"]
    root = write_yolo(tmp_path / "yolo")
    (root / "labels" / "train" / "0.txt").unlink()
    NO_FILES[said](root / "labels" / "train" / "0.txt")
    dataset = load_dataset(root, on_problem="ignore")
    assert [record.path.stem for record in dataset.records] == ["1"]  # the other has labels nobody can read
    assert "bad-annotation" in {problem.kind for problem in dataset.problems}


def test_files_in_proc_are_not_read() -> None:
    with pytest.raises(UnreadableFileError):
        read_text(Path("/proc/self/status"))


def test_absurd_names_are_refused_like_missing_files() -> None:
    for name in ("a\0b", "x" * 4000, "\ud800"):
        with pytest.raises(UnreadableFileError):
            read_text(Path(name))


def test_larger_files_than_labels_ever_are_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    with open(file, "wb") as stream:
        stream.truncate(200 * 2**20)
    begun = time.process_time()
    with pytest.raises(UnreadableFileError, match="larger than 8 MB"):
        read_lines(file)
    with pytest.raises(UnreadableFileError, match="larger than 8 MB"):
        read_xml(file)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_read_by_its_mark_or_as_utf_8(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes("pièce\n\n  猫 \n".encode(encoding))
    assert read_lines(file) == ["pièce", "猫"]


def test_text_in_an_undeclared_encoding_is_refused_with_the_fix(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes("pièce\n".encode("latin-1"))
    with pytest.raises(
        UnreadableFileError, match=r"list.txt: is not utf-8 text \(byte 2\). Save it as UTF-8"
    ):
        read_lines(file)


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("gb2312", "猫"),
        ("GBK", "貓"),
        ("gb2312", "貓"),  # a letter of GBK in a file that claims less, as LabelImg's relatives write
        ("Shift_JIS", "犬"),
        ("shift_jis", "①"),
        ("euc-kr", "고양이"),
        ("Big5", "貓"),
        ("iso-8859-1", "pièce"),
        ("windows-1251", "кот"),
        ("UTF8", "猫"),
        ("utf-16", "猫"),
    ],
)
def test_xml_is_read_as_it_declares(tmp_path: Path, encoding: str, name: str) -> None:
    written = {"gb2312": "gbk", "shift_jis": "cp932"}.get(encoding, encoding)
    text = f'<?xml version="1.0" encoding="{encoding}"?><annotation><name>{name}</name></annotation>'
    (tmp_path / "a.xml").write_bytes(text.encode(written))
    assert read_xml(tmp_path / "a.xml").findtext("name") == name


def test_xml_that_declares_utf_16_and_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<?xml version="1.0" encoding="utf-16"?><a><name>cat</name></a>')
    assert read_xml(tmp_path / "a.xml").findtext("name") == "cat"


@pytest.mark.parametrize("encoding", ["base64", "idna", "ANSI", "unicode", "rot13", "", "../x", "undefined"])
def test_xml_in_what_is_no_encoding_is_a_problem(tmp_path: Path, encoding: str) -> None:
    root = write_voc(tmp_path)
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + voc_xml([("dog", 2, 2, 9, 9)])
    (root / "Annotations" / "a.xml").write_text(text)
    dataset = load_dataset(root, on_problem="ignore")
    assert [problem.kind for problem in dataset.problems] == ["bad-annotation"]
    assert dataset.problems[0].file.endswith("a.xml") and "UTF-8" in dataset.problems[0].message


def test_xml_that_grows_or_sinks_is_refused_quickly(tmp_path: Path) -> None:
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha"}">' for i in range(12))
    (tmp_path / "laughs.xml").write_text(f"<!DOCTYPE a [{laughs}]><annotation>&l11;</annotation>")
    with pytest.raises(UnreadableFileError, match="entities"):
        read_xml(tmp_path / "laughs.xml")
    (tmp_path / "deep.xml").write_text("<a>" * 200_000)
    with pytest.raises(UnreadableFileError, match="not readable as xml"):
        read_xml(tmp_path / "deep.xml")


@pytest.mark.parametrize("text", ["[" * 10_000, '{"a":' * 10_000, "1" * 5000, '"\\ud8', "\xff"])
def test_json_beyond_what_is_read_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "instances_train.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FocusDetrError, match="instances_train.json: not valid json"):
        load_dataset(tmp_path)


def test_json_of_gigabytes_is_not_refused_for_its_size(tmp_path: Path, monkeypatch: Any) -> None:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train")
    monkeypatch.setattr(reading, "LABEL_LIMIT", 10)
    assert len(load_dataset(tmp_path)) == 3
