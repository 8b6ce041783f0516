"""Annotated videos: every frame looked at, with its objects, at its time."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.inference import BadImage, Detections, expand_sources
from focus_detr.pictures.video import CODECS, VideoWriter, best_codec
from focus_detr.structures.frame import Frame
from focus_detr.structures.instances import Instances
from helpers.videos import STEP, frame_of, write_video

av = pytest.importorskip("av")


def result(index, rate: float | None = 10.0, size=(640, 480), video="in/clip.mov", seconds=None, live=False):
    frame = Frame(video, index, index / (rate or 10) if seconds is None else seconds, rate, live)
    return Detections(
        path=frame.name,
        instances=Instances(
            np.array([[64, 64, 400, 400]], np.float32), np.array([0]), np.array([0.9], np.float32)
        ),
        names=["cat"],
        image_size=size[::-1],
        image=Image.new("RGB", size, (STEP * index,) * 3),
        frame=frame,
    )


def write(folder, results, **options):
    with VideoWriter(folder, **options) as writer:
        for each in results:
            writer.add(each)
    return writer


def read(file):
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        assert not container.streams.audio
        frames = [(frame.time, frame.to_image()) for frame in container.decode(stream)]
        return stream, frames


@pytest.mark.parametrize("codec", [None, "mpeg4"])
def test_frames_keep_their_order_time_and_objects(tmp_path, codec):
    writer = write(tmp_path / "out", [result(index) for index in range(12)], codec=codec)
    stream, frames = read(tmp_path / "out" / "clip.mp4")
    assert [time for time, _ in frames] == pytest.approx([index / 10 for index in range(12)])
    assert (stream.average_rate, stream.frames, stream.width, stream.height) == (10, 12, 640, 480)
    corners = [image.crop((560, 0, 640, 30)) for _, image in frames]
    assert [frame_of(image) for image in corners] == list(range(12))
    side = np.asarray(frames[0][1].crop((60, 200, 68, 300)))
    assert side.max() > 200  # of a box, on black
    assert writer.count == 12 and f"12 frames, {codec or best_codec()}" in writer.said[0]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(25, 2), Fraction(179, 6)])
def test_the_rate_is_that_of_the_source(tmp_path, rate):
    write_video(tmp_path / "in.mp4", rate=rate)
    items = expand_sources(tmp_path / "in.mp4")
    write(tmp_path, [replace(result(0), frame=item.frame, image=item.load()) for item in items])
    stream, frames = read(tmp_path / "in.mp4")
    assert stream.average_rate == rate and len(frames) == 20


def test_frames_left_out_leave_the_speed_as_it_is(tmp_path):
    write(tmp_path, [result(index, rate=2.5, seconds=index / 10) for index in range(0, 20, 4)])
    stream, frames = read(tmp_path / "clip.mp4")
    assert stream.average_rate == Fraction(5, 2)
    assert [time for time, _ in frames] == pytest.approx([0, 0.4, 0.8, 1.2, 1.6])


def test_frames_of_a_camera_have_the_times_at_which_they_came(tmp_path):
    times = [0.5, 0.55, 0.9, 2.0]
    write(
        tmp_path, [result(n, None, video="camera:0", seconds=time, live=True) for n, time in enumerate(times)]
    )
    _, frames = read(tmp_path / "camera_0.mp4")
    assert [time for time, _ in frames] == pytest.approx([time - 0.5 for time in times], abs=2e-3)


def test_sides_may_be_odd_and_frames_may_change_size(tmp_path):
    write(tmp_path, [result(0, size=(641, 483)), result(1, size=(641, 483)), result(2, size=(700, 500))])
    stream, frames = read(tmp_path / "clip.mp4")
    assert (stream.width, stream.height, len(frames)) == (642, 484, 3)


def test_each_video_is_a_file_of_its_own_and_pictures_are_none(tmp_path):
    still = replace(result(0), frame=None)
    films = [result(0), result(1), result(0, video="other/clip.mp4"), result(0, video="a.zip/b.mp4")]
    assert (
        write(tmp_path, [still, *films, BadImage("x", "damaged"), replace(result(3), image=None)]).count == 4
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.mp4", "clip-2.mp4", "clip.mp4"]


def test_an_encoder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FocusDetrError, match="no encoder 'nonesuch'"):
        write(tmp_path, [result(0)], codec="nonesuch")
    assert not list(tmp_path.iterdir()) and best_codec() in CODECS
