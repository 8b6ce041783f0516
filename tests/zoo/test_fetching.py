"""A published name becomes a model folder once: whatever server, file or process comes between."""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import focus_detr.convert
from focus_detr.errors import FocusDetrError
from focus_detr.zoo.cache import cache_folder, place_of
from focus_detr.zoo.fetching import RECORD, fetch
from focus_detr.zoo.published import Published
from helpers.file_server import File, FileServer

CONTENT = b"weights" * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MODEL = Published(
    name="tiny-coco", family="Tiny", layout="tiny", file="v1/tiny.pth", read_in="here", licence="MIT",
    licence_of="the file", data="COCO", ap=0.1, base="http://127.0.0.1:9/",
    backbone="resnet50", temperature=20, offset=0, policy_options={"keep_ratio": 0.2},
)  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOCUS_DETR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server():
    server = FileServer()
    server.files["v1/tiny.pth"] = File(CONTENT)
    yield server
    server.close()


@pytest.fixture
def model(server):
    return replace(MODEL, base=server.url)


@pytest.fixture
def converted(monkeypatch):
    """What is given to a converter that takes any file that begins with "weights"."""
    calls = []

    def convert(source, output, **options):
        calls.append((Path(source), options))
        output.mkdir()
        (output / "model.safetensors").write_bytes(Path(source).read_bytes())
        if not Path(source).read_bytes().startswith(b"weights"):
            raise FocusDetrError(f"{source}: not a readable torch checkpoint")
        (output / "config.json").write_text("{}")
        return SimpleNamespace(layout="tiny")

    monkeypatch.setitem(vars(focus_detr.convert), "convert_checkpoint", convert)
    return calls


def left(cache):
    return sorted(
        path.relative_to(cache).as_posix()
        for path in cache.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    )


WHOLE = [f"models/tiny-coco/{name}" for name in ("config.json", "model.safetensors", RECORD)]
CHECKSUM = "checksums/tiny-coco.sha256"


def test_it_is_downloaded_and_converted_once_and_nothing_else_is_kept(model, server, converted, cache):
    folder = fetch(model)
    assert fetch(model) == folder == cache / "models" / "tiny-coco"
    assert len(server.asked) == len(converted) == 1
    assert left(cache) == [CHECKSUM, *WHOLE]
    assert (folder / "model.safetensors").read_bytes() == CONTENT


def test_the_converter_is_told_what_the_file_does_not_say(model, converted):
    fetch(model)
    assert converted[0][1] == {
        "backbone": "resnet50", "temperature": 20, "offset": 0, "policy_options": {"keep_ratio": 0.2}
    }  # fmt: skip


def test_the_folder_says_where_it_came_from(model, converted):
    origin = json.loads((fetch(model) / RECORD).read_text())
    assert origin["address"] == model.address and origin["sha256"] == SHA256
    assert origin["licence"] == "MIT" and origin["published_ap"] == 0.1


def test_a_cut_off_download_goes_on_in_the_next_run(model, server, converted, cache):
    server.files["v1/tiny.pth"] = File(CONTENT, cuts=[20_000, 0])
    with pytest.raises(FocusDetrError, match="MB are kept"):
        fetch(model)
    assert fetch(model).is_dir() and server.asked[-1][1] is not None
    assert left(cache) == [CHECKSUM, *WHOLE]


def test_a_published_checksum_is_held(model, server, converted, cache):
    model = replace(model, sha256=SHA256)
    server.files["v1/tiny.pth"] = File(CONTENT[:-1] + b"!")
    with pytest.raises(FocusDetrError, match=rf"its sha256 is \w+, and not {SHA256}, as was published"):
        fetch(model)
    assert left(cache) == [] and converted == []
    server.files["v1/tiny.pth"] = File(CONTENT)
    assert fetch(model).is_dir()
    assert CHECKSUM not in left(cache)


def test_where_only_its_first_digits_are_published_they_are_held_and_the_rest_recorded(
    model, converted, cache
):
    with pytest.raises(FocusDetrError, match="and not 01234567"):
        fetch(replace(model, sha256="01234567"))
    fetch(replace(model, sha256=SHA256[:8]))
    assert (cache / CHECKSUM).read_text() == f"{SHA256}  tiny.pth\n"


def test_where_none_is_published_the_first_is_recorded_said_and_held(model, server, converted, cache, caplog):
    caplog.set_level(logging.INFO)
    folder = fetch(model)
    assert f"no whole checksum of tiny.pth was published; that of this file, sha256 {SHA256}" in caplog.text
    assert (cache / CHECKSUM).read_text() == f"{SHA256}  tiny.pth\n"
    for path in folder.iterdir():
        path.unlink()
    server.files["v1/tiny.pth"] = File(CONTENT + b" and more")
    with pytest.raises(FocusDetrError, match=f"not {SHA256}, as .*{CHECKSUM} says of the first"):
        fetch(model)
    assert left(cache) == [CHECKSUM]
    (cache / CHECKSUM).unlink()
    assert fetch(model) == folder


def test_a_file_that_is_no_checkpoint_is_removed_and_its_checksum_forgotten(model, server, converted, cache):
    server.files["v1/tiny.pth"] = File(b"we have moved")
    with pytest.raises(FocusDetrError, match="tiny-coco: .*not a readable.*was removed; trying again"):
        fetch(model)
    assert left(cache) == []
    server.files["v1/tiny.pth"] = File(CONTENT)
    assert fetch(model).is_dir()


def test_a_file_of_another_layout_is_refused(model, converted, cache):
    with pytest.raises(FocusDetrError, match="its layout is tiny, and not large"):
        fetch(replace(model, layout="large"))
    assert left(cache) == []


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interrupted_conversion_leaves_nothing_half_and_no_second_download(
    model, server, cache, monkeypatch, converted, ending
):
    def interrupted(source, output, **options):
        output.mkdir()
        (output / "config.json").write_text("{}")
        raise ending

    with monkeypatch.context() as patched:
        patched.setitem(vars(focus_detr.convert), "convert_checkpoint", interrupted)
        with pytest.raises(ending):
            fetch(model)
    assert left(cache) == ["downloads/tiny-coco/tiny.pth"]
    assert fetch(model).is_dir() and len(server.asked) == 1
    assert left(cache) == [CHECKSUM, *WHOLE]


def test_what_a_killed_conversion_left_is_no_model_and_goes(model, cache, converted):
    half = cache / "models" / ".tiny-coco.unfinished"
    half.mkdir(parents=True)
    (half / "config.json").write_text("{")
    assert (fetch(model) / "config.json").read_text() == "{}"
    assert left(cache) == [CHECKSUM, *WHOLE]


def test_a_full_disk_is_said(model, monkeypatch, cache):
    def full(source, output, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(vars(focus_detr.convert), "convert_checkpoint", full)
    with pytest.raises(FocusDetrError, match="tiny-coco: cannot be kept in .*No space left"):
        fetch(model)


def assert_it_says_how_to_go_on(error, model, cache):
    for part in (model.address, str(cache / "by-hand" / "tiny-coco"), "tiny.pth", "download tiny-coco"):
        assert part in str(error.value)
    assert (cache / "by-hand" / "tiny-coco").is_dir()


@pytest.mark.parametrize(
    ("file", "reason"),
    [(File(status=404), "404"), (File(status=500), "500"), (None, "refused")],
)
def test_moved_or_offline_it_says_what_to_get_where_to_put_it_and_how_to_go_on(
    server, converted, cache, file, reason
):
    model = replace(MODEL, base=server.url if file else MODEL.base)
    server.files["v1/tiny.pth"] = file
    with pytest.raises(FocusDetrError, match=reason) as error:
        fetch(model)
    assert_it_says_how_to_go_on(error, model, cache)

    (cache / "by-hand" / "tiny-coco" / "tiny.pth").write_bytes(CONTENT)
    assert fetch(model).is_dir()
    assert "by-hand/tiny-coco/tiny.pth" in left(cache), "a person's file is left alone"


@pytest.mark.parametrize(
    "changes",
    [
        {"base": None, "page": "https://drive.google.com/drive/folders/1qD5m1"},
        {"base": "https://drive.google.com/file/d/1nDWZW/"},
        {"base": "https://pan.baidu.com/s/1/"},
    ],
)
def test_shops_of_files_are_left_to_people(converted, cache, changes):
    model = replace(MODEL, sha256=SHA256, **changes)
    with pytest.raises(FocusDetrError, match=f"a person has to fetch.*sha256 {SHA256}") as error:
        fetch(model)
    assert_it_says_how_to_go_on(error, model, cache)
    (cache / "by-hand" / "tiny-coco" / "tiny.pth").write_bytes(CONTENT)
    assert fetch(model).is_dir()


def test_a_file_put_by_hand_under_another_name_is_told(converted, cache):
    """Some browsers unpack what they download, or number it."""
    (cache / "by-hand" / "tiny-coco").mkdir(parents=True)
    (cache / "by-hand" / "tiny-coco" / "tiny (1).pth").write_bytes(CONTENT)
    with pytest.raises(
        FocusDetrError, match=r"put tiny\.pth into .*there is tiny \(1\)\.pth, which is another"
    ):
        fetch(MODEL)


def test_a_wrong_file_put_by_hand_is_named_and_left_alone(server, converted, cache):
    place = cache / "by-hand" / "tiny-coco"
    place.mkdir(parents=True)
    (place / "tiny.pth").write_bytes(b"another")
    with pytest.raises(FocusDetrError, match="Put the right file into .*by-hand/tiny-coco"):
        fetch(replace(MODEL, sha256=SHA256))
    with pytest.raises(FocusDetrError, match="not a readable torch checkpoint.*Put the right file"):
        fetch(MODEL)
    assert left(cache) == ["by-hand/tiny-coco/tiny.pth"]


def test_what_cannot_be_used_is_not_downloaded(model, server, cache):
    with pytest.raises(FocusDetrError, match="tiny-coco: cannot be used: it is too large"):
        fetch(replace(model, unusable="it is too large"))
    assert server.asked == [] and not cache.exists()


def test_a_cache_that_is_no_folder_is_said(model, cache, monkeypatch):
    cache.write_text("")
    with pytest.raises(FocusDetrError, match="FOCUS_DETR_CACHE .*is not a folder"):
        fetch(model)


def test_the_cache_is_the_platforms_unless_told(monkeypatch, tmp_path):
    monkeypatch.setenv("FOCUS_DETR_CACHE", "~/models")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "models"
    monkeypatch.delenv("FOCUS_DETR_CACHE")
    assert cache_folder().name == "focus-detr"


def test_a_model_that_is_there_needs_no_place_to_write(model, converted, cache):
    folder = fetch(model)
    shutil.rmtree(cache / "checksums")
    shutil.rmtree(cache / "by-hand")
    assert fetch(model) == folder
    assert {path.name for path in cache.iterdir()} == {"downloads", "models"}


SECOND = """
import logging, sys
from types import SimpleNamespace
import focus_detr.convert
from focus_detr.zoo.fetching import fetch
from focus_detr.zoo.published import Published

def convert(source, output, **options):
    output.mkdir()
    (output / "config.json").write_text("{}")
    return SimpleNamespace(layout="tiny")

focus_detr.convert.convert_checkpoint = convert
logging.basicConfig(level="INFO")
print("ready", flush=True)
sys.stdin.readline()
print(fetch(Published("tiny-coco", "Tiny", "tiny", "v1/tiny.pth", "", "", "", "", 0.1, base=sys.argv[1])))
"""


def test_of_two_processes_one_downloads_and_the_other_waits_for_it(server, cache):
    server.files["v1/tiny.pth"].seconds_before = 1
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SECOND, server.url], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        for _ in range(2)
    ]
    for each in both:
        assert each.stdout.readline() == "ready\n"
    for each in both:
        each.stdin.write("\n")
        each.stdin.flush()
    answers = [each.communicate(timeout=60) for each in both]
    assert [answer.strip() for answer, _ in answers] == [str(cache / "models" / "tiny-coco")] * 2
    assert len(server.asked) == 1
    assert sum("waiting for another process" in notes for _, notes in answers) == 1


def test_a_lock_of_a_process_that_was_killed_holds_nobody(server, model, cache, converted):
    server.files["v1/tiny.pth"].seconds_before = 30
    killed = subprocess.Popen(
        [sys.executable, "-c", SECOND, server.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    killed.stdin.write("\n")
    killed.stdin.flush()
    until = time.monotonic() + 60
    while not server.asked and time.monotonic() < until:
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    server.files["v1/tiny.pth"] = File(CONTENT)
    assert fetch(model).is_dir()


def test_weights_of_the_hub_come_by_its_client_with_their_configuration(cache, converted, monkeypatch):
    import huggingface_hub

    asked = []

    def get(hub, name, *, revision, local_dir, tqdm_class):
        asked.append((hub, name, revision))
        (local_dir / name).write_bytes(CONTENT)
        (local_dir / ".cache").mkdir(exist_ok=True)

    def convert(source, output, **options):
        assert {path.name for path in source.iterdir()} >= {"model.safetensors", "config.json"}
        output.mkdir()
        (output / "config.json").write_text("{}")
        return SimpleNamespace(layout="tiny")

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(model_info=lambda *_, **__: None))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", get)
    monkeypatch.setitem(vars(focus_detr.convert), "convert_checkpoint", convert)
    model = replace(
        MODEL, base=None, hub="owner/name", revision="c0ffee", file="model.safetensors", sha256=SHA256
    )
    assert fetch(model).is_dir()
    assert asked == [("owner/name", name, "c0ffee") for name in ("model.safetensors", "config.json")]
    assert left(cache) == ["models/tiny-coco/config.json", f"models/tiny-coco/{RECORD}"]


def test_a_hub_out_of_reach_says_how_to_go_on(cache, monkeypatch):
    import huggingface_hub

    def offline(*_, **__):
        raise OSError("no connection")

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(model_info=offline))
    model = replace(MODEL, base=None, hub="owner/name", revision="c0ffee", file="model.safetensors")
    with pytest.raises(FocusDetrError, match="hub did not give it.*no connection") as error:
        fetch(model)
    assert "model.safetensors and config.json" in str(error.value)
    assert "hf download owner/name model.safetensors config.json --revision c0ffee" in str(error.value)
    assert place_of("tiny-coco").by_hand.is_dir()
