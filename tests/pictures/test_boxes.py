import numpy as np
import pytest
from PIL import Image

from focus_detr.inference import Detections
from focus_detr.pictures.boxes import contact_sheet, draw_detections
from focus_detr.pictures.palette import class_color
from focus_detr.structures.instances import Instances

NAMES = [f"class {label}" for label in range(30)]


def detections(boxes, labels, size):
    scores = np.linspace(0.9, 0.4, len(labels), dtype=np.float32)
    objects = Instances(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, int), scores)
    return Detections("a", objects, NAMES, size)


def count(image, color):
    return int((np.asarray(image) == color).all(-1).sum())


def test_boxes_lie_where_they_are_in_the_color_of_their_class():
    image = Image.new("RGB", (800, 600), "white")
    drawn = draw_detections(
        image, detections([[100, 200, 400, 500]], [3], (600, 800)), labels=False, legend=False
    )
    assert drawn.size == (800, 600)
    for point in ((100, 350), (400, 350), (250, 200), (250, 500)):
        assert drawn.getpixel(point) == class_color(3)
    assert drawn.getpixel((250, 350)) == (255, 255, 255)
    assert image.getcolors() == [(800 * 600, (255, 255, 255))]  # the original stays as it was


def test_small_images_are_enlarged_with_their_boxes():
    image = Image.new("RGB", (40, 20), "white")
    found = detections([[10, 5, 30, 15]], [0], (20, 40))
    drawn = draw_detections(image, found, labels=False, legend=False)
    assert drawn.size == (640, 320) and drawn.getpixel((160, 160)) == class_color(0)
    assert max(draw_detections(Image.new("RGB", (3000, 4)), found).size) <= 4096


def test_lines_and_labels_of_a_very_large_picture_leave_small_objects_to_be_seen():
    image = Image.new("RGB", (6000, 4000), "white")
    boxes = [[left, 1000, left + 100, 1100] for left in (1000, 3000, 5000)]
    drawn = np.asarray(draw_detections(image, detections(boxes, [0, 0, 0], (4000, 6000)), legend=False))
    inside = drawn[1000:1100, 1000:1100]
    assert (inside == 255).all(-1).mean() > 0.8
    around = drawn[900:1200, 900:1400].astype(int)
    assert (around != 255).any(-1).mean() < 0.05  # the label, too, is no larger than the object


def test_labels_do_not_cover_one_another():
    image = Image.new("RGB", (800, 600), "white")
    box = [300, 250, 360, 300]

    def label_area(boxes):
        drawn = draw_detections(image, detections(boxes, [5] * len(boxes), (600, 800)), legend=False)
        bare = draw_detections(
            image, detections(boxes, [5] * len(boxes), (600, 800)), legend=False, labels=False
        )
        return int((np.asarray(drawn) != np.asarray(bare)).any(-1).sum())

    assert label_area([box]) > 500
    # Ten objects in one place: a few labels around it, not ten on top of each other.
    assert 1.5 * label_area([box]) < label_area([box] * 10) < 6 * label_area([box])


def test_legend_is_a_strip_below_with_a_swatch_a_class():
    image = Image.new("RGB", (800, 600), "white")
    found = detections([[1, 1, 9, 9]] * 3, [4, 4, 7], (600, 800))
    drawn = draw_detections(image, found, labels=False)
    assert drawn.width == 800 and 630 < drawn.height < 700
    strip = drawn.crop((0, 600, 800, drawn.height))
    assert count(strip, class_color(4)) > 50 and count(strip, class_color(7)) > 50


def test_long_legends_take_more_lines():
    image = Image.new("RGB", (480, 480))
    few = detections([[1, 1, 9, 9]], [0], (480, 480))
    many = detections([[1, 1, 9, 9]] * 30, list(range(30)), (480, 480))
    assert draw_detections(image, many).height > draw_detections(image, few).height + 100


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_nothing_found(mode):
    drawn = draw_detections(Image.new(mode, (500, 500)), detections([], [], (500, 500)))
    assert drawn.mode == "RGB" and drawn.height > 500


def test_boxes_on_the_edge_are_drawn():
    image = Image.new("RGB", (500, 500), "white")
    found = detections([[0, 0, 500, 500], [-5, 490, 3, 600], [250, 250, 250, 250]], [0, 1, 2], (500, 500))
    drawn = draw_detections(image, found, legend=False)
    assert drawn.size == (500, 500) and drawn.getpixel((250, 499)) == class_color(0)


def test_contact_sheet():
    images = [Image.new("RGB", (100, 50), color) for color in ("red", "green", "blue")]
    sheet = contact_sheet(
        images, ["a", "b", "a caption too long for its cell by far " * 3], columns=2, cell=100
    )
    assert sheet.width == 2 * 100 + 3 * 8
    assert [count(sheet, color) > 4000 for color in ((255, 0, 0), (0, 128, 0), (0, 0, 255))] == [True] * 3
    assert (
        contact_sheet(images, columns=2, cell=100, title="t").height
        > contact_sheet(images, columns=2, cell=100).height
    )
    assert contact_sheet([]).width > 0


@pytest.mark.parametrize("size", [(70_000, 2), (3, 66_000), (1, 1)])
def test_a_picture_of_any_shape_can_be_drawn_and_kept(size, tmp_path):
    objects = Instances(np.float32([[0, 0, *size]]), np.int64([0]), np.float32([0.9]))
    found = Detections("a", objects, ["cell"], size[::-1])
    drawn = draw_detections(Image.new("RGB", size), found)
    drawn.save(tmp_path / "drawn.jpg")
    assert max(drawn.size) <= 65_535


def test_lines_and_zones_are_drawn_with_what_was_counted_so_far():
    from focus_detr.inference.tracking import Counts, Line, Zone
    from focus_detr.pictures.counted import draw_counts

    image = Image.new("RGB", (300, 200))
    line, zone = Line((10, 30), (290, 30)), Zone(((100, 60), (200, 60), (200, 160), (100, 160)))
    drawn = np.asarray(draw_counts(image, Counts([line], [zone]), "clip.mp4"))
    assert not np.asarray(image).any()
    yellow = (drawn == (255, 221, 0)).all(-1)
    assert yellow[30, 20] and yellow[30, 280] and not yellow[30, 2]
    assert all(yellow[y, x] for x, y in ((100, 100), (200, 100), (150, 60), (150, 160)))
    assert not yellow[100, 120] and yellow[95:125, 135:165].any()  # the number in the middle
