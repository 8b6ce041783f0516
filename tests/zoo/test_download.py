"""A large file arrives whole, or is refused with the reason; what came of it is not fetched twice."""

import random
import socket

import pytest

from focus_detr.zoo.download import _PIECE, DownloadError, download
from helpers.file_server import File, FileServer

CONTENT = random.Random(0).randbytes(300_000)


@pytest.fixture
def server():
    server = FileServer()
    yield server
    server.close()


@pytest.fixture
def part(tmp_path):
    return tmp_path / "weights.pth.part"


def test_it_comes_whole_and_leaves_nothing_beside_it(server, part):
    server.files["a"] = File(CONTENT)
    download(server.url + "a", part)
    assert part.read_bytes() == CONTENT and list(part.parent.iterdir()) == [part]


def start(asked):
    """Where the part that was asked for begins; the piece that was being read at a cut is lost."""
    return int(asked.removeprefix("bytes=").removesuffix("-"))


@pytest.mark.parametrize("tag", ["strong", "date"])
def test_one_cut_off_twice_goes_on_where_it_stopped(server, part, tag):
    server.files["a"] = File(CONTENT, tag=tag, cuts=[100_000, 70_000])
    download(server.url + "a", part)
    assert part.read_bytes() == CONTENT
    first, *others = [asked for _, asked in server.asked]
    assert first is None
    assert [start(asked) for asked in others] == [
        pytest.approx(cut, abs=_PIECE) for cut in (100_000, 165_000)
    ]


def test_the_next_run_goes_on_too(server, part):
    server.files["a"] = File(CONTENT, cuts=[100_000, 0])
    with pytest.raises(DownloadError, match=r"0\.1 MB are kept, and the next try goes on from there"):
        download(server.url + "a", part)
    download(server.url + "a", part)
    assert part.read_bytes() == CONTENT
    assert start(server.asked[-1][1]) == pytest.approx(100_000, abs=_PIECE)


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, part):
    server.files["a"] = File(b"x" * 300_000, cuts=[100_000, 0])
    with pytest.raises(DownloadError):
        download(server.url + "a", part)
    server.files["a"] = File(CONTENT)
    download(server.url + "a", part)
    assert server.asked[-1][1] is not None and part.read_bytes() == CONTENT


@pytest.mark.parametrize("tag", ["weak", "none"])
def test_where_nobody_vouches_for_the_version_it_begins_anew(server, part, tag):
    server.files["a"] = File(CONTENT, tag=tag, cuts=[100_000, 100_000])
    with pytest.raises(DownloadError) as error:
        download(server.url + "a", part)
    assert "kept" not in str(error.value)
    download(server.url + "a", part)
    assert part.read_bytes() == CONTENT and server.asked[-1] == ("a", None)


def test_a_server_that_knows_no_ranges_sends_all_of_it_again(server, part):
    server.files["a"] = File(CONTENT, cuts=[100_000], ranges=False)
    download(server.url + "a", part)
    assert part.read_bytes() == CONTENT and len(server.asked) == 2


def test_another_part_than_was_asked_for_is_refused(server, part):
    server.files["a"] = File(CONTENT, cuts=[100_000], lie=True)
    with pytest.raises(DownloadError, match="another part"):
        download(server.url + "a", part)
    assert part.stat().st_size == 0


def test_a_whole_file_that_was_never_used_is_fetched_again(server, part):
    """As after a power cut between the last byte and its use."""
    server.files["a"] = File(CONTENT, cuts=[299_999, 0])
    with pytest.raises(DownloadError):
        download(server.url + "a", part)
    part.write_bytes(CONTENT)
    download(server.url + "a", part)
    assert part.read_bytes() == CONTENT
    assert [asked for _, asked in server.asked[-2:]] == ["bytes=300000-", None]


def test_redirects_are_followed(server, part):
    server.files["a"] = File(CONTENT)
    server.files["old"] = File(status=302, headers={"Location": "/older"})
    server.files["older"] = File(status=301, headers={"Location": server.url + "a"})
    download(server.url + "old", part)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (File(status=404), "answered 404"),
        (File(status=403, content=b"<html>\x1b[31m" * 1000), "answered 403"),
        (File(status=503), "answered 503"),
        (File(b"<html>moved</html>", headers={"Content-Type": "text/html; charset=utf-8"}), "a web page"),
        (File(status=302, headers={"Location": "/a"}), "redirects"),
    ],
)
def test_an_answer_that_is_no_file_is_said(server, part, file, message):
    server.files["a"] = file
    with pytest.raises(DownloadError, match=message) as error:
        download(server.url + "a", part)
    assert "\x1b" not in str(error.value) and len(str(error.value)) < 400
    assert not part.exists() or part.stat().st_size == 0


def test_a_redirect_that_gives_up_encryption_is_refused(part):
    import requests

    from focus_detr.zoo.download import _check

    answer = requests.Response()
    answer.status_code, answer.headers["Location"] = 302, "http://example.org/a"
    with pytest.raises(DownloadError, match="from https to http"):
        _check(answer, "https://example.org/a")
    _check(answer, "http://example.org/a")


def test_one_that_crawls_is_given_up_and_what_came_is_kept(server, part):
    server.files["a"] = File(CONTENT, piece=17_000, seconds_between=0.2)
    with pytest.raises(DownloadError, match="less than 1e.06 bytes a second came; .* are kept"):
        download(server.url + "a", part, slowest=1e6, patience=0.3)
    server.files["a"].seconds_between = 0
    download(server.url + "a", part)
    assert part.read_bytes() == CONTENT and server.asked[-1][1] is not None


@pytest.mark.parametrize("length", [True, False])
def test_one_that_is_larger_than_any_model_is_given_up_and_not_kept(server, part, length):
    server.files["a"] = File(CONTENT, length=length)
    with pytest.raises(DownloadError, match="more than 0.0002 GB"):
        download(server.url + "a", part, largest=200_000)
    assert part.stat().st_size == 0
    download(server.url + "a", part, largest=300_000)
    assert part.read_bytes() == CONTENT


def test_one_that_falls_silent_is_given_up(server, part, monkeypatch):
    monkeypatch.setattr("focus_detr.zoo.download._SILENCE", 0.2)
    server.files["a"] = File(CONTENT, seconds_before=1)
    with pytest.raises(DownloadError, match="timed out"):
        download(server.url + "a", part)


def test_no_connection_is_said_in_a_few_words(part):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a"
        with pytest.raises(DownloadError, match="refused") as error:
            download(url, part)
    assert len(str(error.value)) < 200


def test_a_place_that_cannot_be_written_to_is_said(server, tmp_path):
    server.files["a"] = File(CONTENT)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DownloadError, match="directory"):
        download(server.url + "a", tmp_path / "folder")
