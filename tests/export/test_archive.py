"""Code of strangers: a .pt2 file that could run code is refused before torch reads it."""

import io
import json
import os
import pickle
import zipfile

import pytest
import torch

from focus_detr.errors import FocusDetrError
from focus_detr.export import load_exported
from focus_detr.export.archive import refuse_code


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


def saved(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def config(path_name, use_pickle=False):
    return json.dumps({"config": {"a": {"path_name": path_name, "use_pickle": use_pickle}}}).encode()


HARMLESS = {
    "data/weights/weight_0": b"\x80\x02raw numbers",
    "data/weights/model_weights_config.json": config("weight_0"),
    "data/constants/model_constants_config.json": config("tensor_0"),
    "data/sample_inputs/model.pt": saved(((torch.ones(2),), {})),
    "models/model.json": json.dumps(
        {
            "guards_code": ["L['pixel_values'].size()[3] % 2 == 0"],
            "nodes": [{"expr_str": "Max(1, 32*s0 - 1)"}],
        }
    ).encode(),
    "extra/focus_detr.json": b"{}",
    "archive_format": b"pt2",
    ".data/version": b"1",
}


@pytest.fixture
def archive(tmp_path):
    def write(members, top="a/"):
        with zipfile.ZipFile(tmp_path / "a.pt2", "w") as file:
            for name, content in members.items():
                file.writestr(f"{top}{name}", content)
        return tmp_path / "a.pt2"

    return write


def test_what_export_writes_is_taken(archive):
    refuse_code(archive(HARMLESS))
    refuse_code(archive({"serialized_state_dict.json": saved({"a": torch.ones(1)}), "version": b"8"}, top=""))


@pytest.mark.parametrize(
    "name",
    ["data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/model.pt"]
    + ["serialized_state_dict.json", "serialized_constants.json", "serialized_example_inputs.json"],
)
@pytest.mark.parametrize("pickled", [saved, pickle.dumps])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickles_of_more_than_tensors_are_refused(archive, tmp_path, name, pickled):
    path = archive({**HARMLESS, name: pickled({"a": Payload(tmp_path / "ran")})})
    with pytest.raises(FocusDetrError, match=rf"a.pt2: not loaded, since its {name} is a pickle"):
        load_exported(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data/weights/model_weights_config.json", config("weight_0", use_pickle=True)),
        ("data/constants/model_constants_config.json", config("tensor_0", use_pickle=True)),
        ("data/constants/model_constants_config.json", config("custom_obj_0")),
        ("data/constants/model_constants_config.json", config("opaque_obj_0")),
        ("data/weights/model_weights_config.json", config("../sample_inputs/x")),
        ("data/aotinductor/model/model.so", b"\x7fELF"),
        ("data/constants/custom_obj_0", b"\x80\x02."),
        ("models/model.json", json.dumps({"expr_str": "__import__('os').mkdir('ran')"}).encode()),
        ("models/model.json", json.dumps([{"a": {"expr_str": "preview(s0)"}}]).encode()),
        ("models/model.json", json.dumps({"guards_code": ["L.__class__.__mro__"]}).encode()),
        ("models/model.json", json.dumps({"guards_code": ["[exit() for L in L]"]}).encode()),
        ("models/model.json", b"\x80\x02 no json"),
        ("models/model.json", b"[" * 100_000),
    ],
)
def test_other_ways_to_run_code_are_refused(archive, name, content):
    with pytest.raises(FocusDetrError, match="a.pt2: (not loaded|cannot be read)"):
        load_exported(archive({**HARMLESS, name: content}))


def test_two_members_of_one_name_are_refused(archive):
    path = archive(HARMLESS)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("a/models/model.json", b"{}")
    with pytest.raises(FocusDetrError, match="two members"):
        refuse_code(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + b"0" * 200])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.pt2").write_bytes(content)
    with pytest.raises(FocusDetrError, match="a.pt2: cannot be read as a .pt2 file"):
        load_exported(tmp_path / "a.pt2")
