"""Predictions as YOLO and VOC: our own loaders read what is written, and nothing of anybody is replaced."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from focus_detr.data import load_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.inference import BadImage, Detections, write_crops, write_voc, write_yolo
from focus_detr.structures.instances import Instances
from helpers.pictures import noise

NAMES = ("no", "007", "a: b, c", "猫", "never seen")
WRITERS = {"yolo": write_yolo, "voc": write_voc}
OFF = {"yolo": 1e-3, "voc": 0.5}
"""Pixels that a side may be off by, of images this small."""


def found(path, boxes, labels=None, image_size=(48, 64), **options):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    labels = np.arange(len(boxes)) % 4 if labels is None else np.array(labels)
    scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
    return Detections(str(path), Instances(boxes, labels, scores), NAMES, image_size, **options)


def picture(path, size=(64, 48), seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(*size, 50, seed).convert("L").save(path, **options)
    return path


def read(folder):
    data = load_dataset(folder, split="train")
    return data, {record.path.name: record for record in data.records}


@pytest.mark.parametrize("form", WRITERS)
def test_our_own_loader_reads_what_was_found(tmp_path, form):
    boxes = [[1.25, 2.5, 20.75, 30.125], [0, 0, 64, 48], [10.5, 11.5, 62.4, 47.6], [33.3, 8.8, 40.1, 17.7]]
    results = [
        found(picture(tmp_path / "in" / "a.png"), boxes),
        BadImage("broken.png", "damaged"),
        found(picture(tmp_path / "in" / "empty.jpg"), []),
    ]
    assert WRITERS[form](results, tmp_path / "out") == 4
    data, records = read(tmp_path / "out")
    assert data.format == form and data.class_names == list(NAMES) and not data.problems
    assert set(records) == {"a.png", "empty.jpg"} and len(records["empty.jpg"].instances) == 0
    instances = data[list(records).index("a.png")].instances
    assert instances.labels.tolist() == [0, 1, 2, 3]
    assert np.abs(instances.boxes_xyxy - np.array(boxes)).max() <= OFF[form]


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (64, 48), (5000, 2)])
def test_no_object_is_lost_for_being_small_or_at_an_edge(tmp_path, form, size):
    width, height = size
    x, y = np.array([0, 0.001, 0.3, 0.5, 0.999]) * width, np.array([0, 0.001, 0.3, 0.5, 0.999]) * height
    boxes = [[x[i], y[i], x[i] + 0.02, y[i] + 0.02] for i in range(5)]
    for number, box in enumerate(boxes):
        results = [found(picture(tmp_path / "a.png", size), [box], [3], image_size=(height, width))]
        assert WRITERS[form](results, tmp_path / f"out{number}") == 1
        data, _ = read(tmp_path / f"out{number}")
        (read_back,) = data[0].instances.boxes_xyxy
        assert not data.problems
        clipped = np.clip(box, 0, [width, height] * 2)
        assert np.abs(read_back - clipped).max() <= (2 if form == "voc" else 0.06)


@pytest.mark.parametrize("form", WRITERS)
def test_pictures_of_one_name_do_not_collide(tmp_path, form):
    paths = ["x/a.png", "y/a.png", "x/a.jpg", "x/A.bmp", "y/a-2.png", "x/a.jpg.png", "x/scan 1.png"]
    pictures = [picture(tmp_path / path, seed=n) for n, path in enumerate(paths)]
    results = [found(path, [[n, n, n + 20, n + 20]], [0]) for n, path in enumerate(pictures)]
    WRITERS[form](results, tmp_path / "out")
    data, records = read(tmp_path / "out")
    assert not data.problems and len(records) == len(paths)
    for n, path in enumerate(paths):
        own = [
            record
            for record in records.values()
            if record.path.read_bytes() == (tmp_path / path).read_bytes()
        ]
        assert len(own) == 1
        sample = data[data.records.index(own[0])]
        assert np.abs(sample.instances.boxes_xyxy - [[n, n, n + 20, n + 20]]).max() <= OFF[form]


@pytest.mark.parametrize("form", WRITERS)
def test_a_picture_turned_by_its_exif_keeps_upright_boxes(tmp_path, form):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = picture(tmp_path / "a.jpg", (64, 48), exif=exif)
    WRITERS[form]([found(path, [[4, 8, 40, 60]], image_size=(64, 48))], tmp_path / "out")
    data, _ = read(tmp_path / "out")
    assert data[0].orig_size == (64, 48) and not data.problems
    assert np.abs(data[0].instances.boxes_xyxy - [[4, 8, 40, 60]]).max() <= OFF[form]


@pytest.mark.parametrize("form", WRITERS)
def test_images_of_memory_and_addresses_are_written_as_they_were_kept(tmp_path, form):
    image = noise(64, 48, 50)
    # The second names a file that it no longer is.
    small = picture(tmp_path / "a.png", (100, 100))
    results = [
        found("https://example.org/deep/b.jpg?size=1", [[1, 1, 9, 9]], image=image),
        found(small, [[2, 2, 9, 9]], image=image),
    ]
    WRITERS[form](results, tmp_path / "out")
    data, records = read(tmp_path / "out")
    assert set(records) == {"b.png", "a.png"} and not data.problems
    assert all(np.array_equal(np.asarray(sample.image), np.asarray(image)) for sample in (data[0], data[1]))
    with pytest.raises(FocusDetrError, match="c.jpg: its image was not kept.*keep_images=True"):
        WRITERS[form]([found("https://example.org/c.jpg", [])], tmp_path / "other")


@pytest.mark.parametrize("write", [write_yolo, write_voc, write_crops])
def test_a_folder_with_something_in_it_is_left_alone(tmp_path, write):
    (tmp_path / "out" / "labels").mkdir(parents=True)
    (tmp_path / "out" / "labels" / "a.txt").write_text("corrected by hand")
    with pytest.raises(FocusDetrError, match="out: holds files, perhaps corrected.*another place"):
        write([found(picture(tmp_path / "a.png"), [])], tmp_path / "out")
    assert (tmp_path / "out" / "labels" / "a.txt").read_text() == "corrected by hand"
    assert len(list((tmp_path / "out").rglob("*.*"))) == 1


@pytest.mark.parametrize("write", [write_yolo, write_voc, write_crops])
def test_results_of_another_model_are_refused(tmp_path, write):
    one = found(picture(tmp_path / "a.png"), [], image=Image.new("RGB", (64, 48)))
    other = replace(one, names=("x", "y"))
    with pytest.raises(FocusDetrError, match="classes are other than"):
        write([one, other], tmp_path / "out")


def test_scores_are_a_sixth_number_of_yolo_where_asked_for(tmp_path):
    result = found(picture(tmp_path / "a.png"), [[0, 0, 32, 24], [0, 0, 64, 48]])
    write_yolo([result], tmp_path / "without")
    write_yolo([result], tmp_path / "with", scores=True)
    rows = [(tmp_path / name / "labels" / "a.txt").read_text().splitlines() for name in ("without", "with")]
    assert rows[0] == ["0 0.250000 0.250000 0.500000 0.500000", "1 0.500000 0.500000 1.000000 1.000000"]
    assert rows[1] == [f"{rows[0][0]} 0.900000", f"{rows[0][1]} 0.500000"]


def test_voc_has_sizes_and_scores(tmp_path):
    write_voc([found(picture(tmp_path / "a.png"), [[1, 2, 11, 22]], [3])], tmp_path / "out")
    root = ElementTree.parse(tmp_path / "out" / "Annotations" / "a.xml").getroot()
    assert [root.findtext(f"size/{part}") for part in ("width", "height", "depth")] == ["64", "48", "3"]
    assert root.findtext("filename") == "a.png" and root.findtext("object/score") == "0.90000"
    sides = [root.findtext(f"object/bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    assert sides == ["2", "3", "11", "22"]


@pytest.mark.parametrize("form", WRITERS)
def test_class_names_of_any_text_stay_readable_and_in_order(tmp_path, form):
    names = ("", "two\nlines", "esc\x1b", "\ufffe", "'quoted'", "# hash", "x" * 150, "null")
    boxes = np.array([[n, n, n + 20, n + 20] for n in range(len(names))], dtype=np.float32)
    instances = Instances(boxes, np.arange(len(names)), np.full(len(names), 0.5, dtype=np.float32))
    WRITERS[form](
        [Detections(str(picture(tmp_path / "a.png")), instances, names, (48, 64))], tmp_path / "out"
    )
    data, _ = read(tmp_path / "out")
    assert data[0].instances.labels.tolist() == list(range(len(names))) and not data.problems
    assert data.class_names[0] == "class 0" and data.class_names[-1] == "null"
    assert len(set(data.class_names)) == len(names)


def test_the_yaml_names_no_path_which_others_count_from_elsewhere(tmp_path):
    write_yolo([found(picture(tmp_path / "a.png"), [])], tmp_path / "out")
    content = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text(encoding="utf-8"))
    assert content == {"train": "images", "nc": 5, "names": dict(enumerate(NAMES))}


def test_crops_show_their_objects_each_in_a_file_of_its_own(tmp_path):
    image = Image.new("RGB", (64, 48))
    image.paste((250, 0, 0), (10, 10, 30, 20))
    names = ("a/b", "a_b", "A_B", "..")
    boxes = np.array(
        [[10.2, 10.2, 29.7, 19.9], [0, 0, 5, 5], [60, 40, 80, 60], [1, 1, 2, 2], [10, 10, 30, 20]]
    )
    instances = Instances(boxes.astype(np.float32), np.array([0, 1, 2, 3, 0]), np.full(5, 0.5))
    results = [Detections(f"{place}/a.png", instances, names, (48, 64), image=image) for place in "xy"]
    assert write_crops(results, tmp_path / "out") == 10
    files = {
        file.relative_to(tmp_path / "out").as_posix(): Image.open(file) for file in tmp_path.rglob("*.jpg")
    }
    assert set(files) == {
        f"{folder}/{name}"
        for image_name in ("a", "a-2")
        for folder, name in [
            ("a_b", f"{image_name}-1.jpg"),
            ("a_b-2", f"{image_name}-2.jpg"),
            ("A_B-3", f"{image_name}-3.jpg"),
            ("class 3", f"{image_name}-4.jpg"),
            ("a_b", f"{image_name}-5.jpg"),
        ]
    }
    assert files["a_b/a-1.jpg"].size == (20, 10) and files["A_B-3/a-3.jpg"].size == (4, 8)
    assert np.asarray(files["a_b/a-1.jpg"])[..., 0].min() > 200


def test_an_object_larger_than_a_jpeg_can_be_is_cut_out_all_the_same(tmp_path):
    image = Image.new("RGB", (70_000, 2))
    results = [found("wide.png", [[0, 0, 70_000, 2], [0, 0, 9, 2]], image_size=(2, 70_000), image=image)]
    assert write_crops(results, tmp_path / "out") == 2
    assert Image.open(tmp_path / "out" / "no" / "wide-1.png").size == (70_000, 2)
    assert Image.open(tmp_path / "out" / "007" / "wide-2.jpg").size == (9, 2)


def test_a_picture_that_is_written_in_part_is_not_there(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", fail)
    for form, write in WRITERS.items():
        with pytest.raises(OSError, match="No space"):
            write([found(picture(tmp_path / "a.png"), [])], tmp_path / form)
        assert not [file for file in (tmp_path / form).rglob("*") if file.suffix in (".png", ".part", ".xml")]
