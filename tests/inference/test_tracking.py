"""Tracking: numbers that stay, boxes between detections, counts at lines and in zones."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from focus_detr.data import load_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.inference import Predictor, write_crops, write_voc, write_yolo
from focus_detr.inference.results import BadImage, Detections
from focus_detr.inference.sources.named import NamedImage
from focus_detr.inference.tracking import Counts, Line, Tracking, Zone
from focus_detr.inference.writers import write_coco, write_csv, write_jsonl
from focus_detr.structures.frame import Frame
from focus_detr.structures.instances import Instances
from helpers.fake_detector import CLASS_NAMES, FakeModel, picture, plain_processor

pytest.importorskip("trackers")


def result(*objects, frame=0, video="clip.mp4", rate=10.0, size=(200, 300), ids=None):
    """Objects as (label, score, left, top, right, bottom)."""
    rows = np.array(objects, dtype=np.float32).reshape(-1, 6)
    instances = Instances(rows[:, 2:], rows[:, 0].astype(int), rows[:, 1])
    if ids is not None:
        instances = replace(instances, track_ids=np.array(ids))
    place = Frame(video, frame, frame / rate if rate else 0.0, rate)
    return Detections(place.name, instances, CLASS_NAMES, size, frame=place)


def followed(tracking, results):
    out = []
    for each in results:
        place = tracking.place(each.frame)
        out.append(
            tracking.follow(each if place.detected else replace(each, instances=each.instances[:0]), place)
        )
    return out


def at(x, y=50, label=0, score=0.9, side=20):
    return (label, score, x, y, x + side, y + side)


def numbers(results):
    return [each.track_ids.tolist() for each in results]


def test_objects_keep_their_numbers_as_they_move_and_pass_each_other():
    frames = [result(at(10 + 6 * i), at(200 - 6 * i, 100), frame=i) for i in range(20)]
    ids = numbers(followed(Tracking(0.5, CLASS_NAMES), frames))
    assert ids[0] == [-1, -1] and ids[1:] == [[1, 2]] * 19


def test_an_object_that_is_faint_or_missed_for_a_while_keeps_its_number():
    frames = [result(at(10 + 2 * i, score=0.3 if i in (4, 5) else 0.9), frame=i) for i in range(14)]
    for i in (8, 9):
        frames[i] = result(frame=i)
    ids = numbers(followed(Tracking(0.5, CLASS_NAMES), frames))
    assert ids == [[-1], *[[1]] * 7, [], [], *[[1]] * 4]


def test_what_is_faint_and_of_no_track_is_not_reported():
    frames = [result(at(10, score=0.3), frame=i) for i in range(5)]
    assert numbers(followed(Tracking(0.5, CLASS_NAMES), frames)) == [[]] * 5
    by_class = Tracking({0: 0.2, 1: 0.5}, CLASS_NAMES)
    frames = [result(at(10, score=0.3), at(100, label=1, score=0.3), frame=i) for i in range(3)]
    assert numbers(followed(by_class, frames)) == [[-1], [1], [1]]
    assert by_class.detection_threshold == pytest.approx({0: 0.1, 1: 0.25})


def test_an_object_gone_for_long_gets_a_new_number():
    frames = [result(at(10), frame=i) if i < 4 or i > 24 else result(frame=i) for i in range(28)]
    ids = numbers(followed(Tracking(0.5, CLASS_NAMES), frames))
    assert ids[3] == [1] and ids[-1] == [2]


def test_each_video_has_tracks_of_its_own():
    frames = [result(at(10 + i), frame=i, video=name) for i in range(4) for name in ("a.mp4", "b.mp4")]
    frames += [result(at(10 + i), frame=i, video="a.mp4") for i in range(2)]  # once more, from its start
    ids = numbers(followed(Tracking(0.5, CLASS_NAMES), frames))
    assert ids == [[-1], [-1], *[[1]] * 6, [-1], [1]]


@pytest.mark.parametrize("rate", [10.0, None])
def test_between_detections_boxes_move_as_their_tracks_did(rate):
    every = [result(at(20 + 5 * i, side=60), frame=i, rate=rate) for i in range(40)]
    out = followed(Tracking(0.5, CLASS_NAMES, detect_every=4), every)
    assert [each.foretold for each in out] == [i % 4 != 0 for i in range(40)]
    assert numbers(out)[:5] == [[-1], [], [], [], [1]]
    for i in range(20, 40):  # as soon as the motion is known
        assert out[i].track_ids.tolist() == [1] and out[i].scores == pytest.approx([0.9])
        np.testing.assert_allclose(out[i].boxes_xyxy, every[i].boxes_xyxy, atol=1.0)
    assert out[20].to_dict().get("foretold") is None and out[21].to_dict()["foretold"] is True


def test_a_box_foretold_beyond_the_picture_is_cut_or_gone():
    frames = [result(at(180 + 7 * i, side=60), frame=i) for i in range(9)]
    frames += [result(frame=i) for i in range(9, 12)]
    boxes = [each.boxes_xyxy for each in followed(Tracking(0.5, CLASS_NAMES, detect_every=4), frames)]
    assert len(boxes[11]) == 1 and boxes[11][0, 2] == 300
    assert all((each[:, 2:] > each[:, :2]).all() for each in boxes)


class Moving:
    """Frames of a red rectangle that moves, and a green one that rests."""

    def __init__(self, frames, video="clip.mp4"):
        self.frames, self.video = frames, video

    def items(self):
        for i in range(self.frames):
            image = picture(96, 64, red=(4 + 2 * i, 8, 24 + 2 * i, 28), green=(40, 40, 60, 56))
            place = Frame(self.video, i, i / 10, 10.0)
            yield NamedImage(place.name, lambda image=image: image, frame=place)


def tracked(monkeypatch, frames, batch_size=1, **options):
    monkeypatch.setattr("focus_detr.inference.predictor.images_of", lambda entries: Moving(frames).items())
    model = FakeModel()
    finder = Predictor(model, plain_processor())
    return list(finder.predict(Image.new("RGB", (8, 8)), batch_size=batch_size, track=True, **options)), model


@pytest.mark.parametrize("detect_every", [1, 3])
def test_results_do_not_depend_on_the_batch(monkeypatch, detect_every):
    results = [
        tracked(monkeypatch, 13, size, detect_every=detect_every, threshold=0.5)[0] for size in (1, 2, 5)
    ]
    assert len(results[0]) == 13 and set(numbers(results[0])[-1]) == {1, 2}
    for other in results[1:]:
        assert numbers(other) == numbers(results[0])
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_allclose(one.boxes_xyxy, two.boxes_xyxy, atol=1e-3)


def test_only_every_nth_frame_is_detected_and_whole_batches_of_them(monkeypatch):
    results, model = tracked(monkeypatch, 20, batch_size=2, detect_every=5, threshold=0.5, keep_images=True)
    assert model.batch_sizes == [2, 2]
    assert len(results) == 20 and all(each.image is not None for each in results)


def test_classes_are_tracked_as_they_are_reported(monkeypatch):
    results, _ = tracked(monkeypatch, 6, classes={"red": "thing"}, detect_every=2)
    assert {tuple(each.class_names) for each in results[2:]} == {("thing",)}
    assert all(each.names == ("thing", "green") for each in results)


def test_pictures_of_no_video_are_predicted_as_ever():
    (found,) = Predictor(FakeModel(), plain_processor()).predict(picture(red=(4, 4, 20, 12)), track=True)
    assert found.track_ids is None and found.class_names == ["red"] and "track_id" not in str(found.to_dict())


def test_every_output_has_the_numbers(tmp_path):
    found = [result(at(10), at(50), ids=[7, -1]), result(at(10), frame=1)]
    write_jsonl(found, tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [item.get("track_id") for item in lines[0]["objects"]] == [7, None]
    write_csv(found, tmp_path / "a.csv")
    rows = [line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines()]
    assert rows[0][-1] == "track_id" and [row[-1] for row in rows[1:]] == ["7", "", ""]
    write_coco(found, tmp_path / "a.json")
    entries = json.loads((tmp_path / "a.json").read_text())
    assert [entry.get("attributes") for entry in entries] == [{"track_id": 7}, None, None]
    assert found[0].to_supervision().tracker_id.tolist() == [7, -1]


def test_every_folder_of_labels_and_crops_has_the_numbers(tmp_path):
    image = Image.new("RGB", (300, 200))
    found = [replace(result(at(10), at(50), ids=[7, -1]), image=image), replace(result(at(10)), image=image)]
    write_yolo(found[:1], tmp_path / "yolo")
    assert (tmp_path / "yolo" / "tracks" / "clip-frame0.txt").read_text() == "7\n\n"
    assert load_dataset(tmp_path / "yolo", split="train")[0].instances.labels.tolist() == [0, 0]
    write_yolo(found[:1], tmp_path / "scored", scores=True)
    rows = (tmp_path / "scored" / "labels" / "clip-frame0.txt").read_text().splitlines()
    # A seventh number would make a triangle of a box, for who learns from it.
    assert [row.split()[5:] for row in rows] == [["0.900000"], ["0.900000"]]
    assert (tmp_path / "scored" / "tracks" / "clip-frame0.txt").read_text() == "7\n\n"
    write_yolo(found[1:], tmp_path / "untracked")
    assert not (tmp_path / "untracked" / "tracks").exists()
    write_voc(found[:1], tmp_path / "voc")
    root = ElementTree.parse(tmp_path / "voc" / "Annotations" / "clip-frame0.xml").getroot()
    attributes = [node.find("attributes/attribute") for node in root.iter("object")]
    assert [attributes[0].findtext(part) for part in ("name", "value")] == ["track_id", "7"]
    assert attributes[1] is None
    assert len(load_dataset(tmp_path / "voc", split="train")[0].instances) == 2
    write_crops(found, tmp_path / "crops")
    names = {path.name for path in (tmp_path / "crops" / "red").iterdir()}
    assert names == {"clip-frame0-1-track7.jpg", "clip-frame0-2.jpg", "clip-frame0-2-1.jpg"}


def moving(path, label=0, number=1, side=20):
    """Results of one object whose centre takes these places."""
    return [
        result((label, 0.9, x - side / 2, y - side / 2, x + side / 2, y + side / 2), frame=i, ids=[number])
        for i, (x, y) in enumerate(path)
    ]


def counted(results, **what):
    counts = Counts(**what)
    for each in results:
        counts.add(each)
    (video,) = counts.to_list()
    return video


LINE = Line((100, 0), (100, 100))  # downwards: its right is where x is small


@pytest.mark.parametrize(
    ("path", "to_right", "to_left"),
    [
        ([(60, 50), (90, 50), (110, 50), (140, 50)], {}, {"red": 1}),
        ([(140, 50), (60, 50)], {"red": 1}, {}),  # in one step
        ([(60, 50), (99, 50), (101, 50), (99, 50), (101, 50), (130, 50)], {}, {"red": 1}),  # trembling
        ([(60, 50), (99, 50), (101, 50), (60, 50)], {}, {}),  # turning back
        ([(60, 150), (140, 150)], {}, {}),  # past the line's end
        ([(60, 50), (140, 50), (60, 50)], {"red": 1}, {"red": 1}),
    ],
)
def test_crossings_are_counted_each_way(path, to_right, to_left):
    (line,) = counted(moving(path), lines=[LINE])["lines"]
    assert line["to_right"] == to_right and line["to_left"] == to_left


def test_zones_count_who_was_there_who_is_and_the_most_at_once():
    first = moving([(10, 10), (50, 50), (50, 60), (150, 50)])
    second = moving([(150, 150), (150, 150), (60, 60), (60, 60)], label=1, number=2)
    both = [
        replace(one, instances=Instances.concatenate([one.instances, two.instances]))
        for one, two in zip(first, second, strict=True)
    ]
    video = counted(both, zones=[Zone(((30, 30), (90, 30), (90, 90), (30, 90)))])
    (zone,) = video["zones"]
    assert zone["entered"] == {"red": 1, "green": 1} and zone["now"] == {"green": 1} and zone["most"] == 2
    assert video["tracks"] == {"red": 1, "green": 1}


def test_each_frame_says_what_was_counted_until_it():
    counts = Counts([LINE], [Zone(((30, 30), (90, 30), (90, 90), (30, 90)))])
    results = [counts.add(each) for each in moving([(60, 50), (140, 50), (60, 50)])]
    assert [each.to_dict()["counted"] for each in results] == [
        {"lines": [{"to_right": right, "to_left": left}], "zones": [inside]}
        for right, left, inside in ((0, 0, 1), (0, 1, 0), (1, 1, 1))
    ]
    assert "counted" not in Counts().add(result(at(60), ids=[1])).to_dict()


def test_a_track_counts_as_the_class_that_it_was_most_often():
    path = [(60, 50), (80, 50), (140, 50), (150, 50)]
    results = moving(path)
    results[2] = moving(path, label=1)[2]
    assert counted(results, lines=[LINE])["lines"][0]["to_left"] == {"red": 1}


def test_videos_are_counted_apart_and_what_has_no_track_not_at_all():
    counts = Counts(lines=[LINE])
    for each in moving([(60, 50), (140, 50)]):
        other = replace(each, frame=replace(each.frame, video="b.mp4"))
        for one in (each, other, other, BadImage("x", "y"), replace(each, frame=None)):
            counts.add(one)
    assert [(each["video"], each["lines"][0]["to_left"]) for each in counts.to_list()] == [
        ("clip.mp4", {"red": 1}), ("b.mp4", {"red": 1}),
    ]  # fmt: skip
    untracked = result(at(60))
    counts = Counts()
    counts.add(untracked)
    assert counts.to_list() == []


def test_unusable_options_are_refused():
    finder = Predictor(FakeModel(), plain_processor())
    for options, problem in (
        ({"track": True, "detect_every": 0}, "detect_every=0: must be a whole number"),
        ({"detect_every": 3}, "detect_every=3: is of tracking; give track=True"),
    ):
        with pytest.raises(FocusDetrError, match=problem):
            finder.predict(picture(), **options)
    with pytest.raises(FocusDetrError, match="no sides"):
        Line((1, 1), (1, 1))
    with pytest.raises(FocusDetrError, match="no inside"):
        Zone(((1, 1), (2, 2), (1, 1)))


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "trackers", None)
    with pytest.raises(FocusDetrError, match=r"pip install 'focus-detr\[tracking\]'"):
        Predictor(FakeModel(), plain_processor()).predict(picture(), track=True)


def test_an_object_that_is_found_twice_is_tracked_once():
    frames = [result(at(10 + i), at(11 + i, score=0.7), at(11 + i, label=1), frame=i) for i in range(4)]
    out = followed(Tracking(0.5, CLASS_NAMES), frames)
    assert sorted(numbers(out)[1]) == [1, 2] and numbers(out)[2:] == [numbers(out)[1]] * 2
    assert [each.labels.tolist() for each in out] == [[0, 1]] * 4  # another class may be another object
