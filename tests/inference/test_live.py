"""Cameras and streams: the newest frame wins, and what was lost is found again."""

import io
import logging
import re
import threading
import time
import zipfile
from contextlib import closing

import pytest
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.inference import BadImage, Predictor, expand_sources
from focus_detr.inference.sources import live
from focus_detr.inference.sources.options import SourceOptions
from helpers.fake_detector import FakeModel, plain_processor
from helpers.file_server import File, serving
from helpers.mjpeg_server import filming, jpeg
from helpers.rtsp_server import streaming
from helpers.videos import frame_of, write_video

pytest.importorskip("av")


@pytest.fixture(autouse=True)
def quick_and_direct(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(live, "_FIRST_WAIT_S", 0.02)


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("capture")]


def test_the_newest_frame_wins_and_says_how_many_came_before():
    with filming(200, seconds_between=0.01) as camera, closing(expand_sources(camera.url)) as frames:
        first = next(frames)
        assert first.name == f"{camera.url}#frame={first.frame.index}" and first.frame.live
        time.sleep(0.5)
        second, third = next(frames), next(frames)
        assert second.frame.index > first.frame.index + 5 and third.frame.index > second.frame.index
        assert second.frame.seconds - first.frame.seconds > 0.1
        assert frame_of(second.load()) == second.frame.index % 20  # its own picture, not one from a queue
        assert len(camera.opened) == 1


def test_a_stream_that_is_left_is_not_called_lost(caplog):
    with filming(500, seconds_between=0.005) as camera, caplog.at_level(logging.WARNING):
        with closing(expand_sources(camera.url)) as frames:
            next(frames)
        assert not threads() and not caplog.records


def test_a_connection_made_while_a_stream_is_left_ends_too():
    with filming(5, 0, silent=True) as camera, live.HttpStream(camera.url, SourceOptions()) as stream:
        with stream.opened():
            stream.hang_up()
        begun = time.monotonic()
        with pytest.raises(EOFError), stream.opened():
            pass
        assert len(camera.opened) == 2 and time.monotonic() - begun < 5  # and not its patience


def test_a_run_that_fails_lets_go_of_its_stream():
    class Broken(FakeModel):
        def forward(self, **_):
            raise RuntimeError("broken")

    with filming(50, silent=True) as camera:
        with pytest.raises(RuntimeError, match="broken") as error:
            next(Predictor(Broken(), plain_processor()).predict(camera.url))
        assert not threads() and error.traceback  # which holds all that was at work


def test_the_last_frame_comes_before_the_end():
    with filming(10, seconds_between=0.01) as camera:
        with closing(expand_sources(camera.url, reconnects=0)) as frames:
            next(frames)
            time.sleep(0.7)
            last, end = frames
        assert last.frame.index == 9 and isinstance(end, BadImage)


def test_a_picture_that_does_not_end_is_not_kept():
    part = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n"
    endless = File(
        2 * (part + jpeg(3) + b"\r\n") + part + bytes(3_000_000),
        headers={"Content-Type": "multipart/x-mixed-replace; boundary=frame"},
        length=False,
    )
    with serving(live=endless) as server:
        *_, end = expand_sources(f"{server.url}live", reconnects=0, max_megabytes=1)
    assert "1 MB, the limit, gave no whole picture" in end.reason


def test_nothing_is_stored_for_who_is_slow():
    with (
        filming(60, seconds_between=0.002, silent=True) as camera,
        closing(expand_sources(camera.url)) as frames,
    ):
        next(frames)
        while camera.given < 60:
            time.sleep(0.01)
        time.sleep(1)
        assert next(frames).frame.index >= 58  # all of the others are gone


def test_a_connection_that_was_cut_is_made_again_and_frames_count_on(caplog):
    with filming(5, 5, 5) as camera, caplog.at_level(logging.WARNING):
        *frames, last = expand_sources(camera.url, reconnects=3)
        indices = [item.frame.index for item in frames]
        assert indices == sorted(set(indices)) and 10 <= indices[-1] <= 14
        assert isinstance(last, BadImage) and re.search(r"#frame=1\d$", last.path)
        assert "503" in last.reason and "not back after 3 attempts" in last.reason
    said = [record.getMessage() for record in caplog.records if "attempt" in record.getMessage()]
    # Each time anew after a success, and then further and further apart.
    assert [line.rpartition("; ")[2] for line in said] == [
        *["attempt 1 in 0.02 s"] * 3, "attempt 2 in 0.04 s", "attempt 3 in 0.08 s"
    ]  # fmt: skip
    assert not threads()


def test_a_stream_that_falls_silent_is_taken_for_lost():
    with filming(3, silent=True) as camera:
        *frames, last = expand_sources(camera.url, timeout=0.3, reconnects=0)
        assert frames and "lost" in last.reason and "timed out" in last.reason


def test_the_thread_ends_with_who_listens():
    with filming(1000) as camera:
        with closing(expand_sources(camera.url)) as frames:
            next(frames)
            assert threads()
        assert not threads()


@pytest.mark.parametrize(
    "name", ["camera:77", "/dev/video77", "camera:", "rtsp://127.0.0.1:1/x", "http://127.0.0.1:1/x.m3u8"]
)
def test_what_cannot_be_opened_is_said_at_once(name):
    begun = time.monotonic()
    with pytest.raises(FocusDetrError, match=f"{name}: cannot be opened"):
        expand_sources(name, timeout=2)
    assert time.monotonic() - begun < 5 and not threads()


@pytest.mark.parametrize(
    ("url", "said"), [("udp://127.0.0.1:1", "nothing came within 0.5 s"), ("nonesuch://x", "its protocol")]
)
def test_why_a_stream_cannot_be_opened_is_said_in_words(url, said):
    options = SourceOptions(timeout=0.5)
    (bad,) = live.live_frames(url, live.network_stream(url, options), options)
    assert said in bad.reason


def test_a_camera_is_a_live_source(monkeypatch):
    """FFmpeg's own test pictures in place of a device."""
    asked = []

    def device(place, options, form, settings):
        asked.append((place, form))
        return original("testsrc=size=64x48:rate=50", options, "lavfi", {})

    original = live._opened
    monkeypatch.setattr(live, "_opened", device)
    monkeypatch.setattr(live.sys, "platform", "linux")
    for name in ("camera:1", "/dev/video1"):
        with closing(expand_sources(name, every=2)) as frames:
            items = [next(frames) for _ in range(3)]
        assert [item.frame.index % 2 for item in items] == [0, 0, 0]
        assert items[0].name.startswith(f"{name}#frame=") and items[0].load().size == (64, 48)
    assert asked == [("/dev/video1", "v4l2")] * 2


def test_rtsp_and_its_end():
    with streaming(frames=20) as url:
        *frames, last = expand_sources(url, reconnects=1, timeout=3)
        assert frames[0].name.startswith(f"{url}#frame=") and frames[0].load().size == (64, 48)
        assert frames[-1].frame.index > 20  # the clip came twice at least, the server being there again
        assert isinstance(last, BadImage)


def test_each_live_frame_goes_to_the_model_as_it_comes():
    with filming(50, silent=True) as camera:
        predictor = Predictor(FakeModel(), plain_processor())
        with closing(predictor.predict(camera.url, batch_size=64)) as results:
            assert next(results).frame.index < 50  # a batch would wait for more than will come


def test_files_of_the_web_are_what_they_are(tmp_path):
    clip, scan, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    write_video(clip, frames=4, format="mp4")
    Image.new("L", (8, 6), 10).save(scan, "TIFF", save_all=True, append_images=[Image.new("L", (8, 6), 20)])
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("in/a.jpg", jpeg(3))
    files = {
        "clip.mp4": File(clip.getvalue()),
        "show": File(clip.getvalue(), headers={"Content-Type": "video/mp4"}),
        "scan.tif": File(scan.getvalue()),
        "all.zip": File(packed.getvalue()),
        "picture": File(jpeg(5)),
    }
    with serving(**files) as server:
        expected = {
            "clip.mp4": [f"#frame={index}" for index in range(4)],
            "show": [f"#frame={index}" for index in range(4)],
            "scan.tif": ["#page=1", "#page=2"],
            "all.zip": ["/in/a.jpg"],
            "picture": [""],
            "none": [""],
        }
        for name, names in expected.items():
            items = list(expand_sources(f"{server.url}{name}?x=1"))
            assert [item.name.removeprefix(f"{server.url}{name}?x=1") for item in items] == names, name
            assert all((name == "none") == isinstance(item.load(), BadImage) for item in items)
        assert [asked for asked, _ in server.asked].count("clip.mp4?x=1") == 1


def test_a_video_without_a_length_and_a_name_is_a_stream():
    clip = io.BytesIO()
    write_video(clip, frames=10, format="mpegts", codec="mpeg2video")
    answer = File(clip.getvalue(), headers={"Content-Type": "video/mp2t"}, length=False)
    with serving(live=answer) as server:
        *frames, last = expand_sources(f"{server.url}live", reconnects=0)
        assert frames and all(item.frame.live for item in frames) and "lost" in last.reason


def test_a_stream_that_is_a_list_of_files_in_truth_opens_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "inside.ts", frames=10, format="mpegts", codec="mpeg2video")
    answer = File(
        b"ffconcat version 1.0\nfile inside.ts\n", headers={"Content-Type": "video/mp4"}, length=False
    )
    with serving(live=answer) as server, pytest.raises(FocusDetrError, match="live: cannot be opened"):
        expand_sources(f"{server.url}live", reconnects=0, timeout=3)


def test_redirects_of_streams_into_private_networks_are_not_followed():
    with filming(5) as camera:
        with serving(to=File(status=302, headers={"Location": camera.url})) as server:
            bad = next(expand_sources(f"{server.url}to")).load()
            assert "private network" in bad.reason
            with closing(expand_sources(f"{server.url}to", private_redirects=True)) as followed:
                assert next(followed).frame.live


def test_passwords_are_used_and_never_shown():
    with filming(3) as camera, pytest.raises(FocusDetrError) as error:
        expand_sources("rtsp://me:secret@127.0.0.1:1/x", timeout=1)
    assert "rtsp://127.0.0.1:1/x" in str(error.value) and "secret" not in str(error.value)
    with serving(picture=File(jpeg(5))) as server:
        (item,) = expand_sources(f"{server.url.replace('//', '//me:s%40crt@')}picture")
        assert item.name == f"{server.url}picture" and item.load().size == (64, 48)
        assert server.headers[-1]["Authorization"] == "Basic bWU6c0BjcnQ="
    address = camera.url.replace("//", "//me:secret@")
    (bad,) = expand_sources(address, timeout=1)
    assert "secret" not in bad.name + bad.load().reason


def test_a_password_goes_to_no_other_host():
    with serving(picture=File(jpeg(5))) as other:
        to = File(status=302, headers={"Location": f"{other.url}picture"})
        with serving(to=to) as server:
            address = f"{server.url.replace('//', '//me:secret@')}to"
            (item,) = expand_sources(address, private_redirects=True)
            assert item.load().size == (64, 48)
        assert server.headers[-1]["Authorization"] and other.headers[-1]["Authorization"] is None
