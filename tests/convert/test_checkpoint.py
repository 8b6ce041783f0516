import argparse
import zipfile

import pytest
import torch

from focus_detr.convert.checkpoint import open_checkpoint
from focus_detr.errors import FocusDetrError

STATE = {"a.weight": torch.arange(3.0), "b": torch.ones(2, dtype=torch.float64)}


class Code:
    """An object that only running code could restore."""


def same(state):
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) and state[key].dtype == STATE[key].dtype for key in STATE)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("outer", [False, True])
def test_plain_and_wrapped_files(tmp_path, legacy, outer):
    content = {"model": STATE, "iteration": 3, "optimizer": {"state": {}}} if outer else STATE
    torch.save(content, tmp_path / "c.pth", _use_new_zipfile_serialization=not legacy)
    same(open_checkpoint(tmp_path / "c.pth"))


def test_a_zip_is_a_torch_file_or_holds_one(tmp_path):
    torch.save({"model": STATE}, tmp_path / "c.pth")
    with zipfile.ZipFile(tmp_path / "released.zip", "w") as archive:
        archive.write(tmp_path / "c.pth", "folder/model_final.pth")
        archive.writestr("folder/log.txt", "a log")
        archive.writestr("__MACOSX/folder/._model_final.pth", "junk")
    same(open_checkpoint(tmp_path / "released.zip"))
    (tmp_path / "c.pth").rename(tmp_path / "torch.zip")
    same(open_checkpoint(tmp_path / "torch.zip"))


@pytest.mark.parametrize("names", [[], ["a.pth", "b.pth"]])
def test_an_archive_must_hold_one(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.writestr("readme.txt", "")
        for name in names:
            archive.writestr(name, "")
    with pytest.raises(FocusDetrError, match=rf"r\.zip: holds {', '.join(names) or 'none'}"):
        open_checkpoint(tmp_path / "r.zip")


def test_the_prefix_of_distributed_training_is_cut_and_a_command_line_ignored(tmp_path):
    content = {f"module.{key}": value for key, value in STATE.items()}
    torch.save({"model": content, "args": argparse.Namespace(lr=1e-4, names=["a"])}, tmp_path / "c.pth")
    same(open_checkpoint(tmp_path / "c.pth"))


def test_code_is_never_run(tmp_path):
    torch.save({"model": STATE, "trainer": Code()}, tmp_path / "c.pth")
    with pytest.raises(FocusDetrError, match=r"c\.pth: cannot be opened as plain tensors"):
        open_checkpoint(tmp_path / "c.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [({"model": {}}, "no state dict"), ([1], "no state dict"), ({"a": 3}, "'a' is a int")],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(FocusDetrError, match=message):
        open_checkpoint(tmp_path / "c.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02}q\x00."])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(FocusDetrError, match=r"c\.pth"):
        open_checkpoint(tmp_path / "c.pth")
    with pytest.raises(FocusDetrError, match="no such file"):
        open_checkpoint(tmp_path / "absent.pth")


def test_a_damaged_file_is_refused(tmp_path):
    torch.save(STATE, tmp_path / "c.pth")
    content = (tmp_path / "c.pth").read_bytes()
    (tmp_path / "c.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(FocusDetrError, match=r"c\.pth"):
        open_checkpoint(tmp_path / "c.pth")


def test_a_path_out_of_an_archive_is_a_name_like_any_other(tmp_path):
    torch.save({"model": STATE}, tmp_path / "c.pth")
    (tmp_path / "inside").mkdir()
    with zipfile.ZipFile(tmp_path / "inside" / "r.zip", "w") as archive:
        archive.write(tmp_path / "c.pth", "../evil.pth")
    same(open_checkpoint(tmp_path / "inside" / "r.zip"))
    assert {path.name for path in tmp_path.rglob("*")} == {"c.pth", "inside", "r.zip"}


def test_an_archive_that_swells_beyond_what_weights_do_is_not_opened(tmp_path):
    with zipfile.ZipFile(tmp_path / "r.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.pth", bytes(10_000_000))
    with pytest.raises(FocusDetrError, match=r"a\.pth would unpack from .* to 10,000,000 bytes.*not opened"):
        open_checkpoint(tmp_path / "r.zip")


def test_an_archive_that_says_it_is_larger_than_it_is_is_not_believed(tmp_path):
    with zipfile.ZipFile(tmp_path / "r.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.pth", bytes(10_000_000))
    content = bytearray((tmp_path / "r.zip").read_bytes())
    entry = content.index(b"PK\1\2")  # of the directory at the end: 20 bytes on stands the packed size
    content[entry + 20 : entry + 24] = (9_000_000).to_bytes(4, "little")
    (tmp_path / "r.zip").write_bytes(content)
    with pytest.raises(FocusDetrError, match="not opened"):
        open_checkpoint(tmp_path / "r.zip")


@pytest.mark.parametrize("place", ["content", "directory"])
def test_a_damaged_archive_is_said(tmp_path, place):
    torch.save({"model": STATE}, tmp_path / "c.pth")
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.write(tmp_path / "c.pth", "model.pth")
    content = bytearray((tmp_path / "r.zip").read_bytes())
    at = 200 if place == "content" else content.rindex(b"PK\1\2")
    content[at : at + 4] = bytes(255 - each for each in content[at : at + 4])
    (tmp_path / "r.zip").write_bytes(content)
    with pytest.raises(FocusDetrError, match=r"r\.zip: .*(cannot be unpacked|damaged)"):
        open_checkpoint(tmp_path / "r.zip")
