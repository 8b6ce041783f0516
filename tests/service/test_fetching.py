"""Pictures behind addresses: of allowed hosts, and never from a private network."""

import socket

import pytest

from focus_detr.service.fetching import is_allowed
from helpers.file_server import File, serving
from helpers.services import file_of, service


@pytest.fixture
def public(monkeypatch):
    """Takes this machine for the open Internet, under the names of example.org."""
    from focus_detr.inference.sources import download

    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        "socket.getaddrinfo",
        lambda host, *rest, **options: look_up(
            "127.0.0.1" if str(host).endswith("example.org") else host, *rest, **options
        ),
    )
    is_public = download._is_public
    monkeypatch.setattr(download, "_is_public", lambda place: place == "127.0.0.1" or is_public(place))


def ask(client, url, path="/v1/detect-url"):
    answer = client.post(path, json={"url": url})
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("host", "port", "hosts", "expected"),
    [
        ("images.example.org", 443, ("images.example.org",), True),
        ("IMAGES.example.org.", 80, ("images.example.org",), True),
        ("images.example.org", 22, ("images.example.org",), False),
        ("images.example.org", 8443, ("images.example.org:8443",), True),
        ("images.example.org", 443, ("images.example.org:8443",), False),
        ("example.org", 443, ("*.example.org",), False),
        ("a.b.example.org", 443, ("*.example.org",), True),
        ("evilexample.org", 443, ("*.example.org",), False),
        ("images.example.org.evil.com", 443, ("images.example.org", "*.example.org"), False),
        ("anything", 443, ("*",), True),
        ("anything", 443, (), False),
    ],
)
def test_hosts_are_matched_whole(host, port, hosts, expected):
    assert is_allowed(host, port, hosts) is expected


def test_a_picture_behind_an_address_is_answered_like_one_that_was_sent(public):
    with serving(**{"a.png": File(file_of())}) as files:
        port = files.url.rsplit(":", 1)[1].strip("/")
        with service(allow_urls=(f"images.example.org:{port}",)) as client:
            status, answer = ask(client, f"http://images.example.org:{port}/a.png")
            other, refused = ask(client, f"http://other.example.org:{port}/a.png")
            assert "/v1/detect-url" in client.get("/openapi.json").json()["paths"]
            assert client.state.room.used == 0
    assert status == 200 and [each["class"] for each in answer["detections"]] == ["red", "green"]
    assert other == 403 and refused["error"]["code"] == "host_not_allowed"
    assert len(files.asked) == 1


def test_nothing_is_fetched_unless_hosts_are_allowed():
    with service() as client:
        status, answer = ask(client, "http://127.0.0.1/a.png")
        assert "/v1/detect-url" not in client.get("/openapi.json").json()["paths"]
    assert status == 404 and answer["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "inside.example.com"]
)
def test_no_private_address_is_asked_whoever_is_allowed(name, monkeypatch):
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        "socket.getaddrinfo",
        lambda host, *rest, **options: look_up(
            "127.0.0.1" if host == "inside.example.com" else host, *rest, **options
        ),
    )
    with serving(**{"a.png": File(file_of())}) as files:
        port = files.url.rsplit(":", 1)[1].strip("/")
        # The pattern for any host knows the usual ports alone.
        monkeypatch.setattr("focus_detr.service.fetching._PORTS", (int(port),))
        with service(allow_urls=("*",)) as client:
            status, answer = ask(client, f"http://{name}:{port}/a.png")
    assert status == 422 and answer["error"]["code"] == "not_fetched"
    assert "127" not in answer["error"]["message"]
    assert files.asked == []


def test_a_redirect_is_held_to_the_same_rules(public):
    with serving() as files:
        port = files.url.rsplit(":", 1)[1].strip("/")
        for name, target in {
            "inside": f"http://192.168.7.7:{port}/a.png",
            "metadata": "http://169.254.169.254/latest",
            "elsewhere": f"http://other.example.org:{port}/a.png",
            "file": "file:///etc/passwd",
        }.items():
            files.files[name] = File(status=302, headers={"Location": target})
        with service(allow_urls=(f"images.example.org:{port}",), url_timeout=2) as client:
            found = {name: ask(client, f"http://images.example.org:{port}/{name}") for name in files.files}
    for status, answer in found.values():
        assert status == 422 and answer["error"]["code"] == "not_fetched"
        assert "192.168" not in answer["error"]["message"]
    assert [path for path, _ in files.asked] == list(found)


def test_no_proxy_is_used_for_addresses_of_strangers(public, monkeypatch):
    with serving(**{"a.png": File(file_of())}) as files, serving() as proxy:
        port = files.url.rsplit(":", 1)[1].strip("/")
        monkeypatch.setenv("http_proxy", proxy.url)
        with service(allow_urls=(f"images.example.org:{port}",)) as client:
            assert ask(client, f"http://images.example.org:{port}/a.png")[0] == 200
    assert proxy.asked == []


@pytest.mark.parametrize(
    "url", ["", "ftp://images.example.org/a", "file:///etc/passwd", "http://[::1", "http://", "x"]
)
def test_what_is_no_address_is_refused(url):
    with service(allow_urls=("images.example.org",)) as client:
        status, answer = ask(client, url)
    assert status == 422 and answer["error"]["code"] == "invalid_parameter"


def test_too_much_and_no_picture_are_said(public):
    content = {"large": File(b"x" * 2_000_000), "text": File(b"hello")}
    with serving(**content) as files:
        port = files.url.rsplit(":", 1)[1].strip("/")
        with service(allow_urls=(f"images.example.org:{port}",), max_megabytes=1) as client:
            large, text = (ask(client, f"http://images.example.org:{port}/{name}") for name in content)
    assert large[0] == 422 and large[1]["error"]["code"] == "not_fetched"
    assert text[0] == 422 and text[1]["error"]["code"] == "unreadable_picture"
