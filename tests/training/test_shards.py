"""A run on shards is the run on the same pictures in files, killed and gone on with, too."""

import pytest

from focus_detr.data import load_dataset
from focus_detr.data.writing import write_shards
from helpers.tiny_training import finish, losses, start, start_two


@pytest.mark.slow
def test_a_run_on_shards_resumes_exactly_and_sees_what_a_run_on_files_sees(tiny_data, tmp_path):
    for split in ("train", "val"):
        write_shards(load_dataset(tiny_data, split), tmp_path / "shards", split, images=4)
    options = {"noise": 0.0, "overrides": {"epochs": 2, "workers": 1}}
    finish(start(tiny_data, tmp_path / "files", **options))
    finish(start(tmp_path / "shards", tmp_path / "run", die_at=4, **options), killed=True)
    finish(start(tmp_path / "shards", tmp_path / "run", resume=True, **options))
    assert losses(tmp_path / "run") == losses(tmp_path / "files")
    finish(*start_two(tmp_path / "shards", tmp_path / "two", **options))
    finish(*start_two(tiny_data, tmp_path / "two files", **options))
    assert losses(tmp_path / "two") == losses(tmp_path / "two files")
