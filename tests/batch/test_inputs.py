"""Inputs of a batch run: what is a picture, in which block, and the same again."""

from __future__ import annotations

from pathlib import Path

import pytest

from focus_detr.batch.blocks import Block, block_places, write_manifest
from focus_detr.batch.inputs import Listing
from focus_detr.batch.places import Place
from focus_detr.errors import FocusDetrError
from helpers.batches import content, write_pictures, write_shard

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def blocks(*inputs: object, size: int = 2, column: str | None = None) -> list[Block]:
    return list(Listing([str(each) for each in inputs], size, column).blocks())


def test_a_folder_becomes_blocks_of_bounded_size_in_the_order_of_names(tmp_path: Path) -> None:
    names = write_pictures(tmp_path / "a", 5)
    assert [block.files for block in blocks(tmp_path)] == [
        tuple(names[:2]),
        tuple(names[2:4]),
        tuple(names[4:]),
    ]


def test_a_pattern_takes_what_matches(tmp_path: Path) -> None:
    names = write_pictures(tmp_path, 3)
    assert [block.files for block in blocks(tmp_path / "000[12].png")] == [tuple(names[1:])]


def test_a_file_named_by_two_inputs_is_one_picture(tmp_path: Path) -> None:
    names = write_pictures(tmp_path, 3)
    listing = Listing([str(tmp_path), names[1], str(tmp_path / "*.png")], 10)
    assert [file for block in listing.blocks() for file in block.files] == names
    assert listing.twice == 4


def test_a_table_of_pictures_becomes_blocks_of_whole_row_groups(tmp_path: Path) -> None:
    table = pa.table({"image": [b"x"] * 10})
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    found = blocks(tmp_path, size=6)
    assert [(block.groups, block.first_row, block.pictures) for block in found] == [
        ((0, 1), 0, 6),
        ((2, 3), 6, 4),
    ]
    assert {block.column for block in found} == {"image"}


def test_pictures_as_structs_of_bytes_are_known(tmp_path: Path) -> None:
    rows = [{"bytes": b"x", "path": "a.png"}]
    parquet.write_table(pa.table({"image": rows}), tmp_path / "t.parquet")
    assert [block.kind for block in blocks(tmp_path / "t.parquet")] == ["rows"]


def test_a_table_of_paths_becomes_files_relative_to_it(tmp_path: Path) -> None:
    paths = ["a.png", "s3://bucket/b.png", str(tmp_path / "c.png"), None, "a.png"]
    parquet.write_table(pa.table({"path": paths}), tmp_path / "t.parquet")
    (block,) = blocks(tmp_path / "t.parquet", size=9)
    *files, missing = block.files
    assert files == [f"{tmp_path}/a.png", "s3://bucket/b.png", f"{tmp_path}/c.png"]
    assert missing[0] == f"{tmp_path}/t.parquet#row=3"


def test_columns_of_categories_are_known(tmp_path: Path) -> None:
    table = pa.table({"path": pa.array(["a.png", "b.png"]).dictionary_encode()})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert blocks(tmp_path)[0].files == (f"{tmp_path}/a.png", f"{tmp_path}/b.png")


def test_the_column_is_asked_for_where_it_cannot_be_guessed(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"x": [b"a"], "y": [b"b"], "n": [1]}), tmp_path / "t.parquet")
    with pytest.raises(FocusDetrError, match="--column, one of x, y, n"):
        blocks(tmp_path)
    with pytest.raises(FocusDetrError, match="'z'"):
        blocks(tmp_path, column="z")
    with pytest.raises(FocusDetrError, match="int64, which is neither"):
        blocks(tmp_path, column="n")
    assert blocks(tmp_path, column="y")[0].column == "y"


def test_a_shard_is_a_block(tmp_path: Path) -> None:
    for name in ("0.tar", "1.tar"):
        write_shard(tmp_path / name, {"a.png": content()})
    assert [(block.kind, block.source) for block in blocks(tmp_path)] == [
        ("shard", f"{tmp_path}/0.tar"),
        ("shard", f"{tmp_path}/1.tar"),
    ]


def test_shards_beside_pictures_are_left_out_and_said(tmp_path: Path) -> None:
    write_pictures(tmp_path, 1)
    write_shard(tmp_path / "0.tar", {"a.png": content()})
    listing = Listing([str(tmp_path)])
    assert [block.kind for block in listing.blocks()] == ["files"]
    assert "0.tar" in listing.left_out[0]


@pytest.mark.parametrize("name", ["none", "none/*.png", "memory://none"])
def test_nothing_behind_an_input_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(FocusDetrError, match=r"none.*(no such file|no picture)"):
        blocks(name if "://" in name else tmp_path / name)


def test_an_unknown_store_is_an_error() -> None:
    with pytest.raises(FocusDetrError, match="nowhere://x"):
        blocks("nowhere://x")


def test_the_manifest_gives_every_block_back_by_its_place(tmp_path: Path) -> None:
    listed = [
        Block.of_files(["a.png", "b\udcff.png", ("t.parquet#row=1", "no path")]),
        Block("rows", source="t.parquet", groups=(2, 3), first_row=7, column="image", pictures=5),
        Block("shard", source="s.tar"),
    ]
    manifest = Place.of(tmp_path / "manifest.jsonl")
    assert write_manifest(manifest, listed) == 3
    assert [place.read(manifest) for place in block_places(manifest)] == listed
    assert [place.number for place in block_places(manifest)] == [0, 1, 2]


def test_a_manifest_that_cannot_be_ended_is_not_there(tmp_path: Path) -> None:
    def failing():
        yield Block.of_files(["a.png"])
        raise FocusDetrError("no such folder")

    manifest = Place.of(tmp_path / "manifest.jsonl")
    with pytest.raises(FocusDetrError):
        write_manifest(manifest, failing())
    assert not list(tmp_path.iterdir())
