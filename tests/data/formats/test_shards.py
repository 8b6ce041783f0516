"""Data in tar files: what is read is what was written, by place, and what is wrong with it is said."""

import io
import json
import tarfile

import numpy as np
import pytest

from focus_detr.data import list_splits, load_dataset
from focus_detr.data.formats.shards import expanded
from focus_detr.data.writing import write_shards
from focus_detr.errors import FocusDetrError
from helpers.tiny_training import write_dataset


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("plain") / "data")


@pytest.fixture
def shards(plain, tmp_path):
    write_shards(load_dataset(plain, "train"), tmp_path / "shards", "train", images=4)
    write_shards(load_dataset(plain, "val"), tmp_path / "shards", "val", images=4)
    return tmp_path / "shards"


def assert_same(ours, theirs):
    assert len(ours) == len(theirs) and ours.class_names == theirs.class_names
    for index in range(len(ours)):
        one, other = ours.read(index), theirs.read(index)
        assert one.image_id == other.image_id
        np.testing.assert_array_equal(np.asarray(one.image), np.asarray(other.image))
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_a_data_set_in_shards_is_the_data_set(plain, shards):
    assert sorted(path.name for path in shards.glob("train*.tar")) == [
        f"train-00000{i}.tar" for i in range(3)
    ]
    assert list_splits(shards) == ["train", "val"]
    for split in ("train", "val"):
        dataset = load_dataset(shards, split, on_problem="raise", check_images="decode")
        assert_same(dataset, load_dataset(plain, split))


def test_braces_name_some_of_the_shards(shards, plain):
    assert expanded("{train,val}-{008..010}.tar") == [
        f"{split}-{number}.tar" for split in ("train", "val") for number in ("008", "009", "010")
    ]
    dataset = load_dataset(shards / "train-{000001..000002}.tar", "train")
    assert [record.image_id for record in dataset.records] == list(range(4, 10))
    assert len(load_dataset(shards / "val-000000.tar", None)) == 3
    with pytest.raises(FocusDetrError, match="4 archives, 1 of which are not there, .*train-000003.tar"):
        load_dataset(shards / "train-{000000..000003}.tar", "train")
    with pytest.raises(FocusDetrError, match="range upwards"):
        load_dataset(shards / "train-{3..1}.tar", "train")


def test_the_index_is_written_once_and_anew_where_the_archive_changed(shards, monkeypatch):
    first = load_dataset(shards, "train")
    opened = []
    open_tar = tarfile.open
    monkeypatch.setattr(
        tarfile, "open", lambda *args, **kwargs: opened.append(args) or open_tar(*args, **kwargs)
    )
    assert_same(load_dataset(shards, "train"), first)
    assert not opened
    (shards / "train-000001.tar.index").write_text("{")
    assert_same(load_dataset(shards, "train"), first)
    assert len(opened) == 1
    with open_tar(shards / "train-000002.tar", "a") as tar:
        for name, content in (("x.json", b'{"annotations": []}'), ("x.png", first.records[0].path)):
            if not isinstance(content, bytes):
                content = io.BytesIO()
                first.read(0).image.save(content, "png")
                content = content.getvalue()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert len(load_dataset(shards, "train")) == 11


def test_what_is_wrong_in_a_shard_is_said_with_its_name(shards):
    with tarfile.open(shards / "train-000009.tar", "w") as tar:
        for name, content in (
            ("alone.png", b"x"),
            ("lost.json", b'{"annotations": []}'),
            ("torn.json", b"{"),
            ("torn.png", b"x"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    for _ in range(2):  # again from the index
        problems = load_dataset(shards, "train", on_problem="ignore").problems
        assert [(problem.kind, "train-000009.tar" in problem.file) for problem in problems] == [
            ("bad-annotation", True),
            ("missing-annotation", True),
            ("missing-image", True),
        ]
    whole = (shards / "val-000000.tar").read_bytes()
    (shards / "val-000000.tar").write_bytes(whole[:700])
    with pytest.raises(FocusDetrError, match="val-000000.tar.*cut short"):
        load_dataset(shards, "val")
    (shards / "categories.json").write_text(json.dumps({"cat": 1}))
    with pytest.raises(FocusDetrError, match="categories.json: must be a list"):
        load_dataset(shards, "train")


def test_shards_are_never_overwritten(plain, shards):
    with pytest.raises(FocusDetrError, match="is there already"):
        write_shards(load_dataset(plain, "train"), shards, "train")
    with pytest.raises(FocusDetrError, match="other categories"):
        write_shards(load_dataset(plain, "train", classes=["cat"]), shards, "more")
