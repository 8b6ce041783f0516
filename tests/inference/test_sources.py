import http.server
import re
import threading
import time

import numpy as np
import pytest
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.inference import BadImage, expand_sources


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.jpg", "sub/c.JPG", ".hidden.png", "notes.txt"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6), "red").save(file, "PNG")
    return tmp_path


def names(sources, root):
    return [str(item.name).removeprefix(f"{root}/") for item in expand_sources(sources)]


def test_folders_are_searched_in_depth_and_order(folder):
    assert names(folder, folder) == ["a.jpg", "b.png", "sub/c.JPG"]
    assert names([str(folder / "sub"), folder / "a.jpg"], folder) == ["sub/c.JPG", "a.jpg"]


def test_patterns(folder):
    assert names(f"{folder}/*.png", folder) == ["b.png"]
    assert names(f"{folder}/**/*.[jJ]*", folder) == ["a.jpg", "sub/c.JPG"]


def test_a_file_named_like_a_pattern_is_a_file(folder):
    Image.new("RGB", (4, 4)).save(folder / "x[1].png")
    assert names(folder / "x[1].png", folder) == ["x[1].png"]


def test_a_named_file_is_read_whatever_its_suffix(folder):
    (item,) = expand_sources(folder / "notes.txt")
    assert item.load().size == (8, 6)


def test_images_in_memory(folder):
    array = np.zeros((6, 8, 3), dtype=np.uint8)
    array[..., 0] = 255
    items = list(expand_sources([Image.open(folder / "a.jpg"), array, array[..., 0], Image.new("L", (3, 3))]))
    assert [item.name for item in items] == [str(folder / "a.jpg"), "image[1]", "image[2]", "image[3]"]
    images = [item.load() for item in items]
    assert {image.mode for image in images} == {"RGB"}
    assert images[1].getpixel((0, 0)) == (255, 0, 0) and images[2].getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3)), np.zeros((3, 9, 9), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_arrays_that_are_no_images_say_what_is_needed(array):
    bad = next(expand_sources([array])).load()
    assert isinstance(bad, BadImage) and "(H,W,3)" in bad.reason and bad.path == "image[0]"


def test_generators_are_consumed_as_needed():
    def frames():
        yield np.zeros((4, 4, 3), np.uint8)
        raise AssertionError("asked for a frame nobody wanted")

    assert next(expand_sources(frames())).load().size == (4, 4)


def test_what_is_missing_is_passed_over_when_there_is_more(folder):
    (folder / "empty").mkdir()
    missing, empty, pattern, ftp, good = expand_sources(
        [folder / "typo.jpg", folder / "empty", f"{folder}/*.gif", "ftp://host/a.jpg", folder / "a.jpg"]
    )
    assert missing.path.endswith("typo.jpg") and "no such file" in missing.reason
    assert "no image" in empty.reason and "no image" in pattern.reason and "ftp" in ftp.reason
    assert good.load().size == (8, 6)


def test_nothing_at_all_is_an_error_before_the_first_image(folder):
    with pytest.raises(FocusDetrError, match="typo.jpg: no such file"):
        expand_sources([folder / "typo.jpg", folder / "other"])
    with pytest.raises(FocusDetrError, match="empty"):
        expand_sources([])
    with pytest.raises(FocusDetrError, match="cannot use int"):
        expand_sources(3)
    with pytest.raises(FocusDetrError, match=r"sources\[0\].*NoneType"):
        expand_sources([None])


def test_damaged_files_are_named_once(folder):
    (folder / "bad.png").write_bytes((folder / "b.png").read_bytes()[:40])
    bad = next(expand_sources(folder / "bad.png")).load()
    assert isinstance(bad, BadImage) and bad.path.endswith("bad.png") and "bad.png" not in bad.reason


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    file = tmp_path_factory.mktemp("web") / "photo.png"
    Image.new("RGB", (8, 6), "blue").save(file)
    photo = file.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if self.path == "/missing" else 200)
            self.end_headers()
            try:
                if self.path == "/photo":
                    self.wfile.write(photo)
                elif self.path == "/page":
                    self.wfile.write(b"<html>no image here</html>")
                elif self.path == "/endless":
                    while True:
                        self.wfile.write(b"x" * 2**16)
                elif self.path == "/slow":
                    for _ in range(100):
                        self.wfile.write(b"x")
                        time.sleep(0.05)
            except OSError:
                pass

        def log_message(self, *args):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.daemon_threads = True
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()


def test_urls(server, folder, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (item,) = expand_sources(f"{server}/photo")
    assert item.name == f"{server}/photo" and item.load().getpixel((0, 0)) == (0, 0, 255)
    (local,) = expand_sources((folder / "a.jpg").as_uri())
    assert local.load().size == (8, 6)


@pytest.mark.parametrize(
    "page, reason",
    [
        ("missing", "404"),
        ("page", "not an image|cannot|damaged"),
        ("endless", "limit of 1 MB"),
        ("slow", "within 0.3 s"),
    ],
)
def test_urls_that_give_no_image_say_why(server, monkeypatch, page, reason):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    bad = next(expand_sources(f"{server}/{page}", timeout=0.3, max_megabytes=1)).load()
    assert isinstance(bad, BadImage)
    assert re.search(reason, bad.reason), bad.reason


def test_a_server_that_is_not_there(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    bad = next(expand_sources("http://127.0.0.1:1/a.jpg", timeout=1)).load()
    assert isinstance(bad, BadImage) and "cannot be downloaded" in bad.reason
