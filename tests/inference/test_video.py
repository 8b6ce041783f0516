"""Videos as sources: every frame in order, with index and time; damage is said at its place."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.inference import BadImage, expand_sources
from helpers.videos import frame_of, write_video

pytest.importorskip("av")


@pytest.fixture
def clip(tmp_path):
    write_video(tmp_path / "clip.mp4", movflags="+faststart")
    return tmp_path / "clip.mp4"


def frames_of(*sources, **options):
    """(index, seconds, which frame its pixels show) of each; a `BadImage` as it is."""
    items = expand_sources(list(map(str, sources)), **options)
    return [
        item if isinstance(item, BadImage) else (item.frame.index, item.frame.seconds, frame_of(item.load()))
        for item in items
    ]


def test_every_frame_comes_in_order_with_its_index_and_time(clip):
    assert frames_of(clip) == [(index, pytest.approx(index / 10), index) for index in range(20)]
    first, second, *_ = expand_sources(clip)
    assert second.name == f"{clip}#frame=1" and second.load().size == (64, 48)
    assert (second.frame.video, second.frame.rate, second.frame.live) == (str(clip), 10.0, False)


@pytest.mark.parametrize(
    ("options", "indices"),
    [
        ({"every": 7}, [0, 7, 14]),
        ({"every": 100}, [0]),
        ({"fps": 2}, [0, 5, 10, 15]),
        ({"fps": 4}, [0, 3, 5, 8, 10, 13, 15, 18]),
        ({"fps": 10}, list(range(20))),
        ({"fps": 1000}, list(range(20))),
        ({"fps": 0.5}, [0]),
    ],
)
def test_frames_are_chosen_by_number_or_rate(clip, options, indices):
    assert [index for index, _, _ in frames_of(clip, **options)] == indices
    rate = next(expand_sources(clip, **options)).frame.rate
    assert rate == (10 / options["every"] if "every" in options else min(10, options["fps"]))


def test_times_that_are_rounded_lose_no_frame(tmp_path):
    write_video(tmp_path / "clip.mkv", rate=30)  # Matroska counts milliseconds
    assert len(frames_of(tmp_path / "clip.mkv", fps=30)) == 20


def test_frames_that_do_not_come_evenly_have_the_time_they_were_taken(tmp_path):
    times = [0, 0.1, 0.2, 0.9, 1.0, 2.5]
    write_video(tmp_path / "clip.mkv", frames=6, times=times)
    assert [(index, seconds) for index, seconds, _ in frames_of(tmp_path / "clip.mkv")] == [
        (index, pytest.approx(time)) for index, time in enumerate(times)
    ]
    assert [seconds for _, seconds, _ in frames_of(tmp_path / "clip.mkv", fps=1)] == pytest.approx(
        [0, 1.0, 2.5]
    )


@pytest.mark.parametrize(
    "options",
    [
        {"every": 0},
        {"every": 1.5},
        {"every": True},
        {"fps": 0},
        {"fps": float("nan")},
        {"every": 2, "fps": 3},
    ],
)
def test_choices_of_frames_that_cannot_be_are_refused(clip, options):
    with pytest.raises(FocusDetrError, match=next(iter(options))):
        expand_sources(clip, **options)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_video_is_turned_upright(tmp_path, turn):
    """By the matrix of its track, as phones write it."""
    import av

    picture = Image.new("RGB", (64, 48), "black")
    picture.paste("white", (0, 0, 16, 12))
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[turn]
    content = bytearray((tmp_path / "clip.mp4").read_bytes())
    matrix = np.array([cosine, sine, 0, -sine, cosine, 0, 0, 0, 16384], dtype=">i4") * 65536
    place = content.index(b"tkhd") + 44
    content[place : place + 36] = matrix.astype(">i4").tobytes()
    (tmp_path / "clip.mp4").write_bytes(content)

    (item,) = expand_sources(tmp_path / "clip.mp4")
    # The matrix turns clockwise; Pillow the other way.
    wanted = np.asarray(picture.rotate(-turn, expand=True).convert("L"), dtype=float)
    found = np.asarray(item.load().convert("L"), dtype=float)
    assert found.shape == wanted.shape and np.abs(found - wanted).mean() < 8


def test_behind_damage_what_can_be_decoded_goes_on(clip, tmp_path):
    content = bytearray(clip.read_bytes())
    packets = packets_of(clip)
    for number in (7, 8):
        place, size = packets[number]
        content[place : place + size] = b"\xff" * size
    (tmp_path / "bad.mp4").write_bytes(content)
    found = frames_of(tmp_path / "bad.mp4")
    (bad,) = [item for item in found if isinstance(item, BadImage)]
    assert bad.path.endswith("bad.mp4#frame=7") and "damaged here" in bad.reason
    indices = [item[0] for item in found if not isinstance(item, BadImage)]
    assert indices[:7] == list(range(7)) and indices[-10:] == list(range(10, 20))
    assert found[-1] == (19, pytest.approx(1.9), 19)


def test_a_video_that_is_cut_short_gives_what_is_there_and_says_so(clip, tmp_path):
    place, _ = packets_of(clip)[12]
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:place])
    *found, bad = frames_of(tmp_path / "cut.mp4")
    assert [index for index, _, _ in found] == list(range(12))
    assert bad.path.endswith("cut.mp4#frame=12") and "cut short: 12 of 20 frames" in bad.reason


def test_a_matroska_file_that_is_cut_short_says_so(tmp_path):
    write_video(tmp_path / "clip.mkv", frames=20, rate=2)
    content = (tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    assert all(not isinstance(item, BadImage) for item in frames_of(tmp_path / "clip.mkv"))
    *found, bad = frames_of(tmp_path / "cut.mkv")
    assert 2 < len(found) < 18 and "cut short" in bad.reason and "of 10.0 seconds" in bad.reason


def test_what_is_no_video_is_passed_over(clip, tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "no_index.mp4").write_bytes(clip.read_bytes()[:40])
    found = frames_of(*(tmp_path / name for name in ("text.mp4", "empty.mp4", "no_index.mp4")), clip)
    assert [Path(item.path).name for item in found[:3]] == ["text.mp4", "empty.mp4", "no_index.mp4"]
    for item, reason in zip(
        found, ("cannot be read as a video", "is empty", "as a video|no video"), strict=False
    ):
        assert re.search(reason, item.reason)
    assert len(found) == 23


def test_a_video_without_a_frame_is_said(tmp_path):
    write_video(tmp_path / "whole.mkv", frames=4)
    content = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "head.mkv").write_bytes(
        content[: content.index(b"\x1f\x43\xb6\x75") + 24]
    )  # its first cluster
    (bad,) = frames_of(tmp_path / "head.mkv")
    assert bad.path.endswith("head.mkv") and "no frame that can be read" in bad.reason


@pytest.mark.parametrize("name", ["list.mp4", "list.ts"])
def test_a_playlist_in_disguise_opens_nothing(clip, tmp_path, name):
    (tmp_path / name).write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{clip}\n#EXTINF:9,\nfile://{clip}\n#EXT-X-ENDLIST\n"
    )
    (bad,) = frames_of(tmp_path / name)
    assert isinstance(bad, BadImage)


def test_folders_and_patterns_find_videos_between_pictures(clip, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "d.png")
    names = [item.name.removeprefix(f"{tmp_path}/") for item in expand_sources(tmp_path, every=10)]
    assert names == ["a.png", "clip.mp4#frame=0", "clip.mp4#frame=10", "d.png"]
    assert len(frames_of(tmp_path / "*.mp4")) == 20


def test_frames_above_the_limit_are_passed_over(clip):
    bad = next(expand_sources(clip, max_pixels=64 * 48 - 1)).load()
    assert bad.path == f"{clip}#frame=0" and "above the limit" in bad.reason


def test_without_pyav_the_extra_is_named_and_pictures_go_on(clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FocusDetrError, match=r"clip.mp4: videos need .*focus-detr\[video\]"):
        expand_sources(clip)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    bad, good = expand_sources([clip, tmp_path / "a.png"])
    assert "focus-detr[video]" in bad.reason and good.load().size == (8, 8)


def packets_of(file):
    """Place and size in the file of each frame's bytes."""
    import av

    with av.open(str(file)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
