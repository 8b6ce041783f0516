import contextlib
import http.server
import re
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.inference import BadImage, expand_sources
from focus_detr.inference.sources.download import download
from focus_detr.inference.sources.files import images_of, source_entries
from focus_detr.inference.sources.named import NamedImage, Series
from focus_detr.inference.sources.options import SourceOptions


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


def test_what_breaks_in_one_file_ends_no_run(folder):
    """Whatever a decoder raises, and wherever."""

    def broken():
        yield NamedImage("clip#frame=0", lambda: Image.new("RGB", (8, 6)))
        raise OSError(22, "Invalid argument")

    entries = [Series("clip", broken), *source_entries(folder / "a.jpg", SourceOptions())]
    first, bad, last = images_of(entries)
    assert first.load().size == last.load().size == (8, 6)
    assert (bad.path, bad.reason) == ("clip", "OSError: [Errno 22] Invalid argument")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose pages are answers that servers give, in good and bad faith."""
    file = tmp_path_factory.mktemp("web") / "photo.png"
    Image.new("RGB", (8, 6), "blue").save(file)
    photo = file.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            page, _, rest = self.path[1:].partition("?")
            try:
                getattr(self, f"give_{page}", self.give_other)(rest)
            except OSError:
                pass

        def give_other(self, _):
            self.send_response(404)
            self.end_headers()

        def give(self, content):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def give_photo(self, _):
            self.give(photo)

        def give_page(self, _):
            self.give(b"<html>no image here</html>")

        def give_endless(self, _):
            self.give(b"")
            while True:
                self.wfile.write(b"x" * 2**16)

        def give_slow(self, _):
            self.give(b"")
            self.drip(b"x" * 200)

        def give_slow_chunks(self, _):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            self.drip(b"1\r\nx\r\n" * 40)

        def give_slow_status(self, _):
            self.drip(b"HTTP/1.1 200 " + b"O" * 200)

        def give_slow_headers(self, _):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            self.drip(b"X-A: b\r\n" * 40)

        def give_silent(self, _):
            time.sleep(3)

        def give_slow_redirects(self, rest):
            time.sleep(0.15)
            self.redirect(f"/slow_redirects?{int(rest or 0) + 1}")

        def give_to(self, rest):
            self.redirect(rest)

        def give_rude(self, _):
            self.wfile.write(b"HTTP/1.1 500 \x1b[31mred\x07" + b"long " * 5000 + b"\r\n\r\n")

        def give_odd_length(self, _):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n" + photo)

        def give_nonsense(self, _):
            self.wfile.write(b"\x00\x1b[31m\xff\r\n\r\n")

        def redirect(self, place):
            self.send_response(302)
            self.send_header("Location", place)
            self.end_headers()

        def drip(self, content):
            for byte in content:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)

        def log_message(self, *args):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.daemon_threads = True
    threading.Thread(target=web.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()


def test_urls(server, folder):
    (item,) = expand_sources(f"{server}/photo")
    assert item.name == f"{server}/photo" and item.load().getpixel((0, 0)) == (0, 0, 255)
    (local,) = expand_sources((folder / "a.jpg").as_uri())
    assert local.load().size == (8, 6)


@pytest.mark.parametrize(
    "page, reason",
    [
        ("missing", "404"),
        ("page", "^is SVG, XML or HTML"),
        ("endless", "limit of 1 MB"),
        ("nonsense", "cannot be downloaded"),
        ("to?gopher://x", "cannot be downloaded|answered 302"),
        ("to?file:///etc/hostname", "cannot be downloaded|answered 302"),
        ("to?http://[::1", "cannot be downloaded"),
    ],
)
def test_urls_that_give_no_image_say_why(server, page, reason):
    bad = next(expand_sources(f"{server}/{page}", timeout=2, max_megabytes=1)).load()
    assert isinstance(bad, BadImage)
    assert re.search(reason, bad.reason), bad.reason


@pytest.mark.parametrize(
    "page", ["slow", "slow_chunks", "slow_status", "slow_headers", "silent", "slow_redirects"]
)
def test_the_time_limit_is_for_the_whole_download(server, page):
    start = time.monotonic()
    bad = next(expand_sources(f"{server}/{page}", timeout=0.4, private_redirects=True)).load()
    assert "not downloaded within 0.4 s" in bad.reason
    assert time.monotonic() - start < 1.5


def test_a_name_that_no_resolver_answers_for_ends_in_time(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("socket.getaddrinfo", lambda *arguments, **options: time.sleep(3))
    start = time.monotonic()
    bad = next(expand_sources("http://example.org/a.jpg", timeout=0.2)).load()
    assert "not downloaded within 0.2 s" in bad.reason and time.monotonic() - start < 1.5


def test_redirects_into_private_networks_are_followed_on_request_only(server):
    bad = next(expand_sources(f"{server}/to?{server}/photo")).load()
    assert re.search(r"redirects to 127.0.0.1 .*private network.*private_redirects=True", bad.reason)
    assert next(expand_sources(f"{server}/to?{server}/photo", private_redirects=True)).load().size == (8, 6)


@pytest.mark.parametrize(
    "address",
    "127.0.0.1 localhost 169.254.169.254 10.1.2.3 192.168.0.1 172.16.0.1 100.64.0.1 0.0.0.0 2130706433 "
    "0x7f.1 [::1] [fe80::1] [fd00::1] [::ffff:127.0.0.1] [64:ff9b::7f00:1] [2002:7f00:1::] 224.0.0.1 "
    "[::7f00:1] [::ffff:0:7f00:1] [fec0::1] [64:ff9b:1::7f00:1] [5f00::1] [3fff::1] 192.0.0.8".split(),
)
def test_no_private_address_is_reached_by_a_redirect(server, address, monkeypatch):
    connected, connect = [], socket.socket.connect
    monkeypatch.setattr(
        socket.socket, "connect", lambda self, place: connected.append(place[0]) or connect(self, place)
    )
    bad = next(expand_sources(f"{server}/to?http://{address}:9/", timeout=2)).load()
    assert isinstance(bad, BadImage)
    assert "private network" in bad.reason or "looked up" in bad.reason or "Name or" in bad.reason
    assert connected == ["127.0.0.1"]  # the server alone


def test_a_public_address_is_reached_by_a_redirect(server, monkeypatch):
    """Names are looked up once: what was found public is what is connected to."""
    place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 80))
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        "socket.getaddrinfo",
        lambda host, *rest, **options: [place] if host == "open.example" else look_up(host, *rest, **options),
    )
    connected, connect = [], socket.socket.connect

    def recorded(self, address):
        connected.append(address[0])
        if address[0] != "127.0.0.1":
            raise OSError("no route")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", recorded)
    bad = next(expand_sources(f"{server}/to?http://open.example/", timeout=2)).load()
    assert "no route" in bad.reason and connected == ["127.0.0.1", "93.184.216.34"]


def test_a_port_that_there_is_not_is_no_other_one(server):
    address = f"http://127.0.0.1:{int(server.rpartition(':')[2]) + 2**16}/photo"
    assert "there is no port" in next(expand_sources(address)).load().reason


def test_what_an_address_holds_itself_is_said_and_a_file_of_another_machine(folder):
    items = list(
        expand_sources(["data:image/png;base64," + "A" * 5000, f"file://host{folder}/a.jpg", folder])
    )
    bad = {item.path: item.reason for item in items if isinstance(item, BadImage)}
    (inline, reason), (_, other) = bad.items()
    assert len(inline) < 150 and "write it to a file" in reason and "another machine, host" in other
    (local,) = expand_sources(f"file://localhost{folder}/a.jpg")
    assert local.load().size == (8, 6)


def test_pictures_of_phones_are_said_where_a_folder_is_searched(folder):
    (folder / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    bad = [found for item in expand_sources(folder) if isinstance(found := item.load(), BadImage)]
    assert any(each.path.endswith("IMG_1.HEIC") and each.reason.startswith("is HEIC") for each in bad)


def test_what_a_server_says_is_cut_and_escaped(server):
    bad = next(expand_sources(f"{server}/rude")).load()
    assert "500" in bad.reason and "\\x1b[31mred\\x07" in bad.reason
    assert bad.reason.isprintable() and len(bad.reason) < 400


def test_a_length_that_is_no_number_does_not_matter(server):
    assert next(expand_sources(f"{server}/odd_length")).load().size == (8, 6)


@pytest.mark.parametrize(
    "name",
    [
        "http://[::1",
        "http://",
        "https://a b/c",
        "http://\ud800/",
        "http://x:port/",
        "http://\u732b.invalid/\u732b",
    ]
    + [
        "file://[",
        "file://host/\0",
        "://",
        "x://[y.png",
        "a\0b.png",
        "n" * 5000,
        "~nobody-here/a.png",
        "\udcff",
    ],
)
def test_names_that_are_none_are_passed_over(name, folder, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    *items, good = expand_sources([name, folder / "a.jpg"], timeout=2)
    (bad,) = [item if isinstance(item, BadImage) else item.load() for item in items]
    assert isinstance(bad, BadImage) and bad.reason
    assert good.load().size == (8, 6)


def test_the_home_folder_by_its_sign(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert names("~/a.jpg", folder) == names(folder / "a.jpg", folder) == ["a.jpg"]
    assert names("~/*.png", folder) == ["b.png"]


def test_a_picture_above_the_limit_is_passed_over(folder):
    bad = next(expand_sources(folder / "a.jpg", max_pixels=47)).load()
    assert "above the limit" in bad.reason
    with pytest.raises(FocusDetrError, match="max_pixels=0: must be a number above 0"):
        expand_sources(folder, max_pixels=0)


def test_a_picture_without_pixels_is_passed_over():
    assert "no pixels" in next(expand_sources([Image.new("RGB", (0, 4))])).load().reason


def test_a_server_that_is_not_there(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    bad = next(expand_sources("http://127.0.0.1:1/a.jpg", timeout=1)).load()
    assert isinstance(bad, BadImage) and "cannot be downloaded" in bad.reason


@pytest.mark.parametrize("answer", [b"HTTP/1.0 200 OK\r\n\r\n", None])
def test_https_begins_with_tls_and_ends_at_the_deadline(answer, monkeypatch):
    """A server that knows no TLS, or says nothing at all, is met by TLS's greeting and an error of ours."""
    monkeypatch.setenv("no_proxy", "*")
    greetings = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve():
            channel, _ = server.accept()
            with channel:
                greetings.append(channel.recv(3))
                if answer is not None:
                    channel.sendall(answer)
                with contextlib.suppress(ConnectionError):
                    while channel.recv(10_000):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        said = "not downloaded within 1 s" if answer is None else "cannot be downloaded .*(SSL|TLS)"
        with pytest.raises(FocusDetrError, match=said):
            download(f"https://127.0.0.1:{port}/a.png", timeout=1, max_megabytes=1, private_redirects=False)
    assert greetings[0][:2] == b"\x16\x03"  # a handshake record
